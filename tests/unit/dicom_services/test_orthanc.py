"""The HTTP client against a server that answers whatever a test needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dicom_services.errors import AccessError, InputError, MissingError, UnavailableError
from dicom_services.orthanc import Orthanc

ID = "00000000-11111111-22222222-33333333-44444444"
OTHER = "55555555-11111111-22222222-33333333-44444444"
STORED = {"00081199": {"vr": "SQ", "Value": [{}, {}]}}


class FakeOrthanc(ThreadingHTTPServer):
    """Answers every request with `status` and `body`, after breaking `breaks` connections."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.breaks = 200, b"{}", 0
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: FakeOrthanc
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        if self.server.breaks:
            self.server.breaks -= 1
            self.close_connection = True
            self.connection.close()
            return
        answer = self.server.body or self.path.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError, ValueError):
            super().handle()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()


@pytest.fixture
def server() -> Iterator[FakeOrthanc]:
    made = FakeOrthanc()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def orthanc(server) -> Iterator[Orthanc]:
    with Orthanc(f"http://127.0.0.1:{server.server_address[1]}", "u", "p", timeout_s=2.0) as made:
        yield made


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, AccessError, "orthanc_login"),
        (403, AccessError, "orthanc_login"),
        (404, MissingError, "orthanc_missing"),
        (400, InputError, "orthanc_refused"),
        (409, InputError, "orthanc_refused"),
        (500, UnavailableError, "orthanc_failed"),
        (503, UnavailableError, "orthanc_failed"),
    ],
)
def test_every_status_becomes_one_of_our_errors(server, orthanc, status, kind, code):
    server.status, server.body = status, b"PatientName=Secret"
    with pytest.raises(kind) as caught:
        orthanc.system()
    assert caught.value.code == code
    assert "Secret" not in str(caught.value)


def test_nobody_listening_is_unavailable():
    with (
        Orthanc("http://127.0.0.1:1", "u", "p") as nobody,
        pytest.raises(UnavailableError, match="orthanc_unreachable"),
    ):
        nobody.system()


def test_answer_that_is_not_json_is_unavailable(server, orthanc):
    server.body = b"<html>"
    with pytest.raises(UnavailableError, match="orthanc_broken_answer"):
        orthanc.system()


def test_broken_connection_is_tried_again_where_that_repeats_nothing(server, orthanc):
    server.breaks = 2
    assert orthanc.system() == {}
    assert len(server.requests) == 3


def test_post_is_not_repeated_unless_it_may_be(server, orthanc):
    server.breaks = 1
    with pytest.raises(UnavailableError, match="orthanc_broken_answer"):
        orthanc.post_json("/radloop/series/x/run/y", {})
    assert len(server.requests) == 1


def test_fetching_keeps_the_order_and_asks_for_no_compression(server, orthanc):
    server.body = b""
    assert orthanc.fetch([ID, OTHER, ID]) == [
        f"/instances/{name}/file".encode() for name in (ID, OTHER, ID)
    ]
    assert {headers["Accept-Encoding"] for _, _, headers, _ in server.requests} == {"identity"}


def test_fetching_ends_at_the_first_failure(server, orthanc):
    server.status = 404
    with pytest.raises(MissingError):
        orthanc.fetch([ID] * 50)


@pytest.mark.parametrize(
    "name", ["", "..", "../modalities", ID + "/x", ID.upper() + "\n", "1" * 44]
)
def test_only_an_orthanc_id_becomes_part_of_a_path(server, orthanc, name):
    with pytest.raises(MissingError, match="orthanc_id"):
        orthanc.instances_of(name)
    assert server.requests == []


def test_stored_files_travel_in_one_request_in_their_own_bytes(server, orthanc):
    server.body = json.dumps(STORED).encode()
    assert orthanc.stow([b"one\r\n--x", b"two"]) == 2
    ((command, path, headers, body),) = server.requests
    assert (command, path) == ("POST", "/dicom-web/studies")
    boundary = headers["Content-Type"].rpartition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)
    head = b"\r\nContent-Type: application/dicom\r\n\r\n"
    assert parts == [b"", head + b"one\r\n--x\r\n", head + b"two\r\n", b"--\r\n"]


def test_nothing_to_store_asks_nothing(server, orthanc):
    assert orthanc.stow([]) == 0
    assert server.requests == []


@pytest.mark.parametrize(
    ("reason", "kind", "code"),
    [
        (0xA700, UnavailableError, "stow_failed"),
        (0x0110, UnavailableError, "stow_failed"),
        (0xC000, InputError, "stow_refused"),
        (0x0122, InputError, "stow_refused"),
    ],
)
@pytest.mark.parametrize("status", [200, 409])
def test_failed_instance_is_never_a_success(server, orthanc, reason, kind, code, status):
    failed = [{"00081197": {"vr": "US", "Value": [reason]}}]
    told = {"00081199": {"vr": "SQ", "Value": [{}]}, "00081198": {"vr": "SQ", "Value": failed}}
    server.status, server.body = status, json.dumps(told).encode()
    with pytest.raises(kind) as caught:
        orthanc.stow([b"one", b"two"])
    assert caught.value.code == code
    assert caught.value.facts == {"failed": 1, "of": 2, "reason": reason}


def test_instance_that_the_answer_forgets_is_never_a_success(server, orthanc):
    server.body = json.dumps(STORED).encode()
    with pytest.raises(UnavailableError, match="stow_failed"):
        orthanc.stow([b"one", b"two", b"three"])


def test_proxy_of_the_environment_sees_no_images(server, orthanc, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    port = server.server_address[1]
    with Orthanc(f"http://127.0.0.1:{port}", "u", "p") as ours:
        assert ours.system() == {}


def test_what_is_kept_beside_a_resource_comes_back_and_may_be_absent(server, orthanc):
    orthanc.attach("instances", ID, "radloop-findings", b"\x1f\x8b")
    server.body = b"\x1f\x8b"
    assert orthanc.attachment("instances", ID, "radloop-findings") == b"\x1f\x8b"
    assert [one[:2] for one in server.requests] == [
        ("PUT", f"/instances/{ID}/attachments/radloop-findings"),
        ("GET", f"/instances/{ID}/attachments/radloop-findings/data"),
    ]
    assert server.requests[0][3] == b"\x1f\x8b"
    server.status = 404
    assert orthanc.attachment("instances", ID, "radloop-findings") is None
