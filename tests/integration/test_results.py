"""Results as the viewer gets them through the real gateway: states, findings, events, reports."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import httpx
import jsonschema
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.dicom.read import read_series
from dicom_services.dicom.seg import segmentation
from dicom_services.dicom.write import to_bytes
from dicom_services.domain.findings import Code, Mask
from dicom_services.phantom import Phantom, random_phantom
from tests import sources
from tests.integration.conftest import Stack
from tests.pacs import ended, until

PASSWORD = "Correct-Horse-Battery-9"
SCHEMA = json.loads(
    (Path(__file__).resolve().parents[1] / "wire" / "findings.schema.json").read_text()
)


@dataclass
class Line:
    """An open line of events, read by a thread."""

    events: list[dict[str, Any]] = field(default_factory=list)
    ended: str = ""
    answer: httpx.Response | None = None

    def hang_up(self) -> None:
        """As a browser that is closed; the thread that reads sees the end."""
        if self.answer is not None and not self.ended:
            socket = self.answer.extensions["network_stream"].get_extra_info("socket")
            socket.shutdown(SHUT_RDWR)

    def states(self) -> list[str]:
        return [one["state"] for one in self.events]


class Viewer:
    """A browser's view of the gateway, logged in as somebody."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.base = f"http://localhost:{stack.state.gateway_port}"
        self.http = httpx.Client(
            base_url=self.base,
            timeout=60.0,
            headers={"Origin": self.base},
            limits=httpx.Limits(max_connections=60),
        )
        self.lines: list[Line] = []
        answer = self.http.post("/api/login", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.csrf = {"X-CSRF-Token": answer.json()["csrf"]}

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(path, params=query)

    def results(self, study: str) -> dict[str, Any]:
        answer = self.get(f"/api/studies/{study}/results")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def rerun(self, study: str, series: str) -> httpx.Response:
        path = f"/api/studies/{study}/series/{series}/rerun"
        return self.http.post(path, json={}, headers=self.csrf)


def listen(viewer: Viewer, study: str) -> Line:
    line = Line()
    viewer.lines.append(line)

    def read() -> None:
        try:
            path = f"/api/studies/{study}/events"
            with viewer.http.stream("GET", path, timeout=60.0) as answer:
                line.answer = answer
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith("text/event-stream")
                for text in answer.iter_lines():
                    if text.startswith("data: "):
                        line.events.append(json.loads(text[6:]))
            line.ended = "whole"
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            line.ended = type(error).__name__

    threading.Thread(target=read, daemon=True).start()
    until(lambda: line.events or line.ended)
    return line


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    decoys = ("pacemaker_lead", "rib_cartilage_calcium")
    return random_phantom(5, "cardiac", matrix=256, decoys=decoys, lesions=3)


@pytest.fixture(scope="module")
def study(stack: Stack, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A study with calcium, a lead and bone, analysed."""
    folder = tmp_path_factory.mktemp("ct")
    paths = write_ct_series(phantom.volume, folder, seed="results")
    stack.send(folder)
    uid = str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    assert ended(stack.orthanc, uid)["state"] == "done"
    return uid


@pytest.fixture(scope="module")
def accounts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("secret") / "password"
    secret.write_text(PASSWORD + "\n")
    for name, role in (("rita", "radiologist"), ("carl", "clinician")):
        options = ("--all-patients",) if role == "radiologist" else ()
        stack.radloop(
            "users", "add", name, "--role", role, "--password-file", str(secret), *options
        )


@pytest.fixture
def login(stack: Stack, accounts: None) -> Iterator[Callable[[str], Viewer]]:
    opened: list[Viewer] = []

    def open_viewer(name: str) -> Viewer:
        opened.append(Viewer(stack, name))
        return opened[-1]

    yield open_viewer
    for viewer in opened:
        for line in viewer.lines:
            line.hang_up()
        until(lambda lines=viewer.lines: all(line.ended for line in lines), 10.0)
        viewer.http.close()


@pytest.fixture
def reader(login: Callable[[str], Viewer]) -> Viewer:
    return login("rita")


def series_of(results: dict[str, Any], modality: str) -> dict[str, Any]:
    return dict(next(one for one in results["series"] if one["modality"] == modality))


def stored(stack: Stack, study: str, dataset: Dataset) -> None:
    """Into the study, as another system would store it."""
    instance = stack.orthanc.find("instances", {"StudyInstanceUID": study, "Modality": "CT"})[0]
    image = pydicom.dcmread(io.BytesIO(stack.orthanc.fetch([instance])[0]), stop_before_pixels=True)
    dataset.StudyInstanceUID, dataset.PatientID = image.StudyInstanceUID, image.PatientID
    stack.orthanc.stow([to_bytes(dataset)])


def test_findings_come_with_what_was_set_aside(
    study: str, phantom: Phantom, reader: Viewer
) -> None:
    found = reader.results(study)
    assert (found["study"], found["state"], found["code"]) == (study, "done", "")
    assert found["notice"] == "Research use only. Not a medical device."
    (job,) = series_of(found, "CT")["jobs"]
    assert (job["pipeline"], job["state"], job["run"]) == ("calcium", "done", 0)
    document = job["findings"]
    jsonschema.validate(document, SCHEMA, jsonschema.Draft202012Validator)
    assert document["findings"][0]["value"] == pytest.approx(phantom.score)
    assert f"{phantom.score:.0f}" in job["summary"]
    aside = [one for one in document["lesion_totals"] if not one["counted"]]
    assert {one["reason"]["value"] for one in aside} >= {"metal"}
    assert [one["label"] for one in document["masks"]] == ["Calcium", "Heart region", "Set aside"]


def test_the_segmentation_in_the_archive_has_the_segments_of_the_document(
    stack: Stack, study: str, reader: Viewer
) -> None:
    document = series_of(reader.results(study), "CT")["jobs"][0]["findings"]
    named = next(one for one in document["results"] if one["modality"] == "SEG")
    (instance,) = stack.orthanc.find("instances", {"SOPInstanceUID": named["sop_instance_uid"]})
    shapes = pydicom.dcmread(io.BytesIO(stack.orthanc.fetch([instance])[0]))
    told = [(one["segment"], one["label"]) for one in document["masks"]]
    assert told == [(int(one.SegmentNumber), one.SegmentLabel) for one in shapes.SegmentSequence]


def test_a_list_tells_states_of_the_readers_own_patients_only(
    study: str, reader: Viewer, login: Callable[[str], Viewer]
) -> None:
    told = reader.get("/api/states", study=[study, "1.2.3", "not a uid"]).json()
    assert list(told) == [study]
    assert told[study]["state"] == "done"
    assert told[study]["headline"].startswith("Agatston ")
    assert login("carl").get("/api/states", study=[study]).json() == {}


def test_more_studies_than_a_list_holds_are_refused(reader: Viewer) -> None:
    answer = reader.get("/api/states", study=[f"1.2.{n}" for n in range(201)])
    assert (answer.status_code, answer.json()["code"]) == (422, "request")


def test_a_foreign_study_is_unknown_on_every_route(
    study: str, reader: Viewer, login: Callable[[str], Viewer]
) -> None:
    found = reader.results(study)
    report = found["reports"][0]["sop_instance_uid"]
    carl = login("carl")
    for path in ("results", "events", f"reports/{report}"):
        answer = carl.get(f"/api/studies/{study}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "study_unknown"), path
    answer = carl.rerun(study, series_of(found, "CT")["series"])
    assert answer.status_code == 403


def test_running_again_is_seen_as_it_happens(study: str, reader: Viewer) -> None:
    line = listen(reader, study)
    before = reader.results(study)
    assert line.events[0]["version"] == before["version"]
    answer = reader.rerun(study, series_of(before, "CT")["series"])
    assert answer.status_code == 202, answer.text
    until(lambda: line.states()[-1] == "done" and len(line.events) > 2)
    assert "running" in line.states()

    def told() -> bool:
        return bool(line.events[-1]["version"] == reader.results(study)["version"])

    until(told, 10.0)
    newest, oldest = series_of(reader.results(study), "CT")["jobs"]
    assert (newest["job"], newest["run"]) == (answer.json()["job"], 1)
    assert (oldest["state"], oldest["superseded"]) == ("superseded", True)
    assert newest["findings"]["job"] == newest["job"]
    assert oldest["findings"]["job"] == oldest["job"]


def test_a_result_cannot_be_run(study: str, reader: Viewer) -> None:
    result = series_of(reader.results(study), "SR")["series"]
    answer = reader.rerun(study, result)
    assert (answer.status_code, answer.json()["code"]) == (422, "no_rule")
    answer = reader.rerun(study, "1.2.3")
    assert (answer.status_code, answer.json()["code"]) == (404, "series_unknown")


def test_our_report_is_readable_with_units(study: str, phantom: Phantom, reader: Viewer) -> None:
    ours = next(one for one in reader.results(study)["reports"] if one["kind"] == "result")
    told = reader.get(f"/api/studies/{study}/reports/{ours['sop_instance_uid']}").json()
    assert (told["title"], told["maker"][:7]) == ("Imaging Measurement Report", "radloop")
    score = next(one for one in told["items"] if one["name"] == "Calcium score")
    assert float(score["value"]) == pytest.approx(phantom.score, abs=1e-3)
    assert (score["unit"], score["code"]["value"]) == ("{score}", "112058")
    assert reader.get(f"/api/studies/{study}/reports/1.2.3").json()["code"] == "report_unknown"


def test_a_report_of_another_maker_is_listed_and_read(
    stack: Stack, study: str, reader: Viewer, shared_data: Path
) -> None:
    files = shared_data / "seg-sr-samples" / "data" / "test_files"
    foreign = pydicom.dcmread(files / "sr_document_with_multiple_groups.dcm")
    stored(stack, study, foreign)
    listed = {one["sop_instance_uid"]: one for one in reader.results(study)["reports"]}
    entry = listed[str(foreign.SOPInstanceUID)]
    assert (entry["kind"], entry["created"]) == ("other", "2023-05-01T22:58:35")
    path = f"/api/studies/{study}/reports/{foreign.SOPInstanceUID}"
    told = reader.get(path).json()
    assert ("Person Observer Name", "Doe, John") in [
        (one["name"], one["value"]) for one in told["items"]
    ]


def test_a_hostile_report_is_plain_text_and_harms_nobody(
    stack: Stack, study: str, reader: Viewer
) -> None:
    nasty = Dataset()
    nasty.SOPClassUID, nasty.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.22", generate_uid()
    nasty.SeriesInstanceUID, nasty.Modality = generate_uid(), "SR"
    nasty.Manufacturer = "<img src=x onerror=alert(1)>"
    nasty.file_meta = pydicom.dataset.FileMetaDataset()
    nasty.file_meta.MediaStorageSOPClassUID = nasty.SOPClassUID
    nasty.file_meta.MediaStorageSOPInstanceUID = nasty.SOPInstanceUID
    nasty.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    text = Dataset()
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", "a\u202eb\x07c"
    nasty.SpecificCharacterSet = "ISO_IR 192"
    nasty.ContentSequence = [text] * 3000
    stored(stack, study, nasty)
    told = reader.get(f"/api/studies/{study}/reports/{nasty.SOPInstanceUID}").json()
    assert told["maker"] == "<img src=x onerror=alert(1)>"
    assert told["items"][0]["value"] == "abc"
    assert len(told["items"]) == 2000
    assert any("too long" in one for one in told["warnings"])


def test_forty_segments_of_another_maker_change_nothing(
    stack: Stack, study: str, phantom: Phantom, reader: Viewer, tmp_path: Path
) -> None:
    read = read_series(write_ct_series(phantom.volume, tmp_path, seed="results"))
    grid = read.volume.geometry
    masks = []
    for n in range(40):
        values = np.zeros(grid.shape, np.bool_)
        values[5, 3 * n : 3 * n + 2, 10:20] = True
        masks.append(
            Mask(Code("1", "99X", f"Part {n}"), sources.ANATOMY, f"Part {n}", values, grid)
        )
    many = segmentation(masks, read.source, sources.provenance(job="ab" * 20))
    assert many is not None
    many.Manufacturer = "Somebody"
    del many.ContributingEquipmentSequence
    stored(stack, study, many)
    until(lambda: reader.results(study)["state"] == "done")
    found = reader.results(study)
    assert series_of(found, "CT")["jobs"][0]["findings"] is not None
    assert sum(one["modality"] == "SEG" for one in found["series"]) == 3


def test_a_refused_series_says_why_in_words(
    stack: Stack, phantom: Phantom, reader: Viewer, tmp_path: Path
) -> None:
    bright = random_phantom(6, "cardiac", matrix=192, blood_hu=150.0, lesions=0, decoys=())
    paths = write_ct_series(bright.volume, tmp_path, seed="results-contrast")
    uid = str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    stack.send(tmp_path)
    assert ended(stack.orthanc, uid)["state"] == "refused"
    found = reader.results(uid)
    words = "Contrast agent in the blood: calcium cannot be told from it"
    assert (found["code"], found["reason"]) == ("contrast", words)
    (job,) = series_of(found, "CT")["jobs"]
    assert (job["state"], job["reason"]) == ("refused", words)
    assert job["findings"]["meaning"] == words
    jsonschema.validate(job["findings"], SCHEMA, jsonschema.Draft202012Validator)
    assert reader.get("/api/states", study=[uid]).json()[uid]["headline"] == words


def test_a_study_that_no_rule_wants_is_told_so(
    stack: Stack, reader: Viewer, tmp_path: Path
) -> None:
    image = pydicom.dcmread(
        write_ct_series(random_phantom(6, matrix=64).volume, tmp_path, seed="x")[0]
    )
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    stack.orthanc.stow([to_bytes(image)])
    uid = str(image.StudyInstanceUID)
    ended(stack.orthanc, uid)
    found = reader.results(uid)
    assert (found["state"], found["code"]) == ("done", "no_rule")
    assert found["reason"] == "No routing rule wants the series"
    assert found["reports"] == []


def test_a_document_that_is_not_there_leaves_the_report(
    stack: Stack, study: str, login: Callable[[str], Viewer]
) -> None:
    before = login("rita").results(study)
    job = series_of(before, "CT")["jobs"][0]
    sop = next(
        one["sop_instance_uid"] for one in job["findings"]["results"] if one["modality"] == "SR"
    )
    (instance,) = stack.orthanc.find("instances", {"SOPInstanceUID": sop})
    path = f"/instances/{instance}/attachments/radloop-findings"
    kept = stack.orthanc.get_bytes(f"{path}/data")
    stack.orthanc.delete_path(path)
    gateway = stack.pid("gateway")
    os.kill(gateway, signal.SIGKILL)
    until(lambda: stack.pid("gateway") not in (0, gateway))
    until(lambda: _answers(stack))
    try:
        reader = login("rita")
        assert series_of(reader.results(study), "CT")["jobs"][0]["findings"] is None
        assert sop in {one["sop_instance_uid"] for one in reader.results(study)["reports"]}
    finally:
        stack.orthanc.attach("instances", instance, "radloop-findings", kept)


def _answers(stack: Stack) -> bool:
    try:
        url = f"http://localhost:{stack.state.gateway_port}/api/health"
        return httpx.get(url, timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_line_ends_when_its_right_does_and_a_logout_is_such(
    stack: Stack, study: str, login: Callable[[str], Viewer]
) -> None:
    line = listen(login("rita"), study)
    stack.radloop("users", "logout", "rita")
    began = time.monotonic()
    until(lambda: line.ended, 60.0)
    assert line.ended == "whole"
    assert time.monotonic() - began < 50.0


def test_lines_end_whole_when_the_gateway_stops(
    stack: Stack, study: str, login: Callable[[str], Viewer]
) -> None:
    viewer = login("rita")
    lines = [listen(viewer, study) for _ in range(3)]
    gateway = stack.pid("gateway")
    os.kill(gateway, signal.SIGTERM)
    until(lambda: all(line.ended for line in lines), 10.0)
    assert [line.ended for line in lines] == ["whole"] * 3
    until(lambda: _answers(stack))


def test_too_many_lines_of_one_user_are_refused(study: str, login: Callable[[str], Viewer]) -> None:
    viewer = login("rita")
    lines = [listen(viewer, study) for _ in range(30)]
    assert not any(line.ended for line in lines)
    answer = viewer.get(f"/api/studies/{study}/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")
