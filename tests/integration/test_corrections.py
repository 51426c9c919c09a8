"""A reader's correction through the real gateway, database and archive, and back out of each."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import pydicom
import pypdf
import pytest

from dicom_services.api.assessing import assess
from dicom_services.api.context import StudyAccess
from dicom_services.api.correction_body import CorrectionBody, assessment_of, moment
from dicom_services.api.delivery import deliver, deliver_waiting
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.orthanc import Orthanc
from dicom_services.phantom_command import demo_phantom
from dicom_services.store.correction import NewCorrection, Stored
from dicom_services.store.database import migrate, open_database
from tests.integration.conftest import Stack
from tests.pacs import ended, image_series, until
from tests.records import Store
from tests.validators import code_value, content, dciodvfy_errors, segment_voxels

WIRE = Path(__file__).resolve().parents[1] / "wire"


class Reader:
    """A logged-in user, as a browser on the gateway's own origin."""

    def __init__(self, stack: Stack, name: str, role: str, *options: str) -> None:
        self.stack = stack
        told = stack.radloop("users", "add", name, "--role", role, "--code", *options)
        code = next(word for line in told.splitlines() for word in line.split() if len(word) > 15)
        self.origin = f"http://127.0.0.1:{stack.state.gateway_port}"
        self.http = httpx.Client(
            base_url=self.origin, headers={"Origin": self.origin}, timeout=60.0, trust_env=False
        )
        answer = self.http.post("/api/login", json={"name": name, "code": code})
        if answer.status_code != 200:
            self.http.close()
            pytest.fail(answer.text)
        self.user = answer.json()["user"]
        self.http.headers["X-CSRF-Token"] = answer.json()["csrf"]

    def post(self, study: str, body: Any) -> httpx.Response:
        return self.http.post(f"/api/studies/{study}/corrections", json=body)

    def corrections(self, study: str) -> list[dict[str, Any]]:
        answer = self.http.get(f"/api/studies/{study}/corrections")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["corrections"])


@dataclass(frozen=True)
class Scored:
    """A study that the worker has scored, with what a browser knows of it."""

    study: str
    series: str
    ct: str
    job: str
    report: str
    lesions: list[dict[str, Any]]
    mask: list[dict[str, Any]]
    scores: dict[str, Any]
    voxels: np.ndarray[Any, Any]

    def body(self, **fields: Any) -> dict[str, Any]:
        """A correction that counts what the algorithm counts."""
        return {
            "schema": 1,
            "id": str(uuid4()),
            "made_at": "2026-03-14T09:26:53.589+01:00",
            "result": {"job": self.job, "sop_instance_uid": self.report},
            "source_series": self.series,
            "verdict": "modify",
            "reason": "",
            "note": "",
            "base": "",
            "calcium": {
                "threshold_hu": 130,
                "lesions": self.lesions,
                "mask": self.mask,
                "scores": self.scores,
            },
            **fields,
        }

    def verdict(self, verdict: str, **fields: Any) -> dict[str, Any]:
        return self.body(verdict=verdict, calcium=None, **fields)


def scored(stack: Stack, orthanc: Orthanc, folder: Path, seed: str) -> Scored:
    """Send a phantom, wait for its result, and make the runs of the algorithm's own mask."""
    phantom = demo_phantom(matrix=256)
    paths = write_ct_series(phantom.volume, folder, seed=seed, patient_name="Łuk^Ada=患者")
    header = pydicom.dcmread(paths[0], stop_before_pixels=True)
    study = str(header.StudyInstanceUID)
    stack.send(folder)
    view = ended(orthanc, study)
    assert view["state"] == "done", view
    series = image_series(view)
    job = series["jobs"][0]
    stored = {one["modality"]: one for one in job["results"]}
    segmentation = orthanc.get_bytes(
        f"/instances/{orthanc.instances_of(stored['SEG']['series'])[0]}/file"
    )
    voxels = segment_voxels(segmentation, phantom.volume.geometry)[1]
    uids = [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]
    return Scored(
        study=study,
        series=str(header.SeriesInstanceUID),
        ct=series["series"],
        job=job["job"],
        report=stored["SR"]["sop"],
        lesions=[],
        mask=runs(voxels, uids, "unassigned"),
        scores={
            "agatston": phantom.score,
            "agatston_by_spacing": phantom.score,
            "volume_mm3": 1.0,
            "mass_mg": None,
            "lesions": 1,
        },
        voxels=voxels,
    )


