"""The height and place of the peak of each residue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def peaks(residues: Any, *, circulant: bool, xp: Any = np) -> tuple[Any, Any]:
    """Peak value and fractional row of each column (l, n); NaN columns stay NaN.

    Circulant residues are cut off in frequency, so smooth at the scale of a sample: the top of the
    parabola through the peak and its two neighbours is their peak. Without it the height would
    depend on where between two samples the peak falls. The peak of sSVD lies at the first sample
    in most tissue, where there is no left neighbour: it is taken as it is.
    """
    if xp is np:
        height, row = np.empty((2, residues.shape[1]), np.float32)
        _by_column(residues, height, row, circulant)
        return height, row
    row, height = residues.argmax(axis=0), residues.max(axis=0)
    if not circulant:
        return height, row.astype(np.float32)
    columns = xp.arange(residues.shape[1])
    before = residues[(row - 1) % len(residues), columns]
    after = residues[(row + 1) % len(residues), columns]
    bend = before - 2.0 * height + after
    shift = xp.where(bend < 0.0, 0.5 * (before - after) / xp.where(bend < 0.0, bend, 1.0), 0.0)
    shift = shift.astype(np.float32)
    return height - np.float32(0.25) * (before - after) * shift, row + shift


def peaks_of_rows(residues: Floats) -> tuple[Floats, Floats]:
    """The same for circulant residues (n, l), one voxel in each row."""
    height, row = np.empty((2, len(residues)), np.float32)
    _by_row(residues, height, row)
    return height, row


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _by_column(residues: Floats, height: Floats, row: Floats, circulant: bool) -> None:
    """Row after row, so that neighbouring voxels are compared at once."""
    rows, columns = residues.shape
    place = np.zeros(columns, np.int32)
    height[:] = residues[0]
    for k in range(1, rows):
        for n in range(columns):
            if residues[k, n] > height[n]:
                height[n] = residues[k, n]
                place[n] = k
    for n in range(columns):
        k = place[n]
        row[n] = k
        if circulant:
            height[n], row[n] = _top(
                residues[k - 1 if k else rows - 1, n],
                height[n],
                residues[k + 1 if k + 1 < rows else 0, n],
                k,
            )


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _by_row(residues: Floats, height: Floats, row: Floats) -> None:
    length = residues.shape[1]
    for n in range(len(residues)):
        f = residues[n]
        k = np.argmax(f)
        height[n], row[n] = _top(f[k - 1], f[k], f[k + 1 if k + 1 < length else 0], k)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator] # as above
def _top(before: float, peak: float, after: float, k: int) -> tuple[float, float]:
    """Top of the parabola through three samples, the middle one the highest."""
    bend = before - 2.0 * peak + after
    if not bend < 0.0:
        return peak, k
    shift = 0.5 * (before - after) / bend
    return peak - 0.25 * (before - after) * shift, k + shift
