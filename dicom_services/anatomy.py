"""Shapes a body is painted with, slice by slice: ellipsoids and chains of spheres, each one HU.

Lengths are LPS mm; slices are axial. A later shape paints over an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def vector(*values: float) -> Vector:
    """A (3,) point or direction."""
    return np.array(values, np.float64)


def frame(main: Vector) -> NDArray[np.float64]:
    """(3, 3) orthonormal rows: `main` first, then one across it in the axial plane."""
    first = main / np.linalg.norm(main)
    second = np.cross(vector(0.0, 0.0, 1.0), first)
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


@dataclass(frozen=True, slots=True, eq=False)
class Ellipsoid:
    """All points p with (p - center)' form (p - center) <= 1."""

    center: Vector
    form: NDArray[np.float64]
    reach: Vector

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether (..., 3) points lie inside."""
        offset = points - self.center
        inside: NDArray[np.bool_] = np.einsum("...a,ab,...b", offset, self.form, offset) <= 1.0
        return inside


def ellipsoid(
    center: Vector,
    radii_mm: Sequence[float] | Vector,
    axes: NDArray[np.float64] | None = None,
    *,
    grow_mm: float = 0.0,
) -> Ellipsoid:
    """An ellipsoid with its radii along the rows of `axes` (LPS when None), grown by `grow_mm`."""
    turn = np.eye(3) if axes is None else axes
    radii = np.asarray(radii_mm, np.float64) + grow_mm
    form = turn.T @ np.diag(radii**-2) @ turn
    return Ellipsoid(center, form, np.sqrt(np.diag(np.linalg.inv(form))))


def tube(path: Sequence[Vector], radius_mm: float, step_mm: float = 1.5) -> tuple[Ellipsoid, ...]:
    """Spheres along a polyline, close enough to read as a tube."""
    spheres = []
    for start, end in pairwise(path):
        count = max(1, round(float(np.linalg.norm(end - start)) / step_mm))
        for part in range(count):
            spheres.append(ellipsoid(start + (end - start) * part / count, [radius_mm] * 3))
    spheres.append(ellipsoid(path[-1], [radius_mm] * 3))
    return tuple(spheres)


def smooth_path(points: Sequence[Vector], rounds: int = 3) -> list[Vector]:
    """Corners cut `rounds` times (Chaikin); the ends stay."""
    path = list(points)
    for _ in range(rounds):
        cut = [path[0]]
        for start, end in pairwise(path):
            cut += [0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end]
        path = [*cut, path[-1]]
    return path


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """One axial slice being painted: (j, i) HU and (j, i) label, at height `z`."""

    hu: NDArray[np.float32]
    label: NDArray[np.uint8]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: float

    def paint(
        self,
        shape: Ellipsoid,
        hu: float,
        label: int,
        *,
        within: NDArray[np.bool_] | None = None,
        over: int | None = None,
    ) -> None:
        """Paint the cut through one ellipsoid, optionally `within` a mask or `over` one label."""
        rise = self.z - float(shape.center[2])
        if abs(rise) > shape.reach[2]:
            return
        i, j = self._span(self.x, shape, 0), self._span(self.y, shape, 1)
        if i.start >= i.stop or j.start >= j.stop:
            return
        dx = self.x[i] - np.float32(shape.center[0])
        dy = (self.y[j] - np.float32(shape.center[1]))[:, None]
        form = shape.form.astype(np.float32)
        value = dx * (form[0, 0] * dx + 2.0 * form[0, 2] * rise) + form[2, 2] * rise * rise
        value = (
            value + dy * (form[1, 1] * dy + 2.0 * form[1, 2] * rise) + (2.0 * form[0, 1] * dx) * dy
        )
        inside = value <= 1.0
        if within is not None:
            inside &= within[j, i]
        if over is not None:
            inside &= self.label[j, i] == over
        self.hu[j, i][inside] = hu
        self.label[j, i][inside] = label

    def paint_all(self, shapes: Sequence[Ellipsoid], hu: float, label: int) -> None:
        """Paint several shapes alike."""
        for shape in shapes:
            self.paint(shape, hu, label)

    @staticmethod
    def _span(along: NDArray[np.float32], shape: Ellipsoid, axis: int) -> slice:
        low = shape.center[axis] - shape.reach[axis]
        high = shape.center[axis] + shape.reach[axis]
        return slice(
            int(np.searchsorted(along, low)), int(np.searchsorted(along, high, side="right"))
        )
