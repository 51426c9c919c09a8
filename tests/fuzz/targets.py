"""What is fuzzed: each target takes bytes and lets through only what its contract does not name."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
from safetensors.numpy import save

from ai_nodes.messages import SignedJSON
from ai_nodes.pickle_scan import scan_checkpoint
from ai_nodes.tensor_file import check_tensor_file
from dicom_services.dicom import archive, intake
from dicom_services.dicom.read import plan_dynamic
from dicom_services.dicom.segmented_region import read_segmented_frames
from dicom_services.dicom.slice_header import read_slice
from dicom_services.dicom.write import encode, to_bytes
from dicom_services.domain.job import Job
from dicom_services.errors import CorruptError, InputError
from dicom_services.front import dimse, pdu
from dicom_services.gate import (
    REASONS,
    refusal_of_dataset,
    refusal_of_file,
    refusal_of_query,
    sound_until,
)
from orthanc_plugins import ledger, routing
from orthanc_plugins.rule_file import read_rules
from orthanc_plugins.rules import RuleError, Rules
from tests import dicom_files, dynamic_files, sources
from tests.hostile import build, scu
from tests.hostile.corpus import CLASSES, Case, Maker

ROOT: Final = Path(__file__).resolve().parents[2]
SYNTAXES: Final = (build.EXPLICIT, build.IMPLICIT, build.BIG, build.DEFLATED, build.JPEG, build.RLE)
KEY: Final = bytes(range(32))


@dataclass(frozen=True, slots=True)
class Target:
    """`run` returns, or raises what is a find; `seeds` are where mutation starts."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def gate_file(data: bytes) -> None:
    """A Refusal or None, and the same without identity unless that was the reason."""
    refusal = refusal_of_file(data)
    assert refusal is None or (refusal.reason in REASONS and 0 <= refusal.offset <= len(data))
    without = refusal_of_file(data, identity=False)
    assert refusal == without or (refusal is not None and refusal.reason.startswith("uid"))


def gate_dataset(data: bytes) -> None:
    """As for a file; what may be passed on early is never wrong."""
    syntax, body = SYNTAXES[(data[0] if data else 0) % len(SYNTAXES)], data[1:]
    refusal = refusal_of_dataset(body, syntax)
    assert refusal is None or refusal.reason in REASONS
    assert sound_until(body, syntax) <= len(body) + (1 << 32)


def gate_query(data: bytes) -> None:
    """As for a data set."""
    syntax, body = SYNTAXES[(data[0] if data else 0) % len(SYNTAXES)], data[1:]
    refusal = refusal_of_query(body, syntax)
    assert refusal is None or refusal.reason in REASONS


def front_request(data: bytes) -> None:
    """A request, or ProtocolError."""
    with contextlib.suppress(pdu.ProtocolError):
        asked = pdu.parse_request(data)
        assert len(asked.calling) <= 16
        assert asked.calling.isprintable()


def front_command(data: bytes) -> None:
    """A command whose answer and file header can be written, or ProtocolError."""
    with contextlib.suppress(pdu.ProtocolError):
        command = dimse.parse_command(data)
        dimse.parse_command(dimse.store_response(command, 0xC000, "radloop gate: vr"))
        dimse.part10_header(command, build.EXPLICIT)


def slice_header(data: bytes) -> None:
    """A slice, or InputError."""
    with contextlib.suppress(InputError):
        read_slice(data)


def dynamic(data: bytes) -> None:
    """Slices or frames in order of time and place, or InputError; no pixel is decoded."""
    with contextlib.suppress(InputError):
        plan_dynamic([data])


def intake_facts(data: bytes) -> None:
    """Facts that JSON can carry, or None."""
    json.dumps(intake._judged(data))


def region(data: bytes) -> None:
    """Frames, or InputError; behind the gate, as `--region` reads it."""
    if refusal_of_file(data, identity=False) is not None:
        return
    with _file(data) as path, contextlib.suppress(InputError):
        for _ in read_segmented_frames(path):
            pass


def zip_archive(data: bytes) -> None:
    """Members, or InputError."""
    with _file(data) as path, contextlib.suppress(InputError):
        archive.unpack(path)


def rules(data: bytes) -> None:
    """Rules that decide, or RuleError."""
    with _file(data) as path, contextlib.suppress(RuleError):
        read = read_rules(path)
        routing.decide(read, {"a": {"Modality": "CT", "Instances": 40, "SliceThickness": 3.0}})


def decision(data: bytes) -> None:
    """A decision on any facts that Orthanc may give."""
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(facts, dict) and all(isinstance(one, dict) for one in facts.values()):
        routing.decide(_shipped(), facts)


def message(data: bytes) -> None:
    """Only what is signed with our key is read at all; then a job, or CorruptError."""
    signed = SignedJSON(KEY)
    with contextlib.suppress(CorruptError):
        signed.loads(data)
    mark = hmac.new(KEY, data, hashlib.sha256).hexdigest().encode()
    with contextlib.suppress(CorruptError):
        read = signed.loads(mark + b"." + data)
        Job.from_message(read)


def record(data: bytes) -> None:
    """A record with sound jobs, or None; a record can be written and read again."""
    read = ledger.read_record(data.decode("utf-8", "replace"))
    if read is not None:
        ledger.latest_job(read, "calcium")
        ledger.job_with_results(read, "calcium")
        assert ledger.read_record(ledger.write_record(read)) is not None


_rules: list[Rules] = []


