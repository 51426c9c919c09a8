"""Finds the rigid motion that brings one volume onto another, whatever their contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from ai_nodes.ops.grid import Order, resample
from ai_nodes.ops.mutual_information import Samples, fixed_bins, information, read_at, window
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Volume
from dicom_services.errors import InputError

SEED: Final = 20040723
"""Any fixed number: the same volumes give the same motion."""

LEAST_INFORMATION: Final = 0.05
"""Nats of mutual information below which two volumes have nothing to do with each other."""

LEAST_OVERLAP: Final = 0.25
"""Part of what is seen in the fixed volume that the moving one has to cover."""

FIRST_TURN_DEGREES: Final = 12.0
"""Turns about each axis that are tried before the search begins."""

STARTS: Final = 3
"""Beginnings that are followed to their end on the coarsest level."""

MAX_ITERATIONS: Final = 100
ARRIVED: Final = 1e-7
"""Gain of a step, in parts of the information, at which a search ends: a step of some um."""


@dataclass(frozen=True, slots=True)
class Level:
    """One step from coarse to fine.

    Parameters
    ----------
    voxel_mm : float
        About how wide voxels are made; finer ones are averaged, wider ones stay.
    samples : int
        At how many places the volumes are compared.
    """

    voxel_mm: float
    samples: int


LEVELS: Final = (Level(4.0, 20_000), Level(2.0, 50_000), Level(0.0, 150_000))


@dataclass(frozen=True, slots=True, eq=False)
class Rigid:
    """A rotation and a translation.

    Parameters
    ----------
    matrix : (4, 4) float64
        LPS mm of the moving volume to LPS mm of the fixed one.
    information : float
        Mutual information of both volumes after it, in nats.
    iterations : int
        Of all levels.
    converged : bool
        Whether the last level came to rest rather than to its limit.
    """

    matrix: NDArray[np.float64]
    information: float
    iterations: int
    converged: bool

    @property
    def rotation_degrees(self) -> float:
        """The angle of the rotation about its axis."""
        return float(np.degrees(Rotation.from_matrix(self.matrix[:3, :3]).magnitude()))

    def move_points(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) LPS mm of the moving volume to where they are in the fixed one."""
        return np.asarray(points_mm @ self.matrix[:3, :3].T + self.matrix[:3, 3])

    def move_values(
        self,
        values: NDArray[Any],
        moving: Geometry,
        fixed: Geometry,
        order: Order = "linear",
        *,
        outside: float = 0.0,
    ) -> NDArray[Any]:
        """Values of the moving grid as they are on the fixed one, in one interpolation."""
        return resample(values, moving, fixed, order, outside=outside, transform=self.matrix)


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """Values, their index to LPS mm, and what is brighter than background."""

    values: NDArray[np.float32]
    affine: NDArray[np.float64]

    def to_mm(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    @property
    def seen(self) -> NDArray[np.bool_]:
        """A tenth of the way from the darkest to the brightest but for 1 % of outliers."""
        low, high = np.percentile(self.values, (1, 99))
        return np.asarray(self.values > low + 0.1 * (high - low))


def register_rigid(moving: Volume, fixed: Volume, *, levels: Sequence[Level] = LEVELS) -> Rigid:
    """The rigid motion that gives both volumes the most mutual information, coarse to fine.

    Begins where the volumes agree best: as they lie, centre on centre, or with what is bright in
    both brought to the same place, turned a little each way. One thread and a fixed seed: the same
    input, the same answer.

    Raises
    ------
    InputError
        `volume_shape` for several time points; `registration_failed` with its facts when the
        volumes do not overlap, share no information or the search did not arrive.
    """
    if moving.values.ndim != 3 or fixed.values.ndim != 3:
        raise InputError("volume_shape")
    coarse = _shrunk(fixed, levels[0].voxel_mm)
    cells = np.argwhere(ndimage.binary_dilation(coarse.seen, np.ones((3, 3, 3))))
    if not len(cells):
        raise InputError("registration_failed", overlap_percent=0)
    center = coarse.to_mm(cells.mean(axis=0))
    motion, iterations, converged = np.zeros(6), 0, False
    for number, level in enumerate(levels):
        still, moved = _shrunk(fixed, level.voxel_mm), _shrunk(moving, level.voxel_mm)
        samples = _draw(coarse, cells, center, level.samples, still, moved)
        starts = _starts(samples, coarse, moved) if number == 0 else [motion]
        found = min((_climb(samples, start) for start in starts), key=lambda one: one.fun)
        motion, converged = found.x, found.status != 1
        iterations += int(found.nit)
    last = information(samples, motion)
    if not (converged and last.inside >= LEAST_OVERLAP and last.nats >= LEAST_INFORMATION):
        raise InputError(
            "registration_failed",
            overlap_percent=round(100.0 * last.inside),
            information=round(last.nats, 3),
            iterations=iterations,
        )
    return Rigid(_to_fixed(motion, center), last.nats, iterations, converged)


def _shrunk(volume: Volume, voxel_mm: float) -> _Image:
    """Blocks of whole voxels averaged, so that each is about `voxel_mm` wide."""
    values, geometry = volume.values, volume.geometry
    steps = np.linalg.norm(geometry.affine[:3, :3], axis=0)
    factors = np.clip(np.rint(voxel_mm / steps), 1, np.maximum(1, np.array(geometry.shape) // 4))
    k, j, i = (int(factor) for factor in factors)
    whole = [size // factor for size, factor in zip(geometry.shape, (k, j, i), strict=True)]
    part = values[: whole[0] * k, : whole[1] * j, : whole[2] * i]
    if max(k, j, i) > 1:
        blocks = part.reshape(whole[0], k, whole[1], j, whole[2], i)
        # Columns first: it is there that numpy adds up in one piece.
        part = blocks.mean(axis=5, dtype=np.float32).mean(axis=3).mean(axis=1)
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.to_patient_mm((factors - 1.0) / 2.0)
    affine[:3, :3] *= factors
    kept = np.ascontiguousarray(part, np.float32)
    return _Image(np.nan_to_num(kept) if np.isnan(kept).any() else kept, affine)


def _draw(
    coarse: _Image,
    cells: NDArray[np.int64],
    center: NDArray[np.float64],
    count: int,
    still: _Image,
    moved: _Image,
) -> Samples:
    """Places anywhere in the coarse voxels where something is seen, and the values there."""
    random = np.random.default_rng(SEED)
    # In the order of memory: the moving volume is then read along its rows.
    picked = cells[np.sort(random.integers(len(cells), size=count))]
    places = coarse.to_mm(picked + random.uniform(-0.5, 0.5, picked.shape))
    index = np.linalg.inv(still.affine)
    values = read_at(still.values, places @ index[:3, :3].T + index[:3, 3])
    return Samples(
        offsets_mm=places - center,
        bins=fixed_bins(values, window(still.values)),
        center_mm=center,
        moving=moved.values,
        to_index=np.asarray(np.linalg.inv(moved.affine), np.float64),
        window=window(moved.values),
    )


def _starts(samples: Samples, coarse: _Image, moved: _Image) -> list[NDArray[np.float64]]:
    """The few most promising of many beginnings."""
    bright = np.argwhere(moved.seen)
    middles = [(np.array(each.values.shape) - 1.0) / 2.0 for each in (coarse, moved)]
    shifts = [np.zeros(3), moved.to_mm(middles[1]) - coarse.to_mm(middles[0])]
    if len(bright):
        shifts.append(moved.to_mm(bright.mean(axis=0)) - samples.center_mm)
    turn = np.radians(FIRST_TURN_DEGREES)
    turns = [np.zeros(3), *(turn * np.eye(3)), *(-turn * np.eye(3))]
    starts = [np.concatenate(pair) for pair in product(turns, shifts)]
    return sorted(starts, key=lambda start: _cost(samples, start)[0])[:STARTS]


def _cost(samples: Samples, motion: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """What is to be made small; nothing is gained by moving a volume out of sight."""
    found = information(samples, motion)
    if found.inside < LEAST_OVERLAP:
        return 0.0, np.zeros(6)
    return -found.nats, -found.gradient


def _climb(samples: Samples, start: NDArray[np.float64]) -> Any:
    """L-BFGS in mm: a turn counts as far as it moves the typical place."""
    radius = float(np.sqrt((samples.offsets_mm**2).sum(axis=1).mean()))
    scale = np.array([radius] * 3 + [1.0] * 3)

    def cost(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = _cost(samples, scaled / scale)
        return value, gradient / scale

    options = {"ftol": ARRIVED, "gtol": 0.0, "maxiter": MAX_ITERATIONS}
    found = optimize.minimize(cost, start * scale, jac=True, method="L-BFGS-B", options=options)
    found.x = found.x / scale
    return found


def _to_fixed(motion: NDArray[np.float64], center: NDArray[np.float64]) -> NDArray[np.float64]:
    """The motion brings fixed to moving; (4, 4) the other way."""
    back = Rotation.from_rotvec(motion[:3]).as_matrix().T
    matrix = np.eye(4)
    matrix[:3, :3] = back
    matrix[:3, 3] = center - back @ (center + motion[3:])
    return matrix
