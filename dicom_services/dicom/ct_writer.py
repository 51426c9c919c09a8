"""Writes a volume as a CT series: one file for each slice, the same files for the same seed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from dicom_services.domain.volume import Volume

RESCALE_INTERCEPT: Final = -1024


def write_ct_series(
    volume: Volume,
    folder: Path,
    *,
    seed: str = "radloop",
    patient_name: str = "DEMO^CALCIUM",
    patient_id: str = "RADLOOP-DEMO",
    series_description: str = "Calcium phantom",
    study_date: str = "20260102",
) -> tuple[Path, ...]:
    """Write slices as `ct-0001.dcm` ... in the order of k; returns their paths.

    Parameters
    ----------
    volume : Volume
        (k, j, i) in HU, -1024..3071; any orientation, also a sheared one.
    seed : str
        Study, series and instance UIDs are derived from it; the same seed names the same objects.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(volume.geometry.shape[0]):
        header = _header(volume, k, seed)
        header.PatientName, header.PatientID = patient_name, patient_id
        header.SeriesDescription = series_description
        header.StudyDate = header.SeriesDate = header.ContentDate = study_date
        header.AcquisitionDate = study_date
        path = folder / f"ct-{k + 1:04d}.dcm"
        header.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


def made_uid(seed: str, *role: str | int) -> UID:
    """A UID under "2.25." that depends on nothing but `seed` and `role` (PS3.5 section B.2)."""
    digest = hashlib.sha256("\0".join([seed, *map(str, role)]).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:15], 'big')}")


def _header(volume: Volume, k: int, seed: str) -> Dataset:
    """One slice with its pixels (PS3.3 section A.3, CT Image IOD)."""
    geometry, acquisition = volume.geometry, volume.acquisition
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = made_uid(seed, "instance", k)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = data.ContentTime = "080000"
    data.AccessionNumber, data.ReferringPhysicianName = "", ""
    data.Modality, data.Manufacturer = "CT", "radloop"
    data.ManufacturerModelName = "phantom"
    data.StudyDescription = "Made-up CT, no patient"
    data.PatientBirthDate, data.PatientSex = "", ""
    data.BodyPartExamined = "CHEST"
    data.StudyInstanceUID = made_uid(seed, "study")
    data.SeriesInstanceUID = made_uid(seed, "series")
    data.StudyID, data.SeriesNumber, data.AcquisitionNumber = "1", 1, 1
    data.InstanceNumber = k + 1
    data.FrameOfReferenceUID = made_uid(seed, "frame")
    data.PositionReferenceIndicator = ""
    data.PatientPosition = "HFS"
    data.KVP = _decimal(acquisition.tube_voltage_kv or 120.0)
    if acquisition.slice_thickness_mm is not None:
        data.SliceThickness = _decimal(acquisition.slice_thickness_mm)
    else:
        data.SliceThickness = None
    if acquisition.kernel is not None:
        data.ConvolutionKernel = acquisition.kernel
    if acquisition.contrast_agent:
        data.ContrastBolusAgent = "CONTRAST"
    _place(data, volume, k)
    stored = np.clip(np.rint(volume.values[k]), -1024, 3071).astype(np.int32) - RESCALE_INTERCEPT
    data.Rows, data.Columns = geometry.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = RESCALE_INTERCEPT, 1, "HU"
    data.WindowCenter, data.WindowWidth = 100, 700
    data.PixelData = stored.astype("<u2").tobytes()
    return data


def _place(data: Dataset, volume: Volume, k: int) -> None:
    """Image plane (PS3.3 section C.7.6.2): rows run along i, columns along j."""
    geometry = volume.geometry
    along_row = geometry.affine[:3, 2] / np.linalg.norm(geometry.affine[:3, 2])
    along_column = geometry.affine[:3, 1] / np.linalg.norm(geometry.affine[:3, 1])
    corner = geometry.to_patient_mm(np.array([k, 0.0, 0.0]))
    data.ImagePositionPatient = [_decimal(n) for n in corner]
    data.ImageOrientationPatient = [_decimal(n) for n in (*along_row, *along_column)]
    data.PixelSpacing = [_decimal(n) for n in geometry.pixel_spacing_mm]


def _decimal(number: float) -> str:
    """At most 16 characters, as a decimal string allows (PS3.5 section 6.2)."""
    text = f"{float(number) + 0.0:.10g}"
    return text if len(text) <= 16 else f"{float(number):.8f}"[:16]
