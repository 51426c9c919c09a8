"""A multipart body read as it arrives (RFC 2046): each part goes into a private file."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import IO, Final

from dicom_services.api.dicomweb.accept import media_of
from dicom_services.api.dicomweb.answers import ProblemError, Receive

_BOUNDARY: Final = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]\Z")
_HEAD_BYTES: Final = 8 << 10
_MOST_PARTS: Final = 20_000
_PREAMBLE_BYTES: Final = 4 << 10
_HEADER: Final = re.compile(rb"([A-Za-z][A-Za-z0-9-]{0,40}):[ \t]*([\x20-\x7e]*)\Z")


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its file, which is gone when closed, and what it says it is."""

    file: IO[bytes]
    kind: str
    encoding: str


def boundary_of(content_type: str) -> tuple[str, str]:
    """Kind of the parts and boundary of a `multipart/related` content type; "" for others.

    Raises
    ------
    ProblemError
        400 when there is no boundary, or one that is none.
    """
    media = media_of(content_type)
    if len(media) != 1 or media[0].kind != "multipart/related":
        return "", ""
    boundary = media[0].parameters.get("boundary", "")
    if not _BOUNDARY.match(boundary):
        raise ProblemError(400, "multipart", why="boundary")
    return media[0].part, boundary


async def pieces_of(receive: Receive) -> AsyncIterator[bytes]:
    """The body of a request.

    Raises
    ------
    ProblemError
        400 when the client left before its end.
    """
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ProblemError(400, "upload_broken")
        if body := message.get("body", b""):
            yield body
        if not message.get("more_body", False):
            return


class _Reader:
    """A window on the body that moves forward only."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.window = bytearray()

    async def more(self) -> None:
        """Make the window larger by what comes next."""
        try:
            self.window += await anext(self._pieces)
        except StopAsyncIteration:
            raise ProblemError(400, "multipart", why="end") from None

    async def until(self, mark: bytes, most: int, why: str) -> bytes:
        """What stands before `mark`, which is passed over."""
        while (found := self.window.find(mark)) < 0:
            if len(self.window) > most:
                raise ProblemError(400, "multipart", why=why)
            await self.more()
        if found > most:
            raise ProblemError(400, "multipart", why=why)
        before = bytes(self.window[:found])
        del self.window[: found + len(mark)]
        return before

    async def copy_until(self, mark: bytes, write: Callable[[bytes], object]) -> None:
        """The same for what may be as long as it likes."""
        while (found := self.window.find(mark)) < 0:
            safe = len(self.window) - len(mark) + 1
            if safe > 0:
                write(bytes(self.window[:safe]))
                del self.window[:safe]
            await self.more()
        write(bytes(self.window[:found]))
        del self.window[: found + len(mark)]

    async def first(self, count: int) -> bytes:
        """The next bytes, which stay."""
        while len(self.window) < count:
            await self.more()
        return bytes(self.window[:count])


async def parts_of(
    pieces: AsyncIterator[bytes], boundary: str, spool: Callable[[], IO[bytes]]
) -> AsyncIterator[Part]:
    """Each part of a body as soon as it is whole; whoever gets it closes its file.

    Raises
    ------
    ProblemError
        400 `multipart` with what is wrong.
    """
    reader = _Reader(pieces)
    # So that the first delimiter looks like the others.
    reader.window += b"\r\n"
    delimiter = b"\r\n--" + boundary.encode("ascii")
    await reader.until(delimiter, _PREAMBLE_BYTES, "preamble")
    for _ in range(_MOST_PARTS + 1):
        if await reader.first(2) == b"--":
            # What follows is nobody's; the server reads it away.
            async for _rest in pieces:
                reader.window.clear()
            return
        padding = await reader.until(b"\r\n", _HEAD_BYTES, "delimiter")
        if padding.strip(b" \t"):
            raise ProblemError(400, "multipart", why="delimiter")
        headers = await _headers(reader)
        file = spool()
        try:
            await reader.copy_until(delimiter, file.write)
            file.flush()
        except BaseException:
            file.close()
            raise
        yield Part(
            file,
            headers.get(b"content-type", b"").decode().split(";")[0].strip().lower(),
            headers.get(b"content-transfer-encoding", b"").decode().strip().lower()
            or headers.get(b"content-encoding", b"").decode().strip().lower(),
        )
    raise ProblemError(400, "multipart", why="parts")


async def _headers(reader: _Reader) -> dict[bytes, bytes]:
    if await reader.first(2) == b"\r\n":
        del reader.window[:2]
        return {}
    headers = {}
    for line in (await reader.until(b"\r\n\r\n", _HEAD_BYTES, "header")).split(b"\r\n"):
        found = _HEADER.match(line)
        if not found:
            raise ProblemError(400, "multipart", why="header")
        headers[found[1].lower()] = found[2]
    return headers
