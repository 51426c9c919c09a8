"""Takes jobs from the queue: fetch, analyse, store, and tell the ledger."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import logging
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry as RedisRetry
from rq import Worker, get_current_job
from rq.exceptions import DeserializationError
from rq.timeouts import JobTimeoutException

from ai_nodes import models, predecessors
from ai_nodes.analysis import Outcome, analyse, refuse
from ai_nodes.messages import AllowedJob, AllowedQueue, SignedJSON
from ai_nodes.node import Node, read_node
from ai_nodes.registry import PIPELINES
from ai_nodes.scheduler import BoundScheduler
from dicom_services.dicom.findings_bytes import pack
from dicom_services.dicom.warm_up import warm_up
from dicom_services.dicom.write import to_bytes
from dicom_services.domain.job import Job
from dicom_services.errors import (
    CorruptError,
    Fact,
    InputError,
    MissingError,
    RadloopError,
    UnavailableError,
)
from dicom_services.log import event, start
from dicom_services.orthanc import FINDINGS, Orthanc

_FINAL: Final = frozenset({"done", "refused", "failed", "superseded"})
# An idle worker looks after others' lost jobs at most this late.
WORKER_TTL_S: Final = 60
MAINTENANCE_S: Final = 15
MONITORING_S: Final = 5
DISK_FULL: Final = "disk_full"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_LITTLE_BYTES: Final = 32 << 20
"""The results of one study, and what Orthanc's index may grow by."""
# What RQ raises on ids and hashes that are not of its own making.
_FOREIGN: Final = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
    DeserializationError,
    redis.ResponseError,
)
_OUR_ID: Final = re.compile(rb"[0-9a-f]{40}\Z")
_node: Node | None = None


class _Superseded(Exception):
    """The series changed under the job; a newer job takes its place."""


class _Early(Exception):
    """The ledger knows of jobs before this one that have not ended."""


def run_job(message: dict[str, Any]) -> None:
    """The one function the queue may call.

    Returns normally whenever the ledger knows how the job ended; raises only what another try
    may cure, and never with a text or a cause that is not ours, because the queue keeps both.
    """
    node = _node or read_node()
    job = Job.from_message(message)
    _require_own_id(job)
    began = time.monotonic()
    with node.orthanc() as orthanc:
        ended = _told(job, orthanc, _ended(job, orthanc))
        # Outside of every handler: what happened in there must not travel on as a context.
        if ended.again:
            _leave_word(ended)
            raise UnavailableError(ended.code)
    event(
        "job.ended",
        job=job.id,
        pipeline=job.pipeline,
        state=ended.state,
        code=ended.code,
        millis=round((time.monotonic() - began) * 1000),
    )


def _require_own_id(job: Job) -> None:
    """Refuse a message of ours that somebody queued once more under another id.

    Raises
    ------
    CorruptError
        `job_replayed`.
    """
    queued = get_current_job()
    if queued is not None and queued.id != job.id:
        event("queue.forged", level=logging.WARNING, code="job_replayed", job=job.id)
        raise CorruptError("job_replayed")


@dataclass(frozen=True, slots=True)
class _End:
    """How a try ended: `again` where another one may help."""

    state: str
    code: str = ""
    again: bool = False
    summary: str = ""
    results: tuple[dict[str, str], ...] = ()
    facts: dict[str, Fact] = field(default_factory=dict)

    @property
    def more(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "summary": self.summary,
            "results": list(self.results),
            "facts": self.facts,
        }


