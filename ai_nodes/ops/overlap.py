"""What several masks have in common: overlap, votes, and each rater's agreement with a fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.rater_patterns import rater_patterns
from dicom_services.errors import InputError

Band = Literal["high", "review", "low"]

BANDS: Final[tuple[tuple[float, Band], ...]] = ((0.90, "high"), (0.75, "review"))
"""Least Dice of each band. A choice of ours for what a reader should look at again: Zijdenbos AP
et al. (IEEE Trans Med Imaging 1994;13:716-724) already call more than 0.70 excellent."""

CHUNK: Final = 1 << 18
"""Voxels summed at a time, so that the sums stay in the processor's cache."""

MOST_RATERS: Final = 255


@dataclass(frozen=True, slots=True)
class Agreement:
    """One rater against the fusion."""

    dice: float
    iou: float
    band: Band


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|); two empty masks agree, so theirs is 1.

    Raises
    ------
    InputError
        `mask_grid` when shapes differ.
    """
    one, other, both = _sizes(first, second)
    return _dice(one, other, both)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """|A and B| / |A or B|; two empty masks agree, so theirs is 1. Raises as `dice`."""
    one, other, both = _sizes(first, second)
    return _iou(one, other, both)


def pairwise_dice(masks: NDArray[np.bool_] | Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """(r, r) Dice of each mask with each, from one pass over all of them."""
    found = rater_patterns(masks)
    both = found.said.T @ (found.said * found.counts[:, None])
    size = np.diag(both)
    total = size[:, None] + size
    return np.asarray(np.divide(2.0 * both, total, out=np.ones(both.shape), where=total > 0))


def agreement(
    masks: NDArray[np.bool_] | Sequence[NDArray[np.bool_]], fusion: NDArray[np.bool_]
) -> tuple[Agreement, ...]:
    """How well each rater agrees with the fusion, counted in one pass over all masks.

    Raises
    ------
    InputError
        `no_masks`; `mask_grid` when shapes differ.
    """
    if len(masks) == 0:
        raise InputError("no_masks")
    found = rater_patterns([*masks, fusion])
    both = found.said.T @ (found.said * found.counts[:, None])
    size, common = np.diag(both), both[-1]
    return tuple(_agreement(int(size[r]), int(size[-1]), int(common[r])) for r in range(len(masks)))


def band(value: float) -> Band:
    """What a Dice against the fusion means for a reader."""
    return next((name for least, name in BANDS if value >= least), "low")


def majority(masks: NDArray[np.bool_] | Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Where more than half of the raters (r, ...) see something; half is not enough.

    Raises
    ------
    InputError
        `no_masks`; `mask_grid` when shapes differ; `too_many_masks` beyond 255.
    """
    if not 1 <= len(masks) <= MOST_RATERS:
        raise InputError("too_many_masks" if len(masks) else "no_masks", count=len(masks))
    if any(each.shape != masks[0].shape for each in masks):
        raise InputError("mask_grid")
    out = np.empty(masks[0].shape, np.bool_)
    flat = [np.ascontiguousarray(each, np.bool_).view(np.uint8).ravel() for each in masks]
    total = np.empty(CHUNK, np.uint8)
    for start in range(0, out.size, CHUNK):
        part = slice(start, start + CHUNK)
        here = total[: flat[0][part].size]
        here[:] = flat[0][part]
        for each in flat[1:]:
            here += each[part]
        np.greater(here, len(flat) // 2, out=out.reshape(-1)[part])
    return out


def vote(
    masks: NDArray[np.bool_] | Sequence[NDArray[np.bool_]], weights: Sequence[float]
) -> NDArray[np.bool_]:
    """Where the raters who see something have more than half of all the weight.

    Parameters
    ----------
    weights : (r,)
        At least 0 and not all 0, for example each rater's Dice in validation.

    Raises
    ------
    InputError
        `no_masks`; `mask_grid`; `vote_weights`.
    """
    share = _shares(weights, len(masks))
    found = rater_patterns(masks)
    # Half by rounding alone is still half.
    return np.asarray(found.spread(found.said @ share > 0.5 + 1e-12))


def vote_by_confidence(
    probabilities: NDArray[np.float32], weights: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """(...) the mean of what the raters (r, ...) hold likely, in 0 .. 1, by their weights.

    A rater who is not sure of a voxel moves the result less than one who is; above 0.5 is inside.

    Raises
    ------
    InputError
        `no_masks`; `vote_weights`; `probability` when a value lies outside 0 to 1.
    """
    if not len(probabilities) or not probabilities.size:
        raise InputError("no_masks")
    if not (float(probabilities.min()) >= 0.0 and float(probabilities.max()) <= 1.0):
        raise InputError("probability")
    share = _shares(weights or [1.0] * len(probabilities), len(probabilities))
    flat = probabilities.reshape(len(probabilities), -1)
    mean = np.asarray(share.astype(np.float32) @ flat, np.float32)
    return mean.reshape(probabilities.shape[1:])


def vote_labels(
    labels: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    weights: Sequence[float] | None = None,
) -> tuple[NDArray[np.uint8], int]:
    """The label with most weight at each voxel, and the label of those where two have as much.

    Labels are 0 .. 254; the undecided one is one more than the highest, as in ITK's
    LabelVotingImageFilter.

    Raises
    ------
    InputError
        `no_masks`; `mask_grid`; `vote_weights`; `label_range`.
    """
    if any(each.size and not 0 <= int(each.max()) <= 254 for each in labels):
        raise InputError("label_range")
    share = _shares(weights or [1.0] * len(labels), len(labels))
    undecided = 1 + max((int(each.max()) for each in labels if each.size), default=0)
    found = rater_patterns(labels, levels=undecided)
    votes = np.einsum("prn,r->pn", found.said[:, :, None] == np.arange(undecided), share)
    alone = (votes >= votes.max(axis=1, keepdims=True) - 1e-12).sum(axis=1) == 1
    winner = np.where(alone, votes.argmax(axis=1), undecided)
    return np.asarray(found.spread(winner.astype(np.uint8))), undecided


def _shares(weights: Sequence[float], count: int) -> NDArray[np.float64]:
    if count == 0:
        raise InputError("no_masks")
    share = np.asarray(weights, np.float64)
    sound = share.shape == (count,) and bool(np.isfinite(share).all()) and float(share.min()) >= 0.0
    if not sound or float(share.sum()) <= 0.0:
        raise InputError("vote_weights")
    return np.asarray(share / share.sum())


def _sizes(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int, int]:
    """|A|, |B| and |A and B|."""
    if first.shape != second.shape:
        raise InputError("mask_grid")
    one, other = (np.ascontiguousarray(each, np.bool_).ravel() for each in (first, second))
    both = np.empty(CHUNK, np.bool_)
    common = 0
    for start in range(0, one.size, CHUNK):
        part = slice(start, start + CHUNK)
        here = both[: one[part].size]
        np.bitwise_and(one[part], other[part], out=here)
        common += int(np.count_nonzero(here))
    return int(np.count_nonzero(one)), int(np.count_nonzero(other)), common


def _dice(one: int, other: int, both: int) -> float:
    return 2.0 * both / (one + other) if one + other else 1.0


def _iou(one: int, other: int, both: int) -> float:
    return both / (one + other - both) if one + other else 1.0


def _agreement(one: int, other: int, both: int) -> Agreement:
    value = _dice(one, other, both)
    return Agreement(value, _iou(one, other, both), band(value))
