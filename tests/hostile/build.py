"""DICOM data sets put together byte by byte, so that every length, tag and order can be a lie."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG: Final = "1.2.840.10008.1.2.2"
JPEG: Final = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.70"
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
RLE: Final = "1.2.840.10008.1.2.5"

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY: Final = "1.2.840.10008.5.1.4.1.1.7"
ENHANCED_CT: Final = "1.2.840.10008.5.1.4.1.1.2.1"
REPORT: Final = "1.2.840.10008.5.1.4.1.1.88.33"
STUDY: Final = "1.2.826.0.1.3680043.10.1.77"
SERIES: Final = STUDY + ".1"
INSTANCE: Final = SERIES + ".1"

OPEN: Final = 0xFFFFFFFF
LONG: Final = frozenset(
    ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
)


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes elements of one transfer syntax."""

    implicit: bool = False
    big: bool = False

    @property
    def syntax(self) -> str:
        """Transfer Syntax UID."""
        return BIG if self.big else IMPLICIT if self.implicit else EXPLICIT

    @property
    def order(self) -> str:
        """For `struct`."""
        return ">" if self.big else "<"

    def element(self, tag: int, vr: str, value: bytes = b"", length: int | None = None) -> bytes:
        """One element; `length` is what its header says, true unless given."""
        length = len(value) if length is None else length
        head = struct.pack(self.order + "HH", tag >> 16, tag & 0xFFFF)
        if self.implicit:
            return head + struct.pack(self.order + "I", length) + value
        if vr in LONG:
            return head + vr.encode() + bytes(2) + struct.pack(self.order + "I", length) + value
        return head + vr.encode() + struct.pack(self.order + "H", length & 0xFFFF) + value

    def text(self, tag: int, vr: str, text: str) -> bytes:
        """An element of even length."""
        value = text.encode("latin-1")
        return self.element(tag, vr, value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2))

    def number(self, tag: int, value: int) -> bytes:
        """One US."""
        return self.element(tag, "US", struct.pack(self.order + "H", value))

    def item(self, body: bytes = b"", *, is_open: bool = False, length: int | None = None) -> bytes:
        """One item of a sequence or one fragment."""
        length = OPEN if is_open else len(body) if length is None else length
        head = struct.pack(self.order + "HHI", 0xFFFE, 0xE000, length)
        return head + body + (self.item_end() if is_open else b"")

    def item_end(self, length: int = 0) -> bytes:
        """Item Delimitation Item."""
        return struct.pack(self.order + "HHI", 0xFFFE, 0xE00D, length)

    def sequence_end(self, length: int = 0) -> bytes:
        """Sequence Delimitation Item."""
        return struct.pack(self.order + "HHI", 0xFFFE, 0xE0DD, length)

    def sequence(self, tag: int, items: bytes, *, is_open: bool = False, vr: str = "SQ") -> bytes:
        """A sequence around items."""
        if is_open:
            return self.element(tag, vr, items + self.sequence_end(), OPEN)
        return self.element(tag, vr, items)

    def nested(
        self, depth: int, tag: int = 0x00081140, *, is_open: bool = False, core: bytes = b""
    ) -> bytes:
        """`depth` sequences of one item in one another, around `core`; made in linear time."""
        if is_open:
            head = self.element(tag, "SQ", b"", OPEN) + self.item(b"", length=OPEN)
            return head * depth + core + (self.item_end() + self.sequence_end()) * depth
        heads, size = [], len(core)
        for _ in range(depth):
            item = self.item(b"", length=size)
            head = self.element(tag, "SQ", item, size + 8)
            heads.append(head)
            size += len(head)
        return b"".join(reversed(heads)) + core

    def identity(self, sop_class: str = CT, instance: str = INSTANCE, study: str = STUDY) -> bytes:
        """Class, instance, study and series, in the order of their tags."""
        return b"".join(self.parts(sop_class, instance, study))

    def parts(
        self, sop_class: str = CT, instance: str = INSTANCE, study: str = STUDY
    ) -> tuple[bytes, bytes, bytes]:
        """What stands before, between and after what a test adds to groups 8 to 20."""
        return (
            self.text(0x00080016, "UI", sop_class) + self.text(0x00080018, "UI", instance),
            self.text(0x00080060, "CS", "CT"),
            self.text(0x0020000D, "UI", study) + self.text(0x0020000E, "UI", study + ".1"),
        )

    def image(
        self,
        rows: int = 4,
        columns: int = 4,
        *,
        bits: int = 16,
        samples: int = 1,
        frames: str = "",
        photometric: str = "MONOCHROME2",
    ) -> bytes:
        """Group 28 of an image."""
        return (
            self.number(0x00280002, samples)
            + self.text(0x00280004, "CS", photometric)
            + (self.text(0x00280008, "IS", frames) if frames else b"")
            + self.number(0x00280010, rows)
            + self.number(0x00280011, columns)
            + self.number(0x00280100, bits)
            + self.number(0x00280101, bits)
            + self.number(0x00280102, max(bits - 1, 0))
            + self.number(0x00280103, 0)
            + self.text(0x00281052, "DS", "-1024")
            + self.text(0x00281053, "DS", "1")
        )

    def pixels(self, value: bytes, length: int | None = None) -> bytes:
        """Native pixel data."""
        return self.element(0x7FE00010, "OW", value, length)

    def fragments(self, parts: Iterable[bytes], *, end: bool = True) -> bytes:
        """Encapsulated pixel data with an empty offset table."""
        body = self.item() + b"".join(self.item(part) for part in parts)
        return self.element(0x7FE00010, "OB", body + (self.sequence_end() if end else b""), OPEN)


