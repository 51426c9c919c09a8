"""The source images as highdicom wants to see them: their place and name, nobody's patient."""

from __future__ import annotations

from typing import Final

import numpy as np
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from dicom_services.dicom.identity import put
from dicom_services.dicom.source import SourceInstance, SourceSeries
from dicom_services.dicom.uids import derived_uid, usable_uid
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError

# highdicom insists on these; the real ones are written afterwards, in the source's own words.
_BLANK: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)


def references(source: SourceSeries) -> list[Dataset]:
    """One dataset per source image: enough for documents.

    By its rows and columns highdicom knows an image from any other object.
    """
    base = Dataset()
    for keyword in _BLANK:
        setattr(base, keyword, None)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        put(base, keyword, str(source.header.get(keyword, "")))
    for keyword in ("Rows", "Columns"):
        put(base, keyword, source.header.get(keyword) or 0)
    return [_image(base, instance) for instance in source.instances]


def placed(source: SourceSeries, geometry: Geometry) -> list[Dataset]:
    """One dataset per source image, with the plane it lies in.

    Positions and directions are the source's own numbers, so that a viewer finds each frame
    exactly on its image.

    Raises
    ------
    InputError
        `mask_grid` when `geometry` is not the grid of the source images: another number of
        slices, rows or columns, or a slice off its image by more than a fifth of the spacing
        and 0.1 mm, twice what reading lets a scanner be off.
    """
    header = source.header
    slices, rows, columns = geometry.shape
    if slices != len(source.instances) or (header.get("Rows"), header.get("Columns")) != (
        rows,
        columns,
    ):
        raise InputError("mask_grid")
    base = Dataset()
    base.Modality = str(header.get("Modality") or "OT")
    base.Rows, base.Columns = rows, columns
    base.ImageOrientationPatient = _numbers(header, "ImageOrientationPatient", _cosines(geometry))
    base.PixelSpacing = _numbers(header, "PixelSpacing", geometry.pixel_spacing_mm)
    thickness = header.get("SliceThickness")
    usable = thickness is not None and float(thickness) > 0.0
    base.SliceThickness = _ds(float(thickness) if usable else geometry.slice_spacing_mm)
    base.SpacingBetweenSlices = _ds(geometry.slice_spacing_mm)
    put(base, "FrameOfReferenceUID", frame_of_reference(source, geometry))
    base.PositionReferenceIndicator = ""
    for keyword in ("LossyImageCompression", "LossyImageCompressionMethod"):
        if header.get(keyword):
            setattr(base, keyword, header.get(keyword))
    if header.get("LossyImageCompressionRatio") is not None:
        base.LossyImageCompressionRatio = header.LossyImageCompressionRatio
    images = references(source)
    for k, (image, instance) in enumerate(zip(images, source.instances, strict=True)):
        image.update(base)
        image.ImagePositionPatient = _position(instance, geometry, k)
    return images


def frame_of_reference(source: SourceSeries, geometry: Geometry | None) -> str:
    """The source's frame of reference; where it names none, the geometry's, else one of its own.

    A scan without one is still one stack in one space: its own UID, made of the series, says so
    and joins no other.
    """
    named = str(source.header.get("FrameOfReferenceUID", ""))
    for uid in (named, geometry.frame_uid if geometry is not None else ""):
        if usable_uid(uid):
            return uid
    return derived_uid("radloop frame", str(source.header.get("SeriesInstanceUID", "")))


def _image(base: Dataset, instance: SourceInstance) -> Dataset:
    image = Dataset()
    image.update(base)
    put(image, "SOPClassUID", instance.sop_class_uid)
    put(image, "SOPInstanceUID", instance.sop_instance_uid)
    return image


def _position(instance: SourceInstance, geometry: Geometry, k: int) -> list[str]:
    computed = geometry.to_patient_mm(np.array((k, 0, 0), np.float64))
    if instance.position_mm is None:
        return [_ds(value) for value in computed]
    off = float(np.linalg.norm(computed - np.array(instance.position_mm)))
    if off > max(0.2 * geometry.slice_spacing_mm, 0.1):
        raise InputError("mask_grid", millimetres=round(off, 2))
    return [_ds(value) for value in instance.position_mm]


def _cosines(geometry: Geometry) -> tuple[float, ...]:
    row, column = geometry.affine[:3, 2], geometry.affine[:3, 1]
    return (*(row / np.linalg.norm(row)), *(column / np.linalg.norm(column)))


def _numbers(header: Dataset, keyword: str, computed: tuple[float, ...]) -> list[str]:
    """The header's numbers where they say what the geometry says; else the geometry's."""
    stated = header.get(keyword)
    if stated is None or not np.allclose(np.array(stated, float), computed, atol=1e-4):
        return [_ds(value) for value in computed]
    return [_ds(float(value)) for value in stated]


def _ds(value: float) -> str:
    """At most 16 characters, as DS asks (PS3.5 table 6.2-1)."""
    return format_number_as_ds(float(value))
