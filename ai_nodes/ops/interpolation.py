"""Reads a grid at the places of another one: nearest, linear and cubic B-spline kernels.

A voxel owns its cell: a place counts as inside up to half a step beyond the outermost centres, and
is read there as the edge (linear) or the mirrored grid (cubic), as ITK does. All kernels take the
matrix and offset that bring an index of the new grid to one of the old; any affine will do.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

Affine = NDArray[np.float64]

SLACK: Final = 1e-9
"""Steps by which rounding may put a place beyond its cell."""


def nearest(values: NDArray[Any], matrix: Affine, offset: Affine, out: NDArray[Any]) -> None:
    """Write the nearest voxel's value into the part of `out` (k, j, i) that lies inside."""
    word = np.dtype(f"u{values.dtype.itemsize}")
    _nearest(_ready(values).view(word), matrix, offset, out.view(word))


def linear(values: NDArray[Any], matrix: Affine, offset: Affine, out: NDArray[Any]) -> None:
    """Write trilinear values; one that is not a number counts only where it has weight."""
    kept = values if values.dtype in (np.int16, np.float32, np.float64) else values.astype("f4")
    _linear(_ready(kept), matrix, offset, out)


def cubic(values: NDArray[Any], matrix: Affine, offset: Affine, out: NDArray[Any]) -> None:
    """Write cubic B-spline values, undefined (NaN) where `linear` would be."""
    undefined = np.isnan(values) if values.dtype.kind == "f" else np.zeros(0, np.bool_)
    if undefined.size and undefined.all():
        linear(values, matrix, offset, out)
        return
    if undefined.any():
        nearest_defined = ndimage.distance_transform_edt(
            undefined, return_distances=False, return_indices=True
        )
        linear(np.where(undefined, np.float32("nan"), np.float32(0.0)), matrix, offset, out)
        blank = np.isnan(out)
        values = values[tuple(nearest_defined)]
    weights = ndimage.spline_filter(values, order=3, output=np.float64, mode="mirror")
    _cubic(_ready(weights), matrix, offset, out)
    if undefined.any():
        out[blank] = np.nan


def _ready(values: NDArray[Any]) -> NDArray[Any]:
    """C-contiguous, native and read-only, so that each kernel is compiled for one kind of array."""
    view = np.ascontiguousarray(values, values.dtype.newbyteorder("=")).view()
    view.flags.writeable = False
    return view


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _inside(at: Any, step: Any, size: Any, first: Any, last: Any) -> Any:
    """The part of first..last - 1 for which -0.5 <= at + step * i < size - 0.5."""
    low, high = -0.5 - SLACK, size - 0.5 + SLACK
    while first < last and not low <= at + step * first < high:
        gap = (low if step > 0.0 else high) - at - step * first
        jump = int(gap / step) if step != 0.0 else last - first
        first += max(1, min(jump, last - first))
    while first < last and not low <= at + step * (last - 1) < high:
        gap = at + step * (last - 1) - (high if step > 0.0 else low)
        jump = int(gap / step) if step != 0.0 else last - first
        last -= max(1, min(jump, last - first))
    return first, last


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _row(matrix: Any, offset: Any, k: Any, j: Any, shape: Any, columns: Any) -> Any:
    """Where the row (k, j) begins in the old grid, and its first and last column inside."""
    first, last = 0, columns
    z = offset[0] + matrix[0, 0] * k + matrix[0, 1] * j
    y = offset[1] + matrix[1, 0] * k + matrix[1, 1] * j
    x = offset[2] + matrix[2, 0] * k + matrix[2, 1] * j
    first, last = _inside(z, matrix[0, 2], shape[0], first, last)
    first, last = _inside(y, matrix[1, 2], shape[1], first, last)
    first, last = _inside(x, matrix[2, 2], shape[2], first, last)
    return z, y, x, first, last


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _cell(at: Any, size: Any) -> Any:
    """The two neighbours of a place along one axis, and the weight of the second."""
    if at <= 0.0:
        return 0, 0, 0.0
    low = int(at)
    part = at - low
    if low >= size - 1:
        return size - 1, size - 1, 0.0
    return low, low + 1 if part > 0.0 else low, part


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _nearest(values: Any, matrix: Any, offset: Any, out: Any) -> None:
    sizes = values.shape
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            z, y, x, first, last = _row(matrix, offset, k, j, sizes, out.shape[2])
            for i in range(first, last):
                # Inside is -0.5 and above, so that cutting off is rounding half up.
                a = min(int(z + matrix[0, 2] * i + 0.5), sizes[0] - 1)
                b = min(int(y + matrix[1, 2] * i + 0.5), sizes[1] - 1)
                c = min(int(x + matrix[2, 2] * i + 0.5), sizes[2] - 1)
                out[k, j, i] = values[a, b, c]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _linear(values: Any, matrix: Any, offset: Any, out: Any) -> None:
    sizes = values.shape
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            z, y, x, first, last = _row(matrix, offset, k, j, sizes, out.shape[2])
            for i in range(first, last):
                a, d, u = _cell(z + matrix[0, 2] * i, sizes[0])
                b, e, v = _cell(y + matrix[1, 2] * i, sizes[1])
                c, f, w = _cell(x + matrix[2, 2] * i, sizes[2])
                near = values[a, b, c] + w * (values[a, b, f] - values[a, b, c])
                low = values[a, e, c] + w * (values[a, e, f] - values[a, e, c])
                near += v * (low - near)
                far = values[d, b, c] + w * (values[d, b, f] - values[d, b, c])
                low = values[d, e, c] + w * (values[d, e, f] - values[d, e, c])
                far += v * (low - far)
                out[k, j, i] = near + u * (far - near)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _spline(at: Any, size: Any, places: Any, weights: Any) -> None:
    """The four neighbours of a place along one axis, mirrored at the ends, and their weights."""
    low = int(at + 1.0) - 1
    t = at - low
    period = max(1, 2 * (size - 1))
    for n in range(4):
        place = abs(low - 1 + n) % period
        places[n] = min(place, period - place) if size > 1 else 0
    weights[0] = (1.0 - t) ** 3 / 6.0
    weights[1] = 2.0 / 3.0 - t * t * (2.0 - t) / 2.0
    weights[2] = 2.0 / 3.0 - (1.0 - t) * (1.0 - t) * (1.0 + t) / 2.0
    weights[3] = t * t * t / 6.0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _cubic(values: Any, matrix: Any, offset: Any, out: Any) -> None:
    sizes = values.shape
    a, b, c = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4, np.int64)
    u, v, w = np.empty(4), np.empty(4), np.empty(4)
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            z, y, x, first, last = _row(matrix, offset, k, j, sizes, out.shape[2])
            for i in range(first, last):
                _spline(z + matrix[0, 2] * i, sizes[0], a, u)
                _spline(y + matrix[1, 2] * i, sizes[1], b, v)
                _spline(x + matrix[2, 2] * i, sizes[2], c, w)
                total = 0.0
                for n in range(4):
                    for m in range(4):
                        line = values[a[n], b[m]]
                        part = line[c[0]] * w[0] + line[c[1]] * w[1]
                        part += line[c[2]] * w[2] + line[c[3]] * w[3]
                        total += u[n] * v[m] * part
                out[k, j, i] = total
