"""From signal to tracer: where the baseline ends, when the bolus comes, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dicom_services.errors import InputError

Kind = Literal["DSC", "CTP"]
Floats = NDArray[np.float32]

MIN_TIMES: Final = 10
"""Fewer frames cannot hold a baseline, a rise, a top and a fall; ours."""
STEP_S: Final = (0.1, 20.0)
"""No head is scanned faster than ten times a second, and no bolus (10 s) is seen in slower frames:
such times are in another unit, or are none. They would scale every flow and delay; ours."""
BOLUS_SIGMAS: Final = 6.0
"""The bolus must stand out from the noise of the mean curve by this much; ours. The greatest of
60 normal deviates is above 4 once in 500 times."""
FIRST_PASS_END: Final = 0.5
"""A mean curve that never falls to half its height has no measurable width: refused; ours."""
SHORT_TAIL: Final = 1.0 / 3.0
"""A mean curve that ends higher than this is told: its areas are cut short; ours."""
COARSE_STEP_S: Final = 3.0
"""Of CT: slower sampling biases flow and transit. Wintermark M et al. AJNR 2004;25:720-729."""
SLOW_START: Final = 1.0 / 3.0
"""A bolus starts with so small a slope that the fit sees it late, by a third of the rise that it
does see (gamma variates with alpha 3, beta 1.5 and 2.5 s, through tissue); ours."""
UNEVEN: Final = 0.02
"""Steps that differ by less than this share of the median are even: clocks, not protocols."""
UNSTEADY_SIGMAS: Final = 4.0
MOST_UNSTEADY: Final = 5
"""More frames than these do not belong to the approach to the steady state; ours."""
NORMAL_DIFFERENCE: Final = 0.9539
"""Median size of the difference of two unit normal deviates: 0.6745 times the root of 2."""
CHUNK: Final = 8192


@dataclass(frozen=True, slots=True)
class Bolus:
    """When the tracer arrives in a curve.

    Parameters
    ----------
    arrival : int
        Last frame that is still at the baseline: the rise starts there.
    baseline : (int, int)
        First frame of the steady state and the first frame after the baseline, half open.
    peak : int
        Frame of the greatest deviation from the baseline.
    flags : tuple of str
        "short_tail", "short_baseline", "coarse_sampling", "unsteady_start" where so.
    """

    arrival: int
    baseline: tuple[int, int]
    peak: int = -1
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """What in a signal has no concentration.

    Parameters
    ----------
    voxels, undefined_voxels : int
        All of them, and those of which nothing can be computed.
    nonpositive_values, nonfinite_values : int
        Samples at or below zero (DSC alone: its logarithm), and samples that are no number.
    """

    voxels: int
    undefined_voxels: int
    nonpositive_values: int
    nonfinite_values: int


def find_bolus(
    mean_curve: Sequence[float] | NDArray[np.floating],
    times_s: Sequence[float] | NDArray[np.floating],
    kind: Kind | None = None,
) -> Bolus:
    """Baseline and arrival of the bolus in the mean signal of a brain.

    The top is the frame furthest from the median of the curve, on the side that `kind` says
    (None: on whichever side is further). The arrival is the knot of the least-squares fit of a
    constant followed by a parabola through the knot to the frames up to the top, less
    `SLOW_START`. Frames at the start that lie off the baseline by more than 4 deviations are
    the approach to the steady state. A bolus that is there already at the first frame, stays, or
    does not stand out is refused.

    Raises
    ------
    InputError
        `too_few_times`, `times_order`, `times_step`, `no_bolus`, `no_baseline`, `truncated_tail`.

    References
    ----------
    Cheong LH, Koh TS, Hou Z. Phys Med Biol 2003;48:N83-N88, the linear-quadratic model.
    """
    curve = np.asarray(mean_curve, np.float64)
    times = checked_times(times_s)
    if len(curve) != len(times):
        raise InputError("times_order", times=len(times), frames=len(curve))
    if not np.isfinite(curve).all():
        raise InputError("no_bolus", finite=int(np.isfinite(curve).sum()))
    rise = _upwards(curve, kind)
    noise = noise_of(rise)
    top = 1 + int(np.argmax(rise[1:]))
    least = max(BOLUS_SIGMAS * noise, 1e-9 * float(np.abs(curve).max()))
    _require_height(float(rise[top] - np.median(rise)), least, noise)
    start, knot = _arrival(rise, times, top, noise)
    if knot == start:
        raise InputError("no_baseline", frame=knot)
    arrival = max(start + 1, knot - round(SLOW_START * (top - knot)))
    end = arrival if arrival - start >= 3 else arrival + 1
    level = float(rise[start:end].mean())
    # Again, now that the baseline is known: a curve that changes for good has a top before it.
    _require_height(float(rise[top]) - level, least, noise)
    share = _tail(rise, top, level)
    flags = {
        "short_tail": share > SHORT_TAIL,
        "short_baseline": end - start < 3,
        "coarse_sampling": float(np.median(np.diff(times))) > COARSE_STEP_S,
        "unsteady_start": start > 0,
    }
    return Bolus(arrival, (start, end), top, tuple(name for name, so in flags.items() if so))


def _require_height(height: float, least: float, noise: float) -> None:
    if height <= least:
        raise InputError("no_bolus", sigmas=round(height / noise, 1) if noise else 0.0)


def checked_times(times_s: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Times as an array: enough of them, finite, rising, and in seconds as far as one can tell."""
    times = np.asarray(times_s, np.float64)
    if times.ndim != 1 or len(times) < MIN_TIMES:
        raise InputError("too_few_times", times=int(times.size), least=MIN_TIMES)
    if not np.isfinite(times).all() or not (np.diff(times) > 0.0).all():
        raise InputError("times_order", times=len(times))
    step_s = float(np.median(np.diff(times)))
    if not STEP_S[0] <= step_s <= STEP_S[1]:
        raise InputError("times_step", step_s=round(step_s, 4))
    return times


