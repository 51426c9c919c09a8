"""One modality's association: each message is gathered, judged, and only then passed to Orthanc.

A single thread polls both sides. Towards the modality the association is one; towards Orthanc it
may be opened again at any time, so that a restart of Orthanc, or its impatience with an idle
sender, is not the modality's concern. Storing an instance twice is storing it once.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dicom_services.front import dimse, pdu
from dicom_services.front.backend import Backend, BackendError, BackendRejectedError
from dicom_services.front.body import IN_MEMORY_BYTES, Body, BodyTooLargeError
from dicom_services.front.config import FrontConfig
from dicom_services.front.judgement import Judgement, Verdict
from dicom_services.front.slots import Slots
from dicom_services.log import event

REQUEST_S: Final = 5.0
"""PS3.8's ARTIM timer: from the connection to its whole request."""
_CLIENT_IDLE_S: Final = 600.0
"""An ultrasound machine sends an image now and then, over one association for the whole visit."""
_STALL_S: Final = 30.0
_SLOWEST_BYTES_PER_S: Final = 1_000.0
_SPARE_BACKEND_S: Final = 1.0
_MOST_TRIES: Final = 2
_RECEIVE_BYTES: Final = 256 << 10
_LONGEST_QUERY: Final = 4 << 20
_MOST_BUFFERS: Final = 256
_LONGEST_HEADER: Final = 1 << 20
_EARLY_BYTES: Final = 64 << 10
_HELD_BACK: Final = 2

Bytes = bytes | bytearray | memoryview


@dataclass(slots=True)
class Message:
    """A message that is not answered yet."""

    context: int
    command: dimse.Command
    command_set: bytes
    body: Body | None
    tries: int = 0
    sent: int = 0


