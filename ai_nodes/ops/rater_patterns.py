"""What several raters said of each voxel, as the few patterns that occur and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dicom_services.domain.findings import Mask
from dicom_services.errors import InputError

DENSE: Final = 1 << 20
"""Possible patterns up to which each has a counter of its own (8 MB)."""

BLOCK: Final = 64
"""Voxels that are looked at together: most of a head is background to every rater."""


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """The patterns that occur; R raters make only 2^R of them from any number of voxels.

    Parameters
    ----------
    said : (p, r) int64
        What each rater said in each pattern.
    counts : (p,) int64
        Voxels of each.
    """

    said: NDArray[np.int64]
    counts: NDArray[np.int64]
    _codes: NDArray[Any]
    _places: NDArray[np.int64]
    _size: int
    _shape: tuple[int, ...]

    def spread(self, each: NDArray[Any]) -> NDArray[Any]:
        """The value of each voxel's pattern; (p,) to the shape of the masks, dtype kept."""
        table = np.zeros(self._size, each.dtype)
        table[self._places] = each
        out = np.empty(self._codes.size, each.dtype)
        _spread(self._codes, table, out)
        return out.reshape(self._shape)


def stack_masks(masks: Sequence[Mask]) -> NDArray[np.bool_]:
    """(r, k, j, i) of masks that lie on one grid.

    Raises
    ------
    InputError
        `no_masks`; `mask_grid` when they lie on different grids or in different frames.
    """
    if not masks:
        raise InputError("no_masks")
    if any(not masks[0].geometry.same_grid(each.geometry) for each in masks[1:]):
        raise InputError("mask_grid")
    return np.stack([each.values for each in masks])


def rater_patterns(masks: NDArray[Any] | Sequence[NDArray[Any]], *, levels: int = 2) -> Patterns:
    """Count the patterns of `masks` (r, ...), values 0 .. levels - 1 in uint8 or bool.

    Raises
    ------
    InputError
        `no_masks` without a mask or a voxel, `mask_grid` when shapes differ.
    """
    flat, shape = _flat(masks)
    raters, voxels = flat.shape
    size = levels**raters
    if size > DENSE:
        return _by_sorting(flat, levels, shape)
    codes = np.zeros(voxels, np.uint8 if size <= 256 else np.uint32)
    counts = np.zeros(size, np.int64)
    _count(flat, levels, codes, counts)
    places = np.flatnonzero(counts)
    said = places[:, None] // levels ** np.arange(raters) % levels
    return Patterns(said, counts[places], codes, places, size, shape)


def _flat(
    masks: NDArray[Any] | Sequence[NDArray[Any]],
) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    if len(masks) == 0:
        raise InputError("no_masks")
    shape = masks[0].shape
    if any(each.shape != shape for each in masks):
        raise InputError("mask_grid")
    stacked = np.ascontiguousarray(masks)
    if stacked.size == 0:
        raise InputError("no_masks")
    if stacked.dtype == np.bool_:
        stacked = stacked.view(np.uint8)
    flat = stacked.astype(np.uint8, copy=False).reshape(len(masks), -1).view()
    flat.flags.writeable = False
    return flat, shape


def _by_sorting(flat: NDArray[np.uint8], levels: int, shape: tuple[int, ...]) -> Patterns:
    """The same rater by rater, for more raters than counters can be held for."""
    codes = np.zeros(flat.shape[1], np.int64)
    said = np.zeros((1, 0), np.int64)
    for each in flat:
        found, codes = np.unique(codes * levels + each, return_inverse=True)
        said = np.column_stack([said[found // levels], found % levels])
    counts = np.bincount(codes, minlength=len(said))
    places = np.arange(len(said))
    return Patterns(said, counts, codes.astype(np.uint32), places, len(said), shape)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _any(row: Any) -> Any:
    found = np.uint8(0)
    for n in range(row.shape[0]):
        found |= row[n]
    return found != 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _count(flat: Any, levels: Any, codes: Any, counts: Any) -> None:
    """Fill `codes`, which come as zeros, with the first rater as the lowest digit."""
    raters, voxels = flat.shape
    for start in range(0, voxels, BLOCK):
        end = min(start + BLOCK, voxels)
        found = False
        for r in range(raters):
            found |= _any(flat[r, start:end])
        if not found:
            counts[0] += end - start
            continue
        for n in range(start, end):
            code = 0
            for r in range(raters - 1, -1, -1):
                code = code * levels + flat[r, n]
            codes[n] = code
            counts[code] += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _spread(codes: Any, table: Any, out: Any) -> None:
    for n in range(codes.shape[0]):
        out[n] = table[codes[n]]
