"""What the viewer is told of a study, from answers of Orthanc and the plugin made by hand."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_services.api.context import StudyAccess
from dicom_services.api.study_results import Overview, StudyResults, moment, plain
from dicom_services.api.words import words
from dicom_services.dicom.findings_bytes import pack
from dicom_services.errors import MissingError, UnavailableError

ROOT = Path(__file__).resolve().parents[4]
WIRE = Path(__file__).resolve().parents[3] / "wire"
PLUGIN = ("ledger", "router", "queue_thread", "views", "assignment", "planning")
STUDY = StudyAccess("1.2.3", "st", "key", "patient")
DOCUMENT = {"schema": 3, "state": "done", "job": "ab" * 20}


class Answer:
    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body

    async def read(self) -> bytes:
        return self.body

    async def json(self, content_type: object = None) -> Any:
        return json.loads(self.body)


class Archive:
    """Stands for the HTTP client: answers by path, 404 for the rest; counts what is asked."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    @asynccontextmanager
    async def request(self, method: str, path: str, **_: Any) -> AsyncIterator[Answer]:
        assert method == "GET"
        self.asked.append(path)
        told = self.answers.get(path)
        if isinstance(told, int) or told is None:
            yield Answer(told or 404, b"")
        else:
            yield Answer(200, told if isinstance(told, bytes) else json.dumps(told).encode())

    def get(self, path: str) -> Any:
        return self.request("GET", path)


def job(name: str, **more: Any) -> dict[str, Any]:
    return {
        "job": name * 40,
        "pipeline": "calcium",
        "state": "done",
        "stage": "",
        "code": "",
        "run": 0,
        "created": "2026-01-01T00:00:00Z",
        "updated": "2026-01-01T00:01:00Z",
        "summary": "Agatston 16",
        "superseded_by": "",
        "results": [{"modality": "SR", "sop": f"1.9.{ord(name)}", "series": f"sr-{name}"}],
        **more,
    }


def series(name: str, modality: str, number: str = "1", **tags: Any) -> dict[str, Any]:
    told = {"SeriesInstanceUID": f"1.5.{name}", "Modality": modality, "SeriesNumber": number}
    return {"ID": name, "Instances": [f"{name}-0"], "MainDicomTags": told | tags}


def archive(
    jobs: list[dict[str, Any]], described: list[dict[str, Any]], **more: Any
) -> tuple[StudyResults, Archive]:
    view = {
        "state": "done",
        "code": "",
        "arriving": False,
        "series": [
            {
                "series": one["ID"],
                "state": "done",
                "code": "" if one["ID"] == "ct" else "result",
                "excluded_by": "",
                "why": [],
                "jobs": jobs if one["ID"] == "ct" else [],
            }
            for one in described
        ],
    }
    answers = {"/radloop/studies/st": view, "/studies/st/series": described, **more}
    made = Archive(answers)
    return StudyResults(made), made  # type: ignore[arg-type] # as much of a client as is needed


def results(reader: StudyResults) -> dict[str, Any]:
    return asyncio.run(reader.results(STUDY))


def beside(name: str) -> str:
    return f"/instances/sr-{name}-0/attachments/radloop-findings/data"


def test_findings_are_read_once_and_go_to_their_job() -> None:
    reader, made = archive(
        [job("a")], [series("ct", "CT"), series("sr-a", "KO")], **{beside("a"): pack(DOCUMENT)}
    )
    found = results(reader)
    assert found["series"][0]["jobs"][0]["findings"] == DOCUMENT
    results(reader)
    assert made.asked.count(beside("a")) == 1


@pytest.mark.parametrize("name", ["old/findings-version-2", "findings-perfusion"])
def test_findings_of_every_version_are_told_as_the_archive_keeps_them(name: str) -> None:
    kept = json.loads((WIRE / f"{name}.json").read_text())
    reader, _ = archive(
        [job("a")], [series("ct", "CT"), series("sr-a", "KO")], **{beside("a"): pack(kept)}
    )
    assert results(reader)["series"][0]["jobs"][0]["findings"] == kept


