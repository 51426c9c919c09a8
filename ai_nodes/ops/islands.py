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
        peak=floats[:, 0],
        total=floats[:, 1],
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
        # No int16 reaches a threshold above 32767; the row of highest values would at that.
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
def _join(parent: Any, a: Any, b: Any) -> None:
    a, b = _root(parent, a), _root(parent, b)
    if a < b:
        parent[b] = a
    elif b < a:
        parent[a] = b


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
def _peak_and_total(part: Any, zero: Any) -> Any:
    """Highest value and sum of a run, in the wide type of `zero`."""
    peak, total = zero + part[0], zero
    for i in range(part.shape[0]):
        peak = max(peak, part[i])
        total += part[i]
    return peak, total


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _join_row(parent: Any, edges: Any, a: Any, a_end: Any, b_end: Any) -> None:
    """Join runs a..a_end of one row with runs a_end..b_end of the next that touch them."""
    b = a_end
    while a < a_end and b < b_end:
        a_stop, b_stop = edges[2 * a + 1], edges[2 * b + 1]
        if a_stop >= edges[2 * b] and b_stop >= edges[2 * a]:
            _join(parent, a, b)
        if a_stop <= b_stop:
            a += 1
        else:
            b += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _join_slices(parent: Any, old: Any, a: Any, a_end: Any, new: Any, b: Any, b_end: Any) -> None:
    """Join islands whose runs touch in two rows; runs are (start, stop, island)."""
    last_a, last_b = np.int64(-1), np.int64(-1)
    while a < a_end and b < b_end:
        a_stop, b_stop = old[a, 1], new[b, 1]
        touch = a_stop >= new[b, 0] and b_stop >= old[a, 0]
        if touch and (old[a, 2] != last_a or new[b, 2] != last_b):
            last_a, last_b = old[a, 2], new[b, 2]
            _join(parent, last_a, last_b)
        if a_stop <= b_stop:
            a += 1
        else:
            b += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _islands(
    values: Any, low: Any, zero: Any, region: Any, least_px: Any, wanted: Any, mask: Any
) -> tuple[Any, Any, Any]:
    """Table of islands of at least `least_px` pixels; paints them into `mask` where it has room.

    Run r of the slice at hand is `edges[2 r]` .. `edges[2 r + 1]`; row j holds the runs
    `rows[j]` .. `rows[j + 1]`. Runs of kept islands go on to `new`, by row in `new_rows`, and
    from there to `old`, to join islands across slices.
    """
    depth, height, width = values.shape
    masked = region.shape[0] > 0
    painted = mask.shape[0] > 0
    flags = np.zeros(BLOCK, np.uint8)
    words = flags.view(np.uint64)
    room = height * (width // 2 + 1)
    edges = np.empty(2 * room + 1, np.int32)
    parent, area, names = (
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
    )
    peaks, totals = np.empty(room, np.float64), np.empty(room, np.float64)
    rows = np.zeros(height + 1, np.int64)
    old, new = np.empty((room, 3), np.int64), np.empty((room, 3), np.int64)
    old_rows, new_rows = np.zeros(height + 1, np.int64), np.zeros(height + 1, np.int64)
    table, sums = np.empty((64, 6), np.int64), np.empty((64, 4), np.float64)
    joined = np.empty(64, np.int64)
    count, before = 0, 0
    for k in range(depth):
        n = 0
        for j in range(height):
            rows[j] = n
            if masked and not _any(region[k, j]):
                continue
            if not _bright(values[k, j], low):
                continue
            inside = region[k, j] if masked else wanted
            end = _edges_of_row(values[k, j], inside, masked, low, 2 * n, edges, flags, words) // 2
            for run in range(n, end):
                parent[run] = run
                part = values[k, j, edges[2 * run] : edges[2 * run + 1]]
                peaks[run], totals[run] = _peak_and_total(part, zero)
            if j > 0:
                _join_row(parent, edges, rows[j - 1], n, end)
            n = end
        rows[height] = n
        kept = 0
        for run in range(n):
            root = parent[parent[run]]
            parent[run] = root
            length = edges[2 * run + 1] - edges[2 * run]
            area[run] = 0
            area[root] += length
        for j in range(height if n > 0 else 0):
            new_rows[j] = kept
            for run in range(rows[j], rows[j + 1]):
                root = parent[run]
                if area[root] < least_px:
                    continue
                start, stop = edges[2 * run], edges[2 * run + 1]
                if root == run:
                    if count == joined.shape[0]:
                        table, sums = _wider(table, count + 1), _wider(sums, count + 1)
                        joined = _longer(joined, count + 1)
                    joined[count] = count
                    table[count, 0], table[count, 1] = k, area[run]
                    table[count, 2], table[count, 3] = j, j
                    table[count, 4], table[count, 5] = start, stop - 1
                    sums[count, 0] = peaks[run]
                    sums[count, 1], sums[count, 2], sums[count, 3] = 0.0, 0.0, 0.0
                    names[run] = count
                    count += 1
                island = names[root]
                length = stop - start
                table[island, 3] = j
                table[island, 4] = min(table[island, 4], start)
                table[island, 5] = max(table[island, 5], stop - 1)
                sums[island, 0] = max(sums[island, 0], peaks[run])
                sums[island, 1] += totals[run]
                sums[island, 2] += length * j
                sums[island, 3] += 0.5 * length * (start + stop - 1)
                new[kept, 0], new[kept, 1], new[kept, 2] = start, stop, island
                kept += 1
                if painted and (wanted.shape[0] == 0 or wanted[island]):
                    mask[k, j, start:stop] = True
        new_rows[height] = kept
        if kept > 0 and before > 0:
            for j in range(height):
                if new_rows[j] == new_rows[j + 1]:
                    continue
                for near in range(max(j - 1, 0), min(j + 2, height)):
                    if old_rows[near] < old_rows[near + 1]:
                        _join_slices(
                            joined,
                            old,
                            old_rows[near],
                            old_rows[near + 1],
                            new,
                            new_rows[j],
                            new_rows[j + 1],
                        )
        before = kept
        old, new = new, old
        old_rows, new_rows = new_rows, old_rows
    groups = np.empty(count, np.int64)
    group = 0
    for island in range(count):
        root = _root(joined, island)
        if root == island:
            groups[island] = group
            group += 1
        else:
            groups[island] = groups[root]
    return table[:count].copy(), sums[:count].copy(), groups
