"""The running weighted mean of overlapping windows, in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ai_nodes.ops.windows import Window


def fold(
    mean: NDArray[np.float32],
    weight: NDArray[np.float32],
    out: NDArray[np.float32],
    along: tuple[NDArray[np.float32], ...],
    window: Window,
) -> None:
    """Fold what a network said about one window into the mean of all so far.

    The mean moves by w / (sum of w) of the difference, so that windows which agree give exactly
    the value they agree on, and nothing is left to divide at the end.

    Parameters
    ----------
    mean : (classes, k, j, i) float32, changed
    weight : (k, j, i) float32, changed
        Sum of the weights so far; zero where no window was.
    out : (classes, window) float32, contiguous
        Still mirrored, as `window.mirrored` says.
    along : three of float32
        Weight along each axis.
    """
    starts = tuple(part.start for part in window.place)
    _fold(mean, weight, out, *along, *starts, *(axis in window.mirrored for axis in range(3)))


def fold_on_card(mean: Any, weight: Any, out: Any, shape_weight: Any, window: Window) -> None:
    """As `fold`, of torch tensors on a card; `shape_weight` is the (window) weight."""
    k, j, i = window.place
    total = weight[k, j, i]
    total += shape_weight
    if window.mirrored:
        out = out.flip([axis + 1 for axis in window.mirrored])
    mean[:, k, j, i].lerp_(out, shape_weight / total)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _fold(
    mean: Any,
    weight: Any,
    out: Any,
    along_k: Any,
    along_j: Any,
    along_i: Any,
    first_k: Any,
    first_j: Any,
    first_i: Any,
    mirrored_k: Any,
    mirrored_j: Any,
    mirrored_i: Any,
) -> None:
    classes, depth, height, width = out.shape
    part = np.empty(width, np.float32)
    for k in range(depth):
        from_k = depth - 1 - k if mirrored_k else k
        for j in range(height):
            from_j = height - 1 - j if mirrored_j else j
            weight_kj = along_k[k] * along_j[j]
            sums = weight[first_k + k, first_j + j, first_i : first_i + width]
            for i in range(width):
                one = weight_kj * along_i[i]
                total = sums[i] + one
                sums[i] = total
                part[i] = one / total
            for c in range(classes):
                row = mean[c, first_k + k, first_j + j, first_i : first_i + width]
                said = out[c, from_k, from_j]
                if mirrored_i:
                    for i in range(width):
                        row[i] += part[i] * (said[width - 1 - i] - row[i])
                else:
                    for i in range(width):
                        row[i] += part[i] * (said[i] - row[i])