def runs(mask: np.ndarray[Any, Any], uids: list[str], vessel: str) -> list[dict[str, Any]]:
    found = []
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], mask[k].ravel(), [0]))))
        pairs = np.stack([edges[::2], edges[1::2] - edges[::2]], axis=1).ravel()
        found.append({"sop_instance_uid": uids[k], "vessel": vessel, "runs": pairs.tolist()})
    return found


@pytest.fixture(scope="module")
def orthanc(stack: Stack) -> Orthanc:
    return stack.orthanc


@pytest.fixture(scope="module")
def case(stack: Stack, orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored(stack, orthanc, tmp_path_factory.mktemp("ct"), "corrections-1")


@pytest.fixture(scope="module")
def login(stack: Stack) -> Iterator[Callable[..., Reader]]:
    """Adds a user and logs in."""
    with contextlib.ExitStack() as opened:

        def log_in(name: str, role: str = "radiologist", *options: str) -> Reader:
            reader = Reader(stack, name, role, *options)
            opened.callback(reader.http.close)
            return reader

        yield log_in


@pytest.fixture(scope="module")
def ada(login: Callable[..., Reader]) -> Reader:
    return login("ada", "radiologist", "--all-patients", "--display-name", "Dr. Ada Łuk")


@pytest.fixture(scope="module")
def ben(login: Callable[..., Reader]) -> Reader:
    return login("ben", "radiologist", "--all-patients")


def delivered(reader: Reader, case: Scored, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        (found,) = [each for each in reader.corrections(case.study) if each["id"] == name]
        return found if found["delivery"] == "stored" else None

    return dict(until(look, 60.0))


def stored_object(orthanc: Orthanc, uid: str) -> bytes:
    found = orthanc.find("instances", {"SOPInstanceUID": uid})
    assert len(found) == 1, uid
    return orthanc.get_bytes(f"/instances/{found[0]}/file")


def test_a_correction_is_kept_scored_and_stored(
    orthanc: Orthanc, case: Scored, ada: Reader, tmp_path: Path
) -> None:
    body = case.body(note="LAD später <b>nicht</b> 😀")
    answer = ada.post(case.study, body)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["author"] == {"id": ada.user["id"], "display_name": "Dr. Ada Łuk"}
    assert told["scores"]["agatston"] == pytest.approx(case.scores["agatston"], rel=1e-3)
    assert told["calcium"] == body["calcium"]
    assert told["note"] == body["note"]
    assert told["score_check"] == "differs"
    found = delivered(ada, case, body["id"])
    assert sorted(each["modality"] for each in found["objects"]) == ["SEG", "SR"]
    for each in found["objects"]:
        file = stored_object(orthanc, each["sop_instance_uid"])
        assert dciodvfy_errors(file, tmp_path) == []
        dataset = pydicom.dcmread(io.BytesIO(file))
        assert str(dataset.StudyInstanceUID) == case.study
        assert str(dataset.PatientName) == "Łuk^Ada=患者"
        if each["modality"] == "SEG":
            geometry = demo_phantom(matrix=256).volume.geometry
            assert np.array_equal(segment_voxels(file, geometry)[1], case.voxels)
        else:
            assert "modified" in [code_value(item) for item in content(dataset, "verdict")]


def test_the_browser_s_score_is_confirmed_when_it_is_the_server_s(
    case: Scored, ada: Reader
) -> None:
    first = ada.post(case.study, case.body()).json()["scores"]
    names = ("agatston", "agatston_by_spacing", "volume_mm3", "mass_mg", "lesions")
    body = case.body()
    body["calcium"] = {**body["calcium"], "scores": {name: first[name] for name in names}}
    assert ada.post(case.study, body).json()["score_check"] == "equal"


def test_what_is_sent_twice_is_kept_once(case: Scored, ada: Reader) -> None:
    body = case.verdict("accept")
    first, again = ada.post(case.study, body), ada.post(case.study, body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["seq"] == again.json()["seq"]
    assert [each["id"] for each in ada.corrections(case.study)].count(body["id"]) == 1


def test_an_id_that_stands_for_something_else_is_refused(
    case: Scored, ada: Reader, ben: Reader
) -> None:
    body = case.verdict("accept")
    assert ada.post(case.study, body).status_code == 201
    changed = ada.post(case.study, {**body, "note": "other"})
    assert (changed.status_code, changed.json()["code"]) == (422, "correction_id_taken")
    stolen = ben.post(case.study, body)
    assert (stolen.status_code, stolen.json()["code"]) == (422, "correction_id_taken")


def test_two_readers_at_once_are_both_kept_and_told(case: Scored, ada: Reader, ben: Reader) -> None:
    base = ada.post(case.study, case.verdict("accept")).json()["id"]
    one = ada.post(case.study, case.verdict("accept", base=base)).json()
    other = ben.post(case.study, case.verdict("reject", reason="motion", base=base)).json()
    assert other["concurrent"] == [one["id"]]
    later = ben.post(case.study, case.verdict("accept", base=other["id"])).json()
    assert later["concurrent"] == []
    assert [each["seq"] for each in ada.corrections(case.study)] == list(range(1, later["seq"] + 1))


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"source_series": "1.2.3"}, 404, "series_unknown"),
        ({"result": {"job": "0" * 40, "sop_instance_uid": "1.2"}}, 404, "result_unknown"),
        ({"verdict": "reject"}, 422, "request"),
        ({"schema": 2}, 422, "request"),
        ({"extra": 1}, 422, "request"),
    ],
)
def test_what_does_not_fit_the_study_is_refused(
    case: Scored, ada: Reader, change: dict[str, Any], status: int, code: str
) -> None:
    before = len(ada.corrections(case.study))
    answer = ada.post(case.study, case.verdict("accept") | change)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert len(ada.corrections(case.study)) == before


