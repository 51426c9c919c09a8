"""A TCP link that can be slow, silent or cut: a relay in a thread of its own."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

Mode = Literal["open", "slow", "cut", "silent"]
_PIECE: Final = 1 << 14
_DELAY_S: Final = 0.05
_SLOW_BYTES_PER_S: Final = 400_000
_CUT_WITHIN: Final = 60_000
"""A connection of a cut link is reset at a random byte below this."""


class Link:
    """Listens on `port` of loopback and passes on to where `target` says at that moment.

    Parameters
    ----------
    target : callable
        Port of the service behind the link; asked for each connection.
    seed : int
        Where connections are cut.
    """

    def __init__(self, target: Callable[[], int], seed: int) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._mode: Mode = "open"
        self._open = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.passed_bytes = 0
        self.resets = 0
        self._loop = asyncio.new_event_loop()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._open.set()
        self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._socket))
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def set_mode(self, mode: Mode) -> None:
        """From now on, also for the connections that are open."""
        self._call(self._set_mode, mode)

    def reset_all(self) -> None:
        """Cut every open connection at once, as a firewall that forgot them does."""
        self._call(self._reset_all)

    def close(self) -> None:
        """Cut everything and listen no more."""
        with suppress(RuntimeError):
            self._call(self._end)
        self._thread.join(10.0)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        done = threading.Event()

        def call() -> None:
            function(*arguments)
            done.set()

        self._loop.call_soon_threadsafe(call)
        done.wait(5.0)

    def _set_mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "silent":
            self._open.clear()
        else:
            self._open.set()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            self._reset(writer)

    def _end(self) -> None:
        self._reset_all()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._socket.close()
        self._loop.call_later(0.1, self._loop.stop)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self.resets += 1
        held = writer.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            # Lingering for no time at all is what sends RST instead of FIN.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            _no_delay(writer)
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target())
            _no_delay(far)
            self._writers.add(far)
            left = [self._random.randrange(1, _CUT_WITHIN)]
            ways = (self._pass(reader, far, left), self._pass(far_reader, writer, left))
            await asyncio.gather(*ways)
        except OSError:
            for one in (writer, far):
                if one is not None:
                    self._reset(one)
        except asyncio.CancelledError:
            pass
        finally:
            for one in (writer, far):
                if one is not None:
                    self._writers.discard(one)
                    one.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]
    ) -> None:
        while piece := await reader.read(_PIECE):
            await self._open.wait()
            if self._mode == "slow":
                await asyncio.sleep(_DELAY_S + len(piece) / _SLOW_BYTES_PER_S)
            if self._mode == "cut":
                piece = piece[: left[0]]
                left[0] -= len(piece)
            writer.write(piece)
            self.passed_bytes += len(piece)
            await writer.drain()
            if self._mode == "cut" and left[0] <= 0:
                raise ConnectionResetError
        with suppress(OSError):
            writer.write_eof()


def _no_delay(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
