"""The association to Orthanc behind one of a modality: opened, lost and opened again unseen."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterable
from typing import Final

from dicom_services.front import pdu
from dicom_services.front.slots import Slots

ANSWER_S: Final = 10.0
_SEND_S: Final = 60.0
_RECEIVE_BYTES: Final = 256 << 10


class BackendError(Exception):
    """Orthanc does not answer."""


class BackendRejectedError(Exception):
    """Orthanc does not want this association; `reply` is what it said."""

    def __init__(self, reply: bytes) -> None:
        super().__init__()
        self.reply = reply


class Backend:
    """One association to Orthanc, in the very words of the modality's own request.

    Parameters
    ----------
    port : int
        Orthanc's DICOM port on this machine.
    alias : str
        The loopback address to come from; Orthanc knows the modality by it.
    request : bytes
        The A-ASSOCIATE-RQ, header and all.
    slots : Slots
        Bounds how many of them Orthanc has at once.
    """

    def __init__(self, port: int, alias: str, request: bytes, slots: Slots) -> None:
        self._port, self._alias, self._request, self._slots = port, alias, request, slots
        self._socket: socket.socket | None = None
        self._incoming = bytearray()
        self.accepted: dict[int, str] = {}
        self.longest = 16_384
        self.idle_since_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether there is an association now."""
        return self._socket is not None

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno() if self._socket else -1

    def open(self, limit_s: float) -> bytes:
        """Associate; what Orthanc answered, header and all.

        Raises
        ------
        BackendError
            It did not answer within the limit, or no slot became free.
        BackendRejectedError
        """
        end_s = time.monotonic() + limit_s
        if not self._slots.take(limit_s):
            raise BackendError
        try:
            while True:
                try:
                    return self._associate(max(end_s - time.monotonic(), 0.1))
                except (OSError, pdu.ProtocolError):
                    self._drop()
                    if time.monotonic() + 0.1 > end_s:
                        raise BackendError from None
                time.sleep(0.1)
        finally:
            if self._socket is None:
                self._slots.give()

    def _associate(self, limit_s: float) -> bytes:
        source = (self._alias, 0)
        connection = socket.create_connection(("127.0.0.1", self._port), limit_s, source)
        self._socket = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(self._request)
        connection.settimeout(min(limit_s, ANSWER_S))
        self._incoming = bytearray()
        while (answer := self._next()) is None:
            self._receive()
        if answer[0] != pdu.ASSOCIATE_AC:
            self._drop()
            if answer[0] == pdu.ASSOCIATE_RJ:
                raise BackendRejectedError(answer)
            raise OSError
        accepted = pdu.parse_accept(answer[pdu.HEADER_BYTES :])
        if self.accepted and accepted != self.accepted:
            self._drop()
            raise OSError
        self.accepted = accepted
        self.longest = min(pdu.longest_data(answer[pdu.HEADER_BYTES :]), pdu.LONGEST_DATA)
        connection.settimeout(_SEND_S)
        self.idle_since_s = time.monotonic()
        return answer

    def send(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send buffers one after the other; OSError where the association is lost."""
        if self._socket is None:
            raise OSError
        self.idle_since_s = time.monotonic()
        waiting = [memoryview(one) for one in buffers]
        first = 0
        while first < len(waiting):
            sent = self._socket.sendmsg(waiting[first:])
            while first < len(waiting) and sent >= len(waiting[first]):
                sent -= len(waiting[first])
                waiting[first].release()
                first += 1
            if sent:
                waiting[first] = waiting[first][sent:]

    def receive(self) -> list[bytes]:
        """Whole PDUs that came; OSError where the association is lost."""
        self._receive()
        self.idle_since_s = time.monotonic()
        found = []
        while (one := self._next()) is not None:
            found.append(one)
        return found

    def release(self) -> None:
        """End the association in an orderly way, without waiting long."""
        if self._socket is None:
            return
        try:
            self.send([pdu.RELEASE_REQUEST])
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            poll.poll(1_000)
        except OSError:
            pass
        self.lost()

    def lost(self) -> None:
        """The association is over."""
        if self._socket is not None:
            self._drop()
            self._slots.give()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self) -> None:
        if self._socket is None:
            raise OSError
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError
        self._incoming += data

    def _next(self) -> bytes | None:
        if len(self._incoming) < pdu.HEADER_BYTES:
            return None
        whole = pdu.HEADER_BYTES + int(struct.unpack_from(">I", self._incoming, 2)[0])
        if whole > pdu.LONGEST_DATA:
            raise OSError
        if len(self._incoming) < whole:
            return None
        one = bytes(self._incoming[:whole])
        del self._incoming[:whole]
        return one