def noise_of(curve: NDArray[np.float64]) -> float:
    """Standard deviation of the noise, from the median of neighbours' differences.

    A bolus makes less than half of the differences large, so that they do not count.
    """
    middle = float(np.median(np.abs(np.diff(curve))))
    return middle / NORMAL_DIFFERENCE


def column_noise(curves: Any, xp: Any = np) -> Any:
    """The same of each column (t, n); NaN for one that holds a NaN."""
    return xp.median(xp.abs(xp.diff(curves, axis=0)), axis=0) / np.float32(NORMAL_DIFFERENCE)


def _upwards(curve: NDArray[np.float64], kind: Kind | None) -> NDArray[np.float64]:
    """The curve turned so that the bolus points up."""
    if kind is None:
        middle = np.median(curve[1:])
        down = middle - curve[1:].min() > curve[1:].max() - middle
    else:
        down = kind == "DSC"
    return np.negative(curve) if down else curve


def _arrival(
    rise: NDArray[np.float64], times: NDArray[np.float64], top: int, noise: float
) -> tuple[int, int]:
    """First frame of the steady state, and the knot of the best fit up to the top."""
    middle = 0.5 * (rise[top] + np.median(rise[: top + 1]))
    low = rise[: int(np.flatnonzero(rise[: top + 1] <= middle)[-1]) + 1]
    level = float(np.median(low))
    limit = UNSTEADY_SIGMAS * max(noise, 1.4826 * float(np.median(np.abs(low - level))))
    limit = max(limit, 1e-9 * abs(level))
    start = 0
    while start < min(MOST_UNSTEADY, len(low) - 4) and abs(rise[start] - level) > limit:
        start += 1
    return start, start + _knot(rise[start : top + 1], times[start : top + 1])


