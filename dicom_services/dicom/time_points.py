"""Which slices of a dynamic series belong to one time.

The first of these that names each slice of a place differently: the number of the temporal
position (PS3.3 C.8.3.1 and C.7.6.16.2.2), the series where there are several, the offset of the
temporal position, the acquisition number. These are names: with them a slice that is lost leaves a
hole of which place and time are known. Where there is none, the slices of each place are put in
the order of the first clock that tells them apart, and the n-th of every place are one time; that
only holds where every slice of a time comes before every slice of the next one. Last, the
instance numbers: all slices of the first time, then all of the second, or all times of the first
slice, then all of the second.

A last frame that is not whole is left out, for a scan may be stopped within it; a slice that lacks
at any other time refuses the series, because a curve with a hole is no curve. A time that is lost
whole cannot be told from a pause.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from dicom_services.dicom.moment import CLOCKS, Moment
from dicom_services.dicom.slice_header import Slice
from dicom_services.errors import InputError

Places = Sequence[Sequence[Slice]]
"""[k]: the slices at one place, in any order."""
Frame = dict[int, Slice]
"""Slices of one time by place."""
Key = Callable[[Slice], Hashable]

_OFFSET: Final = CLOCKS.index("offset")
_DAY_US: Final = 86_400_000_000
_LONGEST_US: Final = _DAY_US // 2
"""No dynamic lasts twelve hours: times of a day that lie further apart went past midnight."""
_FRAMES: Final = 1 << 20
"""More than a file has frames."""


def times_told(places: Places) -> int:
    """How many times names or clocks tell apart; 1 where nothing says that there are several."""
    for name in _names(places):
        frames = _by_name(places, name)
        if frames is not None:
            return len(frames)
    return len(_by_clock(places) or [()])


def grouped(places: Places) -> list[Frame]:
    """Slices by time and place, times in any order; some may lack slices.

    Raises
    ------
    InputError
        `frames_missing` with the number of slices that lack somewhere, `times_repeat` where
        neither names, clocks nor numbers tell the slices of a place apart.
    """
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
    names: list[Key] = [lambda one: _none_or(one.series, moment_of(one).position)]
    if several:
        names.append(lambda one: one.series)
    names.append(lambda one: _none_or(one.series, moment_of(one).clocks[_OFFSET]))
    names.append(lambda one: _none_or(one.series, moment_of(one).acquisition))
    return names


def _none_or(series: str, value: int | None) -> Hashable:
    return None if value is None else (series, value)


def moment_of(one: Slice) -> Moment:
    """What a slice tells of its time."""
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
        values = [[moment_of(one).clocks[clock] for one in place] for place in places]
        told = [value for row in values for value in row if value is not None]
        if len(told) < sum(map(len, places)):
            continue
        moved = unwrapped(told)
        if moved is None:
            continue
        numbers = iter(moved)
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
    numbers = [[number_of(one) for one in place] for place in places]
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


def without_cut_end(frames: list[Frame], count: int) -> tuple[list[Frame], bool]:
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
    for told in (*(_clock_of(n) for n in range(len(CLOCKS))), _position, number_of):
        ours = [told(one) for one in cut.values()]
        theirs = [told(one) for frame in whole for one in frame.values()]
        known = [value for value in (*ours, *theirs) if value is not None]
        if len(known) < len(ours) + len(theirs):
            continue
        values = unwrapped(known) if told not in (_position, number_of) else known
        if values is not None and len(set(values)) > 1:
            return min(values[: len(ours)]) > max(values[len(ours) :])
    return False


def _clock_of(clock: int) -> Callable[[Slice], int | None]:
    return lambda one: moment_of(one).clocks[clock]


def _position(one: Slice) -> int | None:
    return moment_of(one).position


def number_of(one: Slice) -> int | None:
    """Instance Number, then the number of the frame; None where there is neither."""
    if one.number is None and not one.frame:
        return None
    return (one.number or 0) * _FRAMES + one.frame


def unwrapped(values: Sequence[int]) -> list[int] | None:
    """Times without midnight; None where they lie too far apart to be of one scan."""
    if max(values) - min(values) <= _LONGEST_US:
        return [*values]
    clock = [value % _DAY_US for value in values]
    latest = max(clock)
    moved = [value + _DAY_US if latest - value > _LONGEST_US else value for value in clock]
    return moved if max(moved) - min(moved) <= _LONGEST_US else None
