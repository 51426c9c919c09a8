"""Orthanc as the proxy asks it: pooled connections, nothing buffered, only our errors."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

from dicom_services.api.dicomweb.connection import Connection
from dicom_services.errors import UnavailableError

_IDLE_S: Final = 0.6
"""Orthanc closes a silent connection after a second, and says so in its Keep-Alive header."""
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 120.0
"""The metadata of ten thousand slices."""
_SILENCE_S: Final = 60.0
_CONNECTIONS: Final = 32
"""Of the fifty threads of Orthanc's HTTP server: workers, plugin and searches need theirs."""
_QUEUE_S: Final = 20.0
_JSON_BYTES: Final = 256 << 20
_LINE: Final = re.compile(r"[\x20-\x7e]*\Z")

Body = Callable[[], AsyncIterator[bytes]]
"""Gives the pieces of a request's body, as often as it is asked."""


class Answer:
    """A response whose body is still arriving; use it with `async with`."""

    def __init__(self, upstream: Upstream, connection: Connection) -> None:
        self._upstream = upstream
        self._connection = connection
        self._is_open = True
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self.length = connection.length

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def read(self) -> bytes:
        """The next piece; empty at the end, upon which Orthanc is free for others."""
        connection = self._connection
        if not connection.is_waiting:
            piece = await connection.read()
        else:
            try:
                async with asyncio.timeout(_SILENCE_S):
                    piece = await connection.read()
            except TimeoutError:
                raise UnavailableError("orthanc_timeout") from None
        if connection.complete:
            self._release()
        return piece

    async def whole(self, most: int) -> bytes:
        """All of it, where it has at most so many bytes."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read():
            size += len(piece)
            if size > most:
                raise UnavailableError("orthanc_answer_size")
            pieces.append(piece)
        return b"".join(pieces)

    def detach(self) -> tuple[bytes, int] | None:
        """As `Connection.detach`; afterwards there is nothing but to close it."""
        return self._connection.detach()

    def abort(self) -> None:
        """Break it off: whoever is reading it gets an error."""
        self._connection.abort()

    def close(self) -> None:
        """Give the connection back; what had not come by then will not come."""
        if self._connection.has_pieces or not self._connection.complete:
            self._connection.abort()
        self._release()

    def _release(self) -> None:
        if self._is_open and (not self._connection.has_pieces or self._connection.lost):
            self._is_open = False
            self._upstream.give_back(self._connection)


class Upstream:
    """Connections to one Orthanc; belongs to one event loop."""

    def __init__(self, url: str, user: str, password: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._fixed = (
            f" HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nAuthorization: Basic {token}\r\n"
            "Accept-Encoding: identity\r\n"
        )
        self._idle: deque[tuple[float, Connection]] = deque()
        self._free = asyncio.Semaphore(_CONNECTIONS)

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        *,
        body: Body | None = None,
        length: int = 0,
    ) -> Answer:
        """Send a request and wait for the head of its answer.

        Every request that is sent here may be sent twice: storing twice is storing once.

        Raises
        ------
        UnavailableError
            `orthanc_unreachable`, `orthanc_busy`, `orthanc_timeout` or `orthanc_broken_answer`.
        """
        texts = (target, *headers, *headers.values())
        if " " in target or not all(_LINE.match(text) for text in texts):
            raise ValueError("no line of a request")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if body is not None:
            lines += f"Content-Length: {length}\r\n"
        head = f"{method} {target}{self._fixed}{lines}\r\n".encode("ascii")
        try:
            async with asyncio.timeout(_QUEUE_S):
                await self._free.acquire()
        except TimeoutError:
            raise UnavailableError("orthanc_busy") from None
        try:
            return Answer(self, await self._ask(head, body))
        except BaseException:
            self._free.release()
            raise

    async def _ask(self, head: bytes, body: Body | None) -> Connection:
        while True:
            connection = self._pooled()
            is_fresh = connection is None
            connection = connection or await self._connect()
            try:
                async with asyncio.timeout(_ANSWER_S):
                    connection.send(head)
                    if body is not None:
                        await self._write(connection, body)
                    await connection.head()
            except TimeoutError:
                connection.abort()
                raise UnavailableError("orthanc_timeout") from None
            except UnavailableError:
                connection.abort()
                # Orthanc closed it just when we took it from the pool.
                if not is_fresh and not connection.answered:
                    continue
                raise
            except BaseException:
                connection.abort()
                raise
            return connection

    async def _write(self, connection: Connection, body: Body) -> None:
        async for piece in body():
            # An answer before the end is a refusal; nobody reads the rest.
            if connection.answered or connection.lost:
                return
            await connection.write(piece)

    async def json(
        self, method: str, target: str, value: object = None, *, raw: bytes | None = None
    ) -> Any:
        """Ask for JSON, by JSON or by a text that is none.

        Raises
        ------
        UnavailableError
            `orthanc_failed` when the answer is no success, and as `request`.
        """
        text = raw if value is None else json.dumps(value).encode()

        async def pieces() -> AsyncIterator[bytes]:
            yield text or b""

        body = None if text is None else pieces
        headers = {"Accept": "application/json"}
        length = len(text or b"")
        async with await self.request(method, target, headers, body=body, length=length) as answer:
            content = await answer.whole(_JSON_BYTES)
        if answer.status != 200:
            raise UnavailableError("orthanc_failed", status=answer.status)
        try:
            return json.loads(content)
        except ValueError:
            raise UnavailableError("orthanc_broken_answer") from None

    def give_back(self, connection: Connection) -> None:
        """A connection whose answer is over."""
        self._free.release()
        if connection.is_reusable:
            connection.rest()
            self._idle.append((time.monotonic(), connection))
        else:
            connection.abort()

    async def close(self) -> None:
        """End what is idle."""
        while self._idle:
            self._idle.popleft()[1].abort()

    def _pooled(self) -> Connection | None:
        """The connection that was used last, if Orthanc keeps it surely still open."""
        now = time.monotonic()
        while self._idle and now - self._idle[0][0] > _IDLE_S:
            self._idle.popleft()[1].abort()
        while self._idle:
            connection = self._idle.pop()[1]
            if not connection.lost:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CONNECT_S):
                _, connection = await loop.create_connection(Connection, self._host, self._port)
                return connection
        raise UnavailableError("orthanc_unreachable")
