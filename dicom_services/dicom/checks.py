"""What highdicom lets pass and must not leave: checked on findings and on finished objects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from pydicom import Dataset
from pydicom.uid import ParametricMapStorage, SegmentationStorage

from dicom_services.dicom.identity import CONTROL, texts
from dicom_services.dicom.seg import LABEL_MAP_CLASS
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.uids import legal_uid, usable_uid
from dicom_services.domain.findings import Finding, Lesion, Mask, Measurement
from dicom_services.errors import CorruptError, InputError

_OWN_UIDS: Final = ("SOPInstanceUID", "SeriesInstanceUID")
_TWO_D: Final = "SCOORD"
_THREE_D: Final = "SCOORD3D"


def check_source(source: SourceSeries) -> None:
    """Refuse a source that a result could not refer to.

    Raises
    ------
    InputError
        `illegal_uid` when a UID is missing or holds anything but digits and dots,
        `duplicate_instance` when two instances carry the same one.
    """
    header = source.header
    series = [str(header.get(name, "")) for name in ("StudyInstanceUID", "SeriesInstanceUID")]
    every = (*source.instances, *source.later)
    images = [instance.sop_instance_uid for instance in source.instances]
    named = {uid for each in every for uid in (each.sop_instance_uid, each.sop_class_uid)}
    named |= {each.series_uid for each in every if each.series_uid}
    if not images or not all(usable_uid(uid) for uid in (*series, *named)):
        raise InputError("illegal_uid")
    # Slices of a multi-frame instance share its UID, and each is another frame.
    places = {(each.sop_instance_uid, each.frame) for each in source.instances}
    whole = {each.sop_instance_uid for each in source.instances if not each.frame}
    framed = {each.sop_instance_uid for each in source.instances if each.frame}
    if len(places) != len(images) or whole & framed:
        raise InputError("duplicate_instance", count=max(1, len(images) - len(places)))


def check_findings(findings: Sequence[Finding], source: SourceSeries) -> None:
    """Refuse numbers that are none and places that are not in the images.

    Raises
    ------
    InputError
        `not_finite`, `coordinates_outside`, `mask_shape`.
    """
    for finding in findings:
        if isinstance(finding, Measurement) and not math.isfinite(finding.value):
            raise InputError("not_finite")
        if isinstance(finding, Mask):
            if finding.values.dtype != np.bool_:
                raise InputError("mask_shape")
            for lesion in finding.lesions:
                _check_lesion(lesion, finding, len(source.instances))


def _check_lesion(lesion: Lesion, mask: Mask, slices: int) -> None:
    numbers = [*lesion.center_mm, lesion.volume_mm3, lesion.peak_hu, lesion.score]
    for part in lesion.slices:
        numbers += [part.row, part.column, part.area_mm2, part.peak_hu, part.score]
    if not all(math.isfinite(number) for number in numbers):
        raise InputError("not_finite")
    _, rows, columns = mask.geometry.shape
    for part in lesion.slices:
        inside = (
            0 <= part.k < slices
            and -0.5 <= part.row <= rows - 0.5
            and -0.5 <= part.column <= columns - 0.5
        )
        if not inside:
            raise InputError("coordinates_outside")


def check_results(datasets: Sequence[Dataset], source: SourceSeries) -> None:
    """Stop objects that are not what they must be, whoever built them.

    Raises
    ------
    CorruptError
        `mixed_patient`, `duplicate_instance`, `illegal_uid`, `control_character`, `not_finite`,
        `coordinates_outside`, `map_shape` or `empty_segmentation`.
    """
    own = [str(dataset.SOPInstanceUID) for dataset in datasets]
    if len(set(own)) != len(own):
        raise CorruptError("duplicate_instance")
    for dataset in datasets:
        _check_identity(dataset, source)
        if any(CONTROL.search(text) for text in texts(dataset)):
            raise CorruptError("control_character")
        if dataset.SOPClassUID == SegmentationStorage:
            _check_segmentation(dataset)
        elif dataset.SOPClassUID == LABEL_MAP_CLASS:
            _check_labels(dataset)
        elif dataset.SOPClassUID == ParametricMapStorage:
            _check_map(dataset)
        _check_content(dataset, source)


def _check_identity(dataset: Dataset, source: SourceSeries) -> None:
    header = source.header
    same = str(dataset.StudyInstanceUID) == str(header.get("StudyInstanceUID", ""))
    patient = header.get("PatientID")
    if not same or str(dataset.PatientID or "") != str(patient or ""):
        raise CorruptError("mixed_patient")
    own = [str(dataset.get(name, "")) for name in _OWN_UIDS]
    if not all(legal_uid(uid) for uid in own) or own[1] == str(header.get("SeriesInstanceUID")):
        raise CorruptError("illegal_uid")
    if str(dataset.file_meta.MediaStorageSOPInstanceUID) != own[0]:
        raise CorruptError("illegal_uid")


def _check_segmentation(dataset: Dataset) -> None:
    """Every segment has a frame, every frame a voxel."""
    frame_bits = dataset.Rows * dataset.Columns
    packed = np.frombuffer(dataset.PixelData, np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[: frame_bits * dataset.NumberOfFrames]
    frames = bits.reshape(dataset.NumberOfFrames, frame_bits)
    segments = {
        int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for group in dataset.PerFrameFunctionalGroupsSequence
    }
    described = {int(segment.SegmentNumber) for segment in dataset.SegmentSequence}
    if not frames.any(axis=1).all() or segments != described:
        raise CorruptError("empty_segmentation")


def _check_labels(dataset: Dataset) -> None:
    """Every segment has a voxel, every frame one that belongs to a segment."""
    kind = np.uint8 if dataset.BitsAllocated == 8 else np.dtype("<u2")
    voxels = dataset.Rows * dataset.Columns * dataset.NumberOfFrames
    frames = np.frombuffer(dataset.PixelData, kind)[:voxels].reshape(dataset.NumberOfFrames, -1)
    described = {int(segment.SegmentNumber) for segment in dataset.SegmentSequence}
    used = {int(number) for number in np.unique(frames)}
    if not frames.any(axis=1).all() or used | {0} != described:
        raise CorruptError("empty_segmentation")


def _check_map(dataset: Dataset) -> None:
    """Every voxel is a number, and as many as the frames say."""
    values = np.frombuffer(dataset.FloatPixelData, np.dtype("<f4"))
    frames = len(dataset.PerFrameFunctionalGroupsSequence)
    if values.size != dataset.Rows * dataset.Columns * frames or frames != dataset.NumberOfFrames:
        raise CorruptError("map_shape")
    if not np.isfinite(values).all():
        raise CorruptError("not_finite")


def _check_content(dataset: Dataset, source: SourceSeries) -> None:
    rows, columns = (source.header.get(name) for name in ("Rows", "Columns"))
    for content in _content(dataset):
        kind = content.get("ValueType")
        if kind == "NUM":
            for value in content.MeasuredValueSequence:
                if not math.isfinite(float(value.NumericValue)):
                    raise CorruptError("not_finite")
        elif kind == _TWO_D and rows and columns:
            points = np.asarray(content.GraphicData, float).reshape(-1, 2)
            if not ((points >= 0).all() and (points <= (columns, rows)).all()):
                raise CorruptError("coordinates_outside")
        elif kind == _THREE_D:
            points = np.asarray(content.GraphicData, float).reshape(-1, 3)
            if not _near(points, source):
                raise CorruptError("coordinates_outside")


def _near(points: Any, source: SourceSeries) -> bool:
    """Whether all points lie in the box that holds every source image."""
    header = source.header
    positions = [each.position_mm for each in source.instances if each.position_mm is not None]
    orientation = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    spacing = np.array(header.PixelSpacing, float)
    along = orientation[0] * spacing[1] * header.Columns, orientation[1] * spacing[0] * header.Rows
    corners = np.array(
        [np.array(p) + a + b for p in positions for a in (0, along[0]) for b in (0, along[1])]
    )
    reach = float(np.linalg.norm(spacing)) + 10.0
    low, high = corners.min(axis=0) - reach, corners.max(axis=0) + reach
    return bool(np.isfinite(points).all() and (points >= low).all() and (points <= high).all())


def _content(dataset: Dataset) -> Iterator[Dataset]:
    for each in dataset.get("ContentSequence") or ():
        yield each
        yield from _content(each)
