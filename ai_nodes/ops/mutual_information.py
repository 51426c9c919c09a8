"""Mutual information of two volumes under a rigid motion, with its gradient.

Mattes' estimate: the fixed volume's values fall into bins, the moving ones are spread over four
bins by a cubic B-spline, so that the sum has a derivative. Places are drawn once, off the grid, so
that neither grid favours a motion that lays voxels on voxels.

References
----------
Mattes D et al. IEEE Trans Med Imaging 2003;22:120-128, section II.C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

BINS: Final = 32
OUTLIERS_PERCENT: Final = 0.1
"""Of the darkest and of the brightest voxels share the outermost bins."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What a motion is judged by.

    Parameters
    ----------
    offsets_mm : (n, 3) float64
        Places in the fixed volume, from `center_mm`.
    bins : (n,) int64
        Of the fixed values there.
    center_mm : (3,) float64
        What a rotation turns about.
    moving : (k, j, i) float32
    to_index : (4, 4) float64
        LPS mm to the index of `moving`.
    window : (low, high)
        Moving values that fall into the innermost and outermost bins.
    """

    offsets_mm: NDArray[np.float64]
    bins: NDArray[np.int64]
    center_mm: NDArray[np.float64]
    moving: NDArray[np.float32]
    to_index: NDArray[np.float64]
    window: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Information:
    """In nats; its derivative by the three rotations (per radian) and shifts (per mm)."""

    nats: float
    gradient: NDArray[np.float64]
    inside: float


def window(values: NDArray[np.float32]) -> tuple[float, float]:
    """The range of values but for outliers; never empty."""
    part = values.ravel()[:: max(1, values.size // 200_000)]
    low, high = np.percentile(part, (OUTLIERS_PERCENT, 100.0 - OUTLIERS_PERCENT))
    return float(low), float(max(high, low + 1e-6))


def fixed_bins(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.int64]:
    """(n,) which of the bins each value falls into."""
    low, high = limits
    return np.clip((values - low) / (high - low) * BINS, 0, BINS - 1).astype(np.int64)


def read_at(volume: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) values at indices (n, 3), at the edge's value beyond it."""
    out = np.empty(len(places))
    _read(_read_only(volume), places, out)
    return out


