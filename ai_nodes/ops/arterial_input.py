"""The artery that feeds the brain and the vein that drains it: found, or where a person says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.bolus_shape import clipped_tops, shape_facts
from ai_nodes.ops.concentration import checked_times, column_noise
from dicom_services.errors import InputError

AREA_SHARE: Final = 0.10
"""Mouridsen K et al. Magn Reson Med 2006;55:524-531, Methods: the tenth of largest area..."""
SMOOTH_SHARE: Final = 0.75
"""...of which the roughest quarter is left out..."""
ROUGH: Final = 0.1
"""...as far as its noise is above a tenth of its peak. Mouridsen's measure, the squared second
difference, is greatest for the sharpest bolus where there is little noise, which is the artery; the
median of neighbours' differences sees the noise alone. Both are ours."""
BEST_SHARE: Final = 0.02
LEAST_BEST: Final = 50
"""Of the rest the fiftieth with the best ranks by height, width and time goes on: the three marks
of an artery (Rempp KA et al. Radiology 1994;193:637-641; Mlynash M et al. AJNR 2005;26:1479-1486).
Without it, clusters of a large brain follow the tissue. Share and number are ours."""
CLUSTERS: Final = 5
"""...and the rest is split into five clusters, twice (Mouridsen 2006)."""
ROUNDS: Final = 100
FULL_SHARE: Final = 0.5
"""Voxels of the cluster below this share of its highest peak hold tissue too: left out; ours."""
LEAST_CANDIDATES: Final = 5
VEIN_SHARE: Final = 0.01
VEIN_VOXELS: Final = 10
VEIN_SPARE: Final = 5
"""So many times as many are looked at for clipped tops, and those give way to the next."""
LATER_S: Final = 1.0
"""First moment of a vein after the artery's, at least: blood needs 3 s or more through tissue."""

Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class ArterialInput:
    """A curve of a vessel and where it comes from.

    Parameters
    ----------
    values : (t,) float
        In the unit of the concentration.
    places : tuple of (k, j, i)
        Voxels it is the mean of.
    method : str
        "cluster", "given" or "vein".
    facts : dict
        "peak", "arrival_s", "peak_s", "fwhm_s" (NaN where it never falls to half), "area",
        "voxels", "candidates", "clipped_voxels".
    flags : tuple of str
        "saturated_aif" where a report should warn.
    """

    values: NDArray[np.float64]
    places: tuple[Place, ...]
    method: str
    facts: dict[str, float]
    flags: tuple[str, ...] = ()


def find_aif(
    concentration: NDArray[np.float32],
    times_s: Sequence[float] | NDArray[np.floating],
    mask: NDArray[np.bool_],
    *,
    index: NDArray[np.intp] | None = None,
) -> ArterialInput:
    """The arterial input, without a person.

    1. Curves with NaN and curves with a clipped top are left out.
    2. The tenth with the largest areas stays, without those of its quarter with the most noise
       for their peak that have more than `ROUGH`.
    3. Ranked by peak (high), area over peak (narrow) and first moment (early), those with the
       least sum of ranks stay: a fiftieth, or fifty.
    4. k-means of the curves of unit area, five clusters, started from fifths by first moment:
       the cluster whose mean has the least first moment stays. Twice; with fewer clusters where
       that one would have less than five voxels.
    5. Of the last cluster, voxels with at least half of its highest peak are averaged.

    Nothing is random: the same curves give the same artery, whatever their order.

    Parameters
    ----------
    concentration : (t, k, j, i), or (t, n) with `index`
    mask : (k, j, i) bool
        Where to look: the brain with its arteries.
    index : (n,) int or None
        Flat (k, j, i) position of each column.

    Raises
    ------
    InputError
        `no_aif` when fewer than five curves are left; `saturated_aif` when they are clipped;
        `too_few_times`, `times_order`.

    References
    ----------
    Mouridsen K, Christensen S, Gyldensted L, Oestergaard L. Magn Reson Med 2006;55:524-531.
    """
    times = checked_times(times_s)
    curves, flat = _within(concentration, mask, index)
    if (np.diff(flat) < 0).any():
        order = np.argsort(flat, kind="stable")
        curves, flat = curves[:, order], flat[order]
    weights = np.gradient(times)
    chosen, clipped = _candidates(curves, times, weights)
    found = len(chosen)
    for _ in range(2):
        chosen = chosen[_earliest(curves[:, chosen], times, weights)]
    peaks = curves[:, chosen].max(axis=0)
    chosen = chosen[peaks >= FULL_SHARE * peaks.max()]
    values = curves[:, chosen].mean(axis=1, dtype=np.float64)
    facts = {"candidates": float(found), "clipped_voxels": float(clipped)}
    return _vessel(values, times, flat[chosen], mask.shape, "cluster", facts)


