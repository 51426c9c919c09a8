"""STAPLE: what is there and how good each rater is, from the raters' masks alone.

The expectation-maximisation runs on the histogram of rater patterns, not on voxels: voxels with
the same pattern have the same weight, so the sums are the same and take no time. Beginning, prior
and convergence are those of ITK (STAPLEImageFilter, MultiLabelSTAPLEImageFilter).

References
----------
Warfield SK et al. IEEE Trans Med Imaging 2004;23:903-921.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.rater_patterns import Patterns, rater_patterns
from dicom_services.errors import InputError

MAX_ITERATIONS: Final = 10_000
"""ITK has no limit; this is far beyond what real masks need, and the result tells if it was hit."""

PRECISION: Final = 1e-14
"""Largest squared change of a rater's quality at which the EM ends, as in ITK (seven digits)."""

LABEL_PRECISION: Final = 1e-5
"""Largest change of a confusion matrix's entry at which the EM ends, as in ITK."""


@dataclass(frozen=True, slots=True, eq=False)
class Staple:
    """The fusion of masks and the quality of their raters.

    Parameters
    ----------
    probability : (k, j, i) float32
        That a voxel belongs to the structure.
    sensitivity, specificity : (r,) float64
        Of each rater against the fusion; 1 where there is nothing that could be missed.
    prior : float
        Share of all voxels that was taken for the structure.
    iterations : int
    converged : bool
    """

    probability: NDArray[np.float32]
    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]
    prior: float
    iterations: int
    converged: bool

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(k, j, i) bool: at least as likely inside as outside."""
        return np.asarray(self.probability >= np.float32(0.5))


@dataclass(frozen=True, slots=True, eq=False)
class LabelStaple:
    """The fusion of label maps.

    Parameters
    ----------
    labels : (k, j, i) uint8
        The likeliest label; `undecided` where two are equally likely.
    undecided : int
        One more than the highest label.
    confusion : (r, n, n) float64
        How often a rater says the row's label where the column's is true.
    prior : (n,) float64
    iterations : int
    converged : bool
    """

    labels: NDArray[np.uint8]
    undecided: int
    confusion: NDArray[np.float64]
    prior: NDArray[np.float64]
    iterations: int
    converged: bool


def staple(
    masks: NDArray[Any] | Sequence[NDArray[Any]],
    *,
    confidence: float = 1.0,
    max_iterations: int = MAX_ITERATIONS,
) -> Staple:
    """Fuse masks (r, k, j, i) of one structure; what is not 0 belongs to it.

    Parameters
    ----------
    confidence : float
        Multiplies the prior, ITK's ConfidenceWeight.

    Raises
    ------
    InputError
        `no_masks`; `mask_grid` when their shapes differ.
    """
    found = rater_patterns([np.asarray(each, np.bool_) for each in masks])
    said = found.said.astype(np.float64)
    counts = found.counts.astype(np.float64)
    weight = said.mean(axis=1)
    prior = float(counts @ weight / counts.sum()) * confidence
    last = np.full((2, said.shape[1]), -10.0)
    converged, iteration = False, 0
    while not converged and iteration < max_iterations:
        quality = np.stack([_share(counts * weight, said), _share(counts * (1 - weight), 1 - said)])
        weight = _likely(said, quality, prior, weight)
        converged = bool(((quality - last) ** 2 <= PRECISION).all())
        last = quality
        iteration += not converged
    probability = found.spread(weight.astype(np.float32))
    return Staple(probability, last[0], last[1], prior, iteration, converged)


def _share(weight: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r,) the part of the weight on which each rater is right; 1 where there is none."""
    total = weight.sum()
    return np.asarray(weight @ right / total) if total > 0.0 else np.ones(right.shape[1])


