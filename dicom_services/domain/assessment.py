"""What a reader says of a result: a verdict, its coded reasons, and for calcium the edited mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from dicom_services.domain.findings import Code

Verdict = Literal["accept", "modify", "reject"]
Vessel = Literal["LM", "LAD", "LCx", "RCA", "unassigned"]
ReasonCode = Literal[
    "not_calcium",
    "bone",
    "aortic_wall",
    "valve",
    "mitral_annulus",
    "metal",
    "noise",
    "motion",
    "lymph_node",
    "pericardium",
    "missed",
    "wrong_vessel",
    "extent",
    "threshold",
    "image_quality",
    "wrong_patient_or_series",
    "other",
]

PRIVATE: Final = "99RADLOOP"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a reader does not take a result as it is.

    `standard` names the thing meant where SNOMED CT or DICOM has a code for it: what a rejected
    lesion is instead, or what is wrong with the images.
    """

    code: Code
    standard: Code | None = None


def _reason(value: str, meaning: str, standard: Code | None = None) -> Reason:
    return Reason(Code(value, PRIVATE, meaning), standard)


# The standard codes stand in PS3.16 annex D and in its CID 4, 3016 and 6135 among others.
REASONS: Final[Mapping[str, Reason]] = {
    "not_calcium": _reason("not_calcium", "Not a calcification"),
    "bone": _reason("bone", "Bone", Code("272673000", "SCT", "Bone")),
    "aortic_wall": _reason("aortic_wall", "Wall of the aorta", Code("15825003", "SCT", "Aorta")),
    "valve": _reason("valve", "Heart valve", Code("373136005", "SCT", "Calcified Heart Valve")),
    "mitral_annulus": _reason(
        "mitral_annulus", "Mitral annulus", Code("65197004", "SCT", "Mitral Annulus")
    ),
    "metal": _reason("metal", "Metal, or an artifact of it"),
    "noise": _reason("noise", "Noise", Code("130578", "DCM", "Poor SNR")),
    "motion": _reason("motion", "Motion artifact", Code("111210", "DCM", "Motion blur")),
    "lymph_node": _reason("lymph_node", "Lymph node", Code("59441001", "SCT", "Lymph Node")),
    "pericardium": _reason("pericardium", "Pericardium", Code("76848001", "SCT", "Pericardium")),
    "missed": _reason("missed", "Missed by the algorithm"),
    "wrong_vessel": _reason("wrong_vessel", "Belongs to another vessel"),
    "extent": _reason("extent", "Extent is not right"),
    "threshold": _reason("threshold", "Another threshold fits better"),
    "image_quality": _reason(
        "image_quality",
        "Image quality does not allow it",
        Code("122742", "DCM", "Poor image quality"),
    ),
    "wrong_patient_or_series": _reason("wrong_patient_or_series", "Wrong patient or wrong series"),
    "other": _reason("other", "Other, see the note"),
}
"""The closed list; a code that is released is never renamed. "other" needs a note."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The voxel a decision is bound to: a lesion's peak."""

    sop_instance_uid: str
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class LesionVerdict:
    """What a reader says of one lesion; `tracking_uid` is "" for one that the reader added."""

    id: str
    tracking_uid: str
    verdict: Verdict
    counted: bool
    vessel: Vessel
    reason: ReasonCode | Literal[""]
    note: str
    anchor: Anchor


@dataclass(frozen=True, slots=True)
class VesselRuns:
    """The counted voxels of one vessel in one image.

    `runs` is start, length, start, length, ... of flat row-major pixel indices from 0.
    """

    sop_instance_uid: str
    vessel: Vessel
    runs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BrowserScores:
    """The scores as the reader saw them when saving."""

    agatston: float
    agatston_by_spacing: float
    volume_mm3: float
    mass_mg: float | None
    lesions: int


@dataclass(frozen=True, slots=True)
class CalciumEdit:
    """A calcium result as the reader left it."""

    threshold_hu: float
    lesions: tuple[LesionVerdict, ...]
    mask: tuple[VesselRuns, ...]
    scores: BrowserScores


@dataclass(frozen=True, slots=True)
class Assessment:
    """One verdict of one reader on one result, as the browser made it.

    Parameters
    ----------
    id : str
        UUID 4, made by the browser: what is sent twice is kept once.
    made_at : str
        ISO 8601 with an offset, by the browser's clock.
    job, report_uid : str
        The result: its job id and the SOP Instance UID of its report.
    source_series : str
    verdict : Verdict
    reason : ReasonCode or ""
        Never "" for a rejection.
    note : str
    base : str
        Id of the newest correction the reader had seen; "" when there was none.
    calcium : CalciumEdit or None
        None for a verdict on the finding as a whole.
    """

    id: str
    made_at: str
    job: str
    report_uid: str
    source_series: str
    verdict: Verdict
    reason: ReasonCode | Literal[""]
    note: str
    base: str
    calcium: CalciumEdit | None = None
