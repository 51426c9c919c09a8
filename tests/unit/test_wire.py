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
