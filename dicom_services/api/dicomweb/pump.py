"""A long answer moved from Orthanc's socket to the client's inside the kernel.

Copied through Python, a series costs this process as much as it costs Orthanc to send it. Here only
the few lines between two objects are read; what they say about the next object's length is all
that is needed to pass it on, and to know at the end that the answer is whole.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from dicom_services.errors import UnavailableError

_PIPE_BYTES: Final = 1 << 20
_SOCKET_BYTES: Final = 4 << 20
"""Half as fast again as with the usual 128 kB, on two cores that Orthanc and a reader share."""
_HEAD_BYTES: Final = 16 << 10
_READ_BYTES: Final = 4 << 10
"""Enough for the lines between two objects, little of the next object."""
_SILENCE_S: Final = 60.0
_LOOK_MS: Final = 500
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r\n")
_AT_ONCE: Final = 16
"""Threads; further answers are passed on without them."""
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


def _widen(handle: int, buffer: int) -> None:
    """Let more lie in a socket, so that neither side waits for this thread to be woken."""
    with socket.socket(fileno=os.dup(handle)) as same:
        same.setsockopt(socket.SOL_SOCKET, buffer, _SOCKET_BYTES)


class ClientGoneError(Exception):
    """The client has left, or has read nothing for a minute."""


class Pumps:
    """Room for so many at once."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, "pump")
        self._running = 0

    @property
    def has_room(self) -> bool:
        """Whether another may run now."""
        return self._running < _AT_ONCE

    async def run(self, pump: Pump) -> None:
        """Run one in a thread; `Pump.run` says what it raises."""
        self._running += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, pump.run)
        finally:
            self._running -= 1
            pump.stop()


class Pump:
    """Moves one multipart answer, whose body is sent on in chunks; runs in a thread.

    Parameters
    ----------
    source, sink : int
        Non-blocking sockets, closed at the end: both are duplicates.
    first : bytes
        What has been read of the body already.
    boundary : str
        Of the multipart.
    """

    def __init__(self, source: int, sink: int, first: bytes, boundary: str) -> None:
        self._source = source
        self._sink = sink
        self._buffer = first
        self._delimiter = f"--{boundary}".encode("ascii")
        self._stopped = self._runs = False
        self._handles: tuple[int, ...] = (source, sink)
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End soon, whatever is under way; what never began is closed."""
        with self._lock:
            self._stopped = True
            if not self._runs:
                self._close()

    def _close(self) -> None:
        for handle in self._handles:
            os.close(handle)
        self._handles = ()

    def run(self) -> None:
        """Everything up to the closing delimiter, which the last chunk holds.

        Raises
        ------
        UnavailableError
            `orthanc_broken_answer`, `orthanc_timeout`.
        ClientGoneError
            When nobody reads.
        """
        with self._lock:
            if self._stopped:
                raise ClientGoneError
            self._runs = True
        try:
            taker, giver = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._handles += (taker, giver)
            fcntl.fcntl(giver, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            _widen(self._source, socket.SO_RCVBUF)
            _widen(self._sink, socket.SO_SNDBUF)
            while self._part(taker, giver):
                pass
        except EOFError:
            raise UnavailableError("orthanc_broken_answer") from None
        except OSError:
            # Of the client's socket: those of Orthanc's are translated where they are read.
            raise ClientGoneError from None
        finally:
            self._close()

    def _part(self, taker: int, giver: int) -> bool:
        """The next object with the lines before it; False after the closing delimiter."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if self._is_closing():
                return False
            if len(self._buffer) > _HEAD_BYTES:
                raise UnavailableError("orthanc_broken_answer")
            self._more()
        if self._is_closing():
            return False
        head = self._buffer[: end + 4]
        found = _LENGTH.search(head)
        if not head.lstrip(b"\r\n").startswith(self._delimiter + b"\r\n") or not found:
            raise UnavailableError("orthanc_broken_answer")
        length = int(found[1])
        here = self._buffer[end + 4 : end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        self._write(b"%x\r\n%b%b" % (len(head) + length, head, here))
        left = length - len(here)
        while left and not self._stopped:
            moved = self._take(giver, min(left, _PIPE_BYTES))
            left -= moved
            self._give(taker, moved)
        if self._stopped:
            raise ClientGoneError
        self._write(b"\r\n")
        return True

    def _is_closing(self) -> bool:
        """Whether the end has come; then it is passed on."""
        rest = self._buffer.lstrip(b"\r\n")
        if not rest.startswith(self._delimiter + b"--"):
            return False
        while len(self._buffer) <= _HEAD_BYTES:
            try:
                self._more()
            except EOFError:
                break
        if self._buffer.lstrip(b"\r\n")[len(self._delimiter) + 2 :].strip(b"\r\n"):
            raise UnavailableError("orthanc_broken_answer")
        self._write(b"%x\r\n%b\r\n" % (len(self._buffer), self._buffer))
        return True

    def _more(self) -> None:
        while True:
            try:
                piece = os.read(self._source, _READ_BYTES)
            except BlockingIOError:
                self._wait_for_source()
                continue
            except OSError:
                raise UnavailableError("orthanc_broken_answer") from None
            if not piece:
                raise EOFError
            self._buffer += piece
            return

    def _take(self, giver: int, most: int) -> int:
        """From Orthanc into the pipe."""
        while True:
            try:
                moved = os.splice(self._source, giver, most, flags=_FLAGS)
            except BlockingIOError:
                self._wait_for_source()
                continue
            except OSError:
                raise UnavailableError("orthanc_broken_answer") from None
            if not moved:
                raise UnavailableError("orthanc_broken_answer")
            return moved

    def _give(self, taker: int, count: int) -> None:
        """From the pipe to the client."""
        while count:
            try:
                count -= os.splice(taker, self._sink, count, flags=_FLAGS | os.SPLICE_F_MORE)
            except BlockingIOError:
                self._wait_for_sink()

    def _write(self, text: bytes) -> None:
        while text:
            try:
                text = text[os.write(self._sink, text) :]
            except BlockingIOError:
                self._wait_for_sink()

    def _wait_for_source(self) -> None:
        if not self._wait(self._source, select.POLLIN):
            raise UnavailableError("orthanc_timeout")

    def _wait_for_sink(self) -> None:
        if not self._wait(self._sink, select.POLLOUT):
            raise ClientGoneError

    def _wait(self, handle: int, kind: int) -> bool:
        poll = select.poll()
        poll.register(handle, kind)
        until = time.monotonic() + _SILENCE_S
        while time.monotonic() < until:
            if poll.poll(_LOOK_MS):
                return True
            if self._stopped:
                raise ClientGoneError
        return False
