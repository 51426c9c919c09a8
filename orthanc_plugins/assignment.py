"""Jobs in the record of a series: entered, superseded, moved on; no Orthanc and no queue here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from orthanc_plugins import joins, ledger
from orthanc_plugins.routing import Decision
from orthanc_plugins.rules import Rule

MOST_OTHERS: Final = 256
MOST_AFTER: Final = 256
"""Further series of one job and jobs before it; twice as many would fill a message."""


def note(record: ledger.Record, decision: Decision) -> None:
    """Keep why each rule did or did not take the series."""
    record["error"] = ""
    record["excluded_by"] = decision.excluded_by
    record["part_of"] = []
    record["why"] = [
        {
            "rule": verdict.rule,
            "matched": verdict.matched,
            "selected": verdict.selected,
            "why": verdict.why,
        }
        for verdict in decision.verdicts
    ]


def give_up(record: ledger.Record, chosen: tuple[str, ...]) -> list[str]:
    """Retire the automatic jobs of rules that no longer take the series; ids of unfinished ones.

    What has ended keeps its results, but is no longer the series' state.
    """
    stopped = []
    for job_id, job in record["jobs"].items():
        if not job["forced"] and job["rule"] not in chosen and retire(job):
            stopped.append(job_id)
    return stopped


def retire(job: ledger.JobRecord) -> bool:
    """Let a job no longer stand for its series; whether it had not ended yet."""
    if not job["current"]:
        return False
    job["current"] = False
    if job["state"] in ledger.FINAL:
        return False
    job.update(state="superseded", code="not_selected", updated=now())
    return True


def add_job(
    record: ledger.Record,
    series: str,
    rule: Rule,
    *,
    software: str,
    version: str,
    run: int | None = None,
    others: Sequence[Mapping[str, Any]] = (),
    after: Sequence[joins.Entry] = (),
) -> tuple[str, bool]:
    """Enter a job for the record's present instances; its id, and whether it is a new one.

    Parameters
    ----------
    software, version : str
        Of radloop and of the pipeline; part of the id.
    run : int or None
        None for the automatic job; a person's "Run again" counts up.
    others : sequence of {"series", "instances", "count"}
        Further series of the input.
    after : sequence of joins.Entry
        The jobs it runs after.
    """
    previous = ledger.latest_job(record, rule.name)
    job_id = ledger.job_id(
        rule=rule.name,
        pipeline=rule.pipeline,
        settings=rule.settings,
        versions=[software, version],
        series=series,
        instances=record["instances"],
        run=run or 0,
        others=others,
        after=joins.job_ids(after),
    )
    known = record["jobs"].get(job_id)
    if known is not None and known["state"] != "superseded":
        known["current"] = True
        return job_id, False
    if run is None and previous is not None:
        same = _input(previous[1]) == (record["instances"], list(others), joins.job_ids(after))
        if same and previous[1]["state"] != "failed":
            # A new version or setting alone does not repeat old work; "Run again" does.
            previous[1]["current"] = True
            return previous[0], False
    if known is not None:
        # The same instances once more, after others came and went: a run of its own.
        return add_job(
            record,
            series,
            rule,
            software=software,
            version=version,
            run=next_run(record, rule),
            others=others,
            after=after,
        )
    if previous is not None:
        changed = _input(previous[1])[:2] != (record["instances"], list(others))
        _supersede(previous[1], by=job_id, changed=changed)
    moment = now()
    code = _too_many(others, after)
    record["jobs"][job_id] = {
        "rule": rule.name,
        "pipeline": rule.pipeline,
        "version": version,
        "queue": rule.queue,
        "state": "failed" if code else "waiting",
        "code": code,
        "stage": "",
        "run": run or 0,
        "instances": record["instances"],
        "count": record["count"],
        "supersedes": "",
        "superseded_by": "",
        "current": True,
        "forced": run is not None,
        "lost": 0,
        "created": moment,
        "updated": moment,
        "summary": "",
        "results": [],
        "announced": [],
        "settings": rule.settings,
        "others": [dict(one) for one in others[:MOST_OTHERS]],
        "after": [dict(entry) for entry in after[:MOST_AFTER]],
        "refuse_after_failed": rule.refuse_after_failed,
    }
    return job_id, not code


def next_run(record: ledger.Record, rule: Rule) -> int:
    """Number of a further run of a rule."""
    return (
        max((job["run"] for job in record["jobs"].values() if job["rule"] == rule.name), default=0)
        + 1
    )


def move(job: ledger.JobRecord, state: str, more: Mapping[str, Any]) -> bool:
    """Move a job on; False where its state may not follow.

    Results of a job that was superseded while it stored them are kept: they are in the archive,
    and the next report has to name them.
    """
    if job["state"] == "superseded" and more.get("results"):
        job["results"] = more["results"]
        return True
    if not ledger.may_follow(job["state"], state):
        return False
    if state in ("waiting", "queued") and job["state"] in ("running", "stored"):
        return False
    job["state"] = state
    job["updated"] = now()
    if state == "running":
        job.setdefault("began", job["updated"])
    for name in ("code", "stage", "summary", "results", "announced", "facts"):
        if name in more:
            job[name] = more[name]
    return True


def message(job_id: str, series: str, record: ledger.Record) -> dict[str, Any]:
    """What goes into the queue, as `tests/wire/job.json` pins it."""
    job = record["jobs"][job_id]
    earlier = ledger.job_with_results(record, job["rule"], but=job_id)
    job["supersedes"] = earlier
    return {
        "version": 2,
        "id": job_id,
        "rule": job["rule"],
        "pipeline": job["pipeline"],
        "queue": job["queue"],
        "study": record["study"],
        "series": series,
        "instances": job["instances"],
        "count": job["count"],
        "run": job["run"],
        "supersedes": earlier,
        "supersedes_version": record["jobs"][earlier].get("version", "") if earlier else "",
        "settings": job["settings"],
        "others": job.get("others", []),
        "after": joins.job_ids(job.get("after", [])),
    }


def now() -> str:
    """UTC to the microsecond; sorts as text."""
    moment = time.time()
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
        + f".{int(moment % 1 * 1_000_000):06d}Z"
    )


def _supersede(job: ledger.JobRecord, *, by: str, changed: bool) -> None:
    """Retire a job for a newer one; if it has not ended yet, it ends before it stores."""
    if job["state"] not in ledger.FINAL:
        job["code"] = "incomplete" if changed else "run_again"
    job.update(state="superseded", superseded_by=by, updated=now())


def _too_many(others: Sequence[Mapping[str, Any]], after: Sequence[joins.Entry]) -> str:
    if len(others) > MOST_OTHERS:
        return "too_many_series"
    return "too_many_jobs" if len(after) > MOST_AFTER else ""


def _input(job: ledger.JobRecord) -> tuple[str, list[Mapping[str, Any]], list[str]]:
    """What a job was entered for: its series' instances, further series, jobs before it."""
    return job["instances"], job.get("others", []), joins.job_ids(job.get("after", []))
