"""Lucy-Richardson deconvolution: multiplicative, so that a residue is never negative."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.concentration import column_noise
from ai_nodes.ops.residue_peaks import peaks

PEAK_SHARE: Final = 0.6
"""The peak is looked for in this first share of the lags: the last ones take up whatever flows out
later than the support allows, and would be the peak of tissue with long transits; ours."""
OFFSET_SIGMAS: Final = 4.0
"""A background of so many deviations of the noise is added to curve and model alike: then noise
below zero, which the method cannot hold, is lost once in 30,000 samples, and not in every other.
Snyder DL, Hammoud AM, White RL. J Opt Soc Am A 1993;10:1014-1023, for read-out noise."""
FOOT: Final = 0.05
"""The bolus starts at the last frame before its top that is below this share of the top; ours."""


def lucy_matrix(
    artery: NDArray[np.float64], step_s: float, support_s: float
) -> tuple[NDArray[np.float64], int]:
    """Convolution with the artery from its arrival on, (t - start, lags), and that start.

    Frames before the bolus hold noise alone, which no residue explains and which the ratio of
    measured to explained would blow up; lags are limited for the same reason, and to those whose
    bolus begins before the scan ends: of any later one there is nothing to divide by.
    """
    top = int(np.argmax(artery))
    low = np.flatnonzero(artery[: top + 1] <= FOOT * artery[top])
    start = int(low[-1]) if len(low) else 0
    column = np.clip(artery[start:], 0.0, None) * step_s
    seen = np.cumsum(column)[::-1]
    lags = min(int((seen > FOOT * seen[0]).sum()), 1 + round(support_s / step_s))
    lag = np.subtract.outer(np.arange(len(column)), np.arange(lags))
    return np.where(lag >= 0, column[np.clip(lag, 0, None)], 0.0), start


def peak_lags(lags: int) -> int:
    """How many lags may hold the peak."""
    return max(1, round(PEAK_SHARE * lags))


def lucy_richardson(
    concentration: Any,
    matrix: NDArray[np.float64],
    start: int,
    iterations: int,
    *,
    keep_residue: bool,
    chunk: int,
    xp: Any = np,
) -> tuple[Any, Any, Any | None]:
    """Peak and its row of each residue, and the residues (lags, n) where kept.

    References
    ----------
    Richardson WH. J Opt Soc Am 1972;62:55-59; Lucy LB. Astron J 1974;79:745-754; for perfusion
    as maximum likelihood: Vonken EPA et al. Magn Reson Med 1999;41:343-350.
    """
    lags, voxels = matrix.shape[1], concentration.shape[1]
    forth = xp.asarray(matrix.astype(np.float32))
    back = xp.asarray((matrix / matrix.sum(axis=0)).T.astype(np.float32))
    level = np.float32(1.0 / matrix.sum(axis=1).max())
    cbf, row = xp.empty(voxels, np.float32), xp.empty(voxels, np.float32)
    residue = xp.empty((lags, voxels), np.float32) if keep_residue else None
    for begin in range(0, voxels, chunk):
        part = slice(begin, begin + chunk)
        curves = concentration[start:, part]
        top = xp.maximum(curves.max(axis=0), np.float32(0.0))
        scale = xp.where(top > 0.0, top, np.float32(1.0))
        # The floor is far below anything measurable: it only keeps 0 / 0 away.
        offset = np.float32(OFFSET_SIGMAS) * column_noise(curves, xp) / scale + np.float32(1e-6)
        measured = xp.maximum(curves / scale + offset, np.float32(0.0))
        found = xp.full((lags, measured.shape[1]), level, np.float32)
        for _ in range(iterations):
            explained = forth @ found
            explained += offset
            xp.divide(measured, explained, out=explained)
            found *= back @ explained
        # A curve that never rises has no residue, whatever its background was fitted with.
        found *= top
        cbf[part], row[part] = peaks(found[: peak_lags(lags)], circulant=False, xp=xp)
        if residue is not None:
            residue[:, part] = found
    return cbf, row, residue
