"""DIMSE command sets: what a message is, and the answer to one that is not let through."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dicom_services.front.pdu import ProtocolError

C_STORE_RQ: Final = 0x0001
C_ECHO_RQ: Final = 0x0030
C_CANCEL_RQ: Final = 0x0FFF
RESPONSE: Final = 0x8000
LONGEST_COMMAND: Final = 16 << 10
"""Twenty elements of at most 64 bytes, and a list of attributes."""
PENDING: Final = frozenset((0xFF00, 0xFF01))
# PS3.4 table B.2-1.
OUT_OF_RESOURCES: Final = 0xA700
CANNOT_UNDERSTAND: Final = 0xC000

_NO_DATA_SET: Final = 0x0101
_DATA_SET: Final = 0x0001
_CLASS, _FIELD, _MESSAGE_ID, _RESPONDED_ID = 0x0002, 0x0100, 0x0110, 0x0120
_PRIORITY, _MOVER, _MOVE_ID = 0x0700, 0x1030, 0x1031
_DATA_SET_TYPE, _STATUS, _COMMENT, _INSTANCE = 0x0800, 0x0900, 0x0902, 0x1000


@dataclass(frozen=True, slots=True)
class Command:
    """A command set: its field, ids, SOP class and instance, status, whether data follow.

    UIDs that are none are empty, and `has_sound_uids` is false.
    """

    field: int
    message_id: int
    responded_id: int
    sop_class: bytes
    sop_instance: bytes
    status: int
    has_data: bool
    has_sound_uids: bool


def parse_command(data: bytes) -> Command:
    """Read a command set, PS3.7 6.3.1: implicit VR little endian, group 0000 alone.

    Raises
    ------
    ProtocolError
        `command`.
    """
    values = _values(data)
    if len(values.get(_FIELD, b"")) != 2 or len(values.get(_DATA_SET_TYPE, b"")) != 2:
        raise ProtocolError("command")
    field = _number(values, _FIELD)
    # What is asked must have a number to be answered by, and an answer must have that number.
    needed = _RESPONDED_ID if field & RESPONSE or field == C_CANCEL_RQ else _MESSAGE_ID
    if len(values.get(needed, b"")) != 2:
        raise ProtocolError("command")
    sop_class, class_is_sound = _uid(values, _CLASS)
    sop_instance, instance_is_sound = _uid(values, _INSTANCE)
    return Command(
        field=field,
        message_id=_number(values, _MESSAGE_ID),
        responded_id=_number(values, _RESPONDED_ID),
        sop_class=sop_class,
        sop_instance=sop_instance,
        status=_number(values, _STATUS),
        has_data=_number(values, _DATA_SET_TYPE) != _NO_DATA_SET,
        has_sound_uids=class_is_sound and instance_is_sound,
    )


def store_request(command: Command, command_set: bytes) -> bytes:
    """The command set of a C-STORE-RQ, PS3.7 table 9.3-1, with nothing else in it.

    Parameters
    ----------
    command, command_set
        As it was read, and as it came; a missing priority becomes medium.
    """
    told = _values(command_set)
    values = [
        (_CLASS, _even(command.sop_class, b"\0")),
        (_FIELD, struct.pack("<H", C_STORE_RQ)),
        (_MESSAGE_ID, struct.pack("<H", command.message_id)),
        (_PRIORITY, struct.pack("<H", _number(told, _PRIORITY))),
        (_DATA_SET_TYPE, struct.pack("<H", _DATA_SET)),
        (_INSTANCE, _even(command.sop_instance, b"\0")),
    ]
    if len(told.get(_MOVER, b"")) in range(1, 17) and len(told.get(_MOVE_ID, b"")) == 2:
        values += [(_MOVER, _even(told[_MOVER], b" ")), (_MOVE_ID, told[_MOVE_ID])]
    return _encoded(values)


def store_response(command: Command, status: int, comment: str) -> bytes:
    """The command set of a C-STORE-RSP, PS3.7 table 9.3-2.

    Parameters
    ----------
    command : Command
        The C-STORE-RQ.
    status : int
    comment : str
        Error Comment, ASCII, at most 64 characters.
    """
    values = (
        (_CLASS, _even(command.sop_class, b"\0")),
        (_FIELD, struct.pack("<H", RESPONSE | C_STORE_RQ)),
        (_RESPONDED_ID, struct.pack("<H", command.message_id)),
        (_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
        (_STATUS, struct.pack("<H", status)),
        (_COMMENT, _even(comment.encode("ascii", "replace")[:64], b" ")),
        (_INSTANCE, _even(command.sop_instance, b"\0")),
    )
    return _encoded(values)


def part10_header(command: Command, transfer_syntax: str) -> bytes:
    """Preamble and file meta information for a data set that came over the network."""
    values = (
        (0x0001, b"OB", b"\0\1"),
        (0x0002, b"UI", _even(command.sop_class, b"\0")),
        (0x0003, b"UI", _even(command.sop_instance, b"\0")),
        (0x0010, b"UI", _even(transfer_syntax.encode(), b"\0")),
        # A UID of our own would have to be registered; PS3.5 B.2 makes one of a UUID.
        (0x0012, b"UI", _even(b"2.25.212741362061226443612338231204311275037", b"\0")),
    )
    body = b""
    for element, vr, value in values:
        length = struct.pack("<HI", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
        body += struct.pack("<HH2s", 2, element, vr) + length + value
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


def _values(data: bytes) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        if position + 8 > len(data):
            raise ProtocolError("command")
        group, element, length = struct.unpack_from("<HHI", data, position)
        position += 8
        if group != 0 or element in values or position + length > len(data):
            raise ProtocolError("command")
        values[element] = data[position : position + length]
        position += length
    return values


def _encoded(values: Iterable[tuple[int, bytes]]) -> bytes:
    body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in values)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _number(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    return int(struct.unpack("<H", value)[0]) if len(value) == 2 else 0


def _uid(values: dict[int, bytes], element: int) -> tuple[bytes, bool]:
    value = values.get(element, b"").rstrip(b"\0 ")
    sound = len(value) <= 64 and not value.strip(b"0123456789.")
    return (value if sound else b""), sound


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding if len(value) % 2 else value