def find_vof(
    concentration: NDArray[np.float32],
    times_s: Sequence[float] | NDArray[np.floating],
    mask: NDArray[np.bool_],
    aif: ArterialInput,
    *,
    index: NDArray[np.intp] | None = None,
) -> ArterialInput:
    """The venous output: of curves that come later than the artery and are not clipped, the
    hundredth with the largest areas, and of these the ten highest.

    Large veins are the only voxels that blood fills: their areas are the largest there are.

    Raises
    ------
    InputError
        `no_vof`, `too_few_times`, `times_order`.

    References
    ----------
    Cenic A et al. AJNR 1999;20:63-73: area of the sagittal sinus against partial volume.
    """
    times = checked_times(times_s)
    curves, flat = _within(concentration, mask, index)
    weights = np.gradient(times)
    area, moment = np.stack([weights, weights * times]).astype(np.float32) @ curves
    artery_s = float((weights * times) @ aif.values) / float(weights @ aif.values)
    # A NaN in a curve is a NaN in its area, and fails every comparison.
    late = np.flatnonzero((area > 0.0) & (moment >= (artery_s + LATER_S) * area))
    late = late[np.argsort(-area[late], kind="stable")]
    most = max(VEIN_VOXELS, round(VEIN_SHARE * len(late)))
    large = late[: VEIN_SPARE * most]
    large = large[~clipped_tops(curves[:, large], times)][:most] if len(large) else large
    if len(large) < LEAST_CANDIDATES:
        raise InputError("no_vof", voxels=len(large))
    high = large[np.argsort(-curves[:, large].max(axis=0), kind="stable")[:VEIN_VOXELS]]
    values = curves[:, high].mean(axis=1, dtype=np.float64)
    facts = {"candidates": float(len(large))}
    return _vessel(values, times, flat[high], mask.shape, "vein", facts)


def aif_of(
    places: Sequence[Place],
    concentration: NDArray[np.float32],
    times_s: Sequence[float] | NDArray[np.floating],
) -> ArterialInput:
    """The mean curve of voxels that a person chose; `concentration` is (t, k, j, i).

    A clipped top is told, not refused: who chose the voxels may know why.

    Raises
    ------
    InputError
        `aif_place` for none or one outside of the grid, `aif_undefined` when no voxel has a
        curve, `aif_empty` when their mean never rises; `too_few_times`, `times_order`.
    """
    times = checked_times(times_s)
    shape = concentration.shape[1:]
    chosen = sorted(set(places))
    inside = all(
        len(one) == 3 and all(0 <= at < size for at, size in zip(one, shape, strict=True))
        for one in chosen
    )
    if not chosen or not inside:
        raise InputError("aif_place", voxels=len(chosen))
    flat = np.array([np.ravel_multi_index(one, shape) for one in chosen])
    curves = np.stack([concentration[:, k, j, i] for k, j, i in chosen], 1)
    good = np.isfinite(curves).all(axis=0)
    if not good.any():
        raise InputError("aif_undefined", voxels=len(chosen))
    values = curves[:, good].mean(axis=1, dtype=np.float64)
    return _vessel(values, times, flat[good], shape, "given", {"candidates": float(len(chosen))})


