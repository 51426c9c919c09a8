"""Protocol data units of the DICOM upper layer: read with every length checked, and written."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ = 1, 2, 3
P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 4, 5, 6, 7
HEADER_BYTES: Final = 6
LONGEST_REQUEST: Final = 512 << 10
"""128 contexts with forty transfer syntaxes each have 150 kB."""
LONGEST_DATA: Final = 16 << 20
"""Senders that ignore the length they were told reach one megabyte."""
RELEASE_REQUEST: Final = bytes((RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASE_RESPONSE: Final = bytes((RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))

# PS3.8 9.3.2: protocol version, two times a title, 32 reserved bytes.
_FIXED_BYTES: Final = 68
_APPLICATION, _CONTEXT_RQ, _CONTEXT_AC, _USER = 0x10, 0x20, 0x21, 0x50
_ABSTRACT, _TRANSFER = 0x30, 0x40
_MOST_SUB_ITEMS: Final = 256
_UID: Final = re.compile(rb"[0-9.]{1,64}\0?\Z")
# PS3.5 table 6.2-1, AE: printable, no backslash; old devices pad it with NUL.
_TITLE: Final = re.compile(rb"(?=.{16}\Z)[\x20-\x5b\x5d-\x7e]*\0*\Z", re.DOTALL)


class ProtocolError(Exception):
    """The peer does not speak the DICOM upper layer; `code` says where, without its words."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """An A-ASSOCIATE-RQ: the two AE titles, and abstract syntax by presentation context id."""

    called: str
    calling: str
    contexts: dict[int, str]


def parse_request(body: bytes) -> Request:
    """Read the body of an A-ASSOCIATE-RQ.

    Raises
    ------
    ProtocolError
        `request` with anything that PS3.8 9.3.2 does not allow.
    """
    if len(body) < _FIXED_BYTES or not struct.unpack_from(">H", body)[0] & 1:
        raise ProtocolError("request")
    called, calling = body[4:20], body[20:36]
    if not _TITLE.match(called) or not _TITLE.match(calling):
        raise ProtocolError("request_title")
    contexts: dict[int, str] = {}
    kinds = []
    for kind, item in _items(body[_FIXED_BYTES:]):
        kinds.append(kind)
        if kind == _CONTEXT_RQ:
            number, abstract, _ = _context(item, _ABSTRACT)
            # PS3.8 9.3.2.2: odd, and each once.
            if not number & 1 or number in contexts:
                raise ProtocolError("request_context")
            contexts[number] = abstract
        elif kind == _USER:
            for _ in _items(item):
                pass
        elif kind != _APPLICATION:
            raise ProtocolError("request_item")
    if kinds.count(_APPLICATION) != 1 or kinds.count(_USER) != 1 or not contexts:
        raise ProtocolError("request_item")
    return Request(_title(called), _title(calling), contexts)


def _title(value: bytes) -> str:
    return value.rstrip(b"\0").decode().strip()


def parse_accept(body: bytes) -> dict[int, str]:
    """Transfer syntax by context id of what an A-ASSOCIATE-AC accepted; ours, so trusted."""
    accepted = {}
    for kind, item in _items(body[_FIXED_BYTES:]):
        if kind == _CONTEXT_AC and len(item) >= 4 and item[2] == 0:
            number, _, transfer = _context(item, 0)
            accepted[number] = transfer
    return accepted


def longest_data(body: bytes) -> int:
    """The longest P-DATA-TF that an A-ASSOCIATE-AC allows, without its header."""
    for kind, item in _items(body[_FIXED_BYTES:]):
        if kind == _USER:
            for sub_kind, value in _items(item):
                if sub_kind == 0x51 and len(value) == 4:
                    return int(struct.unpack(">I", value)[0]) or LONGEST_DATA
    return 16_384


def reject(*, transient: bool, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ, PS3.8 9.3.4."""
    return bytes((ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, 2 if transient else 1, source, reason))


def abort(reason: int) -> bytes:
    """An A-ABORT of the service provider, PS3.8 9.3.8."""
    return bytes((ABORT, 0, 0, 0, 0, 4, 0, 0, 2, reason))


def data_header(context: int, length: int, *, command: bool, last: bool) -> bytes:
    """What stands before one fragment of a message: P-DATA-TF and PDV headers."""
    flags = (1 if command else 0) | (2 if last else 0)
    return struct.pack(">BBIIBB", P_DATA, 0, length + 6, length + 2, context, flags)


def _items(data: bytes) -> list[tuple[int, bytes]]:
    """Type, reserved byte, 16-bit length, value: one after the other, to the very end."""
    found: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data):
        if position + 4 > len(data) or len(found) >= _MOST_SUB_ITEMS:
            raise ProtocolError("request_item")
        kind, _, length = struct.unpack_from(">BBH", data, position)
        position += 4
        if position + length > len(data):
            raise ProtocolError("request_item")
        found.append((kind, data[position : position + length]))
        position += length
    return found


def _context(item: bytes, wanted: int) -> tuple[int, str, str]:
    """Id, abstract syntax (where wanted) and last transfer syntax of a presentation context."""
    if len(item) < 4:
        raise ProtocolError("request_context")
    abstract, transfer = "", ""
    for kind, value in _items(item[4:]):
        if kind not in (_ABSTRACT, _TRANSFER) or not _UID.match(value):
            raise ProtocolError("request_context")
        text = value.rstrip(b"\0").decode()
        if kind == _ABSTRACT:
            if abstract:
                raise ProtocolError("request_context")
            abstract = text
        else:
            transfer = text
    if not transfer or (wanted and not abstract):
        raise ProtocolError("request_context")
    return item[0], abstract, transfer
