"""The gate: judges the structure of a DICOM file before anything else parses it.

It walks lengths and tags iteratively, within bounds, builds no data set and decodes no pixel; one
512x512 image costs it a fifth of a millisecond. Standard library only, so that the plugin inside
Orthanc may use it too. A byte it lets through is not thereby sound: decoding happens in a limited
process all the same.
"""

from __future__ import annotations

import mmap
import re
import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

Bytes = bytes | bytearray | memoryview | mmap.mmap

REASONS: Final = {
    "not_dicom": "has no DICM prefix, so it is no DICOM file",
    "preamble": "its preamble would make it a program, an archive or a page",
    "meta": "its file meta information cannot be read",
    "transfer_syntax": "its transfer syntax is missing or none of the standard's",
    "truncated": "it ends in the middle of an element, a sequence or the pixel data",
    "length": "an element says it is longer than what holds it",
    "vr": "an element has no value representation of the standard",
    "group": "a data set holds an element of a group that only messages and file headers have",
    "undefined_length": "an element that must have a length has none",
    "sequence": "a sequence holds something that is no item",
    "depth": "sequences are nested deeper than any standard object needs",
    "elements": "it has more elements, or more in one place, than any standard object needs",
    "values": "it has more values than any standard object needs",
    "duplicate": "a data set names the same attribute twice",
    "value_length": "its texts are longer than any standard object needs",
    "encapsulation": "its compressed pixel data are not a sequence of fragments",
    "frame_size": "a compressed frame is larger than the header says",
    "pixel_length": "it has fewer pixel data than rows, columns and frames say",
    "frames": "it says it has more frames than any standard object needs",
    "pixel_size": "a frame would be larger than any detector makes",
    "deflate": "its deflated data set cannot be inflated",
    "inflated_size": "it inflates to more than any deflated object needs",
    "uid_missing": "it names no study, series, instance or class",
    "uid": "a unique identifier is none",
    "odd_length": "its length is odd, which no message of DICOM may have",
    "poison": "it has stopped a reader before",
}
"""Every reason of a refusal, in words for people. A reason, once released, is never renamed."""

MAX_DEPTH: Final = 24
"""Levels of sequences. Reports and treatment plans reach ten; the HTTP threads of Debian's Orthanc
have 100 kB of stack and end at fifty."""
MAX_ELEMENTS: Final = 300_000
"""Elements and items of the whole file; eight thousand frames of a segmentation have as many."""
MAX_ELEMENTS_OF_ONE: Final = 10_000
"""Of one data set or item; the whole of PS3.6 has six thousand."""
MAX_STEPS: Final = 400_000_000
"""What readers that keep elements in linked lists do: for each the number of those before it, and
more where tags do not ascend or lie deep, as JSON indents them. It is 28,000 items in one sequence;
Debian's Orthanc needs a second for it."""
MAX_TEXT_BYTES: Final = 16 << 20
"""Of all texts beyond a kilobyte, and values whose representation the file does not tell."""
MAX_VALUES: Final = 1_000_000
"""Of all elements with more than a kilobyte; as JSON a value needs two hundred bytes of memory."""
MAX_INFLATED_BYTES: Final = 128 << 20
MAX_FRAME_BYTES: Final = 512 << 20
"""A mammogram has 60 MB."""
MAX_FRAMES: Final = 500_000
"""A slide of 300,000 x 100,000 pixels has as many tiles."""
# A site that receives larger objects and has the memory may scale the limits of elements, steps,
# texts and values: Debian's Orthanc needs a gigabyte and three seconds for each time as much.

