"""Study Description in objects of readers that lack it, so that a study keeps its name in lists.

Viewers store reports and segmentations without it, and this Orthanc tells a study's attributes
from whichever object came first. Nothing else of the object is touched: the element is put where
it belongs among the bytes.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import IO, Final

from pydicom.charset import python_encoding

from dicom_services.api.dicomweb.admission import Identity, text_of, top_level
from dicom_services.dicom.header import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicom_services.errors import UnavailableError

_LARGEST: Final = 64 << 20
_LONGEST: Final = 64
_TAG: Final = 0x00081030
_HEADER_BYTES: Final = 8
_PIECE: Final = 256 << 10
# Reports, key objects, presentation states, segmentations, surfaces, structure sets, documents.
_CLASSES: Final = tuple(
    f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("88.", "11.", "66.", "481.3", "104.")
)


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it is sent on: some of its bytes replaced."""

    file: IO[bytes]
    size: int
    place: int = 0
    skipped: int = 0
    inserted: bytes = b""

    @property
    def length(self) -> int:
        """How many bytes are sent."""
        return self.size + len(self.inserted) - self.skipped

    def pieces(self) -> Callable[[], AsyncIterator[bytes]]:
        """Gives them, as often as it is asked."""

        async def read() -> AsyncIterator[bytes]:
            if self.inserted:
                async for piece in _range(self.file, 0, self.place):
                    yield piece
                yield self.inserted
            start = self.place + self.skipped if self.inserted else 0
            async for piece in _range(self.file, start, self.size):
                yield piece

        return read


async def _range(file: IO[bytes], start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        file.seek(start)
        piece = file.read(min(_PIECE, end - start))
        if not piece:
            raise UnavailableError("upload_broken")
        start += len(piece)
        yield piece


def with_description(file: IO[bytes], identity: Identity, description: str) -> Content:
    """The object with the study's description, where it may have and lacks it; else as it is."""
    plain = Content(file, identity.size)
    if not description or identity.description or identity.size > _LARGEST:
        return plain
    if not identity.sop_class.startswith(_CLASSES):
        return plain
    if identity.syntax not in (EXPLICIT_LITTLE, IMPLICIT_LITTLE):
        return plain
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            before, place = top_level(content, identity.syntax, identity.start, _TAG - 1)
            _, after = top_level(content, identity.syntax, identity.start, _TAG)
            element = _element(description, text_of(before, "character_set") or "", identity.syntax)
    except ValueError:
        return plain
    # An empty one is replaced: its header alone.
    if not element or after - place not in (0, _HEADER_BYTES):
        return plain
    return Content(file, identity.size, place, after - place, element)


def _element(description: str, character_set: str, syntax: str) -> bytes:
    """The element in the character set of the object; empty where that has no such letters."""
    # ASCII is part of every character set; those that switch between several are left alone.
    is_plain = not character_set or character_set.startswith("ISO 2022")
    codec = "ascii" if is_plain else python_encoding.get(character_set, "ascii")
    try:
        value = description[:_LONGEST].encode(codec)
    except UnicodeEncodeError:
        return b""
    value += b" " * (len(value) & 1)
    if syntax == IMPLICIT_LITTLE:
        return struct.pack("<HHI", _TAG >> 16, _TAG & 0xFFFF, len(value)) + value
    return struct.pack("<HH2sH", _TAG >> 16, _TAG & 0xFFFF, b"LO", len(value)) + value
