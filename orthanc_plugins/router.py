"""From change log to ledger: watches arrivals, decides, has jobs queued, takes their reports."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orthanc

from orthanc_plugins import archive, assignment, joins, ledger, routing
from orthanc_plugins.answers import Answers
from orthanc_plugins.arrivals import Arrivals
from orthanc_plugins.completeness import Completeness, expected_instances
from orthanc_plugins.door import ClosedError
from orthanc_plugins.planning import Planner
from orthanc_plugins.poison import Poison
from orthanc_plugins.queue_thread import QueueThread, quiet_times
from orthanc_plugins.queueing import JobQueue
from orthanc_plugins.records import Records
from orthanc_plugins.rule_file import read_rules
from orthanc_plugins.sweep import Sweep

POLL_BUSY_S: Final = 0.05
POLL_IDLE_S: Final = 0.2
MAX_FAULTS: Final = 3
"""How often a study that cannot be decided on, for no fault of Orthanc's, is tried."""
_NOT_BEGUN: Final = frozenset({"waiting", "queued"})


class Router:
    """The plugin's two threads and the lock they share with the REST routes."""

    def __init__(
        self, settings: Mapping[str, Any], log: Callable[[str], None], started_at: str
    ) -> None:
        self._settings = settings
        self._log = log
        self._rules = read_rules(Path(settings["routing_file"]))
        self._planner = Planner(
            self._rules, str(settings["software_version"]), settings["pipelines"]
        )
        self._arriving = Completeness(float(settings["quiet_s"]), quiet_times(settings))
        self._arrivals = Arrivals(started_at)
        self._facts: dict[str, dict[str, Any]] = {}
        self._faults: dict[str, int] = {}
        self._records = Records()
        self._queue = QueueThread(settings, self._records, JobQueue(settings), self._arriving, log)
        self._answers = Answers(self._records, self._arriving, self._arrivals)
        self._poison = Poison(settings, log)
        self._sweep = Sweep(self._poison, Path(settings["run"]) / "sweep.json", self._removed, log)

    def first_aid(self) -> None:
        """After a crash: what Orthanc must not read again is taken away before it can."""
        self._poison.first_aid()

    def start(self) -> None:
        """Start both threads; daemons, because Orthanc would wait for others for ever."""
        threading.Thread(target=self._watch, name="radloop-watch", daemon=True).start()
        self._queue.start()

    # --- the watcher -------------------------------------------------------------------------

    def _watch(self) -> None:
        started = False
        while True:
            moved = False
            try:
                if not started:
                    self._poison.finish(self._removed)
                    self._sweep.begin()
                    self._arrivals.begin()
                    self._log(f"radloop: following changes from {self._arrivals.position}")
                    started = True
                moved = self.follow()
                self.decide_due()
            except ClosedError:
                return
            except BaseException as error:  # noqa: BLE001 - nothing may cross into Orthanc
                # The position has not moved: the next round sees the same changes again.
                self._log(f"radloop: watcher {type(error).__name__}")
                time.sleep(1.0)
            busy = moved or bool(self._arriving.studies)
            time.sleep(POLL_BUSY_S if busy else POLL_IDLE_S)

    def follow(self) -> bool:
        """Work off the change log; whether anything came."""
        moved, done = False, False
        while not done:
            page = self._arrivals.next()
            self._poison.screen(page.instances, self._removed)
            now_s = time.monotonic()
            with self._records.lock:
                for series, first_change in page.series.items():
                    self._arrived(series, first_change, now_s)
                self._arrivals.done_with(page.last)
            moved, done = moved or bool(page.series), page.done
        with self._records.lock:
            self._arrivals.save(self._arriving.oldest_change())
        return moved

    def _arrived(self, series: str, change: int, now_s: float) -> None:
        described = archive.series(series)
        if described is None or not described["Instances"]:
            return
        study = str(described["ParentStudy"])
        try:
            facts = self._facts.get(series) or self._poison.facts(described["Instances"][0])
            is_result, expected = routing.is_result(facts), expected_instances(facts)
        except orthanc.OrthancException:
            raise
        except Exception:  # noqa: BLE001 - headers may hold anything, and no other study shall wait
            self._record_error(study, series, described["Instances"], "unreadable_headers")
            return
        if is_result:
            self._record_result(study, series, described["Instances"])
            for sibling in archive.study_series(study):
                self._mark_superseded(sibling)
            return
        self._facts[series] = facts
        self._arriving.arrived(
            study,
            series,
            count=len(described["Instances"]),
            expected=expected,
            source=archive.metadata(series).get("RemoteAET", ""),
            change=change,
            now_s=now_s,
        )

    def _removed(self, study: str, series: str) -> None:
        """An instance of the series is gone: what was decided on it is decided on anew."""
        with self._records.lock:
            described = archive.series(series)
            record = self._records.of(series)
            if described is None or record is None:
                return
            if record["part_of"] or any(job["current"] for job in record["jobs"].values()):
                self._arriving.arrived(
                    study,
                    series,
                    count=len(described["Instances"]),
                    expected=None,
                    source=archive.metadata(series).get("RemoteAET", ""),
                    change=self._arrivals.position,
                    now_s=time.monotonic(),
                )

    def _record_result(self, study: str, series: str, instances: list[str]) -> None:
        record = self._records.of(series) or ledger.new_record(study, "", 0)
        record["instances"], record["count"] = ledger.instances_digest(instances), len(instances)
        record["excluded_by"] = "result"
        self._records.write(series, record)

    def _record_error(self, study: str, series: str, instances: list[str], code: str) -> None:
        record = self._records.of(series) or ledger.new_record(study, "", 0)
        record["instances"], record["count"] = ledger.instances_digest(instances), len(instances)
        record["error"] = code
        self._log(f"radloop: a series failed: {code}")
        self._records.write(series, record)

    # --- the decision ------------------------------------------------------------------------

    def decide_due(self) -> None:
        """Decide on every study that is complete; one that cannot be decided holds up no other."""
        for study in self._arriving.due(time.monotonic()):
            with self._records.lock:
                try:
                    self._decide(study)
                except orthanc.OrthancException:
                    # It could not be read or written now; it stays due.
                    self._log("radloop: Orthanc could not answer; a study waits")
                    continue
                except Exception as error:  # noqa: BLE001 - headers may hold anything
                    self._log(f"radloop: decision {type(error).__name__}")
                    self._faults[study] = self._faults.get(study, 0) + 1
                    if self._faults[study] < MAX_FAULTS:
                        continue
                    self._give_up(study)
                # Only now: a decision that failed half-way is taken again from the start.
                self._faults.pop(study, None)
                self._arriving.settled(study)
        with self._records.lock:
            self._arrivals.save(self._arriving.oldest_change())

    def _give_up(self, study: str) -> None:
        for series in archive.study_series(study):
            described = archive.series(series)
            if described is not None and self._records.of(series) is None:
                self._record_error(study, series, described["Instances"], "routing_failed")

    def _decide(self, study: str) -> None:
        instances: dict[str, list[str]] = {}
        facts: dict[str, dict[str, Any]] = {}
        for series in archive.study_series(study):
            described = archive.series(series)
            if described is None or not described["Instances"]:
                continue
            record = self._records.of(series)
            if record is not None and record["error"]:
                continue
            instances[series] = described["Instances"]
            known = self._facts.get(series) or self._poison.facts(described["Instances"][0])
            facts[series] = {
                **known,
                "InstanceCount": len(described["Instances"]),
                "SourceAET": archive.metadata(series).get("RemoteAET", ""),
            }
        decisions = routing.decide(self._rules, facts)
        records = {
            series: self._apply(study, series, instances[series], decision)
            for series, decision in decisions.items()
        }
        taken = {rule.name: routing.taken_by(rule, facts, decisions) for rule in self._rules.rules}
        self._keep(records, self._planner.enter(taken, records))
        for series in self._arriving.studies[study].counts:
            self._facts.pop(series, None)

    def _apply(
        self, study: str, series: str, instances: list[str], decision: routing.Decision
    ) -> ledger.Record:
        digest = ledger.instances_digest(instances)
        record = self._records.of(series) or ledger.new_record(study, digest, len(instances))
        record["instances"], record["count"] = digest, len(instances)
        assignment.note(record, decision)
        for job_id in assignment.give_up(record, decision.chosen):
            self._queue.drop(job_id)
        return record

    def _keep(self, records: Mapping[str, ledger.Record], new: Sequence[tuple[str, str]]) -> None:
        """Write the records of a study, and have its new jobs queued in their order."""
        for series, record in records.items():
            self._records.write(series, record)
        for series, job_id in new:
            self._queue.queue_later(series, [job_id])

    # --- what the routes ask -----------------------------------------------------------------

    def report(self, series: str, job_id: str, state: str, more: Mapping[str, Any]) -> str:
        """A node's report on a job; the job's state afterwards, "" where it is not known."""
        with self._records.lock:
            for result in more.get("results", []):
                # Known at once as a result, or the study would look as if it were still arriving.
                described = archive.series(str(result["series"]))
                if described is not None and self._records.of(str(result["series"])) is None:
                    self._record_result(
                        str(described["ParentStudy"]), str(result["series"]), described["Instances"]
                    )
            if state == "running" and not self._may_run(series, job_id):
                return "waiting"
            moved = self._records.move(series, job_id, state, more)
            if moved and more.get("results"):
                self._mark_superseded(series)
            record = self._records.of(series)
            job = record["jobs"].get(job_id) if record else None
            if record is None or job is None:
                return ""
            if moved and state == "superseded" and not job["superseded_by"]:
                # Not by a newer job, so by an instance that was taken away or deleted.
                self._removed(str(record["study"]), series)
            return str(job["state"])

    def _may_run(self, series: str, job_id: str) -> bool:
        """Whether the jobs that one comes after have ended; if so, how they did is kept with it.

        The ledger alone decides: whoever can write to Redis can have a job of ours tried early.
        """
        found = self._records.job(series, job_id)
        if found is None or not found[1].get("after") or found[1]["state"] not in _NOT_BEGUN:
            return True
        record, job = found
        entries = self._records.predecessors(job)
        if joins.unended(entries, arriving=str(record["study"]) in self._arriving.studies):
            return False
        job["after"] = entries
        return self._records.write(series, record)

    def _mark_superseded(self, series: str) -> None:
        """Mark the results that a stored job took the place of, in the archive itself.

        A job that was superseded while it stored may have left any of what it had announced.
        """
        record = self._records.of(series)
        if record is None:
            return
        superseded = [job for job in record["jobs"].values() if job["state"] == "superseded"]
        adopted = [self._adopt(job) for job in superseded]
        if any(adopted):
            self._records.write(series, record)
        for old in superseded:
            standing = ledger.latest_job(record, old["rule"])
            if standing is None or not standing[1]["results"]:
                continue
            for result in old["results"]:
                marked = self._records.of(str(result["series"]))
                if marked is not None and not marked["superseded_by"]:
                    marked["superseded_by"] = standing[0]
                    self._records.write(str(result["series"]), marked)

    def _adopt(self, job: ledger.JobRecord) -> bool:
        """Take announced results that are in the archive for results; whether there were any."""
        known = {result["series"] for result in job["results"]}
        left = [
            result
            for result in job.get("announced", [])
            if result["series"] not in known and self._records.of(str(result["series"])) is not None
        ]
        job["results"] = [*job["results"], *left]
        return bool(left)

    def run_again(self, series: str, rule_name: str) -> str:
        """A person's wish: a new run of a rule on a series; the new job's id, "" if impossible.

        What comes after it runs again, too.
        """
        with self._records.lock:
            described = archive.series(series)
            if described is None:
                return ""
            study = str(described["ParentStudy"])
            records = self._records.of_study(study)
            records.setdefault(series, ledger.new_record(study, "", 0))
            rule = self._rules.named(rule_name or _usual_rule(records[series]))
            if rule is None:
                return ""
            parts = {part["rule"]: str(part["series"]) for part in records[series]["part_of"]}
            home = parts.get(rule.name, series)
            home = home if home in records else series
            for one in records:
                self._recount(one, records[one])
            new = self._planner.again(rule, home, records)
            touched = {one for one in records if one == home or records[one]["part_of"]}
            touched.update(one for one, _ in new)
            self._keep({one: records[one] for one in touched}, new)
            return new[0][1] if new else ""

    def _recount(self, series: str, record: ledger.Record) -> None:
        described = archive.series(series)
        if described is not None:
            record["instances"] = ledger.instances_digest(described["Instances"])
            record["count"] = len(described["Instances"])

    def series_view(self, series: str) -> dict[str, Any] | None:
        """`Answers.series`."""
        return self._answers.series(series)

    def study_view(self, study: str) -> dict[str, Any] | None:
        """`Answers.study`."""
        return self._answers.study(study)

    def states_view(self, studies: Iterable[str]) -> dict[str, dict[str, str]]:
        """`Answers.states`."""
        return self._answers.states(studies)

    def jobs_view(self, state: str, limit: int) -> list[dict[str, Any]]:
        """`Answers.jobs`."""
        return self._answers.jobs(state, limit)

    def recall(self) -> None:
        """`Records.recall`."""
        self._records.recall()

    def enqueue_pending(self) -> None:
        """`QueueThread.enqueue_pending`."""
        self._queue.enqueue_pending()

    def reconcile(self) -> int:
        """`QueueThread.reconcile`."""
        return self._queue.reconcile()

    def reload_quiet(self) -> None:
        """`QueueThread.reload_quiet`."""
        self._queue.reload_quiet()

    def status_view(self) -> dict[str, Any]:
        """How the router stands, for `radloop status` and doctor."""
        with self._records.lock:
            return {
                "jobs": self._records.index.counts(),
                "position": self._arrivals.position,
                "settled": self._arrivals.settled,
                "arriving_studies": len(self._arriving.studies),
                "waiting_jobs": len(self._queue),
                "known_jobs": len(self._records.index),
                "queue_answers": self._queue.answers,
                "rules": [rule.name for rule in self._rules.rules],
                "last_crash": self._poison.fault,
                "quarantined": self._poison.taken,
                "sweep": self._sweep.view(),
                "storage_free_bytes": shutil.disk_usage(self._settings["storage"]).free,
            }

    def sweep(self) -> dict[str, Any]:
        """Have everything that is stored judged; how that stands."""
        self._sweep.ask()
        return self._sweep.view()


def _usual_rule(record: ledger.Record) -> str:
    rules = [str(job["rule"]) for job in record["jobs"].values()]
    matched = [str(why["rule"]) for why in record["why"] if why["matched"]]
    return (rules[-1:] or matched or [""])[0]
