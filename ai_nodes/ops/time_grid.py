"""Even times: deconvolution needs one step, scanners do not always keep it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.concentration import UNEVEN, checked_times
from dicom_services.errors import InputError

MOST_FINER: Final = 0.5
"""The even step is the shortest one, but no shorter than this share of the median."""
MOST_MADE_UP: Final = 10
"""Even times for each image, at most: scans that end in slower frames need four. More is a pause
or a wrong clock, in which nobody knows what the tracer did, and fills the memory; ours."""


@dataclass(frozen=True, slots=True, eq=False)
class TimeGrid:
    """Even times over the same span, and how to get there.

    Parameters
    ----------
    times_s : (m,)
        With one step.
    step_s : float
    weights : (m, t) or None
        Linear interpolation from the given times; None where they were even already.
    largest_gap_s : float
        Of the given times.
    """

    times_s: NDArray[np.float64]
    step_s: float
    weights: NDArray[np.float32] | None
    largest_gap_s: float

    def apply(self, curves: Any, xp: Any = np) -> Any:
        """Curves (t, ...) on the even times."""
        return curves if self.weights is None else xp.asarray(self.weights) @ curves


def even_times(times_s: Sequence[float] | NDArray[np.floating]) -> TimeGrid:
    """The grid for curves at these times.

    Raises
    ------
    InputError
        `too_few_times`, `times_order`, `times_step`, `times_gap`.
    """
    times = checked_times(times_s)
    steps = np.diff(times)
    median, gap = float(np.median(steps)), float(steps.max())
    span = float(times[-1] - times[0])
    if max(gap - median, median - float(steps.min())) <= UNEVEN * median:
        return TimeGrid(times, span / len(steps), None, gap)
    count = 1 + round(span / max(float(steps.min()), MOST_FINER * median))
    if count > MOST_MADE_UP * len(times):
        raise InputError("times_gap", gap_s=round(gap, 1), times=len(times))
    even = np.linspace(times[0], times[-1], count)
    weights = np.stack([np.interp(even, times, unit) for unit in np.eye(len(times))], 1)
    return TimeGrid(even, span / (count - 1), weights.astype(np.float32), gap)
