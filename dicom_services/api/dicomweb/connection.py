"""One connection to Orthanc: a request out, its answer in as it comes, never more than a little."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Final

import httptools

from dicom_services.errors import UnavailableError

_QUEUED_BYTES: Final = 1 << 20
"""Beyond this Orthanc has to wait for the reader; a frame of a CT fits in twice."""
_RESUME_BYTES: Final = 256 << 10
_HEAD_BYTES: Final = 64 << 10


class Connection(asyncio.Protocol):
    """HTTP/1.1 over one transport, one request at a time.

    Only the head goes through a parser, and a body that is cut into chunks: Orthanc sends the
    others, gigabytes of them, with their length or up to the end of the connection.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._queued = 0
        self._paused = False
        self._blocked = False
        self.lost = False
        self._begin()

    def _begin(self) -> None:
        self._parser = None
        self._direct = self._chunked = self._head = False
        self._head_bytes = 0
        self._got = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.length: int | None = None
        self.complete = False
        self.answered = False
        self.cut = False
        self.keeps = False

    # -- what the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport; that of uvloop has the methods but not the class."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self.answered = True
        if self._direct:
            self._take(data)
        elif self._parser is None:
            # Nobody asked for this.
            self.abort()
        else:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError:
                self._fail()
                return
            if not self._head:
                self._head_bytes += len(data)
                if self._head_bytes > _HEAD_BYTES:
                    self._fail()
            elif not self._chunked:
                self._direct = True
        self._wake()

    def eof_received(self) -> bool:
        """The end of the connection is the end of a body without a length."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Whatever is not complete now never will be."""
        self.lost = True
        if self._parser is not None and not self.complete:
            open_end = self._head and self.length is None and not self._chunked
            self.complete = open_end and error is None
            self.cut = not self.complete
        self._wake()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def pause_writing(self) -> None:
        """Orthanc reads more slowly than we write."""
        self._blocked = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._blocked = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of the head."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The whole head."""
        if self._parser is None:
            return
        self._head = True
        self.status = self._parser.get_status_code()
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        told = self.headers.get("content-length", "")
        if not self._chunked:
            if told.isascii() and told.isdigit():
                self.length = int(told)
            elif self.status in (204, 304):
                self.length = 0
        self.keeps = self._parser.should_keep_alive() and (self._chunked or self.length is not None)
        self.complete = self.length == 0

    def on_body(self, body: bytes) -> None:
        """A piece that stood behind the head, or in a chunk."""
        self._take(body)

    def on_message_complete(self) -> None:
        """The last chunk."""
        if self._chunked:
            self.complete = True

    # -- what the reader calls

    def send(self, head: bytes) -> None:
        """Begin a request; its body, where it has one, follows by `write`."""
        self._begin()
        self._parser = httptools.HttpResponseParser(self)
        if self._transport is not None and not self.lost:
            self._transport.write(head)

    async def write(self, piece: bytes) -> None:
        """A piece of the request's body; waits while Orthanc does not read."""
        if self._transport is None or self.lost:
            return
        self._transport.write(piece)
        if self._blocked:
            self._drained = self._loop.create_future()
            await self._drained

    async def head(self) -> None:
        """Wait for the head of the answer.

        Raises
        ------
        UnavailableError
            `orthanc_broken_answer` when the connection ends first.
        """
        while not self._head:
            if self.cut or self.lost:
                raise UnavailableError("orthanc_broken_answer")
            await self._wait()

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end.

        Raises
        ------
        UnavailableError
            `orthanc_broken_answer` when it breaks off.
        """
        while not self._chunks:
            if self.complete:
                return b""
            if self.cut or self.lost:
                raise UnavailableError("orthanc_broken_answer")
            await self._wait()
        piece = self._chunks.popleft()
        self._queued -= len(piece)
        if self._paused and self._queued <= _RESUME_BYTES and self._transport is not None:
            self._paused = False
            if not self.lost:
                self._transport.resume_reading()
        return piece

    @property
    def has_pieces(self) -> bool:
        """Whether something came that nobody has read."""
        return bool(self._chunks)

    @property
    def is_waiting(self) -> bool:
        """Whether the next piece is still to come."""
        return not self._chunks and not self.complete

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow."""
        return (
            self.complete
            and self.keeps
            and not self.lost
            and not self._chunks
            and self._transport is not None
            and not self._transport.is_closing()
        )

    def detach(self) -> tuple[bytes, int] | None:
        """What has come of a body without a length, and a socket to read the rest from.

        None where that is not possible: then it is read here. The socket is a duplicate, and
        nothing is read here any more.
        """
        found = self._transport.get_extra_info("socket") if self._transport else None
        has_end = self.length is not None or self._chunked or self.complete
        if self._transport is None or found is None or has_end or self.lost or self.cut:
            return None
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()
        first = b"".join(self._chunks)
        self._chunks.clear()
        self._queued = 0
        return first, os.dup(found.fileno())

    def rest(self) -> None:
        """Between two requests."""
        self._parser = None
        self._direct = False

    def abort(self) -> None:
        """End it at once, in both directions."""
        if self._transport is not None:
            self._transport.abort()

    def _take(self, data: bytes) -> None:
        self._got += len(data)
        if self.length is not None:
            if self._got > self.length:
                self._fail()
                return
            if self._got == self.length:
                self.complete = True
        self._chunks.append(data)
        self._queued += len(data)
        if self._queued > _QUEUED_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _fail(self) -> None:
        self.cut = True
        self.complete = False
        self.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
