"""The node's end of the queue: what a message may do, and how a job ends in the ledger."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import logging
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import redis
from pydicom import Dataset
from rq.exceptions import DeserializationError
from rq.timeouts import JobTimeoutException

from ai_nodes import worker
from ai_nodes.messages import FUNCTION, AllowedJob, SignedJSON
from dicom_services import log
from dicom_services.dicom.findings_bytes import unpack
from dicom_services.errors import (
    AccessError,
    ConfigError,
    CorruptError,
    InputError,
    MissingError,
    UnavailableError,
)
from dicom_services.settings import ResultSettings
from tests.dicom_files import STUDY, ct_files

SERIALIZER = SignedJSON(bytes(range(32)))
NOBODY = redis.Redis(host="127.0.0.1", port=1)
PLANTED = "PLANTED"
SERIES_ID = "ba1a8c46-3ddbfda9-0e79b33d-f6afa5fc-f3e51a51"
JOB_ID = "031d1f8abe3c577ab7b5f0c59953e5770b9dfb90"


# What a message may do.


def queued(data: list[Any], **fields: bytes) -> AllowedJob:
    """A job as a worker reads it from the hash in Redis, without Redis."""
    job = AllowedJob(JOB_ID, connection=NOBODY, serializer=SERIALIZER)
    job.restore({"data": SERIALIZER.dumps(data), **fields})
    return job


def test_our_own_message_is_run_job():
    job = queued([FUNCTION, None, [{"version": 1}], {}])
    assert job.func is worker.run_job
    assert job.args == [{"version": 1}]


@pytest.mark.parametrize(
    "data",
    [
        ["os.system", None, ["true"], {}],
        ["ai_nodes.worker.report", None, [{}], {}],
        [FUNCTION + ".__call__", None, [{}], {}],
        [None, None, [{}], {}],
        [FUNCTION, {"a": 1}, [{}], {}],
        [FUNCTION, "", [{}], {}],
        [FUNCTION, None, [{}], {"message": {}}],
    ],
    ids=[
        "other",
        "ours-but-other",
        "attribute",
        "nameless",
        "instance",
        "empty-instance",
        "kwargs",
    ],
)
def test_signed_message_that_is_more_than_run_job_is_refused(data):
    job = queued(data)
    with pytest.raises(CorruptError, match="job_function"):
        job.perform()


@pytest.mark.parametrize(
    "data",
    [
        SignedJSON(bytes(32)).dumps([FUNCTION, None, [{}], {}]),
        json.dumps(["os.system", None, ["true"], {}]).encode(),
        b"cposix\nsystem\n(S'true'\ntR.",
        b"",
    ],
    ids=["another-key", "unsigned", "pickle", "empty"],
)
def test_message_without_our_signature_is_not_read(data):
    job = AllowedJob(JOB_ID, connection=NOBODY, serializer=SERIALIZER)
    job.restore({"data": data})
    with pytest.raises(DeserializationError):
        job.perform()


def test_key_that_is_too_short_is_refused():
    with pytest.raises(CorruptError, match="signing_key"):
        SignedJSON(bytes(31))


def test_callbacks_named_in_redis_are_ignored():
    job = queued(
        [FUNCTION, None, [{}], {}],
        success_callback_name=b"os.abort",
        failure_callback_name=b"os.abort",
        stopped_callback_name=b"os.abort",
    )
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)


def test_webhooks_named_in_redis_are_never_called():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        hook = [{"url": url, "statuses": ["finished", "failed"], "events": ["finished"]}]
        job = queued([FUNCTION, None, [{}], {}], webhooks=json.dumps(hook).encode())
        job.send_webhooks("finished")
        with pytest.raises(BlockingIOError):
            listener.accept()


# How a job ends.


class FakeOrthanc:
    """An Orthanc with one series, and the ledger behind it; keeps what happened, in order."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = {f"{n:08x}-0-0-0-0": file for n, file in enumerate(files)}
        self.events: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self.stored: list[bytes] = []
        self.ledger: dict[str, str] = {}
        self.on_fetch: Callable[[], None] = lambda: None
        self.attached: dict[tuple[str, str, str], bytes] = {}
        self.on_stow: Callable[[], None] = lambda: None
        self.on_attach: Callable[[], None] = lambda: None
        self.on_report: Callable[[dict[str, Any]], None] = lambda _: None
        self.free_bytes = 1 << 40
        self.results = ResultSettings()

    def __enter__(self) -> FakeOrthanc:
        return self

    def __exit__(self, *_: object) -> None:
        self.events.append("closed")

    def orthanc(self) -> FakeOrthanc:
        """As a `Node`: a new connection."""
        return self

    def instances_of(self, series: str) -> list[str]:
        assert series == SERIES_ID
        return sorted(self.files)

    def fetch(self, instances: list[str]) -> list[bytes]:
        self.on_fetch()
        return [self.files[name] for name in instances]

    def stow(self, files: list[bytes]) -> int:
        self.on_stow()
        self.stored += files
        self.events.append("stored")
        return len(files)

    def status(self) -> dict[str, Any]:
        return {"storage_free_bytes": self.free_bytes}

    def attach(self, level: str, name: str, key: str, data: bytes) -> None:
        self.on_attach()
        self.attached[level, name, key] = data
        self.events.append("attached")

    def post_json(self, path: str, body: object, *, again: bool = False) -> dict[str, str]:
        match = re.fullmatch(rf"/radloop/series/{SERIES_ID}/jobs/{JOB_ID}/([a-z]+)/(.+)", path)
        assert match is not None, path
        assert body is None
        assert again
        more = json.loads(base64.urlsafe_b64decode(match[2]))
        self.on_report({"state": match[1], **more})
        self.reports.append({"state": match[1], **more})
        self.events.append(more.get("stage") or match[1])
        return {"state": self.ledger.get(more.get("stage", ""), match[1])}

    @property
    def last(self) -> tuple[str, str]:
        """State and code that were reported last."""
        return self.reports[-1]["state"], self.reports[-1]["code"]

    def message(self, **more: Any) -> dict[str, Any]:
        """A job for what is there now."""
        digest = hashlib.sha256("\n".join(sorted(self.files)).encode()).hexdigest()[:40]
        return {
            "version": 1,
            "id": JOB_ID,
            "rule": "calcium",
            "pipeline": "calcium",
            "queue": "cpu",
            "study": "754bfa35-a6ac6c78-0c3339e9-01bbf5b5-ea3ab921",
            "series": SERIES_ID,
            "instances": digest,
            "count": len(self.files),
            "settings": {"region": "everything"},
            **more,
        }


