"""The times of a dynamic series: which slices belong to one time, and when that was.

The rule, in two steps that do not depend on each other.

*Which slices belong together.* The first of these that names each slice of a place differently:
the number of the temporal position (PS3.3 C.7.6.2 and C.7.6.16.2.2), the series where there are
several, the offset of the temporal position, the acquisition number. These are names: with them a
slice that is lost leaves a hole of which place and time are known. Where there is none, the
slices of each place are put in the order of the first clock that tells them apart, and the n-th
of every place are one time; that only holds where every slice of a time comes before every slice
of the next one. Last, the instance numbers: all slices of the first time, then all of the second,
or all times of the first slice, then all of the second.

*When that was.* The first clock of `CLOCKS` in which the frames follow each other; a frame is as
old as its first slice. Where only Temporal Resolution tells, the times are made of it, and where
only the clock of the reconstruction does, they are taken from that; both are noted as
"times_assumed". The repetition time is never taken for the time between frames: it is that only
of a single-shot sequence, and a wrong step would scale every flow without anybody seeing it.

*What lacks.* A last frame that is not whole is left out, for a scan may be stopped within it
("frames_dropped"); a slice that lacks at any other time refuses the series, because a curve with
a hole is no curve. A time that is lost whole cannot be told from a pause: the frames around it
are further apart ("times_irregular").
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dicom_services.dicom.moment import CLOCKS, Moment
from dicom_services.dicom.slice_header import Slice
from dicom_services.errors import InputError

Places = Sequence[Sequence[Slice]]
"""[k]: the slices at one place, in any order."""

_CLOCK_CONTENT: Final = CLOCKS.index("content")
_OFFSET: Final = CLOCKS.index("offset")
_SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * _SECOND_US
_LONGEST_US: Final = _DAY_US // 2
"""No dynamic lasts twelve hours: times of a day that lie further apart went past midnight."""
_FRAMES: Final = 1 << 20
"""More than a file has frames."""
_REGULAR_SHARE: Final = 0.05
"""Intervals that differ by more from their median are told; scanners keep theirs to a hundredth."""
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
        same place comes twice at one time, `times_missing` where nothing tells when.
    """
    if all(len(place) == 1 for place in places):
        return Frames((tuple(place[0] for place in places),), (0.0,), ())
    frames = _grouped(places)
    whole, dropped = _without_cut_end(frames, len(places))
    times_us, order, assumed = _times(whole)
    notes = _notes(whole, times_us, order)
    if assumed:
        notes.append("times_assumed")
    if dropped:
        notes.append("frames_dropped")
    slices = tuple(tuple(one for _, one in sorted(whole[t].items())) for t in order)
    first = times_us[order[0]]
    seconds = tuple((times_us[t] - first) / _SECOND_US for t in order)
    return Frames(slices, seconds, tuple(notes))


def times_told(places: Places) -> int:
    """How many times names or clocks tell apart; 1 where nothing says that there are several."""
    for name in _names(places):
        frames = _by_name(places, name)
        if frames is not None:
            return len(frames)
    return len(_by_clock(places) or [()])


Frame = dict[int, Slice]
"""Slices of one time by place."""
Key = Callable[[Slice], Hashable]


def _grouped(places: Places) -> list[Frame]:
    for name in _names(places):
        frames = _by_name(places, name)
        if frames is not None:
            return frames
    ranked = _by_clock(places) or _by_number(places)
    if ranked is not None:
        return ranked
    counts = [len(place) for place in places]
    times = max(counts)
    if min(counts) < times:
        raise InputError("frames_missing", count=times * len(counts) - sum(counts), times=times)
    raise InputError("times_repeat", count=times)


def _names(places: Places) -> list[Key]:
    """Functions that may name the time of a slice, the best first."""
    several = len({one.series for place in places for one in place}) > 1
    names: list[Key] = [lambda one: _none_or(one.series, _moment(one).position)]
    if several:
        names.append(lambda one: one.series)
    names.append(lambda one: _none_or(one.series, _moment(one).clocks[_OFFSET]))
    names.append(lambda one: _none_or(one.series, _moment(one).acquisition))
    return names


def _none_or(series: str, value: int | None) -> Hashable:
    return None if value is None else (series, value)


def _moment(one: Slice) -> Moment:
    if one.moment is None:
        raise InputError("times_missing")
    return one.moment


def _by_name(places: Places, name: Key) -> list[Frame] | None:
    """Frames by the name of their time; None where it does not tell all slices of a place apart."""
    frames: dict[Hashable, Frame] = {}
    for k, place in enumerate(places):
        for one in place:
            frame = frames.setdefault(name(one), {})
            if k in frame:
                return None
            frame[k] = one
    if None in frames or len(frames) < 2:
        return None
    # A name that few places share is of something else: of a position of the table.
    whole = sum(len(frame) == len(places) for frame in frames.values())
    return list(frames.values()) if 2 * whole >= len(frames) else None


def _by_clock(places: Places) -> list[Frame] | None:
    for clock in range(len(CLOCKS)):
        values = [[_moment(one).clocks[clock] for one in place] for place in places]
        told = [value for row in values for value in row if value is not None]
        if len(told) < sum(map(len, places)):
            continue
        unwrapped = _unwrapped(told)
        if unwrapped is None:
            continue
        numbers = iter(unwrapped)
        ordered = [sorted((next(numbers), n) for n in range(len(place))) for place in places]
        if _apart([[us for us, _ in row] for row in ordered]):
            return _ranked(places, [[n for _, n in row] for row in ordered])
    return None


