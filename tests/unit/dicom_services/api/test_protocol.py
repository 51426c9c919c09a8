"""Slow and hostile clients of a real server: bounded, let go, and in nobody's way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn

from dicom_services.api import protocol
from dicom_services.api.protocol import PatientProtocol

LARGE = 64 << 20
ended = threading.Event()
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


async def echo(scope, receive, send):
    """Says how much came; or very much, if asked for it."""
    got = 0
    while True:
        message = await receive()
        got += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"x" * LARGE if scope["path"] == "/large" else str(got).encode()
    length = str(len(body)).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for at in range(0, len(body), 1 << 20):
        piece = body[at : at + (1 << 20)]
        more = at + len(piece) < len(body)
        await send({"type": "http.response.body", "body": piece, "more_body": more})
    ended.set()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that has little patience."""
    for name, seconds in (("HEADER_S", 0.5), ("BODY_S", 0.5), ("TAKE_S", 0.5), ("_LOOK_S", 0.1)):
        monkeypatch.setattr(protocol, name, seconds)
    config = uvicorn.Config(echo, http=PatientProtocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        until(lambda: server.started)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20.0)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextlib.contextmanager
def line_to(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20.0) as line:
        yield line


def rest(line: socket.socket) -> bytes:
    """Whatever comes until the server closes."""
    told = b""
    with contextlib.suppress(ConnectionError):
        while piece := line.recv(1 << 20):
            told += piece
    return told


def read_to(line: socket.socket, end: bytes) -> None:
    """One answer, which ends so."""
    told = b""
    while not told.endswith(end):
        piece = line.recv(1)
        assert piece, told
        told += piece


def push(line: socket.socket, piece: bytes, most: int) -> bytes:
    """Send `piece` again and again until the server has had enough; its answer."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < most:
            line.sendall(piece)
            sent += len(piece)
    assert sent < most
    return rest(line)


@pytest.mark.parametrize("said", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: local"])
def test_who_does_not_say_what_they_want_is_let_go(port, said):
    with line_to(port) as line:
        line.sendall(said)
        assert rest(line).startswith(b"HTTP/1.1 408 ")


def test_header_byte_by_byte_does_not_buy_time(port):
    begun = time.monotonic()
    with line_to(port) as line, contextlib.suppress(ConnectionError):
        line.sendall(b"GET / HTTP/1.1\r\nX: ")
        while time.monotonic() - begun < 15.0:
            line.sendall(b"a")
            time.sleep(0.1)
    assert time.monotonic() - begun < 10.0


def test_body_that_stops_is_let_go(port):
    with line_to(port) as line:
        line.sendall(HEAD + b"Content-Length: 10\r\n\r\nhalf")
        assert rest(line).startswith(b"HTTP/1.1 408 ")


def test_who_takes_nothing_of_an_answer_is_let_go(port):
    ended.clear()
    with line_to(port) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # Nothing is read, and yet the server is done with it.
        assert ended.wait(15.0)


def test_patient_clients_are_served(port):
    with line_to(port) as line:
        line.sendall(HEAD + b"Content-Length: 3\r\n\r\n")
        for byte in (b"a", b"b", b"c"):
            time.sleep(0.25)
            line.sendall(byte)
        read_to(line, b"\r\n\r\n3")
        # Between two requests nobody is hurried by what holds within one.
        time.sleep(1.0)
        line.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n")
        read_to(line, b"\r\n\r\n2")
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        for _ in range(3):
            read_to(line, b"\r\n\r\n0")


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /" + b"a" * 100, b"a" * 10_000),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * 10_000),
        (b"GET / HTTP/1.1\r\n", b"X: a\r\n" * 2_000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"T: a\r\n" * 2_000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nT: ", b"a" * 10_000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;", b"x" * 10_000),
    ],
    ids=["address", "header", "headers", "trailers", "trailer", "chunk extension"],
)
def test_nothing_is_collected_without_end(port, start, piece):
    with line_to(port) as line:
        line.sendall(start)
        answer = push(line, piece, 50_000_000)
        assert answer[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400", b"HTTP/1.1 200", b"")


def test_silent_crowd_is_in_nobodys_way(port):
    with contextlib.ExitStack() as crowd:
        for _ in range(100):
            crowd.enter_context(line_to(port)).sendall(HEAD)
        with line_to(port) as line:
            begun = time.monotonic()
            line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert line.recv(100).startswith(b"HTTP/1.1 200")
            assert time.monotonic() - begun < 2.0
