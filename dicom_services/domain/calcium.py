"""The calcium scores of voxels that a reader counts: numpy alone, from sparse voxels.

The nodes' kernel scores a whole volume within a region; here the voxels are given. For the same
voxels both give the same numbers, which a test holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_services.domain.agatston import (
    MIN_AREA_MM2,
    STANDARD_SPACING_MM,
    STEPS_HU,
    Steps,
    density_weight,
    least_pixels,
)
from dicom_services.domain.cac_category import cac_drs, rumberger
from dicom_services.domain.findings import Code, Lesion, LesionSlice
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.vessels import (
    CORONARY_ARTERIES,
    TOTAL,
    UNASSIGNED,
    VESSELS,
    VesselScore,
    rescore,
    vessels_with_calcium,
)
from dicom_services.errors import InputError

VESSEL_ORDER: Final = (*VESSELS, UNASSIGNED)

Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CountedVoxels:
    """Voxels that count, each once; all arrays have one entry for each voxel.

    Parameters
    ----------
    k, row, column : (n,) int64
    hu : (n,) float64
    vessel : (n,) int64
        Index into `VESSEL_ORDER`.
    part : (n,) int64
        Where an algorithm's regions lie side by side, the number of the region: lesions of
        different regions were decided on separately and stay separate where they touch.
    """

    k: Whole
    row: Whole
    column: Whole
    hu: NDArray[np.float64]
    vessel: Whole
    part: Whole


@dataclass(frozen=True, slots=True, eq=False)
class ScoredCalcium:
    """The lesions that voxels form, and what they add up to.

    Parameters
    ----------
    lesions : tuple of Lesion
        By falling score, ids "1", "2", ...; `site` is the vessel.
    vessels : tuple of str
        The vessel of each lesion.
    lesion_of : (n,) int64
        Index of the lesion of each voxel; -1 where its island is too small to count.
    """

    lesions: tuple[Lesion, ...]
    vessels: tuple[str, ...]
    lesion_of: Whole
    voxels: CountedVoxels
    geometry: Geometry
    threshold_hu: float

    @property
    def agatston(self) -> float:
        """Sum over slices of area times weight, whatever the distance between slices."""
        return math.fsum(part.score for lesion in self.lesions for part in lesion.slices)

    @property
    def agatston_by_spacing(self) -> float:
        """The plain score times spacing / 3 mm."""
        return self.agatston * self.geometry.slice_spacing_mm / STANDARD_SPACING_MM

    @property
    def volume_mm3(self) -> float:
        """Number of voxels times their volume."""
        return int((self.lesion_of >= 0).sum()) * self.geometry.voxel_volume_mm3

    def mass_mg(self, factor: float | None) -> float | None:
        """Mass of hydroxyapatite: factor times the sum of HU times a voxel's volume.

        References
        ----------
        McCollough CH et al. Radiology 2007;243:527-538, Materials and Methods.
        """
        if factor is None:
            return None
        kept = self.voxels.hu[self.lesion_of >= 0]
        return factor * math.fsum(kept) * self.geometry.voxel_volume_mm3

    def by_vessel(self) -> dict[str, VesselScore]:
        """Scores of each vessel that has a lesion; the total is not among them."""
        names = {each.id: name for each, name in zip(self.lesions, self.vessels, strict=True)}
        scores = rescore(self.lesions, names)
        del scores[TOTAL]
        return scores

    def categories(self) -> tuple[Code, Code] | None:
        """CAC-DRS and Rumberger of the spacing-corrected score; None at another threshold."""
        if self.threshold_hu != STEPS_HU[0]:
            return None
        score = self.agatston_by_spacing
        return cac_drs(score, vessels_with_calcium(self.by_vessel())), rumberger(score)

    def lesions_at(self, places: Sequence[tuple[int, int, int]]) -> list[int | None]:
        """Index of the lesion that holds each (k, row, column); None where none does."""
        _, rows, columns = self.geometry.shape
        held = self.voxels
        flat = (held.k * rows + held.row) * columns + held.column
        order = np.argsort(flat)
        asked = np.array([(k * rows + row) * columns + column for k, row, column in places])
        at = np.searchsorted(flat[order], asked)
        found: list[int | None] = []
        for n, place in zip(at.tolist(), asked.tolist(), strict=True):
            inside = n < flat.size and int(flat[order[n]]) == place
            lesion = int(self.lesion_of[order[n]]) if inside else -1
            found.append(lesion if lesion >= 0 else None)
        return found


def score_counted(
    voxels: CountedVoxels,
    geometry: Geometry,
    *,
    threshold_hu: float = STEPS_HU[0],
    min_area_mm2: float = MIN_AREA_MM2,
) -> ScoredCalcium:
    """Lesions and scores of counted voxels.

    Islands are 8-connected within a slice, a vessel and a part, and count when they reach the
    least area; a lesion is islands that touch from slice to slice (26-connected). With another
    threshold the weight 1 spans it to 199 HU and a peak below it counts nothing.

    Raises
    ------
    InputError
        `mask_below_threshold` when a voxel does not reach the threshold, `mask_overlap` when one
        comes twice.

    References
    ----------
    Agatston AS et al. J Am Coll Cardiol 1990;15:827-832, Methods.
    """
    below = int((voxels.hu < threshold_hu).sum())
    if below or not np.isfinite(voxels.hu).all():
        raise InputError("mask_below_threshold", voxels=below)
    steps: Steps = (float(threshold_hu), *STEPS_HU[1:])
    order, places, strides = _in_order(voxels, geometry)
    island_of, run_of, starts, ends = _islands(places, strides)
    count = int(island_of.max()) + 1 if island_of.size else 0
    area = np.bincount(island_of[run_of], minlength=count)
    kept = area >= least_pixels(min_area_mm2, geometry.pixel_area_mm2)
    group = _lesion_numbers(starts, ends, island_of, kept, strides)
    numbers = group[island_of[run_of]] if count else run_of
    held = _taken(voxels, order)
    islands = _island_slices(held, island_of[run_of], area, geometry, steps)
    lesions = [
        _lesion(held, members, [islands[n] for n in own], geometry)
        for members, own in zip(_split(numbers), _split(group), strict=True)
    ]
    rank = sorted(
        range(len(lesions)),
        key=lambda n: (
            -lesions[n][0].score,
            -lesions[n][0].volume_mm3,
            lesions[n][0].center_mm[::-1],
        ),
    )
    place_of = np.full(len(lesions) + 1, -1, np.int64)
    place_of[rank] = np.arange(len(rank))
    lesion_of = np.empty(order.size, np.int64)
    lesion_of[order] = place_of[numbers]
    return ScoredCalcium(
        lesions=tuple(_named(lesions[n][0], place + 1) for place, n in enumerate(rank)),
        vessels=tuple(lesions[n][1] for n in rank),
        lesion_of=lesion_of,
        voxels=voxels,
        geometry=geometry,
        threshold_hu=float(threshold_hu),
    )


def components(count: int, ends: tuple[Whole, Whole]) -> Whole:
    """(count,) numbers 0, 1, ... of the connected parts of a graph, in the order of first nodes.

    Every round each part joins a neighbour with a smaller number, so their number at least
    halves.
    """
    label = np.arange(count)
    one, other = ends
    while True:
        first, second = label[one], label[other]
        low, high = np.minimum(first, second), np.maximum(first, second)
        if (low == high).all():
            break
        np.minimum.at(label, high, low)
        while True:
            deeper = label[label]
            if (deeper == label).all():
                break
            label = deeper
    numbers: Whole = np.unique(label, return_inverse=True)[1].reshape(-1)
    return numbers


@dataclass(frozen=True, slots=True)
class _Strides:
    """Distances in one long line of pixels: rows and slices have a margin, so nothing wraps."""

    row: int
    slice: int


def _in_order(voxels: CountedVoxels, geometry: Geometry) -> tuple[Whole, Whole, _Strides]:
    slices, rows, columns = geometry.shape
    strides = _Strides(columns + 2, (rows + 2) * (columns + 2))
    group = voxels.vessel * (int(voxels.part.max(initial=0)) + 1) + voxels.part
    places = (
        (group * (slices + 2) + voxels.k) * strides.slice + voxels.row * strides.row + voxels.column
    )
    alone = voxels.k * strides.slice + voxels.row * strides.row + voxels.column
    if np.unique(alone).size != alone.size:
        raise InputError("mask_overlap")
    order = np.argsort(places, kind="stable")
    return order, places[order], strides


def _islands(places: Whole, strides: _Strides) -> tuple[Whole, Whole, Whole, Whole]:
    """Island of each run, run of each voxel, first place and place after the last of each run."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    starts = places[np.concatenate(([0], breaks))] if places.size else places
    lasts = places[np.concatenate((breaks - 1, [places.size - 1]))] if places.size else places
    run_of = np.zeros(places.size, np.int64)
    run_of[breaks] = 1
    run_of = np.cumsum(run_of)
    ends = lasts + 1
    touching = _touching(starts, ends, strides.row)
    return components(starts.size, touching), run_of, starts, ends


