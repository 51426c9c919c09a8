"""What an object says of itself, read only after the gate; and whether the gate lets it in."""

from __future__ import annotations

import io
import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from typing import IO, Final

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from dicom_services import gate
from dicom_services.api.config import GatewayConfig
from dicom_services.dicom.header import DEFLATED_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE
from dicom_services.dicom.quiet import quiet
from dicom_services.quarantine import Quarantine, digest_of_uid

_INFLATED_BYTES: Final = 32 << 20
"""Deflated objects are reports and the like; the gate alone would hold four times as much."""
_META_BYTES: Final = 16 << 10
_PIECE: Final = 1 << 20
_LONG: Final = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT")
# PS3.5 A.5, and the deflated forms of JPIP.
_DEFLATED: Final = (DEFLATED_LITTLE, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
_LAST_TAG: Final = 0x0020000E
_TAGS: Final = {
    "character_set": 0x00080005,
    "sop_class": 0x00080016,
    "sop_instance": 0x00080018,
    "description": 0x00081030,
    "patient": 0x00100020,
    "birth_date": 0x00100030,
    "study": 0x0020000D,
    "series": 0x0020000E,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose and what an object is.

    `syntax` and `start` say how and where its data set begins; `description` is None where the
    object has no Study Description at all.
    """

    sop_class: str
    sop_instance: str
    study: str
    series: str
    patient: str
    birth_date: str
    description: str | None
    syntax: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Why it may not come in: a reason of the gate."""

    reason: str
    sop_class: str = ""
    sop_instance: str = ""


class Admission:
    """Judges files; threads may share it."""

    def __init__(self, config: GatewayConfig) -> None:
        self._scale = config.object_scale
        self._quarantine = Quarantine(
            config.quarantine, config.quarantine_bytes, config.quarantine_records
        )

    def judge(self, file: IO[bytes]) -> Identity | Refused:
        """The identity of a sound object; a refused one is kept in quarantine."""
        size = os.fstat(file.fileno()).st_size
        if not size:
            return Refused("not_dicom")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            refusal = _bomb(whole) or gate.refusal_of_file(whole, scale=self._scale)
            identity = None if refusal else _identity(whole, size)
            if identity and self._quarantine.is_poison(digest_of_uid(identity.sop_instance)):
                refusal = gate.Refusal("poison", 0)
            if identity and not refusal:
                return identity
            refusal = refusal or gate.Refusal("vr", 0)
            with memoryview(whole) as content:
                self._quarantine.keep(
                    content,
                    reason=refusal.reason,
                    offset=refusal.offset,
                    source="upload",
                    sender="",
                    sop_instance_digest=digest_of_uid(identity.sop_instance) if identity else "",
                )
        if identity is None:
            return Refused(refusal.reason)
        return Refused(refusal.reason, identity.sop_class, identity.sop_instance)


def top_level(content: mmap.mmap, syntax: str, start: int, last: int) -> tuple[Dataset, int]:
    """The wanted elements up to the tag `last`, and where the next one begins.

    Raises
    ------
    ValueError
        When it cannot be read, whatever pydicom says of it.
    """
    stream: mmap.mmap | io.BytesIO = content
    if syntax == DEFLATED_LITTLE:
        machine = zlib.decompressobj(-zlib.MAX_WBITS)
        stream = io.BytesIO(machine.decompress(memoryview(content)[start:], _INFLATED_BYTES))
        start = 0
    stream.seek(start)

    def stop(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return int(tag) > last

    try:
        with quiet():
            dataset = read_dataset(
                stream,  # type: ignore[arg-type]  # a map reads like a file
                syntax == IMPLICIT_LITTLE,
                syntax != EXPLICIT_BIG,
                stop_when=stop,
                specific_tags=[BaseTag(tag) for tag in _TAGS.values()],
            )
    except Exception:  # noqa: BLE001 - pydicom raises almost anything on broken files
        raise ValueError("no data set") from None
    return dataset, stream.tell()


def text_of(dataset: Dataset, name: str) -> str | None:
    """One of the wanted elements as text; None where it is absent."""
    try:
        with quiet():
            found = dataset.get(BaseTag(_TAGS[name]))
            value = found.value if found is not None else None
    except Exception:  # noqa: BLE001 - as above, for what is converted only now
        raise ValueError("no text") from None
    if found is None:
        return None
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip(" \0")
    # Several values where there may be one.
    return "\\".join(part for part in value if isinstance(part, str))


def _identity(content: mmap.mmap, size: int) -> Identity | None:
    try:
        syntax, start = _meta(content)
        dataset, _ = top_level(content, syntax, start, _LAST_TAG)
        told = {name: text_of(dataset, name) for name in _TAGS}
    except ValueError:
        return None
    return Identity(
        sop_class=told["sop_class"] or "",
        sop_instance=told["sop_instance"] or "",
        study=told["study"] or "",
        series=told["series"] or "",
        patient=told["patient"] or "",
        birth_date=told["birth_date"] or "",
        description=told["description"],
        syntax=syntax,
        start=start,
        size=size,
    )


def _meta(content: mmap.mmap) -> tuple[str, int]:
    """Transfer syntax, and where the data set begins (PS3.10 7.1)."""
    syntax, position, end = "", 132, min(len(content) - 8, _META_BYTES)
    while position < end:
        group, element, vr, length = struct.unpack_from("<HH2sH", content, position)
        if group != 2:
            break
        body = position + 8
        if vr in _LONG:
            (length,) = struct.unpack_from("<I", content, body)
            body += 4
        if element == 0x0010:
            syntax = content[body : body + min(length, 64)].rstrip(b" \0").decode("latin-1")
        position = body + length
    return syntax, position


def _bomb(content: mmap.mmap) -> gate.Refusal | None:
    """Whether a deflated data set grows beyond what is read at once; holds little of it."""
    if content[128:132] != b"DICM":
        return None
    syntax, start = _meta(content)
    if syntax not in _DEFLATED:
        return None
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    grown = 0
    try:
        for place in range(start, len(content), _PIECE):
            piece = content[place : place + _PIECE]
            while piece:
                grown += len(machine.decompress(piece, _PIECE))
                if grown > _INFLATED_BYTES:
                    return gate.Refusal("inflated_size", start)
                piece = machine.unconsumed_tail
    except zlib.error:
        return gate.Refusal("deflate", start)
    return None
