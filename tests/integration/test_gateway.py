"""The gateway of a real stack: login, guard, viewer, Explorer, slow clients, crashes and stops."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from dicom_services.data_folder import DataFolder
from dicom_services.orthanc import Orthanc
from dicom_services.stack import connect
from tests.dicom_files import ct_slice, to_bytes
from tests.integration.conftest import PROFILE, SENDER, Stack
from tests.pacs import until

PASSWORD = "Correct-Horse-Battery-9"
NAME = "KANARIENVOGEL^KARLA"
PAGE = "<!doctype html><script>window.viewer = 1</script><div id=root></div>"
STUDY, OTHER = "1.2.826.0.1.3680043.10.88.1", "1.2.826.0.1.3680043.10.88.2"


def profile(folder: Path, gateway: str) -> Path:
    """The development profile with a gateway of its own and a small viewer."""
    viewer = folder / "viewer"
    viewer.mkdir(exist_ok=True)
    (viewer / "index.html").write_text(PAGE)
    (viewer / "app.0123456789abcdef.js").write_text("window.app = 1;")
    # Far from the usual ports, for other stacks may start on this machine at the same moment.
    http = 20_000 + 20 * (os.getpid() % 500)
    ports = "\n".join(
        f"{name} = {http + number}"
        for number, name in enumerate(("http", "dicom", "redis", "gateway"))
    )
    path = folder / "profile.toml"
    path.write_text(
        f"{PROFILE.read_text()}\n[ports]\n{ports}\n"
        f'[gateway]\nviewer = "{viewer}"\nupload_gb = 0.02\n{gateway}\n'
    )
    return path


@contextlib.contextmanager
def running(folder: Path, gateway: str) -> Iterator[Stack]:
    data = DataFolder(folder / "data")
    command = Stack(data, Orthanc("http://127.0.0.1:1", "", ""), profile(folder, gateway))
    try:
        command.radloop("up")
        (folder / "password").write_text(PASSWORD + "\n")
        for name, role in (("ada", "admin"), ("rita", "radiologist"), ("carl", "clinician")):
            options = ("--all-patients",) if role == "radiologist" else ()
            secret = ("--password-file", str(folder / "password"))
            command.radloop("users", "add", name, "--role", role, *secret, *options)
        with connect(data, data.state()) as orthanc:
            yield replace(command, orthanc=orthanc)
    finally:
        command.orthanc.close()
        command.radloop("down")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("gateway")
    with running(folder, 'names = ["viewer.clinic"]') as stack:
        stack.radloop("modality", "add", SENDER, "127.0.0.1", "11112")
        for study, patient in ((STUDY, "P-1"), (OTHER, "P-2")):
            for number in range(2):
                store(stack, ct(study, patient, number))
        yield stack


def ct(study: str, patient: str, number: int) -> bytes:
    ds = ct_slice(np.zeros((16, 16), np.int16), number, 3.0 * number)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.1"
    ds.SOPInstanceUID = f"{study}.1.{number + 1}.{len(patient)}{patient[-1]}"
    ds.PatientID, ds.PatientName = patient, NAME
    return to_bytes(ds)


def store(stack: Stack, file: bytes) -> None:
    stack.orthanc.stow([file])


def port_of(stack: Stack) -> int:
    return stack.state.gateway_port


@contextlib.contextmanager
def client(
    stack: Stack, name: str = "", scheme: str = "http", **more: Any
) -> Iterator[httpx.Client]:
    """A browser: with this user's session if one is named."""
    origin = f"{scheme}://localhost:{port_of(stack)}"
    headers = {"Origin": origin}
    with httpx.Client(
        base_url=origin, headers=headers, timeout=30.0, trust_env=False, **more
    ) as made:
        if name:
            answer = made.post("/api/login", json={"name": name, "password": PASSWORD})
            assert answer.status_code == 200, answer.text
            made.headers["X-CSRF-Token"] = answer.json()["csrf"]
        yield made


@pytest.fixture(scope="module")
def ada(stack: Stack) -> Iterator[httpx.Client]:
    with client(stack, "ada") as made:
        yield made


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Iterator[httpx.Client]:
    with client(stack, "rita") as made:
        yield made


@pytest.fixture(scope="module")
def carl(stack: Stack) -> Iterator[httpx.Client]:
    with client(stack, "carl") as made:
        yield made