def _read_only(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """The kind of array the kernels are compiled for; a volume's own values are read-only."""
    view = volume.view()
    view.flags.writeable = False
    return view


def information(samples: Samples, motion: NDArray[np.float64]) -> Information:
    """Of the fixed volume and the moving one at where `motion` brings each place.

    Parameters
    ----------
    motion : (6,)
        Rotation vector in radians about the centre, then shift in mm: fixed to moving.
    """
    turn = Rotation.from_rotvec(motion[:3]).as_matrix()
    index = np.ascontiguousarray(samples.to_index[:3, :3])
    start = index @ (samples.center_mm + motion[3:]) + samples.to_index[:3, 3]
    count = len(samples.bins)
    position, slope = np.empty(count), np.empty((count, 3))
    joint = np.zeros((BINS, BINS))
    _count(samples, turn, index, start, position, slope, joint)
    total = joint.sum()
    if total <= 0.0:
        return Information(0.0, np.zeros(6), 0.0)
    joint /= total
    each, other = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        nats = np.nansum(joint * np.log(joint / (each * other)))
        worth = np.where(joint > 0.0, np.log(joint / other), 0.0)
    force, torque = np.zeros(3), np.zeros(3)
    _pull(samples.offsets_mm, samples.bins, turn, position, slope, worth, force, torque)
    gradient = np.concatenate([_left_jacobian(motion[:3]).T @ torque, force]) / total
    return Information(float(nats), gradient, float(np.isfinite(position).mean()))


def _left_jacobian(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) how a turn changes with its rotation vector."""
    angle = float(np.linalg.norm(rotation))
    x, y, z = rotation
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-6:
        return np.asarray(np.eye(3) + 0.5 * cross)
    first, second = (1.0 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.asarray(np.eye(3) + first * cross + second * cross @ cross)


def _count(
    samples: Samples,
    turn: NDArray[np.float64],
    index: NDArray[np.float64],
    start: NDArray[np.float64],
    position: NDArray[np.float64],
    slope: NDArray[np.float64],
    joint: NDArray[np.float64],
) -> None:
    low, high = samples.window
    per_bin = (BINS - 5) / (high - low)
    both = np.ascontiguousarray(index @ turn)
    moving = _read_only(samples.moving)
    _spread(
        samples.offsets_mm, samples.bins, both, start, moving, low, per_bin, position, slope, joint
    )
    slope @= index


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _corner(at: Any, size: Any) -> Any:
    """The lower neighbour along an axis, the step to the upper one and the part of the way."""
    low = min(max(int(np.floor(at)), 0), max(size - 2, 0))
    return low, 1 if size > 1 else 0, min(max(at - low, 0.0), 1.0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _cell(volume: Any, z: Any, y: Any, x: Any) -> Any:
    """The trilinear value at an index and its slope along each axis."""
    k, dk, u = _corner(z, volume.shape[0])
    j, dj, v = _corner(y, volume.shape[1])
    i, di, w = _corner(x, volume.shape[2])
    a, b = volume[k, j, i], volume[k, j, i + di]
    c, d = volume[k, j + dj, i], volume[k, j + dj, i + di]
    e, f = volume[k + dk, j, i], volume[k + dk, j, i + di]
    g, h = volume[k + dk, j + dj, i], volume[k + dk, j + dj, i + di]
    ab, cd, ef, gh = a + w * (b - a), c + w * (d - c), e + w * (f - e), g + w * (h - g)
    near, far = ab + v * (cd - ab), ef + v * (gh - ef)
    along_j = (1.0 - u) * (cd - ab) + u * (gh - ef)
    along_i = (1.0 - u) * ((1.0 - v) * (b - a) + v * (d - c))
    along_i += u * ((1.0 - v) * (f - e) + v * (h - g))
    return near + u * (far - near), far - near, along_j, along_i


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _read(volume: Any, places: Any, out: Any) -> None:
    for n in range(places.shape[0]):
        out[n] = _cell(volume, places[n, 0], places[n, 1], places[n, 2])[0]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _spread(
    offsets: Any, bins: Any, matrix: Any, start: Any, moving: Any, low: Any, per_bin: Any,
    position: Any, slope: Any, joint: Any,
) -> None:  # fmt: skip
    """Fill the joint histogram, and for each place its bin (NaN outside) and slope in bins."""
    sizes, place = moving.shape, np.empty(3)
    last = joint.shape[1] - 3.0
    for n in range(offsets.shape[0]):
        inside = True
        for a in range(3):
            place[a] = start[a]
            for b in range(3):
                place[a] += matrix[a, b] * offsets[n, b]
            inside &= -0.5 <= place[a] <= sizes[a] - 0.5
        if not inside:
            position[n] = np.nan
            continue
        value, along_k, along_j, along_i = _cell(moving, place[0], place[1], place[2])
        at = 2.0 + (value - low) * per_bin
        scale = per_bin if 2.0 < at < last else 0.0
        at = min(max(at, 2.0), last)
        position[n] = at
        slope[n, 0], slope[n, 1], slope[n, 2] = scale * along_k, scale * along_j, scale * along_i
        first = int(at)
        t = at - first
        joint[bins[n], first - 1] += (1.0 - t) ** 3 / 6.0
        joint[bins[n], first] += 2.0 / 3.0 - t * t * (2.0 - t) / 2.0
        joint[bins[n], first + 1] += 2.0 / 3.0 - (1.0 - t) * (1.0 - t) * (1.0 + t) / 2.0
        joint[bins[n], first + 2] += t * t * t / 6.0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _pull(
    offsets: Any, bins: Any, turn: Any, position: Any, slope: Any, worth: Any, force: Any,
    torque: Any,
) -> None:  # fmt: skip
    """Add up by how much each place's bins gain when it is shifted or turned."""
    at = np.empty(3)
    for n in range(offsets.shape[0]):
        if not position[n] >= 0.0:
            continue
        first = int(position[n])
        t = position[n] - first
        row = worth[bins[n]]
        gain = -0.5 * (1.0 - t) * (1.0 - t) * row[first - 1]
        gain += (1.5 * t * t - 2.0 * t) * row[first]
        gain += (0.5 + t - 1.5 * t * t) * row[first + 1]
        gain += 0.5 * t * t * row[first + 2]
        for a in range(3):
            at[a] = turn[a, 0] * offsets[n, 0] + turn[a, 1] * offsets[n, 1]
            at[a] += turn[a, 2] * offsets[n, 2]
        x, y, z = gain * slope[n, 0], gain * slope[n, 1], gain * slope[n, 2]
        force[0] += x
        force[1] += y
        force[2] += z
        torque[0] += at[1] * z - at[2] * y
        torque[1] += at[2] * x - at[0] * z
        torque[2] += at[0] * y - at[1] * x
