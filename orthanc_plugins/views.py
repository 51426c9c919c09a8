"""What people and programs are shown of a series, a study and the jobs; no patient data."""

from __future__ import annotations

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
) -> dict[str, Any]:
    """State, reasons and jobs of a series; `quarantined` instances are no more part of it."""
    state, code = ledger.series_state(record)
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


_NOT_SHOWN: Final = frozenset({"settings", "instances", "lost", "announced"})


def job_view(
    job_id: str, series: str, job: ledger.JobRecord, *, quarantined: int = 0
) -> dict[str, Any]:
    """One job, and how many instances its series has lost to the quarantine."""
    shown = {name: value for name, value in job.items() if name not in _NOT_SHOWN}
    return {"job": job_id, "series": series, "quarantined": quarantined, **shown}
