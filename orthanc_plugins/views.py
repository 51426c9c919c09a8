"""What people and programs are shown of a series, a study and the jobs; no patient data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from orthanc_plugins import ledger


def series_view(
    series: str,
    study: str,
    instances: int,
    record: ledger.Record | None,
    *,
    arriving: bool,
    quarantined: int = 0,
    parts: Sequence[ledger.JobRecord] = (),
) -> dict[str, Any]:
    """State, reasons and jobs of a series; `quarantined` instances are no more part of it.

    `parts` are jobs entered for other series that read this one, too.
    """
    state, code = ledger.series_state(record, parts)
    if record is None and not arriving:
        state, code = "done", "before_radloop"
    # In the order they were entered, which no clock that was set back can change.
    jobs = list(reversed(record["jobs"].items())) if record else []
    return {
        "series": series,
        "study": study,
        "state": state,
        "code": code,
        "instances": instances,
        "quarantined": quarantined,
        "excluded_by": record["excluded_by"] if record else "",
        "why": record["why"] if record else [],
        "part_of": record["part_of"] if record else [],
        "jobs": [job_view(name, series, job, quarantined=quarantined) for name, job in jobs],
    }


def study_view(
    study: str, series: list[dict[str, Any]], *, arriving: bool, quarantined: int = 0
) -> dict[str, Any]:
    """State of a study and of each of its series; in `quarantined` those of series gone count."""
    state, code = ledger.study_state((view["state"], view["code"]) for view in series)
    return {
        "study": study,
        "state": state,
        "code": code,
        "arriving": arriving,
        "quarantined": quarantined,
        "series": series,
    }


def state_view(
    records: Sequence[ledger.Record | None],
    parts: Sequence[Sequence[ledger.JobRecord]],
    *,
    arriving: bool,
    behind: bool,
) -> dict[str, str]:
    """State of a study in a list: with its code, and what its newest standing job says."""
    states = [
        ledger.series_state(record, read_by)
        if record is not None or arriving or behind
        else ("done", "before_radloop")
        for record, read_by in zip(records, parts, strict=True)
    ]
    state, code = ledger.study_state(states)
    jobs = [
        job
        for record in records
        if record is not None
        for job in record["jobs"].values()
        if job["current"] and job["state"] == state
    ]
    newest = max(jobs, key=lambda job: str(job["created"]), default=None)
    summary = str(newest.get("summary", "")) if newest is not None else ""
    return {"state": state, "code": code, "summary": summary}


_NOT_SHOWN: Final = frozenset({"settings", "instances", "lost", "announced"})


def job_view(
    job_id: str, series: str, job: ledger.JobRecord, *, quarantined: int = 0
) -> dict[str, Any]:
    """One job, and how many instances its series has lost to the quarantine."""
    shown = {name: value for name, value in job.items() if name not in _NOT_SHOWN}
    shown["others"] = [one["series"] for one in job.get("others", [])]
    return {"job": job_id, "series": series, "quarantined": quarantined, **shown}