def _within(
    concentration: NDArray[np.float32],
    mask: NDArray[np.bool_],
    index: NDArray[np.intp] | None,
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Curves (t, m) inside the mask and their flat positions."""
    if index is None:
        if concentration.shape[1:] != mask.shape:
            raise InputError("mask_grid")
        flat = np.flatnonzero(mask)
        return concentration.reshape(len(concentration), -1)[:, flat], flat
    if concentration.shape[1:] != index.shape:
        raise InputError("mask_grid")
    inside = mask.ravel()[index]
    return concentration[:, inside], index[inside]


def _candidates(
    curves: NDArray[np.float32], times: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.intp], int]:
    """Columns with large areas and smooth shapes, and how many large ones are clipped."""
    area = weights.astype(np.float32) @ curves
    good = np.flatnonzero(np.isfinite(area) & (area > 0.0))
    if len(good) < LEAST_CANDIDATES:
        raise InputError("no_aif", voxels=len(good))
    count = max(LEAST_CANDIDATES, round(AREA_SHARE * len(good)))
    large = good[np.argsort(-area[good], kind="stable")[:count]]
    clipped = clipped_tops(curves[:, large], times)
    left = large[~clipped]
    if len(left) < LEAST_CANDIDATES:
        raise InputError("saturated_aif", clipped=int(clipped.sum()))
    rough = column_noise(curves[:, left]) / curves[:, left].max(axis=0)
    smooth = left[rough <= max(ROUGH, float(np.quantile(rough, SMOOTH_SHARE)))]
    return smooth[_best_ranks(curves[:, smooth], times, weights)], int(clipped.sum())


def _best_ranks(
    curves: NDArray[np.float32], times: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Columns that are high, narrow and early together."""
    peak, area = curves.max(axis=0), weights @ curves
    marks = (-peak, area / peak, ((weights * times) @ curves) / area)
    ranks = np.zeros(len(peak))
    for mark in marks:
        ranks[np.argsort(mark, kind="stable")] += np.arange(len(peak))
    count = max(LEAST_BEST, round(BEST_SHARE * len(peak)))
    return np.sort(np.argsort(ranks, kind="stable")[:count])


def _earliest(
    curves: NDArray[np.float32], times: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Columns of the cluster with the least first moment: of five, or of as many as leave it
    with enough voxels."""
    unit = (curves / (weights @ curves)).T.astype(np.float64)
    for clusters in range(min(CLUSTERS, len(unit)), 1, -1):
        label, centres = _clusters(unit, unit @ (weights * times), clusters)
        present = np.unique(label)
        first = present[np.argmin(centres[present] @ (weights * times))]
        if (label == first).sum() >= LEAST_CANDIDATES:
            return np.flatnonzero(label == first)
    return np.arange(len(unit))


def _clusters(
    unit: NDArray[np.float64], moment: NDArray[np.float64], clusters: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Label of each curve (n, t) and the means of the clusters; started by first moment."""
    parts = np.array_split(np.argsort(moment, kind="stable"), clusters)
    centres = np.stack([unit[part].mean(axis=0) for part in parts])
    label = np.full(len(unit), -1)
    for _ in range(ROUNDS):
        # Squared distances but for the curve's own square, which is the same for every centre.
        far = (centres**2).sum(axis=1) - 2.0 * (unit @ centres.T)
        before, label = label, far.argmin(axis=1)
        if (before == label).all():
            break
        for one in np.unique(label):
            centres[one] = unit[label == one].mean(axis=0)
    return label, centres


def _vessel(
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    flat: NDArray[np.intp],
    shape: tuple[int, ...],
    method: str,
    facts: dict[str, float],
) -> ArterialInput:
    if values.max() <= 0.0:
        raise InputError("aif_empty")
    told = facts | shape_facts(values, times) | {"voxels": float(len(flat))}
    flags = ("saturated_aif",) if clipped_tops(values[:, None], times)[0] else ()
    places = np.stack(np.unravel_index(np.sort(flat), shape), 1)
    return ArterialInput(
        values, tuple((int(k), int(j), int(i)) for k, j, i in places), method, told, flags
    )