LITTLE: Final = Writer()
PLAIN: Final = Writer(implicit=True)
BIG_ENDIAN: Final = Writer(big=True)


def meta_element(element: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """One element of the file meta information."""
    return LITTLE.element(0x00020000 | element, vr, value, length)


def uid(text: str) -> bytes:
    """A UID padded to even length."""
    value = text.encode("latin-1")
    return value + bytes(len(value) % 2)


def file(
    body: bytes,
    syntax: str = EXPLICIT,
    *,
    sop_class: str = CT,
    instance: str = INSTANCE,
    preamble: bytes = bytes(128),
    prefix: bytes = b"DICM",
    group_length: int | None = None,
) -> bytes:
    """A Part 10 file with a sound header, whatever its body is."""
    meta = (
        meta_element(1, "OB", b"\0\1")
        + meta_element(2, "UI", uid(sop_class))
        + meta_element(3, "UI", uid(instance))
        + meta_element(0x10, "UI", uid(syntax))
    )
    length = len(meta) if group_length is None else group_length
    return preamble + prefix + meta_element(0, "UL", struct.pack("<I", length)) + meta + body


def image_file(writer: Writer = LITTLE, extra: bytes = b"", pixels: bytes | None = None) -> bytes:
    """A small sound CT image; `extra` stands between groups 8 and 20."""
    head, modality, series = writer.parts()
    data = writer.pixels(bytes(32)) if pixels is None else pixels
    return file(head + modality + extra + series + writer.image() + data, writer.syntax)


def compressed_file(
    fragments: Iterable[bytes], syntax: str = JPEG, *, end: bool = True, **image: int | str
) -> bytes:
    """An image of encapsulated fragments."""
    body = LITTLE.identity() + LITTLE.image(**image) + LITTLE.fragments(fragments, end=end)  # type: ignore[arg-type]
    return file(body, syntax)


def jpeg_head(rows: int, columns: int, marker: int = 0xC0, bits: int = 8) -> bytes:
    """The first bytes of a JPEG (or with 0xF7 JPEG-LS) stream that claims this size."""
    frame = struct.pack(">HBHHB", 11, bits, rows, columns, 1) + b"\1\x11\0"
    return b"\xff\xd8\xff" + bytes((marker,)) + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(64)


def jpeg_2000_head(rows: int, columns: int, components: int = 1) -> bytes:
    """The first bytes of a JPEG 2000 stream that claims this size."""
    size = struct.pack(">HIIIIIIIIH", 0, columns, rows, 0, 0, columns, rows, 0, 0, components)
    size += b"\x07\1\1" * components
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size + bytes(64)


def rle_frame(segments: Iterable[bytes], count: int | None = None) -> bytes:
    """PS3.5 annex G: sixteen numbers, then the segments."""
    parts = list(segments)
    offsets, at = [], 64
    for part in parts:
        offsets.append(at)
        at += len(part)
    offsets = (offsets + [0] * 15)[:15]
    head = struct.pack("<16I", len(parts) if count is None else count, *offsets)
    return head + b"".join(parts)
