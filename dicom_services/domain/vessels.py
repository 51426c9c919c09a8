"""Coronary arteries by name, and the score of each when lesions are assigned to them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dicom_services.domain.findings import Code, Lesion
from dicom_services.errors import InputError

CORONARY_ARTERIES: Final = Code("41801008", "SCT", "Coronary artery")

# PS3.16 CID 3015.
VESSELS: Final = {
    "LM": Code("3227004", "SCT", "Left Main Coronary Artery"),
    "LAD": Code("59438005", "SCT", "Left Anterior Descending Coronary Artery"),
    "LCx": Code("57396003", "SCT", "Circumflex Coronary Artery"),
    "RCA": Code("13647002", "SCT", "Right Coronary Artery"),
}

TOTAL: Final = "total"
UNASSIGNED: Final = "unassigned"


@dataclass(frozen=True, slots=True)
class VesselScore:
    """What the lesions of one vessel, or all of them, add up to.

    `agatston` is the plain score, not corrected for slice spacing.
    """

    agatston: float
    volume_mm3: float
    lesions: int


def rescore(
    lesions: Sequence[Lesion],
    assignments: Mapping[str, str] | None = None,
    excluded: Collection[str] = (),
) -> dict[str, VesselScore]:
    """Scores by vessel after a reader or a model assigned and excluded lesions.

    Parameters
    ----------
    assignments : lesion id to vessel
        Vessel is "LM", "LAD", "LCx", "RCA" or "unassigned"; what is not named is unassigned.
    excluded : lesion ids
        They count nowhere.

    Returns
    -------
    dict
        "total" always, then each vessel that has a lesion, in the order of `VESSELS`,
        "unassigned" last.

    Raises
    ------
    InputError
        `lesion_unknown`, `vessel_unknown`.
    """
    chosen = dict(assignments or {})
    if (chosen.keys() | set(excluded)) - {lesion.id for lesion in lesions}:
        raise InputError("lesion_unknown")
    if set(chosen.values()) - {*VESSELS, UNASSIGNED}:
        raise InputError("vessel_unknown")
    counted = [lesion for lesion in lesions if lesion.id not in excluded]
    scores = {TOTAL: _sum(counted)}
    for vessel in (*VESSELS, UNASSIGNED):
        own = [each for each in counted if chosen.get(each.id, UNASSIGNED) == vessel]
        if own:
            scores[vessel] = _sum(own)
    return scores


def vessels_with_calcium(scores: Mapping[str, VesselScore]) -> int | None:
    """How many of the four arteries have calcium; None while a lesion is unassigned."""
    return None if UNASSIGNED in scores else sum(vessel in scores for vessel in VESSELS)


def _sum(lesions: Sequence[Lesion]) -> VesselScore:
    return VesselScore(
        agatston=math.fsum(part.score for lesion in lesions for part in lesion.slices),
        volume_mm3=math.fsum(lesion.volume_mm3 for lesion in lesions),
        lesions=len(lesions),
    )
