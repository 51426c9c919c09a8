"""From change log to ledger and queue: watches arrivals, decides, queues once, reconciles."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import redis

from orthanc_plugins import archive, ledger, routing
from orthanc_plugins.completeness import Completeness, expected_instances
from orthanc_plugins.queueing import JobQueue

POLL_BUSY_S: Final = 0.05
POLL_IDLE_S: Final = 0.2
REMEMBERED_JOBS: Final = 20_000


class Router:
    """The plugin's two threads and the lock they share with the REST routes.

    The watcher follows Orthanc's change log instead of registering callbacks on storage: a
    callback would take Python's lock for every instance and slow the senders, and Orthanc forgets
    its stable-series events at every restart, while the change log stays.
    """

    def __init__(
        self, settings: Mapping[str, Any], log: Callable[[str], None], started_at: str
    ) -> None:
        self._settings = settings
        self._log = log
        self._started_at = started_at
        self._rules = routing.read_rules(Path(settings["routing_file"]))
        self._queue = JobQueue(settings)
        self._arriving = Completeness(
            float(settings["quiet_s"]),
            {aet: float(s) for aet, s in settings["quiet_per_source_s"].items()},
        )
        self._lock = threading.RLock()
        self._parent: OrderedDict[str, str] = OrderedDict()
        self._facts: dict[str, dict[str, Any]] = {}
        # Series and state of each job, newest last, so that nobody has to read every record.
        self._jobs: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._pending: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._wake = threading.Event()
        self._position = 0
        self._saved = -1
        self._queue_answers = True

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
                    self._position = self._first_position()
                    self._log(f"radloop: following changes from {self._position}")
                    started = True
                moved = self._follow()
                self._decide_due()
                self._save_cursor()
            except BaseException as error:  # noqa: BLE001 - nothing may cross into Orthanc
                # The position has not moved: the next round sees the same changes again.
                self._log(f"radloop: watcher {type(error).__name__}")
                time.sleep(1.0)
            busy = moved or bool(self._arriving.studies)
            time.sleep(POLL_BUSY_S if busy else POLL_IDLE_S)

    def _first_position(self) -> int:
        saved = archive.read_cursor()
        if saved is not None:
            return saved
        # First start on this archive: what was there before is not ours to analyse.
        position, done = 0, False
        while not done:
            page, last, done = archive.changes(position)
            for change in page:
                if change["Date"] >= self._started_at:
                    return position
                position = int(change["Seq"])
            position = max(position, last)
        return position

    def _follow(self) -> bool:
        moved = False
        while True:
            page, last, done = archive.changes(self._position)
            now_s = time.monotonic()
            touched: dict[str, int] = {}
            for change in page:
                if change["ChangeType"] == "NewInstance":
                    parent = self._series_of(change["ID"])
                    if parent:
                        touched.setdefault(parent, int(change["Seq"]))
            with self._lock:
                for series, first_change in touched.items():
                    self._arrived(series, first_change, now_s)
            self._position = last
            moved = moved or bool(touched)
            if done:
                return moved

    def _series_of(self, instance: str) -> str:
        known = self._parent.get(instance)
        if known is not None:
            return known
        answer = archive.get(f"/instances/{instance}")
        if answer is None:
            return ""
        series = str(answer["ParentSeries"])
        # One look at the series names all the instances that came with this one.
        described = archive.series(series)
        for sibling in described["Instances"] if described else [instance]:
            self._parent[sibling] = series
        while len(self._parent) > 100_000:
            self._parent.popitem(last=False)
        return series

    def _arrived(self, series: str, change: int, now_s: float) -> None:
        described = archive.series(series)
        if described is None or not described["Instances"]:
            return
        if series not in self._facts:
            self._facts[series] = archive.facts(described["Instances"][0])
        facts = self._facts[series]
        study = str(described["ParentStudy"])
        if routing.is_result(facts):
            self._record_result(study, series, described["Instances"])
            return
        self._arriving.arrived(
            study,
            series,
            count=len(described["Instances"]),
            expected=expected_instances(facts),
            source=archive.metadata(series).get("RemoteAET", ""),
            change=change,
            now_s=now_s,
        )

    def _record_result(self, study: str, series: str, instances: list[str]) -> None:
        record = ledger.new_record(study, ledger.instances_digest(instances), len(instances))
        record["excluded_by"] = "result"
        archive.write_metadata(series, ledger.write_record(record))
        self._facts.pop(series, None)

    def _save_cursor(self) -> None:
        oldest = self._arriving.oldest_change()
        settled = self._position if oldest is None else min(self._position, oldest - 1)
        if settled != self._saved:
            archive.write_cursor(settled)
            self._saved = settled

    # --- the decision ------------------------------------------------------------------------

    def _decide_due(self) -> None:
        with self._lock:
            for study in self._arriving.due(time.monotonic()):
                self._decide(study)
                # Only now: a decision that failed half-way is taken again from the start.
                self._arriving.settled(study)

    def _decide(self, study: str) -> None:
        instances: dict[str, list[str]] = {}
        facts: dict[str, dict[str, Any]] = {}
        for series in archive.study_series(study):
            described = archive.series(series)
            if described is None or not described["Instances"]:
                continue
            instances[series] = described["Instances"]
            known = self._facts.pop(series, None) or archive.facts(described["Instances"][0])
            source = archive.metadata(series).get("RemoteAET", "")
            facts[series] = {
                **known,
                "InstanceCount": len(described["Instances"]),
                "SourceAET": source,
            }
        for series, decision in routing.decide(self._rules, facts).items():
            self._apply(study, series, instances[series], decision)

    def _apply(
        self, study: str, series: str, instances: list[str], decision: routing.Decision
    ) -> None:
        digest = ledger.instances_digest(instances)
        old = self._record(series)
        record = old or ledger.new_record(study, digest, len(instances))
        if record["instances"] != digest:
            record["instances"], record["count"] = digest, len(instances)
        record["excluded_by"] = decision.excluded_by
        record["why"] = [
            {
                "rule": verdict.rule,
                "matched": verdict.matched,
                "selected": verdict.selected,
                "why": verdict.why,
            }
            for verdict in decision.verdicts
        ]
        for job in record["jobs"].values():
            # A series that a rule gives up keeps its results, but they are no longer its state.
            job["current"] = job["current"] and (job["forced"] or job["rule"] in decision.chosen)
        for name in decision.chosen:
            rule = self._rules.named(name)
            if rule is not None:
                self._add_job(record, series, rule, run=None)
        self._write(series, record)

    def _add_job(
        self, record: ledger.Record, series: str, rule: routing.Rule, run: int | None
    ) -> str:
        """Enter a job for the record's present instances; `run` is None for the automatic one."""
        previous = ledger.latest_job(record, rule.name)
        number = run if run is not None else 0
        job_id = ledger.job_id(
            rule=rule.name,
            pipeline=rule.pipeline,
            settings=rule.settings,
            versions=self._versions(rule.pipeline),
            series=series,
            instances=record["instances"],
            run=number,
        )
        known = record["jobs"].get(job_id)
        if known is not None:
            known["current"] = True
            return job_id
        if run is None and previous is not None:
            same = previous[1]["instances"] == record["instances"]
            if same and previous[1]["state"] != "failed":
                # A new version or setting alone does not repeat old work; "Run again" does.
                previous[1]["current"] = True
                return previous[0]
        supersedes = ledger.job_with_results(record, rule.name)
        if previous is not None:
            changed = previous[1]["instances"] != record["instances"]
            self._supersede(*previous, by=job_id, changed=changed)
        now = _now()
        record["jobs"][job_id] = {
            "rule": rule.name,
            "pipeline": rule.pipeline,
            "version": str(self._settings["pipelines"].get(rule.pipeline, "")),
            "queue": rule.queue,
            "state": "waiting",
            "code": "",
            "stage": "",
            "run": number,
            "instances": record["instances"],
            "count": record["count"],
            "supersedes": supersedes,
            "superseded_by": "",
            "current": True,
            "forced": run is not None,
            "created": now,
            "updated": now,
            "summary": "",
            "results": [],
            "settings": rule.settings,
        }
        self._pending[job_id] = _message(job_id, series, record)
        self._wake.set()
        return job_id

    def _supersede(self, job_id: str, job: ledger.JobRecord, *, by: str, changed: bool) -> None:
        """Retire a job for a newer one; if it has not ended yet, it ends before it stores."""
        if job["state"] not in ledger.FINAL:
            job["code"] = "incomplete" if changed else "run_again"
            self._pending.pop(job_id, None)
        job["state"] = "superseded"
        job["superseded_by"] = by
        job["updated"] = _now()

    def _versions(self, pipeline: str) -> list[str]:
        return [
            str(self._settings["software_version"]),
            str(self._settings["pipelines"].get(pipeline, "")),
        ]

    def _record(self, series: str) -> ledger.Record | None:
        return ledger.read_record(archive.metadata(series).get(archive.METADATA))

    def _write(self, series: str, record: ledger.Record) -> bool:
        text = ledger.write_record(record)
        self._remember(series, record)
        return archive.write_metadata(series, text)

    def _remember(self, series: str, record: ledger.Record) -> None:
        for job_id, job in record["jobs"].items():
            known = self._jobs.get(job_id)
            self._jobs[job_id] = (series, str(job["state"]))
            if known is None or known[1] != job["state"]:
                self._jobs.move_to_end(job_id)
        while len(self._jobs) > REMEMBERED_JOBS:
            self._jobs.popitem(last=False)

    # --- the queue ---------------------------------------------------------------------------

    def _serve_queue(self) -> None:
        time.sleep(0.2)
        self._recall()
        every_s = float(self._settings["reconcile_s"])
        next_round_s = 0.0
        while True:
            self._wake.wait(timeout=0.5)
            self._wake.clear()
            try:
                self._enqueue_pending()
                if time.monotonic() >= next_round_s:
                    self.reconcile()
                    next_round_s = time.monotonic() + every_s
                self._queue_answers = True
            except redis.RedisError:
                if self._queue_answers:
                    self._log("radloop: the queue does not answer; jobs wait")
                self._queue_answers = False
                time.sleep(1.0)
                self._wake.set()
            except BaseException as error:  # noqa: BLE001 - nothing may cross into Orthanc
                self._log(f"radloop: queue thread {type(error).__name__}")
                time.sleep(1.0)

    def _recall(self) -> None:
        """Learn the jobs of this archive again after a start."""
        for series in archive.series_ids():
            record = self._record(series)
            if record is None:
                continue
            with self._lock:
                self._remember(series, record)
            time.sleep(0)

    def _enqueue_pending(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    return
                job_id, message = next(iter(self._pending.items()))
            self._queue.enqueue(message)
            with self._lock:
                self._pending.pop(job_id, None)
                self._move(message["series"], job_id, "queued", {})

    def reconcile(self) -> int:
        """Bring ledger and queue together; how many jobs had to be queued again."""
        repaired = 0
        with self._lock:
            known = [
                (job_id, series)
                for job_id, (series, state) in self._jobs.items()
                if state not in ledger.FINAL
            ]
        for job_id, series in known:
            record = self._record(series)
            job = record["jobs"].get(job_id) if record else None
            if record is None or job is None or job["state"] in ledger.FINAL:
                with self._lock:
                    self._jobs.pop(job_id, None)
                continue
            if job_id in self._pending:
                continue
            status = self._queue.status(job_id)
            if status in ("queued", "started", "scheduled", "deferred"):
                continue
            if status == "failed":
                with self._lock:
                    code = str(job["code"]) or "job_died"
                    self._move(series, job_id, "failed", {"code": code})
                continue
            # Unknown to Redis, or finished there without its report: run it again; results have
            # the same UIDs, so storing twice is storing once.
            self._queue.forget(job_id)
            with self._lock:
                self._pending[job_id] = _message(job_id, series, record)
            repaired += 1
        if repaired:
            self._wake.set()
        return repaired

    def _move(self, series: str, job_id: str, state: str, more: Mapping[str, Any]) -> bool:
        record = self._record(series)
        job = record["jobs"].get(job_id) if record else None
        if record is None or job is None or not ledger.may_follow(job["state"], state):
            return False
        if state == "queued" and job["state"] in ("running", "stored"):
            return False
        job["state"] = state
        job["updated"] = _now()
        for name in ("code", "stage", "summary", "results", "facts"):
            if name in more:
                job[name] = more[name]
        return self._write(series, record)

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
            self._move(series, job_id, state, more)
            record = self._record(series)
            job = record["jobs"].get(job_id) if record else None
            return str(job["state"]) if job else ""

    def run_again(self, series: str, rule_name: str) -> str:
        """A person's wish: a new run of a rule on a series; the new job's id, "" if impossible."""
        with self._lock:
            described = archive.series(series)
            if described is None:
                return ""
            record = self._record(series) or ledger.new_record(
                str(described["ParentStudy"]), "", len(described["Instances"])
            )
            record["instances"] = ledger.instances_digest(described["Instances"])
            record["count"] = len(described["Instances"])
            rule = self._rules.named(rule_name or self._usual_rule(record))
            if rule is None:
                return ""
            runs = [job["run"] for job in record["jobs"].values() if job["rule"] == rule.name]
            job_id = self._add_job(record, series, rule, run=max(runs, default=0) + 1)
            self._write(series, record)
            return job_id

    def _usual_rule(self, record: ledger.Record) -> str:
        rules = [str(job["rule"]) for job in record["jobs"].values()]
        matched = [str(why["rule"]) for why in record["why"] if why["matched"]]
        return (rules[-1:] or matched or [""])[0]

    def series_view(self, series: str) -> dict[str, Any] | None:
        """State, reasons and jobs of a series; None where it does not exist."""
        with self._lock:
            described = archive.series(series)
            if described is None:
                return None
            record = self._record(series)
            study = str(described["ParentStudy"])
            state, code = ledger.series_state(record)
            arriving = self._arriving.studies.get(study)
            if record is None and arriving is not None:
                state = "received"
            return {
                "series": series,
                "study": study,
                "state": state,
                "code": code,
                "instances": len(described["Instances"]),
                "excluded_by": record["excluded_by"] if record else "",
                "why": record["why"] if record else [],
                "jobs": [_job_view(name, series, job) for name, job in _newest_first(record)],
            }

    def study_view(self, study: str) -> dict[str, Any] | None:
        """State of a study and of each of its series; None where it does not exist."""
        with self._lock:
            views = [self.series_view(series) for series in archive.study_series(study)]
            series = [view for view in views if view is not None]
            if not series:
                return None
            state, code = ledger.study_state((view["state"], view["code"]) for view in series)
            return {
                "study": study,
                "state": state,
                "code": code,
                "arriving": study in self._arriving.studies,
                "series": series,
            }

    def jobs_view(self, state: str, limit: int) -> list[dict[str, Any]]:
        """The newest jobs, of one state if it is named."""
        with self._lock:
            known = [
                (job_id, series)
                for job_id, (series, job_state) in reversed(self._jobs.items())
                if state in ("", job_state)
            ]
        found: list[dict[str, Any]] = []
        for job_id, series in known:
            record = self._record(series)
            job = record["jobs"].get(job_id) if record else None
            if job is not None and (not state or job["state"] == state):
                found.append(_job_view(job_id, series, job))
            if len(found) >= limit:
                break
        found.sort(key=lambda job: job["updated"], reverse=True)
        return found

    def status_view(self) -> dict[str, Any]:
        """How the router stands, for `radloop status` and doctor."""
        with self._lock:
            counts: dict[str, int] = {}
            for _, state in self._jobs.values():
                counts[state] = counts.get(state, 0) + 1
            return {
                "jobs": counts,
                "position": self._position,
                "settled": self._saved,
                "arriving_studies": len(self._arriving.studies),
                "waiting_jobs": len(self._pending),
                "known_jobs": len(self._jobs),
                "queue_answers": self._queue_answers,
                "rules": [rule.name for rule in self._rules.rules],
            }


def _now() -> str:
    moment = time.time()
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
        + f".{int(moment % 1 * 1_000_000):06d}Z"
    )


def _message(job_id: str, series: str, record: ledger.Record) -> dict[str, Any]:
    job = record["jobs"][job_id]
    return {
        "version": 1,
        "id": job_id,
        "rule": job["rule"],
        "pipeline": job["pipeline"],
        "queue": job["queue"],
        "study": record["study"],
        "series": series,
        "instances": job["instances"],
        "count": job["count"],
        "run": job["run"],
        "supersedes": job["supersedes"],
        "settings": job["settings"],
    }


def _newest_first(record: ledger.Record | None) -> list[tuple[str, ledger.JobRecord]]:
    jobs = list(record["jobs"].items()) if record else []
    return sorted(jobs, key=lambda item: str(item[1]["created"]), reverse=True)


def _job_view(job_id: str, series: str, job: ledger.JobRecord) -> dict[str, Any]:
    shown = {name: value for name, value in job.items() if name not in ("settings", "instances")}
    return {"job": job_id, "series": series, **shown}
