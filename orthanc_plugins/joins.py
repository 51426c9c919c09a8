"""Jobs that come after others: which those are, how each ended, and whether all of them have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from orthanc_plugins import ledger
from orthanc_plugins.rules import Rule

WAITS: Final = "after"
"""Stage of a job that waits for others."""
ABSENT: Final = "absent"
"""What stands for the job of a rule that took no series of the study."""
GONE: Final = "gone"
"""State of a job whose series was deleted."""
Entry = dict[str, Any]
"""Of a job's `after`: rule, job and series of one predecessor; state and code once it ran."""


def predecessors(rule: Rule, records: Mapping[str, ledger.Record]) -> list[Entry]:
    """The standing jobs that a rule's job on this study comes after, and the rules without one."""
    entries: list[Entry] = []
    for name in rule.after:
        found = []
        for series in sorted(records):
            latest = ledger.latest_job(records[series], name)
            if latest is not None and latest[1]["current"]:
                found.append(_entry(name, latest[0], series))
        entries += found or [{**_entry(name, "", ""), "state": ABSENT}]
    return entries


def job_ids(entries: Iterable[Entry]) -> list[str]:
    """Of the predecessors that are jobs."""
    return [str(entry["job"]) for entry in entries if entry["job"]]


def as_they_stand(
    entries: Iterable[Entry], records: Mapping[str, ledger.Record | None]
) -> list[Entry]:
    """The same predecessors with state and code as the ledger has them now."""
    told = []
    for entry in entries:
        record = records.get(str(entry["series"])) if entry["job"] else None
        job = record["jobs"].get(entry["job"]) if record else None
        if job is not None:
            told.append({**entry, "state": job["state"], "code": job["code"]})
        else:
            told.append({**entry, "state": GONE if entry["job"] else ABSENT, "code": ""})
    return told


def unended(entries: Iterable[Entry], *, arriving: bool) -> list[str]:
    """Ids of the predecessors that are still to be waited for.

    A superseded one has a successor, for which this job will have one too; while its study is
    arriving that is not decided on yet.
    """
    over = ledger.FINAL | {ABSENT, GONE}
    return [
        str(entry["job"])
        for entry in entries
        if entry["state"] not in over or (entry["state"] == "superseded" and arriving)
    ]


def _entry(rule: str, job: str, series: str) -> Entry:
    return {"rule": rule, "job": job, "series": series, "state": "", "code": ""}