@pytest.mark.parametrize("told", [404, b"no gzip", b""])
def test_findings_that_are_not_there_are_none_and_are_asked_for_again(told: object) -> None:
    reader, made = archive(
        [job("a")], [series("ct", "CT"), series("sr-a", "KO")], **{beside("a"): told}
    )
    assert results(reader)["series"][0]["jobs"][0]["findings"] is None
    results(reader)
    assert made.asked.count(beside("a")) == 2


def test_of_many_runs_the_newest_come_with_findings() -> None:
    names = "abcdefg"
    described = [series("ct", "CT"), *(series(f"sr-{n}", "KO") for n in names)]
    runs = [job(n, superseded_by="x" if n != "a" else "") for n in names]
    reader, _ = archive(runs, described, **{beside(n): pack(DOCUMENT) for n in names})
    told = results(reader)["series"][0]["jobs"]
    assert [one["findings"] is not None for one in told] == [True] * 5 + [False] * 2
    assert [one["superseded"] for one in told] == [False] + [True] * 6


def test_a_job_whose_report_was_deleted_has_no_findings() -> None:
    reader, _ = archive([job("a")], [series("ct", "CT")])
    assert results(reader)["series"][0]["jobs"][0]["findings"] is None


def test_a_job_under_way_is_told_with_its_stage() -> None:
    running = job("a", state="running", stage="analysing", results=[])
    reader, _ = archive([running], [series("ct", "CT")])
    (told,) = results(reader)["series"][0]["jobs"]
    assert (told["state"], told["stage"], told["findings"]) == ("running", "analysing", None)


def report(name: str, **tags: Any) -> dict[str, Any]:
    instance = {"ID": f"{name}-0", "MainDicomTags": {"SOPInstanceUID": f"1.9.{name}"}}
    return {f"/series/{name}/instances": [instance], **tags}


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({"Manufacturer": "radloop", "SeriesNumber": "9002"}, "result"),
        ({"Manufacturer": "radloop", "SeriesNumber": "9102"}, "assessment"),
        ({"Manufacturer": "radloop", "SeriesNumber": "1"}, "other"),
        ({"Manufacturer": "Somebody", "SeriesNumber": "9102"}, "other"),
        ({}, "other"),
    ],
)
def test_a_report_is_told_by_who_made_it(tags: dict[str, str], kind: str) -> None:
    reader, _ = archive([], [series("sr", "SR", **tags)], **report("sr"))
    (told,) = results(reader)["reports"]
    assert told["kind"] == kind
    assert told["maker"] == tags.get("Manufacturer", "")


def test_a_report_has_the_title_and_time_that_stand_in_it() -> None:
    content = {
        "/instances/sr-0/content/0040-a043/0/0008-0104": b"Imaging Measurement Report ",
        "/instances/sr-0/content/0008-0023": b"20240501",
        "/instances/sr-0/content/0008-0033": b"123015.25",
    }
    reader, made = archive([], [series("sr", "SR")], **report("sr"), **content)
    (told,) = results(reader)["reports"]
    assert told["title"] == "Imaging Measurement Report"
    assert told["created"] == "2024-05-01T12:30:15"
    results(reader)
    assert made.asked.count("/instances/sr-0/content/0008-0023") == 1


def test_a_title_in_other_letters_gives_way_to_the_series_description() -> None:
    content = {"/instances/sr-0/content/0040-a043/0/0008-0104": "Befund ü".encode("latin-1")}
    described = series("sr", "SR", SeriesDescription="Befund ü")
    reader, _ = archive([], [described], **report("sr"), **content)
    assert results(reader)["reports"][0]["title"] == "Befund ü"


def test_series_come_in_the_order_of_their_numbers() -> None:
    described = [series("c", "CT", "x"), series("b", "CT", "10"), series("a", "CT", " 9 ")]
    reader, _ = archive([], described)
    assert [one["series"] for one in results(reader)["series"]] == ["1.5.a", "1.5.b", "1.5.c"]


def test_a_study_that_went_away_is_unknown() -> None:
    reader, made = archive([], [])
    del made.answers["/radloop/studies/st"]
    with pytest.raises(MissingError, match="study_unknown"):
        results(reader)


def test_an_archive_in_trouble_is_unavailable() -> None:
    reader, made = archive([], [])
    made.answers["/radloop/studies/st"] = 500
    with pytest.raises(UnavailableError, match="orthanc_failed"):
        results(reader)


