"""Abuse of the DICOM port: mutated associations and sockets that say nothing, while one good
client asks whether anybody is there."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from dicom_services.data_folder import DataFolder
from tests.hostile.build import CT, EXPLICIT, IMPLICIT, LITTLE, PLAIN
from tests.hostile.runner import MOST_BYTES, Watch
from tests.hostile.scu import (
    ABORT,
    P_DATA,
    RELEASE_RQ,
    VERIFICATION,
    BrokenOffError,
    RejectedError,
    Scu,
    associate_body,
    data_pdus,
    echo,
    echo_request,
    pdu,
    store_request,
)

MOST_ECHO_S: Final = 2.0
_MOST_GROWTH_MB: Final = 150
_SILENT: Final = 60
_LARGE: Final = 20
_CONTEXTS: Final = [(VERIFICATION, IMPLICIT), (CT, EXPLICIT), (CT, IMPLICIT)]
_UID: Final = "1.2.826.0.1.3680043.10.1.88"


@dataclass(slots=True)
class Abuse:
    """What was done and how the good client fared."""

    associations: int = 0
    sockets: int = 0
    echoes: int = 0
    slowest_echo_s: float = 0.0
    slowest_during: str = ""
    answers: Counter[str] = field(default_factory=Counter)
    peak_mb: dict[str, int] = field(default_factory=dict)
    grown_mb: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """For a JSON line."""
        told = {name: getattr(self, name) for name in self.__slots__}
        return {"part": "port", **told, "answers": dict(self.answers), "faults": self.faults[:20]}


class GoodClient(threading.Thread):
    """Asks C-ECHO again and again; each must be answered in time."""

    def __init__(self, port: int, told: Abuse) -> None:
        super().__init__(daemon=True)
        self._port, self._told = port, told
        self._end = threading.Event()
        self.doing = ""

    def run(self) -> None:
        """Until stopped."""
        while not self._end.wait(0.1):
            start = time.monotonic()
            try:
                status = echo(self._port, timeout_s=10.0)
                if status:
                    self._told.faults.append(f"C-ECHO {status:#x} during {self.doing}")
            except (OSError, BrokenOffError, RejectedError) as error:
                self._told.faults.append(f"no C-ECHO during {self.doing}: {error!r}")
            took = time.monotonic() - start
            self._told.echoes += 1
            if took > self._told.slowest_echo_s:
                self._told.slowest_echo_s = round(took, 3)
                self._told.slowest_during = self.doing
            if took > MOST_ECHO_S:
                self._told.faults.append(f"C-ECHO after {took:.1f} s during {self.doing}")

    def stop(self) -> None:
        """End and wait."""
        self._end.set()
        self.join(15.0)


def abuse(folder: DataFolder, seed: int, associations: int, held_s: float = 8.0) -> Abuse:
    """All of it against a running stack whose modality RADLOOP is this machine."""
    began, told, port = time.monotonic(), Abuse(), folder.state().dicom_port
    watch = Watch(folder)
    before = watch.resident_mb()
    good = GoodClient(port, told)
    good.start()
    try:
        for name, hold in HELD.items():
            good.doing = name
            with _many(port, hold, told):
                time.sleep(held_s)
        good.doing = "deep nesting"
        _nest(port, told)
        good.doing = "mutated associations"
        _mutated(port, seed, associations, told)
    finally:
        good.stop()
    if echo(port) != 0:
        told.faults.append("no C-ECHO at the end")
    after = watch.pids()
    told.faults += [f"{name} died" for name, pid in watch.before.items() if after.get(name) != pid]
    told.peak_mb = watch.peaks_mb()
    told.faults += [
        f"{name}: {peak} MB" for name, peak in told.peak_mb.items() if peak > MOST_BYTES >> 20
    ]
    told.grown_mb = {name: now - before.get(name, 0) for name, now in watch.resident_mb().items()}
    told.faults += [
        f"{name} has grown by {more} MB"
        for name, more in told.grown_mb.items()
        if more > _MOST_GROWTH_MB
    ]
    told.seconds = round(time.monotonic() - began, 1)
    return told


# Sockets that are held open.

Hold = Callable[[socket.socket, threading.Event], None]
_REQUEST: Final = pdu(1, associate_body("RADLOOP", "RADLOOP", _CONTEXTS))


def _silent(_: socket.socket, __: threading.Event) -> None:
    """Nothing at all."""


def _half(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(_REQUEST[: len(_REQUEST) // 2])


def _four_gigabytes(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(struct.pack(">BBI", 1, 0, 0xFFFFFFFF) + bytes(1000))


def _dribble(connection: socket.socket, end: threading.Event) -> None:
    for byte in _REQUEST:
        connection.sendall(bytes((byte,)))
        if end.wait(1.0):
            return


def _associated(connection: socket.socket, _: threading.Event) -> None:
    """An association that then says nothing."""
    connection.sendall(_REQUEST)
    connection.recv(4096)


def _half_a_message(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(_REQUEST)
    connection.recv(4096)
    command = store_request(CT, _UID + ".1", 1)
    connection.sendall(data_pdus(3, command, command=True))
    connection.sendall(data_pdus(3, bytes(1 << 20), command=False)[:-100_000])


def _data_of_four_gigabytes(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(_REQUEST)
    connection.recv(4096)
    connection.sendall(struct.pack(">BBI", P_DATA, 0, 0xFFFFFFFF) + bytes(10_000))


def _dribbled_message(connection: socket.socket, end: threading.Event) -> None:
    connection.sendall(_REQUEST)
    connection.recv(4096)
    for byte in data_pdus(1, echo_request(1), command=True):
        connection.sendall(bytes((byte,)))
        if end.wait(1.0):
            return


def _large_halves(connection: socket.socket, end: threading.Event) -> None:
    """Thirty megabytes of a data set that never ends: memory is what this is after."""
    connection.sendall(_REQUEST)
    connection.recv(4096)
    connection.sendall(data_pdus(3, store_request(CT, _UID + ".2", 1), command=True))
    head = LITTLE.identity() + LITTLE.element(0x00091001, "OB", b"", 1 << 30)
    piece = data_pdus(3, head + bytes(1_000_000), command=False, size=1 << 20)
    # Not the last fragment, so that more must come.
    piece = piece[:11] + b"\0" + piece[12:]
    for _ in range(30):
        connection.sendall(piece)
        if end.is_set():
            return


HELD: Final[dict[str, Hold]] = {
    "silent sockets": _silent,
    "half requests": _half,
    "requests of four gigabytes": _four_gigabytes,
    "dribbled requests": _dribble,
    "silent associations": _associated,
    "half messages": _half_a_message,
    "data of four gigabytes": _data_of_four_gigabytes,
    "dribbled messages": _dribbled_message,
    "large half messages": _large_halves,
}


@contextmanager
def _many(port: int, hold: Hold, told: Abuse) -> Iterator[None]:
    end, threads, held = threading.Event(), [], []

    def one() -> None:
        with contextlib.suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", port), 20.0)
            held.append(connection)
            hold(connection, end)

    # Each of these brings thirty megabytes, and the machine has other things to do.
    for _ in range(_LARGE if hold is _large_halves else _SILENT):
        threads.append(threading.Thread(target=one, daemon=True))
        threads[-1].start()
        told.sockets += 1
    try:
        yield
    finally:
        end.set()
        for connection in held:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in threads:
            thread.join(5.0)


# Nested data sets, raw.


def _nest(port: int, told: Abuse) -> None:
    for number, depth in enumerate((1, 24, 25, 50, 3000, 30_000)):
        for writer, syntax in ((LITTLE, EXPLICIT), (PLAIN, IMPLICIT)):
            for is_open in (False, True):
                instance = f"{_UID}.{number + 1}.{int(is_open)}.{len(syntax)}"
                body = writer.identity(instance=instance, study=_UID)
                body += writer.nested(depth, 0x00400555, is_open=is_open)
                try:
                    with Scu(port, [(CT, syntax)]) as scu:
                        status, _ = scu.store(CT, instance, 1, body)
                except (BrokenOffError, RejectedError, TimeoutError) as error:
                    told.faults.append(f"depth {depth}: {error!r}")
                    continue
                told.answers[f"depth {'stored' if status == 0 else 'refused'}"] += 1
                if (status == 0) != (depth <= 24):
                    told.faults.append(f"depth {depth}: {status:#x}")


# Mutated associations.


def _mutated(port: int, seed: int, count: int, told: Abuse) -> None:
    generator = random.Random(seed)
    for _ in range(count):
        told.associations += 1
        message = MUTATIONS[generator.randrange(len(MUTATIONS))](generator)
        try:
            with socket.create_connection(("127.0.0.1", port), 10.0) as connection:
                connection.settimeout(0.02 if generator.random() < 0.9 else 0.2)
                connection.sendall(message)
                kind = connection.recv(4096)[:1]
                told.answers[f"PDU {kind[0]}" if kind else "closed"] += 1
                if kind == b"\2":
                    _talk(connection, generator)
        except TimeoutError:
            told.answers["silence"] += 1
        except OSError as error:
            told.answers[type(error).__name__] += 1


def _talk(connection: socket.socket, generator: random.Random) -> None:
    """An association came about: go on with something broken."""
    command = bytearray(
        echo_request(1) if generator.random() < 0.5 else store_request(CT, _UID + ".9", 1)
    )
    for _ in range(generator.randrange(4)):
        command[generator.randrange(len(command))] = generator.randrange(256)
    context = generator.choice((1, 3, 5, 7, 0, 255))
    said = bytearray(data_pdus(context, bytes(command), command=True))
    if generator.random() < 0.7:
        said += data_pdus(context, generator.randbytes(generator.randrange(600)), command=False)
    for _ in range(generator.randrange(6)):
        said[generator.randrange(len(said))] = generator.randrange(256)
    connection.sendall(bytes(said))
    connection.recv(4096)


def _flipped(generator: random.Random) -> bytes:
    out = bytearray(_REQUEST)
    for _ in range(generator.randrange(1, 12)):
        out[generator.randrange(len(out))] = generator.randrange(256)
    return bytes(out)


def _false_lengths(generator: random.Random) -> bytes:
    out = bytearray(_REQUEST)
    places = [at for at in range(74, len(out) - 4) if out[at] in (0x10, 0x20, 0x30, 0x40, 0x50)]
    for at in generator.sample(places, min(3, len(places))):
        out[at + 2 : at + 4] = struct.pack(">H", generator.choice((0, 1, 0xFFFF, 5, 300)))
    return bytes(out)


def _cut_or_long(generator: random.Random) -> bytes:
    if generator.random() < 0.5:
        return _REQUEST[: generator.randrange(1, len(_REQUEST))]
    length = generator.choice((0, 1, 67, 68, len(_REQUEST), 0x7FFFFFFF, 0xFFFFFFFF))
    return pdu(1, _REQUEST[6:], length) + generator.randbytes(generator.randrange(200))


def _spliced(generator: random.Random) -> bytes:
    one, two = sorted(generator.sample(range(74, len(_REQUEST)), 2))
    return pdu(1, _REQUEST[6:two] + _REQUEST[one:two] * generator.randrange(1, 40))


def _many_contexts(generator: random.Random) -> bytes:
    count = generator.choice((0, 128, 129, 256, 1000))
    return pdu(1, associate_body("RADLOOP", "RADLOOP", [(CT, EXPLICIT)] * count))


def _titles(generator: random.Random) -> bytes:
    titles = ("", " " * 16, "../../etc", "RADLOOP\\X", "\r\nRADLOOP", "\0" * 16, "ANY", "radloop")
    called, calling = generator.choices((*titles, "RADLOOP"), k=2)
    return pdu(1, associate_body(called, calling, _CONTEXTS))


def _uids(generator: random.Random) -> bytes:
    uids = ("", "1.2.3", "../x", "1" * 4000, "\0" * 20, "1.2\r\n", CT, "9" * 65)
    pairs = [(generator.choice(uids), generator.choice(uids)) for _ in range(3)]
    return pdu(1, associate_body("RADLOOP", "RADLOOP", pairs))


def _other_pdus(generator: random.Random) -> bytes:
    kind = generator.choice((0, 2, 3, P_DATA, RELEASE_RQ, ABORT, 8, 255))
    return pdu(kind, generator.randbytes(generator.randrange(100)))


def _noise(generator: random.Random) -> bytes:
    noise = (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\0\xa5\1\0\0\xa1",
        b"SSH-2.0-x\r\n",
        b"\n" * 99,
    )
    return generator.choice((*noise, generator.randbytes(400)))


def _good(_: random.Random) -> bytes:
    return _REQUEST


MUTATIONS: Final = (
    *(_flipped, _flipped, _false_lengths, _cut_or_long, _spliced, _many_contexts),
    *(_titles, _uids, _other_pdus, _noise, _good, _good),
)
