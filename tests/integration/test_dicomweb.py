"""DICOMweb through the gateway of a real stack, with the client library of other people."""

from __future__ import annotations

import io
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset

from dicom_services.dicom.quiet import quiet
from tests.dicom_files import ct_slice, deflate_bomb, part10, to_bytes
from tests.pacs import until

PASSWORD = "a long Passphrase 4711"
CANARY = "KANARIENVOGEL"
STUDIES = 30
SLICES = 3


def uid(*parts: int) -> str:
    return ".".join(["1.2.826.0.1.3680043.10.77", *map(str, parts)])


def ct(study: int, number: int, patient: str, name: str, rows: int = 16, **more: object) -> bytes:
    """A slice of one of the studies here."""
    pixels = np.random.default_rng(study * 97 + number).integers(0, 4096, (rows, rows), np.int16)
    ds = ct_slice(pixels, number, 3.0 * number)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(study), uid(study, 1)
    ds.SOPInstanceUID = uid(study, 1, number + 1)
    ds.PatientID, ds.PatientName, ds.PatientBirthDate = patient, name, "19700101"
    ds.StudyDate, ds.StudyTime = f"2026{1 + study % 12:02d}{1 + study % 28:02d}", "101112"
    ds.StudyDescription, ds.AccessionNumber = f"Herz nativ, {study}", f"A {study}"
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return to_bytes(ds)


