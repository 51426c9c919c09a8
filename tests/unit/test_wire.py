"""The messages between processes: plugin and node read the same files, and refuse the same ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ai_nodes import messages
from dicom_services.domain.job import Job
from dicom_services.errors import CorruptError
from orthanc_plugins import queueing

WIRE = Path(__file__).resolve().parents[1] / "wire"
BAD_JOBS = sorted((WIRE / "bad").glob("job-*.json"))


def test_the_node_reads_the_job_message() -> None:
    message = json.loads((WIRE / "job.json").read_text())
    job = Job.from_message(message)
    assert job.pipeline == "calcium"
    assert job.count == 38
    assert job.settings == {"min_area_mm2": 1.0}
    assert [(part.series[:8], part.count) for part in job.others] == [("2f6d1f0b", 38)]
    assert job.after == ("b7a1d0c93e5f48c2a9d4e6f10b8c7d3a5e2f9046",)


def test_the_node_still_reads_a_message_that_was_queued_before_an_update() -> None:
    job = Job.from_message(json.loads((WIRE / "job-version-1.json").read_text()))
    assert (job.pipeline, job.others, job.after) == ("calcium", (), ())


def test_the_node_refuses_more_series_and_jobs_than_a_message_may_name() -> None:
    message = json.loads((WIRE / "job.json").read_text())
    parts = [
        {**message["others"][0], "series": f"{n:08x}-0000000a-0000000b-0000000c-0000000d"}
        for n in range(257)
    ]
    jobs = [f"{n:040x}" for n in range(257)]
    assert len(Job.from_message({**message, "others": parts[:256]}).others) == 256
    assert len(Job.from_message({**message, "after": jobs[:256]}).after) == 256
    for many in ({"others": parts}, {"after": jobs}):
        with pytest.raises(CorruptError, match="job_message"):
            Job.from_message({**message, **many})


def test_the_longest_message_is_one_that_a_node_reads() -> None:
    message = json.loads((WIRE / "job.json").read_text())
    longest = [{**message["others"][0], "count": 1_000_000}] * 256
    whole = {**message, "others": longest, "after": message["after"] * 256}
    assert len(json.dumps(whole)) < messages.LARGEST_MESSAGE


@pytest.mark.parametrize("path", BAD_JOBS, ids=lambda path: path.stem)
def test_the_node_refuses_a_bad_job_message(path: Path) -> None:
    with pytest.raises(CorruptError, match="job_message"):
        Job.from_message(json.loads(path.read_text()))


def test_plugin_and_node_sign_to_the_same_bytes() -> None:
    wire = json.loads((WIRE / "signed.json").read_text())
    key = bytes.fromhex(wire["key"])
    for serializer in (queueing.SignedJSON(key), messages.SignedJSON(key)):
        assert serializer.dumps(wire["value"]) == wire["signed"].encode()
        assert serializer.loads(wire["signed"].encode()) == wire["value"]


@pytest.mark.parametrize(
    "forged",
    [
        b"",
        b"no dot",
        b'0000.["os.system",null,["id"],{}]',
        b"\x80\x04\x95",
        b'["os.system",null,["id"],{}]',
    ],
)
def test_what_is_not_signed_is_not_read(forged: bytes) -> None:
    with pytest.raises(CorruptError, match="job_signature"):
        messages.SignedJSON(bytes(range(32))).loads(forged)
    with pytest.raises(ValueError, match="signature"):
        queueing.SignedJSON(bytes(range(32))).loads(forged)


def test_a_message_signed_with_another_key_is_not_read() -> None:
    wire = json.loads((WIRE / "signed.json").read_text())
    with pytest.raises(CorruptError):
        messages.SignedJSON(b"x" * 32).loads(wire["signed"].encode())


def test_a_short_key_is_refused_on_both_sides() -> None:
    with pytest.raises(CorruptError):
        messages.SignedJSON(b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        queueing.SignedJSON(b"short")
