"""The one part of a multipart answer, taken out of it while it streams."""

from __future__ import annotations

import re
from typing import Final

from dicom_services.api.dicomweb.upstream import Answer
from dicom_services.errors import UnavailableError

_HEAD_BYTES: Final = 8 << 10
_BOUNDARY: Final = re.compile(r'boundary="?([A-Za-z0-9\'()+_,./:=?-]{1,200})"?')
_KIND: Final = re.compile(rb"(?i)\r\ncontent-type:[ \t]*([\x20-\x7e]+)")


class SinglePart:
    """Reads like an answer; `open` has read up to the part's first byte."""

    def __init__(self, answer: Answer, first: bytes, length: int, kind: str, end: bytes) -> None:
        self.length: int | None = length
        self.kind = kind
        self._answer = answer
        self._first = first
        self._left = length
        self._end = end

    @classmethod
    async def open(cls, answer: Answer) -> SinglePart:
        """Read the head of the part.

        Raises
        ------
        UnavailableError
            `orthanc_broken_answer` when it is no multipart of known length.
        """
        found = _BOUNDARY.search(answer.headers.get("content-type", ""))
        if not found or answer.length is None:
            raise UnavailableError("orthanc_broken_answer")
        opening = f"--{found[1]}\r\n".encode()
        end = f"\r\n--{found[1]}--".encode()
        head = b""
        while (stop := head.find(b"\r\n\r\n")) < 0:
            piece = await answer.read()
            head += piece
            if not piece or len(head) > _HEAD_BYTES + (1 << 20):
                raise UnavailableError("orthanc_broken_answer")
        if not head.lstrip(b"\r\n").startswith(opening) or stop > _HEAD_BYTES:
            raise UnavailableError("orthanc_broken_answer")
        kind = _KIND.search(head[: stop + 2])
        # This Orthanc ends the last part with its delimiter and one line end.
        length = answer.length - (stop + 4) - len(end) - 2
        if length < 0:
            raise UnavailableError("orthanc_broken_answer")
        return cls(answer, head[stop + 4 :], length, kind[1].decode() if kind else "", end)

    async def read(self) -> bytes:
        """The next piece of the part; empty at its end."""
        if not self._left:
            await self._require_end()
            return b""
        piece = self._first or await self._answer.read()
        if not piece:
            raise UnavailableError("orthanc_broken_answer")
        taken = piece[: self._left]
        self._first = piece[len(taken) :]
        self._left -= len(taken)
        return taken

    async def _require_end(self) -> None:
        rest = self._first
        while piece := await self._answer.read():
            rest += piece
        if rest.rstrip(b"\r\n") != self._end:
            raise UnavailableError("orthanc_broken_answer")

    def abort(self) -> None:
        """Break the answer off."""
        self._answer.abort()
