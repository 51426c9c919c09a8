"""One slice of a stored parametric map, as it is needed for a picture."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_services.errors import InputError


def map_plane(file: bytes, place_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """(row, column): the frame whose first voxel lies nearest to a place; NaN where undefined.

    Raises
    ------
    InputError
        `map_unreadable` when the file holds no floating point frames with their places.
    """
    try:
        dataset = dcmread(io.BytesIO(file))
        groups = dataset.PerFrameFunctionalGroupsSequence
        places = [group.PlanePositionSequence[0].ImagePositionPatient for group in groups]
        apart = np.linalg.norm(np.array(places, np.float64) - place_mm, axis=1)
        return _frame(dataset, int(apart.argmin()), len(groups))
    except (InvalidDicomError, AttributeError, ValueError, TypeError, KeyError, IndexError):
        raise InputError("map_unreadable") from None


def _frame(dataset: Dataset, index: int, count: int) -> NDArray[np.float32]:
    frames = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(
        count, dataset.Rows, dataset.Columns
    )
    plane: NDArray[np.float32] = frames[index].astype(np.float32)
    padding = dataset.get("FloatPixelPaddingValue")
    if padding is not None:
        plane[plane == np.float32(padding)] = np.nan
    return plane
