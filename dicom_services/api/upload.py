"""Files that arrive by HTTP: kept on disk, judged by the gate, quarantined where it refuses."""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from starlette.types import Receive

from dicom_services.api.config import GatewayConfig
from dicom_services.errors import InputError, UnavailableError
from dicom_services.gate import Refusal, refusal_of_file
from dicom_services.quarantine import Quarantine

_BOUNDARY: Final = re.compile(r'boundary="?([^";,\s]{1,70})"?', re.IGNORECASE)
_MOST_PARTS: Final = 10_000
_MOST_HEAD: Final = 16 << 10
_SPACE_EVERY: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One file within a body, by its place."""

    start: int
    end: int


@asynccontextmanager
async def spooled(receive: Receive, config: GatewayConfig) -> AsyncIterator[IO[bytes]]:
    """A request's body in a file that is gone afterwards; slow senders hold no memory.

    Raises
    ------
    UnavailableError
        `disk_full` before the disk is, `upload_broken` when the sender left.
    """
    with tempfile.TemporaryFile(dir=config.scratch) as file:
        checked = 0
        require_room(config)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise UnavailableError("upload_broken")
            file.write(message.get("body", b""))
            if file.tell() - checked > _SPACE_EVERY:
                checked = file.tell()
                require_room(config)
            if not message.get("more_body", False):
                break
        file.flush()
        yield file


def require_room(config: GatewayConfig) -> None:
    """Refuse in time, so that what is under way can still be stored.

    Raises
    ------
    UnavailableError
        `disk_full`.
    """
    found = os.statvfs(config.scratch)
    if found.f_bavail * found.f_frsize < config.reserve_bytes:
        raise UnavailableError("disk_full")


def parts_of(file: IO[bytes], content_type: str) -> list[Part]:
    """Where the files lie in a body: one, or those of a form (RFC 7578).

    Raises
    ------
    InputError
        `upload_form`.
    """
    size = os.fstat(file.fileno()).st_size
    if not content_type.lower().startswith("multipart/"):
        return [Part(0, size)]
    found = _BOUNDARY.search(content_type)
    if not found or not size:
        raise InputError("upload_form")
    line = b"--" + found[1].encode("latin-1")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        return _form_parts(body, line)


def _form_parts(body: mmap.mmap, line: bytes) -> list[Part]:
    if body[: len(line)] != line:
        raise InputError("upload_form")
    parts: list[Part] = []
    at = len(line)
    while body[at : at + 2] == b"\r\n":
        head_end = body.find(b"\r\n\r\n", at, at + _MOST_HEAD)
        end = body.find(b"\r\n" + line, head_end)
        if head_end < 0 or end < 0 or len(parts) >= _MOST_PARTS:
            raise InputError("upload_form")
        if b"filename" in body[at:head_end]:
            parts.append(Part(head_end + 4, end))
        at = end + 2 + len(line)
    if body[at : at + 2] != b"--" or not parts:
        raise InputError("upload_form")
    return parts


def judge(file: IO[bytes], part: Part, config: GatewayConfig) -> Refusal | None:
    """Why a file may not be parsed by anything, None where it may; a refused one is kept."""
    if part.end <= part.start:
        return Refusal("not_dicom", 0)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        view = memoryview(body)[part.start : part.end]
        try:
            refusal = refusal_of_file(view, scale=config.object_scale)
            if refusal:
                quarantine = Quarantine(
                    Path(config.quarantine), config.quarantine_bytes, config.quarantine_records
                )
                quarantine.keep(
                    view,
                    reason=refusal.reason,
                    offset=refusal.offset,
                    source="upload",
                    sender="",
                )
            return refusal
        finally:
            view.release()
