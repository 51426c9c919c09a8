"""A DICOM sender that sends what it is given: any bytes as a data set, any bytes as a PDU."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final, Self

IMPLICIT: Final = "1.2.840.10008.1.2"
VERIFICATION: Final = "1.2.840.10008.1.1"
_APPLICATION: Final = "1.2.840.10008.3.1.1.1"
_PDU_BYTES: Final = 131_072
_FRAGMENT: Final = 16_372
ASSOCIATE_AC, REJECT, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7

Context = tuple[str, str]


class BrokenOffError(Exception):
    """The receiver ended the association or the connection."""


class RejectedError(Exception):
    """The receiver rejected the association: result, source and reason of PS3.8 9.3.4."""


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A PDU; `length` is what its header says."""
    return struct.pack(">BBI", kind, 0, len(body) if length is None else length) + body


def _sub(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate_body(called: str, calling: str, contexts: Sequence[Context]) -> bytes:
    """Of an A-ASSOCIATE-RQ that proposes each context with its one transfer syntax."""
    items = _sub(0x10, _APPLICATION.encode())
    for number, (abstract, syntax) in enumerate(contexts):
        inner = bytes((2 * number + 1 & 0xFF, 0, 0, 0)) + _sub(0x30, abstract.encode())
        items += _sub(0x20, inner + _sub(0x40, syntax.encode()))
    user = _sub(0x51, struct.pack(">I", _PDU_BYTES)) + _sub(0x52, b"1.2.826.0.1.3680043.10.1.99")
    names = called.encode()[:16].ljust(16) + calling.encode()[:16].ljust(16)
    return struct.pack(">HH", 1, 0) + names + bytes(32) + items + _sub(0x50, user)


def command_set(elements: Iterable[tuple[int, bytes]]) -> bytes:
    """A command set of group 0 in implicit VR, with its group length."""
    body = b"".join(struct.pack("<HHI", 0, e, len(v) + len(v) % 2) + v + bytes(len(v) % 2)
                    for e, v in elements)  # fmt: skip
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def store_request(sop_class: str, instance: str, message: int) -> bytes:
    """Command set of a C-STORE-RQ."""
    return command_set(
        (
            (0x0002, sop_class.encode("latin-1")),
            (0x0100, struct.pack("<H", 1)),
            (0x0110, struct.pack("<H", message)),
            (0x0700, struct.pack("<H", 0)),
            (0x0800, struct.pack("<H", 1)),
            (0x1000, instance.encode("latin-1")),
        )
    )


def echo_request(message: int) -> bytes:
    """Command set of a C-ECHO-RQ."""
    return command_set(
        (
            (0x0002, VERIFICATION.encode()),
            (0x0100, struct.pack("<H", 0x30)),
            (0x0110, struct.pack("<H", message)),
            (0x0800, struct.pack("<H", 0x0101)),
        )
    )


def data_pdus(context: int, data: bytes, *, command: bool, size: int = _FRAGMENT) -> bytes:
    """P-DATA-TF PDUs of one fragment each."""
    out = []
    for start in range(0, len(data) or 1, size):
        piece = data[start : start + size]
        flags = int(command) | (2 if start + size >= len(data) else 0)
        out.append(pdu(P_DATA, struct.pack(">IBB", len(piece) + 2, context, flags) + piece))
    return b"".join(out)


def parse_command(data: bytes) -> dict[int, bytes]:
    """Values of a command set by element number."""
    found, at = {}, 0
    while at + 8 <= len(data):
        _, element, length = struct.unpack_from("<HHI", data, at)
        found[element] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return found


class Scu:
    """One association."""

    def __init__(
        self,
        port: int,
        contexts: Sequence[Context],
        *,
        called: str = "RADLOOP",
        calling: str = "RADLOOP",
        host: str = "127.0.0.1",
        timeout_s: float = 30.0,
    ) -> None:
        self.socket = socket.create_connection((host, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message = 0
        self.contexts = list(contexts)
        self.accepted: set[int] = set()
        try:
            self.socket.sendall(pdu(1, associate_body(called, calling, contexts)))
            kind, body = self._pdu()
            if kind == REJECT:
                raise RejectedError(tuple(body[1:4]))
            if kind != ASSOCIATE_AC:
                raise BrokenOffError(kind)
            self._read_accepted(body)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release politely where that is still possible."""
        try:
            self.socket.settimeout(2.0)
            self.socket.sendall(pdu(RELEASE_RQ, bytes(4)))
            self._pdu()
        except (OSError, BrokenOffError):
            pass
        finally:
            self.socket.close()

    def context_of(self, context: Context) -> int:
        """The number of a context; 0 where the receiver did not accept it."""
        number = 2 * self.contexts.index(context) + 1
        return number if number in self.accepted else 0

    def store(
        self, sop_class: str, instance: str, context: int, data: bytes, size: int = _FRAGMENT
    ) -> tuple[int, str]:
        """Send bytes as a data set; the status and the comment that come back."""
        self._message = self._message % 65_535 + 1
        request = store_request(sop_class, instance, self._message)
        self._send(data_pdus(context, request, command=True))
        self._send(data_pdus(context, data, command=False, size=size))
        return self._status()

    def echo(self) -> int:
        """C-ECHO; the status."""
        self._message = self._message % 65_535 + 1
        context = self.context_of((VERIFICATION, IMPLICIT))
        self._send(data_pdus(context, echo_request(self._message), command=True))
        return self._status()[0]

    def _send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise BrokenOffError(str(error)) from None

    def _status(self) -> tuple[int, str]:
        command = b""
        while True:
            kind, body = self._pdu()
            if kind != P_DATA:
                raise BrokenOffError(f"PDU {kind} {body[:4].hex()}")
            at = 0
            while at + 6 <= len(body):
                length, _, flags = struct.unpack_from(">IBB", body, at)
                if flags & 1:
                    command += body[at + 6 : at + 4 + length]
                    if flags & 2:
                        found = parse_command(command)
                        comment = found.get(0x0902, b"").decode("latin-1").strip(" \0")
                        return int(struct.unpack("<H", found[0x0900])[0]), comment
                at += 4 + length

    def _pdu(self) -> tuple[int, bytes]:
        head = self._exactly(6)
        return head[0], self._exactly(int(struct.unpack_from(">I", head, 2)[0]))

    def _exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            try:
                piece = self.socket.recv(length - len(data))
            except TimeoutError:
                raise
            except OSError as error:
                raise BrokenOffError(str(error)) from None
            if not piece:
                raise BrokenOffError("closed")
            data += piece
        return bytes(data)

    def _read_accepted(self, body: bytes) -> None:
        at = 68
        while at + 4 <= len(body):
            kind, _, length = struct.unpack_from(">BBH", body, at)
            if kind == 0x21 and body[at + 6] == 0:
                self.accepted.add(body[at + 4])
            at += 4 + length


def echo(port: int, *, calling: str = "RADLOOP", timeout_s: float = 10.0) -> int:
    """A whole C-ECHO of a good client; the status."""
    with Scu(port, [(VERIFICATION, IMPLICIT)], calling=calling, timeout_s=timeout_s) as scu:
        return scu.echo()
