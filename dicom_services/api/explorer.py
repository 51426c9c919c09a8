"""Orthanc's own pages for administrators, passed on as they are but for what may do harm."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from typing import IO, Final

import aiohttp
from starlette.types import Receive, Scope, Send

from dicom_services.api.context import Context
from dicom_services.api.headers import EXPLORER_PAGE, Headers
from dicom_services.api.upload import Part, judge, parts_of, spooled
from dicom_services.errors import AccessError, InputError, UnavailableError

PREFIX: Final = "/explorer"
PAGE: Final = "/explorer/app/explorer.html"
_PIECE: Final = 256 << 10
# Orthanc makes whole archives and copies of studies before it says a word.
_PATIENCE: Final = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=900.0)
_MOST_BODY: Final = 1 << 20
_ID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}"
_JOB: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WORD: Final = r"[A-Za-z0-9_.-]{1,64}"
_LEVEL: Final = r"(?:patients|studies|series|instances)"
# What Explorer's buttons do. Whatever else Orthanc takes may run scripts, stop it, reach other
# machines or replace what is stored.
_WRITES: Final = {
    "POST": re.compile(
        rf"/(?:instances/?|tools/(?:find|lookup)|modalities/{_WORD}/(?:store|query|echo)"
        rf"|peers/{_WORD}/store|queries/{_JOB}/(?:retrieve|answers/[0-9]{{1,6}}/retrieve)"
        rf"|{_LEVEL}/{_ID}/(?:anonymize|modify)|jobs/{_JOB}/(?:cancel|pause|resume|resubmit)"
        rf"|radloop/series/{_ID}/run/(?:{_WORD}|-))\Z"
    ),
    "PUT": re.compile(rf"/patients/{_ID}/protected\Z"),
    "DELETE": re.compile(rf"/(?:{_LEVEL}/{_ID}|queries/{_JOB})\Z"),
}
# These go through the gateway's own doors.
_ELSEWHERE: Final = ("/dicom-web", "/wado")
_PASSED: Final = ("content-type", "content-length", "content-disposition", "last-modified")


class Explorer:
    """An ASGI application in front of Orthanc's REST; the guard lets administrators in alone."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        path = scope["path"].removeprefix(PREFIX)
        method = scope["method"]
        if path in ("", "/"):
            await _to_page(send)
            return
        writes = _WRITES.get(method)
        if path.startswith(_ELSEWHERE) or (writes and not writes.match(path)):
            raise AccessError("explorer_forbidden")
        if method == "POST" and path.rstrip("/") == "/instances":
            await self._upload(scope, receive, send)
        else:
            body = await _body(receive) if writes else b""
            await self._pass_on(scope, path, body, send)

    async def _pass_on(self, scope: Scope, path: str, body: bytes, send: Send) -> None:
        query = scope["query_string"].decode("latin-1")
        address = f"{path}?{query}" if query else path
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        told = {"Accept": headers.get("accept", "*/*"), "Accept-Encoding": "identity"}
        if body and "content-type" in headers:
            told["Content-Type"] = headers["content-type"]
        try:
            async with self._context.http.request(
                scope["method"],
                address,
                headers=told,
                data=body or None,
                allow_redirects=False,
                timeout=_PATIENCE,
            ) as answer:
                await _answer(answer, path, send)
        except TimeoutError:
            raise UnavailableError("orthanc_timeout") from None
        except (aiohttp.ClientError, ValueError):
            raise UnavailableError("orthanc_unreachable") from None

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store what was uploaded, file by file, if the gate lets every one of them pass."""
        kind = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
        config = self._context.config
        async with spooled(receive, config) as file:
            parts = await asyncio.to_thread(parts_of, file, kind)
            for part in parts:
                refusal = await asyncio.to_thread(judge, file, part, config)
                if refusal:
                    raise InputError("gate_refused", reason=refusal.reason, offset=refusal.offset)
            for part in parts[:-1]:
                await self._store(file, part, None)
            await self._store(file, parts[-1], send)

    async def _store(self, file: IO[bytes], part: Part, send: Send | None) -> None:
        headers = {
            "Content-Type": "application/dicom",
            "Content-Length": str(part.end - part.start),
        }
        try:
            async with self._context.http.post(
                "/instances", data=_read(file, part), headers=headers
            ) as answer:
                if send:
                    await _answer(answer, "/instances", send)
                elif answer.status >= 300:
                    raise UnavailableError("orthanc_failed", status=answer.status)
        except TimeoutError:
            raise UnavailableError("orthanc_timeout") from None
        except aiohttp.ClientError:
            raise UnavailableError("orthanc_unreachable") from None


async def _answer(answer: aiohttp.ClientResponse, path: str, send: Send) -> None:
    headers: Headers = [
        (name.encode(), answer.headers[name].encode("latin-1"))
        for name in _PASSED
        if name in answer.headers
    ]
    kind = answer.headers.get("content-type", "")
    if path.startswith("/app/"):
        headers.append((b"content-security-policy", EXPLORER_PAGE.encode()))
        headers.append((b"cache-control", b"no-cache"))
    elif "html" in kind or "xml" in kind or "svg" in kind:
        # Whatever a stored file says it is, it is no page of this origin.
        headers = [one for one in headers if one[0] not in (b"content-type",)]
        headers.append((b"content-type", b"application/octet-stream"))
        headers.append((b"content-disposition", b"attachment"))
    if answer.status == 401:
        # Orthanc's password is the gateway's affair; the browser must not ask for it.
        raise UnavailableError("orthanc_login")
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async for piece in answer.content.iter_chunked(_PIECE):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _to_page(send: Send) -> None:
    headers = [(b"location", PAGE.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes:
    """A short body, of what is no upload."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MOST_BODY:
            raise InputError("body_too_large", most=_MOST_BODY)
        if message["type"] != "http.request" or not message.get("more_body", False):
            return bytes(body)


async def _read(file: IO[bytes], part: Part) -> AsyncIterator[bytes]:
    at = part.start
    while at < part.end:
        piece = os.pread(file.fileno(), min(_PIECE, part.end - at), at)
        if not piece:
            return
        at += len(piece)
        yield piece
