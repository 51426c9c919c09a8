"""What a modality says, put together again: P-DATA units into messages, every length checked."""

from __future__ import annotations

import struct
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from dicom_services.front import dimse, pdu
from dicom_services.front.body import Body, Room

_LONGEST_QUERY: Final = 4 << 20


@dataclass(slots=True, eq=False)
class Message:
    """A message, whole or still arriving.

    Parameters
    ----------
    context : int
        Presentation context id.
    command, command_set
        Read, and as it came.
    body : Body or None
        Its data set; None where it has none or it could not be kept.
    tries, deaths : int
        How often it went to Orthanc in full, and how often Orthanc left then without a word.
    sent : int
        How much of its data set has gone there on the present association.
    sound_until : int
        As `gate.sound_until`.
    look_again : int
        Length of its data set from which on that is worth another look.
    """

    context: int
    command: dimse.Command
    command_set: bytes
    body: Body | None = None
    tries: int = 0
    deaths: int = 0
    sent: int = 0
    sound_until: int = 0
    look_again: int = 16_384

    def close(self) -> None:
        """Give its data set's room back."""
        if self.body is not None:
            self.body.close()
            self.body = None


class Incoming:
    """Reads the units of one association.

    Parameters
    ----------
    contexts : collection of int
        Ids of the accepted presentation contexts.
    room : Room
    most_bytes : int
        Of one instance.
    """

    def __init__(self, contexts: Collection[int], room: Room, most_bytes: int) -> None:
        self._contexts = contexts
        self._room = room
        self._most_bytes = most_bytes
        # What is left of the unit and of the fragment, and a header that came in parts.
        self._unit_left = 0
        self._fragment_left = 0
        self._flags = 0
        self._head = bytearray()
        self._context = 0
        self._command_set = bytearray()
        self._message: Message | None = None
        self.began_s = 0.0
        self.released = False

    @property
    def is_busy(self) -> bool:
        """Whether a message has begun and is not whole."""
        return bool(self._command_set or self._unit_left or self._head)

    @property
    def begun(self) -> Message | None:
        """The message that is coming in, once its command has come."""
        return self._message

    @property
    def length(self) -> int:
        """Bytes of the message that is coming in."""
        body = self._message.body if self._message is not None else None
        return len(self._command_set) + (body.length if body is not None else 0)

    def feed(self, data: memoryview) -> Iterator[tuple[Message, bool]]:
        """A message each time more of its data set has come, and whether it is whole.

        Raises
        ------
        ProtocolError, BodyTooLargeError
        ConnectionResetError
            The modality has aborted.
        """
        while data and not self.released:
            if self._fragment_left:
                piece = data[: self._fragment_left]
                data = data[len(piece) :]
                self._fragment_left -= len(piece)
                self._gather(piece)
                if self._fragment_left:
                    if self._message is not None:
                        yield self._message, False
                    continue
            else:
                # Both headers, of a unit and of a fragment, have six bytes.
                if not self.is_busy:
                    self.began_s = time.monotonic()
                lacking = pdu.HEADER_BYTES - len(self._head)
                self._head += data[:lacking]
                data = data[lacking:]
                if len(self._head) < pdu.HEADER_BYTES:
                    return
                head = bytes(self._head)
                self._head.clear()
                if not self._unit_left:
                    self._begin_unit(head)
                    continue
                self._begin_fragment(head)
                if self._fragment_left:
                    continue
            message = self._end_fragment()
            if message is not None:
                yield message, True
            elif self._message is not None:
                yield self._message, False

    def close(self) -> None:
        """Forget what is coming in."""
        if self._message is not None:
            self._message.close()

    def _begin_unit(self, head: bytes) -> None:
        kind, length = head[0], int(struct.unpack_from(">I", head, 2)[0])
        if kind == pdu.RELEASE_RQ and length == 4 and not self._command_set:
            self.released = True
        elif kind == pdu.ABORT:
            raise ConnectionResetError
        elif kind == pdu.P_DATA and pdu.HEADER_BYTES <= length <= pdu.LONGEST_DATA:
            self._unit_left = length
        else:
            raise pdu.ProtocolError("pdu")

    def _begin_fragment(self, head: bytes) -> None:
        length, context, flags = struct.unpack(">IBB", head)
        self._unit_left -= length + 4
        if length < 2 or self._unit_left < 0 or 0 < self._unit_left < pdu.HEADER_BYTES or flags > 3:
            raise pdu.ProtocolError("fragment")
        # PS3.7 6.3: the command set first, then its data set, in one context.
        if bool(flags & 1) == (self._message is not None) or context not in self._contexts:
            raise pdu.ProtocolError("fragment_order")
        if self._command_set and context != self._context:
            raise pdu.ProtocolError("fragment_order")
        self._context, self._flags = context, flags
        self._fragment_left = length - 2

    def _gather(self, piece: memoryview) -> None:
        if self._message is None:
            self._command_set += piece
            if len(self._command_set) > dimse.LONGEST_COMMAND:
                raise pdu.ProtocolError("command")
        elif self._message.body is not None:
            try:
                self._message.body.append(piece)
            except OSError:
                # The disk is full: the rest is passed over, and the sender will be told so.
                self._message.close()

    def _end_fragment(self) -> Message | None:
        """The message, if this was its last fragment."""
        if not self._flags & 2:
            return None
        message = self._message
        if message is None:
            command_set = bytes(self._command_set)
            message = Message(self._context, dimse.parse_command(command_set), command_set)
            if message.command.has_data:
                is_object = message.command.field == dimse.C_STORE_RQ
                if is_object:
                    message.command_set = dimse.store_request(message.command, command_set)
                most_bytes = self._most_bytes if is_object else _LONGEST_QUERY
                message.body = Body(self._room, most_bytes)
                self._message = message
                return None
        self._message = None
        self._command_set.clear()
        return message
