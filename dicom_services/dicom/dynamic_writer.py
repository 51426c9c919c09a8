"""Writes a volume of several times as classic DICOM: one file for each slice and time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from dicom_services.dicom.ct_writer import made_uid
from dicom_services.domain.volume import Volume

FIRST: Final = datetime(2026, 1, 2, 8, 0, 0)  # noqa: DTZ001  # DICOM's times have no zone
RESCALE_INTERCEPT: Final = -1024
DESCRIPTIONS: Final = {"MR": "DSC perfusion", "CT": "CT perfusion dynamic head"}


@dataclass(frozen=True, slots=True)
class Described:
    """What the headers say that the values do not.

    Parameters
    ----------
    seed : str
        Study, series and instance UIDs are derived from it; the same seed names the same objects.
    series : "one" or "per_time"
        One series of all times, or a series for each.
    number : int
        Series Number of the (first) series.
    """

    seed: str = "radloop"
    patient_name: str = "DEMO^PERFUSION"
    patient_id: str = "RADLOOP-DEMO"
    series_description: str = ""
    series: str = "one"
    number: int = 1


def write_dynamic_series(
    volume: Volume, folder: Path, described: Described | None = None
) -> tuple[Path, ...]:
    """Write `t-001-s-001.dcm` ... in the order of t, then k; returns their paths.

    Parameters
    ----------
    volume : Volume
        (t, k, j, i): HU, or MR signal of 0..65535.
    """
    told = Described() if described is None else described
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for t in range(len(volume.times_s)):
        for k in range(volume.geometry.shape[0]):
            data = _classic(volume, t, k, told)
            path = folder / f"t-{t + 1:03d}-s-{k + 1:03d}.dcm"
            data.save_as(path, enforce_file_format=True)
            paths.append(path)
    return tuple(paths)


def common(volume: Volume, told: Described, sop_class: UID, series: int, instance: int) -> Dataset:
    """Patient, study, series and equipment."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = sop_class
    data.file_meta.MediaStorageSOPInstanceUID = made_uid(told.seed, "instance", series, instance)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
    data.StudyDate = data.SeriesDate = f"{FIRST:%Y%m%d}"
    data.StudyTime = data.SeriesTime = f"{FIRST:%H%M%S}"
    data.AccessionNumber, data.ReferringPhysicianName = "", ""
    data.Modality, data.Manufacturer = volume.acquisition.modality, "radloop"
    data.ManufacturerModelName, data.DeviceSerialNumber = "phantom", "1"
    data.SoftwareVersions = "1"
    data.StudyDescription = "Made-up perfusion of a head, no patient"
    data.SeriesDescription = told.series_description or DESCRIPTIONS[data.Modality]
    data.ProtocolName = data.SeriesDescription
    data.PatientName, data.PatientID = told.patient_name, told.patient_id
    data.PatientBirthDate, data.PatientSex = "", ""
    data.BodyPartExamined, data.PatientPosition = "HEAD", "HFS"
    data.StudyInstanceUID = made_uid(told.seed, "study")
    data.SeriesInstanceUID = made_uid(told.seed, "series", series)
    data.StudyID, data.SeriesNumber = "1", told.number + series
    data.InstanceNumber = instance + 1
    data.FrameOfReferenceUID = made_uid(told.seed, "frame")
    data.PositionReferenceIndicator = ""
    return data


def _classic(volume: Volume, t: int, k: int, told: Described) -> Dataset:
    """One slice at one time (PS3.3 sections A.3 and A.4)."""
    slices, apart = volume.geometry.shape[0], told.series == "per_time"
    mr = volume.acquisition.modality == "MR"
    data = common(
        volume,
        told,
        MRImageStorage if mr else CTImageStorage,
        t if apart else 0,
        k if apart else t * slices + k,
    )
    moment = FIRST + timedelta(seconds=volume.times_s[t])
    data.AcquisitionDate = data.ContentDate = f"{moment:%Y%m%d}"
    data.AcquisitionTime = data.ContentTime = f"{moment:%H%M%S.%f}"
    data.AcquisitionNumber = t + 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "OTHER" if mr else "AXIAL"]
    data.ContrastBolusAgent = "CONTRAST"
    if mr:
        _mr(data, volume)
        data.TemporalPositionIdentifier = t + 1
        data.NumberOfTemporalPositions = len(volume.times_s)
        if len(volume.times_s) > 1:
            data.TemporalResolution = decimal(1000.0 * (volume.times_s[1] - volume.times_s[0]))
    else:
        data.KVP = decimal(volume.acquisition.tube_voltage_kv or 80.0)
        data.XRayTubeCurrent = round(volume.acquisition.tube_current_ma or 200.0)
        data.RescaleIntercept, data.RescaleSlope = RESCALE_INTERCEPT, 1
        data.RescaleType = "HU"
    data.SliceThickness = decimal(volume.acquisition.slice_thickness_mm or 5.0)
    data.ImagePositionPatient = corner(volume, k)
    data.ImageOrientationPatient = directions(volume)
    data.PixelSpacing = [decimal(n) for n in volume.geometry.pixel_spacing_mm]
    pixels(data, volume, volume.values[t, k])
    return data


def _mr(data: Dataset, volume: Volume) -> None:
    """Gradient-echo EPI (PS3.3 section C.8.3.1)."""
    acquisition = volume.acquisition
    data.ScanningSequence, data.SequenceVariant, data.ScanOptions = ["GR", "EP"], "SK", ""
    data.MRAcquisitionType = "2D"
    data.EchoTrainLength = 1
    if acquisition.echo_time_ms is not None:
        data.EchoTime = decimal(acquisition.echo_time_ms)
    else:
        data.EchoTime = None
    data.RepetitionTime = decimal(acquisition.repetition_time_ms or 1500.0)
    data.FlipAngle = decimal(acquisition.flip_angle_degrees or 60.0)
    data.MagneticFieldStrength = decimal(acquisition.field_strength_t or 3.0)


def pixels(data: Dataset, volume: Volume, values: NDArray[np.generic]) -> None:
    """Unsigned 16 bits; CT with its intercept (PS3.3 section C.7.6.3)."""
    data.Rows, data.Columns = volume.geometry.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    offset = RESCALE_INTERCEPT if volume.acquisition.modality == "CT" else 0
    stored = np.rint(np.asarray(values, np.float64)) - offset
    data.PixelData = np.clip(stored, 0, 65535).astype("<u2").tobytes()
    data["PixelData"].VR = "OW"


def corner(volume: Volume, k: int) -> list[str]:
    """Image Position (Patient) of slice k."""
    place = volume.geometry.to_patient_mm(np.array([k, 0.0, 0.0]))
    return [decimal(n) for n in place]


def directions(volume: Volume) -> list[str]:
    """Image Orientation (Patient): rows run along i, columns along j."""
    affine = volume.geometry.affine
    row, column = affine[:3, 2], affine[:3, 1]
    unit = (*(row / np.linalg.norm(row)), *(column / np.linalg.norm(column)))
    return [decimal(n) for n in unit]


def decimal(number: float) -> str:
    """At most 16 characters, as a decimal string allows (PS3.5 section 6.2)."""
    text = f"{float(number) + 0.0:.10g}"
    return text if len(text) <= 16 else f"{float(number):.8f}"[:16]
