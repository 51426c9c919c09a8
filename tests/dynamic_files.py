"""Synthetic dynamic series: classic slices and enhanced multi-frame files, written with pydicom."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

from tests.dicom_files import AXIAL, FRAME, SERIES, STUDY, ct_slice, to_bytes

Change = Callable[[int, int, Dataset], None]


def stored_series(shape: tuple[int, int, int, int], seed: int = 0) -> NDArray[np.uint16]:
    """(t, k, j, i) stored values 0..4095."""
    return np.random.default_rng(seed).integers(0, 4096, shape, dtype=np.uint16)


def clock(seconds: float) -> str:
    """A TM: seconds since midnight, to the microsecond."""
    whole = round(seconds * 1e6)
    minutes, micros = divmod(whole, 60_000_000)
    return f"{minutes // 60:02}{minutes % 60:02}{micros // 1_000_000:02}.{micros % 1_000_000:06}"


def mr_slice(stored: NDArray[np.integer], t: int, k: int, count: int) -> Dataset:
    """One axial MR slice at z = 3 k that says nothing of its time."""
    ds = ct_slice(stored, t * count + k, 3.0 * k)
    ds.Modality, ds.SOPClassUID = "MR", MRImageStorage
    for keyword in ("KVP", "ConvolutionKernel", "RescaleSlope", "RescaleIntercept"):
        delattr(ds, keyword)
    ds.EchoTime, ds.RepetitionTime, ds.FlipAngle, ds.MagneticFieldStrength = "30", "1500", "60", "3"
    return ds


def mr_files(stored: NDArray[np.integer], change: Change | None = None) -> list[bytes]:
    """A classic series, all slices of a time after each other; `change` edits each."""
    files = []
    for t, slices in enumerate(stored):
        for k, pixels in enumerate(slices):
            ds = mr_slice(pixels, t, k, len(slices))
            if change is not None:
                change(t, k, ds)
            files.append(to_bytes(ds))
    return files


def timed(step_s: float = 1.5, start_s: float = 36000.0, *, named: bool = True) -> Change:
    """Acquisition Time of whole frames, and the number of the temporal position if `named`."""

    def change(t: int, _: int, ds: Dataset) -> None:
        ds.AcquisitionDate, ds.AcquisitionTime = "20200102", clock(start_s + step_s * t)
        if named:
            ds.TemporalPositionIdentifier = t + 1

    return change


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(t: int, k: int, ds: Dataset) -> None:
        for one in changes:
            one(t, k, ds)

    return change


def frame_item(t: int, k: int, step_s: float = 1.5) -> Dataset:
    """Functional groups of one frame: its time, its number in the stack, its place."""
    content = Dataset()
    content.FrameAcquisitionDateTime = "20200102" + clock(36000.0 + step_s * t)
    content.TemporalPositionIndex, content.StackID = t + 1, "1"
    content.InStackPositionNumber, content.DimensionIndexValues = k + 1, [1, k + 1, t + 1]
    place = Dataset()
    place.ImagePositionPatient = [-10.0, -20.0, 3.0 * k]
    item = Dataset()
    item.FrameContentSequence, item.PlanePositionSequence = [content], [place]
    return item


def _group(**values: object) -> list[Dataset]:
    group = Dataset()
    for keyword, value in values.items():
        setattr(group, keyword, value)
    return [group]


def enhanced(stored: NDArray[np.integer], modality: str = "MR") -> Dataset:
    """An enhanced multi-frame object of (t, k, j, i): frames in that order."""
    ds = Dataset()
    ds.SOPClassUID = EnhancedMRImageStorage if modality == "MR" else EnhancedCTImageStorage
    ds.SOPInstanceUID = SERIES + ".77"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY, SERIES, FRAME
    ds.PatientID, ds.PatientName, ds.PatientSex = "P1", "Doe^Jane", "F"
    ds.StudyDate, ds.StudyTime = "20200102", "030405"
    ds.Modality, ds.ImageType = modality, ["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"]
    ds.InstanceNumber, ds.NumberOfFrames = 1, int(np.prod(stored.shape[:2]))
    ds.Rows, ds.Columns = stored.shape[2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = 8 * stored.dtype.itemsize
    ds.BitsStored, ds.HighBit = ds.BitsAllocated, ds.BitsAllocated - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    shared = Dataset()
    shared.PlaneOrientationSequence = _group(ImageOrientationPatient=list(AXIAL))
    shared.PixelMeasuresSequence = _group(PixelSpacing=[0.5, 0.75], SliceThickness="3")
    if modality == "MR":
        ds.MagneticFieldStrength = "3"
        shared.MREchoSequence = _group(EffectiveEchoTime=30.0)
        shared.MRTimingAndRelatedParametersSequence = _group(RepetitionTime="1500", FlipAngle="60")
    else:
        shared.CTXRayDetailsSequence = _group(KVP="80")
        shared.CTExposureSequence = _group(XRayTubeCurrentInmA=150.0)
        shared.CTReconstructionSequence = _group(ConvolutionKernel="H20f")
        shared.PixelValueTransformationSequence = _group(
            RescaleIntercept="-1024", RescaleSlope="1", RescaleType="HU"
        )
    ds.SharedFunctionalGroupsSequence = [shared]
    times, places = stored.shape[:2]
    ds.PerFrameFunctionalGroupsSequence = [
        frame_item(t, k) for t in range(times) for k in range(places)
    ]
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def undefined_lengths(ds: Dataset) -> Dataset:
    """Write every sequence and item with delimiters in place of lengths."""
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                undefined_lengths(item)
    return ds


def fragmented(
    ds: Dataset, frames: Sequence[bytes], syntax: str, *, table: str, pieces: int = 1
) -> bytes:
    """A compressed multi-frame file of given frames.

    Parameters
    ----------
    table : "none", "basic" or "extended"
        The offset table it has.
    pieces : int
        Fragments of each frame.
    """
    ds = Dataset(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = syntax
    if table == "extended":
        value, offsets, lengths = encapsulate_extended(list(frames))
        ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = offsets, lengths
        ds.PixelData = value
    else:
        ds.PixelData = encapsulate(
            list(frames), fragments_per_frame=pieces, has_bot=table == "basic"
        )
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    stream = io.BytesIO()
    dcmwrite(stream, ds, implicit_vr=syntax == ImplicitVRLittleEndian, enforce_file_format=True)
    return stream.getvalue()