_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = b"\xfe\xff\x00\xe0"
_DELIMITERS: Final = frozenset((b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"))
_PIXEL_DATA: Final = 0x7FE00010
_STUDY_UID: Final = 0x0020000D
_SERIES_UID: Final = 0x0020000E
_CLASS_UID: Final = 0x00080016
_INSTANCE_UID: Final = 0x00080018
_FRAMES: Final = 0x00280008
_SAMPLES, _ROWS, _COLUMNS, _BITS = 0x00280002, 0x00280010, 0x00280011, 0x00280100
_PHOTOMETRIC: Final = 0x00280004
_WANTED: Final = frozenset(
    (
        _CLASS_UID,
        _INSTANCE_UID,
        _STUDY_UID,
        _SERIES_UID,
        _FRAMES,
        _SAMPLES,
        _ROWS,
        _COLUMNS,
        _BITS,
        _PHOTOMETRIC,
    )
)
# PS3.5 7.1.2: representations with a 16-bit length, and those with two reserved bytes and 32 bits.
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_TEXTS: Final = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_NUMBER_BYTES: Final = {b"US": 2, b"SS": 2, b"FL": 4, b"UL": 4, b"SL": 4, b"AT": 4, b"FD": 8}
_LONG_VALUE: Final = 1024
_STEPS_OF_DEPTH: Final = 15
_STEPS_OF_DISORDER: Final = 2
# Groups whose values may be as long as the file: pixels, overlays, curves, waveforms, documents,
# spectra, surfaces, point clouds.
_BULK: Final = frozenset((0x0042, 0x0066, 0x5400, 0x5600, 0x7FE0))
_CURVES_AND_OVERLAYS: Final = frozenset((0x5000, 0x6000))
_PIXELS: Final = 0x7FE0
# PS3.5 7.1: messages, file headers and what is forbidden. Group 4 is that of directories.
_FOREIGN: Final = frozenset((0, 1, 2, 3, 5, 6, 7, 0xFFFF))

_IMPLICIT: Final = "1.2.840.10008.1.2"
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_DEFLATED: Final = frozenset(
    ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
)
_UNCOMPRESSED: Final = frozenset((_IMPLICIT, "1.2.840.10008.1.2.1", _BIG_ENDIAN)) | _DEFLATED
_RLE: Final = "1.2.840.10008.1.2.5"
_INFLATING: Final = threading.Lock()
# MPEG-2, MPEG-4 and HEVC: all frames are one stream.
_VIDEO: Final = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-8](?:\.1)?\Z")
_SYNTAX: Final = re.compile(r"1\.2\.840\.10008\.1\.(?:2|20)(?:\.[0-9]{1,4}){0,4}\Z")
_UID: Final = re.compile(rb"[0-9]+(?:\.[0-9]+)+[ \0]*\Z")
# What a system might run, unpack or show. TIFF is allowed: whole-slide files are both on purpose.
_PROGRAMS: Final = re.compile(
    rb"MZ|\x7fELF|[\xfe\xca]\xed\xfa|[\xce\xcf]\xfa\xed\xfe|\xca\xfe\xba\xbe|#!|PK|%PDF"
    rb"|\x1f\x8b|Rar!|7z\xbc\xaf|\s*<",
)


class Refusal(NamedTuple):
    """Why a file is refused: one of REASONS, and the byte at which that was seen."""

    reason: str
    offset: int


class _RefusedError(Exception):
    """Carries a Refusal out of the walk."""

    def __init__(self, reason: str, offset: int) -> None:
        self.refusal = Refusal(reason, offset)


class _Found:
    """What the walk remembers of the top level."""

    __slots__ = (
        "encapsulated",
        "first_fragment",
        "fragments",
        "pixel_bytes",
        "pixel_offset",
        "scale",
        "unfinished",
        "values",
    )

    def __init__(self, *, unfinished: bool = False, scale: float = 1.0) -> None:
        self.unfinished = unfinished
        self.scale = scale
        self.values: dict[int, bytes] = {}
        self.pixel_offset = -1
        self.pixel_bytes = 0
        self.encapsulated = False
        self.fragments = 0
        self.first_fragment = (0, 0)


def refusal_of_file(data: Bytes, *, identity: bool = True, scale: float = 1.0) -> Refusal | None:
    """Why a DICOM Part 10 file must not be parsed by anything; None where it may.

    Parameters
    ----------
    data : bytes-like
        The whole file; a memory map is read only where its structure lies.
    identity : bool
        Whether it must name study, series, instance and class, as an archive needs.
    scale : float
        How many times as large as usual an object may be in elements, texts and values.
    """
    if bytes(data[128:132]) != b"DICM":
        return Refusal("not_dicom", 0)
    if _PROGRAMS.match(bytes(data[:64])):
        return Refusal("preamble", 0)
    try:
        start, syntax = _meta(data)
    except _RefusedError as error:
        return error.refusal
    return refusal_of_dataset(data, syntax, start, identity=identity, scale=scale)


def refusal_of_dataset(
    data: Bytes,
    transfer_syntax: str,
    start: int = 0,
    *,
    identity: bool = True,
    instance: bytes = b"",
    scale: float = 1.0,
) -> Refusal | None:
    """Why a data set of a composite object must not be parsed by anything; None where it may.

    Parameters
    ----------
    data : bytes-like
        The data set from `start` to the end, as it travels over C-STORE.
    transfer_syntax : str
        UID.
    start : int
        Offset of its first element.
    identity, scale
        As for a file.
    instance : bytes
        The SOP Instance UID it must have; empty where any will do.
    """
    try:
        inflated, found = _walked(data, transfer_syntax, start, scale)
        if identity:
            _check_uids(found, instance)
        _check_pixels(inflated, found, transfer_syntax)
    except _RefusedError as error:
        return error.refusal
    # PS3.8 9.3.5.1. Of a file nobody minds; DCMTK lets a sender of it wait for its timeout.
    if not start and len(data) & 1:
        return Refusal("odd_length", len(data))
    return None


def sound_until(
    data: Bytes, transfer_syntax: str, *, instance: bytes = b"", scale: float = 1.0
) -> int:
    """How far a data set may be passed on while it is still arriving.

    Parameters
    ----------
    data : bytes-like
        What has come so far, from the first element.
    transfer_syntax : str
        UID.
    instance, scale
        As for a data set.

    Returns
    -------
    int
        Where its native pixel data will end: everything before them is sound, and their length is
        right. 0 while that cannot be told; -1 when it will not be told before the end.
    """
    if transfer_syntax in _DEFLATED or not _SYNTAX.match(transfer_syntax):
        return -1
    found = _Found(unfinished=True, scale=scale)
    try:
        order = ">" if transfer_syntax == _BIG_ENDIAN else "<"
        _walk(data, 0, order, transfer_syntax == _IMPLICIT, found)
        _check_uids(found, instance)
        _check_pixels(data, found, transfer_syntax)
    except _RefusedError as error:
        return 0 if error.refusal.reason in ("truncated", "length", "uid_missing") else -1
    if found.encapsulated:
        return -1
    return found.pixel_offset + found.pixel_bytes if found.pixel_offset > 0 else 0


def refusal_of_query(data: Bytes, transfer_syntax: str) -> Refusal | None:
    """Why an identifier of a query or another message must not be parsed; None where it may."""
    try:
        _walked(data, transfer_syntax, 0)
    except _RefusedError as error:
        return error.refusal
    return None


def _walked(
    data: Bytes, transfer_syntax: str, start: int, scale: float = 1.0
) -> tuple[Bytes, _Found]:
    if not _SYNTAX.match(transfer_syntax):
        raise _RefusedError("transfer_syntax", start)
    found = _Found(scale=scale)
    if transfer_syntax in _DEFLATED:
        # One at a time, so that many at once do not need many times the memory.
        with _INFLATING:
            data = _inflate(data, start)
            _walk(data, 0, "<", False, found)
            return data, found
    order = ">" if transfer_syntax == _BIG_ENDIAN else "<"
    _walk(data, start, order, transfer_syntax == _IMPLICIT, found)
    return data, found


def _meta(data: Bytes) -> tuple[int, str]:
    """Where the data set starts, and its transfer syntax."""
    position, size, syntax = 132, len(data), ""
    end, seen = -1, set()
    for _ in range(64):
        if position + 8 > size:
            raise _RefusedError("truncated", position)
        group, element, vr, length = struct.unpack_from("<HH2sH", data, position)
        if group != 2:
            break
        body = position + 8
        if vr in _LONG:
            if position + 12 > size:
                raise _RefusedError("truncated", position)
            (length,) = struct.unpack_from("<I", data, body)
            body += 4
        elif vr not in _SHORT:
            raise _RefusedError("meta", position)
        if body + length > size:
            raise _RefusedError("length", position)
        # Readers differ in which of two they believe, and in whether they believe the length.
        if element in seen:
            raise _RefusedError("duplicate", position)
        seen.add(element)
        if element == 0x0010 and length <= 64:
            syntax = bytes(data[body : body + length]).rstrip(b" \0").decode("ascii", "replace")
        position = body + length
        if element == 0 and length == 4:
            end = position + struct.unpack_from("<I", data, body)[0]
    else:
        raise _RefusedError("meta", position)
    if end not in (-1, position):
        raise _RefusedError("meta", position)
    if not _SYNTAX.match(syntax):
        raise _RefusedError("transfer_syntax", position)
    return position, syntax


def _inflate(data: Bytes, start: int) -> bytes:
    # PS3.5 A.5: a raw deflate stream, padded to even length.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(memoryview(data)[start:], MAX_INFLATED_BYTES + 1)
    except zlib.error:
        raise _RefusedError("deflate", start) from None
    if len(inflated) > MAX_INFLATED_BYTES:
        raise _RefusedError("inflated_size", start)
    # Some writers leave the checksum and size of gzip behind it.
    if not inflater.eof or len(inflater.unused_data) > 8:
        raise _RefusedError("deflate", start)
    return inflated


def _walk(data: Bytes, start: int, order: str, implicit: bool, found: _Found) -> None:
    """Every element of a data set, without recursion.

    A frame is what holds the current position: a data set or item (`in_items` false), or a
    sequence (`in_items` true), which ends at `limit` or, if `is_open`, at its delimiter.
    """
    explicit_header = struct.Struct(order + "HH2sH").unpack_from
    implicit_header = struct.Struct(order + "HHI").unpack_from
    long_length = struct.Struct(order + "I").unpack_from
    short, long, wanted, foreign = _SHORT, _LONG, _WANTED, _FOREIGN
    stack: list[tuple[bool, int, bool, bool, set[int], int]] = []
    in_items, is_open, limit, position = False, False, len(data), start
    seen: set[int] = set()
    scale = found.scale
    left, steps = int(MAX_ELEMENTS * scale), int(MAX_STEPS * scale * scale)
    texts, values = int(MAX_TEXT_BYTES * scale), int(MAX_VALUES * scale)
    # The last tag of a data set, or how many items a sequence has had.
    last = 0
    if implicit and bytes(data[start + 4 : start + 6]).isalpha():
        # Some readers would believe these letters rather than the transfer syntax.
        raise _RefusedError("vr", start)
    while True:
        if position == limit and not is_open:
            if not stack:
                return
            in_items, limit, is_open, implicit, seen, last = stack.pop()
            continue
        if position + 8 > limit:
            if not stack and _is_padding(data, position):
                return
            raise _RefusedError("truncated", position)
        left -= 1
        depth = len(stack)
        steps -= depth * depth * _STEPS_OF_DEPTH
        if left < 0 or steps < 0:
            raise _RefusedError("elements", position)
        if in_items:
            group, element, length = implicit_header(data, position)
            if group == 0xFFFE and element == 0xE000:
                position += 8
                last += 1
                steps -= last
                stack.append((True, limit, is_open, implicit, seen, last))
                in_items, is_open, seen, last = False, length == _UNDEFINED, set(), 0
                if not is_open:
                    if position + length > limit:
                        raise _RefusedError("length", position - 8)
                    limit = position + length
            elif group == 0xFFFE and element == 0xE0DD and is_open and not length:
                position += 8
                in_items, limit, is_open, implicit, seen, last = stack.pop()
            else:
                raise _RefusedError("sequence", position)
            continue
        if implicit:
            group, element, length = implicit_header(data, position)
            vr, body = b"", position + 8
        else:
            group, element, vr, length = explicit_header(data, position)
            body = position + 8
            if vr in long:
                if position + 12 > limit:
                    raise _RefusedError("truncated", position)
                (length,) = long_length(data, body)
                body += 4
            elif vr not in short:
                if group == 0xFFFE:
                    length = long_length(data, position + 4)[0]
                elif not stack and _is_padding(data, position):
                    return
                else:
                    raise _RefusedError("vr", position)
        if group == 0xFFFE:
            if element == 0xE00D and is_open and stack and not length:
                position += 8
                in_items, limit, is_open, implicit, seen, last = stack.pop()
                continue
            raise _RefusedError("sequence", position)
        if group in foreign:
            if not stack and _is_padding(data, position):
                return
            raise _RefusedError("group", position)
        tag = group << 16 | element
        if tag in seen:
            raise _RefusedError("duplicate", position)
        seen.add(tag)
        count = len(seen)
        if count > MAX_ELEMENTS_OF_ONE:
            raise _RefusedError("elements", position)
        steps -= count
        if tag < last:
            steps -= count * _STEPS_OF_DISORDER
        last = tag
        if length == _UNDEFINED:
            if tag == _PIXEL_DATA and vr in (b"OB", b"OW"):
                fragments = _fragments(data, body, limit, implicit_header)
                left -= fragments[3]
                if not stack:
                    found.encapsulated, found.pixel_offset = True, body
                    found.fragments = fragments[3] - 1
                    found.pixel_bytes, found.first_fragment = fragments[0] - body, fragments[1:3]
                position = fragments[0]
                continue
            # CP-246: an unknown value of undefined length is a sequence in implicit VR, which
            # is little endian; in a big-endian file readers disagree.
            if vr not in (b"SQ", b"UN", b"") or (vr == b"UN" and order == ">"):
                raise _RefusedError("undefined_length", position)
        else:
            if body + length > limit:
                if (
                    found.unfinished
                    and tag == _PIXEL_DATA
                    and not stack
                    and limit - body >= 8
                    and (
                        vr in (b"OB", b"OW") or (not vr and not _is_items(data, body, length, tag))
                    )
                ):
                    found.pixel_offset, found.pixel_bytes = body, length
                    return
                raise _RefusedError("length", position)
            if vr != b"SQ" and (vr or not length or not _is_items(data, body, length, tag)):
                if length > _LONG_VALUE:
                    is_text = vr in _TEXTS or (vr in (b"", b"UN") and not _is_bulk(group))
                    texts -= length if is_text else 0
                    if texts < 0:
                        raise _RefusedError("value_length", position)
                    values -= _count_values(data, body, length, vr, is_text=is_text)
                    if values < 0:
                        raise _RefusedError("values", position)
                if not stack:
                    if tag in wanted:
                        found.values[tag] = bytes(data[body : body + min(length, 256)])
                    elif tag == _PIXEL_DATA:
                        found.pixel_offset, found.pixel_bytes = body, length
                position = body + length
                continue
        if len(stack) >= 2 * MAX_DEPTH:
            raise _RefusedError("depth", position)
        stack.append((False, limit, is_open, implicit, seen, last))
        in_items, is_open, last = True, length == _UNDEFINED, 0
        implicit = implicit or vr == b"UN"
        if not is_open:
            limit = body + length
        position = body


def _fragments(
    data: Bytes, position: int, limit: int, header: Callable[..., tuple[Any, ...]]
) -> tuple[int, int, int, int]:
    """Where encapsulated pixel data end, start and length of the first fragment, how many."""
    first = (0, 0)
    count = 0
    while True:
        if position + 8 > limit:
            raise _RefusedError("truncated", position)
        group, element, length = header(data, position)
        if group != 0xFFFE:
            raise _RefusedError("encapsulation", position)
        position += 8
        if element == 0xE0DD and not length:
            return position, *first, count
        if element != 0xE000 or length == _UNDEFINED:
            raise _RefusedError("encapsulation", position - 8)
        if position + length > limit:
            raise _RefusedError("truncated", position - 8)
        count += 1
        if count > MAX_ELEMENTS:
            raise _RefusedError("elements", position)
        # The first item is the offset table.
        if count > 1 and not first[1]:
            first = (position, length)
        position += length


def _is_padding(data: Bytes, position: int) -> bool:
    """Whether nothing but zeros follows: some archives fill files up to whole blocks."""
    tail = bytes(data[position : position + (1 << 20)])
    return len(data) - position <= len(tail) and not tail.strip(b"\0")


def _is_items(data: Bytes, body: int, length: int, tag: int) -> bool:
    """Whether a value of implicit VR is a sequence.

    Readers know that from their dictionary, and read a whole item header however short the value
    is said to be. So what starts like an item is judged as one, and what starts like the end of a
    sequence, after which they would go on in the middle of the value, is refused.
    """
    group = tag >> 16
    if group == _PIXELS:
        return False
    head = bytes(data[body : body + 4])
    if head in _DELIMITERS or (head == _ITEM and length < 8):
        raise _RefusedError("sequence", body)
    # Other tags of that group as well, but where a number of 16 bits may be -2, or text UTF-16.
    if head[:2] == _ITEM[:2] and head != _ITEM and not group & 1 and not _may_be_number(tag):
        raise _RefusedError("sequence", body)
    return head == _ITEM


def _may_be_number(tag: int) -> bool:
    """Whether it holds numbers of 16 bits and is no sequence in any dictionary."""
    group, element = tag >> 16, tag & 0xFFFF
    if group == 0x0028:
        # Up to the descriptors of palettes; the data of lookup tables.
        return element < 0x1300 or element == 0x3006
    if group == 0x5400:
        return element >= 0x0110
    return group & 0xFF00 in _CURVES_AND_OVERLAYS


def _count_values(data: Bytes, body: int, length: int, vr: bytes, *, is_text: bool) -> int:
    """How many values a long element has, at most; not those of bulk data."""
    if vr in _NUMBER_BYTES:
        return length // _NUMBER_BYTES[vr]
    if not is_text:
        return 0
    value = bytes(data[body : body + length])
    separators = value.count(b"\\")
    # Of an unknown kind: numbers, unless it is written in the characters of decimal strings.
    if vr in (b"", b"UN") and value.translate(None, b"0123456789+-.eE\\ "):
        return max(separators, length // 2)
    return separators


def _is_bulk(group: int) -> bool:
    return group & 1 == 1 or group in _BULK or group & 0xFF00 in _CURVES_AND_OVERLAYS


def _check_uids(found: _Found, instance: bytes = b"") -> None:
    for tag in (_CLASS_UID, _INSTANCE_UID, _STUDY_UID, _SERIES_UID):
        value = found.values.get(tag, b"")
        if not value.rstrip(b" \0"):
            raise _RefusedError("uid_missing", 0)
        # PS3.5 9.1: digits and dots, at most 64.
        if not _UID.match(value) or len(value.rstrip(b" \0")) > 64:
            raise _RefusedError("uid", 0)
    # What came under one name must not be filed under another.
    if instance and found.values[_INSTANCE_UID].rstrip(b" \0") != instance:
        raise _RefusedError("uid", 0)


def _check_pixels(data: Bytes, found: _Found, syntax: str) -> None:
    """Declared sizes against what is there."""
    frames = _frames(found)
    if found.pixel_offset < 0:
        return
    order = ">" if syntax == _BIG_ENDIAN else "<"
    numbers = []
    for tag in (_ROWS, _COLUMNS, _SAMPLES, _BITS):
        value = found.values.get(tag, b"")
        numbers.append(struct.unpack_from(order + "H", value)[0] if len(value) >= 2 else 0)
    # PS3.5 A.4: encapsulated where the transfer syntax compresses, and nowhere else.
    if found.pixel_bytes and found.encapsulated != (syntax not in _UNCOMPRESSED):
        raise _RefusedError("encapsulation", found.pixel_offset)
    rows, columns, samples, bits = numbers
    frame_bits = rows * columns * max(samples, 1) * bits
    if frame_bits > 8 * MAX_FRAME_BYTES:
        raise _RefusedError("pixel_size", found.pixel_offset)
    if found.encapsulated:
        # PS3.5 A.4: a frame is one fragment or more.
        if frames > found.fragments and not _VIDEO.match(syntax):
            raise _RefusedError("pixel_length", found.pixel_offset)
        _check_frame(data, found, syntax, rows * columns)
        return
    if b"_422" in found.values.get(_PHOTOMETRIC, b""):
        frame_bits = frame_bits * 2 // 3
    if frame_bits * frames > 8 * (found.pixel_bytes + 1):
        raise _RefusedError("pixel_length", found.pixel_offset)


def _frames(found: _Found) -> int:
    """Number of Frames; one where there is none or it is no number."""
    text = found.values.get(_FRAMES, b"").strip(b" \0").removeprefix(b"+")
    if not text.isdigit():
        return 1
    if len(text) > 12 or int(text) > MAX_FRAMES:
        raise _RefusedError("frames", 0)
    return int(text)


def _check_frame(data: Bytes, found: _Found, syntax: str, pixels: int) -> None:
    """Whether the first compressed frame claims more than the header does."""
    start, length = found.first_fragment
    head = bytes(data[start : start + min(length, 65_536)])
    if syntax == _RLE:
        # PS3.5 G.5: the number of segments, then fifteen offsets.
        if len(head) < 64:
            raise _RefusedError("encapsulation", start)
        count, *offsets = struct.unpack_from("<16I", head)
        used = offsets[:count]
        if not 1 <= count <= 15 or used[0] != 64 or used != sorted(used) or used[-1] > length:
            raise _RefusedError("encapsulation", start)
        return
    claimed = _claimed_pixels(head)
    if pixels and claimed > pixels:
        raise _RefusedError("frame_size", start)


def _claimed_pixels(head: bytes) -> int:
    """Columns times rows of a JPEG, JPEG-LS or JPEG 2000 stream; 0 where it does not tell."""
    if head[:4] == b"\xff\x4f\xff\x51" and len(head) >= 24:
        # ISO 15444-1 A.5.1: the grid and the offset of the image in it.
        width, height, left, top = struct.unpack_from(">4I", head, 8)
        return int(max(width - left, 0) * max(height - top, 0))
    if head[:2] != b"\xff\xd8":
        return 0
    position = 2
    while position + 9 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        if marker == 0xFF:
            position += 1
        elif (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            height, width = struct.unpack_from(">2H", head, position + 5)
            return int(width) * int(height)
        elif marker == 0xDA:
            return 0
        else:
            position += 2 + max(struct.unpack_from(">H", head, position + 2)[0], 2)
    return 0