def test_a_report_of_another_result_is_refused(case: Scored, ada: Reader) -> None:
    body = case.verdict("accept", result={"job": case.job, "sop_instance_uid": "2.25.1"})
    answer = ada.post(case.study, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "result_mismatch")


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"runs": [0, 3]}, "mask_below_threshold"),
        ({"runs": [256 * 256 - 1, 2]}, "mask_outside"),
        ({"runs": [3, 1, 1, 1]}, "mask_runs"),
        ({"sop_instance_uid": "1.2.3"}, "mask_image_unknown"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(
    case: Scored, ada: Reader, entry: dict[str, Any], code: str
) -> None:
    body = case.body()
    mask = [{**case.mask[0], **entry}, *case.mask[1:]]
    body["calcium"] = {**body["calcium"], "mask": mask}
    answer = ada.post(case.study, body)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


def test_every_bad_file_of_the_wire_is_refused(case: Scored, ada: Reader) -> None:
    for path in sorted((WIRE / "bad").glob("correction-*.json")):
        answer = ada.post(case.study, json.loads(path.read_text()))
        assert answer.status_code == 422, path.name


@pytest.mark.parametrize("role", ["doctor", "clinician", "admin"])
def test_only_radiologists_correct(login: Callable[..., Reader], case: Scored, role: str) -> None:
    user = login(f"a-{role}", role, "--all-patients")
    answer = user.post(case.study, case.verdict("accept"))
    assert (answer.status_code, answer.json()["code"]) == (403, "role_forbidden")
    assert user.corrections(case.study)


def test_a_foreign_study_is_unknown(login: Callable[..., Reader], case: Scored) -> None:
    stranger = login("stranger")
    for answer in (
        stranger.post(case.study, case.verdict("accept")),
        stranger.http.get(f"/api/studies/{case.study}/corrections"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "study_unknown")


def test_corrections_do_not_disturb_the_study(orthanc: Orthanc, case: Scored, ada: Reader) -> None:
    body = case.verdict("reject", reason="other", note="seen")
    assert ada.post(case.study, body).status_code == 201
    delivered(ada, case, body["id"])
    view = ended(orthanc, case.study)
    assert view["state"] == "done"
    assert [one["job"] for series in view["series"] for one in series["jobs"]] == [case.job]
    assert {one["code"] for one in view["series"] if one["excluded_by"]} == {"result"}


def test_objects_are_found_by_qido_and_stay_one(
    orthanc: Orthanc, case: Scored, ada: Reader
) -> None:
    body = case.verdict("accept")
    ada.post(case.study, body)
    (made,) = delivered(ada, case, body["id"])["objects"]
    found = orthanc.get_json(
        f"/dicom-web/studies/{case.study}/series", SeriesInstanceUID=made["series_instance_uid"]
    )
    assert len(found) == 1


def test_an_absent_archive_delays_the_objects_and_loses_nothing(
    stack: Stack, orthanc: Orthanc, ada: Reader, tmp_path: Path
) -> None:
    case = scored(stack, orthanc, tmp_path, "corrections-away")
    body = case.body()
    known = ada.post(case.study, body)
    assert known.status_code == 201
    # Killed at once: the row is there, the objects may be or not.
    os.kill(stack.pid("gateway"), signal.SIGKILL)
    until(lambda: _answers(ada), 60.0)
    assert body["id"] in [each["id"] for each in ada.corrections(case.study)]
    found = delivered(ada, case, body["id"])
    for each in found["objects"]:
        stored_object(orthanc, each["sop_instance_uid"])


def _answers(reader: Reader) -> bool:
    try:
        return reader.http.get("/api/health").status_code == 200
    except httpx.TransportError:
        return False


def test_no_word_of_a_reader_is_readable_in_the_database_or_the_logs(
    stack: Stack, case: Scored, ada: Reader
) -> None:
    word = "Unverwechselbarkeitsprobe"
    body = case.verdict("reject", reason="other", note=word)
    assert ada.post(case.study, body).status_code == 201
    delivered(ada, case, body["id"])
    files = [*stack.data.glob("radloop.db*"), *stack.folder.logs.glob("*.log")]
    assert files
    for path in files:
        held = path.read_bytes()
        assert word.encode() not in held, path
        assert case.study.encode() not in held, path


def test_a_correction_takes_a_moment(case: Scored, ada: Reader) -> None:
    begun = time.monotonic()
    assert ada.post(case.study, case.body()).status_code == 201
    # No benchmark: a stuck child would take its whole limit.
    assert time.monotonic() - begun < 20.0


def test_the_report_prints_with_and_without_the_reader(case: Scored, ada: Reader) -> None:
    body = case.body(note="Zählt: <b>alles</b>")
    assert ada.post(case.study, body).status_code == 201
    path = f"/api/studies/{case.study}/results/{case.job}/report.pdf"
    begun = time.monotonic()
    plain = ada.http.get(path)
    with_reader = ada.http.get(path, params={"correction": body["id"]})
    assert time.monotonic() - begun < 30.0
    for answer in (plain, with_reader):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/pdf"
        assert case.job[:12] in answer.headers["content-disposition"]
        assert "Ada" not in answer.headers["content-disposition"]
    reader = pypdf.PdfReader(io.BytesIO(with_reader.content))
    said = " ".join(page.extract_text() for page in reader.pages)
    assert "Łuk, Ada" in said
    assert "Reader: Dr. Ada Łuk" in said
    assert "Zählt: <b>alles</b>" in said
    assert plain.content == ada.http.get(path).content


@pytest.mark.parametrize(
    ("job", "query", "status", "code"),
    [
        ("0" * 40, {}, 404, "result_unknown"),
        ("", {"correction": str(uuid4())}, 404, "correction_unknown"),
        ("", {"correction": "x"}, 422, "request"),
        ("../..", {}, 404, "path_unknown"),
    ],
)
def test_a_report_of_what_is_not_there_is_refused(
    case: Scored, ada: Reader, job: str, query: dict[str, str], status: int, code: str
) -> None:
    path = f"/api/studies/{case.study}/results/{job or case.job}/report.pdf"
    answer = ada.http.get(path, params=query)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_a_report_of_a_foreign_study_is_unknown(login: Callable[..., Reader], case: Scored) -> None:
    other = login("other-stranger", "doctor")
    answer = other.http.get(f"/api/studies/{case.study}/results/{case.job}/report.pdf")
    assert (answer.status_code, answer.json()["code"]) == (404, "study_unknown")


def test_a_superseded_result_can_still_be_assessed_and_printed(
    stack: Stack, orthanc: Orthanc, ada: Reader, tmp_path: Path
) -> None:
    case = scored(stack, orthanc, tmp_path, "corrections-superseded")
    path = f"/api/studies/{case.study}/series/{case.series}/rerun"
    again = ada.http.post(path, json={})
    assert again.status_code == 202, again.text

    def newer() -> bool:
        series = image_series(ended(orthanc, case.study))
        return len(series["jobs"]) == 2 and series["jobs"][0]["state"] == "done"

    until(newer, 90.0)
    body = case.body()
    assert ada.post(case.study, body).status_code == 201
    delivered(ada, case, body["id"])
    report = ada.http.get(f"/api/studies/{case.study}/results/{case.job}/report.pdf")
    said = " ".join(
        page.extract_text() for page in pypdf.PdfReader(io.BytesIO(report.content)).pages
    )
    assert "A newer result of this series exists." in said


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Store]:
    engine = open_database(f"sqlite:///{tmp_path / 'radloop.db'}")
    migrate(engine)
    yield Store(engine, tmp_path)
    engine.dispose()


def kept(records: Store, orthanc: Orthanc, case: Scored, **outcome: Any) -> Stored:
    """A correction as the route keeps it."""
    body = CorrectionBody.model_validate(case.body())
    said = assessment_of(body)
    name = orthanc.find("studies", {"StudyInstanceUID": case.study})[0]
    made = assess(orthanc, StudyAccess(case.study, name, "5" * 32, "a" * 32), said)
    new = NewCorrection(
        id=UUID(said.id),
        study_key="5" * 32,
        author=records.user(f"user-{said.id[:8]}"),
        made_at=moment(said.made_at),
        verdict=said.verdict,
        body=body.model_dump(by_alias=True),
        outcome=made | outcome,
    )
    return records.corrections.add(new)


def gateway(records: Store, orthanc: Orthanc) -> Any:
    """As much of a gateway as delivery asks for."""
    return SimpleNamespace(
        corrections=records.corrections, audit=records.audit, orthanc=orthanc, version="0.1.0"
    )


def test_an_archive_that_is_away_is_tried_again_and_nothing_is_stored_twice(
    orthanc: Orthanc, case: Scored, records: Store
) -> None:
    stored = kept(records, orthanc, case)
    with Orthanc("http://127.0.0.1:1", "", "") as nobody:
        assert deliver_waiting(gateway(records, nobody), {}) == 0
    assert [(each.id, each.tries) for each in records.corrections.unstored()] == [(stored.id, 1)]
    here = gateway(records, orthanc)
    # As after a crash between storing and noting it.
    first = deliver(here, stored)
    assert deliver_waiting(here, {}) == 0
    assert deliver(here, stored) == first
    for each in first:
        assert len(orthanc.find("instances", {"SOPInstanceUID": each.sop_instance_uid})) == 1


def test_a_study_that_is_gone_stays_waiting_and_holds_up_no_other(
    orthanc: Orthanc, case: Scored, records: Store
) -> None:
    lost = kept(records, orthanc, case, study="1.2.3.4")
    other = kept(records, orthanc, case)
    due: dict[UUID, float] = {}
    here = gateway(records, orthanc)
    assert deliver_waiting(here, due) == 1
    assert deliver_waiting(here, due) == 0
    assert [(each.id, each.tries) for each in records.corrections.unstored()] == [(lost.id, 1)]
    assert set(due) == {lost.id}
    assert records.corrections.get(other.id).delivered
