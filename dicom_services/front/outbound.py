"""The way back: Orthanc reaches a modality at its alias on this machine, and is passed on."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import Final

from dicom_services.front.config import Caller, ConfigFile
from dicom_services.log import event

_LOOK_S: Final = 1.0
_CONNECT_S: Final = 10.0
_IDLE_S: Final = 600.0
_PIECE: Final = 256 << 10

Place = tuple[str, int]


class Outbound:
    """One listening socket for each registered modality; follows the configuration."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self._listeners: dict[Place, socket.socket] = {}
        self._goals: dict[Place, Place] = {}
        self._taken: set[Place] = set()

    def serve(self) -> None:
        """Pass connections on for ever."""
        while True:
            self._follow(self._file.current().callers)
            poll = select.poll()
            for listener in self._listeners.values():
                poll.register(listener, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(_LOOK_S * 1_000)}
            for place, listener in self._listeners.items():
                if listener.fileno() in ready:
                    self._accept(listener, self._goals[place])

    def _accept(self, listener: socket.socket, goal: Place) -> None:
        try:
            near, _ = listener.accept()
            threading.Thread(target=_pass_on, args=(near, goal), daemon=True).start()
        except (OSError, RuntimeError) as error:
            # Descriptors or threads are short for a moment.
            event("front.accept", error=error)
            time.sleep(0.05)

    def _follow(self, callers: tuple[Caller, ...]) -> None:
        self._goals = {(one.alias, one.alias_port): (one.address, one.port) for one in callers}
        for place in self._listeners.keys() - self._goals.keys():
            self._listeners.pop(place).close()
        for place in self._goals.keys() - self._listeners.keys():
            try:
                self._listeners[place] = socket.create_server(place)
                self._taken.discard(place)
            except OSError as error:
                # Tried again each second, said once.
                if place not in self._taken:
                    event("front.outbound_port", port=place[1], error=error)
                self._taken.add(place)


def _pass_on(near: socket.socket, goal: Place) -> None:
    with near:
        try:
            with socket.create_connection(goal, _CONNECT_S) as far:
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    one.settimeout(_IDLE_S)
                _pump(near, far)
        except OSError:
            # Orthanc sees the connection close, and says that the modality cannot be reached.
            event("front.outbound_unreachable")


def _pump(near: socket.socket, far: socket.socket) -> None:
    other = {near: far, far: near}
    poll = select.poll()
    for one in other:
        poll.register(one, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(_IDLE_S * 1_000)}
        if not ready:
            return
        for one in other:
            if one.fileno() not in ready:
                continue
            piece = one.recv(_PIECE)
            if not piece:
                return
            other[one].sendall(piece)
