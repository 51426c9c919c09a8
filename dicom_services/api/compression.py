"""Compresses JSON answers as they pass; images, streams and files go by untouched."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_services.api.requests import takes_encoding

_FROM_BYTES: Final = 1000
_KINDS: Final = (b"application/json", b"application/dicom+json", b"text/html", b"text/plain")
# Metadata of a study shrink to a twentieth at 150 MB/s; a higher level costs more than it saves.
_LEVEL: Final = 2
_GZIP: Final = 31
# Ten milliseconds of everybody's time.
_INLINE_BYTES: Final = 1 << 20


class Compression:
    """Wraps an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, compressed where the client takes it and it is worth it."""
        accepted = dict(scope["headers"]).get(b"accept-encoding", b"").decode("latin-1")
        if takes_encoding(accepted, "gzip"):
            await self._app(scope, receive, _Compressing(send))
        else:
            await self._app(scope, receive, send)


class _Compressing:
    """The `send` of one answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._packer: Any = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if _worth(message):
                self._start = message
            else:
                await self._send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            start, self._start = self._start, None
            if more or len(body) >= _FROM_BYTES:
                self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
                start = {**start, "headers": _packed_headers(start["headers"])}
            await self._send(start)
        if self._packer is None:
            await self._send(message)
            return
        packed = await self._pack(body, last=not more)
        if packed or not more:
            await self._send({"type": "http.response.body", "body": packed, "more_body": more})

    async def _pack(self, body: bytes, *, last: bool) -> bytes:
        packer = self._packer

        def pack() -> bytes:
            packed: bytes = packer.compress(body)
            return packed + packer.flush() if last else packed

        return pack() if len(body) <= _INLINE_BYTES else await asyncio.to_thread(pack)


def _worth(start: Message) -> bool:
    told = {name.lower(): value for name, value in start.get("headers", ())}
    kind = told.get(b"content-type", b"").partition(b";")[0].strip()
    length = told.get(b"content-length", b"")
    return (
        kind in _KINDS
        and b"content-encoding" not in told
        and not (length.isdigit() and int(length) < _FROM_BYTES)
    )


def _packed_headers(headers: Any) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    return [*kept, (b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
