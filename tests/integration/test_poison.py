"""A stored instance that ends a reader is found and put away; Orthanc answers again at once."""

from __future__ import annotations

import json
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import redis
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.errors import MissingError, RadloopError, UnavailableError
from dicom_services.modalities import read_modalities
from dicom_services.orthanc import Orthanc
from dicom_services.phantom_command import demo_phantom
from tests.integration.conftest import SENDER, Stack
from tests.pacs import ended, jobs, until, view_of

EXPLICIT = "1.2.840.10008.1.2.1"
DEEP = 60
"""Ten levels more than an HTTP thread of Orthanc survives."""
STORABLE = 45
"""A reader survives it, the gate does not let it pass."""
UP_AGAIN_S = 10.0
"""Twice what it takes on a machine that does nothing else."""
OPEN = 0xFFFFFFFF


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr in (b"UI", b"OB") else b" ") * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def nested(levels: int) -> bytes:
    """Sequences in sequences, each of undefined length."""
    begin = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, OPEN)
    begin += struct.pack("<HHI", 0xFFFE, 0xE000, OPEN)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return begin * levels + end * levels


class Made:
    """One secondary capture with nested sequences, and the identifiers it got."""

    def __init__(self, folder: Path, levels: int, study: str = "", series: str = "") -> None:
        self.study, self.series = study or str(generate_uid()), series or str(generate_uid())
        self.sop = str(generate_uid())
        sop_class = SecondaryCaptureImageStorage.encode()
        meta = element(2, 1, b"OB", b"\0\1") + element(2, 2, b"UI", sop_class)
        meta += element(2, 3, b"UI", self.sop.encode()) + element(2, 16, b"UI", EXPLICIT.encode())
        body = element(8, 0x16, b"UI", sop_class) + element(8, 0x18, b"UI", self.sop.encode())
        body += element(8, 0x60, b"CS", b"OT") + element(0x10, 0x20, b"LO", b"POISON")
        body += element(0x20, 0xD, b"UI", self.study.encode())
        body += element(0x20, 0xE, b"UI", self.series.encode()) + nested(levels)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{self.sop}.dcm"
        group = element(2, 0, b"UL", struct.pack("<I", len(meta)))
        self.path.write_bytes(bytes(128) + b"DICM" + group + meta + body)


@pytest.fixture(scope="module", autouse=True)
def figures(stack: Stack) -> Iterator[list[float]]:
    """Seconds from each crash to the first answer."""
    found: list[float] = []
    yield found
    shown = " ".join(f"{one:.2f}" for one in found)
    print(f"\nseconds from a crash to C-ECHO and /radloop/status: {shown}")


def store_behind_the_front(stack: Stack, made: Made) -> str:
    """C-STORE straight to Orthanc, as an archive was filled before there was a gate; its id."""
    (sender,) = read_modalities(stack.folder.modalities_json)
    entity = AE(SENDER)
    entity.add_requested_context(SecondaryCaptureImageStorage, EXPLICIT)
    association = entity.associate(
        "127.0.0.1",
        stack.state.orthanc_dicom_port,
        ae_title="RADLOOP",
        bind_address=(sender.alias(stack.data)[0], 0),
    )
    assert association.is_established
    assert association.send_c_store(made.path).Status == 0
    association.release()
    (instance,) = stack.orthanc.find("instances", {"SOPInstanceUID": made.sop})
    return instance


def answers(stack: Stack) -> bool:
    """Whether a modality's C-ECHO and a status both succeed."""
    try:
        stack.orthanc.status()
    except RadloopError:
        return False
    entity = AE(SENDER)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", stack.dicom_port, ae_title="RADLOOP")
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status) and status.Status == 0


def after_crash(stack: Stack, figures: list[float], crash: Callable[[], Any]) -> None:
    """Crash Orthanc and wait until it answers; it must be a crash and must not take long."""
    before = stack.pid("orthanc")
    began = time.monotonic()
    crash()
    until(lambda: not Path(f"/proc/{before}").exists(), 5.0)
    until(lambda: answers(stack), 20.0)
    figures.append(time.monotonic() - began)
    assert stack.pid("orthanc") != before
    assert figures[-1] <= UP_AGAIN_S


def ask(stack: Stack, path: str) -> httpx.Response | None:
    """A GET of somebody outside; None where Orthanc hung up."""
    password = (stack.data / "secrets" / "orthanc_admin").read_text().strip()
    url = f"http://127.0.0.1:{stack.http_port}{path}"
    try:
        return httpx.get(url, auth=("admin", password), timeout=20, trust_env=False)
    except httpx.TransportError:
        return None


def quarantined(stack: Stack) -> list[dict[str, Any]]:
    return list(json.loads(stack.radloop("quarantine", "list", "--json"))["records"])


def is_gone(orthanc: Orthanc, made: Made) -> bool:
    try:
        return not orthanc.find("instances", {"SOPInstanceUID": made.sop})
    except UnavailableError:
        return False


