"""How far a head moved from frame to frame, judged by its outline, which no bolus changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_services.domain.geometry import Geometry

Floats = NDArray[np.float32]

MR_EDGE: Final = (0.12, 0.4)
"""Parts of the head's typical signal between which the outline rises: tissue that a bolus takes
down to half of its signal is still above both."""

CT_EDGE_HU: Final = (350.0, 800.0)
"""Between these lies the skull's edge; vessels full of contrast agent stay below."""

COARSE_MM: Final = 4.0
"""Pixels are averaged to about this: an edge is found to a tenth of it, at a tenth of the cost."""

REFERENCE_FRAMES: Final = 3
FEWEST_SLICES: Final = 4
ROUNDS: Final = 12
STOP_MM: Final = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Of each frame against the reference.

    Parameters
    ----------
    shift_mm : (t, 3) float64
        LPS translation of the head's middle.
    turn_degrees : (t, 3) float64
        About the LPS axes through the head's middle.
    displacement_mm : (t,) float64
        Root mean square over the voxels of the head.
    """

    shift_mm: NDArray[np.float64]
    turn_degrees: NDArray[np.float64]
    displacement_mm: NDArray[np.float64]

    @property
    def worst_mm(self) -> float:
        """Of the frame that moved farthest."""
        return float(self.displacement_mm.max())

    @property
    def worst_frame(self) -> int:
        """Its index."""
        return int(self.displacement_mm.argmax())


def measure_motion(frames: NDArray[np.generic], geometry: Geometry, modality: str) -> Motion:
    """Rigid motion of each frame against the mean of the first frames.

    The outline (MR) or the skull (CT) is turned into a smooth step that the bolus leaves alone, and
    each frame's step is fitted to the first ones' by Gauss-Newton over shifts and turns in space;
    with fewer than four slices, over those within the slice.

    Parameters
    ----------
    frames : (t, k, j, i)
        MR signal or HU.
    geometry : Geometry
    modality : "MR" or "CT"
    """
    steps, points = _steps(frames, geometry, modality)
    reference = np.stack(steps[:REFERENCE_FRAMES]).mean(axis=0, dtype=np.float32)
    fit = _Fit(reference, points)
    moves = np.zeros((len(steps), 6))
    for t, step in enumerate(steps):
        moves[t] = fit.move_of(step)
    return Motion(moves[:, :3], np.degrees(moves[:, 3:]), fit.displacement_mm(moves))


def _steps(
    frames: NDArray[np.generic], geometry: Geometry, modality: str
) -> tuple[list[Floats], NDArray[np.float64]]:
    """Every frame as a coarse step of 0..1, and the (3, k, j, i) LPS mm of its voxels."""
    rows, columns = (max(1, round(COARSE_MM / mm)) for mm in geometry.pixel_spacing_mm)
    shape = geometry.shape[1] // rows * rows, geometry.shape[2] // columns * columns

    def coarse(frame: NDArray[np.generic]) -> Floats:
        part = frame[:, : shape[0], : shape[1]].astype(np.float32)
        cells = part.reshape(len(part), shape[0] // rows, rows, shape[1] // columns, columns)
        return np.asarray(cells.mean(axis=(2, 4)), np.float32)

    first = coarse(frames[0])
    low, high = CT_EDGE_HU if modality == "CT" else _signal_edge(first)
    steps = []
    for frame in frames:
        step = np.clip((coarse(frame) - low) / (high - low), 0.0, 1.0)
        steps.append(np.asarray(ndimage.gaussian_filter(step, (0.0, 0.8, 0.8)), np.float32))
    k, j, i = np.mgrid[: first.shape[0], : first.shape[1], : first.shape[2]].astype(np.float64)
    index = np.stack([k, j * rows + 0.5 * (rows - 1), i * columns + 0.5 * (columns - 1)], axis=-1)
    return steps, np.moveaxis(geometry.to_patient_mm(index), -1, 0)


def _signal_edge(frame: Floats) -> tuple[float, float]:
    """Where the outline of an MR head rises: between parts of the signal inside."""
    bright = frame[frame > 0.25 * np.percentile(frame, 98.0)]
    typical = float(np.median(bright)) if bright.size else 1.0
    return MR_EDGE[0] * typical, MR_EDGE[1] * typical


class _Fit:
    """Gauss-Newton against one reference, whose slopes and normal equations are made once."""

    def __init__(self, reference: Floats, points: NDArray[np.float64]) -> None:
        self._reference = reference
        inside = reference > 0.5
        self._points = points
        where = points[:, inside] if inside.any() else points.reshape(3, -1)
        self._middle = where.mean(axis=1)
        self._offsets = where - self._middle[:, None]
        self._to_mm = _index_to_mm(points)
        reach = float(np.sqrt((self._offsets**2).sum(axis=0).mean()))
        self._reach_mm = np.array([1.0, 1.0, 1.0, reach, reach, reach])
        self._slopes = self._derivatives()

    def _derivatives(self) -> NDArray[np.float64]:
        """(6, voxels): change of the moved reference with each parameter."""
        axes = tuple(axis for axis in range(3) if self._reference.shape[axis] > 1)
        by_index = np.zeros((3, *self._reference.shape))
        slopes = np.gradient(self._reference.astype(np.float64), axis=axes)
        for axis, slope in zip(axes, slopes if len(axes) > 1 else [slopes], strict=True):
            by_index[axis] = slope
        # Two or three slices do not tell a move across them from a change of their contrast.
        thick = self._reference.shape[0] >= FEWEST_SLICES
        by_index[0] *= float(thick)
        by_mm = np.einsum("ab,b...->a...", np.linalg.pinv(self._to_mm).T, by_index)
        arm = self._points - self._middle[:, None, None, None]
        turning = np.cross(arm, by_mm, axis=0)
        if not thick:
            across = np.cross(self._to_mm[:, 2], self._to_mm[:, 1])
            across /= np.linalg.norm(across)
            turning = across[:, None, None, None] * np.tensordot(across, turning, 1)
        # A voxel at p now shows what the reference shows at p minus its displacement.
        return np.asarray(-np.concatenate([by_mm, turning]).reshape(6, -1))

    def move_of(self, step: Floats) -> NDArray[np.float64]:
        """(6,) shifts in mm and turns in radians of one frame."""
        normal = self._slopes @ self._slopes.T
        # A direction that the outline does not determine stays where it is.
        normal += np.diag(1e-3 * np.diag(normal) + 1e-9 * np.trace(normal) + 1e-12)
        move = np.zeros(6)
        for _ in range(ROUNDS):
            rest = self._moved_back(step, move) - self._reference
            change = np.linalg.solve(normal, self._slopes @ rest.reshape(-1).astype(np.float64))
            move += change
            if np.abs(change * self._reach_mm).max() < STOP_MM:
                break
        return move

    def _moved_back(self, step: Floats, move: NDArray[np.float64]) -> Floats:
        if not move.any():
            return step
        arm = self._points - self._middle[:, None, None, None]
        turned = np.cross(np.broadcast_to(move[3:, None, None, None], arm.shape), arm, axis=0)
        away_mm = turned + move[:3, None, None, None]
        away = np.einsum("ab,b...->a...", np.linalg.pinv(self._to_mm), away_mm)
        index = np.indices(step.shape) + away
        return np.asarray(ndimage.map_coordinates(step, index, order=1, mode="nearest"))

    def displacement_mm(self, moves: NDArray[np.float64]) -> NDArray[np.float64]:
        """(t,) root mean square over the head."""
        squares = []
        for move in moves:
            turned = np.cross(
                np.broadcast_to(move[3:, None], self._offsets.shape), self._offsets, axis=0
            )
            away = turned + move[:3, None]
            squares.append(float((away**2).sum(axis=0).mean()))
        return np.sqrt(np.array(squares, np.float64))


def _index_to_mm(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) of the coarse grid; a single slice, row or column has no step along itself."""
    columns = []
    for axis in (1, 2, 3):
        pair = np.take(points, [0, min(1, points.shape[axis] - 1)], axis=axis)
        columns.append((np.take(pair, 1, axis=axis) - np.take(pair, 0, axis=axis))[:, 0, 0])
    return np.asarray(np.stack(columns, axis=1), np.float64)
