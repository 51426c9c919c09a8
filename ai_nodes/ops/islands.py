"""Islands of bright pixels: 8-connected within each slice, grouped from slice to slice.

One pass over the volume, row by row. A row without a bright pixel costs one vectorised look; in
the others runs of bright pixels are joined to those of the row above by union-find, and runs of
kept islands to those of the slice before. Nothing as large as the volume is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dicom_services.errors import InputError

BLOCK: Final = 64
"""Pixels that are looked at together before single ones are."""

MANY_PAIRS: Final = 4096
"""Pairs of islands in neighbouring slices up to which each pair is looked at by itself."""

_NO_REGION: Final = np.zeros((0, 0, 0), np.bool_)
_ALL: Final = np.zeros(0, np.bool_)
_NONE: Final = np.uint64(0)
_EIGHT: Final = np.uint64(0x0101010101010101)


@dataclass(frozen=True, slots=True, eq=False)
class Islands:
    """Bright pixels that touch within a slice; all arrays have one entry for each island.

    Parameters
    ----------
    k : (n,) int64
        Slice; islands come in the order of slices, then of their first pixel.
    area_px : (n,) int64
    peak : (n,) float64
        Highest value.
    total : (n,) float64
        Sum of values.
    row, column : (n,) float64
        Centroid.
    box : (n, 4) int64
        First and last row, first and last column.
    group : (n,) int64
        Islands with the same number touch from slice to slice (26-connected); 0, 1, ...
    """

    k: NDArray[np.int64]
    area_px: NDArray[np.int64]
    peak: NDArray[np.float64]
    total: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    box: NDArray[np.int64]
    group: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many islands there are."""
        return int(self.k.size)


def find_islands(
    values: NDArray[Any],
    low: float,
    *,
    least_px: int = 1,
    region: NDArray[np.bool_] | None = None,
) -> Islands:
    """Islands of at least `least_px` pixels with values of at least `low`.

    Parameters
    ----------
    values : (k, j, i)
        int16 and float32 are read in place where C-contiguous. Floats are compared as they are,
        never rounded; NaN is never bright, and infinity counts as 32767.
    region : (k, j, i) bool or None
        Pixels outside of it are not bright.

    Raises
    ------
    InputError
        `region_grid` when values and region have different shapes.
    """
    numbers, floats, groups = _islands(
        *_ready(values, low, region), max(1, int(least_px)), _ALL, _no_mask()
    )
    area = numbers[:, 1]
    return Islands(
        k=numbers[:, 0],
        area_px=area,
        peak=np.minimum(floats[:, 0], 32767.0),
        total=np.minimum(floats[:, 1], 32767.0 * area),
        row=floats[:, 2] / area,
        column=floats[:, 3] / area,
        box=numbers[:, 2:6],
        group=groups,
    )


