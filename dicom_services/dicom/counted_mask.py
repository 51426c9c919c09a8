"""The scores of a reader's mask, from the few slices it lies on, in a child with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_services.dicom.child import Limits, Send, start_child
from dicom_services.dicom.indexed_series import IndexedInstance, IndexedSeries, indexed_series
from dicom_services.dicom.pixels import BeyondInt16Error, fill
from dicom_services.dicom.quiet import quiet
from dicom_services.dicom.segment_bits import read_segment_bits
from dicom_services.dicom.slice_header import Slice, read_slice
from dicom_services.domain.agatston import MIN_AREA_MM2
from dicom_services.domain.assessment import Anchor, VesselRuns
from dicom_services.domain.calcium import (
    CountedVoxels,
    ScoredCalcium,
    Whole,
    score_counted,
    voxels_of_runs,
)
from dicom_services.errors import InputError

_MEMORY_BYTES: Final = 512 << 20
_BYTES_PER_VOXEL: Final = 512
"""Of a counted voxel: some thirty arrays of eight bytes, not all at a time."""
_CPU_S: Final = 60
_WALL_S: Final = 120.0
_OTHER: Final = 2
"""Part of voxels outside both regions of the algorithm."""


@dataclass(frozen=True, slots=True)
class CountedMask:
    """What to score.

    Parameters
    ----------
    runs : tuple of VesselRuns
    anchors : mapping of lesion id to Anchor
    threshold_hu, min_area_mm2 : float
    mass_factor : float or None
    """

    runs: tuple[VesselRuns, ...]
    anchors: Mapping[str, Anchor]
    threshold_hu: float
    min_area_mm2: float = MIN_AREA_MM2
    mass_factor: float | None = None


def score_mask_limited(
    files: Sequence[bytes],
    index: Sequence[IndexedInstance],
    mask: CountedMask,
    regions: bytes | None = None,
) -> dict[str, Any]:
    """Scores, categories and lesions of a reader's mask.

    Parameters
    ----------
    files : sequence of bytes
        At least one image of the series, and every one that the mask names.
    index : sequence of IndexedInstance
        All images of the series.
    regions : bytes or None
        The algorithm's segmentation: then lesions of its two regions stay apart where they touch.

    Returns
    -------
    dict
        `scores` as the API gives them, `lesions` with their slices, vessel and decision.

    Raises
    ------
    InputError
        `mask_image_unknown`, `mask_outside`, `mask_below_threshold`, `anchor_outside`,
        `not_hounsfield`, what reading raises, and `decoder_died`.
    """
    voxels = sum(sum(entry.runs[1::2]) for entry in mask.runs)
    memory = _MEMORY_BYTES + _BYTES_PER_VOXEL * voxels + 4 * len(regions or b"") * 8
    limits = Limits(memory, memory, _CPU_S, _CPU_S, _WALL_S)

    def work(send: Send) -> None:
        with quiet():
            send(score_mask(files, index, mask, regions))

    (answer,) = start_child(work, limits).messages()
    found: dict[str, Any] = answer
    return found


def score_mask(
    files: Sequence[bytes],
    index: Sequence[IndexedInstance],
    mask: CountedMask,
    regions: bytes | None = None,
) -> dict[str, Any]:
    """As `score_mask_limited`, in this process."""
    if not files:
        raise InputError("no_files")
    series = indexed_series(files[0], index)
    _check_anchors(mask, series)
    entries = [(_k(entry.sop_instance_uid, series), entry) for entry in mask.runs]
    voxels = _voxels(files, entries, series)
    if regions is not None:
        voxels = replace(voxels, part=_parts(regions, voxels, series))
    scored = score_counted(
        voxels,
        series.geometry,
        threshold_hu=mask.threshold_hu,
        min_area_mm2=mask.min_area_mm2,
    )
    return _answer(scored, mask, series)


def _k(uid: str, series: IndexedSeries) -> int:
    if uid not in series.k_of:
        raise InputError("mask_image_unknown")
    return series.k_of[uid]


def _check_anchors(mask: CountedMask, series: IndexedSeries) -> None:
    _, rows, columns = series.geometry.shape
    for anchor in mask.anchors.values():
        _k(anchor.sop_instance_uid, series)
        if not (anchor.row < rows and anchor.column < columns):
            raise InputError("anchor_outside")


def _voxels(
    files: Sequence[bytes], entries: Sequence[tuple[int, VesselRuns]], series: IndexedSeries
) -> CountedVoxels:
    runs = [(k, entry.vessel, entry.runs) for k, entry in entries]
    k, row, column, vessel = voxels_of_runs(runs, series.geometry.shape)
    hu = np.empty(k.size, np.float64)
    slices = {one.uid: one for one in map(read_slice, files)}
    for uid in {entry.sop_instance_uid for _, entry in entries}:
        at = k == series.k_of[uid]
        if uid not in slices:
            raise InputError("mask_image_unknown")
        hu[at] = plane_hu(slices[uid], series)[row[at], column[at]]
    return CountedVoxels(k, row, column, hu, vessel, np.zeros(k.size, np.int64))


def plane_hu(one: Slice, series: IndexedSeries) -> NDArray[Any]:
    """(row, column) HU of one image of the series."""
    if not one.hounsfield:
        raise InputError("not_hounsfield")
    if one.shape != series.geometry.shape[1:]:
        raise InputError("mixed_size", count=2)
    whole = np.empty(one.shape, np.int16)
    try:
        if one.rescale.whole:
            fill(one, whole)
            return whole
    except BeyondInt16Error:
        pass
    exact = np.empty(one.shape, np.float32)
    fill(one, exact)
    return exact


def _parts(regions: bytes, voxels: CountedVoxels, series: IndexedSeries) -> Whole:
    """0 in the region the algorithm scored, 1 in what it set aside, `_OTHER` elsewhere.

    Segment 2 is the region, segment 3 what was set aside, which prevails.
    """
    parts = np.full(voxels.k.size, _OTHER, np.int64)
    found = read_segment_bits(regions, series)
    for segment, part in ((2, 0), (3, 1)):
        for k in np.unique(voxels.k).tolist():
            at = np.flatnonzero(voxels.k == k)
            parts[at[found.marked(segment, k, voxels.row[at], voxels.column[at])]] = part
    return parts


def _answer(scored: ScoredCalcium, mask: CountedMask, series: IndexedSeries) -> dict[str, Any]:
    categories = scored.categories()
    decided: dict[int, list[str]] = {}
    places = [
        (series.k_of[anchor.sop_instance_uid], anchor.row, anchor.column)
        for anchor in mask.anchors.values()
    ]
    for name, at in zip(mask.anchors, scored.lesions_at(places), strict=True):
        if at is not None:
            decided.setdefault(at, []).append(name)
    return {
        "scores": {
            "threshold_hu": scored.threshold_hu,
            "agatston": scored.agatston,
            "agatston_by_spacing": scored.agatston_by_spacing,
            "volume_mm3": scored.volume_mm3,
            "mass_mg": scored.mass_mg(mask.mass_factor),
            "lesions": len(scored.lesions),
            "cac_drs": asdict(categories[0]) if categories else None,
            "rumberger": asdict(categories[1]) if categories else None,
            "vessels": {name: asdict(one) for name, one in scored.by_vessel().items()},
        },
        "lesions": [
            {
                "decided": decided.get(n, []),
                "vessel": vessel,
                "score": lesion.score,
                "volume_mm3": lesion.volume_mm3,
                "peak_hu": lesion.peak_hu,
                "center_mm": list(lesion.center_mm),
                "slices": [
                    {
                        **asdict(part),
                        "sop_instance_uid": series.source.instances[part.k].sop_instance_uid,
                    }
                    for part in lesion.slices
                ],
            }
            for n, (lesion, vessel) in enumerate(zip(scored.lesions, scored.vessels, strict=True))
        ],
        "slice_spacing_mm": scored.geometry.slice_spacing_mm,
    }