def _knot(rise: NDArray[np.float64], times: NDArray[np.float64]) -> int:
    best, knot = np.inf, 0
    for k in range(len(rise) - 1):
        since = np.clip(times - times[k], 0.0, None)
        model = np.stack([np.ones_like(since), since, since**2], 1)
        fit = model @ np.linalg.lstsq(model, rise, rcond=None)[0]
        wrong = float(((rise - fit) ** 2).sum())
        # An equal fit counts as later: noise-free curves fit well from any earlier knot too.
        if wrong <= best * (1.0 + 1e-9):
            best, knot = wrong, k
    return knot


def _tail(rise: NDArray[np.float64], top: int, level: float) -> float:
    """Height of the end as a share of the top's; refuses a first pass that is not over."""
    height = rise[top] - level
    after = (rise[top:] - level) / height
    if len(after) < 3 or after.min() > FIRST_PASS_END:
        raise InputError("truncated_tail", frames=len(after), share=round(float(after[-1]), 2))
    return float(after[-3:].mean())


def to_concentration(
    signal: NDArray[np.float32] | NDArray[np.int16],
    times_s: Sequence[float] | NDArray[np.floating],
    bolus: Bolus,
    *,
    kind: Kind,
    echo_time_ms: float | None = None,
) -> Floats:
    """Tracer over time (t, n), proportional to concentration.

    DSC: -ln(S / S0) / TE in 1/s. CTP: HU above the baseline. S0 and baseline are means of the
    baseline's frames; what comes before them, without steady state, is no tracer and gets 0, or
    deconvolution would take it for a second bolus. A voxel with a sample that has no logarithm (at
    or below zero) or is no number is NaN at all times: a curve with a hole has neither area nor
    residue. `signal_facts` counts them.

    Raises
    ------
    InputError
        `echo_time_missing` for DSC without an echo time; `times_order`.

    References
    ----------
    Oestergaard L et al. Magn Reson Med 1996;36:715-725, Theory. For CT: Wintermark M et al.
    Eur Radiol 2001;11:1220-1230.
    """
    if kind == "DSC" and not (echo_time_ms and echo_time_ms > 0.0):
        raise InputError("echo_time_missing")
    if len(signal) != len(times_s):
        raise InputError("times_order", times=len(times_s), frames=len(signal))
    first, last = bolus.baseline
    out = np.empty(signal.shape, np.float32)
    for at in range(0, signal.shape[1], CHUNK):
        part = signal[:, at : at + CHUNK].astype(np.float32)
        good = _defined(part, kind)
        part[:, ~good] = 1.0
        level = part[first:last].mean(axis=0, dtype=np.float64).astype(np.float32)
        if kind == "DSC":
            np.divide(part, level, out=part)
            np.log(part, out=part)
            part *= np.float32(-1000.0 / (echo_time_ms or 1.0))
        else:
            part -= level
        part[:first] = 0.0
        part[:, ~good] = np.nan
        out[:, at : at + CHUNK] = part
    return out


def _defined(part: Floats, kind: Kind) -> NDArray[np.bool_]:
    if kind == "DSC":
        # NaN fails both comparisons.
        return np.asarray((part.min(axis=0) > 0.0) & (part.max(axis=0) < np.inf))
    return np.asarray(np.isfinite(part.sum(axis=0, dtype=np.float64)))


def signal_facts(signal: NDArray[np.float32] | NDArray[np.int16], *, kind: Kind) -> SignalFacts:
    """Counts of what `to_concentration` leaves undefined."""
    undefined = nonpositive = nonfinite = 0
    for at in range(0, signal.shape[1], CHUNK):
        part = signal[:, at : at + CHUNK].astype(np.float32)
        undefined += int((~_defined(part, kind)).sum())
        nonfinite += int((~np.isfinite(part)).sum())
        if kind == "DSC":
            nonpositive += int((part <= 0.0).sum())
    return SignalFacts(signal.shape[1], undefined, nonpositive, nonfinite)
