"""The application over raw ASGI, before an archive that breaks in every way."""

from __future__ import annotations

import asyncio
import gzip
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from dicom_services.access.patients import PatientKeys
from dicom_services.api.dicomweb.app import dicomweb_app
from dicom_services.errors import UnavailableError

SERIES = "/dicom-web/studies/1.2/series/1.3"
HEAD = (
    b'HTTP/1.1 200 OK\r\nContent-Type: multipart/related; type="application/dicom"; boundary=B\r\n'
)
BODY = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + bytes(100_000) + b"\r\n--B--\r\n"


class Call:
    """One request and what came of it."""

    def __init__(self, home, port: int, path: str = SERIES, **more: Any) -> None:
        word = home / "word"
        word.write_text("word")
        word.chmod(0o600)
        config = SimpleNamespace(
            orthanc_url=f"http://127.0.0.1:{port}",
            orthanc_user="radloop",
            orthanc_password=word,
            secure=more.pop("secure", False),
            object_scale=1.0,
            quarantine=home,
            quarantine_bytes=0,
            quarantine_records=1,
        )
        self.app = dicomweb_app(SimpleNamespace(config=config, patient_keys=PatientKeys(bytes(32))))
        self.scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "http_version": "1.1",
            "scheme": "http",
            "headers": [(b"host", b"viewer.example:8443")],
            "state": {
                "correlation": "0123456789abcdef",
                "principal": SimpleNamespace(user=UUID(int=1)),
            },
        } | more
        self.left = asyncio.Event()
        self.messages: list[dict] = []

    async def receive(self) -> dict:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.messages.append(message)

    async def run(self) -> None:
        async with asyncio.timeout(20):
            await self.app(self.scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def is_whole(self) -> bool:
        return not self.messages[-1].get("more_body", False)


def called(home, answer, check=None, **more: Any) -> Call:
    """A call to an archive that answers with `answer` and closes."""
    seen: list[bytes] = []

    async def main() -> Call:
        async def serve(reader, writer) -> None:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        call = Call(home, server.sockets[0].getsockname()[1], **more)
        try:
            await call.run()
        except UnavailableError as error:
            call.error = error
        finally:
            server.close()
        return call

    call = asyncio.run(main())
    call.seen = seen
    return call


def test_an_answer_up_to_the_end_of_the_connection_is_passed_on(tmp_path):
    call = called(tmp_path, HEAD + b"\r\n" + BODY)
    assert call.status == 200
    assert call.body == BODY
    assert call.is_whole
    assert call.headers[b"cache-control"] == b"no-store"


@pytest.mark.parametrize("cut", [1, 5, 9, 5000, 99_999])
def test_without_its_closing_delimiter_it_is_broken_off(tmp_path, cut):
    call = called(tmp_path, HEAD + b"\r\n" + BODY[: -cut - 2])
    assert call.error.code == "orthanc_broken_answer"
    assert not call.is_whole


def test_shorter_than_its_length_it_is_broken_off(tmp_path):
    call = called(tmp_path, HEAD + b"Content-Length: 99999999\r\n\r\n" + BODY)
    assert call.error.code == "orthanc_broken_answer"
    assert not call.is_whole


def test_an_old_client_could_not_tell_a_break_from_the_end(tmp_path):
    call = called(tmp_path, HEAD + b"\r\n" + BODY, http_version="1.0")
    assert call.status == 505


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (b"", 503, b"orthanc_broken_answer"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, b"object_unknown"),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", 406, b"not_available_so"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", 503, b"orthanc_login"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nDoe^J!", 502, b"archive_failed"),
    ],
)
def test_what_goes_wrong_before_the_first_byte_is_a_problem(tmp_path, answer, status, code):
    call = called(tmp_path, answer)
    assert call.status == status
    assert code in call.body
    assert b"Doe" not in call.body
    assert call.headers[b"content-type"] == b"application/problem+json"
    if status == 503:
        assert int(call.headers[b"retry-after"]) > 0


