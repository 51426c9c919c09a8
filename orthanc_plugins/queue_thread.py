"""Keeps ledger and queue together: queues what waits, finds what was lost, buries what is dead."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis

from orthanc_plugins import assignment, joins, ledger
from orthanc_plugins.completeness import Completeness
from orthanc_plugins.door import ClosedError
from orthanc_plugins.queueing import JobQueue
from orthanc_plugins.records import Records

MAX_LOST: Final = 5
"""How often a job that ended without its report is run again."""
OVERDUE_S: Final = 120.0
"""Beyond its longest wait or its longest run, within this the queue gives a job up by itself."""
RIPE_S: Final = 10.0
"""So long the queue may take to move a job on whose predecessors have all ended."""
_RIPE: Final = "ripe"
_UNDER_WAY: Final = frozenset(
    {"queued", "started", "scheduled", "deferred", "ready_to_enqueue", _RIPE}
)


class QueueThread:
    """One thread that tells Redis of jobs; Redis may forget all of it at any moment."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        records: Records,
        queue: JobQueue,
        arriving: Completeness,
        log: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._records = records
        self._queue = queue
        self._arriving = arriving
        self._log = log
        # Series of each job that has to be queued.
        self._pending: OrderedDict[str, str] = OrderedDict()
        # What the queue said of each unfinished job, and since when it has said so.
        self._under_way: dict[str, tuple[str, float]] = {}
        self._longest_s: dict[str, float] = {
            "scheduled": OVERDUE_S + sum(settings["retry_s"]),
            "started": OVERDUE_S + float(settings["job_timeout_s"]),
            "ready_to_enqueue": OVERDUE_S,
            _RIPE: RIPE_S,
        }
        self._wake = threading.Event()
        self.answers = True

    def __len__(self) -> int:
        return len(self._pending)

    def start(self) -> None:
        """Start the thread; a daemon, because Orthanc would wait for others for ever."""
        threading.Thread(target=self._serve, name="radloop-queue", daemon=True).start()

    def queue_later(self, series: str, job_ids: Sequence[str]) -> None:
        """Have jobs of a series queued as soon as may be."""
        for job_id in job_ids:
            self._pending[job_id] = series
        if job_ids:
            self._wake.set()

    def drop(self, job_id: str) -> None:
        """Do not queue a job after all."""
        self._pending.pop(job_id, None)

    def _serve(self) -> None:
        time.sleep(0.2)
        recalled = False
        every_s = float(self._settings["reconcile_s"])
        next_round_s = 0.0
        while True:
            self._wake.wait(timeout=0.5)
            self._wake.clear()
            try:
                if not recalled:
                    self._records.recall()
                    recalled = True
                self.enqueue_pending()
                if time.monotonic() >= next_round_s:
                    self.reload_quiet()
                    self.reconcile()
                    next_round_s = time.monotonic() + every_s
                self.answers = True
            except redis.RedisError:
                if self.answers:
                    self._log("radloop: the queue does not answer; jobs wait")
                self.answers = False
                time.sleep(1.0)
                self._wake.set()
            except ClosedError:
                return
            except BaseException as error:  # noqa: BLE001 - nothing may cross into Orthanc
                self._log(f"radloop: queue thread {type(error).__name__}")
                time.sleep(1.0)

    def enqueue_pending(self) -> None:
        """Queue what has to be queued; what cannot be is failed, and holds up nothing else."""
        while True:
            with self._records.lock:
                if not self._pending:
                    return
                job_id, series = next(iter(self._pending.items()))
                found = self._records.job(series, job_id)
                if found is None or found[1]["state"] in ledger.FINAL:
                    self._pending.pop(job_id, None)
                    continue
                held = self._held(*found)
                if any(one in self._pending for one in held):
                    # The queue has to know them first.
                    self._pending.move_to_end(job_id)
                    continue
                message = assignment.message(job_id, series, found[0])
                self._records.write(series, found[0])
            state, more = ("waiting", {"stage": joins.WAITS}) if held else ("queued", {"stage": ""})
            try:
                if held:
                    self._queue.enqueue_after(message, held)
                else:
                    self._queue.enqueue(message)
            except (ValueError, TypeError):
                state, more = "failed", {"code": "enqueue_failed"}
            with self._records.lock:
                self._pending.pop(job_id, None)
                self._records.move(series, job_id, state, more)

    def _held(self, record: ledger.Record, job: ledger.JobRecord) -> list[str]:
        """The jobs that one still has to wait for, by the ledger."""
        if not job.get("after") or job["state"] not in ("waiting", "queued"):
            return []
        arriving = str(record["study"]) in self._arriving.studies
        return joins.unended(self._records.predecessors(job), arriving=arriving)

    def _status(self, job_id: str, series: str) -> str:
        """The queue's word for a job, `ripe` for one that it holds back without reason."""
        status = self._queue.status(job_id)
        if status != "deferred":
            return status
        with self._records.lock:
            found = self._records.job(series, job_id)
            return status if found is not None and self._held(*found) else _RIPE

    def reconcile(self) -> int:
        """Bring ledger and queue together; how many jobs have to be queued again."""
        with self._records.lock:
            known = self._records.index.unfinished()
            unfinished = [one for one in known if one[0] not in self._pending]
        left = {job_id for job_id, _ in unfinished}
        self._under_way = {job: told for job, told in self._under_way.items() if job in left}
        repaired: set[str] = set()
        deferred: dict[str, str] = {}
        for job_id, series in unfinished:
            status = self._status(job_id, series)
            if status == "deferred":
                deferred[job_id] = series
            if status in _UNDER_WAY and not self._overdue(job_id, status):
                continue
            again = status == "failed" and self._queue.again(job_id)
            with self._records.lock:
                lost = self._lost(job_id, series, status, again=again)
            if lost:
                # Results have the same UIDs, so storing twice is storing once.
                self._queue_anew(series, job_id)
                repaired.add(job_id)
        for job_id, series in deferred.items():
            found = self._records.job(series, job_id)
            if found is not None and repaired.intersection(
                joins.job_ids(found[1].get("after", []))
            ):
                # With the job before it the queue forgot who waits for that.
                self._queue_anew(series, job_id)
        return len(repaired)

    def _queue_anew(self, series: str, job_id: str) -> None:
        self._queue.forget(job_id)
        with self._records.lock:
            self.queue_later(series, [job_id])

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
        found = self._records.job(series, job_id)
        if found is None:
            self._records.index.forget(job_id)
            return False
        record, job = found
        if job["state"] in ledger.FINAL:
            self._records.index.remember(series, record)
            return False
        if status == "failed" and not again:
            code = str(job["code"]) or "job_died"
            self._records.move(series, job_id, "failed", {"code": code})
            return False
        if status == "finished":
            # It ended there without its report; that may be chance, but not for ever.
            job["lost"] = int(job.get("lost", 0)) + 1
            self._records.write(series, record)
            if job["lost"] > MAX_LOST:
                self._records.move(series, job_id, "failed", {"code": "report_lost"})
                return False
        return True

    def reload_quiet(self) -> None:
        """Take over quiet times that were set while Orthanc runs."""
        path = self._settings.get("settings_file")
        if path:
            fresh = json.loads(Path(path).read_text("utf-8"))
            with self._records.lock:
                self._arriving.quiet_s = float(fresh["quiet_s"])
                self._arriving.quiet_per_source_s = quiet_times(fresh)


def quiet_times(settings: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by sender, as the settings name them."""
    return {aet: float(s) for aet, s in settings["quiet_per_source_s"].items()}
