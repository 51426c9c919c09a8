"""Single frames of a binary segmentation on the grid of its series, without unpacking the rest."""

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
        `region_grid` when it lies on other pixels, `region_unreadable` when it is no binary
        segmentation.
    """
    _, rows, columns = series.geometry.shape
    try:
        dataset = dcmread(io.BytesIO(file))
        if dataset.get("Modality") != "SEG" or dataset.get("SegmentationType") != "BINARY":
            raise InputError("region_unreadable")
        if (dataset.Rows, dataset.Columns) != (rows, columns):
            raise InputError("region_grid")
        groups = dataset.PerFrameFunctionalGroupsSequence
        bits = np.frombuffer(dataset.PixelData, np.uint8)
        frames = {_place(group, series): number for number, group in enumerate(groups)}
        if bits.size * 8 < len(groups) * rows * columns:
            raise InputError("region_unreadable")
    except (InvalidDicomError, AttributeError, ValueError, TypeError, KeyError, IndexError):
        raise InputError("region_unreadable") from None
    return SegmentBits(frames, bits, rows, columns)


def _place(group: Dataset, series: IndexedSeries) -> tuple[int, int]:
    segment = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, np.float64)
    return segment, round(float(series.geometry.to_index(place)[0]))