def test_an_archive_that_is_away_is_a_problem(tmp_path):
    call = Call(tmp_path, 1)
    asyncio.run(call.run())
    assert call.status == 503
    assert b"orthanc_unreachable" in call.body


@pytest.mark.parametrize(("secure", "scheme"), [(True, b"https"), (False, b"http")])
def test_the_archive_learns_by_which_address_we_were_called(tmp_path, secure, scheme):
    call = called(tmp_path, HEAD + b"\r\n" + BODY, secure=secure)
    assert b"Forwarded: host=viewer.example:8443;proto=" + scheme + b"\r\n" in call.seen[0]
    assert b"transfer-syntax=*" in call.seen[0]


def test_a_hostile_host_goes_no_further(tmp_path):
    call = called(tmp_path, HEAD + b"\r\n" + BODY, headers=[(b"host", b"a;proto=ftp, for=x")])
    assert b"Forwarded" not in call.seen[0]


@pytest.mark.parametrize("query", [b"_method=DELETE", b"quality=1&annotation=patient", b"x"])
def test_renderings_take_no_other_arguments(tmp_path, query):
    path = f"{SERIES}/instances/1.4/rendered"
    call = Call(tmp_path, 1, path, query_string=query)
    asyncio.run(call.run())
    assert call.status == 400


def test_a_client_who_leaves_ends_the_request_to_the_archive(tmp_path):
    async def main() -> None:
        left = asyncio.Event()

        async def serve(reader, writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + b"\r\n--B\r\n\r\n")
            try:
                while True:
                    writer.write(bytes(1 << 16))
                    await writer.drain()
                    await asyncio.sleep(0.01)
            except OSError:
                left.set()
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        call = Call(tmp_path, server.sockets[0].getsockname()[1])
        asyncio.get_running_loop().call_later(0.2, call.left.set)
        await call.run()
        assert not call.is_whole
        await asyncio.wait_for(left.wait(), 5)
        server.close()

    asyncio.run(main())


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH"])
def test_other_methods_are_not_there(tmp_path, method):
    call = Call(tmp_path, 1, method=method)
    asyncio.run(call.run())
    assert call.status == 405


JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"
GZIP = [(b"host", b"localhost"), (b"accept-encoding", b"br;q=0, gzip")]


def test_long_metadata_are_packed_for_who_unpacks_them(tmp_path):
    text = b"[" + b'{"00080005": "ISO_IR 192"},' * 50_000 + b"]"
    answer = JSON_HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text
    call = called(tmp_path, answer, path=f"{SERIES}/metadata", headers=GZIP)
    assert call.headers[b"content-encoding"] == b"gzip"
    assert b"content-length" not in call.headers
    assert gzip.decompress(call.body) == text
    assert len(call.body) < len(text) // 20
    plain = called(tmp_path, answer, path=f"{SERIES}/metadata")
    assert plain.body == text
    assert b"content-encoding" not in plain.headers
    images = called(tmp_path, HEAD + b"\r\n" + BODY, headers=GZIP)
    assert b"content-encoding" not in images.headers


def test_packed_metadata_that_break_off_are_broken_off(tmp_path):
    answer = JSON_HEAD + b"Content-Length: 9999999\r\n\r\n" + b"[" * 500_000
    call = called(tmp_path, answer, path=f"{SERIES}/metadata", headers=GZIP)
    assert call.error.code == "orthanc_broken_answer"
    assert not call.is_whole


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (b"accept=image/png", b"Accept: image/png\r\n"),
        (b"accept=image%2Fpng&quality=90", b"Accept: image/png\r\n"),
        (b"quality=90", b"Accept: image/jpeg\r\n"),
    ],
)
def test_an_address_may_say_what_is_accepted(tmp_path, query, asked):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    path = f"{SERIES}/instances/1.4/rendered"
    call = called(tmp_path, answer, path=path, query_string=query)
    assert call.status == 200
    assert asked in call.seen[0]
    assert b"accept=" not in call.seen[0]
    assert (b"?quality=90" in call.seen[0]) == (b"quality" in query)