class Association:
    """A connection of a modality, from its request to its release."""

    def __init__(
        self,
        connection: socket.socket,
        address: str,
        config: FrontConfig,
        judgement: Judgement,
        slots: Slots,
        speaks: Callable[[], None],
    ) -> None:
        self._client = connection
        self._speaks = speaks
        self._sender = ""
        self._address = address
        self._config = config
        self._judgement = judgement
        self._slots = slots
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        # The reader of P-DATA: what is left of the PDU, of the fragment, and a partial header.
        self._pdu_left = 0
        self._fragment_left = 0
        self._fragment_of = (0, 0)
        self._head = bytearray()
        # The message that is coming in.
        self._command_set = bytearray()
        self._command: dimse.Command | None = None
        self._context = 0
        self._body: Body | None = None
        self._began_s = 0.0
        # How far it may be passed on before it is whole, and how far it has been.
        self._sound_until = 0
        self._sent = 0
        # What Orthanc has not answered yet, by message id; its answer's command set so far.
        self._unanswered: dict[int, Message] = {}
        self._answer = bytearray()
        self._released = False

    def run(self) -> None:
        """Serve the connection to its end; nothing escapes."""
        backend: Backend | None = None
        try:
            backend = self._begin()
            if backend is not None:
                self._converse(backend)
        except pdu.ProtocolError as error:
            event("front.protocol", code=error.code)
            self._say_abort(6)
        except BodyTooLargeError:
            event("front.protocol", code="instance_too_large")
            self._say_abort(0)
        except (BackendError, BackendRejectedError):
            event("front.archive_silent")
            self._say_abort(0)
        except OSError:
            # One of the two is gone; there is nobody to tell.
            pass
        finally:
            if backend is not None:
                backend.lost()
            self._drop_messages()
            self._client.close()

    # --- the request -------------------------------------------------------------------------

    def _begin(self) -> Backend | None:
        """Accept or reject the association; the one to Orthanc behind it, None if rejected."""
        request = self._read_request()
        asked = pdu.parse_request(request[pdu.HEADER_BYTES :])
        caller = self._config.caller(asked.calling)
        # PS3.8 9.3.4: 7 is the called title, 3 the calling one, both of the service user.
        if asked.called != self._config.aet:
            self._reject("called_title", source=1, reason=7)
            return None
        if caller is None or caller.address != self._address:
            self._reject("calling_title", source=1, reason=3)
            return None
        self._sender = caller.aet
        self._speaks()
        backend = Backend(self._config.orthanc_port, caller.alias, request, self._slots)
        try:
            answer = backend.open(self._config.archive_wait_s)
        except BackendRejectedError as error:
            event("front.rejected", code="by_archive")
            self._client.sendall(error.reply)
            return None
        except BackendError:
            # Of the provider's presentation side: a temporary congestion.
            self._reject("archive_silent", source=3, reason=1, transient=True)
            return None
        self._client.sendall(answer)
        return backend

    def _reject(self, code: str, *, source: int, reason: int, transient: bool = False) -> None:
        event("front.rejected", code=code)
        self._client.sendall(pdu.reject(transient=transient, source=source, reason=reason))

    def _read_request(self) -> bytes:
        end_s = time.monotonic() + REQUEST_S
        head = self._read_exactly(pdu.HEADER_BYTES, end_s)
        length = int(struct.unpack_from(">I", head, 2)[0])
        if head[0] != pdu.ASSOCIATE_RQ or length > pdu.LONGEST_REQUEST:
            raise pdu.ProtocolError("request")
        body = self._read_exactly(length, end_s)
        self._client.settimeout(_STALL_S)
        return head + body

    def _read_exactly(self, length: int, end_s: float) -> bytes:
        data = bytearray()
        while len(data) < length:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise pdu.ProtocolError("request_late")
            self._client.settimeout(left_s)
            try:
                piece = self._client.recv(length - len(data))
            except TimeoutError:
                raise pdu.ProtocolError("request_late") from None
            if not piece:
                raise ConnectionResetError
            data += piece
        return bytes(data)

    # --- the conversation --------------------------------------------------------------------

    def _converse(self, backend: Backend) -> None:
        heard_s = time.monotonic()
        while not self._released:
            poll = select.poll()
            poll.register(self._client, select.POLLIN)
            if backend.is_open:
                poll.register(backend, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(_SPARE_BACKEND_S * 1_000)}
            now_s = time.monotonic()
            if backend.is_open and backend.fileno() in ready:
                heard_s = now_s
                self._from_backend(backend)
            if self._client.fileno() in ready:
                heard_s = now_s
                self._from_client(backend)
            self._check_time(backend, now_s, heard_s)
        backend.release()

    def _check_time(self, backend: Backend, now_s: float, heard_s: float) -> None:
        idle_s = now_s - heard_s
        if self._command_set or self._pdu_left:
            slow = now_s - self._began_s > _STALL_S and (
                self._length() < _SLOWEST_BYTES_PER_S * (now_s - self._began_s)
            )
            if slow or idle_s > _STALL_S:
                raise pdu.ProtocolError("stalled")
        elif not self._unanswered and idle_s > _CLIENT_IDLE_S:
            raise pdu.ProtocolError("idle")
        if (
            self._slots.are_scarce
            and backend.is_open
            and not self._unanswered
            and not self._command_set
            and now_s - backend.idle_since_s >= _SPARE_BACKEND_S
        ):
            backend.release()

    def _length(self) -> int:
        return len(self._command_set) + (self._body.length if self._body is not None else 0)

    # --- from the modality -------------------------------------------------------------------

    def _from_client(self, backend: Backend) -> None:
        count = self._client.recv_into(self._buffer)
        # Many modalities wait with the end of a unit for our acknowledgement of its beginning.
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if count == 0:
            raise ConnectionResetError
        data = self._buffer[:count]
        while data and not self._released:
            if self._fragment_left:
                piece = data[: self._fragment_left]
                data = data[len(piece) :]
                self._fragment_left -= len(piece)
                self._fragment(piece, backend)
                if not self._fragment_left:
                    self._fragment_ends(backend)
                continue
            # Both headers, of a PDU and of a fragment, have six bytes.
            lacking = pdu.HEADER_BYTES - len(self._head)
            self._head += data[:lacking]
            data = data[lacking:]
            if len(self._head) == pdu.HEADER_BYTES:
                head = bytes(self._head)
                self._head.clear()
                if self._pdu_left:
                    self._fragment_begins(head, backend)
                else:
                    self._pdu_begins(head)

    def _pdu_begins(self, head: bytes) -> None:
        kind, length = head[0], int(struct.unpack_from(">I", head, 2)[0])
        if kind == pdu.RELEASE_RQ and length == 4 and not self._command_set:
            self._client.sendall(pdu.RELEASE_RESPONSE)
            self._released = True
        elif kind == pdu.ABORT:
            raise ConnectionResetError
        elif kind == pdu.P_DATA and 6 <= length <= pdu.LONGEST_DATA:
            self._pdu_left = length
            if not self._command_set:
                self._began_s = time.monotonic()
        else:
            raise pdu.ProtocolError("pdu")

    def _fragment_begins(self, head: bytes, backend: Backend) -> None:
        length, context, flags = struct.unpack(">IBB", head)
        self._pdu_left -= length + 4
        if length < 2 or self._pdu_left < 0 or 0 < self._pdu_left < pdu.HEADER_BYTES or flags > 3:
            raise pdu.ProtocolError("fragment")
        is_command = bool(flags & 1)
        # PS3.7 6.3: the command set first, then its data set, in one context.
        if is_command == (self._command is not None) or context not in backend.accepted:
            raise pdu.ProtocolError("fragment_order")
        if self._command_set and context != self._context:
            raise pdu.ProtocolError("fragment_order")
        self._context = context
        self._fragment_of = (context, flags)
        self._fragment_left = length - 2
        if not self._fragment_left:
            self._fragment_ends(backend)

    def _fragment(self, piece: memoryview, backend: Backend) -> None:
        if self._command is None:
            self._command_set += piece
            if len(self._command_set) > dimse.LONGEST_COMMAND:
                raise pdu.ProtocolError("command")
            return
        if self._body is not None:
            try:
                self._body.append(piece)
            except OSError:
                # The scratch folder is full: the rest is passed over, and the sender told so.
                self._body.close()
                self._body = None
                return
            self._pass_early(self._command, self._body, backend)

    def _pass_early(self, command: dimse.Command, body: Body, backend: Backend) -> None:
        """Pass on what is sound of an instance that is still arriving; the rest is held back.

        Only native pixel data go early: what stands before them has been judged, and inside them
        there is nothing to parse. Their last bytes wait for the judgement of the whole.
        """
        if self._sound_until < 0 or not backend.is_open or self._unanswered or not body.in_memory:
            return
        if not self._sound_until:
            self._sound_until = self._early_end(command, body, backend)
        end = min(body.length, self._sound_until) - _HELD_BACK
        if self._sound_until > 0 and end - self._sent >= _EARLY_BYTES:
            try:
                self._send_part(self._command_set, body, end, backend, last=False)
            except OSError:
                # It is sent anew when it is whole.
                backend.lost()
                self._sound_until = -1

    def _early_end(self, command: dimse.Command, body: Body, backend: Backend) -> int:
        if command.field != dimse.C_STORE_RQ:
            return -1
        end = self._judgement.sound_until(command, body, backend.accepted[self._context])
        if not end and body.length > _LONGEST_HEADER:
            return -1
        return end if end <= IN_MEMORY_BYTES else -1

    def _fragment_ends(self, backend: Backend) -> None:
        _, flags = self._fragment_of
        if not flags & 2:
            return
        if self._command is None:
            self._command = dimse.parse_command(bytes(self._command_set))
            if self._command.has_data:
                is_object = self._command.field == dimse.C_STORE_RQ
                most = self._config.most_bytes if is_object else _LONGEST_QUERY
                self._body = Body(self._judgement.room, most)
                return
        command = self._command
        message = Message(self._context, command, bytes(self._command_set), self._body)
        message.sent, self._sent, self._sound_until = self._sent, 0, 0
        no_room = command.has_data and self._body is None
        self._command, self._body = None, None
        self._command_set.clear()
        self._came(message, backend, no_room=no_room)

    # --- a whole message ---------------------------------------------------------------------

    def _came(self, message: Message, backend: Backend, *, no_room: bool) -> None:
        command = message.command
        if command.field == dimse.C_STORE_RQ:
            if not command.has_data:
                raise pdu.ProtocolError("command")
            verdict = self._judge(message, backend, no_room=no_room)
            if verdict is not None:
                if message.sent:
                    # Orthanc has the beginning; it drops what does not end.
                    backend.lost()
                self._refuse(message, verdict)
                return
        elif message.body is not None:
            syntax = backend.accepted[message.context]
            reason = self._judgement.of_query(message.body, syntax)
            if reason:
                event("front.refused", code=reason)
                raise pdu.ProtocolError("query")
        elif no_room:
            raise pdu.ProtocolError("query")
        self._pass_on(message, backend)

    def _judge(self, message: Message, backend: Backend, *, no_room: bool) -> Verdict | None:
        if no_room or message.body is None:
            return self._judgement.no_room()
        return self._judgement.of_object(
            message.command,
            message.body,
            backend.accepted[message.context],
            self._sender,
        )

    def _refuse(self, message: Message, verdict: Verdict) -> None:
        """Answer in Orthanc's stead."""
        event("front.refused", code=verdict.code)
        answer = dimse.store_response(message.command, verdict.status, verdict.comment)
        head = pdu.data_header(message.context, len(answer), command=True, last=True)
        self._client.sendall(head + answer)
        if message.body is not None:
            message.body.close()

    def _pass_on(self, message: Message, backend: Backend) -> None:
        """Send a message to Orthanc, over a new association where the old one is gone."""
        repeatable = not message.command.field & dimse.RESPONSE
        if repeatable and message.command.field != dimse.C_CANCEL_RQ:
            self._unanswered[message.command.message_id] = message
        if backend.is_open:
            with contextlib.suppress(OSError):
                self._send(message, backend)
                return
        # A C-CANCEL or a response means nothing to a new association: it is dropped.
        self._recover(backend)

    def _send(self, message: Message, backend: Backend) -> None:
        message.tries += 1
        if message.body is None:
            head = pdu.data_header(
                message.context, len(message.command_set), command=True, last=True
            )
            backend.send([head, message.command_set])
            return
        self._context, self._sent = message.context, message.sent
        self._send_part(message.command_set, message.body, message.body.length, backend, last=True)
        self._sent = 0

    def _send_part(
        self, command_set: Bytes, body: Body, end: int, backend: Backend, *, last: bool
    ) -> None:
        """Send a data set from where it was sent to, up to `end`; its command set first."""
        waiting: list[Bytes] = []
        context = self._context
        if not self._sent:
            head = pdu.data_header(context, len(command_set), command=True, last=True)
            waiting = [head, bytes(command_set)]
        most = backend.longest - pdu.HEADER_BYTES
        with memoryview(body.data()) as data:
            # As much at once as the socket takes; a large object still goes out in turns.
            for start in range(self._sent, max(end, 1), most):
                stop = min(start + most, end)
                is_last = last and stop == end
                waiting += (
                    pdu.data_header(context, stop - start, command=False, last=is_last),
                    data[start:stop],
                )
                if stop == end or len(waiting) >= _MOST_BUFFERS:
                    backend.send(waiting)
                    waiting = []
        self._sent = end

    # --- from Orthanc ------------------------------------------------------------------------

    def _from_backend(self, backend: Backend) -> None:
        try:
            units = backend.receive()
        except OSError:
            self._recover(backend)
            return
        for unit in units:
            if unit[0] == pdu.P_DATA:
                self._note_answers(unit)
                self._client.sendall(unit)
            elif unit[0] == pdu.ABORT:
                self._recover(backend)
                return

    def _note_answers(self, unit: bytes) -> None:
        """Which requests a P-DATA-TF of Orthanc's answers for good."""
        position = pdu.HEADER_BYTES
        while position + pdu.HEADER_BYTES <= len(unit):
            length, _, flags = struct.unpack_from(">IBB", unit, position)
            if flags & 1:
                self._answer += unit[position + 6 : position + 4 + length]
                if flags & 2:
                    answer = dimse.parse_command(bytes(self._answer))
                    self._answer.clear()
                    if answer.field & dimse.RESPONSE and answer.status not in dimse.PENDING:
                        done = self._unanswered.pop(answer.responded_id, None)
                        if done is not None and done.body is not None:
                            done.body.close()
                        if done is not None:
                            self._judgement.was_stored(done.command)
            position += 4 + length

    def _recover(self, backend: Backend) -> None:
        """Orthanc has left: come again with what it has not answered, if that can be repeated."""
        backend.lost()
        self._answer.clear()
        self._sent = 0
        if self._sound_until:
            self._sound_until = -1
        for message in self._unanswered.values():
            message.sent = 0
        if not self._unanswered:
            return
        repeatable = (dimse.C_STORE_RQ, dimse.C_ECHO_RQ)
        if any(one.command.field not in repeatable for one in self._unanswered.values()):
            raise BackendError
        for message in list(self._unanswered.values()):
            if message.tries >= _MOST_TRIES:
                self._give_up(message, backend)
        if not self._unanswered:
            return
        event("front.archive_again", count=len(self._unanswered))
        try:
            backend.open(self._config.archive_wait_s)
            for message in list(self._unanswered.values()):
                self._send(message, backend)
        except (BackendError, BackendRejectedError):
            self._answer_silence()
        except OSError:
            self._recover(backend)

    def _answer_silence(self) -> None:
        """Orthanc does not come back: every instance under way is refused, and may come again."""
        for message in list(self._unanswered.values()):
            if message.command.field != dimse.C_STORE_RQ:
                raise BackendError
            del self._unanswered[message.command.message_id]
            self._refuse(message, self._judgement.archive_silent())

    def _give_up(self, message: Message, backend: Backend) -> None:
        """Twice Orthanc has left without an answer to this one."""
        if message.command.field != dimse.C_STORE_RQ or message.body is None:
            raise BackendError
        del self._unanswered[message.command.message_id]
        verdict = self._judgement.archive_left(
            message.command, message.body, backend.accepted[message.context], self._sender
        )
        self._refuse(message, verdict)

    # --- the end -----------------------------------------------------------------------------

    def _say_abort(self, reason: int) -> None:
        with contextlib.suppress(OSError):
            self._client.settimeout(1.0)
            self._client.sendall(pdu.abort(reason))

    def _drop_messages(self) -> None:
        bodies = [one.body for one in self._unanswered.values()] + [self._body]
        for body in bodies:
            if body is not None:
                body.close()
