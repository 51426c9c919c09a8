"""The node's share in jobs that come after others, or read several series."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from ai_nodes import worker
from ai_nodes.registry import PIPELINES
from dicom_services.dicom.findings_bytes import pack
from dicom_services.domain.earlier import Earlier
from dicom_services.domain.findings import Finding
from dicom_services.domain.volume import Study
from dicom_services.errors import MissingError, UnavailableError
from tests.dicom_files import ct_files
from tests.unit.ai_nodes.test_worker import (
    JOB_ID,
    SERIES_ID,
    FakeOrthanc,
    slices_with_calcium,
    with_patient,
)

EXPERT_SERIES = "2f6d1f0b-8c1d5e55-3d6c0d1e-51d2a6c3-9e0b7a44"
EXPERT, OTHER = "a" * 40, "b" * 40
REPORT = "3f6d1f0b-8c1d5e55-3d6c0d1e-51d2a6c3-9e0b7a44"
DONE = {"rule": "expert-a", "job": EXPERT, "series": EXPERT_SERIES, "state": "done", "code": ""}
REFUSED = {**DONE, "rule": "expert-b", "job": OTHER, "state": "refused", "code": "contrast"}
ABSENT = {"rule": "expert-c", "job": "", "series": "", "state": "absent", "code": ""}


class Panel(FakeOrthanc):
    """An Orthanc whose ledger knows a join, and the findings of an expert."""

    def __init__(self) -> None:
        super().__init__(slices_with_calcium())
        self.join: dict[str, Any] = {"job": JOB_ID, "after": [], "refuse_after_failed": False}
        self.experts = [
            {
                "job": EXPERT,
                "pipeline": "calcium",
                "results": [{"modality": "SR", "series": REPORT}],
            },
            {"job": OTHER, "pipeline": "calcium", "results": []},
        ]
        self.more: dict[str, dict[str, bytes]] = {}
        self.document: bytes | None = pack({"schema": 2, "state": "done", "job": EXPERT})

    def get_json(self, path: str) -> dict[str, Any]:
        series = path.removeprefix("/radloop/series/")
        return {"jobs": {SERIES_ID: [self.join], EXPERT_SERIES: self.experts}[series]}

    def instances_of(self, series: str) -> list[str]:
        if series == REPORT:
            return ["5f6d1f0b-8c1d5e55-3d6c0d1e-51d2a6c3-9e0b7a44"]
        if series in self.more:
            return sorted(self.more[series])
        if series != SERIES_ID:
            raise MissingError("orthanc_missing")
        return super().instances_of(series)

    def attachment(self, level: str, name: str, key: str) -> bytes | None:
        assert (level, key) == ("instances", "radloop-findings")
        return self.document

    def fetch(self, instances: list[str]) -> list[bytes]:
        self.fetched = instances
        whole = {**self.files, **{k: v for one in self.more.values() for k, v in one.items()}}
        self.on_fetch()
        return [whole[name] for name in instances]

    def message(self, **more: Any) -> dict[str, Any]:
        after = [one["job"] for one in self.join["after"] if one["job"]]
        return super().message(**{"version": 2, "others": [], "after": after, **more})


@pytest.fixture
def orthanc(monkeypatch: pytest.MonkeyPatch) -> Panel:
    made = Panel()
    monkeypatch.setattr(worker, "_node", made)
    return made


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Earlier, ...]]:
    """What a pipeline that joins results was given, each time it ran."""
    seen: list[tuple[Earlier, ...]] = []
    calcium = PIPELINES["calcium"]

    def run(study: Study, *rest: Any) -> tuple[Finding, ...]:
        seen.append(study.earlier)
        return calcium.run(study, *rest)

    joining = replace(calcium, name="fusion", run=run, after_results=True)
    alone = replace(joining, name="alone", after_results=False)
    known = {**PIPELINES, "fusion": joining, "alone": alone}
    monkeypatch.setattr(worker, "PIPELINES", known)
    return seen


def test_job_that_the_ledger_holds_back_is_put_off_and_touches_nothing(orthanc):
    orthanc.ledger["fetching"] = "waiting"
    orthanc.join["after"] = [DONE]
    with pytest.raises(UnavailableError, match="predecessor_unfinished"):
        worker.run_job(orthanc.message())
    assert orthanc.events == ["fetching", "closed"]


def test_pipeline_that_asks_for_them_is_given_the_findings_of_those_before_it(orthanc, given):
    orthanc.join["after"] = [DONE, REFUSED, ABSENT]
    worker.run_job(orthanc.message(pipeline="fusion"))
    assert orthanc.last == ("done", "")
    ((first, second, third),) = given
    assert (first.rule, first.pipeline, first.succeeded) == ("expert-a", "calcium", True)
    assert first.document["job"] == EXPERT
    assert (second.state, second.code, second.succeeded) == ("refused", "contrast", False)
    assert (third.rule, third.job, third.state, third.document) == ("expert-c", "", "absent", {})


def test_pipeline_that_does_not_ask_is_given_nothing(orthanc, given):
    orthanc.join["after"] = [DONE]
    worker.run_job(orthanc.message(pipeline="alone"))
    assert given == [()]


@pytest.mark.parametrize("document", [None, b"", b"no gzip", pack({"no": "schema"})])
def test_findings_that_are_not_there_or_not_ours_are_no_success(orthanc, given, document):
    orthanc.join["after"] = [DONE]
    orthanc.document = document
    worker.run_job(orthanc.message(pipeline="fusion"))
    assert [(one.state, one.succeeded) for one in given[0]] == [("done", False)]


def test_join_that_wants_all_of_them_is_refused_in_a_report_when_one_brought_nothing(orthanc):
    orthanc.join |= {"after": [DONE, REFUSED, ABSENT], "refuse_after_failed": True}
    worker.run_job(orthanc.message())
    assert orthanc.last == ("refused", "predecessor_failed")
    assert orthanc.reports[-1]["facts"] == {"count": 2, "limit": 3}
    assert [one["modality"] for one in orthanc.reports[-1]["results"]] == ["SR"]
    assert "analysing" not in orthanc.events


def test_join_that_wants_all_of_them_runs_when_all_succeeded(orthanc):
    orthanc.join |= {"after": [DONE], "refuse_after_failed": True}
    worker.run_job(orthanc.message())
    assert orthanc.last == ("done", "")


def with_series(orthanc: Panel, count: int = 10) -> list[dict[str, Any]]:
    """A further series of the same study beside the first."""

    def other(k: int, ds: Dataset) -> None:
        with_patient(k, ds)
        ds.SeriesInstanceUID = "1.2.3.99"
        ds.SOPInstanceUID = f"1.2.3.99.{k}"

    files = ct_files(np.full((count, 32, 32), 1064, np.int16), change=other)
    orthanc.more[EXPERT_SERIES] = {f"{n:08x}-1-0-0-0": file for n, file in enumerate(files)}
    present = sorted(orthanc.more[EXPERT_SERIES])
    digest = hashlib.sha256("\n".join(present).encode()).hexdigest()[:40]
    return [{"series": EXPERT_SERIES, "instances": digest, "count": count}]


def test_files_of_every_series_of_a_job_are_fetched_and_read_together(orthanc):
    others = with_series(orthanc)
    worker.run_job(orthanc.message(others=others))
    assert orthanc.fetched == sorted(orthanc.files) + sorted(orthanc.more[EXPERT_SERIES])
    # This pipeline reads one series at a time, and says so.
    assert orthanc.last == ("refused", "mixed_series")


@pytest.mark.parametrize("change", ["late", "deleted"])
def test_job_whose_further_series_changed_is_superseded(orthanc, change):
    others = with_series(orthanc)
    message = orthanc.message(others=others)
    if change == "late":
        orthanc.more[EXPERT_SERIES]["000000ff-1-0-0-0"] = b""
    else:
        orthanc.more.clear()
    worker.run_job(message)
    assert orthanc.last == ("superseded", "incomplete")
    assert orthanc.stored == []


def test_message_of_the_version_before_is_still_worked_on(orthanc):
    message = orthanc.message()
    del message["others"], message["after"]
    worker.run_job({**message, "version": 1})
    assert orthanc.last == ("done", "")
