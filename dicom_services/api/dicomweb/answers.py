"""Whole answers over raw ASGI: problems and DICOM JSON, never to be kept by anybody."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

from dicom_services.api.problems import MEDIA_TYPE, document, headers_of
from dicom_services.errors import Fact

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

NO_STORE: Final = (b"cache-control", b"no-store")


class ProblemError(Exception):
    """Ends a request with a problem: a status, a code of ours, facts without a patient."""

    def __init__(self, status: int, code: str, **facts: Fact) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.facts = facts


async def send_problem(
    scope: Scope, send: Send, status: int, code: str, facts: Mapping[str, Fact] | None = None
) -> None:
    """A problem-details answer."""
    correlation = str(scope.get("state", {}).get("correlation", ""))
    body = document(status, code, correlation, facts)
    await send_whole(send, status, MEDIA_TYPE, body, headers_of(status).items())


def json_of(value: object) -> bytes:
    """JSON without spaces, in UTF-8; what is no letter in it becomes a question mark."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")


async def send_whole(
    send: Send, status: int, kind: str, body: bytes, extra: Iterable[tuple[str, str]] = ()
) -> None:
    """A body that is complete."""
    headers = [
        (b"content-type", kind.encode("ascii")),
        (b"content-length", b"%d" % len(body)),
        NO_STORE,
        *((name.lower().encode("ascii"), value.encode("ascii")) for name, value in extra),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: bytes) -> str:
    """The value of a header; of several the whole list."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ", ".join(values)
