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
    Wu O et al. Magn Reson Med 2003;50:164-174, Theory: the index is the mean size of the second
    difference over the l samples, divided by the peak.
    """
    finite = np.isfinite(coefficients[:, 0])
    bends = np.abs(np.diff(waves, 2, axis=1)).sum(axis=1)
    return int(_quieten(residues, coefficients, waves, bends, keeps, np.float32(limit), finite))


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
    bends: Floats,
    keeps: NDArray[np.int64],
    limit: float,
    finite: NDArray[np.bool_],
) -> int:
    """See `quiet_residues`; a wave less can change roughness and peak by no more than its own.

    So a residue that is far from the limit is not looked at again until enough waves have gone
    that it might meet it, and these are taken away together.
    """
    length = residues.shape[1]
    last = len(keeps) - 1
    missed = 0
    for v in range(len(residues)):
        if not finite[v]:
            continue
        f, share = residues[v], coefficients[v]
        rough, peak = _roughness(f)
        done = keeps[0]
        met = rough < limit * length * peak
        for p in range(1, len(keeps)):
            if met:
                break
            for b in range(keeps[p], keeps[p - 1]):
                rough -= abs(share[b]) * bends[b]
                peak += abs(share[b])
            if rough < limit * length * peak or p == last:
                _take_away(f, share, waves, keeps[p], done)
                done = keeps[p]
                rough, peak = _roughness(f)
                met = rough < limit * length * peak
        if not met:
            missed += 1
    return missed


@njit(cache=True, nogil=True, fastmath=True, inline="always")  # type: ignore[untyped-decorator] # as above
def _roughness(f: Floats) -> tuple[Any, Any]:
    """Sum of the sizes of second differences, and the highest value."""
    rough = np.float32(0.0)
    peak = max(f[0], f[1])
    for k in range(2, len(f)):
        rough += abs(f[k] - np.float32(2.0) * f[k - 1] + f[k - 2])
        peak = max(peak, f[k])
    return rough, peak


@njit(cache=True, nogil=True, fastmath=True, inline="always")  # type: ignore[untyped-decorator] # as above
def _take_away(f: Floats, share: Floats, waves: Floats, first: int, end: int) -> None:
    """Waves first to end out of a residue, four at a time as far as they go."""
    b = first
    while b + 4 <= end:
        s0, s1, s2, s3 = share[b], share[b + 1], share[b + 2], share[b + 3]
        w0, w1, w2, w3 = waves[b], waves[b + 1], waves[b + 2], waves[b + 3]
        for k in range(len(f)):
            f[k] -= s0 * w0[k] + s1 * w1[k] + s2 * w2[k] + s3 * w3[k]
        b += 4
    while b < end:
        s0 = share[b]
        w0 = waves[b]
        for k in range(len(f)):
            f[k] -= s0 * w0[k]
        b += 1
