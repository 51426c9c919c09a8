"""WADO-RS: what Orthanc answers goes on to the client while it arrives, or is broken off."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

from dicom_services.api.dicomweb.accept import Choice, choose
from dicom_services.api.dicomweb.answers import (
    NO_STORE,
    ProblemError,
    Receive,
    Scope,
    Send,
    header,
)
from dicom_services.api.dicomweb.compressed import (
    HEADERS,
    SMALLEST,
    Compressed,
    accepts_gzip,
)
from dicom_services.api.dicomweb.origin import forwarded
from dicom_services.api.dicomweb.paths import PREFIX, Resource
from dicom_services.api.dicomweb.pump import ClientGoneError, Pump, Pumps
from dicom_services.api.dicomweb.single_part import SinglePart
from dicom_services.api.dicomweb.upstream import Answer, Upstream
from dicom_services.errors import UnavailableError

_WATCHED_BYTES: Final = 4 << 20
"""Larger answers are watched for clients that leave."""
TRANSPORT: Final = "radloop.transport"
"""Under this name the server tells the client's connection in the extensions of a request."""
_TAIL_BYTES: Final = 256
_BOUNDARY: Final = re.compile(r'boundary="?([A-Za-z0-9\'()+_,./:=?-]{1,200})"?')
# What the plugin's rendering understands, PS3.18 table 8.3.5-1; names of its own it ignores.
_RENDERING: Final = re.compile(
    rb"(?:(?:quality|viewport|window)=[A-Za-z0-9.,%+-]{1,120}(?:&|\Z))*\Z"
)
Body = Answer | SinglePart | Compressed


async def retrieve(
    upstream: Upstream,
    pumps: Pumps,
    resource: Resource,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Answer a retrieval.

    Raises
    ------
    ProblemError
        Before the first byte.
    UnavailableError
        Before it, or in the middle: then the server breaks the connection.
    """
    accept, query = accept_of(scope)
    choice = choose(resource.form, resource.level, resource.frames, accept)
    if choice is None:
        raise ProblemError(406, "not_acceptable")
    target = PREFIX + resource.path + _arguments(resource, query)
    async with await _ask(upstream, target, choice, scope) as answer:
        if answer.length is None and scope.get("http_version") == "1.0":
            # Its end could not be told from a break.
            raise ProblemError(505, "http_version")
        body: Body = answer
        kind = answer.headers.get("content-type", "application/octet-stream")
        if choice.single:
            body = await SinglePart.open(answer)
            kind = body.kind or choice.single
        elif _is_worth_packing(resource, answer, scope):
            body = Compressed(answer)
        if not (body is answer and await _pumped(pumps, answer, kind, scope, send)):
            await _relay(body, kind, receive, send)


def _is_worth_packing(resource: Resource, answer: Answer, scope: Scope) -> bool:
    # Its length is known, so that a body that breaks off is told from a whole one; of HTTP/1.0 the
    # packed one's would not be.
    is_long = (answer.length or 0) >= SMALLEST and scope.get("http_version") != "1.0"
    return resource.form == "metadata" and is_long and accepts_gzip(scope)


async def _ask(upstream: Upstream, target: str, choice: Choice, scope: Scope) -> Answer:
    headers = {"Accept": choice.accept, **forwarded(scope)}
    answer = await upstream.request("GET", target, headers)
    if answer.status != 200 and choice.again:
        answer.close()
        headers["Accept"] = choice.again
        answer = await upstream.request("GET", target, headers)
    if answer.status == 200:
        return answer
    answer.close()
    if answer.status == 404:
        raise ProblemError(404, "object_unknown")
    if answer.status in (401, 403):
        raise UnavailableError("orthanc_login")
    if answer.status in (400, 406, 415):
        # It says no more than that.
        raise ProblemError(406, "not_available_so", status_of_archive=answer.status)
    raise ProblemError(502, "archive_failed", status_of_archive=answer.status)


async def _pumped(pumps: Pumps, answer: Answer, kind: str, scope: Scope, send: Send) -> bool:
    """Pass an answer of several objects on inside the kernel; False where that cannot be."""
    transport = scope.get("extensions", {}).get(TRANSPORT)
    boundary = _BOUNDARY.search(kind)
    if transport is None or not boundary or answer.length is not None or not pumps.has_room:
        return False
    # Not through TLS, which is not the kernel's.
    sink = transport.get_extra_info("socket")
    if sink is None or transport.get_extra_info("ssl_object") is not None:
        return False
    detached = answer.detach()
    if detached is None:
        return False
    first, source = detached
    pump = Pump(source, os.dup(sink.fileno()), first, boundary[1])
    headers = [
        (b"content-type", kind.encode("latin-1", "replace")),
        (b"transfer-encoding", b"chunked"),
        NO_STORE,
    ]
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(0.001)
        await pumps.run(pump)
    except ClientGoneError:
        transport.abort()
        return True
    finally:
        pump.stop()
    await send({"type": "http.response.body", "body": b""})
    return True


async def _relay(body: Body, kind: str, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", kind.encode("latin-1", "replace")), NO_STORE]
    closing = b""
    if isinstance(body, Compressed):
        headers += [(name.encode(), value.encode()) for name, value in HEADERS]
    elif body.length is None:
        found = _BOUNDARY.search(kind)
        if not found:
            raise UnavailableError("orthanc_broken_answer")
        closing = f"--{found[1]}--".encode()
    else:
        headers.append((b"content-length", b"%d" % body.length))
    watch = None
    if body.length is None or body.length > _WATCHED_BYTES:
        watch = Watch(body, receive)
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        tail = b""
        while piece := await body.read():
            if closing:
                tail = (tail + piece[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if closing and not tail.rstrip(b"\r\n").endswith(closing):
            raise UnavailableError("orthanc_broken_answer")
        await send({"type": "http.response.body", "body": b""})
    except UnavailableError:
        if watch is None or not watch.gone:
            raise
    finally:
        if watch:
            await watch.end()


class Watch:
    """Breaks an answer off when its client leaves; the server itself ends those that only wait."""

    def __init__(self, body: Body, receive: Receive) -> None:
        self.gone = False
        self._body = body
        self._receive = receive
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._body.abort()

    async def end(self) -> None:
        """Look no more."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


def accept_of(scope: Scope) -> tuple[str, bytes]:
    """What the client accepts, and the rest of its query: an image's address may hold the former.

    PS3.18 8.3.3.1 puts the parameter `accept` before the header.
    """
    query: bytes = scope.get("query_string", b"")
    rest = []
    accept = header(scope, b"accept")
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"accept":
            accept = unquote(value.decode("latin-1"))
        elif part:
            rest.append(part)
    return accept, b"&".join(rest)


def _arguments(resource: Resource, query: bytes) -> str:
    """The query of a rendering; other forms have none."""
    if resource.form != "rendered" or not query:
        return ""
    if not _RENDERING.match(query):
        raise ProblemError(400, "query")
    return "?" + query.decode("ascii").replace("%2C", ",").replace("%2c", ",")