def islands_mask(
    values: NDArray[Any],
    low: float,
    *,
    least_px: int = 1,
    region: NDArray[np.bool_] | None = None,
    wanted: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """(k, j, i) bool: the pixels of the islands that `find_islands` finds.

    Parameters
    ----------
    wanted : (n,) bool or None
        Which of them, in the order of `Islands`; None for all.
    """
    mask = np.zeros(values.shape, np.bool_)
    chosen = _ALL if wanted is None else np.ascontiguousarray(wanted, np.bool_)
    if wanted is None or chosen.any():
        _islands(*_ready(values, low, region), max(1, int(least_px)), chosen, mask)
    return mask


def warm() -> None:
    """Compile, or load from numba's cache, what the first job would have to wait for."""
    for dtype in (np.int16, np.float32):
        values = np.zeros((2, 3, 3), dtype)
        find_islands(values, 1.0)
        islands_mask(values, 1.0, region=np.ones(values.shape, np.bool_))


def _ready(
    values: NDArray[Any], low: float, region: NDArray[np.bool_] | None
) -> tuple[NDArray[Any], Any, Any, NDArray[np.bool_]]:
    """Values, threshold and region in the few types the kernel is compiled for."""
    if values.ndim != 3 or (region is not None and region.shape != values.shape):
        raise InputError("region_grid")
    plain = _plain(values)
    if plain.dtype == np.int16:
        # Clipped to its type, a threshold that no int16 reaches would be reached by the highest.
        if low > 32767:
            plain, region = plain[:0], None
        threshold: Any = np.int16(min(max(np.ceil(low), -32768), 32767))
    else:
        threshold = np.float32(low)
    chosen = _NO_REGION if region is None else np.ascontiguousarray(region, np.bool_)
    zero: Any = np.int64(0) if plain.dtype == np.int16 else np.float64(0.0)
    return _read_only(plain), threshold, zero, _read_only(chosen)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype in (np.int16, np.float32) and values.dtype.isnative:
        return np.ascontiguousarray(values)
    if np.issubdtype(values.dtype, np.floating):
        return np.ascontiguousarray(values, np.float32)
    return np.ascontiguousarray(np.clip(values, -32768, 32767), np.int16)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that numba sees as read-only always, so that there is one type, not two."""
    view = array.view()
    view.flags.writeable = False
    return view


def _no_mask() -> NDArray[np.bool_]:
    return np.zeros((0, 0, 0), np.bool_)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _bright(row: Any, low: Any) -> Any:
    """Whether any value reaches `low`; a plain reduction, so that it is vectorised."""
    found = False
    for i in range(row.shape[0]):
        found |= row[i] >= low
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _any(row: Any) -> Any:
    found = False
    for i in range(row.shape[0]):
        found |= row[i]
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _root(parent: Any, n: Any) -> Any:
    """The first of the set that `n` is in; halves the way there for the next time."""
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _join(parent: Any, a: Any, b: Any) -> Any:
    """Make the sets of `a` and `b` one; whether they were two."""
    a, b = _root(parent, a), _root(parent, b)
    if a < b:
        parent[b] = a
    else:
        parent[a] = b
    return a != b


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _longer(array: Any, least: Any) -> Any:
    """The array with room for `least` entries, twice as much as before at a time."""
    size = array.shape[0]
    if size >= least:
        return array
    while size < least:
        size *= 2
    longer = np.empty(size, array.dtype)
    longer[: array.shape[0]] = array
    return longer


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _wider(table: Any, least: Any) -> Any:
    """As `_longer`, for a table with columns."""
    size = table.shape[0]
    if size >= least:
        return table
    while size < least:
        size *= 2
    wider = np.empty((size, table.shape[1]), table.dtype)
    wider[: table.shape[0]] = table
    return wider


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _edges_of_row(
    row: Any, inside: Any, masked: Any, low: Any, n: Any, edges: Any, flags: Any, words: Any
) -> Any:
    """Append where runs of bright pixels start and stop in one row; the new number of entries.

    `flags` (BLOCK,) uint8 and `words`, the same bytes as uint64, are scratch. Eight pixels that
    go on as the one before are passed over at once; the others without a branch for each.
    """
    width = row.shape[0]
    in_run = np.uint8(0)
    for first in range(0, width, BLOCK):
        part = row[first : first + BLOCK]
        size = part.shape[0]
        some = np.uint8(0)
        for i in range(size):
            flags[i] = part[i] >= low
            some |= flags[i]
        if not some and not in_run:
            continue
        if masked:
            chosen = inside[first : first + BLOCK]
            for i in range(size):
                flags[i] &= chosen[i]
        for i in range(size, BLOCK):
            flags[i] = 0
        for word in range(BLOCK // 8):
            if words[word] == (_EIGHT if in_run else _NONE):
                continue
            for i in range(8 * word, 8 * word + 8):
                edges[n] = first + i
                n += np.int64(flags[i] != in_run)
                in_run = flags[i]
    if in_run:
        edges[n] = width
        n += 1
    return n


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _runs_of_slice(
    k: Any,
    values: Any,
    low: Any,
    zero: Any,
    region: Any,
    rows: Any,
    edges: Any,
    runs: Any,
    sums: Any,
) -> Any:
    """Find the runs of one slice and join those that touch; how many there are.

    Fills `edges` (2 for each run), `rows` (first run of each row), `runs` (parent, area of what
    the run belongs to) and `sums` (peak, total).
    """
    height = values.shape[1]
    masked = region.shape[0] > 0
    everywhere = np.ones(0, np.bool_)
    flags = np.zeros(BLOCK, np.uint8)
    words = flags.view(np.uint64)
    n = 0
    for j in range(height):
        rows[j] = n
        line = values[k, j]
        inside = region[k, j] if masked else everywhere
        if (masked and not _any(inside)) or not _bright(line, low):
            continue
        end = _edges_of_row(line, inside, masked, low, 2 * n, edges, flags, words) // 2
        for run in range(n, end):
            runs[run, 0] = run
            runs[run, 1] = 0
            peak, total = zero + low, zero
            for i in range(np.uint64(edges[2 * run]), np.uint64(edges[2 * run + 1])):
                peak = max(peak, line[i])
                total += line[i]
            sums[run, 0], sums[run, 1] = peak, total
        if j > 0:
            _join_rows(runs, edges, rows[j - 1], n, end)
        n = end
    rows[height] = n
    return n


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _join_rows(runs: Any, edges: Any, a: Any, a_end: Any, b_end: Any) -> None:
    """Join runs a..a_end of one row with runs a_end..b_end of the next that touch them."""
    b = a_end
    while a < a_end and b < b_end:
        a_stop, b_stop = edges[2 * a + 1], edges[2 * b + 1]
        if a_stop >= edges[2 * b] and b_stop >= edges[2 * a]:
            _join(runs[:, 0], a, b)
        if a_stop <= b_stop:
            a += 1
        else:
            b += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _settle(n: Any, edges: Any, runs: Any, least_px: Any) -> Any:
    """Point every run at the first of its island and add up areas there; islands to keep."""
    for run in range(n):
        # Parents come before their children, so theirs is settled already.
        root = runs[runs[run, 0], 0]
        runs[run, 0] = root
        runs[root, 1] += edges[2 * run + 1] - edges[2 * run]
    kept = 0
    for run in range(n):
        kept += runs[run, 0] == run and runs[run, 1] >= least_px
    return kept


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _keep(
    k: Any,
    count: Any,
    rows: Any,
    edges: Any,
    runs: Any,
    sums: Any,
    least_px: Any,
    table: Any,
    totals: Any,
    new: Any,
    new_rows: Any,
) -> None:
    """Add the islands that are large enough to the table, and their runs to `new`."""
    kept = 0
    for j in range(rows.shape[0] - 1):
        new_rows[j] = kept
        for run in range(rows[j], rows[j + 1]):
            root = runs[run, 0]
            area = runs[root, 1]
            # A kept island's number replaces its area, as -1 - number.
            if 0 <= area < least_px:
                continue
            start, stop = np.int64(edges[2 * run]), np.int64(edges[2 * run + 1])
            if area >= 0:
                island = count
                count += 1
                runs[root, 1] = -1 - island
                table[island, 0], table[island, 1] = k, area
                table[island, 2], table[island, 4], table[island, 5] = j, start, stop - 1
                totals[island, 0], totals[island, 1] = sums[run, 0], 0.0
                totals[island, 2], totals[island, 3] = 0.0, 0.0
            else:
                island = -1 - area
            length = stop - start
            table[island, 3] = j
            table[island, 4] = min(table[island, 4], start)
            table[island, 5] = max(table[island, 5], stop - 1)
            totals[island, 0] = max(totals[island, 0], sums[run, 0])
            totals[island, 1] += sums[run, 1]
            totals[island, 2] += length * j
            totals[island, 3] += 0.5 * (length * (start + stop - 1))
            new[kept, 0], new[kept, 1], new[kept, 2] = start, stop, island
            kept += 1
    new_rows[rows.shape[0] - 1] = kept


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _may_touch(table: Any, joined: Any, b: Any, first: Any, last: Any) -> Any:
    """Whether an island of first..last is near island `b` and not yet joined with it."""
    root = _root(joined, b)
    for a in range(first, last):
        near = (
            table[a, 2] <= table[b, 3] + 1
            and table[b, 2] <= table[a, 3] + 1
            and table[a, 4] <= table[b, 5] + 1
            and table[b, 4] <= table[a, 5] + 1
        )
        if near and _root(joined, a) != root:
            return True
    return False


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _join_slices(
    table: Any,
    joined: Any,
    before: Any,
    first: Any,
    last: Any,
    old: Any,
    old_rows: Any,
    new: Any,
    new_rows: Any,
) -> None:
    """Join islands first..last of a slice with before..first of the slice before.

    Rows are passed over where no island can touch another one that it is not joined with yet;
    looking for those costs islands times islands, so it is left where there are many.
    """
    few = (first - before) * (last - first) <= MANY_PAIRS
    open_islands = np.ones(last - first, np.bool_)
    if few:
        for b in range(first, last):
            open_islands[b - first] = _may_touch(table, joined, b, before, first)
    height = new_rows.shape[0] - 1
    for j in range(height):
        begin, end = new_rows[j], new_rows[j + 1]
        some = False
        for run in range(begin, end):
            some |= open_islands[new[run, 2] - first]
        if not some:
            continue
        for near in range(max(j - 1, 0), min(j + 2, height)):
            a, a_end, b = old_rows[near], old_rows[near + 1], begin
            while a < a_end and b < end:
                if old[a, 1] >= new[b, 0] and new[b, 1] >= old[a, 0]:
                    island = new[b, 2]
                    if open_islands[island - first] and _join(joined, old[a, 2], island) and few:
                        open_islands[island - first] = _may_touch(
                            table, joined, island, before, first
                        )
                if old[a, 1] <= new[b, 1]:
                    a += 1
                else:
                    b += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _islands(
    values: Any, low: Any, zero: Any, region: Any, least_px: Any, wanted: Any, mask: Any
) -> tuple[Any, Any, Any]:
    """Table of islands of at least `least_px` pixels; paints them into `mask` where it has room.

    Run r of the slice at hand is `edges[2 r]` .. `edges[2 r + 1]`; row j holds the runs
    `rows[j]` .. `rows[j + 1]`. Runs of kept islands go on to `new` as (start, stop, island), by
    row in `new_rows`, and from there to `old`, to be joined with the next slice.
    """
    depth, height, width = values.shape
    room = height * (width // 2 + 1)
    rows = np.zeros(height + 1, np.int64)
    edges = np.empty(2 * room + 1, np.int32)
    runs, sums = np.empty((room, 2), np.int64), np.empty((room, 2), np.float64)
    old, new = np.empty((room, 3), np.int64), np.empty((room, 3), np.int64)
    old_rows, new_rows = np.zeros(height + 1, np.int64), np.zeros(height + 1, np.int64)
    table, totals = np.empty((64, 6), np.int64), np.empty((64, 4), np.float64)
    joined = np.empty(64, np.int64)
    before, first, last = 0, 0, 0
    for k in range(depth):
        n = _runs_of_slice(k, values, low, zero, region, rows, edges, runs, sums)
        before, first, last = first, last, last + _settle(n, edges, runs, least_px)
        if last == first:
            continue
        table, totals, joined = _wider(table, last), _wider(totals, last), _longer(joined, last)
        for island in range(first, last):
            joined[island] = island
        _keep(k, first, rows, edges, runs, sums, least_px, table, totals, new, new_rows)
        if first > before:
            _join_slices(table, joined, before, first, last, old, old_rows, new, new_rows)
        if mask.shape[0] > 0:
            _paint(mask[k], wanted, new, new_rows)
        old, new = new, old
        old_rows, new_rows = new_rows, old_rows
    return table[:last].copy(), totals[:last].copy(), _numbered(joined, last)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _paint(plane: Any, wanted: Any, new: Any, new_rows: Any) -> None:
    """Mark the runs of a slice whose islands are wanted; all of them when `wanted` is empty."""
    for j in range(plane.shape[0]):
        for run in range(new_rows[j], new_rows[j + 1]):
            if wanted.shape[0] == 0 or wanted[new[run, 2]]:
                plane[j, new[run, 0] : new[run, 1]] = True


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _numbered(joined: Any, count: Any) -> Any:
    """Joined islands under one number: 0, 1, ... in the order of their first."""
    groups = np.empty(count, np.int64)
    group = 0
    for island in range(count):
        root = _root(joined, island)
        if root == island:
            groups[island] = group
            group += 1
        else:
            groups[island] = groups[root]
    return groups