def _likely(
    said: NDArray[np.float64],
    quality: NDArray[np.float64],
    prior: float,
    before: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(p,) probability of each pattern; as before where perfect raters contradict each other."""
    inside = prior * np.where(said > 0, quality[0], 1.0 - quality[0]).prod(axis=1)
    beyond = (1.0 - prior) * np.where(said > 0, 1.0 - quality[1], quality[1]).prod(axis=1)
    total = inside + beyond
    return np.asarray(np.divide(inside, total, out=before.copy(), where=total > 0.0))


def staple_labels(
    labels: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    *,
    precision: float = LABEL_PRECISION,
    max_iterations: int = MAX_ITERATIONS,
) -> LabelStaple:
    """Fuse label maps (r, k, j, i) of labels 0 .. 254, all of them at once.

    Raises
    ------
    InputError
        `no_masks`; `mask_grid` when their shapes differ; `label_range`.
    """
    if any(np.asarray(each).size and not 0 <= int(np.max(each)) <= 254 for each in labels):
        raise InputError("label_range")
    undecided = 1 + max((int(np.max(each)) for each in labels if np.size(each)), default=0)
    found = rater_patterns(labels, levels=undecided)
    counts = found.counts.astype(np.float64)
    prior = _frequencies(found, undecided)
    confusion = _from_votes(found, undecided)
    converged, iteration = False, 0
    while not converged and iteration < max_iterations:
        weight = _label_weights(found, confusion, prior)
        total = weight.sum(axis=1, keepdims=True)
        weight = np.divide(weight, total, out=weight, where=total > 0.0) * counts[:, None]
        update = _tally(found, weight)
        total = update.sum(axis=1, keepdims=True)
        np.divide(update, total, out=update, where=total > 0.0)
        converged = bool(np.abs(update - confusion).max() < precision)
        confusion, iteration = update, iteration + 1
    best = _winners(_label_weights(found, confusion, prior))
    fused = found.spread(best.astype(np.uint8))
    return LabelStaple(fused, undecided, confusion, prior, iteration, converged)


def _frequencies(found: Patterns, levels: int) -> NDArray[np.float64]:
    """(n,) how often each label is said, over all raters."""
    counts = np.repeat(found.counts[:, None], found.said.shape[1], axis=1)
    said = np.bincount(found.said.ravel(), counts.ravel().astype(np.float64), levels)
    return np.asarray(said / said.sum())


def _from_votes(found: Patterns, levels: int) -> NDArray[np.float64]:
    """(r, n, n) confusion against the majority, each row (what was said) adding up to 1.

    Voxels without a majority count for nothing: in ITK they count for a label by accident, one
    row further down than they belong.
    """
    votes = (found.said[:, :, None] == np.arange(levels)).sum(axis=1)
    winners = _winners(votes.astype(np.float64))
    decided = winners[:, None] == np.arange(levels)
    confusion = _tally(found, decided * found.counts[:, None].astype(np.float64))
    total = confusion.sum(axis=2, keepdims=True)
    np.divide(confusion, total, out=confusion, where=total > 0.0)
    return confusion


def _tally(found: Patterns, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r, n, n) the weights (p, n) of the true labels added up by what each rater said."""
    levels = weight.shape[1]
    confusion = np.zeros((found.said.shape[1], levels, levels))
    for rater, said in zip(confusion, found.said.T, strict=True):
        np.add.at(rater, said, weight)
    return confusion


def _label_weights(
    found: Patterns, confusion: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(p, n) prior times what each rater's word makes of each label."""
    weight = np.tile(prior, (len(found.said), 1))
    for rater, said in zip(confusion, found.said.T, strict=True):
        weight *= rater[said]
    return weight


def _winners(weight: NDArray[np.float64]) -> NDArray[np.int64]:
    """(p,) the label with the largest weight, n where two share it."""
    levels = weight.shape[1]
    most = weight.max(axis=1, keepdims=True)
    alone = (weight == most).sum(axis=1) == 1
    return np.asarray(np.where(alone, weight.argmax(axis=1), levels))
