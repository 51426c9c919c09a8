"""Finds a large round vessel that runs from head to foot: a chain of circles, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops.coarse import GRID_MM, Coarse

ANGLES: Final = 20
STEP_MM: Final = 1.5
"""Distance between rings: half a coarse voxel, as fine as the edge can be seen."""

EDGE_MM: Final = 3.0
"""The wall is sought as the fall in HU from 3 mm inside a circle to 3 mm outside it."""

SOLID_HU: Final = 130.0
BONE_ML: Final = 10.0
"""Half a thoracic vertebra; more than the calcium of a whole aorta within reach."""

MOVE_COST: Final = 0.05
"""What a sideways step from plane to plane costs, in parts of a full wall: vessels run straight."""


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """Circles in mm, one for each coarse plane from `first` on: (n, 4) x, y, radius, edge.

    `edge` is the mean fall of HU across the circle, 0..1: 1 is a wall against fat or lung all
    around, 0 no wall at all.
    """

    first: int
    circles: NDArray[np.float64]

    def mask(self, coarse: Coarse, *, wider_mm: float = 0.0) -> NDArray[np.bool_]:
        """(z, y, x) voxels whose centres lie in a circle made wider by `wider_mm`."""
        filled = np.zeros(coarse.shape, np.bool_)
        x = coarse.origin_mm[0] + GRID_MM * np.arange(coarse.shape[2])
        y = coarse.origin_mm[1] + GRID_MM * np.arange(coarse.shape[1])[:, None]
        for n, (cx, cy, radius, _) in enumerate(self.circles):
            filled[self.first + n] = np.hypot(x - cx, y - cy) <= radius + wider_mm
        return filled


def track_tube(
    coarse: Coarse,
    planes: tuple[int, int],
    corner_mm: NDArray[np.float64],
    size_mm: tuple[float, float],
    radii_mm: tuple[float, float],
) -> Tube | None:
    """The chain of circles with the clearest wall, neighbours at most one step apart.

    Parameters
    ----------
    planes : (first, last)
        Coarse planes, last not included.
    corner_mm : (n, 2)
        For each plane the x and y where the window begins in which centres are tried.
    size_mm : (x, y)
        Size of that window.
    radii_mm : (least, most)
    """
    first, last = planes
    if last - first < 3:
        return None
    count = last - first
    dx = np.arange(0.0, size_mm[0] + 0.1, GRID_MM)
    dy = np.arange(0.0, size_mm[1] + 0.1, GRID_MM)
    rings = np.arange(STEP_MM, radii_mm[1] + EDGE_MM + 0.1, STEP_MM)
    score = np.empty((count, dy.size, dx.size), np.float32)
    radius = np.empty_like(score)
    view = _view(coarse)
    for n in range(count):
        start = corner_mm[n] - coarse.origin_mm[:2]
        score[n], radius[n] = _circles(view[first + n], start, dx, dy, rings, radii_mm)
    shift = np.rint(np.diff(corner_mm, axis=0) / GRID_MM).astype(int)
    path = _best_path(score, shift)
    each, j, i = np.arange(count), path[:, 0], path[:, 1]
    place = corner_mm[:, 0] + dx[i], corner_mm[:, 1] + dy[j]
    circles = np.stack([*place, radius[each, j, i], score[each, j, i]], axis=1)
    circles[:, 2] = ndimage.median_filter(circles[:, 2], 7, mode="nearest")
    return Tube(first, circles)


def steady_radius_mm(tube: Tube, planes: int) -> float:
    """Median radius of the uppermost `planes` circles."""
    return float(np.median(tube.circles[-planes:, 2]))


def _view(coarse: Coarse) -> NDArray[np.float32]:
    """HU cut to -120..60, so that lung counts no more than fat and calcium no more than blood.

    Bones count as fat, a vertebra is no vessel; calcium of less than `BONE_ML` is part of a wall.
    """
    labels, count = ndimage.label(coarse.hu > SOLID_HU)
    size = np.bincount(labels.ravel(), minlength=count + 1)
    bone = size * GRID_MM**3 > 1000.0 * BONE_ML
    bone[0] = False
    view = np.clip(coarse.hu, -120.0, 60.0)
    view[bone[labels]] = -120.0
    return view


def _circles(
    view: NDArray[np.float32],
    start_mm: NDArray[np.float64],
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    rings: NDArray[np.float64],
    radii_mm: tuple[float, float],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(y, x) edge of the best circle about each centre, and its radius."""
    angle = np.arange(ANGLES) * (2.0 * np.pi / ANGLES)
    fine = _twice(view)
    half = GRID_MM / 2.0
    start = start_mm / half
    x = np.rint(start[0] + dx[:, None, None] / half + rings * np.cos(angle)[:, None] / half)
    y = np.rint(start[1] + dy[:, None, None] / half + rings * np.sin(angle)[:, None] / half)
    column = np.clip(x, 0, fine.shape[1] - 1).astype(np.int32)[None]
    row = np.clip(y, 0, fine.shape[0] - 1).astype(np.int32)[:, None]
    seen = fine.ravel().take(row * fine.shape[1] + column)
    step = round(EDGE_MM / STEP_MM)
    inner, outer = seen[..., : -2 * step], seen[..., 2 * step :]
    fall = np.clip(inner - outer, 0.0, 100.0).mean(axis=2) / np.float32(100.0)
    filled = np.minimum.accumulate((seen > -20.0).mean(axis=2), axis=2)[..., : -2 * step]
    middle = rings[step:-step]
    allowed = (middle >= radii_mm[0]) & (middle <= radii_mm[1])
    value = np.where(allowed & (filled >= 0.9), fall, 0.0)
    best = value.argmax(axis=2)
    return (
        np.take_along_axis(value, best[..., None], 2)[..., 0].astype(np.float32),
        middle[best].astype(np.float32),
    )