def test_the_version_changes_with_what_is_told_and_with_nothing_else() -> None:
    view = {"state": "done", "code": "", "series": []}
    one = Overview(view, {"a": {"Instances": ["1"]}})
    assert one.version == Overview(dict(reversed(view.items())), one.series).version
    assert one.version != Overview({**view, "state": "running"}, one.series).version
    assert one.version != Overview(view, {"a": {"Instances": ["1", "2"]}}).version
    assert 0 <= one.version < 2**53


@pytest.mark.parametrize(
    ("row", "headline"),
    [
        ({"state": "done", "code": "", "summary": "Agatston 16"}, "Agatston 16"),
        ({"state": "done", "code": "not_selected", "summary": ""}, ""),
        ({"state": "running", "code": "", "summary": ""}, ""),
        (
            {"state": "refused", "code": "no_heart", "summary": ""},
            "No heart was found in the images",
        ),
        (
            {"state": "failed", "code": "job_died", "summary": ""},
            "The process that analysed the series died",
        ),
    ],
)
def test_a_row_of_a_list_says_what_was_found_or_why_nothing(
    row: dict[str, str], headline: str
) -> None:
    reader, _ = archive([], [], **{"/radloop/states?studies=st": {"st": row}})
    told = asyncio.run(reader.states([STUDY]))
    assert told == {"1.2.3": {"state": row["state"], "code": row["code"], "headline": headline}}


def test_a_study_that_the_plugin_no_longer_knows_has_no_row() -> None:
    reader, _ = archive([], [], **{"/radloop/states?studies=st": {}})
    assert asyncio.run(reader.states([STUDY])) == {}


def test_long_lists_are_asked_for_in_parts() -> None:
    many = [StudyAccess(f"1.2.{n}", f"st{n}", "", "") for n in range(150)]
    row = {"state": "done", "code": "", "summary": ""}
    parts = {
        f"/radloop/states?studies={','.join(one.orthanc_id for one in part)}": {
            one.orthanc_id: row for one in part
        }
        for part in (many[:100], many[100:])
    }
    reader, made = archive([], [], **parts)
    assert len(asyncio.run(reader.states(many))) == 150
    assert len(made.asked) == 2


@pytest.mark.parametrize(
    ("day", "time", "told"),
    [
        ("20240501", "123015.5", "2024-05-01T12:30:15"),
        ("2024.05.01", "12:30", "2024-05-01T12:30:00"),
        ("20240501", "", "2024-05-01T00:00:00"),
        ("", "123015", ""),
        ("yesterday", "noon", ""),
    ],
)
def test_odd_dates_are_none(day: str, time: str, told: str) -> None:
    assert moment(day, time) == told


def test_a_line_of_text_is_one_line() -> None:
    assert plain("a\x00b\n\u202ec" + "d" * 500) == "a b c" + "d" * 195


@pytest.mark.parametrize("code", ["no_rule", "job_died", "contrast", "site_own_name"])
def test_every_code_has_words(code: str) -> None:
    assert " " in words(code)
    assert words("") == ""


def test_every_code_in_which_jobs_and_series_end_has_words_of_its_own() -> None:
    plugin = "".join((ROOT / "orthanc_plugins" / f"{name}.py").read_text() for name in PLUGIN)
    worker = (ROOT / "ai_nodes" / "worker.py").read_text()
    used = set(re.findall(r'"code": "([a-z_]+)"', plugin))
    used |= set(re.findall(r'return "done", "([a-z_]+)"', plugin))
    used |= set(re.findall(r'_record_error\([^)]*"([a-z_]+)"\)', plugin))
    used |= set(re.findall(r'_End\("[a-z]+", "([a-z_]+)"', worker))
    used |= set(re.findall(r'_delayed\(job, "([a-z_]+)"', worker))
    used |= set(re.findall(r'return "(too_many_[a-z]+)"', plugin))
    used |= {
        "disk_full",
        "run_again",
        "predecessor_failed",
        "incomplete",
        "not_selected",
        "no_rule",
    }
    assert len(used) > 10
    spelt_out = {code for code in used if words(code) == code.replace("_", " ").capitalize()}
    assert spelt_out == set()
