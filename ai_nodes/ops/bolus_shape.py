"""The shape of a bolus curve: its height, arrival and width, and whether its top is cut off."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FLAT: Final = 0.01
FLAT_FRAMES: Final = 3
FLAT_S: Final = 2.0
"""A top within 1 % of the highest value over three frames and 2 s is clipped: a gamma variate of
the width of a CT bolus (alpha 3, beta 2.5 s) stays within 1 % for 1.2 s."""


def clipped_tops(curves: NDArray[np.floating], times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Curves (t, n) whose highest value lasts, as it does where a detector or a signal ends."""
    peak = curves.max(axis=0)
    near = curves >= (1.0 - FLAT) * peak
    top = curves.argmax(axis=0)
    row = np.arange(len(curves))[:, None]
    # The run of near frames around the top: from the last far one before to the first after.
    first = np.where(~near & (row < top), row, -1).max(axis=0) + 1
    last = np.where(~near & (row > top), row, len(curves)).min(axis=0) - 1
    lasts = times_s[last] - times_s[first] >= FLAT_S - 1e-6
    return np.asarray((peak > 0.0) & (last - first + 1 >= FLAT_FRAMES) & lasts)


def shape_facts(
    values: NDArray[np.floating[Any]], times_s: NDArray[np.float64]
) -> dict[str, float]:
    """Peak, its time, arrival (a tenth of the peak), width at half height and area of a curve."""
    top = int(np.argmax(values))
    peak = float(values[top])
    since = times_s - times_s[0]
    return {
        "peak": peak,
        "peak_s": float(since[top]),
        "arrival_s": _crossing(values, since, 0.1 * peak, top, -1),
        "fwhm_s": _crossing(values, since, 0.5 * peak, top, 1)
        - _crossing(values, since, 0.5 * peak, top, -1),
        "area": float(np.gradient(times_s) @ values),
    }


def _crossing(
    values: NDArray[np.floating[Any]],
    times: NDArray[np.float64],
    level: float,
    top: int,
    step: int,
) -> float:
    """Time at which a curve crosses a level, going from its top; NaN where it never does."""
    at = top
    while 0 <= at + step < len(values):
        near, far = float(values[at]), float(values[at + step])
        if far < level:
            share = (near - level) / (near - far)
            return float(times[at] + share * (times[at + step] - times[at]))
        at += step
    return float("nan")
