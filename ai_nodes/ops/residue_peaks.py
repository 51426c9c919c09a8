"""The height and place of the peak of each residue."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def peaks(residues: Any, *, circulant: bool, xp: Any = np) -> tuple[Any, Any]:
    """Peak value and fractional row of each column (rows, n); NaN columns stay NaN.

    Circulant residues are cut off in frequency, so smooth at the scale of a sample: the top of the
    parabola through the peak and its two neighbours is their peak. Without it the height would
    depend on where between two samples the peak falls. The peak of sSVD lies at the first sample
    in most tissue, where there is no left neighbour: it is taken as it is.
    """
    if xp is np:
        height, row = np.empty(residues.shape[1], np.float32), np.empty(residues.shape[1], np.int32)
        _highest(residues, height, row)
    else:
        row = residues.argmax(axis=0)
        height = residues.max(axis=0)
    if not circulant:
        return height, row.astype(np.float32)
    return refine(residues, height, row, xp)


def refine(residues: Any, height: Any, row: Any, xp: Any = np) -> tuple[Any, Any]:
    """Top of the parabola through each peak and its neighbours on the circle."""
    rows = len(residues)
    columns = xp.arange(residues.shape[1])
    before = residues[(row - 1) % rows, columns]
    after = residues[(row + 1) % rows, columns]
    bend = before - 2.0 * height + after
    shift = xp.where(bend < 0.0, 0.5 * (before - after) / xp.where(bend < 0.0, bend, 1.0), 0.0)
    shift = shift.astype(np.float32)
    return height - np.float32(0.25) * (before - after) * shift, row + shift


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _highest(residues: Floats, height: Floats, row: NDArray[np.int32]) -> None:
    """Row after row, so that neighbouring voxels are compared at once."""
    for n in range(residues.shape[1]):
        height[n] = residues[0, n]
        row[n] = 0
    for k in range(1, residues.shape[0]):
        for n in range(residues.shape[1]):
            if residues[k, n] > height[n]:
                height[n] = residues[k, n]
                row[n] = k
