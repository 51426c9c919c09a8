"""From change log to ledger and queue: watches arrivals, decides, queues once, reconciles."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orthanc
import redis

from orthanc_plugins import archive, assignment, ledger, routing, views
from orthanc_plugins.arrivals import Arrivals
from orthanc_plugins.completeness import Completeness, expected_instances
from orthanc_plugins.door import ClosedError
from orthanc_plugins.job_index import JobIndex
from orthanc_plugins.poison import Poison
from orthanc_plugins.queueing import JobQueue
from orthanc_plugins.sweep import Sweep

POLL_BUSY_S: Final = 0.05
POLL_IDLE_S: Final = 0.2
MAX_LOST: Final = 5
"""How often a job that ended without its report is run again."""
MAX_FAULTS: Final = 3
"""How often a study that cannot be decided on, for no fault of Orthanc's, is tried."""


OVERDUE_S: Final = 120.0
"""Beyond its longest wait or its longest run, within this the queue gives a job up by itself."""
_UNDER_WAY: Final = frozenset({"queued", "started", "scheduled", "deferred"})


class Router:
    """The plugin's two threads and the lock they share with the REST routes."""

    def __init__(
        self, settings: Mapping[str, Any], log: Callable[[str], None], started_at: str
    ) -> None:
        self._settings = settings
        self._log = log
        self._rules = routing.read_rules(Path(settings["routing_file"]))
        self._queue = JobQueue(settings)
        self._arriving = Completeness(float(settings["quiet_s"]), _quiet(settings))
        self._arrivals = Arrivals(started_at)
        self._lock = threading.RLock()
        self._facts: dict[str, dict[str, Any]] = {}
        self._faults: dict[str, int] = {}
        self._index = JobIndex()
        # Series of each job that has to be queued.
        self._pending: OrderedDict[str, str] = OrderedDict()
        # What the queue said of each unfinished job, and since when it has said so.
        self._under_way: dict[str, tuple[str, float]] = {}
        self._longest_s: dict[str, float] = {
            "scheduled": OVERDUE_S + sum(settings["retry_s"]),
            "started": OVERDUE_S + float(settings["job_timeout_s"]),
        }
        self._wake = threading.Event()
        self._queue_answers = True
        self._poison = Poison(settings, log)
        self._sweep = Sweep(self._poison, Path(settings["run"]) / "sweep.json", self._removed, log)

    def first_aid(self) -> None:
        """After a crash: what Orthanc must not read again is taken away before it can."""
        self._poison.first_aid()

    def start(self) -> None:
        """Start both threads; daemons, because Orthanc would wait for others for ever."""
        threading.Thread(target=self._watch, name="radloop-watch", daemon=True).start()
        threading.Thread(target=self._serve_queue, name="radloop-queue", daemon=True).start()

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
            with self._lock:
                for series, first_change in page.series.items():
                    self._arrived(series, first_change, now_s)
                self._arrivals.done_with(page.last)
            moved, done = moved or bool(page.series), page.done
        with self._lock:
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
        with self._lock:
            described = archive.series(series)
            record = self._record(series)
            if described is None or record is None:
                return
            if any(job["current"] for job in record["jobs"].values()):
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
        record = self._record(series) or ledger.new_record(study, "", 0)
        record["instances"], record["count"] = ledger.instances_digest(instances), len(instances)
        record["excluded_by"] = "result"
        self._write(series, record)

    def _record_error(self, study: str, series: str, instances: list[str], code: str) -> None:
        record = self._record(series) or ledger.new_record(study, "", 0)
        record["instances"], record["count"] = ledger.instances_digest(instances), len(instances)
        record["error"] = code
        self._log(f"radloop: a series failed: {code}")
        self._write(series, record)

    # --- the decision ------------------------------------------------------------------------

    def decide_due(self) -> None:
        """Decide on every study that is complete; one that cannot be decided holds up no other."""
        for study in self._arriving.due(time.monotonic()):
            with self._lock:
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
        with self._lock:
            self._arrivals.save(self._arriving.oldest_change())

    def _give_up(self, study: str) -> None:
        for series in archive.study_series(study):
            described = archive.series(series)
            if described is not None and self._record(series) is None:
                self._record_error(study, series, described["Instances"], "routing_failed")

    def _decide(self, study: str) -> None:
        instances: dict[str, list[str]] = {}
        facts: dict[str, dict[str, Any]] = {}
        for series in archive.study_series(study):
            described = archive.series(series)
            if described is None or not described["Instances"]:
                continue
            record = self._record(series)
            if record is not None and record["error"]:
                continue
            instances[series] = described["Instances"]
            known = self._facts.get(series) or self._poison.facts(described["Instances"][0])
            facts[series] = {
                **known,
                "InstanceCount": len(described["Instances"]),
                "SourceAET": archive.metadata(series).get("RemoteAET", ""),
            }
        for series, decision in routing.decide(self._rules, facts).items():
            self._apply(study, series, instances[series], decision)
        for series in self._arriving.studies[study].counts:
            self._facts.pop(series, None)

    def _apply(
        self, study: str, series: str, instances: list[str], decision: routing.Decision
    ) -> None:
        digest = ledger.instances_digest(instances)
        record = self._record(series) or ledger.new_record(study, digest, len(instances))
        record["instances"], record["count"] = digest, len(instances)
        assignment.note(record, decision)
        for job_id in assignment.give_up(record, decision.chosen):
            self._pending.pop(job_id, None)
        new = []
        for name in decision.chosen:
            rule = self._rules.named(name)
            if rule is not None:
                new.append(self._add_job(record, series, rule, run=None))
        self._write(series, record)
        self._queue_later(series, [job_id for job_id, is_new in new if is_new])

    def _add_job(
        self, record: ledger.Record, series: str, rule: routing.Rule, run: int | None
    ) -> tuple[str, bool]:
        return assignment.add_job(
            record,
            series,
            rule,
            software=str(self._settings["software_version"]),
            version=str(self._settings["pipelines"].get(rule.pipeline, "")),
            run=run,
        )

    def _queue_later(self, series: str, job_ids: list[str]) -> None:
        for job_id in job_ids:
            self._pending[job_id] = series
        if job_ids:
            self._wake.set()

    def _record(self, series: str) -> ledger.Record | None:
        return ledger.read_record(archive.metadata(series).get(archive.METADATA))

    def _write(self, series: str, record: ledger.Record) -> bool:
        text = ledger.write_record(record)
        kept = archive.write_metadata(series, text)
        if kept:
            self._index.remember(series, record)
        return kept

    # --- the queue ---------------------------------------------------------------------------

    def _serve_queue(self) -> None:
        time.sleep(0.2)
        recalled = False
        every_s = float(self._settings["reconcile_s"])
        next_round_s = 0.0
        while True:
            self._wake.wait(timeout=0.5)
            self._wake.clear()
            try:
                if not recalled:
                    self.recall()
                    recalled = True
                self.enqueue_pending()
                if time.monotonic() >= next_round_s:
                    self.reload_quiet()
                    self.reconcile()
                    next_round_s = time.monotonic() + every_s
                self._queue_answers = True
            except redis.RedisError:
                if self._queue_answers:
                    self._log("radloop: the queue does not answer; jobs wait")
                self._queue_answers = False
                time.sleep(1.0)
                self._wake.set()
            except ClosedError:
                return
            except BaseException as error:  # noqa: BLE001 - nothing may cross into Orthanc
                self._log(f"radloop: queue thread {type(error).__name__}")
                time.sleep(1.0)

    def recall(self) -> None:
        """Learn the jobs of this archive again after a start."""
        for series in archive.series_ids():
            record = self._record(series)
            if record is not None:
                with self._lock:
                    self._index.remember(series, record)
            time.sleep(0)

    def enqueue_pending(self) -> None:
        """Queue what has to be queued; what cannot be is failed, and holds up nothing else."""
        while True:
            with self._lock:
                if not self._pending:
                    return
                job_id, series = next(iter(self._pending.items()))
                record = self._record(series)
                job = record["jobs"].get(job_id) if record else None
                if record is None or job is None or job["state"] in ledger.FINAL:
                    self._pending.pop(job_id, None)
                    continue
                message = assignment.message(job_id, series, record)
                self._write(series, record)
            state, more = "queued", {}
            try:
                self._queue.enqueue(message)
            except (ValueError, TypeError):
                state, more = "failed", {"code": "enqueue_failed"}
            with self._lock:
                self._pending.pop(job_id, None)
                self._move(series, job_id, state, more)

    def reconcile(self) -> int:
        """Bring ledger and queue together; how many jobs have to be queued again."""
        with self._lock:
            unfinished = [one for one in self._index.unfinished() if one[0] not in self._pending]
        left = {job_id for job_id, _ in unfinished}
        self._under_way = {job: told for job, told in self._under_way.items() if job in left}
        repaired = 0
        for job_id, series in unfinished:
            status = self._queue.status(job_id)
            if status in _UNDER_WAY and not self._overdue(job_id, status):
                continue
            again = status == "failed" and self._queue.again(job_id)
            with self._lock:
                lost = self._lost(job_id, series, status, again=again)
            if lost:
                # Results have the same UIDs, so storing twice is storing once.
                self._queue.forget(job_id)
                with self._lock:
                    self._queue_later(series, [job_id])
                repaired += 1
        return repaired

    def _overdue(self, job_id: str, status: str) -> bool:
        """Whether the queue has called a job so for longer than it can be true.

        The queue counts by the clock on the wall. Once that was set back, a retry that was due in
        seconds waits for as long as it was set back, and a dead worker seems to live.
        """
        now_s = time.monotonic()
        known, since_s = self._under_way.setdefault(job_id, (status, now_s))
        if known != status:
            self._under_way[job_id] = (status, now_s)
            return False
        return status in self._longest_s and now_s - since_s > self._longest_s[status]

    def _lost(self, job_id: str, series: str, status: str, *, again: bool) -> bool:
        """Whether a job that the queue no longer works on has to be queued again."""
        record = self._record(series)
        job = record["jobs"].get(job_id) if record else None
        if record is None or job is None:
            self._index.forget(job_id)
            return False
        if job["state"] in ledger.FINAL:
            self._index.remember(series, record)
            return False
        if status == "failed" and not again:
            self._move(series, job_id, "failed", {"code": str(job["code"]) or "job_died"})
            return False
        if status == "finished":
            # It ended there without its report; that may be chance, but not for ever.
            job["lost"] = int(job.get("lost", 0)) + 1
            self._write(series, record)
            if job["lost"] > MAX_LOST:
                self._move(series, job_id, "failed", {"code": "report_lost"})
                return False
        return True

    def _move(self, series: str, job_id: str, state: str, more: Mapping[str, Any]) -> bool:
        record = self._record(series)
        job = record["jobs"].get(job_id) if record else None
        if record is None or job is None or not assignment.move(job, state, more):
            return False
        return self._write(series, record)

    def reload_quiet(self) -> None:
        """Take over quiet times that were set while Orthanc runs."""
        path = self._settings.get("settings_file")
        if path:
            fresh = json.loads(Path(path).read_text("utf-8"))
            with self._lock:
                self._arriving.quiet_s = float(fresh["quiet_s"])
                self._arriving.quiet_per_source_s = _quiet(fresh)

    # --- what the routes ask -----------------------------------------------------------------

    def report(self, series: str, job_id: str, state: str, more: Mapping[str, Any]) -> str:
        """A node's report on a job; the job's state afterwards, "" where it is not known."""
        with self._lock:
            for result in more.get("results", []):
                # Known at once as a result, or the study would look as if it were still arriving.
                described = archive.series(str(result["series"]))
                if described is not None and self._record(str(result["series"])) is None:
                    self._record_result(
                        str(described["ParentStudy"]), str(result["series"]), described["Instances"]
                    )
            moved = self._move(series, job_id, state, more)
            if moved and more.get("results"):
                self._mark_superseded(series)
            record = self._record(series)
            job = record["jobs"].get(job_id) if record else None
            if record is None or job is None:
                return ""
            if moved and state == "superseded" and not job["superseded_by"]:
                # Not by a newer job, so by an instance that was taken away or deleted.
                self._removed(str(record["study"]), series)
            return str(job["state"])

    def _mark_superseded(self, series: str) -> None:
        """Mark the results that a stored job took the place of, in the archive itself.

        A job that was superseded while it stored may have left any of what it had announced.
        """
        record = self._record(series)
        if record is None:
            return
        superseded = [job for job in record["jobs"].values() if job["state"] == "superseded"]
        adopted = [self._adopt(job) for job in superseded]
        if any(adopted):
            self._write(series, record)
        for old in superseded:
            standing = ledger.latest_job(record, old["rule"])
            if standing is None or not standing[1]["results"]:
                continue
            for result in old["results"]:
                marked = self._record(str(result["series"]))
                if marked is not None and not marked["superseded_by"]:
                    marked["superseded_by"] = standing[0]
                    self._write(str(result["series"]), marked)

    def _adopt(self, job: ledger.JobRecord) -> bool:
        """Take announced results that are in the archive for results; whether there were any."""
        known = {result["series"] for result in job["results"]}
        left = [
            result
            for result in job.get("announced", [])
            if result["series"] not in known and self._record(str(result["series"])) is not None
        ]
        job["results"] = [*job["results"], *left]
        return bool(left)

    def run_again(self, series: str, rule_name: str) -> str:
        """A person's wish: a new run of a rule on a series; the new job's id, "" if impossible."""
        with self._lock:
            described = archive.series(series)
            if described is None:
                return ""
            record = self._record(series) or ledger.new_record(str(described["ParentStudy"]), "", 0)
            record["instances"] = ledger.instances_digest(described["Instances"])
            record["count"] = len(described["Instances"])
            rule = self._rules.named(rule_name or _usual_rule(record))
            if rule is None:
                return ""
            job_id, _ = self._add_job(record, series, rule, assignment.next_run(record, rule))
            self._write(series, record)
            self._queue_later(series, [job_id])
            return job_id

    def series_view(self, series: str) -> dict[str, Any] | None:
        """State, reasons and jobs of a series; None where it does not exist."""
        with self._lock:
            described = archive.series(series)
            if described is None:
                return None
            study = str(described["ParentStudy"])
            record = self._record(series)
            arriving = study in self._arriving.studies or (
                record is None and self._arrivals.is_behind()
            )
            return views.series_view(
                series,
                study,
                len(described["Instances"]),
                record,
                arriving=arriving,
                quarantined=len(archive.quarantined(study).get(series, ())),
            )

    def study_view(self, study: str) -> dict[str, Any] | None:
        """State of a study and of each of its series; None where it does not exist."""
        with self._lock:
            found = [self.series_view(series) for series in archive.study_series(study)]
            series = [view for view in found if view is not None]
            if not series:
                return None
            quarantined = sum(len(names) for names in archive.quarantined(study).values())
            arriving = study in self._arriving.studies
            return views.study_view(study, series, arriving=arriving, quarantined=quarantined)

    def states_view(self, studies: Iterable[str]) -> dict[str, dict[str, str]]:
        """States of several studies in one answer; what does not exist is left out."""
        found = {}
        for study in studies:
            # One at a time: a long list must not hold up the watcher.
            with self._lock:
                records = [self._record(series) for series in archive.study_series(study)]
                arriving = study in self._arriving.studies
                behind = None in records and self._arrivals.is_behind()
            if records:
                found[study] = views.state_view(records, arriving=arriving, behind=behind)
        return found

    def jobs_view(self, state: str, limit: int) -> list[dict[str, Any]]:
        """The newest jobs, of one state if it is named."""
        with self._lock:
            known = self._index.newest(state)
        found: list[dict[str, Any]] = []
        for job_id, series in known:
            record = self._record(series)
            job = record["jobs"].get(job_id) if record else None
            if record is not None and job is not None and (not state or job["state"] == state):
                taken = archive.quarantined(str(record["study"])).get(series, ())
                found.append(views.job_view(job_id, series, job, quarantined=len(taken)))
            if len(found) >= limit:
                break
        found.sort(key=lambda job: str(job["updated"]), reverse=True)
        return found

    def status_view(self) -> dict[str, Any]:
        """How the router stands, for `radloop status` and doctor."""
        with self._lock:
            return {
                "jobs": self._index.counts(),
                "position": self._arrivals.position,
                "settled": self._arrivals.settled,
                "arriving_studies": len(self._arriving.studies),
                "waiting_jobs": len(self._pending),
                "known_jobs": len(self._index),
                "queue_answers": self._queue_answers,
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


def _quiet(settings: Mapping[str, Any]) -> dict[str, float]:
    return {aet: float(s) for aet, s in settings["quiet_per_source_s"].items()}


def _usual_rule(record: ledger.Record) -> str:
    rules = [str(job["rule"]) for job in record["jobs"].values()]
    matched = [str(why["rule"]) for why in record["why"] if why["matched"]]
    return (rules[-1:] or matched or [""])[0]