def _ended(job: Job, orthanc: Orthanc) -> _End:
    try:
        return _run(job, orthanc)
    except _Superseded:
        return _End("superseded", "incomplete")
    except _Early:
        return _delayed(job, "predecessor_unfinished")
    except InputError as error:
        return _End("refused", error.code)
    except UnavailableError as error:
        return _delayed(job, _reason(error.code, orthanc))
    except RadloopError as error:
        event("job.failed", level=logging.ERROR, job=job.id, code=error.code)
        return _End("failed", error.code)
    except JobTimeoutException:
        event("job.failed", level=logging.ERROR, job=job.id, code="job_timeout")
        return _End("failed", "job_timeout")
    except MemoryError:
        event("job.failed", level=logging.ERROR, job=job.id, code="out_of_memory")
        return _End("failed", "out_of_memory")
    except BaseException as error:  # noqa: BLE001 - decoders panic with more than Exception
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return _delayed(job, DISK_FULL)
        event("job.failed", level=logging.ERROR, job=job.id, code="internal_error", error=error)
        return _End("failed", "internal_error")


def _told(job: Job, orthanc: Orthanc, ended: _End) -> _End:
    """Tell the ledger; what it could not be told is to be done again."""
    try:
        if not ended.again:
            report(orthanc, job.series, job.id, ended.state, **ended.more)
        elif ended.code == DISK_FULL:
            # Nothing mends this but a person, who looks there.
            report(orthanc, job.series, job.id, "running", code=DISK_FULL, stage="delayed")
    except UnavailableError as error:
        return ended if ended.again else _delayed(job, _reason(error.code, orthanc))
    return ended


def _delayed(job: Job, code: str) -> _End:
    event("job.delayed", level=logging.WARNING, job=job.id, code=code)
    return _End("", code, again=True)


def _reason(code: str, orthanc: Orthanc) -> str:
    """`disk_full` where that is why Orthanc could not store; it does not say so itself."""
    if code not in ("stow_failed", "orthanc_failed"):
        return code
    try:
        free_bytes = int(orthanc.status()["storage_free_bytes"])
    except (RadloopError, KeyError, TypeError, ValueError):
        return code
    return DISK_FULL if free_bytes < _LITTLE_BYTES else code


def _leave_word(ended: _End) -> None:
    """Tell the queue's keepers that a service was away, should no try be left."""
    queued = get_current_job()
    if queued is not None:
        queued.meta.update(code=ended.code, again=True)
        # Away itself, the queue forgets the job, and the reconciler queues it again.
        with suppress(redis.RedisError):
            queued.save_meta()


def report(
    orthanc: Orthanc,
    series: str,
    job: str,
    state: str,
    *,
    code: str = "",
    stage: str = "",
    **more: Any,
) -> str:
    """Tell the ledger how a job stands; its state there afterwards, "" where it is unknown.

    Raises
    ------
    UnavailableError
        When Orthanc does not answer.
    """
    body = json.dumps({"code": code, "stage": stage, **more}, separators=(",", ":"))
    coded = base64.urlsafe_b64encode(body.encode("utf-8")).decode("ascii")
    try:
        answer = orthanc.post_json(
            f"/radloop/series/{series}/jobs/{job}/{state}/{coded}", None, again=True
        )
    except MissingError:
        return ""
    return str(answer["state"])


def _run(job: Job, orthanc: Orthanc) -> _End:
    pipeline = PIPELINES.get(job.pipeline)
    if pipeline is None:
        raise MissingError("pipeline_unknown")
    _advance(orthanc, job, "fetching")
    before = predecessors.told(orthanc, job)
    refusal = predecessors.refusal(before)
    if refusal is not None:
        files = orthanc.fetch(orthanc.instances_of(job.series))
        return _store(
            orthanc,
            job,
            refuse(
                files,
                pipeline,
                job.settings,
                refusal,
                job=job.id,
                rule=job.rule,
                predecessor=job.supersedes,
                predecessor_version=job.supersedes_version,
            ),
        )
    files = orthanc.fetch(_instances(orthanc, job))
    outcome = analyse(
        files,
        pipeline,
        job.settings,
        job=job.id,
        rule=job.rule,
        predecessor=job.supersedes,
        predecessor_version=job.supersedes_version,
        earlier=predecessors.earlier(orthanc, before) if pipeline.after_results else (),
        segmentation=(_node or read_node()).results.segmentation,
        stage=lambda stage: _advance(orthanc, job, stage),
    )
    return _store(orthanc, job, outcome)


