"""From what the rules take of a study to jobs in its records: predecessors first, parts named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orthanc_plugins import assignment, joins, ledger
from orthanc_plugins.rules import Rule, Rules

New = list[tuple[str, str]]
"""Series and id of jobs that have to be queued, each behind its predecessors."""


@dataclass(frozen=True, slots=True)
class Planner:
    """Enters jobs for the series of one study at a time; the caller keeps the records."""

    rules: Rules
    software: str
    pipelines: Mapping[str, str]

    def enter(
        self, taken: Mapping[str, Sequence[str]], records: Mapping[str, ledger.Record]
    ) -> New:
        """Enter the automatic jobs of series that rules take, by rule and the preferred first."""
        new: New = []
        for rule in self.rules.in_order():
            series = list(taken.get(rule.name, ()))
            after = joins.predecessors(rule, records)
            if rule.take_all and series:
                home = _home(rule, series, records)
                others = [one for one in series if one != home]
                new += self._add(rule, home, records, others=others, after=after)
                for other in others:
                    for job in records[other]["jobs"].values():
                        if job["rule"] == rule.name:
                            assignment.retire(job)
            else:
                for one in series:
                    new += self._add(rule, one, records, after=after)
        return new + self._follow({_rule_of(records, one) for one in new}, records)

    def again(self, rule: Rule, series: str, records: Mapping[str, ledger.Record]) -> New:
        """Enter a person's further run, and new jobs for what comes after it."""
        latest = ledger.latest_job(records[series], rule.name)
        others = [str(one["series"]) for one in (latest[1] if latest else {}).get("others", [])]
        new = self._add(
            rule,
            series,
            records,
            others=[one for one in others if one in records],
            after=joins.predecessors(rule, records),
            run=assignment.next_run(records[series], rule),
        )
        return new + self._follow({rule.name}, records)

    def _follow(self, changed: set[str], records: Mapping[str, ledger.Record]) -> New:
        """What came after jobs that have a successor is done again: its input is another one."""
        new: New = []
        for rule in self.rules.in_order():
            if not changed.intersection(rule.after):
                continue
            after = joins.predecessors(rule, records)
            for series in sorted(records):
                latest = ledger.latest_job(records[series], rule.name)
                if latest is None or not latest[1]["current"]:
                    continue
                others = [str(one["series"]) for one in latest[1].get("others", [])]
                added = self._add(rule, series, records, others=others, after=after)
                for _, job_id in added:
                    records[series]["jobs"][job_id]["forced"] = latest[1]["forced"]
                    changed.add(rule.name)
                new += added
        return new

    def _add(
        self,
        rule: Rule,
        series: str,
        records: Mapping[str, ledger.Record],
        *,
        others: Sequence[str] = (),
        after: Sequence[joins.Entry] = (),
        run: int | None = None,
    ) -> New:
        # By id: what a header says of them may change their order, but not the input.
        present = [one for one in sorted(others) if one in records]
        job_id, is_new = assignment.add_job(
            records[series],
            series,
            rule,
            software=self.software,
            version=str(self.pipelines.get(rule.pipeline, "")),
            run=run,
            others=[_part(one, records[one]) for one in present],
            after=after,
        )
        for one in present:
            parts = records[one]["part_of"]
            parts[:] = [part for part in parts if part["rule"] != rule.name]
            parts.append({"rule": rule.name, "job": job_id, "series": series})
        return [(series, job_id)] if is_new else []


def _home(rule: Rule, series: Sequence[str], records: Mapping[str, ledger.Record]) -> str:
    """Where the one job of several series is entered: where it stands already, else the first.

    A series that comes later may be preferred; the job before it must be superseded all the same.
    """
    latest = {one: ledger.latest_job(records[one], rule.name) for one in series}
    standing = [one for one, job in latest.items() if job is not None and job[1]["current"]]
    known = [one for one, job in latest.items() if job is not None]
    return (standing or known or list(series))[0]


def _part(series: str, record: ledger.Record) -> dict[str, Any]:
    return {"series": series, "instances": record["instances"], "count": record["count"]}


def _rule_of(records: Mapping[str, ledger.Record], job: tuple[str, str]) -> str:
    return str(records[job[0]]["jobs"][job[1]]["rule"])
