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
from typing import Final

from dicom_services.front import dimse, pdu
from dicom_services.front.backend import Backend, BackendError, BackendRejectedError
from dicom_services.front.body import BodyTooLargeError
from dicom_services.front.config import Caller, ConfigFile
from dicom_services.front.delivery import Delivery
from dicom_services.front.incoming import Incoming, Message
from dicom_services.front.judgement import Judgement, Verdict
from dicom_services.front.slots import Slots
from dicom_services.log import event

REQUEST_S: Final = 5.0
"""PS3.8's ARTIM timer: from the connection to its whole request."""
_CLIENT_IDLE_S: Final = 600.0
"""An ultrasound machine sends an image now and then, over one association for the whole visit."""
_STALL_S: Final = 30.0
_SLOWEST_BYTES_PER_S: Final = 1_000.0
_SPARE_BACKEND_S: Final = 0.1
"""How long an association is idle before another may have its slot: sixty idle ones and one who
comes must get by with sixteen slots."""
_LOOK_S: Final = 0.5
_RECEIVE_BYTES: Final = 256 << 10


class Association:
    """A connection of a modality, from its request to its release."""

    def __init__(
        self,
        connection: socket.socket,
        address: str,
        file: ConfigFile,
        judgement: Judgement,
        slots: Slots,
        speaks: Callable[[], None],
    ) -> None:
        self._client = connection
        self._speaks = speaks
        self._caller: Caller | None = None
        self._address = address
        self._file = file
        self._config = file.current()
        self._judgement = judgement
        self._slots = slots
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._heard_s = 0.0
        self._backend: Backend | None = None

    def run(self) -> None:
        """Serve the connection to its end; nothing escapes."""
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
            # Also one that was opened for somebody who had gone by then.
            if self._backend is not None:
                self._backend.lost()
            self._client.close()

    @property
    def _sender(self) -> str:
        return self._caller.aet if self._caller is not None else ""

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
        self._caller = caller
        self._speaks()
        backend = Backend(self._config.orthanc_port, caller.alias, request, self._slots)
        self._backend = backend
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
        incoming = Incoming(backend.accepted, self._judgement.room, self._config.most_bytes)
        wait_s = self._config.archive_wait_s
        delivery = Delivery(backend, self._judgement, wait_s, self._sender, self._refuse)
        self._heard_s = time.monotonic()
        try:
            while not incoming.released:
                self._listen(backend, incoming, delivery)
                self._check_time(backend, incoming, delivery)
            self._client.sendall(pdu.RELEASE_RESPONSE)
            backend.release()
        finally:
            incoming.close()
            delivery.close()

    def _listen(self, backend: Backend, incoming: Incoming, delivery: Delivery) -> None:
        poll = select.poll()
        poll.register(self._client, select.POLLIN)
        if backend.is_open:
            poll.register(backend, select.POLLIN)
        look_s = _SPARE_BACKEND_S if self._slots.are_scarce else _LOOK_S
        ready = {descriptor for descriptor, _ in poll.poll(look_s * 1_000)}
        began_s = time.monotonic()
        if backend.is_open and backend.fileno() in ready:
            for unit in delivery.receive():
                self._client.sendall(unit)
        if self._client.fileno() in ready:
            count = self._client.recv_into(self._buffer)
            # Many modalities wait with the end of a unit until its beginning is acknowledged.
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if count == 0:
                raise ConnectionResetError
            for message, is_whole in incoming.feed(self._buffer[:count]):
                if is_whole:
                    self._came(message, backend, delivery)
                else:
                    delivery.pass_early(message)
        if ready:
            # While we waited for Orthanc the modality could not be heard: no fault of its own.
            self._heard_s = time.monotonic()
            incoming.began_s += self._heard_s - began_s

    def _check_time(self, backend: Backend, incoming: Incoming, delivery: Delivery) -> None:
        now_s = time.monotonic()
        idle_s = now_s - self._heard_s
        self._give_way(backend, incoming, delivery, now_s)
        if incoming.is_busy:
            taken_s = now_s - incoming.began_s
            slow = taken_s > _STALL_S and incoming.length < _SLOWEST_BYTES_PER_S * taken_s
            if slow or idle_s > _STALL_S:
                raise pdu.ProtocolError("stalled")
            return
        if delivery.is_idle and idle_s > _CLIENT_IDLE_S:
            raise pdu.ProtocolError("idle")
        delivery.check_time(now_s)

    def _give_way(
        self, backend: Backend, incoming: Incoming, delivery: Delivery, now_s: float
    ) -> None:
        """Leave Orthanc to others while this modality sends nothing, even amid a message."""
        spare = delivery.is_idle and now_s - backend.idle_since_s >= _SPARE_BACKEND_S
        if not (spare and backend.is_open and self._slots.are_scarce):
            return
        if incoming.begun is not None and incoming.begun.sent:
            delivery.take_back(incoming.begun)
            # All of it goes once it is whole.
            incoming.begun.sound_until = -1
        else:
            backend.release()

    # --- a whole message ---------------------------------------------------------------------

    def _came(self, message: Message, backend: Backend, delivery: Delivery) -> None:
        try:
            if self._caller not in self._file.current().callers:
                raise pdu.ProtocolError("calling_title")
            verdict = self._judge(message, backend.accepted[message.context])
        except BaseException:
            message.close()
            raise
        if verdict is None:
            delivery.deliver(message)
            return
        delivery.take_back(message)
        try:
            self._refuse(message, verdict)
        finally:
            message.close()

    def _judge(self, message: Message, syntax: str) -> Verdict | None:
        """Why an instance is refused; any other message that may not pass ends the association."""
        command = message.command
        if command.field == dimse.C_STORE_RQ:
            if not command.has_data:
                raise pdu.ProtocolError("command")
            if message.body is None:
                return self._judgement.no_room()
            return self._judgement.of_object(
                command, message.body, syntax, self._sender, message.sound_until
            )
        if not command.has_sound_uids:
            raise pdu.ProtocolError("command_uid")
        if command.has_data:
            reason = "no_room"
            if message.body is not None:
                reason = self._judgement.of_query(message.body, syntax)
            if reason:
                event("front.refused", code=reason)
                raise pdu.ProtocolError("query")
        return None

    def _refuse(self, message: Message, verdict: Verdict) -> None:
        """Answer in Orthanc's stead."""
        event("front.refused", code=verdict.code)
        answer = dimse.store_response(message.command, verdict.status, verdict.comment)
        head = pdu.data_header(message.context, len(answer), command=True, last=True)
        self._client.sendall(head + answer)

    def _say_abort(self, reason: int) -> None:
        with contextlib.suppress(OSError):
            self._client.settimeout(1.0)
            self._client.sendall(pdu.abort(reason))
