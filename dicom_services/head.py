"""A head of layered ellipses, slice by slice: its tissues, its vessels, and a lesion on one side.

Lengths are LPS mm about the middle of the head; slices are axial and the head is symmetric in x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

AIR: Final = 0
SKIN: Final = 1
SKULL: Final = 2
CSF: Final = 3
WHITE: Final = 4
GREY: Final = 5
ARTERY: Final = 6
SLOW_ARTERY: Final = 7
VEIN: Final = 8
"""What a voxel is; `SLOW_ARTERY` is the one that feeds the lesion, behind a narrowing."""

HEALTHY: Final = 0
PENUMBRA: Final = 1
CORE: Final = 2
"""How it fares, in white and grey matter; `HEALTHY` everywhere else."""

HALF_WIDTH_MM: Final = 75.0
HALF_LENGTH_MM: Final = 95.0
HALF_HEIGHT_MM: Final = 85.0
# Where the layers end, as parts of the head's outline.
BONE_OUTER, BONE_INNER, CORTEX_OUTER, CORTEX_INNER = 0.95, 0.88, 0.85, 0.66


@dataclass(frozen=True, slots=True)
class Lesion:
    """Two ellipsoids, one within the other: (x, y, z) centre and half axes, x to the left.

    Parameters
    ----------
    side : 1, -1 or 0
        The patient's left, right, or no lesion at all.
    """

    side: int = 1
    center_mm: tuple[float, float, float] = (44.0, 2.0, 0.0)
    penumbra_mm: tuple[float, float, float] = (24.0, 40.0, 21.0)
    core_mm: tuple[float, float, float] = (13.0, 20.0, 12.0)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What each voxel is and how it fares: two (k, j, i) uint8 arrays."""

    tissue: NDArray[np.uint8]
    state: NDArray[np.uint8]

    @property
    def brain(self) -> NDArray[np.bool_]:
        """White and grey matter."""
        return np.asarray((self.tissue == WHITE) | (self.tissue == GREY))


def paint_head(
    x_mm: NDArray[np.float64], y_mm: NDArray[np.float64], z_mm: NDArray[np.float64], lesion: Lesion
) -> Head:
    """The head at the given columns `x_mm`, rows `y_mm` and slices `z_mm`."""
    x, y = x_mm[None, None, :], y_mm[None, :, None]
    z = z_mm[:, None, None]
    shrink = np.sqrt(np.clip(1.0 - (z / HALF_HEIGHT_MM) ** 2, 1e-6, None))
    part = np.hypot(x / HALF_WIDTH_MM, y / HALF_LENGTH_MM) / shrink
    tissue = np.zeros(part.shape, np.uint8)
    for limit, what in (
        (1.0, SKIN),
        (BONE_OUTER, SKULL),
        (BONE_INNER, CSF),
        (CORTEX_OUTER, GREY),
        (CORTEX_INNER, WHITE),
    ):
        tissue[part <= limit] = what
    across = np.abs(x)
    inside = part <= CORTEX_OUTER
    tissue[inside & (_ellipse(across - 23.0, y - 4.0, 9.0, 15.0))] = GREY
    tissue[inside & _ellipse(across - 9.0, y + 2.0, 5.0, 20.0)] = CSF
    tissue[inside & (across < 1.3) & (np.abs(y) > 30.0)] = CSF
    state = _state(x, y, z, lesion)
    _paint_vessels(tissue, x, y, z, lesion.side)
    state[(tissue != WHITE) & (tissue != GREY)] = HEALTHY
    return Head(tissue, state)


def _ellipse(
    x: NDArray[np.float64], y: NDArray[np.float64], half_x: float, half_y: float
) -> NDArray[np.bool_]:
    return np.asarray((x / half_x) ** 2 + (y / half_y) ** 2 <= 1.0)


def _paint_vessels(
    tissue: NDArray[np.uint8],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    side: int,
) -> None:
    """Middle cerebral arteries on both sides, the anterior ones, and the sagittal sinus."""
    everywhere = np.ones(tissue.shape, bool)
    low = z < -2.0
    middle = (_ellipse(np.abs(x) - 34.0, y + 20.0, 5.0, 3.7) & low) & everywhere
    slow = middle & (x * side > 0.0)
    tissue[middle] = ARTERY
    tissue[slow] = SLOW_ARTERY
    tissue[(_ellipse(x, y + 42.0, 3.7, 5.0) & (z < 6.0)) & everywhere] = ARTERY
    tissue[_ellipse(x, y - 76.0, 4.5, 6.0) & everywhere] = VEIN


def _state(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], lesion: Lesion
) -> NDArray[np.uint8]:
    shape = np.broadcast_shapes(x.shape, y.shape, z.shape)
    state = np.zeros(shape, np.uint8)
    if lesion.side == 0:
        return state
    offset = (x * lesion.side - lesion.center_mm[0], y - lesion.center_mm[1], z)
    for half, what in ((lesion.penumbra_mm, PENUMBRA), (lesion.core_mm, CORE)):
        far = sum((d / h) ** 2 for d, h in zip(offset, half, strict=True))
        state[np.broadcast_to(np.asarray(far) <= 1.0, shape)] = what
    # The other half of the brain has its own arteries.
    state[np.broadcast_to(x * lesion.side <= 3.0, shape)] = HEALTHY
    return state
