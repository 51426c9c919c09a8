"""The frames of a DICOM segmentation as marked pixels with their place in the patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_services.errors import InputError

MOST_PIXELS: Final = 4_000_000_000
"""Eight segments on 1000 slices of 512 x 512 twice over; more is no region of ours."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedFrame:
    """(row, column) bool of one frame.

    `position_mm` is the LPS place of its first pixel, `row_step_mm` and `column_step_mm` the way
    to the next row and the next column.
    """

    values: NDArray[np.bool_]
    frame_uid: str
    position_mm: NDArray[np.float64]
    row_step_mm: NDArray[np.float64]
    column_step_mm: NDArray[np.float64]


def read_segmented_frames(path: Path) -> Iterator[SegmentedFrame]:
    """Every frame of every segment; a pixel is marked when it belongs to one at half or more.

    Raises
    ------
    InputError
        `region_unreadable` when the file is no segmentation that can be read.
    """
    try:
        dataset = dcmread(path)
        if dataset.get("Modality") != "SEG" or "PerFrameFunctionalGroupsSequence" not in dataset:
            raise InputError("region_unreadable")
        frames = len(dataset.PerFrameFunctionalGroupsSequence)
        if not 0 < frames * int(dataset.Rows) * int(dataset.Columns) <= MOST_PIXELS:
            raise InputError("region_unreadable")
        marked = _marked(dataset, frames)
        for number in range(frames):
            yield _frame(dataset, number, marked[number])
    except (
        InvalidDicomError,
        OSError,
        AttributeError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        NotImplementedError,
        RuntimeError,
    ):
        raise InputError("region_unreadable") from None


def _marked(dataset: Dataset, frames: int) -> NDArray[np.bool_]:
    values: NDArray[Any] = dataset.pixel_array.reshape(frames, dataset.Rows, dataset.Columns)
    least = 1
    if dataset.SegmentationType == "FRACTIONAL":
        least = (int(dataset.MaximumFractionalValue) + 1) // 2
    marked: NDArray[np.bool_] = values >= least
    return marked


def _frame(dataset: Dataset, number: int, values: NDArray[np.bool_]) -> SegmentedFrame:
    position = _group(dataset, number, "PlanePositionSequence").ImagePositionPatient
    turn = _group(dataset, number, "PlaneOrientationSequence").ImageOrientationPatient
    spacing = _group(dataset, number, "PixelMeasuresSequence").PixelSpacing
    along = np.array(turn, np.float64)
    return SegmentedFrame(
        values=values,
        frame_uid=str(dataset.FrameOfReferenceUID),
        position_mm=np.array(position, np.float64),
        row_step_mm=along[3:] * float(spacing[0]),
        column_step_mm=along[:3] * float(spacing[1]),
    )


def _group(dataset: Dataset, number: int, name: str) -> Dataset:
    """A functional group of one frame, its own or shared with all."""
    own = dataset.PerFrameFunctionalGroupsSequence[number]
    groups = own if name in own else dataset.SharedFunctionalGroupsSequence[0]
    group: Dataset = groups[name].value[0]
    return group