def _twice(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """The plane at half the grid's step, read linearly: pixel (2 j, 2 i) is pixel (j, i)."""
    rows, columns = plane.shape
    fine = np.empty((2 * rows - 1, 2 * columns - 1), np.float32)
    fine[::2, ::2] = plane
    fine[1::2, ::2] = 0.5 * (plane[1:] + plane[:-1])
    fine[:, 1::2] = 0.5 * (fine[:, :-2:2] + fine[:, 2::2])
    return fine


def _best_path(score: NDArray[np.float32], shift: NDArray[np.int_]) -> NDArray[np.int_]:
    """(n, 2) row and column per plane with the largest sum, moving at most one step in each.

    `shift` (n - 1, 2) is by how many steps (x, y) the window itself moves between planes.
    """
    count = score.shape[0]
    total = np.empty_like(score)
    total[0] = score[0]
    for n in range(1, count):
        reach = ndimage.maximum_filter(total[n - 1], 3, mode="nearest") - np.float32(MOVE_COST)
        stay = np.maximum(reach, total[n - 1])
        total[n] = score[n] + _moved(stay, shift[n - 1])
    path = np.empty((count, 2), np.int_)
    path[-1] = np.unravel_index(int(total[-1].argmax()), score.shape[1:])
    for n in range(count - 1, 0, -1):
        j = int(np.clip(path[n, 0] + shift[n - 1, 1], 0, score.shape[1] - 1))
        i = int(np.clip(path[n, 1] + shift[n - 1, 0], 0, score.shape[2] - 1))
        low_j, low_i = max(0, j - 1), max(0, i - 1)
        near = total[n - 1, low_j : j + 2, low_i : i + 2] - np.float32(MOVE_COST)
        near[j - low_j, i - low_i] += MOVE_COST
        dj, di = np.unravel_index(int(near.argmax()), near.shape)
        path[n - 1] = low_j + int(dj), low_i + int(di)
    return path


def _moved(plane: NDArray[np.float32], by: NDArray[np.int_]) -> NDArray[np.float32]:
    """The plane read at (row + by[1], column + by[0]), the edge repeated."""
    j = np.clip(np.arange(plane.shape[0]) + by[1], 0, plane.shape[0] - 1)
    i = np.clip(np.arange(plane.shape[1]) + by[0], 0, plane.shape[1] - 1)
    moved: NDArray[np.float32] = plane[np.ix_(j, i)]
    return moved