def _shipped() -> Rules:
    if not _rules:
        _rules.append(read_rules(ROOT / "config" / "routing.toml"))
    return _rules[0]


@contextlib.contextmanager
def _file(data: bytes) -> Any:
    """A file in memory: readers want a path."""
    handle = os.memfd_create("fuzz")
    try:
        os.write(handle, data)
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


# Where mutation starts.


@functools.cache
def _light() -> tuple[Case, ...]:
    """One of each class that is small by its nature."""
    heavy = ("many", "bomb-deflate", "long", "nested-wide", "padding", "nested-icons")
    names = [name for name in sorted(CLASSES) if not name.startswith(heavy)]
    return tuple(CLASSES[name](Maker(name, 1, 1)) for name in names)


def _files() -> list[bytes]:
    found = [case.file for case in _light()]
    found += [build.image_file(), build.image_file(build.PLAIN), *_results()]
    return [data for data in found if len(data) < 20_000]


def _dynamics() -> list[bytes]:
    stored = dynamic_files.stored_series((3, 2, 4, 4))
    sound = dynamic_files.enhanced(stored)
    open_ended = dynamic_files.undefined_lengths(dynamic_files.enhanced(stored))
    syntaxes = (build.EXPLICIT, build.IMPLICIT, build.BIG, build.DEFLATED, build.RLE)
    return [dicom_files.to_bytes(one, each) for one in (sound, open_ended) for each in syntaxes]


def _bodies() -> list[bytes]:
    found = [(case.syntax, case.body) for case in _light()]
    known = {syntax: bytes((n,)) for n, syntax in enumerate(SYNTAXES)}
    return [known[s] + body for s, body in found if s in known and len(body) < 20_000]


def _results() -> list[bytes]:
    told = encode(sources.findings(), sources.source(), sources.provenance())
    return [to_bytes(one) for one in told]


def _requests() -> list[bytes]:
    pairs = [(build.CT, build.EXPLICIT), (scu.VERIFICATION, build.IMPLICIT)]
    return [scu.associate_body("RADLOOP", "CT1", pairs), scu.associate_body("A", "B", pairs * 60)]


def _commands() -> list[bytes]:
    return [scu.store_request(build.CT, "1.2.3", 7), scu.echo_request(1)]


def _archives() -> list[bytes]:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a/one.dcm", build.image_file())
        target.writestr("b.txt", b"text " * 100)
    return [stream.getvalue(), b"PK\5\6" + bytes(18)]


def _rule_files() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "config").glob("routing*.toml"))]


def _facts() -> list[bytes]:
    facts: Mapping[str, Any] = {
        "Modality": "CT",
        "SeriesDescription": ["CaSc", "x"],
        "Instances": 40,
        "SliceThickness": "3.0",
        "ImageType": "ORIGINAL\\PRIMARY",
        "KVP": None,
    }
    return [json.dumps({"a": facts, "b": {}}).encode()]


def _messages() -> list[bytes]:
    wire = ROOT / "tests" / "wire"
    return [
        path.read_bytes() for path in sorted(wire.rglob("*.json")) if path.stat().st_size < 9000
    ]


def _records() -> list[bytes]:
    fresh = ledger.new_record("1.2.3", "CT", 1)
    job = dict.fromkeys(ledger._JOB_KEYS, "x")
    return [
        json.dumps(fresh).encode(),
        json.dumps({**fresh, "jobs": {"a": {**job, "rule": "calcium"}}}).encode(),
    ]


def checkpoint(data: bytes) -> None:
    """Opcodes are read, nothing is built: a refusal with one of two codes, or nothing."""
    try:
        scan_checkpoint(BytesIO(data))
    except InputError as error:
        assert error.code in ("weights_pickle", "weights_format")


def tensor_file(data: bytes) -> None:
    """What passes is read by the format's makers too."""
    try:
        check_tensor_file(BytesIO(data))
    except InputError as error:
        assert error.code == "weights_format"
        return
    safetensors.deserialize(data)


def _checkpoints() -> list[bytes]:
    import torch

    made = []
    for legacy in (False, True):
        stream = BytesIO()
        content = {"a": torch.ones(2, 3), "b": {"c": torch.zeros(1, dtype=torch.int64)}}
        torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
        made.append(stream.getvalue())
    return made


def _tensor_files() -> list[bytes]:
    numbers = {"a": np.zeros(2, np.float32), "b.c": np.array(3, np.int64)}
    return [save(numbers, {"k": "v"}), save({"a": numbers["a"]})]


TARGETS: Final[dict[str, Target]] = {
    "gate-file": Target(gate_file, _files),
    "gate-dataset": Target(gate_dataset, _bodies),
    "gate-query": Target(gate_query, _bodies),
    "front-request": Target(front_request, _requests),
    "front-command": Target(front_command, _commands),
    "slice-header": Target(slice_header, _files),
    "dynamic": Target(dynamic, _dynamics),
    "intake-facts": Target(intake_facts, _files),
    "region": Target(region, _results),
    "zip": Target(zip_archive, _archives),
    "rules": Target(rules, _rule_files),
    "decision": Target(decision, _facts),
    "message": Target(message, _messages),
    "record": Target(record, _records),
    "checkpoint": Target(checkpoint, _checkpoints),
    "tensor-file": Target(tensor_file, _tensor_files),
}


def run(name: str, data: bytes) -> None:
    """One input; warnings of libraries about broken values are no finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        TARGETS[name].run(data)
