"""A small copy of a CT on a 3 mm grid along the patient's own axes, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Volume

GRID_MM: Final = 3.0
"""Fine enough for a heart of 120 mm, coarse enough that noise of 20 HU averages to a few HU."""

OUTSIDE_HU: Final = -2000.0
"""Where the grid reaches beyond the volume; below every HU a CT can have."""


@dataclass(frozen=True, slots=True, eq=False)
class Coarse:
    """(z, y, x) float32 HU; x to the left, y to the back, z to the head, `GRID_MM` apart.

    `origin_mm` is the (x, y, z) LPS place of voxel (0, 0, 0).
    """

    hu: NDArray[np.float32]
    origin_mm: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, rows and columns."""
        return self.hu.shape[0], self.hu.shape[1], self.hu.shape[2]


def coarse_copy(ct: Volume) -> Coarse:
    """Average blocks of voxels, then turn the result into the patient's axes.

    Works for every order, direction, tilt and shear of slices: only the affine is asked.
    """
    geometry = ct.geometry
    steps = np.linalg.norm(geometry.affine[:3, :3], axis=0)
    block = [
        int(max(1, min(n, round(GRID_MM / step))))
        for n, step in zip(geometry.shape, steps, strict=True)
    ]
    small = _block_means(ct.values, block)
    inner = np.diag([*block, 1.0])
    inner[:3, 3] = (np.array(block) - 1.0) / 2.0
    to_mm = geometry.affine @ inner
    corners = np.array(np.meshgrid(*[(0.0, n - 1.0) for n in small.shape])).reshape(3, -1)
    places = to_mm[:3, :3] @ corners + to_mm[:3, 3:]
    low, high = places.min(axis=1), places.max(axis=1)
    counts = np.floor((high - low) / GRID_MM + 1e-6).astype(int)[::-1] + 1
    to_small = np.linalg.inv(to_mm)
    zyx = to_small[:3, :3][:, ::-1] * GRID_MM
    start = to_small[:3, :3] @ low + to_small[:3, 3]
    hu = ndimage.affine_transform(
        small, zyx, start, tuple(counts), order=1, mode="constant", cval=OUTSIDE_HU
    )
    return Coarse(hu, low)


def _block_means(values: NDArray[np.generic], block: list[int]) -> NDArray[np.float32]:
    """Means over blocks; what does not fill a block at the end is left out.

    Values below -1024 HU are padding outside the scanner's circle and count as air.
    """
    slabs, rows, columns = (n // b for n, b in zip(values.shape, block, strict=True))
    means = np.empty((slabs, rows, columns), np.float32)
    for slab in range(slabs):
        part = values[slab * block[0] : (slab + 1) * block[0], : rows * block[1]]
        part = part[:, :, : columns * block[2]]
        total = part.sum(axis=0, dtype=np.float32).reshape(rows, block[1], columns * block[2])
        across = total.sum(axis=1).reshape(rows, columns, block[2]).sum(axis=2)
        means[slab] = across / np.float32(block[0] * block[1] * block[2])
    return np.clip(means, -1024.0, 3071.0, out=means)


def fine_box(
    mask: NDArray[np.bool_], coarse: Coarse, geometry: Geometry
) -> tuple[slice, slice, slice] | None:
    """The box of (k, j, i) that holds everything in a coarse mask, one coarse step wider."""
    where = np.nonzero(mask)
    if not where[0].size:
        return None
    low = np.array([axis.min() - 1.0 for axis in where])
    high = np.array([axis.max() + 1.0 for axis in where])
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    places = coarse.origin_mm + corners[:, ::-1] * GRID_MM
    index = geometry.to_index(places)
    first = np.clip(np.floor(index.min(axis=0)), 0, geometry.shape).astype(int)
    last = np.clip(np.ceil(index.max(axis=0)) + 1, 0, geometry.shape).astype(int)
    if (last <= first).any():
        return None
    k, j, i = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return k, j, i


def to_fine(
    mask: NDArray[np.bool_],
    coarse: Coarse,
    geometry: Geometry,
    box: tuple[slice, slice, slice],
) -> NDArray[np.bool_]:
    """The coarse mask seen by the voxels of a box of the full grid.

    A voxel belongs where the mask, read linearly between coarse voxels, is at least one half.
    """
    start = np.array([part.start for part in box], np.float64)
    shape = tuple(part.stop - part.start for part in box)
    affine = geometry.affine
    matrix = affine[:3, :3][::-1] / GRID_MM
    offset = ((affine[:3, :3] @ start + affine[:3, 3]) - coarse.origin_mm)[::-1] / GRID_MM
    weight = mask.astype(np.float32)
    straight = np.count_nonzero(np.abs(matrix) > 1e-4 * np.abs(matrix).max(axis=1)[:, None]) == 3
    if not straight:
        seen = ndimage.affine_transform(weight, matrix, offset, shape, order=1, output=np.float32)
        inside: NDArray[np.bool_] = seen >= 0.5
        return inside
    return _to_fine_straight(weight, matrix, offset, shape)


def _to_fine_straight(
    weight: NDArray[np.float32],
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, ...],
) -> NDArray[np.bool_]:
    """As `to_fine` where each index axis lies along one patient axis: one axis after the other."""
    order = [int(np.argmax(np.abs(matrix[:, axis]))) for axis in range(3)]
    reads = []
    for axis in range(3):
        row = order[axis]
        place = offset[row] + matrix[row, axis] * np.arange(shape[axis])
        n = weight.shape[row]
        below = np.clip(np.floor(place).astype(int), 0, n - 1)
        above = np.clip(below + 1, 0, n - 1)
        reads.append((below, above, (place - below).clip(0.0, 1.0).astype(np.float32)))
    turned = np.ascontiguousarray(weight.transpose(order))
    for axis in (2, 1):
        below, above, part = reads[axis]
        lengths = [1, 1, 1]
        lengths[axis] = -1
        part = part.reshape(lengths)
        turned = turned.take(below, axis) * (1.0 - part) + turned.take(above, axis) * part
    inside = np.empty(shape, np.bool_)
    below, above, part = reads[0]
    for k in range(shape[0]):
        plane = turned[below[k]] * (1.0 - part[k]) + turned[above[k]] * part[k]
        inside[k] = plane >= 0.5
    return inside