def _store(orthanc: Orthanc, job: Job, outcome: Outcome) -> _End:
    # A slice that came meanwhile makes this result one of half a study.
    _instances(orthanc, job)
    results = _results(outcome)
    # Announced, so that nothing is left unnamed if this process ends between two of them.
    _advance(orthanc, job, "storing", announced=list(results))
    if outcome.objects:
        try:
            orthanc.stow([to_bytes(one) for one in outcome.objects])
        except InputError as error:
            # What Orthanc will not take is our mistake, not the study's.
            raise CorruptError(error.code) from None
        _keep_document(orthanc, job, outcome)
    return _End(
        outcome.state,
        outcome.code,
        summary=outcome.headline,
        results=results,
        facts=dict(outcome.facts),
    )


def _keep_document(orthanc: Orthanc, job: Job, outcome: Outcome) -> None:
    """Beside the report, for whoever shows the findings; kept twice it is the same once more.

    The report alone says as much, so a job does not fail for want of it.
    """
    report = next((one for one in outcome.objects if one.Modality == "SR"), None)
    if report is None:
        return
    instance = _orthanc_id(
        str(report.PatientID),
        str(report.StudyInstanceUID),
        str(report.SeriesInstanceUID),
        str(report.SOPInstanceUID),
    )
    try:
        orthanc.attach("instances", instance, FINDINGS, pack(outcome.document))
    except (MissingError, InputError) as error:
        event("job.document_not_kept", level=logging.WARNING, job=job.id, code=error.code)


def _results(outcome: Outcome) -> tuple[dict[str, str], ...]:
    """Modality, SOP Instance UID and Orthanc's series id of each object."""
    return tuple(
        {
            "modality": str(one.Modality),
            "sop": str(one.SOPInstanceUID),
            "series": _orthanc_id(
                str(one.PatientID), str(one.StudyInstanceUID), str(one.SeriesInstanceUID)
            ),
        }
        for one in outcome.objects
    )


def _instances(orthanc: Orthanc, job: Job) -> list[str]:
    """Of every series of the input, as long as they are those that were decided on."""
    present = _unchanged(orthanc, job.series, job.instances)
    for part in job.others:
        try:
            present += _unchanged(orthanc, part.series, part.instances)
        except MissingError:
            # Deleted: what is left is another input.
            raise _Superseded from None
    return present


def _unchanged(orthanc: Orthanc, series: str, instances: str) -> list[str]:
    present = orthanc.instances_of(series)
    digest = hashlib.sha256("\n".join(sorted(present)).encode("ascii")).hexdigest()[:40]
    if digest != instances:
        raise _Superseded
    return present


def _advance(orthanc: Orthanc, job: Job, stage: str, **more: Any) -> None:
    state = report(orthanc, job.series, job.id, "running", stage=stage, **more)
    if state in _FINAL:
        # Superseded, or ended by another try: whatever it is, this one is not needed.
        raise _Superseded
    if state == "waiting":
        raise _Early
    if not state:
        raise MissingError("job_unknown")
    event("job.stage", job=job.id, stage=stage)


def _orthanc_id(*identifiers: str) -> str:
    """Orthanc's own id of a series or instance: the SHA-1 of its identifiers, in five groups.

    These are, as far as they go: patient, study, series, instance.
    """
    text = "|".join(identifiers).encode("utf-8")
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
    return "-".join(digest[at : at + 8] for at in range(0, 40, 8))


