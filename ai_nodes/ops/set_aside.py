"""What the heart's rule took out of its region, as lesions that a reader may count after all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops.agatston import Calcium, calcium_mask, find_calcium
from dicom_services.domain.agatston import MIN_AREA_MM2, STEPS_HU, Steps
from dicom_services.domain.findings import Code, Lesion
from dicom_services.domain.volume import Volume

Bools = NDArray[np.bool_]
Reasons = Sequence[tuple[str, NDArray[np.intp]]]

PRIVATE: Final = "99RADLOOP"
WHY: Final = {
    "metal": Code("metal", PRIVATE, "Metal, or what touches metal"),
    "bone": Code("bone", PRIVATE, "Bone or cartilage that goes on outside of the heart"),
    "aortic_wall": Code("aortic_wall", PRIVATE, "Wall of the aorta"),
    "edge": Code("edge", PRIVATE, "Lies along the edge of the lung"),
    "rim": Code("rim", PRIVATE, "Faint thin rim along the lung"),
    "smear": Code("smear", PRIVATE, "Smeared by motion: its surroundings are bright"),
}
"""Reasons of `lookalikes`."""

MOST_LESIONS: Final = 200
"""More than anybody looks through; ribs and spine that reach into the outline can give thousands
of noise specks."""


@dataclass(frozen=True, slots=True, eq=False)
class SetAside:
    """The voxels, (k, j, i) bool, their highest scoring lesions, and how many more there are."""

    mask: Bools
    lesions: tuple[Lesion, ...]
    unlisted: int


def set_aside(
    ct: Volume,
    parts: Reasons,
    site: Code,
    *,
    steps_hu: Steps = STEPS_HU,
    min_area_mm2: float = MIN_AREA_MM2,
    taken: Collection[str] = (),
) -> SetAside:
    """Lesions of what was taken out, found as the counted ones are, "S1" first.

    Parameters
    ----------
    parts : sequence of (reason, (n,) int)
        As `HeartRegion.set_aside`.
    taken : collection of str
        Tracking keys of the counted lesions; no other lesion gets one of them.
    """
    mask = np.zeros(ct.geometry.shape, np.bool_)
    for _, voxels in parts:
        mask.ravel()[voxels] = True
    how = {"steps_hu": steps_hu, "min_area_mm2": min_area_mm2, "region": mask}
    found = find_calcium(ct, site, **how)  # type: ignore[arg-type] # each has its own type
    kept = calcium_mask(ct, **how)  # type: ignore[arg-type] # as above
    reasons = _reasons(found, kept, parts)
    lesions = tuple(
        replace(
            lesion,
            id=f"S{number}",
            tracking=_free(lesion.tracking, taken),
            counted=False,
            reason=WHY[reason],
        )
        for number, (lesion, reason) in enumerate(zip(found.lesions, reasons, strict=True), 1)
    )
    return SetAside(mask, lesions[:MOST_LESIONS], max(0, len(lesions) - MOST_LESIONS))


def _reasons(found: Calcium, kept: Bools, parts: Reasons) -> list[str]:
    """Why most voxels of each lesion were taken out; the first of equal reasons."""
    if not found.lesions:
        return []
    names = [name for name, _ in parts]
    plane = kept.shape[1] * kept.shape[2]
    votes = np.zeros((int(found.islands.group.max()) + 1, len(names)), np.int64)
    first = np.searchsorted(found.islands.k, np.arange(kept.shape[0] + 1))
    for k in np.unique(found.islands.k):
        # Labels come in the order of their first pixel, as islands do.
        labels, count = ndimage.label(kept[k], np.ones((3, 3)))
        groups = found.islands.group[first[k] : first[k + 1]]
        if count != groups.size:
            raise AssertionError("islands and labels differ")
        group_of = np.concatenate([[-1], groups])
        for n, (_, voxels) in enumerate(parts):
            low, high = np.searchsorted(voxels, (k * plane, (k + 1) * plane))
            here = group_of[labels.ravel()[voxels[low:high] - k * plane]]
            np.add.at(votes[:, n], here[here >= 0], 1)
    best = votes.argmax(axis=1)
    return [names[best[group]] for group in found.groups]


def _free(tracking: str, taken: Collection[str]) -> str:
    return f"{tracking} set aside" if tracking in taken else tracking
