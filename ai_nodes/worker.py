"""Takes jobs from the queue: fetch, analyse, store, and tell the ledger."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import time
from typing import Any, Final

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry as RedisRetry
from rq import Queue, Worker
from rq.exceptions import DeserializationError
from rq.timeouts import JobTimeoutException

from ai_nodes.analysis import Outcome, analyse
from ai_nodes.messages import AllowedJob, SignedJSON
from ai_nodes.node import Node, read_node
from ai_nodes.registry import PIPELINES
from dicom_services.dicom.warm_up import warm_up
from dicom_services.dicom.write import to_bytes
from dicom_services.domain.job import Job
from dicom_services.errors import (
    ConfigError,
    CorruptError,
    Fact,
    InputError,
    MissingError,
    UnavailableError,
)
from dicom_services.log import event, start
from dicom_services.orthanc import Orthanc

# An idle worker looks after others' lost jobs at most this late.
WORKER_TTL_S: Final = 60
MAINTENANCE_S: Final = 15
MONITORING_S: Final = 5
_node: Node | None = None


class _Superseded(Exception):
    """The series changed under the job; a newer job takes its place."""


def run_job(message: dict[str, Any]) -> None:
    """The one function the queue may call.

    Returns normally whenever the ledger knows how the job ended; raises only what another try
    may cure, and never with a text or a cause that is not ours, because the queue keeps both.
    """
    node = _node or read_node()
    job = Job.from_message(message)
    began = time.monotonic()
    with node.orthanc() as orthanc:
        try:
            _run(job, orthanc)
        except _Superseded:
            report(orthanc, job.series, job.id, "superseded", code="incomplete")
        except InputError as error:
            report(orthanc, job.series, job.id, "refused", code=error.code)
        except (MissingError, ConfigError, CorruptError) as error:
            _fail(orthanc, job, error.code)
        except UnavailableError as error:
            event("job.delayed", level=logging.WARNING, job=job.id, code=error.code)
            raise UnavailableError(error.code) from None
        except JobTimeoutException:
            _fail(orthanc, job, "job_timeout")
        except MemoryError:
            _fail(orthanc, job, "out_of_memory")
        except BaseException as error:  # noqa: BLE001 - decoders panic with more than Exception
            event("job.error", level=logging.ERROR, job=job.id, error=error)
            _fail(orthanc, job, "internal_error")
    event(
        "job.ended",
        job=job.id,
        pipeline=job.pipeline,
        millis=round((time.monotonic() - began) * 1000),
    )


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


def _run(job: Job, orthanc: Orthanc) -> None:
    pipeline = PIPELINES.get(job.pipeline)
    if pipeline is None:
        raise MissingError("pipeline_unknown")
    _advance(orthanc, job, "fetching")
    files = orthanc.fetch(_instances(orthanc, job))
    outcome = analyse(
        files,
        pipeline,
        job.settings,
        job=job.id,
        rule=job.rule,
        predecessor=job.supersedes,
        stage=lambda stage: _advance(orthanc, job, stage),
    )
    _store(orthanc, job, outcome)


def _store(orthanc: Orthanc, job: Job, outcome: Outcome) -> None:
    # A slice that came meanwhile makes this result one of half a study.
    _instances(orthanc, job)
    _advance(orthanc, job, "storing")
    if outcome.objects:
        orthanc.stow([to_bytes(one) for one in outcome.objects])
    results = [
        {
            "modality": str(one.Modality),
            "sop": str(one.SOPInstanceUID),
            "series": _orthanc_series(
                str(one.PatientID), str(one.StudyInstanceUID), str(one.SeriesInstanceUID)
            ),
        }
        for one in outcome.objects
    ]
    report(
        orthanc,
        job.series,
        job.id,
        outcome.state,
        code=outcome.code,
        summary=outcome.headline,
        results=results,
        facts=_plain(outcome.facts),
    )


def _instances(orthanc: Orthanc, job: Job) -> list[str]:
    present = orthanc.instances_of(job.series)
    digest = hashlib.sha256("\n".join(sorted(present)).encode("ascii")).hexdigest()[:40]
    if digest != job.instances:
        raise _Superseded
    return present


def _advance(orthanc: Orthanc, job: Job, stage: str) -> None:
    state = report(orthanc, job.series, job.id, "running", stage=stage)
    if state == "superseded":
        raise _Superseded
    event("job.stage", job=job.id, stage=stage)


def _fail(orthanc: Orthanc, job: Job, code: str) -> None:
    event("job.failed", level=logging.ERROR, job=job.id, code=code)
    report(orthanc, job.series, job.id, "failed", code=code)


def _plain(facts: dict[str, Fact]) -> dict[str, Fact]:
    return {name: value for name, value in facts.items() if not isinstance(value, str)}


def _orthanc_series(patient: str, study: str, series: str) -> str:
    """Orthanc's own id of a series: the SHA-1 of its three identifiers, in five groups."""
    text = "|".join((patient, study, series)).encode("utf-8")
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
    return "-".join(digest[at : at + 8] for at in range(0, 40, 8))


class _NodeWorker(Worker):  # type: ignore[misc] # rq ships no usable types
    """RQ's worker that also tells the ledger when a job died for the last time."""

    def handle_job_failure(self, job: AllowedJob, *args: Any, **options: Any) -> None:
        """As RQ's; what has no try left is a dead letter with a reason."""
        again = bool(job.should_retry)
        super().handle_job_failure(job, *args, **options)
        if again:
            return
        try:
            message = Job.from_message(job.args[0])
            with (_node or read_node()).orthanc() as orthanc:
                report(orthanc, message.series, message.id, "failed", code="job_died")
        except (CorruptError, DeserializationError):
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
    for pipeline in PIPELINES.values():
        pipeline.warm()
    warm_up()
    connection = redis.Redis(
        host=_node.redis_host,
        port=_node.redis_port,
        password=_node.redis_password,
        retry=RedisRetry(ExponentialBackoff(cap=2.0, base=0.1), 5),
        health_check_interval=15,
    )
    _wait_for(connection)
    serializer = SignedJSON(_node.signing_key)
    queues = [
        Queue(name, connection=connection, serializer=serializer, job_class=AllowedJob)
        for name in _node.queues
    ]
    worker = _NodeWorker(
        queues,
        connection=connection,
        serializer=serializer,
        job_class=AllowedJob,
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