def report(study: int, patient: str, **more: object) -> bytes:
    """A report as a viewer stores it: without a study description."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    ds.SOPInstanceUID = f"2.25.{secrets.randbits(96)}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(study), f"2.25.{secrets.randbits(96)}"
    ds.PatientID, ds.PatientName, ds.Modality = patient, "whoever", "SR"
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return to_bytes(ds)


@dataclass(frozen=True)
class Gateway:
    """The gateway of a stack, for three people."""

    url: str
    tokens: dict[str, str]

    def get(self, path: str, who: str = "reader", **more: object) -> httpx.Response:
        return self.ask("GET", path, who, **more)

    def ask(self, method: str, path: str, who: str = "reader", **more: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[who]}", **more.pop("headers", {})}
        return httpx.request(
            method, f"{self.url}/dicom-web{path}", headers=headers, timeout=60, **more
        )

    def stow(self, files: list[bytes], path: str = "/studies", who: str = "reader", **headers: str):
        head = b"--xYx\r\nContent-Type: application/dicom\r\n\r\n"
        body = b"".join(head + file + b"\r\n" for file in files) + b"--xYx--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=xYx'
        return self.ask("POST", path, who, content=body, headers={"Content-Type": kind, **headers})


@pytest.fixture(scope="module")
def files() -> dict[str, list[bytes]]:
    mine = [ct(n, k, "P-1", "Müller^Jörg") for n in range(1, STUDIES, 2) for k in range(SLICES)]
    canary = [ct(n, k, CANARY, f"{CANARY}^X") for n in range(0, STUDIES, 2) for k in range(SLICES)]
    return {"mine": mine, "canary": canary}


@pytest.fixture(scope="module")
def gateway(stack, files, tmp_path_factory) -> Iterator[Gateway]:
    """Two patients with every other study each; "doctor" may see the first, "nobody" none."""
    word = tmp_path_factory.mktemp("word") / "password"
    word.write_text(PASSWORD)
    word.chmod(0o600)
    for name, role, more in (
        ("reader", "radiologist", ["--all-patients"]),
        ("doctor", "doctor", []),
        ("assigned", "radiologist", []),
        ("nobody", "clinician", []),
    ):
        stack.radloop("users", "add", name, "--role", role, "--password-file", str(word), *more)
    for name in ("doctor", "assigned"):
        stack.radloop("users", "assign", name, "--patient", "P-1")
    port = stack.http_port
    secret = stack.folder.secret("orthanc_service").read_text().strip()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("radloop", secret)) as direct:
        for file in (*files["mine"], *files["canary"]):
            assert direct.post("/instances", content=file).status_code == 200
    url = f"http://localhost:{stack.state.gateway_port}"
    tokens = {}
    for name in ("reader", "doctor", "assigned", "nobody"):
        answer = httpx.post(f"{url}/api/token", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        tokens[name] = answer.json()["access_token"]
    yield Gateway(url, tokens)


@pytest.fixture
def client(gateway) -> Iterator[DICOMwebClient]:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {gateway.tokens['reader']}"
        yield DICOMwebClient(f"{gateway.url}/dicom-web", session=session)


def value(item: dict, tag: str):
    return (item.get(tag, {}).get("Value") or [None])[0]


# -- searches


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("Müller^Jörg", True),
        ("Müller*", True),
        ("M?ller^J*", True),
        ("müller^jörg", True),
        ("*^Jörg", True),
        ("Meier*", False),
        ("Müller", False),
    ],
)
def test_names_are_found_as_people_write_them(client, name, matches):
    found = client.search_for_studies(search_filters={"PatientName": name}, limit=100)
    assert {value(one, "00100020") for one in found} == ({"P-1"} if matches else set())
    assert len(found) == (STUDIES // 2 if matches else 0)


def test_fields_may_be_asked_for_as_a_list_and_come_in_any_case(gateway):
    for query in ("includefield=00081030,00080060", "includefield=00081030%2C00080060", ""):
        found = gateway.get(f"/studies?limit=1&StudyInstanceUID={uid(3)}&{query}").json()
        assert value(found[0], "00081030") == "Herz nativ, 3"
        assert found[0]["00080061"]["Value"] == ["CT"]
        assert (value(found[0], "00201206"), value(found[0], "00201208")) == (1, SLICES)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"AccessionNumber": "A 3"}, 1),
        ({"StudyDescription": "Herz nativ, 3"}, 1),
        ({"ModalitiesInStudy": "CT"}, STUDIES),
        ({"ModalitiesInStudy": "MR"}, 0),
        ({"PatientBirthDate": "19700101"}, STUDIES),
        ({"StudyDate": "20260101-20261231"}, STUDIES),
        ({"StudyDate": "-20251231"}, 0),
        ({"StudyInstanceUID": f"{uid(1)},{uid(2)},{uid(999)}"}, 2),
    ],
)
def test_searches_match_what_they_say(client, filters, count):
    assert len(client.search_for_studies(search_filters=filters, limit=1000)) == count


def test_pages_of_every_level_are_complete_and_do_not_overlap(gateway):
    for level, tag, count in (
        ("studies", "0020000D", STUDIES),
        ("series", "0020000E", STUDIES),
        ("instances", "00080018", STUDIES * SLICES),
    ):
        seen: list[str] = []
        for offset in range(0, count + 7, 7):
            answer = gateway.get(f"/{level}?limit=7&offset={offset}")
            seen += [value(one, tag) for one in answer.json()]
            assert ("warning" in answer.headers) == (offset + 7 < count)
        assert len(seen) == len(set(seen)) == count


def test_newest_studies_come_first(client):
    dates = [value(one, "00080020") for one in client.search_for_studies(limit=1000)]
    assert dates == sorted(dates, reverse=True)


def test_series_and_instances_say_what_they_are(client):
    series = client.search_for_series(uid(5))
    assert [value(one, "00201209") for one in series] == [SLICES]
    instances = client.search_for_instances(uid(5), uid(5, 1))
    assert [value(one, "00200013") for one in instances] == [1, 2, 3]
    for one in instances:
        assert value(one, "00080016") == "1.2.840.10008.5.1.4.1.1.2"
        assert (value(one, "00280010"), value(one, "00280100")) == (16, 16)


def test_addresses_in_answers_are_the_gateways(gateway):
    found = gateway.get(f"/studies/{uid(5)}/instances").json()
    address = value(found[0], "00081190")
    assert address.startswith(f"{gateway.url}/dicom-web/studies/{uid(5)}/series/")
    assert gateway.get(address.removeprefix(f"{gateway.url}/dicom-web")).status_code == 200
    metadata = gateway.get(f"/studies/{uid(5)}/metadata").json()
    bulk = metadata[0]["7FE00010"]["BulkDataURI"]
    assert bulk.startswith(f"{gateway.url}/dicom-web/")
    answer = gateway.get(
        bulk.removeprefix(f"{gateway.url}/dicom-web"),
        headers={"Accept": "application/octet-stream"},
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    assert len(answer.content) == 16 * 16 * 2


def test_answers_with_patients_are_kept_by_nobody(gateway):
    for path in ("/studies", f"/studies/{uid(1)}/metadata", f"/studies/{uid(1)}"):
        assert gateway.get(path).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("query", ["Foo=1", "limit=0", "PatientName=a%00", "00091001=1", "%zz"])
def test_hostile_searches_are_refused_with_a_problem(gateway, query):
    answer = gateway.get(f"/studies?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


# -- whose they are


def test_a_stranger_never_gets_a_byte_of_another_patient(gateway, files):
    """More than two hundred answers, in none of which the canary sits."""
    paths = ["/studies", "/series", "/instances"]
    paths += [f"/{level}?limit=1&offset={n}" for level in ("studies", "series") for n in range(20)]
    paths += [f"/instances?limit=5&offset={n * 5}" for n in range(12)]
    paths += [
        f"/studies?PatientID={CANARY}",
        f"/studies?PatientName={CANARY}*",
        "/studies?limit=99",
    ]
    for n in range(STUDIES):
        paths += [f"/studies?StudyInstanceUID={uid(n)}", f"/series?StudyInstanceUID={uid(n)}"]
        paths += [f"/instances?SeriesInstanceUID={uid(n, 1)}", f"/studies/{uid(n)}/series"]
        paths += [f"/studies/{uid(1)}/series/{uid(n, 1)}/metadata"]
    series = f"/studies/{uid(0)}/series/{uid(0, 1)}"
    paths += [f"/studies/{uid(0)}{end}" for end in ("", "/metadata", "/instances")]
    paths += [series + end for end in ("", "/metadata", "/instances", "/rendered")]
    instance = f"{series}/instances/{uid(0, 1, 1)}"
    ends = ("", "/metadata", "/rendered", "/frames/1", "/bulk/7fe00010", "/bulk/00100010")
    paths += [instance + end for end in ends]
    others = f"/studies/{uid(1)}/series/{uid(1, 1)}/instances/{uid(0, 1, 1)}"
    paths += [others + end for end in ends]
    assert len(paths) >= 200
    pixels = pydicom.dcmread(io.BytesIO(files["canary"][0])).PixelData[:32]
    for path in paths:
        answer = gateway.get(path, "doctor")
        assert answer.status_code in (200, 404), path
        assert CANARY.encode() not in answer.content, path
        assert pixels not in answer.content, path
        assert uid(0, 1).encode() not in answer.content, path


def test_counts_and_pages_are_those_of_ones_own_patients(gateway):
    assert len(gateway.get("/studies", "doctor").json()) == STUDIES // 2
    assert len(gateway.get("/instances", "doctor").json()) == STUDIES // 2 * SLICES
    first = gateway.get("/studies?limit=10", "doctor")
    second = gateway.get("/studies?limit=10&offset=10", "doctor")
    assert [len(first.json()), len(second.json())] == [10, STUDIES // 2 - 10]
    assert "warning" in first.headers
    assert "warning" not in second.headers
    assert gateway.get("/studies", "nobody").json() == []
    assert gateway.get("/instances", "nobody").json() == []


def test_a_foreign_study_and_none_are_the_same(gateway):
    foreign = gateway.get(f"/studies/{uid(0)}", "doctor")
    absent = gateway.get(f"/studies/{uid(12345)}", "doctor")
    assert foreign.status_code == absent.status_code == 404
    bodies = [dict(one.json(), correlation="") for one in (foreign, absent)]
    assert bodies[0] == bodies[1]


# -- retrievals


def test_what_is_retrieved_is_byte_for_byte_what_is_stored(stack, gateway, files):
    for number in range(SLICES):
        instance = f"/studies/{uid(1)}/series/{uid(1, 1)}/instances/{uid(1, 1, number + 1)}"
        answer = gateway.get(instance, headers={"Accept": "application/dicom"})
        assert answer.headers["content-type"] == "application/dicom"
        found = stack.orthanc.find("instances", {"SOPInstanceUID": uid(1, 1, number + 1)})
        assert answer.content == stack.orthanc.fetch(found)[0] == files["mine"][number]
        multipart = gateway.get(instance)
        assert answer.content in multipart.content


def test_the_client_library_gets_objects_frames_and_metadata_without_special_care(
    gateway, client, files
):
    with quiet():
        stored = pydicom.dcmread(io.BytesIO(files["mine"][0]))
        series = client.retrieve_series(uid(1), uid(1, 1))
        assert {one.SOPInstanceUID for one in series} == {uid(1, 1, n + 1) for n in range(SLICES)}
        one = client.retrieve_instance(uid(1), uid(1, 1), uid(1, 1, 1))
        assert one.PixelData == stored.PixelData
        frames = client.retrieve_instance_frames(uid(1), uid(1, 1), uid(1, 1, 1), [1])
        assert frames == [stored.PixelData]
        metadata = client.retrieve_study_metadata(uid(1))
        assert len(metadata) == SLICES
        # The library calls us by a name without the port, so that addresses lack it.
        address = metadata[0]["7FE00010"]["BulkDataURI"].split("/dicom-web")[1]
        bulk = client.retrieve_bulkdata(f"{gateway.url}/dicom-web{address}")
        assert len(bulk[0]) == len(stored.PixelData)


def test_frames_come_as_viewers_ask_for_them(gateway, files):
    path = f"/studies/{uid(1)}/series/{uid(1, 1)}/instances/{uid(1, 1, 1)}/frames/1"
    pixels = pydicom.dcmread(io.BytesIO(files["mine"][0])).PixelData
    for accept in (
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        "multipart/related; type=application/octet-stream; transfer-syntax=*",
        "multipart/related; type=application/octet-stream; transfer-syntax=*, */*;q=0.1",
        "*/*",
    ):
        answer = gateway.get(path, headers={"Accept": accept})
        assert answer.status_code == 200
        assert pixels in answer.content
    alone = gateway.get(path, headers={"Accept": "application/octet-stream"})
    assert alone.content == pixels
    assert gateway.get(path, headers={"Accept": "video/mp4"}).status_code == 406


def test_a_connection_goes_on_after_a_whole_series(gateway, files):
    headers = {"Authorization": f"Bearer {gateway.tokens['reader']}"}
    with httpx.Client(headers=headers, base_url=f"{gateway.url}/dicom-web") as client:
        for _ in range(3):
            answer = client.get(f"/studies/{uid(1)}")
            assert all(file in answer.content for file in files["mine"][:SLICES])
            assert client.get(f"/studies/{uid(1)}/series").status_code == 200


def test_what_is_not_offered_is_not_there(gateway):
    assert gateway.ask("DELETE", f"/studies/{uid(1)}").status_code in (404, 405)
    assert gateway.get("/workitems").status_code == 404
    assert gateway.get("/servers").status_code == 404
    instance = f"/studies/{uid(1)}/series/{uid(1, 1)}/instances/{uid(1, 1, 1)}"
    assert gateway.get(f"{instance}/frames/9").status_code in (404, 406)
    old = f"{gateway.url}/wado?requestType=WADO&studyUID={uid(1)}"
    headers = {"Authorization": f"Bearer {gateway.tokens['reader']}"}
    answer = httpx.get(old, headers=headers)
    assert b"DICM" not in answer.content


# -- storing


def test_good_objects_are_stored_once_however_often_they_come(stack, gateway):
    file = ct(3, 50, "P-1", "Müller^Jörg")
    for _ in range(2):
        answer = gateway.stow([file])
        assert answer.status_code == 200
        assert value(answer.json()["00081199"]["Value"][0], "00081155") == uid(3, 1, 51)
    found = stack.orthanc.find("instances", {"SOPInstanceUID": uid(3, 1, 51)})
    assert len(found) == 1
    assert stack.orthanc.fetch(found) == [file]
    stack.orthanc.delete("instances", found[0])


def test_a_report_of_a_viewer_gets_the_description_of_its_study(stack, client, gateway):
    file = report(7, "P-1")
    with quiet():
        answer = client.store_instances([pydicom.dcmread(io.BytesIO(file))], uid(7))
    assert "ReferencedSOPSequence" in answer
    name = pydicom.dcmread(io.BytesIO(file)).SOPInstanceUID
    found = stack.orthanc.find("instances", {"SOPInstanceUID": name})
    stored = pydicom.dcmread(io.BytesIO(stack.orthanc.fetch(found)[0]))
    assert stored.StudyDescription == "Herz nativ, 7"
    shown = gateway.get(f"/studies?StudyInstanceUID={uid(7)}").json()[0]
    assert shown["00080061"]["Value"] == ["CT", "SR"]
    assert value(shown, "00081030") == "Herz nativ, 7"
    stack.orthanc.delete("instances", found[0])


def nested(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        item = b"\xfe\xff\0\xe0" + len(body).to_bytes(4, "little") + body
        body = b"\x08\0\x15\x11SQ\0\0" + len(item).to_bytes(4, "little") + item
    return part10(body)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"garbage", "not_dicom"),
        (nested(40), "depth"),
        (nested(3000), "depth"),
        (deflate_bomb(1000), "inflated_size"),
        (ct(3, 60, "P-1", "Müller^Jörg")[:-100], "length"),
        (ct(3, 61, "P-2", "Somebody^Else"), "other_patient"),
        (ct(3, 62, "P-1", "Müller^Jörg", PatientBirthDate="19990101"), "other_patient"),
        (ct(99, 63, "P-1", "Müller^Jörg", SeriesInstanceUID=uid(3, 1)), "uid_taken"),
        (ct(3, 64, "P-1", "M", SOPInstanceUID=uid(0, 1, 1)), "uid_taken"),
    ],
)
def test_a_bad_object_is_refused_and_the_good_one_beside_it_stored(stack, gateway, bad, code):
    before = stack.pids()
    pid = before["gateway"]
    memory = memory_mb(pid)
    begun = time.monotonic()
    answer = gateway.stow([bad, ct(3, 0, "P-1", "Müller^Jörg")])
    assert time.monotonic() - begun < 2.0
    assert answer.status_code == 202
    failed = answer.json()["00081198"]["Value"]
    assert len(failed) == 1
    told = value(value(failed[0], "00741048"), "00000902")
    assert told == f"radloop: {code}"
    assert value(failed[0], "00081197") >= 0x0110
    assert memory_mb(pid) - memory < 100
    assert stack.pids() == before


def memory_mb(pid: int) -> float:
    """The most that a process ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def test_what_the_gate_refused_lies_in_quarantine(stack, gateway):
    marked = nested(60) + b""
    gateway.stow([marked])
    told = json.loads(stack.radloop("quarantine", "list", "--json"))
    records = told["records"] if isinstance(told, dict) else told
    assert any(one["reason"] == "depth" and one["source"] == "upload" for one in records)


