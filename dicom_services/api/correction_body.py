"""The body of a correction, as strict as tests/wire/correction.schema.json and no stricter."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

from dicom_services.domain.assessment import (
    Anchor,
    Assessment,
    BrowserScores,
    CalciumEdit,
    LesionVerdict,
    ReasonCode,
    Verdict,
    Vessel,
    VesselRuns,
)
from dicom_services.errors import InputError

MOST_VOXELS: Final = 5_000_000
"""A heart at 50 HU has two million of the usual size; more would be no reader's work."""

_MOST_NUMBERS: Final = 400_000
"""Of the runs of one vessel in one image."""
_UUID4: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_MADE_AT: Final = (
    r"^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
)
_NO_CONTROLS: Final = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"


def _whole(value: Any) -> Any:
    """1.0 is an integer in JSON Schema and in JavaScript."""
    return int(value) if type(value) is float and value.is_integer() else value


def _all_whole(values: Any) -> Any:
    # What is too long is refused as it is.
    if not isinstance(values, list) or len(values) > _MOST_NUMBERS:
        return values
    return [_whole(value) for value in values]


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number")
    return value


Uid = Annotated[str, Field(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)+$")]
Reason = ReasonCode | Literal[""]
Note = Annotated[str, Field(max_length=2000, pattern=_NO_CONTROLS)]
Pixel = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=16383)]
Amount = Annotated[float, BeforeValidator(_number), Field(ge=0.0, le=1e12)]
Run = Annotated[int, Field(ge=0, le=268435455)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        """Each field too many would be an error of its own: a million of them is gigabytes."""
        if isinstance(value, dict) and len(value) > len(cls.model_fields):
            raise ValueError("more fields than there are")
        return value


class ResultBody(_Body):
    """Which result is meant."""

    job: str = Field(pattern=r"^[0-9a-f]{40}$")
    sop_instance_uid: Uid
    """Of its report."""


class AnchorBody(_Body):
    """A voxel."""

    sop_instance_uid: Uid
    row: Pixel
    column: Pixel


class LesionBody(_Body):
    """What is said of one lesion."""

    id: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,31}$")
    tracking_uid: Uid | Literal[""]
    verdict: Verdict
    counted: bool
    vessel: Vessel
    reason: Reason
    note: Note
    anchor: AnchorBody

    @model_validator(mode="after")
    def _explained(self) -> LesionBody:
        _require_note(self.reason, self.note)
        return self


class RunsBody(_Body):
    """Counted voxels of one vessel in one image."""

    sop_instance_uid: Uid
    vessel: Vessel
    runs: Annotated[
        list[Run],
        FailFast(),
        BeforeValidator(_all_whole),
        Field(min_length=2, max_length=_MOST_NUMBERS),
    ]


class ScoresBody(_Body):
    """What the reader saw."""

    agatston: Amount
    agatston_by_spacing: Amount
    volume_mm3: Amount
    mass_mg: Amount | None
    lesions: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=1_000_000)]


class CalciumBody(_Body):
    """A calcium result as the reader left it."""

    threshold_hu: Annotated[float, BeforeValidator(_number), Field(ge=50.0, le=300.0)]
    lesions: Annotated[list[LesionBody], FailFast(), Field(max_length=20000)]
    mask: Annotated[list[RunsBody], FailFast(), Field(max_length=20000)]
    scores: ScoresBody


class CorrectionBody(_Body):
    """A reader's verdict on a result."""

    version: Annotated[Literal[1], BeforeValidator(_number)] = Field(alias="schema")
    id: str = Field(pattern=f"^{_UUID4}$")
    made_at: str = Field(max_length=32, pattern=_MADE_AT)
    result: ResultBody
    source_series: Uid
    verdict: Verdict
    reason: Reason
    note: Note
    base: str = Field(pattern=f"^({_UUID4})?$")
    calcium: CalciumBody | None

    @model_validator(mode="after")
    def _explained(self) -> CorrectionBody:
        if self.verdict == "reject" and not self.reason:
            raise ValueError("a rejection needs a reason")
        if self.verdict == "modify" and self.calcium is None:
            raise ValueError("a modification needs what was modified")
        _require_note(self.reason, self.note)
        return self


def _require_note(reason: str, note: str) -> None:
    if reason == "other" and not re.search(r"\S", note):
        raise ValueError("the reason other needs a note")


def assessment_of(body: CorrectionBody) -> Assessment:
    """The body as a value, once what a schema cannot say holds as well.

    Raises
    ------
    InputError
        `made_at_impossible`, `lesion_repeated`, `mask_runs`, `mask_overlap`, `mask_too_large`.
    """
    moment(body.made_at)
    UUID(body.id)
    return Assessment(
        id=body.id,
        made_at=body.made_at,
        job=body.result.job,
        report_uid=body.result.sop_instance_uid,
        source_series=body.source_series,
        verdict=body.verdict,
        reason=body.reason,
        note=body.note,
        base=body.base,
        calcium=_calcium(body.calcium) if body.calcium is not None else None,
    )


def moment(made_at: str) -> datetime:
    """The browser's time; `made_at_impossible` for 30 February."""
    try:
        return datetime.fromisoformat(made_at)
    except ValueError:
        raise InputError("made_at_impossible") from None


def _calcium(body: CalciumBody) -> CalciumEdit:
    lesions = tuple(
        LesionVerdict(
            **{name: getattr(each, name) for name in LesionBody.model_fields if name != "anchor"},
            anchor=Anchor(**each.anchor.model_dump()),
        )
        for each in body.lesions
    )
    if len({each.id for each in lesions}) != len(lesions):
        raise InputError("lesion_repeated")
    _check_runs(body.mask)
    mask = tuple(
        VesselRuns(each.sop_instance_uid, each.vessel, tuple(each.runs)) for each in body.mask
    )
    scores = BrowserScores(**body.scores.model_dump())
    return CalciumEdit(body.threshold_hu, lesions, mask, scores)


def _check_runs(mask: list[RunsBody]) -> None:
    voxels = 0
    images: dict[str, list[RunsBody]] = {}
    for entry in mask:
        if len(entry.runs) % 2 or min(entry.runs[1::2]) < 1:
            raise InputError("mask_runs")
        voxels += sum(entry.runs[1::2])
        images.setdefault(entry.sop_instance_uid, []).append(entry)
        _require_rising(list(zip(entry.runs[0::2], entry.runs[1::2], strict=True)), "mask_runs")
    if voxels > MOST_VOXELS:
        raise InputError("mask_too_large", voxels=voxels, limit=MOST_VOXELS)
    for entries in images.values():
        if len({entry.vessel for entry in entries}) != len(entries):
            raise InputError("mask_overlap")
        every = [
            pair
            for entry in entries
            for pair in zip(entry.runs[0::2], entry.runs[1::2], strict=True)
        ]
        _require_rising(sorted(every), "mask_overlap")


def _require_rising(pairs: list[tuple[int, int]], code: str) -> None:
    end = 0
    for start, length in pairs:
        if start < end:
            raise InputError(code)
        end = start + length
