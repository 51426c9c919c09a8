"""Synthetic CT slices written with pydicom, one attribute away from whatever a test needs."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

STUDY = "1.2.826.0.1.3680043.10.1.1"
SERIES = "1.2.826.0.1.3680043.10.1.1.1"
FRAME = "1.2.826.0.1.3680043.10.1.1.9"
NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def stored_ramp(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """Stored values 0..4095 that differ from slice to slice."""
    return np.random.default_rng(seed).integers(0, 4096, shape, dtype=np.int16)


def ct_slice(stored: NDArray[np.integer], number: int = 0, z_mm: float = 0.0) -> Dataset:
    """One axial CT slice of 16 stored bits at (-10, -20, z), pixels 0.5 x 0.75 mm."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{SERIES}.{number + 1}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY, SERIES, FRAME
    ds.PatientID, ds.PatientName, ds.PatientSex = "P1", "Doe^Jane", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200102", "030405", "7", "A1"
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.InstanceNumber = number + 1
    ds.KVP, ds.SliceThickness, ds.ConvolutionKernel = "120", "3", "STANDARD"
    ds.ImagePositionPatient = [-10.0, -20.0, z_mm]
    ds.ImageOrientationPatient = list(AXIAL)
    ds.PixelSpacing = [0.5, 0.75]
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = 8 * stored.dtype.itemsize
    ds.BitsStored, ds.HighBit = ds.BitsAllocated, ds.BitsAllocated - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def to_bytes(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A Part 10 file; compressed syntaxes through pydicom's encoders."""
    ds = Dataset(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CTImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID") or "1.2.3"
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        # Words of two bytes, in whatever they are two pixels of 8 bits (PS3.5 section 8.1.2).
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds["PixelData"].VR = "OW"
    if syntax not in NATIVE:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax, generate_instance_uid=False)
    stream = io.BytesIO()
    dcmwrite(
        stream,
        ds,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    return stream.getvalue()


def ct_files(
    stored: NDArray[np.integer],
    spacing_mm: float = 3.0,
    change: Callable[[int, Dataset], None] | None = None,
    syntax: str = ExplicitVRLittleEndian,
) -> list[bytes]:
    """A series of axial slices at z = 0, spacing, ...; `change` edits each before it is written."""
    files = []
    for k, pixels in enumerate(stored):
        ds = ct_slice(pixels, k, k * spacing_mm)
        if change is not None:
            change(k, ds)
        files.append(to_bytes(ds, syntax))
    return files


def placed_files(
    stored: NDArray[np.integer], affine: NDArray[np.float64], order: Sequence[int]
) -> list[bytes]:
    """Slices of a (k, j, i) -> LPS affine, written in the given order."""
    rows, columns = np.linalg.norm(affine[:3, 1]), np.linalg.norm(affine[:3, 2])

    def change(k: int, ds: Dataset) -> None:
        place = affine[:3, 3] + k * affine[:3, 0]
        ds.ImagePositionPatient = [f"{value:.10f}"[:16] for value in place]
        cosines = [*(affine[:3, 2] / columns), *(affine[:3, 1] / rows)]
        ds.ImageOrientationPatient = [f"{value:.12f}"[:16] for value in cosines]
        ds.PixelSpacing = [f"{rows:.10f}", f"{columns:.10f}"]

    files = ct_files(stored, change=change)
    return [files[k] for k in order]


def part10(body: bytes, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A preamble and the shortest file meta before `body`."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM\x02\0\x10\0UI" + len(uid).to_bytes(2, "little") + uid + body


def deflate_bomb(megabytes: int) -> bytes:
    """A file of kilobytes that inflates to one element of that many zeros."""
    machine = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = machine.compress(b"\x09\0\x10\x10UN\0\0" + (megabytes << 20).to_bytes(4, "little"))
    for _ in range(megabytes):
        body += machine.compress(bytes(1 << 20))
    return part10(body + machine.flush(), DeflatedExplicitVRLittleEndian)