def test_an_object_of_another_study_than_the_path_names_is_refused(gateway):
    answer = gateway.stow([ct(3, 70, "P-1", "Müller^Jörg")], f"/studies/{uid(5)}")
    assert answer.status_code == 409
    assert "other_study" in answer.text


def test_who_has_only_some_patients_stores_into_their_studies_alone(gateway):
    own = ct(3, 0, "P-1", "Müller^Jörg")
    assert gateway.stow([own], who="assigned").status_code == 200
    for foreign in (
        ct(0, 80, CANARY, "X"),
        ct(500, 0, "P-1", "Müller^Jörg"),
        ct(500, 0, "NEW", "New^Patient"),
    ):
        answer = gateway.stow([foreign], who="assigned")
        assert answer.status_code == 409
        assert "study_unknown" in answer.text
    for study in (uid(0), uid(500)):
        answer = gateway.stow([own], f"/studies/{study}", who="assigned")
        assert answer.status_code == 404
    assert gateway.stow([own], who="doctor").status_code == 403


def test_other_kinds_of_bodies_are_not_taken(gateway):
    file = ct(3, 0, "P-1", "Müller^Jörg")
    for kind in (
        "application/dicom+json",
        'multipart/related; type="application/dicom+json"; boundary=xYx',
        "multipart/form-data; boundary=xYx",
    ):
        assert gateway.stow([file], **{"Content-Type": kind}).status_code == 415
    assert gateway.stow([file], **{"Content-Encoding": "gzip"}).status_code == 415
    assert gateway.stow([]).status_code == 400


