"""JSON on its way to a browser, a twentieth as long: the metadata of a series are megabytes."""

from __future__ import annotations

import zlib
from typing import Final

from dicom_services.api.dicomweb.accept import media_of
from dicom_services.api.dicomweb.answers import Scope, header
from dicom_services.api.dicomweb.upstream import Answer

SMALLEST: Final = 16 << 10
"""Below this it saves no packet worth the time."""
# The fastest: what it leaves is four fifths as long with the default, which takes twice the time.
_LEVEL: Final = 1
_GZIP: Final = 16 + zlib.MAX_WBITS
HEADERS: Final = (("content-encoding", "gzip"), ("vary", "accept-encoding"))


def accepts_gzip(scope: Scope) -> bool:
    """Whether the client unpacks it."""
    return any(one.kind == "gzip" for one in media_of(header(scope, b"accept-encoding")))


def compressed(body: bytes) -> bytes:
    """A whole body."""
    machine = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return machine.compress(body) + machine.flush()


class Compressed:
    """Reads like an answer, packed piece by piece."""

    def __init__(self, answer: Answer) -> None:
        self.length: int | None = None
        self._answer = answer
        self._machine = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._ended = False

    async def read(self) -> bytes:
        """The next piece; empty at the end."""
        while not self._ended:
            piece = await self._answer.read()
            self._ended = not piece
            if packed := self._machine.compress(piece) if piece else self._machine.flush():
                return packed
        return b""

    def abort(self) -> None:
        """Break the answer off."""
        self._answer.abort()
