"""Answers that the kernel moves arrive as they were sent, or not to their end."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from dicom_services.api.dicomweb.pump import ClientGoneError, Pump
from dicom_services.errors import UnavailableError


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    return near, far


def multipart(bodies: list[bytes], end: bytes = b"--B--\r\n") -> bytes:
    parts = [
        b"--B\r\nContent-Type: application/dicom\r\nContent-Length: %d\r\n\r\n%b\r\n"
        % (len(body), body)
        for body in bodies
    ]
    return b"".join(parts) + end


def unchunked(text: bytes) -> bytes:
    body = b""
    while text:
        size, _, text = text.partition(b"\r\n")
        length = int(size, 16)
        assert text[length : length + 2] == b"\r\n"
        body, text = body + text[:length], text[length + 2 :]
    return body


def pumped(answer: bytes, first: int = 0, pieces: int = 1 << 30) -> bytes:
    """What the client gets when Orthanc sends `answer` and closes."""
    orthanc, source = pair()
    sink, client = pair()
    source.setblocking(False)
    sink.setblocking(False)
    got: list[bytes] = []

    def send() -> None:
        with orthanc:
            for start in range(first, len(answer), pieces):
                orthanc.sendall(answer[start : start + pieces])

    def read() -> None:
        while piece := client.recv(1 << 16):
            got.append(piece)

    threads = [threading.Thread(target=send), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    try:
        Pump(os.dup(source.fileno()), os.dup(sink.fileno()), answer[:first], "B").run()
    finally:
        source.close()
        sink.close()
        for thread in threads:
            thread.join()
        client.close()
    return b"".join(got)


BODIES = [
    [b""],
    [b"small"],
    [os.urandom(3 << 20)],
    [os.urandom(700_001), b"", os.urandom(99), os.urandom(1 << 20)],
    [b"--B\r\n\r\n--B--\r\n" * 5000],
]


@pytest.mark.parametrize("bodies", BODIES)
@pytest.mark.parametrize("first", [0, 10, 90, 5000])
def test_everything_arrives(bodies, first):
    answer = multipart(bodies)
    assert unchunked(pumped(answer, min(first, len(answer)))) == answer


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
def test_however_it_comes(size):
    answer = multipart([b"abc" * 700, b"", b"x"])
    assert unchunked(pumped(answer, pieces=size)) == answer


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        multipart([os.urandom(1 << 20)])[:-9],
        multipart([os.urandom(1 << 20)])[: 1 << 19],
        multipart([b"a"], end=b""),
        multipart([b"a"], end=b"--B--\r\nmore"),
        multipart([b"a"], end=b"--C--\r\n"),
        b"--B\r\nContent-Type: application/dicom\r\n\r\nno length\r\n--B--\r\n",
        b"--C\r\nContent-Length: 1\r\n\r\na\r\n--B--\r\n",
        b"x" * 100_000,
    ],
)
def test_what_is_not_whole_is_an_error(answer):
    with pytest.raises(UnavailableError, match="orthanc_broken_answer"):
        pumped(answer)


def test_a_client_who_leaves_ends_it():
    orthanc, source = pair()
    sink, client = pair()
    source.setblocking(False)
    sink.setblocking(False)

    def send() -> None:
        with contextlib.suppress(OSError):
            orthanc.sendall(multipart([bytes(64 << 20)]))

    thread = threading.Thread(target=send)
    thread.start()
    client.close()
    with pytest.raises(ClientGoneError):
        Pump(os.dup(source.fileno()), os.dup(sink.fileno()), b"", "B").run()
    for one in (source, sink, orthanc):
        one.close()
    thread.join()


def test_it_stops_when_told_and_leaves_no_descriptor():
    before = len([*Path("/proc/self/fd").iterdir()])
    orthanc, source = pair()
    sink, client = pair()
    source.setblocking(False)
    pump = Pump(os.dup(source.fileno()), os.dup(sink.fileno()), b"", "B")
    threading.Timer(0.2, pump.stop).start()
    begun = time.monotonic()
    with pytest.raises(ClientGoneError):
        pump.run()
    assert time.monotonic() - begun < 3
    Pump(os.dup(source.fileno()), os.dup(sink.fileno()), b"", "B").stop()
    for one in (orthanc, source, sink, client):
        one.close()
    time.sleep(0.3)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
