"""Corrections as the API gives them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from dicom_services.api.correction_body import CalciumBody, ResultBody
from dicom_services.domain.assessment import Verdict
from dicom_services.store.correction import Stored


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AuthorAnswer(_Answer):
    """Who said it."""

    id: str
    display_name: str


class CodeAnswer(_Answer):
    """A coded concept."""

    value: str
    scheme: str
    meaning: str


class VesselAnswer(_Answer):
    """What the lesions of one vessel add up to; the Agatston score is the plain one."""

    agatston: float
    volume_mm3: float
    lesions: int


class ScoresAnswer(_Answer):
    """The server's own scores of the reader's mask; categories at 130 HU alone."""

    threshold_hu: float
    agatston: float
    agatston_by_spacing: float
    volume_mm3: float
    mass_mg: float | None
    lesions: int
    cac_drs: CodeAnswer | None
    rumberger: CodeAnswer | None
    vessels: dict[str, VesselAnswer]


class ObjectAnswer(_Answer):
    """An object in the archive."""

    modality: Literal["SEG", "SR"]
    sop_instance_uid: str
    series_instance_uid: str


class CorrectionAnswer(_Answer):
    """A correction that is kept."""

    id: str
    seq: int
    """1, 2, ... within the study."""
    author: AuthorAnswer
    made_at: str
    received_at: str
    verdict: Verdict
    reason: str
    note: str
    result: ResultBody
    source_series: str
    base: str
    calcium: CalciumBody | None
    scores: ScoresAnswer | None
    score_check: Literal["equal", "differs", "none"]
    """Whether the browser had shown what the server scores."""
    concurrent: list[str]
    """Ids of others' corrections that the reader had not seen."""
    objects: list[ObjectAnswer]
    delivery: Literal["waiting", "stored"]


class CorrectionsAnswer(_Answer):
    """All corrections of a study, oldest first."""

    corrections: list[CorrectionAnswer]


def correction(stored: Stored) -> CorrectionAnswer:
    """A correction as the API gives it."""
    body, outcome = stored.body, stored.outcome
    return CorrectionAnswer.model_validate(
        {
            "id": str(stored.id),
            "seq": stored.seq,
            "author": {"id": str(stored.author), "display_name": stored.author_name},
            "made_at": body["made_at"],
            "received_at": stored.received_at.isoformat(),
            "verdict": stored.verdict,
            "reason": stored.reason,
            "note": stored.note,
            "result": body["result"],
            "source_series": body["source_series"],
            "base": body["base"],
            "calcium": body["calcium"],
            "scores": outcome["scores"],
            "score_check": outcome["score_check"],
            "concurrent": [str(each) for each in stored.concurrent],
            "objects": [
                {
                    "modality": each.modality,
                    "sop_instance_uid": each.sop_instance_uid,
                    "series_instance_uid": each.series_instance_uid,
                }
                for each in stored.objects
            ],
            "delivery": "stored" if stored.delivered else "waiting",
        }
    )
