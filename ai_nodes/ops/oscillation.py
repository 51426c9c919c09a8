"""oSVD: residues truncated further and further until they no longer oscillate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.residue_peaks import peaks


def quiet_peaks(
    coefficients: Any, waves: Any, keeps: NDArray[np.int64], limit: float, *, xp: Any = np
) -> tuple[Any, Any, Any, int]:
    """Residue, peak, its row, and how many met no index, for coefficients (m, n).

    References
    ----------
    Wu O et al. Magn Reson Med 2003;50:164-174, eq. 9: the index is the mean size of the second
    difference over the L samples, divided by the peak.
    """
    rows, voxels = len(waves), coefficients.shape[1]
    found = xp.empty((rows, voxels), np.float32)
    left = xp.arange(voxels)
    for n, kept in enumerate(keeps):
        residues = waves[:, :kept] @ coefficients[:kept][:, left]
        rough = xp.abs(residues[2:] - 2.0 * residues[1:-1] + residues[:-2]).sum(axis=0)
        calm = rough < limit * rows * residues.max(axis=0)
        last = n == len(keeps) - 1
        done = xp.ones_like(calm) if last else calm
        found[:, left[done]] = residues[:, done]
        if last:
            missed = int((~calm).sum())
        left = left[~done]
    height, row = peaks(found, circulant=True, xp=xp)
    return found, height, row, missed