def _touching(starts: Whole, ends: Whole, step: int) -> tuple[Whole, Whole]:
    """Pairs of runs that touch, also by a corner, when the first is moved by `step`."""
    low = np.searchsorted(ends, starts + step - 1, "right")
    high = np.searchsorted(starts, ends + step + 1, "left")
    many = np.maximum(high - low, 0)
    first = np.repeat(np.arange(starts.size), many)
    offset = np.arange(first.size) - np.repeat(np.cumsum(many) - many, many)
    return first, low[first] + offset


def _lesion_numbers(
    starts: Whole, ends: Whole, island_of: Whole, kept: NDArray[np.bool_], strides: _Strides
) -> Whole:
    """Number of the lesion of each island; -1 for those that are not kept."""
    alive = kept[island_of] if island_of.size else np.zeros(0, np.bool_)
    own = island_of[alive]
    pairs = [
        _touching(starts[alive], ends[alive], strides.slice + shift * strides.row)
        for shift in (-1, 0, 1)
    ]
    places = np.cumsum(kept) - 1
    one = np.concatenate([places[own[first]] for first, _ in pairs])
    other = np.concatenate([places[own[second]] for _, second in pairs])
    numbers = np.full(kept.size, -1, np.int64)
    numbers[kept] = components(int(kept.sum()), (one, other))
    return numbers