def _apart(ordered: Sequence[Sequence[int]]) -> bool:
    """Whether each rank lies wholly before the next."""
    most = max(map(len, ordered))
    ranks = [[row[t] for row in ordered if len(row) > t] for t in range(most)]
    return all(max(early) < min(late) for early, late in itertools.pairwise(ranks))


def _ranked(places: Places, order: Sequence[Sequence[int]]) -> list[Frame]:
    most = max(map(len, places))
    return [
        {k: places[k][row[t]] for k, row in enumerate(order) if len(row) > t} for t in range(most)
    ]


def _by_number(places: Places) -> list[Frame] | None:
    """Frames by Instance Number, where all slices of a time or all times of a slice follow."""
    numbers = [[_number(one) for one in place] for place in places]
    if len({len(row) for row in numbers}) > 1 or any(None in row for row in numbers):
        return None
    known = [[number for number in row if number is not None] for row in numbers]
    order = [sorted(range(len(row)), key=row.__getitem__) for row in known]
    rows = [sorted(row) for row in known]
    return _ranked(places, order) if _apart(rows) or _one_after_the_other(rows) else None


def _one_after_the_other(rows: Sequence[Sequence[int]]) -> bool:
    """Whether all numbers of one place come before all of the next, at the same steps."""
    steps = {tuple(number - row[0] for number in row) for row in rows}
    by_first = sorted(rows, key=lambda row: row[0])
    apart = all(early[-1] < late[0] for early, late in itertools.pairwise(by_first))
    return len(steps) == 1 and apart


def _without_cut_end(frames: list[Frame], count: int) -> tuple[list[Frame], bool]:
    """Leave out a last frame that is not whole: the scan was stopped there."""
    whole = [frame for frame in frames if len(frame) == count]
    lacking = [frame for frame in frames if len(frame) < count]
    if not lacking:
        return frames, False
    if len(lacking) == 1 and whole and _is_last(lacking[0], whole):
        return whole, True
    missing = sum(count - len(frame) for frame in lacking)
    raise InputError("frames_missing", count=missing, times=len(frames))


def _is_last(cut: Frame, whole: Sequence[Frame]) -> bool:
    """Whether a frame comes after all others, by the first thing that tells."""
    for told in (*(_clock_of(n) for n in range(len(CLOCKS))), _position, _number):
        ours = [told(one) for one in cut.values()]
        theirs = [told(one) for frame in whole for one in frame.values()]
        known = [value for value in (*ours, *theirs) if value is not None]
        if len(known) < len(ours) + len(theirs):
            continue
        values = _unwrapped(known) if told not in (_position, _number) else known
        if values is not None and len(set(values)) > 1:
            return min(values[: len(ours)]) > max(values[len(ours) :])
    return False


def _clock_of(clock: int) -> Callable[[Slice], int | None]:
    return lambda one: _moment(one).clocks[clock]


def _position(one: Slice) -> int | None:
    return _moment(one).position


def _number(one: Slice) -> int | None:
    """Instance Number, then the number of the frame; None where there is neither."""
    if one.number is None and not one.frame:
        return None
    return (one.number or 0) * _FRAMES + one.frame


def _unwrapped(values: Sequence[int]) -> list[int] | None:
    """Times without midnight; None where they lie too far apart to be of one scan."""
    if max(values) - min(values) <= _LONGEST_US:
        return [*values]
    clock = [value % _DAY_US for value in values]
    latest = max(clock)
    moved = [value + _DAY_US if latest - value > _LONGEST_US else value for value in clock]
    return moved if max(moved) - min(moved) <= _LONGEST_US else None


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
    values = [[_moment(one).clocks[clock] for one in frame.values()] for frame in frames]
    told = [value for row in values for value in row if value is not None]
    if len(told) < sum(map(len, values)):
        return None
    unwrapped = _unwrapped(told)
    if unwrapped is None:
        return None
    numbers = iter(unwrapped)
    return [min(next(numbers) for _ in row) for row in values]


def _by_resolution(frames: Sequence[Frame], *, numbered: bool) -> list[int] | None:
    """Times at the declared distance, by temporal position, else by instance number.

    The latter not where a clock says that images were made at the same time (`numbered`): they
    may be the magnitude and the phase of one acquisition.
    """
    firsts = [next(iter(frame.values())) for frame in frames]
    steps = {_moment(one).resolution_us for one in firsts}
    (step,) = steps if len(steps) == 1 else (None,)
    if step is None or step <= 0 or len({one.series for one in firsts}) > 1:
        return None
    positions = [_moment(one).position for one in firsts]
    known = [position for position in positions if position is not None]
    if len(set(known)) == len(frames):
        return [position * step for position in known]
    if numbered:
        return None
    numbers = [min((_number(one) or 0) for one in frame.values()) for frame in frames]
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
    declared = _moment(next(iter(frames[0].values()))).positions
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
            values = [_moment(one).clocks[clock] for one in frame.values()]
            told = [value for value in values if value is not None]
            unwrapped = _unwrapped(told) if len(told) == len(values) else None
            if unwrapped is None:
                break
            widest = max(widest, max(unwrapped) - min(unwrapped))
        else:
            return widest
    return 0