def test_every_store_is_in_the_audit_with_its_counts(stack, gateway):
    files = [ct(3, n, "P-1", "Müller^Jörg") for n in range(2)]
    gateway.stow([*files, b"garbage"])
    rows = json.loads(stack.radloop("audit", "show", "--user", "reader", "--json"))
    told = [json.loads(row["facts"]) for row in rows if row["action"] == "store"][-3:]
    assert {"stored": 2} in told
    assert {"failed": 1} in told
    stack.radloop("audit", "verify")


# -- when the archive breaks


@pytest.fixture
def large(stack, gateway) -> Iterator[str]:
    """A study that does not fit into any buffer: 80 MB."""
    files = [ct(700, n, "P-1", "Müller^Jörg", rows=1024) for n in range(40)]
    assert gateway.stow(files).status_code == 200
    yield uid(700)
    found = until(lambda: stack.orthanc.find("studies", {"StudyInstanceUID": uid(700)}))
    stack.orthanc.delete("studies", found[0])


def test_an_archive_that_dies_in_the_middle_breaks_the_answer_off(stack, gateway, large):
    import os
    import signal

    whole = gateway.get(f"/studies/{large}")
    assert len(whole.content) > 80 << 20
    before = stack.pid("orthanc")
    got = 0
    headers = {"Authorization": f"Bearer {gateway.tokens['reader']}"}
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("GET", f"{gateway.url}/dicom-web/studies/{large}", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        for piece in answer.iter_raw(65536):
            got += len(piece)
            if got > 1 << 20 and before:
                os.kill(before, signal.SIGKILL)
                before = 0
    assert 0 < got < 80 << 20
    away = gateway.get(f"/studies/{large}")
    if away.status_code != 200:
        assert away.status_code == 503
        assert int(away.headers["retry-after"]) > 0
        assert away.headers["content-type"] == "application/problem+json"
    until(lambda: gateway.get(f"/studies/{large}/series").status_code == 200)


def test_a_client_who_leaves_ends_the_retrieval(stack, gateway, large):
    port = stack.state.gateway_port
    request = (
        f"GET /dicom-web/studies/{large} HTTP/1.1\r\nHost: localhost:{port}\r\n"
        f"Authorization: Bearer {gateway.tokens['reader']}\r\n\r\n"
    ).encode()

    def leave() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request)
            connection.recv(65536)

    # More than there are connections to the archive.
    threads = [threading.Thread(target=leave) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begun = time.monotonic()
    assert gateway.get(f"/studies/{large}/series").status_code == 200
    assert time.monotonic() - begun < 10
