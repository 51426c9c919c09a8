"""One DICOM file up to its pixel data: a bounded read, and plain values from what was read."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct, unpack_from
from typing import BinaryIO, Final

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from dicom_services.errors import InputError

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
NATIVE: Final = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG})

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_LONG_LENGTH: Final = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN"})
_PIXEL_DATA: Final = 0x7FE00010
_FLOAT_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009})
# Shared and per-frame functional groups, PS3.3 C.7.6.16: only multi-frame objects have them.
FRAME_GROUPS: Final = frozenset({0x52009229, 0x52009230})
_STOP: Final = FRAME_GROUPS | _FLOAT_PIXELS | {_PIXEL_DATA}

_INFLATED_FREELY: Final = 16 << 20
"""Bytes a deflated file may always grow to: one 2048 x 2048 slice of 16 bits, twice."""
_INFLATION: Final = 100
"""Beyond that, how many times its size; images deflate to a half, only bombs to a hundredth."""
_META_ELEMENTS: Final = 256
_TEXT_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class PixelSpan:
    """Where the value of Pixel Data lies: its VR, its first byte, its declared length."""

    vr: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """What was read of one file.

    Parameters
    ----------
    dataset : Dataset
        Elements as they stand in the file, not converted.
    syntax : str
        Transfer Syntax UID.
    pixels : PixelSpan or None
        Offsets count in the inflated file where the syntax is deflated.
    groups_at : int
        Where it ended at functional groups, counted like `pixels`; 0 where it has none.
    float_pixels : bool
        Whether it ended at floating-point pixel data.
    whole : bool
        False when the file ends inside its header.
    plain : mapping
        Values of the dataset as they stand in the file, by tag, but for sequences and long ones.
    frame : mapping
        Values of one frame of a multi-frame file by tag; they count before those of the dataset.
    """

    dataset: Dataset
    syntax: str
    pixels: PixelSpan | None
    groups_at: int
    float_pixels: bool
    whole: bool
    plain: Mapping[int, bytes] = field(default_factory=dict)
    frame: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def little(self) -> bool:
        """Whether numbers are stored least significant byte first."""
        return self.syntax != EXPLICIT_BIG


def tags(*keywords: str) -> tuple[BaseTag, ...]:
    """The tags of DICOM keywords; a misspelt keyword raises."""
    found = [(keyword, tag_for_keyword(keyword)) for keyword in keywords]
    missing = [keyword for keyword, tag in found if tag is None]
    if missing:
        raise ValueError("not DICOM keywords: " + ", ".join(missing))
    return tuple(BaseTag(tag) for _, tag in found if tag is not None)


def open_file(file: bytes | Path) -> BinaryIO:
    """Open a file for reading; "file_unreadable" when it cannot be."""
    if isinstance(file, bytes):
        return io.BytesIO(file)
    try:
        return file.open("rb")
    except OSError as error:
        raise InputError("file_unreadable") from error


def open_inflated(file: bytes | Path, syntax: str) -> BinaryIO:
    """Open a file so that offsets of its `Header` hold, inflating it where it is deflated."""
    stream = open_file(file)
    if syntax != DEFLATED_LITTLE:
        return stream
    with stream:
        _, start = _read_meta(stream)
        stream.seek(start)
        return io.BytesIO(_inflate(stream))


def read_header(file: bytes | Path, wanted: Iterable[BaseTag]) -> Header:
    """Read the `wanted` elements of a DICOM Part 10 file, stopping at its pixel data.

    Parameters
    ----------
    file : bytes or Path
        The whole file, or where it lies; of the latter only the header is read.
    wanted : tags
        Values of other elements are skipped, not kept.

    Raises
    ------
    InputError
        `file_unreadable`, `not_dicom`, `transfer_syntax`, `file_truncated` or `deflate_bomb`.
    """
    with open_file(file) as stream:
        syntax, start = _read_meta(stream)
        stream.seek(start)
        if syntax != DEFLATED_LITTLE:
            return _read_elements(stream, syntax, wanted)
        return _read_elements(io.BytesIO(_inflate(stream)), syntax, wanted)


def _read_meta(stream: BinaryIO) -> tuple[str, int]:
    """Transfer Syntax UID and where the dataset starts (PS3.10 section 7.1)."""
    head = stream.read(132)
    if len(head) < 132 or head[128:] != b"DICM":
        raise InputError("not_dicom")
    syntax = ""
    for _ in range(_META_ELEMENTS):
        start = stream.tell()
        prefix = stream.read(8)
        if len(prefix) < 8 or prefix[:2] != b"\x02\x00":
            if not syntax:
                raise InputError("transfer_syntax")
            return syntax, start
        if prefix[4:6] in _LONG_LENGTH:
            more = stream.read(4)
            length = int.from_bytes(more, "little") if len(more) == 4 else UNDEFINED_LENGTH
        else:
            length = int.from_bytes(prefix[6:8], "little")
        if prefix[2:4] == b"\x10\x00":
            syntax = _clean(stream.read(min(length, 128)))
        else:
            stream.seek(start + (12 if prefix[4:6] in _LONG_LENGTH else 8) + length)
    raise InputError("not_dicom")


def _inflate(stream: BinaryIO) -> bytes:
    packed = stream.read()
    limit = max(_INFLATED_FREELY, _INFLATION * len(packed))
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = machine.decompress(packed, limit)
    except zlib.error as error:
        raise InputError("file_truncated") from error
    if machine.unconsumed_tail:
        raise InputError("deflate_bomb", ratio=_INFLATION)
    if not machine.eof:
        raise InputError("file_truncated")
    return content


def _read_elements(stream: BinaryIO, syntax: str, wanted: Iterable[BaseTag]) -> Header:
    named: list[BaseTag | int] = [*wanted]
    stopped: list[int] = []

    def stop(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        if tag in _STOP:
            stopped.append(tag)
            return True
        return False

    try:
        dataset = read_dataset(
            stream,
            syntax == IMPLICIT_LITTLE,
            syntax != EXPLICIT_BIG,
            stop_when=stop,
            specific_tags=named,
        )
    except Exception as error:  # pydicom raises almost anything on broken files
        if isinstance(error, InputError | MemoryError):
            raise
        raise InputError("file_truncated") from error
    tag = stopped[-1] if stopped else 0
    pixels = None
    whole = True
    groups_at = stream.tell() if tag in FRAME_GROUPS else 0
    if tag == _PIXEL_DATA:
        pixels = _span(stream, "<" if syntax != EXPLICIT_BIG else ">")
    elif not tag:
        here = stream.tell()
        whole = here <= stream.seek(0, io.SEEK_END) and not _cut(dataset)
    plain = _plain(dataset, named)
    return Header(dataset, syntax, pixels, groups_at, tag in _FLOAT_PIXELS, whole, plain)


def _plain(dataset: Dataset, wanted: Iterable[int]) -> dict[int, bytes]:
    """The short values of a dataset, under the very tags that are asked for.

    A dictionary need not compare what is identical, and pydicom's tags take long to compare.
    """
    own = {tag: tag for tag in wanted}
    return {
        own.get(element.tag, element.tag): element.value
        for element in dataset.values()
        if isinstance(element, RawDataElement)
        and isinstance(element.value, bytes)
        and len(element.value) <= _TEXT_BYTES
    }


def _span(stream: BinaryIO, order: str) -> PixelSpan:
    start = stream.tell()
    prefix = stream.read(12)
    if prefix[4:6] in _LONG_LENGTH and len(prefix) == 12:
        return PixelSpan(prefix[4:6].decode(), start + 12, unpack_from(order + "L", prefix, 8)[0])
    if len(prefix) < 8:
        raise InputError("file_truncated")
    return PixelSpan("OW", start + 8, unpack_from(order + "L", prefix, 4)[0])


def _cut(dataset: Dataset) -> bool:
    """Whether the last element kept is shorter than it says."""
    kept = sorted(dataset.keys())
    last = _raw(dataset, kept[-1]) if kept else None
    if last is None or last.length == UNDEFINED_LENGTH:
        return False
    return len(last.value or b"") < last.length


def _raw(dataset: Dataset, tag: BaseTag) -> RawDataElement | None:
    """An element as it stands in the file; None where it is absent or has no value there."""
    try:
        element = dataset.get_item(tag) if tag in dataset else None
    except Exception:  # noqa: BLE001 - without a value pydicom converts, and raises almost anything
        return None
    return element if isinstance(element, RawDataElement) else None


def _clean(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")


def raw_bytes(header: Header, tag: BaseTag) -> bytes:
    """The bytes of a value as they stand in the file; empty when it is absent or overlong."""
    value = header.frame.get(tag)
    return header.plain.get(tag, b"") if value is None else value


def has(header: Header, tag: BaseTag) -> bool:
    """Whether an element is there and not empty."""
    value = header.frame.get(tag) or header.plain.get(tag)
    if value:
        return True
    try:
        element = header.dataset.get_item(tag) if tag in header.dataset else None
    except Exception:  # noqa: BLE001 - as above
        return False
    return bool(element is not None and element.value)


def text(header: Header, tag: BaseTag) -> str:
    """A value of code strings, UIDs or numbers as text; "" when it is absent."""
    return _clean(raw_bytes(header, tag))


def words(header: Header, tag: BaseTag) -> list[str]:
    """The values of a multi-valued text attribute; none when it is absent."""
    value = text(header, tag)
    return [word.strip(" \0") for word in value.split("\\")] if value else []


def numbers(header: Header, tag: BaseTag) -> list[float] | None:
    """The values of a decimal string; None when it is absent or one of them is not a number."""
    try:
        values = [float(word) for word in words(header, tag)]
    except ValueError:
        return None
    return values if values and all(map(math.isfinite, values)) else None


def integer(header: Header, tag: BaseTag, *, signed: bool = False) -> int | None:
    """The first value of a 16-bit attribute (US, SS); None when it is absent."""
    value = raw_bytes(header, tag)
    if len(value) < 2:
        return None
    order: Callable[[bytes], tuple[int]] = Struct(
        ("<" if header.little else ">") + ("h" if signed else "H")
    ).unpack
    return order(value[:2])[0]


def counter(header: Header, tag: BaseTag) -> int | None:
    """The first value of a 32-bit attribute (UL); None when it is absent."""
    value = raw_bytes(header, tag)
    if len(value) < 4:
        return None
    return int.from_bytes(value[:4], "little" if header.little else "big")


def doubles(header: Header, tag: BaseTag) -> list[float] | None:
    """The values of a 64-bit floating-point attribute (FD); None when one of them is no number."""
    value = raw_bytes(header, tag)
    count = len(value) // 8
    values = unpack_from(("<" if header.little else ">") + "d" * count, value)
    return [*values] if count and all(map(math.isfinite, values)) else None