def with_patient(k: int, ds: Dataset) -> None:
    ds.PatientName, ds.PatientID = f"{PLANTED}^NAME", f"{PLANTED}-ID"
    ds.SeriesDescription = ds.StudyDescription = f"{PLANTED} text"


def slices_with_calcium(slices: int = 10) -> list[bytes]:
    """A block of 300 HU in soft tissue, of a patient with a conspicuous name."""
    stored = np.full((slices, 32, 32), 1064, np.int16)
    stored[4:6, 10:14, 10:14] = 1324
    return ct_files(stored, change=with_patient)


@pytest.fixture
def orthanc(monkeypatch: pytest.MonkeyPatch) -> FakeOrthanc:
    made = FakeOrthanc(slices_with_calcium())
    # What `main` does with the settings it reads.
    monkeypatch.setattr(worker, "_node", made)
    return made


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Everything the log has written since the test began, as the supervisor would keep it."""
    kept = io.StringIO()
    monkeypatch.setattr(sys, "stderr", kept)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    log.start("worker")
    yield kept.getvalue
    root.handlers = handlers
    root.setLevel(level)


def test_results_are_stored_before_done_is_reported(orthanc):
    worker.run_job(orthanc.message())
    assert orthanc.last == ("done", "")
    assert orthanc.events[-5:] == ["storing", "stored", "attached", "done", "closed"]
    told = orthanc.reports[-1]
    stored = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(file)) for file in orthanc.stored]
    assert [one["modality"] for one in told["results"]] == ["SEG", "SR", "KO"]
    assert [one["sop"] for one in told["results"]] == [str(one.SOPInstanceUID) for one in stored]
    assert {str(one.StudyInstanceUID) for one in stored} == {STUDY}


def test_findings_are_kept_beside_the_report_under_its_own_id(orthanc):
    worker.run_job(orthanc.message())
    ((level, instance, key), data), *others = orthanc.attached.items()
    assert (level, key, others) == ("instances", "radloop-findings", [])
    report = pydicom.dcmread(pydicom.filebase.DicomBytesIO(orthanc.stored[1]))
    uids = (report.PatientID, report.StudyInstanceUID, report.SeriesInstanceUID)
    text = "|".join((*map(str, uids), str(report.SOPInstanceUID)))
    assert instance.replace("-", "") == hashlib.sha1(text.encode()).hexdigest()
    document = unpack(data)
    assert document is not None
    assert (document["state"], document["job"]) == ("done", JOB_ID)
    assert document["results"][1]["sop_instance_uid"] == str(report.SOPInstanceUID)


def test_a_refusal_keeps_its_reason_beside_its_report(orthanc):
    worker.run_job(orthanc.message(settings={"region": "rule"}))
    assert orthanc.last[0] == "refused"
    ((_, data),) = orthanc.attached.items()
    document = unpack(data)
    assert document is not None
    assert document["code"] == orthanc.last[1]


def test_findings_that_cannot_be_kept_now_are_kept_by_the_next_try(orthanc):
    orthanc.on_attach = raising(UnavailableError("orthanc_failed"))
    with pytest.raises(UnavailableError):
        worker.run_job(orthanc.message())
    assert "done" not in {one["state"] for one in orthanc.reports}
    orthanc.on_attach = lambda: None
    worker.run_job(orthanc.message())
    assert orthanc.last == ("done", "")
    assert len(orthanc.attached) == 1


@pytest.mark.parametrize("error", [MissingError("orthanc_missing"), InputError("orthanc_refused")])
def test_an_archive_that_keeps_no_findings_still_gets_the_results(orthanc, written, error):
    orthanc.on_attach = raising(error)
    worker.run_job(orthanc.message())
    assert orthanc.last == ("done", "")
    assert "job.document_not_kept" in written()


def test_job_done_again_stores_the_very_same_objects(orthanc):
    worker.run_job(orthanc.message())
    worker.run_job(orthanc.message())
    first, second = [one["results"] for one in orthanc.reports if one["state"] == "done"]
    assert len(first) == 3
    assert first == second


def test_stages_are_reported_in_their_order(orthanc):
    worker.run_job(orthanc.message())
    stages = [one["stage"] for one in orthanc.reports if one["state"] == "running"]
    assert stages == ["fetching", "decoding", "analysing", "writing", "storing"]


def test_series_that_does_not_fit_is_refused_with_a_report_that_says_why(orthanc):
    del orthanc.files["00000007-0-0-0-0"]
    worker.run_job(orthanc.message())
    assert orthanc.last == ("refused", "slice_gap")
    assert orthanc.reports[-1]["facts"] == {"count": 1, "spacing_mm": 3.0}
    assert [one["modality"] for one in orthanc.reports[-1]["results"]] == ["SR"]
    assert len(orthanc.stored) == 1


class Panic(BaseException):
    """What a decoder in Rust raises: no Exception."""


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (InputError("orthanc_refused"), "refused", "orthanc_refused"),
        (MissingError("orthanc_missing"), "failed", "orthanc_missing"),
        (AccessError("orthanc_login"), "failed", "orthanc_login"),
        (ConfigError("node_config"), "failed", "node_config"),
        (CorruptError("weights_hash"), "failed", "weights_hash"),
        (JobTimeoutException(PLANTED), "failed", "job_timeout"),
        (MemoryError(PLANTED), "failed", "out_of_memory"),
        (RuntimeError(PLANTED), "failed", "internal_error"),
        (Panic(PLANTED), "failed", "internal_error"),
        (KeyboardInterrupt(PLANTED), "failed", "internal_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_every_error_ends_the_job_in_its_own_state_and_code(orthanc, written, error, state, code):
    orthanc.on_fetch = raising(error)
    worker.run_job(orthanc.message())
    assert orthanc.last == (state, code)
    assert orthanc.stored == []
    assert PLANTED not in written() + json.dumps(orthanc.reports)


def raising(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


def test_unknown_pipeline_fails(orthanc):
    worker.run_job(orthanc.message(pipeline="unheard-of"))
    assert orthanc.last == ("failed", "pipeline_unknown")


def test_message_of_another_form_is_never_worked_on(orthanc):
    with pytest.raises(CorruptError, match="job_message"):
        worker.run_job(orthanc.message(series="../../etc/passwd"))
    assert orthanc.events == []


def foreign_trouble() -> None:
    try:
        raise OSError(f"{PLANTED}^NAME at 127.0.0.1")
    except OSError as error:
        raise UnavailableError("orthanc_unreachable", note=PLANTED) from error


@pytest.mark.parametrize(
    ("error", "free_bytes", "code"),
    [
        (OSError(errno.ENOSPC, PLANTED), 1 << 40, "disk_full"),
        (OSError(errno.EDQUOT, PLANTED), 1 << 40, "disk_full"),
        (UnavailableError("stow_failed", reason=272), 1 << 20, "disk_full"),
        (UnavailableError("orthanc_failed", status=500), 0, "disk_full"),
        (UnavailableError("stow_failed", reason=272), 1 << 40, "stow_failed"),
        (UnavailableError("orthanc_timeout"), 0, "orthanc_timeout"),
    ],
)
def test_disk_without_room_delays_the_job_under_its_own_name(orthanc, error, free_bytes, code):
    orthanc.free_bytes = free_bytes
    orthanc.on_stow = raising(error)
    with pytest.raises(UnavailableError) as caught:
        worker.run_job(orthanc.message())
    assert caught.value.code == code
    told = [one for one in orthanc.reports if one["code"]]
    assert [(one["state"], one["code"]) for one in told] == [("running", "disk_full")][
        : code == "disk_full"
    ]


def test_result_that_the_ledger_could_not_be_told_of_is_done_again(orthanc):
    def full(told: dict[str, Any]) -> None:
        if told["state"] == "done":
            raise UnavailableError("orthanc_failed")

    orthanc.on_report = full
    with pytest.raises(UnavailableError, match="orthanc_failed"):
        worker.run_job(orthanc.message())
    orthanc.on_report = lambda _: None
    worker.run_job(orthanc.message())
    assert orthanc.last == ("done", "")


def test_results_are_announced_before_the_first_of_them_is_stored(orthanc):
    worker.run_job(orthanc.message())
    announced = next(one["announced"] for one in orthanc.reports if one["stage"] == "storing")
    assert announced == orthanc.reports[-1]["results"]
    assert len(announced) == 3


def test_unavailable_service_is_tried_again_and_its_words_are_left_behind(orthanc, written):
    orthanc.on_fetch = foreign_trouble
    with pytest.raises(UnavailableError) as caught:
        worker.run_job(orthanc.message())
    assert str(caught.value) == "orthanc_unreachable"
    assert caught.value.__cause__ is None
    # RQ keeps the formatted traceback, which follows a context unless it is suppressed.
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert PLANTED not in written()
    assert {one["state"] for one in orthanc.reports} == {"running"}
    assert orthanc.stored == []


def test_results_that_could_not_be_stored_now_are_not_reported(orthanc):
    orthanc.on_stow = raising(UnavailableError("stow_failed"))
    with pytest.raises(UnavailableError, match="stow_failed"):
        worker.run_job(orthanc.message())
    assert {one["state"] for one in orthanc.reports} == {"running"}


def test_series_that_changed_before_the_job_began_is_superseded(orthanc):
    message = orthanc.message()
    orthanc.files["000000ff-0-0-0-0"] = b""
    worker.run_job(message)
    assert orthanc.last == ("superseded", "incomplete")
    assert orthanc.stored == []


def test_series_that_changed_under_the_job_is_superseded_and_nothing_is_stored(orthanc):
    def one_more() -> None:
        orthanc.files["000000ff-0-0-0-0"] = b""

    message = orthanc.message()
    orthanc.on_fetch = one_more
    worker.run_job(message)
    assert orthanc.last == ("superseded", "incomplete")
    assert "analysing" in orthanc.events
    assert orthanc.stored == []


@pytest.mark.parametrize("stage", ["fetching", "analysing", "storing"])
def test_job_superseded_in_the_ledger_stores_nothing(orthanc, stage):
    orthanc.ledger[stage] = "superseded"
    worker.run_job(orthanc.message())
    assert orthanc.stored == []
    assert orthanc.events[-3:-1] == [stage, "superseded"]


def test_neither_log_nor_ledger_holds_text_or_uids_of_the_study(orthanc, written):
    worker.run_job(orthanc.message())
    del orthanc.files["00000003-0-0-0-0"]
    worker.run_job(orthanc.message())
    lines = written()
    assert '"job.ended"' in lines
    assert PLANTED not in lines + json.dumps(orthanc.reports)
    assert STUDY not in lines + json.dumps(orthanc.reports)
    assert re.search(r"\d+(\.\d+){4,}", lines) is None
    assert PLANTED in "".join(map(repr, orthanc.stored))


def test_log_lines_are_json_with_listed_fields_only(orthanc, written):
    worker.run_job(orthanc.message())
    for line in written().splitlines():
        told = json.loads(line)
        assert told.keys() <= {"time", "level", "event", "error", "at", *log.FIELDS}


def test_ledger_that_knows_the_series_no_more_ends_the_job_quietly(orthanc):
    def gone(*_: object, **__: object) -> dict[str, str]:
        orthanc.events.append("gone")
        raise MissingError("orthanc_missing")

    orthanc.post_json = gone
    orthanc.on_fetch = raising(MissingError("orthanc_missing"))
    worker.run_job(orthanc.message())
    assert orthanc.stored == []
    assert "gone" in orthanc.events


def test_settings_of_a_node_are_read_from_a_file_that_must_be_whole(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(worker, "_node", None)
    monkeypatch.setenv("RADLOOP_NODE_CONFIG", str(tmp_path / "absent.json"))
    with pytest.raises(ConfigError, match="node_config"):
        worker.run_job({})