def _taken(voxels: CountedVoxels, order: Whole) -> CountedVoxels:
    return CountedVoxels(
        voxels.k[order],
        voxels.row[order],
        voxels.column[order],
        voxels.hu[order],
        voxels.vessel[order],
        voxels.part[order],
    )


def _split(numbers: Whole) -> list[Whole]:
    """Indices of what has the number 0, then of 1, ...; what has -1 is left out."""
    order = np.argsort(numbers, kind="stable")
    order = order[np.searchsorted(numbers[order], 0) :]
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if order.size else []


def _island_slices(
    voxels: CountedVoxels, island: Whole, area_px: Whole, geometry: Geometry, steps: Steps
) -> list[LesionSlice]:
    """Every island as a piece of a lesion."""
    peak = np.full(area_px.size, -np.inf)
    np.maximum.at(peak, island, voxels.hu)
    k = np.zeros(area_px.size, np.int64)
    k[island] = voxels.k
    row = np.bincount(island, voxels.row, area_px.size) / area_px
    column = np.bincount(island, voxels.column, area_px.size) / area_px
    area = (area_px * geometry.pixel_area_mm2).tolist()
    weight = [density_weight(value, steps) for value in peak.tolist()]
    places = zip(k.tolist(), row.tolist(), column.tolist(), strict=True)
    values = zip(area, peak.tolist(), weight, strict=True)
    return [
        LesionSlice(where[0], where[1], where[2], size, most, factor, size * factor)
        for where, (size, most, factor) in zip(places, values, strict=True)
    ]


def _lesion(
    voxels: CountedVoxels, members: Whole, slices: Sequence[LesionSlice], geometry: Geometry
) -> tuple[Lesion, str]:
    where = np.stack([voxels.k[members], voxels.row[members], voxels.column[members]])
    x, y, z = geometry.to_patient_mm(where.mean(axis=1))
    vessel = VESSEL_ORDER[int(voxels.vessel[members[0]])]
    lesion = Lesion(
        id="",
        tracking="",
        site=VESSELS.get(vessel, CORONARY_ARTERIES),
        center_mm=(float(x), float(y), float(z)),
        volume_mm3=members.size * geometry.voxel_volume_mm3,
        peak_hu=max(part.peak_hu for part in slices),
        score=math.fsum(part.score for part in slices),
        slices=tuple(sorted(slices, key=lambda part: (part.k, part.row, part.column))),
    )
    return lesion, vessel


def _named(lesion: Lesion, number: int) -> Lesion:
    return Lesion(
        id=str(number),
        tracking="",
        site=lesion.site,
        center_mm=lesion.center_mm,
        volume_mm3=lesion.volume_mm3,
        peak_hu=lesion.peak_hu,
        score=lesion.score,
        slices=lesion.slices,
    )


def voxels_of_runs(
    runs: Sequence[tuple[int, str, Sequence[int]]], shape: tuple[int, int, int]
) -> tuple[Whole, Whole, Whole, Whole]:
    """k, row, column and vessel of every voxel of runs.

    Parameters
    ----------
    runs : sequence of (k, vessel, runs)
        As `VesselRuns` holds them.
    shape : (slices, rows, columns)

    Raises
    ------
    InputError
        `mask_outside` when a run ends beyond the image.
    """
    _, rows, columns = shape
    slices, flats, vessels = [], [], []
    for k, vessel, pairs in runs:
        line = np.asarray(pairs, np.int64)
        start, length = line[0::2], line[1::2]
        if line.size and int((start + length).max()) > rows * columns:
            raise InputError("mask_outside")
        total = int(length.sum())
        begins = np.repeat(start - (np.cumsum(length) - length), length)
        flats.append(begins + np.arange(total))
        slices.append(np.full(total, k))
        vessels.append(np.full(total, VESSEL_ORDER.index(vessel)))
    if not flats:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing, nothing
    flat = np.concatenate(flats)
    return np.concatenate(slices), flat // columns, flat % columns, np.concatenate(vessels)
