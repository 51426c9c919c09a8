"""Jobs into Redis: signed messages, each queued once, and what became of them."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry as RedisRetry
from rq import Queue, Retry
from rq.exceptions import (
    DeserializationError,
    DuplicateJobError,
    InvalidJobOperation,
    NoSuchJobError,
)
from rq.job import Dependency, Job

FUNCTION: Final = "ai_nodes.worker.run_job"
# What RQ raises on hashes and keys that somebody else wrote, or that are not there.
_FOREIGN: Final = (
    NoSuchJobError,
    InvalidJobOperation,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
    DeserializationError,
    redis.ResponseError,
)
KEEP_RESULT_S: Final = 3_600
KEEP_FAILURE_S: Final = 7 * 86_400


class SignedJSON:
    """RQ serializer: JSON behind an HMAC-SHA-256, so that only key holders can queue work.

    `tests/wire/signed.json` pins the bytes for the node, which has its own reader.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ValueError("the signing key has at least 32 bytes")
        self._key = key

    def dumps(self, value: Any) -> bytes:
        """64 hex digits, a dot, compact JSON."""
        body = json.dumps(value, separators=(",", ":")).encode("utf-8")
        return hmac.new(self._key, body, hashlib.sha256).hexdigest().encode("ascii") + b"." + body

    def loads(self, data: bytes) -> Any:
        """The value; `ValueError` when the signature does not hold."""
        mark, _, body = data.partition(b".")
        good = hmac.new(self._key, body, hashlib.sha256).hexdigest().encode("ascii")
        if not hmac.compare_digest(mark, good):
            raise ValueError("signature")
        return json.loads(body)


class JobQueue:
    """The connection to Redis; every method may raise `redis.RedisError`, quickly."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._serializer = SignedJSON(read_key(Path(settings["signing_key_file"])))
        self._timeout_s = int(settings["job_timeout_s"])
        self._retry_s = [int(seconds) for seconds in settings["retry_s"]]
        where = settings["redis"]
        self._redis = redis.Redis(
            host=where["host"],
            port=int(where["port"]),
            password=Path(where["password_file"]).read_text("ascii").strip(),
            socket_timeout=5,
            socket_connect_timeout=2,
            # The caller has its own loop; waiting here would only hide that Redis is gone.
            retry=RedisRetry(NoBackoff(), 0),
        )

    def enqueue(self, message: Mapping[str, Any]) -> None:
        """Queue a job under its own id; a job that is already there stays as it is."""
        try:
            self._enqueue(message, unique=True)
        except DuplicateJobError:
            return

    def enqueue_after(self, message: Mapping[str, Any], jobs: Sequence[str]) -> None:
        """Queue a job that waits until others have ended, in whatever way.

        RQ cannot be asked for uniqueness here; this process is the only one that queues.
        """
        if Job.exists(str(message["id"]), connection=self._redis):
            return
        try:
            self._enqueue(message, depends_on=Dependency(jobs=list(jobs), allow_failure=True))
        except _FOREIGN as error:
            _require_foreign(error)
            # What stands there in place of one of them is not ours. The node asks the ledger.
            self.enqueue(message)

    def _enqueue(self, message: Mapping[str, Any], **how: Any) -> None:
        self._queue(str(message["queue"])).enqueue_call(
            FUNCTION,
            args=(dict(message),),
            job_id=str(message["id"]),
            timeout=self._timeout_s,
            result_ttl=KEEP_RESULT_S,
            failure_ttl=KEEP_FAILURE_S,
            retry=Retry(max=len(self._retry_s), interval=self._retry_s),
            # RQ would put the arguments here, in clear and into logs.
            description=f"{message['pipeline']} {message['id']}",
            **how,
        )

    def status(self, job: str) -> str:
        """RQ's word for the job; "" where Redis does not know it, or what it has is not ours."""
        try:
            found = Job.fetch(job, connection=self._redis, serializer=self._serializer)
            return str(found.get_status(refresh=False).value)
        except _FOREIGN as error:
            _require_foreign(error)
            return ""

    def again(self, job: str) -> bool:
        """Whether a failed job says that a service was away, so that another try may help."""
        try:
            found = Job.fetch(job, connection=self._redis, serializer=self._serializer)
            return bool(found.get_meta(refresh=False).get("again"))
        except _FOREIGN as error:
            _require_foreign(error)
            return False

    def forget(self, job: str) -> None:
        """Remove a job from Redis, whatever its state there."""
        try:
            Job.fetch(job, connection=self._redis, serializer=self._serializer).delete()
        except _FOREIGN as error:
            _require_foreign(error)
            key = str(Job.key_for(job))
            self._redis.delete(key, f"{key}:dependents", f"{key}:dependencies")

    def depth(self, queues: list[str]) -> int:
        """Jobs waiting in the named queues."""
        return sum(self._queue(name).count for name in queues)

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self._redis, serializer=self._serializer)


def _require_foreign(error: Exception) -> None:
    """Raise what Redis says of itself rather than of a key that holds something else."""
    if isinstance(error, redis.ResponseError) and "WRONGTYPE" not in str(error):
        raise error


def read_key(path: Path) -> bytes:
    """The signing key, kept as hex."""
    return bytes.fromhex(path.read_text("ascii").strip())
