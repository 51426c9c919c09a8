"""The state of every series and its jobs, kept in Orthanc as one JSON metadata per series."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

VERSION: Final = 1
FINAL: Final = frozenset({"done", "refused", "failed", "superseded"})
STATES: Final = frozenset({"waiting", "queued", "running", "stored"}) | FINAL
# What a study shows when its series differ: whoever still has work to do comes first.
_URGENCY: Final = (
    "received",
    "running",
    "stored",
    "queued",
    "waiting",
    "failed",
    "refused",
    "done",
)
MAX_JOBS: Final = 20
_JOB_KEYS: Final = frozenset({"rule", "state", "code", "current", "created", "updated", "results"})
Record = dict[str, Any]
JobRecord = dict[str, Any]


def instances_digest(instances: Iterable[str]) -> str:
    """40 hex digits of the sorted Orthanc instance ids."""
    return hashlib.sha256("\n".join(sorted(instances)).encode("ascii")).hexdigest()[:40]


def job_id(
    *,
    rule: str,
    pipeline: str,
    settings: Mapping[str, Any],
    versions: Sequence[str],
    series: str,
    instances: str,
    run: int,
    others: Sequence[Mapping[str, Any]] = (),
    after: Sequence[str] = (),
) -> str:
    """40 hex digits that are the same exactly when the same work would be done again.

    Parameters
    ----------
    others : sequence of {"series", "instances", "count"}
        Further series of the input.
    after : sequence of str
        Job ids of its predecessors, whose results are input too.
    """
    told = [VERSION, rule, pipeline, dict(settings), list(versions), series, instances, run]
    if others or after:
        told += [[[one["series"], one["instances"]] for one in others], list(after)]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:40]


def new_record(study: str, instances: str, count: int) -> Record:
    """An empty record of a series as it was decided on."""
    return {
        "v": VERSION,
        "study": study,
        "instances": instances,
        "count": count,
        "excluded_by": "",
        "error": "",
        "superseded_by": "",
        "why": [],
        "part_of": [],
        "jobs": {},
    }


def read_record(text: str | None) -> Record | None:
    """The record in a metadata value; None where there is none or it is not ours."""
    if not text:
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("v") != VERSION:
        return None
    jobs = record.get("jobs")
    sound = isinstance(jobs, dict) and all(
        isinstance(job, dict)
        and job.keys() >= _JOB_KEYS
        and all(isinstance(job.get(name, []), list) for name in ("others", "after"))
        for job in jobs.values()
    )
    return {**new_record("", "", 0), **record} if sound else None


def write_record(record: Record) -> str:
    """The metadata value, with only the newest jobs kept."""
    jobs = record["jobs"]
    if len(jobs) > MAX_JOBS:
        # By entry, for a clock may be set back; what still stands is kept in any case.
        newest = sorted(jobs, key=lambda job: jobs[job]["state"] != "superseded")[-MAX_JOBS:]
        record["jobs"] = {job: jobs[job] for job in jobs if job in newest}
    return json.dumps(record, separators=(",", ":"))


def latest_job(record: Record, rule: str) -> tuple[str, JobRecord] | None:
    """The last job of a rule on this series that was not itself superseded."""
    jobs = [
        (name, job)
        for name, job in record["jobs"].items()
        if job["rule"] == rule and job["state"] != "superseded"
    ]
    return jobs[-1] if jobs else None


def job_with_results(record: Record, rule: str, but: str = "") -> str:
    """The newest job of a rule that left results in the archive, `but` that one; "" for none."""
    jobs = [
        name
        for name, job in record["jobs"].items()
        if job["rule"] == rule and job["results"] and name != but
    ]
    return jobs[-1] if jobs else ""


def may_follow(old: str, new: str) -> bool:
    """Whether a report may move a job from `old` to `new`; a final state stays."""
    if new not in STATES:
        return False
    return old not in FINAL


def series_state(record: Record | None, parts: Iterable[JobRecord] = ()) -> tuple[str, str]:
    """State and code that a person sees for a series; `parts` are jobs of others that read it."""
    if record is None:
        return "received", ""
    jobs = [*record["jobs"].values(), *parts]
    current = [job for job in jobs if job["state"] != "superseded" and job["current"]]
    if not current:
        if record["error"]:
            return "failed", str(record["error"])
        if record["superseded_by"]:
            return "superseded", ""
        if record["excluded_by"]:
            return "done", record["excluded_by"]
        matched = any(why["matched"] for why in record["why"])
        return "done", "not_selected" if matched else "no_rule"
    job = min(current, key=lambda job: _URGENCY.index(job["state"]))
    return str(job["state"]), str(job["code"])


def study_state(states: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """State and code of a study from those of its series."""
    best = ("received", "")
    rank = len(_URGENCY) * 2
    for state, code in states:
        if state == "superseded":
            continue
        # A series that no rule wanted says nothing of the study while another one has a job.
        idle = state == "done" and code != ""
        value = _URGENCY.index(state) + (len(_URGENCY) if idle else 0)
        if value < rank:
            best, rank = (state, code), value
    return best
