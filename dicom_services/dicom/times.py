"""The times of a dynamic series: its slices in frames, and when each frame was acquired.

Which slices belong together is the matter of `time_points`. A frame is as old as its first slice,
by the first clock of `CLOCKS` in which the frames follow each other. Where only Temporal
Resolution tells, the times are made of it, and where only the clock of the reconstruction does,
they are taken from that; both are noted as "times_assumed". The repetition time is never taken for
the time between frames: it is that only of a single-shot sequence, and a wrong step would scale
every flow without anybody seeing it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_services.dicom.moment import CLOCKS
from dicom_services.dicom.slice_header import Slice
from dicom_services.dicom.time_points import (
    Frame,
    Places,
    grouped,
    moment_of,
    number_of,
    unwrapped,
    without_cut_end,
)
from dicom_services.errors import InputError

_CLOCK_CONTENT: Final = CLOCKS.index("content")
_SECOND_US: Final = 1_000_000
_REGULAR_SHARE: Final = 0.05
"""Intervals that differ by more from their median are told; scanners keep theirs to a hundredth."""
_CONFLICT_SHARE: Final = 1.5
"""Of the interval: slices of one frame that were acquired further apart are of several frames, and
names and clocks contradict each other. Interleaved and alternating slabs stay within one."""
_PAUSE_SHARE: Final = 5.0
"""Of the interval: series of several times each, further apart than that, are runs of their own."""
_SPREAD_SHARE: Final = 0.05
"""Of the interval between frames, within which slices of one frame count as simultaneous."""


@dataclass(frozen=True, slots=True)
class Frames:
    """A dynamic series in order.

    Parameters
    ----------
    slices : tuple of tuple of Slice
        [t][k].
    times_s : tuple of float
        Seconds since the first frame, rising.
    notes : tuple of str
        "times_assumed", "times_irregular", "frames_dropped", "slice_times_differ",
        "fewer_times_than_declared".
    """

    slices: tuple[tuple[Slice, ...], ...]
    times_s: tuple[float, ...]
    notes: tuple[str, ...]


def frames_of(places: Places) -> Frames:
    """Put the slices of all places into frames.

    Raises
    ------
    InputError
        `frames_missing` with the number of slices that lack at a time, `times_repeat` where the
        same place comes twice at one time, `times_missing` where nothing tells when,
        `times_conflict` where the names of the times put together what a clock puts apart,
        `mixed_series` for series that are a run each: two runs are two boluses.
    """
    if all(len(place) == 1 for place in places):
        return Frames((tuple(place[0] for place in places),), (0.0,), ())
    frames = grouped(places)
    whole, dropped = without_cut_end(frames, len(places))
    _refuse_conflict(whole)
    times_us, order, assumed = _times(whole)
    notes = _notes(whole, times_us, order)
    if assumed:
        notes.append("times_assumed")
    if dropped:
        notes.append("frames_dropped")
    slices = tuple(tuple(one for _, one in sorted(whole[t].items())) for t in order)
    first = times_us[order[0]]
    seconds = tuple((times_us[t] - first) / _SECOND_US for t in order)
    _refuse_runs([row[0].series for row in slices], seconds)
    return Frames(slices, seconds, tuple(notes))


def _refuse_runs(series: Sequence[str], times_s: Sequence[float]) -> None:
    if sum(count > 1 for count in Counter(series).values()) < 2:
        return
    steps = np.diff(times_s)
    usual = float(np.median(steps))
    apart = [early != late for early, late in itertools.pairwise(series)]
    if bool((steps[apart] > _PAUSE_SHARE * usual).any()):
        raise InputError("mixed_series", count=len(set(series)))


def _refuse_conflict(frames: Sequence[Frame]) -> None:
    """By the first clock that ticks at every place; one that stands still tells nothing."""
    for clock in range(_CLOCK_CONTENT):
        rows = _clock_by_place(frames, clock)
        if rows is None:
            continue
        steps = np.diff(np.sort(rows, axis=0), axis=0)
        if not steps.size or steps.min() <= 0:
            continue
        interval, spread = float(np.median(steps)), float(np.ptp(rows, axis=1).max())
        if spread > _CONFLICT_SHARE * interval:
            seconds = round(spread / _SECOND_US, 3), round(interval / _SECOND_US, 3)
            raise InputError("times_conflict", apart_s=seconds[0], interval_s=seconds[1])
        return


def _clock_by_place(frames: Sequence[Frame], clock: int) -> NDArray[np.int64] | None:
    """(t, k) microseconds; None where a slice does not tell them."""
    values = [moment_of(frame[k]).clocks[clock] for frame in frames for k in sorted(frame)]
    told = [value for value in values if value is not None]
    moved = unwrapped(told) if len(told) == len(values) else None
    return None if moved is None else np.array(moved, np.int64).reshape(len(frames), -1)


def _times(frames: Sequence[Frame]) -> tuple[list[int], list[int], bool]:
    """Microseconds of each frame, their order, and whether they are assumed."""
    if len(frames) == 1:
        return [0], [0], False
    repeats = 0
    for clock in range(_CLOCK_CONTENT):
        times = _by_first_slice(frames, clock)
        if times is None:
            continue
        different = len(set(times))
        if different == len(times):
            return times, sorted(range(len(times)), key=times.__getitem__), False
        if different > 1:
            repeats = repeats or len(times) - different
    times = _by_resolution(frames, numbered=bool(repeats))
    if times is None and not repeats:
        times = _by_first_slice(frames, _CLOCK_CONTENT)
    if times is not None and len(set(times)) == len(times):
        return times, sorted(range(len(times)), key=times.__getitem__), True
    if repeats:
        raise InputError("times_repeat", count=repeats, times=len(frames))
    raise InputError("times_missing", times=len(frames))


def _by_first_slice(frames: Sequence[Frame], clock: int) -> list[int] | None:
    values = [[moment_of(one).clocks[clock] for one in frame.values()] for frame in frames]
    told = [value for row in values for value in row if value is not None]
    if len(told) < sum(map(len, values)):
        return None
    moved = unwrapped(told)
    if moved is None:
        return None
    numbers = iter(moved)
    return [min(next(numbers) for _ in row) for row in values]


def _by_resolution(frames: Sequence[Frame], *, numbered: bool) -> list[int] | None:
    """Times at the declared distance, by temporal position, else by instance number.

    The latter not where a clock says that images were made at the same time (`numbered`): they
    may be the magnitude and the phase of one acquisition.
    """
    firsts = [next(iter(frame.values())) for frame in frames]
    steps = {moment_of(one).resolution_us for one in firsts}
    (step,) = steps if len(steps) == 1 else (None,)
    if step is None or step <= 0 or len({one.series for one in firsts}) > 1:
        return None
    positions = [moment_of(one).position for one in firsts]
    known = [position for position in positions if position is not None]
    if len(set(known)) == len(frames):
        return [position * step for position in known]
    if numbered:
        return None
    numbers = [min((number_of(one) or 0) for one in frame.values()) for frame in frames]
    order = sorted(range(len(frames)), key=numbers.__getitem__)
    return [order.index(t) * step for t in range(len(frames))]


def _notes(frames: Sequence[Frame], times_us: Sequence[int], order: Sequence[int]) -> list[str]:
    notes: list[str] = []
    steps = np.diff([times_us[t] for t in order]).astype(np.float64)
    if not len(steps):
        return notes
    usual = float(np.median(steps))
    if np.abs(steps - usual).max() > _REGULAR_SHARE * usual:
        notes.append("times_irregular")
    if _spread_us(frames) > _SPREAD_SHARE * usual:
        notes.append("slice_times_differ")
    declared = moment_of(next(iter(frames[0].values()))).positions
    if declared is not None and declared > len(frames) and _one_series(frames):
        notes.append("fewer_times_than_declared")
    return notes


def _one_series(frames: Sequence[Frame]) -> bool:
    return len({one.series for frame in frames for one in frame.values()}) == 1


def _spread_us(frames: Sequence[Frame]) -> int:
    """How far apart the slices of one frame were acquired, by the first clock that has them."""
    for clock in range(_CLOCK_CONTENT):
        widest = -1
        for frame in frames:
            values = [moment_of(one).clocks[clock] for one in frame.values()]
            told = [value for value in values if value is not None]
            moved = unwrapped(told) if len(told) == len(values) else None
            if moved is None:
                break
            widest = max(widest, max(moved) - min(moved))
        else:
            return widest
    return 0