def leave_breadcrumb(stack: Stack, instance: str) -> None:
    """As the plugin does before it reads."""
    file = stack.orthanc.get_json(f"/instances/{instance}")["FileUuid"]
    (stack.data / "run" / "reading").write_text(json.dumps([instance, file]).ljust(128))


def end_orthanc(stack: Stack, number: int) -> None:
    os.kill(stack.pid("orthanc"), number)


def test_poison_that_a_client_meets_is_put_away_and_its_neighbours_are_analysed(
    stack: Stack, figures: list[float], tmp_path: Path
) -> None:
    phantom = demo_phantom(matrix=256)
    write_ct_series(phantom.volume, tmp_path / "good", seed="beside-poison")
    harmless = Made(tmp_path / "harmless", 3)
    poison = Made(tmp_path / "poison", DEEP, harmless.study, harmless.series)
    store_behind_the_front(stack, harmless)
    store_behind_the_front(stack, poison)
    said = stack.send(tmp_path / "good")
    after_crash(stack, figures, lambda: ask(stack, "/dicom-web/instances"))
    until(lambda: is_gone(stack.orthanc, poison), 5.0)
    answer = ask(stack, "/dicom-web/instances")
    assert answer is not None
    assert answer.status_code == 200
    view = until(lambda: view_of(stack.orthanc, harmless.study))
    assert view["quarantined"] == view["series"][0]["quarantined"] == 1
    assert view["series"][0]["instances"] == 1
    (record,) = quarantined(stack)
    assert (record["reason"], record["source"], record["kept"]) == ("depth", "poison", True)
    assert "stored" in said
    (uid,) = {str(one) for one in stack.orthanc.find("studies", {"PatientID": "*"})} - {
        *stack.orthanc.find("studies", {"PatientID": "POISON"})
    }
    study = stack.orthanc.get_json(f"/studies/{uid}")["MainDicomTags"]["StudyInstanceUID"]
    assert ended(stack.orthanc, study)["state"] == "done"


def test_front_refuses_poison_that_comes_again(stack: Stack, tmp_path: Path) -> None:
    innocent = Made(tmp_path, 3)
    instance = store_behind_the_front(stack, innocent)
    # Every reading that ends well acquits it.
    ended(stack.orthanc, innocent.study)
    for _ in range(2):
        before = stack.pid("orthanc")
        leave_breadcrumb(stack, instance)
        end_orthanc(stack, signal.SIGSEGV)
        until(lambda before=before: stack.pid("orthanc") not in (0, before), 10.0)
        until(lambda: answers(stack), 20.0)
    until(lambda: is_gone(stack.orthanc, innocent), 10.0)
    said = stack.radloop("send", str(innocent.path), "--aet", SENDER, code=3)
    assert "0 of 1 files stored" in said
    assert is_gone(stack.orthanc, innocent)


def test_poison_under_the_plugins_own_eyes_is_put_away_at_the_first_crash(
    stack: Stack, figures: list[float], tmp_path: Path
) -> None:
    poison = Made(tmp_path, DEEP)
    instance = store_behind_the_front(stack, poison)

    def crash() -> None:
        leave_breadcrumb(stack, instance)
        end_orthanc(stack, signal.SIGSEGV)

    after_crash(stack, figures, crash)
    until(lambda: is_gone(stack.orthanc, poison), 5.0)


def test_what_the_gate_does_not_call_deep_is_found_by_reading_it_in_a_child(
    stack: Stack, figures: list[float], tmp_path: Path
) -> None:
    poison = Made(tmp_path, DEEP)
    instance = store_behind_the_front(stack, poison)
    file = stack.orthanc.get_json(f"/instances/{instance}")["FileUuid"]
    body = stack.data / "orthanc" / file[:2] / file[2:4] / file
    # The gate ends at the first fault it sees, here before it sees how deep it is.
    body.write_bytes(b"MZ" + body.read_bytes()[2:])
    after_crash(stack, figures, lambda: ask(stack, f"/instances/{instance}/simplified-tags"))
    until(lambda: is_gone(stack.orthanc, poison), 5.0)
    assert quarantined(stack)[-1]["reason"] == "poison"


def test_crashes_in_a_row_do_not_make_the_next_start_slower(
    stack: Stack, figures: list[float], tmp_path: Path
) -> None:
    for number in range(8):
        poison = Made(tmp_path, DEEP + number)
        instance = store_behind_the_front(stack, poison)
        path = f"/instances/{instance}/preview"
        after_crash(stack, figures, lambda path=path: ask(stack, path))
        until(lambda poison=poison: is_gone(stack.orthanc, poison), 5.0)


def test_upload_that_the_gate_refuses_goes_into_quarantine(stack: Stack, tmp_path: Path) -> None:
    upload = Made(tmp_path, STORABLE)
    before = stack.pid("orthanc")
    password = (stack.data / "secrets" / "orthanc_admin").read_text().strip()
    url = f"http://127.0.0.1:{stack.http_port}/instances"
    body = upload.path.read_bytes()
    answer = httpx.post(url, content=body, auth=("admin", password), trust_env=False)
    assert answer.status_code == 200
    until(lambda: is_gone(stack.orthanc, upload), 5.0)
    assert stack.pid("orthanc") == before
    record = quarantined(stack)[-1]
    assert (record["reason"], record["source"], record["kept"]) == ("depth", "upload", True)


