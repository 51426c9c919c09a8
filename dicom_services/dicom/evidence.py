"""The source images as highdicom wants to see them: their place and name, nobody's patient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage
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
    """One dataset per source instance, of all times: enough for documents.

    By its rows and columns highdicom knows an image from any other object.
    """
    images = distinct((*source.instances, *source.later))
    bases = {uid: _base(source, uid) for uid in {series_of(each, source) for each in images}}
    return [_image(bases[series_of(each, source)], each) for each in images]


def distinct(instances: Iterable[SourceInstance]) -> list[SourceInstance]:
    """Each instance once, also where several of its frames are listed."""
    return list({each.sop_instance_uid: each for each in reversed([*instances])}.values())[::-1]


def frames_of(instance: SourceInstance) -> list[int] | None:
    """Frame numbers that a reference to the image carries; None to a single-frame one."""
    return [instance.frame] if instance.frame else None


def series_of(instance: SourceInstance, source: SourceSeries) -> str:
    """Series Instance UID of an image of `source`."""
    return instance.series_uid or str(source.header.get("SeriesInstanceUID", ""))


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
    base = _base(source, str(header.get("SeriesInstanceUID", "")))
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
    images = []
    for k, instance in enumerate(source.instances):
        image = _image(base, instance if _is_plain(instance) else _stand_in(instance))
        images.append(image)
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


def name_sources(result: Dataset, source: SourceSeries, used: Sequence[int]) -> None:
    """Put the real images where `placed` gave highdicom something simpler.

    Parameters
    ----------
    result : Dataset
        Of highdicom, made from `placed(source, ...)[k]` for each k of `used`.
    source : SourceSeries
    used : sequence of int
    """
    chosen = [source.instances[k] for k in used]
    if all(_is_plain(each) for each in chosen):
        return
    real = {_stand_in_uid(each): each for each in chosen if not _is_plain(each)}
    for group in result.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence") or ():
            for item in derivation.SourceImageSequence:
                instance = real.get(str(item.ReferencedSOPInstanceUID))
                if instance is not None:
                    _point(item, instance)
                    if instance.frame:
                        item.ReferencedFrameNumber = instance.frame
    series: dict[str, list[Dataset]] = {}
    for instance in distinct(chosen):
        item = Dataset()
        _point(item, instance)
        series.setdefault(series_of(instance, source), []).append(item)
    result.SourceImageSequence = [item for items in series.values() for item in items]
    result.ReferencedSeriesSequence = [_series(uid, items) for uid, items in series.items()]


def _series(uid: str, items: list[Dataset]) -> Dataset:
    series = Dataset()
    put(series, "SeriesInstanceUID", uid)
    series.ReferencedInstanceSequence = items
    return series


def _point(item: Dataset, instance: SourceInstance) -> None:
    put(item, "ReferencedSOPClassUID", instance.sop_class_uid)
    put(item, "ReferencedSOPInstanceUID", instance.sop_instance_uid)


def _is_plain(instance: SourceInstance) -> bool:
    """Whether an image is an instance of its own, in the series of the header."""
    return not instance.frame and not instance.series_uid


def _stand_in(instance: SourceInstance) -> SourceInstance:
    """A single-frame image of the header's series in the place of a frame, or of another series.

    highdicom takes slices either as one whole multi-frame instance or as single frames of one
    series; what is neither is named afterwards.
    """
    return replace(
        instance, sop_class_uid=str(CTImageStorage), sop_instance_uid=_stand_in_uid(instance)
    )


def _stand_in_uid(instance: SourceInstance) -> str:
    return derived_uid("radloop frame of", instance.sop_instance_uid, str(instance.frame))


def _base(source: SourceSeries, series: str) -> Dataset:
    """What the images of one series have in common."""
    base = Dataset()
    for keyword in _BLANK:
        setattr(base, keyword, None)
    put(base, "StudyInstanceUID", str(source.header.get("StudyInstanceUID", "")))
    put(base, "SeriesInstanceUID", series)
    for keyword in ("Rows", "Columns"):
        put(base, keyword, source.header.get(keyword) or 0)
    return base


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
