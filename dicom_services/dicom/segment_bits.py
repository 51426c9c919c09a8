"""Single frames of a segmentation on the grid of its series, without unpacking the rest."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_services.dicom.indexed_series import IndexedSeries
from dicom_services.errors import InputError

Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentBits:
    """The packed frames of a segmentation.

    Parameters
    ----------
    frame_of : dict
        Frame number by (segment number, k).
    bits : (n,) uint8
        Eight pixels a byte, the first in the lowest bit (PS3.5 8.1.1).
    rows, columns : int
    """

    frame_of: Mapping[tuple[int, int], int]
    bits: NDArray[np.uint8]
    rows: int
    columns: int

    def marked(self, segment: int, k: int, row: Whole, column: Whole) -> NDArray[np.bool_]:
        """Whether each pixel of slice k belongs to the segment."""
        frame = self.frame_of.get((segment, k))
        if frame is None:
            return np.zeros(row.shape, np.bool_)
        offset = (frame * self.rows + row) * self.columns + column
        found: NDArray[np.bool_] = ((self.bits[offset >> 3] >> (offset & 7)) & 1) == 1
        return found

    def plane(self, segment: int, k: int) -> NDArray[np.bool_]:
        """(row, column) bool: the segment in slice k."""
        row, column = np.indices((self.rows, self.columns))
        return self.marked(segment, k, row, column)


def read_segment_bits(file: bytes, series: IndexedSeries) -> SegmentBits:
    """The frames of a segmentation made from `series`.

    Raises
    ------
    InputError
        `region_grid` when it lies on other pixels, `region_unreadable` when it is neither a binary
        segmentation nor a label map.
    """
    _, rows, columns = series.geometry.shape
    try:
        dataset = dcmread(io.BytesIO(file))
        kind = dataset.get("SegmentationType")
        if dataset.get("Modality") != "SEG" or kind not in ("BINARY", "LABELMAP"):
            raise InputError("region_unreadable")
        if (dataset.Rows, dataset.Columns) != (rows, columns):
            raise InputError("region_grid")
        if kind == "LABELMAP":
            return _unpack_labels(dataset, series)
        groups = dataset.PerFrameFunctionalGroupsSequence
        bits = np.frombuffer(dataset.PixelData, np.uint8)
        frames = {
            (_segment(group), _place(group, series)): number for number, group in enumerate(groups)
        }
        if bits.size * 8 < len(groups) * rows * columns:
            raise InputError("region_unreadable")
    except (InvalidDicomError, AttributeError, ValueError, TypeError, KeyError, IndexError):
        raise InputError("region_unreadable") from None
    return SegmentBits(frames, bits, rows, columns)


def _unpack_labels(dataset: Dataset, series: IndexedSeries) -> SegmentBits:
    """A label map as the frames of a binary segmentation, one for each segment in a slice."""
    _, rows, columns = series.geometry.shape
    groups = dataset.PerFrameFunctionalGroupsSequence
    labels = dataset.pixel_array.reshape(len(groups), rows * columns)
    frame_of: dict[tuple[int, int], int] = {}
    found: list[NDArray[np.bool_]] = []
    for frame, group in zip(labels, groups, strict=True):
        k = _place(group, series)
        for number in np.unique(frame[frame > 0]):
            frame_of[int(number), k] = len(found)
            found.append(frame == number)
    bits = np.packbits(np.array(found, np.bool_), bitorder="little")
    return SegmentBits(frame_of, bits, rows, columns)


def _segment(group: Dataset) -> int:
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _place(group: Dataset, series: IndexedSeries) -> int:
    """Index of the slice a frame lies in."""
    place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, np.float64)
    return round(float(series.geometry.to_index(place)[0]))
