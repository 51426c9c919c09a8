"""Listens for modalities, one thread each; who stays silent gives way to who comes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import OrderedDict
from typing import Final

from dicom_services.front.association import Association
from dicom_services.front.config import ConfigFile
from dicom_services.front.judgement import Judgement
from dicom_services.front.slots import Slots
from dicom_services.log import event

_BACKLOG: Final = 256
_KEEP_IDLE_S: Final = 60
"""Until a peer that says nothing is asked whether it is still there."""


class Server:
    """The front's listening socket."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        config = file.current()
        self._most = config.connections
        self._slots = Slots(config.slots)
        self._judgement = Judgement(config)
        self._lock = threading.Lock()
        # Connections without an association yet, oldest first.
        self._silent: OrderedDict[int, socket.socket] = OrderedDict()
        self._count = 0
        self._listener = socket.create_server((config.listen, config.port), backlog=_BACKLOG)

    def serve(self) -> None:
        """Take connections for ever."""
        event("front.listening", port=self._file.current().port)
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                # The other end may be gone already; descriptors may be short for a moment.
                event("front.accept", error=error)
                threading.Event().wait(0.05)
                continue
            self._take(connection, str(address[0]))

    def _take(self, connection: socket.socket, address: str) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_IDLE_S)
        with self._lock:
            has_room = self._count < self._most or self._make_room()
            if has_room:
                self._count += 1
                self._silent[id(connection)] = connection
        if not has_room:
            event("front.rejected", code="connections")
            connection.close()
            return
        thread = threading.Thread(target=self._serve_one, args=(connection, address), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._forget(connection)
            connection.close()

    def _make_room(self) -> bool:
        """Shut the oldest of those who have said nothing yet; its thread then ends by itself."""
        if not self._silent:
            return False
        _, oldest = self._silent.popitem(last=False)
        with contextlib.suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)
        return True

    def _serve_one(self, connection: socket.socket, address: str) -> None:
        try:
            Association(
                connection,
                address,
                self._file,
                self._judgement,
                self._slots,
                lambda: self._speaks(connection),
            ).run()
        except BaseException as error:  # noqa: BLE001 - one connection's fault is no other's
            event("front.fault", error=error)
        finally:
            self._forget(connection)
            connection.close()

    def _speaks(self, connection: socket.socket) -> None:
        with self._lock:
            self._silent.pop(id(connection), None)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._silent.pop(id(connection), None)
            self._count -= 1
