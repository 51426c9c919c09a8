"""oSVD: residues truncated further and further until they no longer oscillate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ai_nodes.ops.residue_peaks import peaks

Floats = NDArray[np.float32]


def quiet_residues(
    residues: Floats, coefficients: Floats, waves: Floats, keeps: NDArray[np.int64], limit: float
) -> int:
    """Truncate residues (n, l) in place, each until its index is below the limit.

    The first truncation is done already; each further one takes away the few waves (m, l) that it
    drops, instead of a product with another inverse.

    Parameters
    ----------
    coefficients : (n, m)
        Share of each wave in each residue.
    keeps : (p,) int
        How many waves each truncation keeps, most first.

    Returns
    -------
    int
        Residues that met the limit at no truncation: they are left at the last one.

    References
    ----------
    Wu O et al. Magn Reson Med 2003;50:164-174, eq. 9: the index is the mean size of the second
    difference over the l samples, divided by the peak.
    """
    finite = np.isfinite(coefficients[:, 0])
    return int(_quieten(residues, coefficients, waves, keeps, np.float32(limit), finite))


def quiet_peaks(
    coefficients: Any, waves: Any, keeps: NDArray[np.int64], limit: float, *, xp: Any
) -> tuple[Any, Any, Any, int]:
    """The same by whole products, for a card: residues (l, n), peaks, rows and how many unmet.

    Parameters
    ----------
    coefficients : (m, n)
    waves : (l, m)
    """
    rows, voxels = len(waves), coefficients.shape[1]
    found = xp.empty((rows, voxels), np.float32)
    left = xp.arange(voxels)
    missed = 0
    for n, kept in enumerate(keeps):
        residues = waves[:, :kept] @ coefficients[:kept, left]
        rough = xp.abs(residues[2:] - 2.0 * residues[1:-1] + residues[:-2]).sum(axis=0)
        calm = rough < np.float32(limit) * rows * residues.max(axis=0)
        if n == len(keeps) - 1:
            missed = int((~calm & xp.isfinite(rough)).sum())
            calm = xp.ones_like(calm)
        found[:, left[calm]] = residues[:, calm]
        left = left[~calm]
    return found, *peaks(found, circulant=True, xp=xp), missed


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator] # numba ships no types
def _quieten(
    residues: Floats,
    coefficients: Floats,
    waves: Floats,
    keeps: NDArray[np.int64],
    limit: float,
    finite: NDArray[np.bool_],
) -> int:
    length = residues.shape[1]
    missed = 0
    for v in range(len(residues)):
        if not finite[v]:
            continue
        f = residues[v]
        met = False
        for p in range(len(keeps)):
            if p > 0:
                b = keeps[p]
                while b < keeps[p - 1]:
                    # Two at a time: a cosine and its sine.
                    if b + 1 < keeps[p - 1]:
                        c, s = coefficients[v, b], coefficients[v, b + 1]
                        one, two = waves[b], waves[b + 1]
                        for k in range(length):
                            f[k] -= c * one[k] + s * two[k]
                        b += 2
                    else:
                        c = coefficients[v, b]
                        one = waves[b]
                        for k in range(length):
                            f[k] -= c * one[k]
                        b += 1
            rough = np.float32(0.0)
            peak = max(f[0], f[1])
            for k in range(2, length):
                rough += abs(f[k] - np.float32(2.0) * f[k - 1] + f[k - 2])
                peak = max(peak, f[k])
            if rough < limit * length * peak:
                met = True
                break
        if not met:
            missed += 1
    return missed