class _NodeWorker(Worker):  # type: ignore[misc] # rq ships no usable types
    """RQ's worker that also tells the ledger when a job died for the last time."""

    def _start_scheduler(self, *_: Any, **__: Any) -> None:
        # RQ names no way to choose the class.
        self.scheduler = BoundScheduler(
            self.queues,
            connection=self.connection,
            logging_level=logging.WARNING,
            serializer=self.serializer,
        )
        self.scheduler.acquire_locks(auto_start=True)

    def dequeue_job_and_maintain_ttl(self, *args: Any, **options: Any) -> Any:
        """As RQ's, which ends the worker when it meets an id or a key that is not ours."""
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(*args, **options)
            except _FOREIGN as error:
                event("queue.forged", level=logging.WARNING, code="job_unreadable", error=error)
                self._drop_foreign()
                # Whatever it is may come back; it shall not cost a processor.
                time.sleep(1.0)

    def run_maintenance_tasks(self) -> None:
        """As RQ's; what it cannot read must not end the worker either."""
        try:
            super().run_maintenance_tasks()
        except _FOREIGN as error:
            event("queue.unreadable", level=logging.WARNING, error=error)
            self._drop_foreign()

    def _drop_foreign(self) -> None:
        """Forget ids that nobody of ours gave; RQ would stumble over them for ever."""
        for queue in self.queues:
            taken = queue.intermediate_queue_key
            with contextlib.suppress(redis.RedisError):
                for name in self.connection.lrange(taken, 0, -1):
                    key = b"rq:job:" + name
                    ours = _OUR_ID.match(name) is not None
                    if not ours or self.connection.type(key) not in (b"hash", b"none"):
                        self.connection.lrem(taken, 0, name)

    def handle_job_failure(self, job: AllowedJob, *args: Any, **options: Any) -> None:
        """As RQ's; what has no try left is a dead letter with a reason."""
        again = bool(job.should_retry)
        super().handle_job_failure(job, *args, **options)
        try:
            # While a service is away the reconciler queues the job again.
            if again or job.get_meta(refresh=True).get("again"):
                return
            message = Job.from_message(job.args[0])
            if message.id != job.id:
                # A copy of somebody else's message fails for itself alone.
                return
            with (_node or read_node()).orthanc() as orthanc:
                report(orthanc, message.series, message.id, "failed", code="job_died")
        except (CorruptError, DeserializationError, IndexError, AttributeError):
            # Not ours, and already recorded: no series waits for it.
            return
        except BaseException as error:  # noqa: BLE001 - the reconciler will find it
            event("job.unreported", level=logging.ERROR, error=error)

    def handle_exception(self, job: AllowedJob, *exc_info: Any) -> None:
        """RQ's own would log arguments and texts; only type and place are kept."""
        event("job.raised", level=logging.WARNING, job=_known(job.id), error=exc_info[1])


def _known(job: str) -> str:
    return job if len(job) == 40 and job.isalnum() else "foreign"


def main() -> None:
    """Work until told to stop; the supervisor starts another if Redis takes this one along."""
    global _node
    start("worker")
    _node = read_node()
    models.use(models.of_node(_node))
    for pipeline in PIPELINES.values():
        pipeline.warm()
    models.of_process().warm(name for one in PIPELINES.values() for name in one.models)
    warm_up()
    connection = redis.Redis(
        host=_node.redis_host,
        port=_node.redis_port,
        password=_node.redis_password,
        # Above the 45 s that RQ lets an idle worker wait in one request.
        socket_timeout=WORKER_TTL_S,
        retry=RedisRetry(ExponentialBackoff(cap=2.0, base=0.1), 5),
        health_check_interval=15,
    )
    _wait_for(connection)
    serializer = SignedJSON(_node.signing_key)
    queues = [
        AllowedQueue(name, connection=connection, serializer=serializer, job_class=AllowedJob)
        for name in _node.queues
    ]
    worker = _NodeWorker(
        queues,
        connection=connection,
        serializer=serializer,
        job_class=AllowedJob,
        queue_class=AllowedQueue,
        worker_ttl=WORKER_TTL_S,
        maintenance_interval=MAINTENANCE_S,
        job_monitoring_interval=MONITORING_S,
        log_job_description=False,
    )
    event("worker.ready", count=len(PIPELINES))
    worker.work(with_scheduler=True, logging_level="WARNING")


def _wait_for(connection: redis.Redis) -> None:
    told = False
    while True:
        try:
            connection.ping()
            return
        except redis.RedisError:
            if not told:
                event("worker.waiting", level=logging.WARNING, code="redis_unreachable")
            told = True
            time.sleep(0.5)
