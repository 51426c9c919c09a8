"""A storage provider of a few lines that dies at some instances and aborts at others."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from tests.hostile.scu import data_pdus, parse_command, pdu


class FakeArchive(threading.Thread):
    """Accepts every context and stores everything, but closes at `poison`, aborts at `unwanted`."""

    def __init__(
        self, poison: frozenset[str] = frozenset(), unwanted: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(daemon=True)
        self._poison = poison
        self._unwanted = unwanted
        self.odd_fragments = 0
        self.commands: list[dict[int, bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.stored: dict[str, bytes] = {}
        self.deaths = 0
        self.associations = 0

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        # A blocked accept() is only woken by a shutdown.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        command, data = b"", bytearray()
        with connection, connection.makefile("rb") as file:
            while head := file.read(6):
                kind, length = head[0], struct.unpack_from(">I", head, 2)[0]
                body = file.read(length)
                if kind == 1:
                    self.associations += 1
                    connection.sendall(pdu(2, _accepted(body)))
                elif kind == 4:
                    at = 0
                    while at + 6 <= len(body):
                        length, context, flags = struct.unpack_from(">IBB", body, at)
                        piece = body[at + 6 : at + 4 + length]
                        at += 4 + length
                        self.odd_fragments += len(piece) % 2
                        if flags & 1:
                            command += piece
                        else:
                            data += piece
                        if flags == 2:
                            asked = parse_command(command)
                            if asked[0x0100] != b"\1\0":
                                command, data = b"", bytearray()
                                continue
                            uid = asked[0x1000].rstrip(b"\0").decode()
                            self.commands.append(asked)
                            if uid in self._unwanted:
                                connection.sendall(pdu(7, bytes(4)))
                                return
                            if uid in self._poison:
                                self.deaths += 1
                                return
                            self.stored[uid] = bytes(data)
                            connection.sendall(data_pdus(context, _answer(asked), command=True))
                            command, data = b"", bytearray()
                else:
                    if kind == 5:
                        connection.sendall(pdu(6, bytes(4)))
                    return


def _accepted(request: bytes) -> bytes:
    items, at = b"", 68
    while at + 4 <= len(request):
        kind, _, length = struct.unpack_from(">BBH", request, at)
        item = request[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 0x20:
            inner, abstract = item[4:], struct.unpack_from(">H", item, 6)[0]
            transfer = inner[4 + abstract :]
            value = bytes((item[0], 0, 0, 0)) + transfer
            items += struct.pack(">BBH", 0x21, 0, len(value)) + value
        else:
            items += struct.pack(">BBH", kind, 0, len(item)) + item
    return request[:68] + items


def _answer(asked: dict[int, bytes]) -> bytes:
    values = (
        (0x0100, struct.pack("<H", 0x8001)),
        (0x0120, asked[0x0110]),
        (0x0800, struct.pack("<H", 0x0101)),
        (0x0900, struct.pack("<H", 0)),
    )
    return b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in values)
