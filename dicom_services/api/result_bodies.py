"""What the routes of results answer, as OpenAPI shows it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal[
    "received",
    "waiting",
    "queued",
    "running",
    "stored",
    "done",
    "refused",
    "failed",
    "superseded",
]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class StateOut(_Body):
    """How far a study is, for a row of a list."""

    state: State
    code: str
    headline: str
    """What was found, or why nothing was; "" where there is nothing to say."""


class JobOut(_Body):
    """One run of an analysis over a series."""

    job: str
    series: str
    pipeline: str
    state: State
    stage: str
    code: str
    reason: str
    """The code in plain words."""
    run: int
    entered: str
    updated: str
    summary: str
    superseded: bool
    findings: dict[str, Any] | None
    """As tests/wire/findings.schema.json; null where the archive holds none."""


class SeriesOut(_Body):
    """A series with the jobs over it, the newest first."""

    series: str
    modality: str
    state: State
    code: str
    reason: str
    excluded_by: str
    why: list[dict[str, Any]]
    jobs: list[JobOut]


class ReportOut(_Body):
    """A structured report of the study, whoever made it."""

    sop_instance_uid: str
    series_instance_uid: str
    title: str
    created: str
    maker: str
    kind: Literal["result", "assessment", "other"]


class ResultsOut(_Body):
    """Everything radloop knows of a study."""

    study: str
    state: State
    code: str
    reason: str
    notice: str
    version: int
    """Another number whenever something else is told here; it says nothing of the order."""
    series: list[SeriesOut]
    reports: list[ReportOut]


class RunOut(_Body):
    """The job that was entered."""

    job: str = Field(pattern=r"^[0-9a-f]{40}$")


class ItemOut(_Body):
    """A line of a report."""

    level: int
    name: str
    kind: str
    value: str
    unit: str
    code: dict[str, str] | None
    """Of what the line is about: value, scheme, meaning."""
    value_code: dict[str, str] | None
    """Of its value, where that is a code."""


class ReadableReportOut(_Body):
    """A structured report as text."""

    title: str
    created: str
    maker: str
    complete: bool
    items: list[ItemOut]
    warnings: list[str]
