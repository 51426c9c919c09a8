"""The node's end of the queue: only signed messages, only one function, no hooks."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from typing import Any, Final

from rq.job import Job as QueueJob

from dicom_services.errors import CorruptError
from dicom_services.log import event

FUNCTION: Final = "ai_nodes.worker.run_job"


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
    """An RQ job that can only be `run_job`: everything else its hash may name is ignored.

    The hash holds more than the signed data: names of callbacks, webhooks, an instance. Whoever
    can write to Redis could set them, so none of them is ever followed.
    """

    @property
    def func(self) -> Callable[..., Any]:
        """`run_job`, or `CorruptError("job_function")`."""
        if self.func_name != FUNCTION or self.instance is not None or self.kwargs:
            event("queue.forged", level=logging.WARNING, code="job_function")
            raise CorruptError("job_function")
        from ai_nodes.worker import run_job

        return run_job

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