def test_innocent_instance_survives_one_crash_and_after_two_comes_back_by_release(
    stack: Stack, figures: list[float], tmp_path: Path
) -> None:
    innocent = Made(tmp_path, 3)
    instance = store_behind_the_front(stack, innocent)
    ended(stack.orthanc, innocent.study)

    def crash() -> None:
        leave_breadcrumb(stack, instance)
        end_orthanc(stack, signal.SIGSEGV)

    after_crash(stack, figures, crash)
    time.sleep(1.0)
    assert not is_gone(stack.orthanc, innocent)
    after_crash(stack, figures, crash)
    until(lambda: is_gone(stack.orthanc, innocent), 5.0)
    record = quarantined(stack)[-1]
    assert (record["reason"], record["source"]) == ("poison", "poison")
    stack.radloop("quarantine", "release", record["id"], code=3)
    stack.radloop("quarantine", "release", record["id"], "--anyway")
    until(lambda: not is_gone(stack.orthanc, innocent), 5.0)
    time.sleep(1.0)
    assert not is_gone(stack.orthanc, innocent)


def test_kill_from_outside_is_no_crash(stack: Stack, tmp_path: Path) -> None:
    innocent = Made(tmp_path, 3)
    instance = store_behind_the_front(stack, innocent)
    for _ in range(3):
        before = stack.pid("orthanc")
        leave_breadcrumb(stack, instance)
        end_orthanc(stack, signal.SIGKILL)
        until(lambda before=before: stack.pid("orthanc") not in (0, before), 10.0)
        until(lambda: answers(stack), 20.0)
    assert not is_gone(stack.orthanc, innocent)


def test_sweep_finds_poison_that_nobody_has_met_yet(stack: Stack, tmp_path: Path) -> None:
    poison = Made(tmp_path, DEEP)
    store_behind_the_front(stack, poison)
    before = stack.pid("orthanc")
    stack.orthanc.post_json("/radloop/sweep", None)
    until(lambda: not stack.orthanc.status()["sweep"]["running"], 60.0)
    assert stack.pid("orthanc") == before
    assert is_gone(stack.orthanc, poison)
    with pytest.raises(MissingError):
        stack.orthanc.get_json("/studies/00000000-00000000-00000000-00000000-00000000")
    assert stack.orthanc.status()["sweep"]["quarantined"] == 1


# The same on the side of the workers.


def children(pid: int) -> list[int]:
    """Of a process, as the kernel lists them; none of one that has ended."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSEGV)


def is_started(stack: Stack, job: str) -> bool:
    """Whether the one worker is at this job, as RQ notes it in Redis."""
    password = (stack.data / "secrets" / "redis").read_text().strip()
    with redis.Redis(port=stack.redis_port, password=password) as asked:
        return asked.hget(f"rq:job:{job}", "status") == b"started"


def test_study_whose_decoding_dies_is_refused(stack: Stack, tmp_path: Path) -> None:
    paths = write_ct_series(demo_phantom(matrix=256).volume, tmp_path, seed="dies-in-decoding")
    uid = str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    worker = stack.pid("worker")
    stack.send(tmp_path)
    limit = time.monotonic() + 30.0
    while not (decoding := [two for one in children(worker) for two in children(one)]):
        assert time.monotonic() < limit
        time.sleep(0.001)
    kill(decoding[0])
    view = ended(stack.orthanc, uid)
    assert (view["state"], view["code"]) == ("refused", "decoder_died")
    assert stack.pid("worker") == worker


def test_study_that_kills_the_workers_job_process_is_a_dead_letter_and_others_go_on(
    stack: Stack, tmp_path: Path
) -> None:
    uids = {}
    for name in ("deadly", "good"):
        paths = write_ct_series(
            demo_phantom(matrix=256).volume, tmp_path / name, seed=f"horse-{name}"
        )
        uids[name] = str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    worker = stack.pid("worker")
    scheduler = set(children(worker))
    stack.send(tmp_path / "deadly")
    (job,) = until(lambda: jobs(view_of(stack.orthanc, uids["deadly"])))
    deaths, limit = 0, time.monotonic() + 90.0
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(stack.send, tmp_path / "good")
        while view_of(stack.orthanc, uids["deadly"])["state"] not in ("done", "failed"):
            assert time.monotonic() < limit
            horses = set(children(worker)) - scheduler
            if horses and is_started(stack, job["job"]):
                deaths += 1
                kill(horses.pop())
        sending.result()
    view = view_of(stack.orthanc, uids["deadly"])
    assert (view["state"], view["code"]) == ("failed", "job_died")
    assert deaths >= 2
    assert ended(stack.orthanc, uids["good"])["state"] == "done"
    assert stack.pid("worker") == worker
