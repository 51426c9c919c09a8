"""Windows over a volume: where they lie, how they are weighted, which hold nothing but air."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

AXES: Final = "kji"
Triple = tuple[int, int, int]
Activation = Literal["none", "softmax", "sigmoid"]


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How a volume is cut up, and what is done with what comes back.

    Parameters
    ----------
    window : (k, j, i)
        Voxels; a smaller volume is padded with `pad_value` on both sides.
    overlap : float
        Of a window with the next one; 0.5 as in nnU-Net.
    sigma : float
        Of the Gaussian weight, as a part of the window; 1/8 as in nnU-Net.
    batch : int
        Windows that go through the network at once.
    multiple : int
        Sides of a window that memory made smaller are multiples of this.
    mirrors : str
        Axes of "kji" along which windows are mirrored too; each combination is one more pass.
    activation : str
        Of the blended output: "softmax", "sigmoid", or "none" for logits and regressions.
    air_at_most : float or None
        Windows in which no channel is above this are not looked at.

    References
    ----------
    Isensee F et al. Nat Methods 2021;18:203-211, Online Methods, "Inference".
    """

    window: Triple = (96, 96, 96)
    overlap: float = 0.5
    sigma: float = 0.125
    batch: int = 1
    multiple: int = 16
    pad_value: float = 0.0
    mirrors: str = ""
    activation: Activation = "softmax"
    air_at_most: float | None = None

    def __post_init__(self) -> None:
        if len(self.window) != 3 or min(self.window) < 1:
            raise ValueError("a window has three sides of at least one voxel")
        if not 0.0 <= self.overlap < 1.0 or self.sigma <= 0.0:
            raise ValueError("overlap is in [0, 1), sigma above zero")
        if self.batch < 1 or self.multiple < 1:
            raise ValueError("batch and multiple are at least one")
        if set(self.mirrors) - set(AXES) or len(set(self.mirrors)) != len(self.mirrors):
            raise ValueError("mirrors names axes of kji, each once")

    def smaller(self) -> WindowSettings | None:
        """With fewer windows at once, else with half a window; None where neither is left."""
        if self.batch > 1:
            return replace(self, batch=1)
        halves = [
            max(self.multiple, math.ceil(side / 2 / self.multiple) * self.multiple)
            for side in self.window
        ]
        sides = [min(half, side) for half, side in zip(halves, self.window, strict=True)]
        window = (sides[0], sides[1], sides[2])
        return None if window == self.window else replace(self, window=window)


@dataclass(frozen=True, slots=True)
class Window:
    """One place in the padded volume and the axes along which it is mirrored."""

    place: tuple[slice, ...]
    mirrored: tuple[int, ...]


def starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """First voxels along one axis: evenly spread, from the first voxel to the last.

    References
    ----------
    nnU-Net v2, inference/sliding_window_prediction.py, compute_steps_for_sliding_window.
    """
    last = size - window
    if last <= 0:
        return (0,)
    count = math.ceil(last / max(1.0, window * (1.0 - overlap))) + 1
    return tuple(round(last / (count - 1) * at) for at in range(count))


def gaussian(window: Triple, sigma: float) -> tuple[NDArray[np.float32], ...]:
    """Weight along each axis, 1 in the middle; that of a voxel is the product of the three."""
    weights = []
    for side in window:
        away = (np.arange(side) - (side - 1) / 2.0) / (sigma * side)
        # Above zero, so that a corner that one window alone covers has a mean.
        weights.append(np.maximum(np.exp(-0.5 * away**2), 1e-10).astype(np.float32))
    return tuple(weights)


def padding(shape: Triple, window: Triple) -> tuple[tuple[int, int], ...]:
    """Voxels to add before and after along each axis so that a window fits."""
    lacking = [max(0, side - size) for size, side in zip(shape, window, strict=True)]
    return tuple((lack // 2, lack - lack // 2) for lack in lacking)


def places(shape: Triple, settings: WindowSettings) -> Iterator[tuple[slice, ...]]:
    """Every window over a volume of at least the window's size."""
    along = [
        [slice(at, at + side) for at in starts(size, side, settings.overlap)]
        for size, side in zip(shape, settings.window, strict=True)
    ]
    return product(*along)


def mirrorings(mirrors: str) -> tuple[tuple[int, ...], ...]:
    """Every combination of the axes, the plain one first: 0 is k, 1 is j, 2 is i."""
    axes = sorted(AXES.index(name) for name in mirrors)
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))