def raw(port: int, request: bytes, limit_s: float = 10.0) -> bytes:
    """What the gateway answers to these bytes, until it closes or falls silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as line:
        line.sendall(request)
        told = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while piece := line.recv(65536):
                told += piece
                if b"\r\n\r\n" in told:
                    break
        return told


# Who gets in.


def test_up_and_status_show_the_viewers_address(stack):
    assert stack.status()["viewer"] == f"http://localhost:{port_of(stack)}"
    assert f"http://localhost:{port_of(stack)}" in stack.radloop("status")
    assert httpx.get(f"http://localhost:{port_of(stack)}/api/health").json()["status"] == "ok"


def test_one_time_code_of_the_command_line_logs_in_once(stack):
    told = stack.radloop("users", "add", "demo", "--role", "radiologist", "--code")
    code = told.split()[-1]
    with client(stack) as browser:
        first = browser.post("/api/login", json={"name": "demo", "code": code})
        assert first.status_code == 200
        assert browser.get("/api/session").json() == first.json()
        again = browser.post("/api/login", json={"name": "demo", "code": code})
        assert (again.status_code, again.json()["code"]) == (401, "login_refused")


def test_logout_and_a_disabled_account_end_a_session_within_a_second(stack):
    with client(stack, "carl") as browser:
        assert browser.get("/dicom-web/studies").status_code == 200
        assert browser.post("/api/logout").status_code == 204
        assert browser.get("/dicom-web/studies").status_code == 401
    told = stack.radloop("users", "add", "gone", "--role", "doctor", "--code")
    with client(stack) as browser:
        browser.post("/api/login", json={"name": "gone", "code": told.split()[-1]})
        assert browser.get("/api/session").status_code == 200
        stack.radloop("users", "disable", "gone")
        time.sleep(1.1)
        assert browser.get("/api/session").status_code == 401


def test_person_is_led_through_the_login_to_where_they_wanted(stack):
    with client(stack) as browser:
        page = {"Accept": "text/html"}
        sent = browser.get("/viewer?StudyInstanceUIDs=1.2", headers=page)
        assert sent.status_code == 303
        assert sent.headers["location"] == "/login?next=/viewer%3FStudyInstanceUIDs%3D1.2"
        login = browser.get(sent.headers["location"], headers=page)
        assert "rl-login-submit" in login.text
        assert "script-src 'self';" in login.headers["content-security-policy"]


# The viewer's files.


def test_viewer_is_served_with_its_places_and_its_policy(stack, rita):
    for place in ("/", "/viewer?StudyInstanceUIDs=1.2", "/a/b"):
        answer = rita.get(place, headers={"Accept": "text/html"})
        assert (answer.status_code, answer.text) == (200, PAGE)
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert "'sha256-" in answer.headers["content-security-policy"]
    script = rita.get("/app.0123456789abcdef.js")
    assert "immutable" in script.headers["cache-control"]
    tag = {"If-None-Match": script.headers["etag"]}
    assert rita.get("/app.0123456789abcdef.js", headers=tag).status_code == 304
    assert rita.get("/none.js").status_code == 404


def test_metadata_are_compressed_and_images_are_not(stack, rita):
    told = rita.get(f"/dicom-web/studies/{STUDY}/metadata")
    assert told.headers["content-encoding"] == "gzip"
    assert len(told.json()) == 2
    images = rita.get(
        f"/dicom-web/studies/{STUDY}",
        headers={"Accept": 'multipart/related; type="application/dicom"'},
    )
    assert images.status_code == 200
    assert "content-encoding" not in images.headers


# The guard.


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /api/health HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET /api/health HTTP/1.1\r\nHost: viewer.clinic\r\n\r\n", b"200"),
        (b"GET /api/health HTTP/1.0\r\n\r\n", b"421"),
        (b"GET http://evil.example/api/health HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET /api/../api/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /api/%2e%2e/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /api%2Fhealth%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"TRACE /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"OPTIONS /api/health HTTP/1.1\r\nHost: localhost\r\nOrigin: https://e\r\n\r\n", b"204"),
        (b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", b"400"),
        (b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
         b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n", b"200"),
        (b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
        (b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
    ],
)  # fmt: skip
def test_odd_requests_get_plain_answers(stack, head, status):
    told = raw(port_of(stack), head)
    assert told.split(b" ")[1] == status, told[:200]
    assert b"access-control" not in told.lower()


def test_override_of_a_method_deletes_nothing(stack, ada):
    name = stack.orthanc.find("studies", {"StudyInstanceUID": OTHER})[0]
    path = f"/explorer/studies/{name}"
    assert ada.get(path, params={"_method": "DELETE"}).status_code == 400
    assert ada.get(path, headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 400
    assert ada.get(path).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
def test_other_origins_may_change_nothing(stack, ada, origin):
    name = stack.orthanc.find("studies", {"StudyInstanceUID": OTHER})[0]
    for method, path in (
        ("DELETE", f"/explorer/studies/{name}"),
        ("POST", "/dicom-web/studies"),
        ("POST", "/api/logout"),
        ("POST", "/api/login"),
    ):
        answer = ada.request(method, path, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["code"]) == (403, "origin_foreign")
    assert ada.get("/api/session").status_code == 200


def test_foreign_study_is_as_absent_as_one_that_is_not_there(stack, carl):
    stack.radloop("users", "assign", "carl", "--study", STUDY)
    time.sleep(1.1)
    assert carl.get(f"/dicom-web/studies/{STUDY}/metadata").status_code == 200
    told, seconds = [], {OTHER: [], "1.2.3.4": []}
    for _ in range(10):
        for uid in (OTHER, "1.2.3.4"):
            begun = time.monotonic()
            answer = carl.get(f"/dicom-web/studies/{uid}/metadata")
            seconds[uid].append(time.monotonic() - begun)
            told.append({**answer.json(), "correlation": ""})
    assert all(one == told[0] for one in told)
    assert (told[0]["status"], told[0]["code"]) == (404, "study_unknown")
    foreign, absent = (sorted(found)[5] for found in seconds.values())
    assert foreign / absent == pytest.approx(1.0, abs=0.2)


def test_study_of_two_patients_is_nobodys(stack, rita):
    shared = "1.2.826.0.1.3680043.10.88.7"
    store(stack, ct(shared, "P-1", 0))
    store(stack, ct(shared, "P-2", 1))
    assert len(stack.orthanc.find("studies", {"StudyInstanceUID": shared})) == 2
    assert rita.get(f"/dicom-web/studies/{shared}/metadata").status_code == 404


def test_too_large_headers_and_bodies_are_refused(stack, rita):
    port = port_of(stack)
    head = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n"
    assert b" 431 " in raw(port, head + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n")
    assert b" 431 " in raw(port, head + b"X-A: " + b"a" * 400_000)
    assert b" 431 " in raw(port, head + b"".join(b"X-%d: 1\r\n" % n for n in range(40_000)))
    login = rita.post("/api/login", content=b"{" + b" " * 100_000)
    assert (login.status_code, login.json()["code"]) == (413, "body_too_large")

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    assert rita.post("/api/login", content=endless()).status_code == 413
    packed = rita.post("/api/login", content=b"x", headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415
    upload = rita.post(
        "/dicom-web/studies",
        content=b"x" * 25_000_000,
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'},
    )
    assert upload.status_code == 413


def test_slow_clients_hold_up_nobody_and_are_let_go(stack):
    port = port_of(stack)
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    deaf = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    try:
        for line in silent[30:]:
            line.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        for line in stalled:
            line.sendall(
                b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000\r\n\r\n{"
            )
        for line in deaf:
            line.sendall(b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        with client(stack) as browser:
            for _ in range(20):
                begun = time.monotonic()
                assert browser.get("/api/health").status_code == 200
                assert time.monotonic() - begun < 2.0
        silent[0].settimeout(25.0)
        assert silent[0].recv(100)[:12] in (b"HTTP/1.1 408", b"")
        silent[40].settimeout(5.0)
        assert silent[40].recv(100)[:12] in (b"HTTP/1.1 408", b"")
    finally:
        for line in (*silent, *stalled, *deaf):
            line.close()


# Orthanc's own pages.


def test_explorer_is_for_administrators(stack, ada, rita):
    page = ada.get("/explorer/app/explorer.html", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "Orthanc Explorer" in page.text
    assert "'unsafe-inline'" not in page.headers["content-security-policy"].partition("style")[0]
    assert ada.get("/explorer/app/explorer.js").status_code == 200
    assert ada.get("/explorer/system").json()["Name"] == "radloop"
    found = ada.post("/explorer/tools/find", json={"Level": "Study", "Query": {}, "Expand": True})
    assert NAME in found.text
    assert ada.get("/explorer").headers["location"] == "/explorer/app/explorer.html"
    for path in ("/explorer/app/explorer.html", "/explorer/patients", "/explorer/system"):
        assert rita.get(path).status_code == 403
    with client(stack) as nobody:
        assert nobody.get("/explorer/patients").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/tools/shutdown"),
        ("POST", "/tools/reset"),
        ("POST", "/tools/execute-script"),
        ("POST", "/tools/create-dicom"),
        ("POST", "/tools/bulk-delete"),
        ("PUT", "/tools/log-level"),
        ("PUT", "/peers/x"),
        ("PUT", "/modalities/x"),
        ("DELETE", f"/modalities/{SENDER}"),
        ("PUT", "/instances/x/attachments/radloop-findings"),
        ("POST", "/dicom-web/servers/x/stow"),
        ("POST", "/dicom-web/studies"),
        ("GET", "/dicom-web/studies"),
        ("GET", "/wado"),
    ],
)
def test_explorer_passes_on_nothing_that_runs_stops_or_reaches_out(stack, ada, method, path):
    answer = ada.request(method, f"/explorer{path}", content=b"{}")
    assert (answer.status_code, answer.json()["code"]) == (403, "explorer_forbidden")
    assert stack.orthanc.system()["Name"] == "radloop"


def test_uploads_of_explorer_pass_the_gate_first(stack, ada):
    good = ct("1.2.826.0.1.3680043.10.88.5", "P-5", 0)
    form = ada.post("/explorer/instances/", files={"files[]": ("a.dcm", good)})
    assert form.status_code == 200
    assert form.json()["Status"] == "Success"
    plain = ada.post("/explorer/instances", content=good)
    assert plain.json()["Status"] == "AlreadyStored"
    before = json.loads(stack.radloop("quarantine", "list", "--json"))
    archive = b"PK\x03\x04" + b"\0" * 500
    for bad in (b"", b"MZ", archive, good[:-7], good[:132] + b"\xff" * 400):
        for sent in ({"content": bad}, {"files": {"files[]": ("a.dcm", bad)}}):
            answer = ada.post("/explorer/instances/", **sent)
            assert answer.status_code == 422
            assert answer.json()["code"] in ("gate_refused", "upload_form")
    after = json.loads(stack.radloop("quarantine", "list", "--json"))
    assert len(after["records"]) > len(before["records"])


def test_deletion_by_an_administrator_is_noted(stack, ada):
    store(stack, ct("1.2.826.0.1.3680043.10.88.9", "P-9", 0))
    name = stack.orthanc.find("studies", {"StudyInstanceUID": "1.2.826.0.1.3680043.10.88.9"})[0]
    assert ada.delete(f"/explorer/studies/{name}").status_code == 200
    assert not stack.orthanc.find("studies", {"StudyInstanceUID": "1.2.826.0.1.3680043.10.88.9"})
    shown = stack.radloop("audit", "show")
    assert "explorer-write" in shown
    # Which one it was can be asked by its UID, though the UID stands nowhere.
    assert "explorer-write" in stack.radloop(
        "audit", "show", "--study", "1.2.826.0.1.3680043.10.88.9"
    )
    assert "1.2.826" not in shown
    assert "NAME" not in shown
    stack.radloop("audit", "verify")


# What breaks.


def test_killed_gateway_is_back_with_its_sessions(stack, rita):
    told = rita.get("/api/session").json()["user"]
    os.kill(stack.pid("gateway"), signal.SIGKILL)

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return rita.get("/api/session").status_code == 200
        return False

    until(answers, 30.0)
    assert rita.get("/api/session").json()["user"] == told


def test_gateway_ends_in_time_though_somebody_listens(stack):
    with client(stack, "rita") as browser:
        streaming = threading.Event()

        def listen() -> None:
            with (
                contextlib.suppress(httpx.TransportError),
                browser.stream("GET", f"/api/studies/{STUDY}/events") as stream,
            ):
                for _ in stream.iter_raw():
                    streaming.set()

        listener = threading.Thread(target=listen)
        listener.start()
        assert streaming.wait(20.0)
        pid = stack.pid("gateway")
        begun = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists(), 10.0)
        assert time.monotonic() - begun < 9.5
        listener.join(10.0)
    until(lambda: stack.process("gateway").state == "RUNNING", 30.0)


def test_doctor_knows_the_gateway(stack):
    told = json.loads(stack.radloop("doctor", "--json"))["checks"]
    found = {one["name"]: one for one in told}
    for name in ("gateway answers", "gateway port", "gateway's reach", "viewer", "accounts"):
        assert found[name]["verdict"] == "OK", found[name]


def test_nothing_of_a_patient_is_in_the_gateways_log(stack):
    said = stack.log("gateway")
    assert "process.started" in said
    for text in (NAME, "KANARIEN", "P-1", STUDY, "rita", PASSWORD):
        assert text not in said


def test_folder_of_an_older_radloop_just_comes_up(stack):
    stack.radloop("down")
    folder = stack.folder
    told = json.loads(folder.state_json.read_text())
    old = {**told, "preferred": told["preferred"][:3]}
    old.pop("gateway_port")
    folder.state_json.write_text(json.dumps(old))
    for path in (folder.gateway_json, folder.database, folder.audit_anchor):
        path.unlink()
    for path in folder.home.glob("radloop.db-*"):
        path.unlink()
    for name in ("vault_key", "audit_key", "patient_key", "token_key"):
        folder.secret(name).unlink()
    stack.radloop("up")
    now = folder.state()
    assert (now.http_port, now.dicom_port) == (told["http_port"], told["dicom_port"])
    assert httpx.get(f"http://localhost:{now.gateway_port}/api/health").status_code == 200
    assert stack.orthanc.find("studies", {"StudyInstanceUID": STUDY})


# By https, with sessions of seconds.


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("secure")
    certificate(folder)
    settings = (
        f'tls_certificate = "{folder / "cert.pem"}"\ntls_key = "{folder / "key.pem"}"\n'
        "session_idle_minutes = 0.05\nsession_hours = 0.003"
    )
    with running(folder, settings) as stack:
        yield stack


def certificate(folder: Path, days: int = 90) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    (folder / "key.pem").chmod(0o600)


def trusted(stack: Stack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(stack.data.parent / "cert.pem"))


def test_https_alone_is_spoken_where_there_is_a_certificate(secure):
    port = port_of(secure)
    assert secure.status()["viewer"] == f"https://localhost:{port}"
    with client(secure, "rita", "https", verify=trusted(secure)) as browser:
        (cookie,) = browser.cookies.jar
        assert (cookie.name, cookie.secure) == ("__Host-radloop", True)
        health = browser.get("/api/health")
        assert health.headers["strict-transport-security"].startswith("max-age=")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{port}/api/health")
    for version, minimum in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = trusted(secure)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = version
        with (
            contextlib.nullcontext() if minimum else pytest.raises((ssl.SSLError, OSError)),
            socket.create_connection(("127.0.0.1", port)) as line,
            context.wrap_socket(line, server_hostname="localhost") as spoken,
        ):
            assert "GCM" in str(spoken.cipher()) or "CHACHA" in str(spoken.cipher())


def test_session_ends_in_the_middle_of_work_with_a_plain_answer(secure):
    with client(secure, "rita", "https", verify=trusted(secure)) as browser:
        time.sleep(4.5)
        for path in ("/dicom-web/studies", "/api/session", "/api/studies/1.2/results"):
            answer = browser.get(path, headers={"Accept": "text/html, application/json"})
            assert (answer.status_code, answer.json()["code"]) == (401, "login_needed")
            assert answer.headers["content-type"] == "application/problem+json"
        sent = browser.post("/api/studies/1.2/corrections", json={})
        assert (sent.status_code, sent.json()["code"]) == (401, "login_needed")
        page = browser.get("/", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/login")


def test_session_in_use_lives_on_but_not_for_ever(secure):
    with client(secure, "rita", "https", verify=trusted(secure)) as browser:
        begun = time.monotonic()
        lived = 0.0
        while browser.get("/api/session").status_code == 200:
            lived = time.monotonic() - begun
            assert lived < 25.0
            time.sleep(0.5)
        # Longer than three seconds without use, shorter than eleven of all.
        assert 4.0 < lived < 14.0


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ('host = "0.0.0.0"', "gateway_without_tls"),
        ('host = "nowhere"', "settings"),
        ('tls_certificate = "none.pem"', "gateway_certificate"),
        ('tls_certificate = "none.pem"\ntls_key = "none.pem"', "gateway_certificate"),
        ('tls_certificate = "cert.pem"\ntls_key = "key.pem"', "gateway_certificate_expired"),
    ],
)
def test_gateway_open_to_others_without_a_certificate_is_not_started(tmp_path, settings, code):
    certificate(tmp_path, days=-2)
    data = DataFolder(tmp_path / "data")
    command = Stack(data, Orthanc("http://127.0.0.1:1", "", ""), profile(tmp_path, settings))
    try:
        assert code in command.radloop("up", code=2)
        assert not data.exists()
    finally:
        command.orthanc.close()
