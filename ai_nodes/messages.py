"""The node's end of the queue: only signed messages, only one function, no hooks."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis
from redis.client import Pipeline
from rq import Queue
from rq.exceptions import DeserializationError
from rq.job import Job as QueueJob
from rq.job import JobStatus

from dicom_services.domain.job import Job
from dicom_services.errors import CorruptError
from dicom_services.log import event

FUNCTION: Final = "ai_nodes.worker.run_job"
LARGEST_MESSAGE: Final = 64 << 10
"""Bytes; a message of ours has one thousand."""
# Of the hash that RQ keeps of a job, what our jobs have. The rest names callbacks, webhooks, other
# jobs to start; whoever can write to Redis could set it.
_FIELDS: Final = frozenset(
    {
        *("created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat"),
        *("data", "meta", "origin", "description", "status", "timeout", "worker_name"),
        *("ttl", "result_ttl", "failure_ttl"),
        *("number_of_retries", "retries_left", "retry_intervals"),
    }
)
_ENDED: Final = frozenset({None, b"finished", b"failed"})
_NO_MESSAGE: Final = (IndexError, KeyError, TypeError, AttributeError, ValueError)
_QUEUE_NAME: Final = re.compile(rb"[a-z][a-z0-9_-]{0,62}\Z")


class SignedJSON:
    """RQ serializer: JSON behind an HMAC-SHA-256; `tests/wire/signed.json` pins the bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise CorruptError("signing_key")
        self._key = key
        # RQ asks its serializer for a name, as if it were always a class.
        self.__qualname__ = type(self).__qualname__

    def dumps(self, value: Any) -> bytes:
        """64 hex digits, a dot, compact JSON."""
        body = json.dumps(value, separators=(",", ":")).encode("utf-8")
        return hmac.new(self._key, body, hashlib.sha256).hexdigest().encode("ascii") + b"." + body

    def loads(self, data: bytes) -> Any:
        """The value.

        Raises
        ------
        CorruptError
            `job_signature` when the message was not signed with our key; it is recorded, not run.
            `job_message` when what was signed is no JSON.
        """
        mark, _, body = data.partition(b".")
        good = hmac.new(self._key, body, hashlib.sha256).hexdigest().encode("ascii")
        if not hmac.compare_digest(mark, good):
            event("queue.forged", level=logging.WARNING, code="job_signature")
            raise CorruptError("job_signature")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise CorruptError("job_message") from None


class AllowedJob(QueueJob):  # type: ignore[misc] # rq ships no usable types
    """An RQ job that can only be `run_job`: everything else its hash may name is ignored."""

    def restore(self, raw_data: Mapping[Any, Any]) -> None:
        """Take over a hash of Redis.

        One that is not of our making becomes a job without a message: no signature holds for that,
        so it fails with a record. An error here would end the worker instead.
        """
        told = {_bytes(name): value for name, value in raw_data.items()}
        kept = {name: told[name.encode()] for name in _FIELDS if name.encode() in told}
        try:
            kept["data"] = _bounded(_bytes(kept.get("data", b"")))
            super().restore(kept)
        except Exception as error:  # noqa: BLE001 - the hash may hold anything
            event("queue.forged", level=logging.WARNING, code="job_hash", error=error)
            origin = _bytes(told.get(b"origin", b""))
            named = origin if _QUEUE_NAME.match(origin) else b""
            super().restore({"data": b"", "origin": named, "status": b"queued"})

    @property
    def func(self) -> Callable[..., Any]:
        """`run_job`, or `CorruptError("job_function")`."""
        if self.func_name != FUNCTION or self.instance is not None or self.kwargs:
            event("queue.forged", level=logging.WARNING, code="job_function")
            raise CorruptError("job_function")
        from ai_nodes.worker import run_job

        return run_job

    def dependencies_are_met(
        self, parent_job: QueueJob | None = None, pipeline: Pipeline | None = None, **_: Any
    ) -> bool:
        """Whether this job waits, and all that its signed message names have ended.

        RQ asks this of whatever id stands among the dependents of a job that ended, and goes by
        sets that anybody may have written to. It would start a job twice that no longer waits.
        """
        try:
            if self.get_status(refresh=False) != JobStatus.DEFERRED:
                return False
            after = Job.from_message(self.args[0]).after
            if pipeline is not None and after:
                pipeline.watch(*map(self.key_for, after))  # type: ignore[no-untyped-call]
            ended = parent_job.id if parent_job is not None else ""
            left = [name for name in after if name != ended]
            told = [self.connection.hget(self.key_for(name), "status") for name in left]
        except (CorruptError, DeserializationError, redis.ResponseError, *_NO_MESSAGE):
            event("queue.forged", level=logging.WARNING, code="job_dependent")
            return False
        # What Redis does not know any more is no reason to wait; the ledger is asked anyway.
        return bool(after) and all(status in _ENDED for status in told)

    @property
    def success_callback(self) -> None:
        """Never."""

    @property
    def failure_callback(self) -> None:
        """Never."""

    @property
    def stopped_callback(self) -> None:
        """Never."""

    def send_webhooks(self, *_: Any, **__: Any) -> None:
        """Never: a URL in Redis is not ours."""


class AllowedQueue(Queue):  # type: ignore[misc] # rq ships no usable types
    """An RQ queue that foreign ids among those who wait for a job cannot bring down."""

    def move_dependents_to_ready(
        self, job: QueueJob, pipeline: Pipeline | None = None, **options: Any
    ) -> dict[str, list[str]]:
        """As RQ's, within whose transaction the job ends; the ledger knows who waited for it."""
        try:
            return dict(super().move_dependents_to_ready(job, pipeline=pipeline, **options))
        except (redis.ResponseError, *_NO_MESSAGE) as error:
            event("queue.forged", level=logging.WARNING, code="job_dependent", error=error)
            # What watches the key reads it once more, and finds nothing.
            self.connection.delete(job.dependents_key)
            return {}


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _bounded(data: bytes) -> bytes:
    """A message as it was signed; RQ itself would inflate whatever somebody left there.

    Raises
    ------
    CorruptError
        `job_message` when it is longer than any of ours.
    """
    inflate = zlib.decompressobj()
    try:
        inflated = inflate.decompress(data, LARGEST_MESSAGE + 1)
    except zlib.error:
        # It was not compressed.
        inflated = data
    if len(inflated) > LARGEST_MESSAGE:
        raise CorruptError("job_message")
    return inflated
