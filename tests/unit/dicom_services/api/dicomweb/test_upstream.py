"""What comes from the archive is passed on whole or not at all."""

from __future__ import annotations

import asyncio
import time

import pytest

from dicom_services.api.dicomweb.single_part import SinglePart
from dicom_services.api.dicomweb.upstream import Upstream
from dicom_services.errors import UnavailableError


class Archive:
    """Answers each request on a connection with the next of its scripts, then closes or waits."""

    def __init__(self, *scripts, linger_s=0.0):
        self.scripts = list(scripts)
        self.linger_s = linger_s
        self.requests = []
        self.connections = 0
        self.left = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.upstream = Upstream(
            f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}", "user", "word"
        )
        return self

    async def __aexit__(self, *_):
        await self.upstream.close()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while self.scripts:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Content-Length: " in head:
                    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                    head += await reader.readexactly(length)
                self.requests.append(head)
                answer = self.scripts.pop(0)
                for piece in answer if isinstance(answer, list) else [answer]:
                    writer.write(piece)
                    await writer.drain()
                if b"Connection: close" in (answer if isinstance(answer, bytes) else answer[0]):
                    break
            await asyncio.sleep(self.linger_s)
        except (OSError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()


def run(main):
    async def whole():
        async with asyncio.timeout(20):
            return await main()

    return asyncio.run(whole())


def plain(body, more=b""):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), more, body)


async def body_of(upstream, path="/x"):
    async with await upstream.request("GET", path, {"Accept": "*/*"}) as answer:
        return await answer.whole(1 << 30)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (plain(b"hello"), b"hello"),
        (plain(b""), b""),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end", b"to the end"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
            b"hello!",
        ),
        ([b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 3\r\n\r\na", b"b", b"c"], b"abc"),
    ],
)
def test_a_body_arrives_in_every_framing(answer, body):
    async def main():
        async with Archive(answer) as archive:
            assert await body_of(archive.upstream) == body

    run(main)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\ntoo much",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000,
    ],
)
def test_half_an_answer_is_an_error(answer):
    async def main():
        async with Archive(answer) as archive:
            with pytest.raises(UnavailableError, match="orthanc_broken_answer"):
                await body_of(archive.upstream)

    run(main)


def test_an_archive_that_is_away_is_said_to_be():
    async def main():
        upstream = Upstream("http://127.0.0.1:1", "user", "word")
        with pytest.raises(UnavailableError, match="orthanc_unreachable"):
            await body_of(upstream)

    run(main)


def test_connections_are_used_again_but_not_after_they_may_have_been_closed():
    async def main():
        async with Archive(plain(b"1"), plain(b"2"), plain(b"3"), linger_s=5.0) as archive:
            assert await body_of(archive.upstream) == b"1"
            assert await body_of(archive.upstream) == b"2"
            assert archive.connections == 1
            await asyncio.sleep(0.8)
            assert await body_of(archive.upstream) == b"3"
            assert archive.connections == 2

    run(main)


def test_a_connection_closed_between_two_requests_is_no_error():
    async def main():
        async with Archive(
            plain(b"1", b"Connection: close\r\n".replace(b"close", b"keep-alive"))
        ) as archive:
            assert await body_of(archive.upstream) == b"1"
            archive.scripts.append(plain(b"2"))
            await asyncio.sleep(0.1)
            assert await body_of(archive.upstream) == b"2"

    run(main)


def test_an_archive_waits_for_a_reader_who_does_not_read():
    async def main():
        sent = 0

        async def serve(reader, writer):
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (200 << 20))
            try:
                for _ in range(200):
                    writer.write(bytes(1 << 20))
                    await writer.drain()
                    sent += 1
            except OSError:
                pass
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "u", "w")
        async with await upstream.request("GET", "/x", {}) as answer:
            await answer.read()
            await asyncio.sleep(0.5)
            assert sent < 60
        server.close()

    run(main)


def test_an_answer_that_nobody_wants_any_more_ends_the_connection():
    async def main():
        whole = [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"] + [bytes(1 << 20)] * 90
        async with Archive(whole) as archive:
            async with await archive.upstream.request("GET", "/x", {}) as answer:
                await answer.read()
            await archive.left.wait()

    run(main)


def test_a_request_cannot_be_split():
    async def main():
        async with Archive(plain(b"")) as archive:
            for path, headers in (("/a b", {}), ("/a\r\nX: y", {}), ("/", {"A": "b\r\nC: d"})):
                with pytest.raises(ValueError, match="no line"):
                    await archive.upstream.request("GET", path, headers)

    run(main)


def test_no_more_than_so_many_are_under_way_at_once():
    async def main():
        held = 0
        most = 0

        async def serve(reader, writer):
            nonlocal held, most
            await reader.readuntil(b"\r\n\r\n")
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.05)
            held -= 1
            writer.write(plain(b"x", b"Connection: close\r\n"))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "u", "w")
        begun = time.monotonic()
        await asyncio.gather(*(body_of(upstream) for _ in range(100)))
        assert most <= 32
        assert time.monotonic() - begun < 10
        server.close()

    run(main)


def multipart(body, end=b"\r\n--B--\r\n"):
    text = b"--B\r\nContent-Type: image/x; transfer-syntax=1.2\r\n\r\n" + body + end
    return plain(text, b'Content-Type: multipart/related; type="image/x"; boundary=B\r\n')


async def single(answer):
    async with Archive(answer) as archive, await archive.upstream.request("GET", "/x", {}) as got:
        part = await SinglePart.open(got)
        body = b""
        while piece := await part.read():
            body += piece
        return part.kind, part.length, body


@pytest.mark.parametrize("body", [b"", b"a", b"\r\n--B", bytes(3 << 20)])
def test_one_part_is_taken_out_exactly(body):
    kind, length, got = run(lambda: single(multipart(body)))
    assert (kind, length, got) == ("image/x; transfer-syntax=1.2", len(body), body)


def test_more_than_one_part_is_an_error():
    with pytest.raises(UnavailableError, match="orthanc_broken_answer"):
        run(lambda: single(multipart(b"a", b"\r\n--B\r\n\r\nb\r\n--C--\r\n")))
