"""The result that a reader assesses: its objects, its algorithm, its scores as far as known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dicom_services.domain.agatston import STANDARD_SPACING_MM

_MASS_METHOD: Final = "112057"


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """A stored object of the study."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class AlgorithmScores:
    """What the algorithm's counted lesions add up to."""

    threshold_hu: float
    agatston: float
    agatston_by_spacing: float
    volume_mm3: float
    mass_mg: float | None
    lesions: int


@dataclass(frozen=True, slots=True)
class AssessedResult:
    """A result of a job.

    Parameters
    ----------
    job, pipeline, version : str
    model, model_version : str
        "" where nothing tells.
    report : ObjectReference
    segmentation : ObjectReference or None
    scores : AlgorithmScores or None
        None for a pipeline that scores no calcium, or where only the report is left.
    """

    job: str
    pipeline: str
    version: str
    model: str
    model_version: str
    report: ObjectReference
    segmentation: ObjectReference | None
    scores: AlgorithmScores | None


def algorithm_scores(findings: Mapping[str, Any] | None) -> AlgorithmScores | None:
    """Totals of the counted lesions of a findings document; None where it scores no calcium."""
    scoring = findings.get("scoring") if findings else None
    if not findings or not scoring or not findings.get("masks"):
        return None
    counted = [row["score"] for row in findings["lesions"] if row.get("counted", True)]
    totals = [one for one in findings["lesion_totals"] if one.get("counted", True)]
    spacing = float(findings["masks"][0]["slice_spacing_mm"])
    mass = [
        float(one["value"])
        for one in findings["findings"]
        if one["kind"] == "measurement" and (one["method"] or {}).get("value") == _MASS_METHOD
    ]
    agatston = math.fsum(counted)
    return AlgorithmScores(
        threshold_hu=float(scoring["threshold_hu"]),
        agatston=agatston,
        agatston_by_spacing=agatston * spacing / STANDARD_SPACING_MM,
        volume_mm3=math.fsum(one["volume_mm3"] for one in totals),
        mass_mg=mass[0] if mass else None,
        lesions=len(totals),
    )
