"""The whole way, through the real Orthanc, Redis and worker: sent, routed, analysed, stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
import redis

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.orthanc import Orthanc
from dicom_services.phantom import Phantom
from dicom_services.phantom_command import demo_phantom
from tests.integration.conftest import Stack
from tests.pacs import ended, image_series, jobs, numbers, objects, text_of, until, view_of


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return demo_phantom(matrix=256)


@pytest.fixture(scope="module")
def orthanc(stack: Stack) -> Orthanc:
    return stack.orthanc


def write(phantom: Phantom, folder: Path, seed: str, **options: str) -> str:
    """Write the phantom; its Study Instance UID."""
    paths = write_ct_series(phantom.volume, folder, seed=seed, **options)
    return str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)


def test_a_ct_comes_back_with_its_calcium(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-1")
    stack.send(tmp_path)
    view = ended(orthanc, uid)
    assert view["state"] == "done", view
    job = jobs(view)[0]
    found = objects(orthanc, job)
    assert set(found) == {"SEG", "SR", "KO"}
    assert all(str(one.StudyInstanceUID) == uid for one in found.values())
    assert any(
        value == pytest.approx(phantom.score, rel=1e-3) for value in numbers(found["SR"], "112058")
    ), numbers(found["SR"], "112058")
    assert f"{phantom.score:.0f}" in job["summary"]


def test_results_are_found_by_qido(stack: Stack, orthanc: Orthanc) -> None:
    answer = orthanc.get_json("/dicom-web/series", Modality="SR")
    assert len(answer) >= 1


def test_a_late_slice_makes_a_new_result_that_names_the_earlier_one(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path / "all", "loop-late")
    late = tmp_path / "late"
    late.mkdir()
    for path in sorted((tmp_path / "all").glob("*.dcm"))[:2]:
        path.rename(late / path.name)
    stack.send(tmp_path / "all")
    first = jobs(ended(orthanc, uid))[0]
    assert first["count"] == 48
    stack.send(late)
    until(lambda: len(jobs(view_of(orthanc, uid))) > 1)
    # A busy machine may send the two so far apart that each makes a job of its own.
    newest, *_, oldest = jobs(ended(orthanc, uid))
    assert (oldest["job"], oldest["state"]) == (first["job"], "superseded")
    assert (newest["state"], newest["count"]) == ("done", 50)
    assert newest["supersedes"] == jobs(ended(orthanc, uid))[1]["job"]
    before = jobs(ended(orthanc, uid))[1]
    earlier = next(r["sop"] for r in before["results"] if r["modality"] == "SR")
    assert earlier in text_of(objects(orthanc, newest)["SR"])


def test_run_again_makes_one_more_result(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-again")
    stack.send(tmp_path)
    series = image_series(ended(orthanc, uid))["series"]
    orthanc.post_json(f"/radloop/series/{series}/run/-", None)
    until(lambda: len(jobs(view_of(orthanc, uid))) == 2)
    newest, oldest = jobs(ended(orthanc, uid))
    assert newest["run"] == 1
    assert oldest["state"] == "superseded"
    assert {r["sop"] for r in newest["results"]}.isdisjoint({r["sop"] for r in oldest["results"]})


def test_the_same_study_sent_twice_is_analysed_once(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-twice")
    stack.send(tmp_path)
    ended(orthanc, uid)
    stack.send(tmp_path)
    time.sleep(4.0)
    assert len(jobs(ended(orthanc, uid))) == 1


def test_a_phantom_by_name_is_ruled_out(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-qa", patient_name="CATPHAN^504")
    stack.send(tmp_path)
    view = ended(orthanc, uid)
    assert (view["state"], view["code"]) == ("done", "phantom-by-name")
    assert jobs(view) == []


def test_a_study_that_no_rule_wants_stays_and_says_why(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-few")
    for path in sorted(tmp_path.glob("*.dcm"))[3:]:
        path.unlink()
    stack.send(tmp_path)
    view = ended(orthanc, uid)
    assert (view["state"], view["code"]) == ("done", "no_rule")
    assert "InstanceCount >= 8" in image_series(view)["why"][0]["why"]


def test_a_worker_killed_in_the_middle_costs_time_only(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-killed")
    stack.send(tmp_path)
    until(lambda: view_of(orthanc, uid)["state"] == "running")
    # The newest: RQ's scheduler, a child too, is as old as the worker.
    horse = until(lambda: _children(stack)[1:], 5.0)[-1]
    os.kill(horse, signal.SIGKILL)
    view = ended(orthanc, uid)
    assert view["state"] == "done"
    assert len(jobs(view)) == 1
    modalities = [s for s in view["series"] if s["excluded_by"] == "result"]
    assert len(modalities) == 3


def test_orthanc_restarted_before_a_series_was_complete_still_ends(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-restart")
    stack.send(tmp_path)
    os.kill(stack.pid("orthanc"), signal.SIGKILL)
    view = ended(stack.orthanc, uid)
    assert view["state"] == "done"
    assert len(jobs(view)) == 1


def test_a_flushed_queue_is_filled_again_from_the_ledger(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-flush")
    os.kill(stack.pid("worker"), signal.SIGSTOP)
    try:
        stack.send(tmp_path)
        until(lambda: view_of(orthanc, uid)["state"] == "queued")
        connection = _redis(stack)
        connection.delete(*connection.scan_iter("rq:*"))
    finally:
        os.kill(stack.pid("worker"), signal.SIGCONT)
    orthanc.post_json("/radloop/reconcile", None)
    assert ended(orthanc, uid)["state"] == "done"


def test_redis_killed_under_a_job_costs_time_only(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-redis")
    stack.send(tmp_path)
    until(lambda: view_of(orthanc, uid)["state"] == "running")
    os.kill(stack.pid("redis"), signal.SIGKILL)
    view = ended(orthanc, uid)
    assert view["state"] == "done"
    assert len([s for s in view["series"] if s["excluded_by"] == "result"]) == 3


def test_forged_messages_run_nothing_and_hold_up_nobody(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    mark = tmp_path / "run"
    connection = _redis(stack)
    command = f"touch {mark}"
    for name, data in {
        "forged-json": json.dumps(["os.system", None, [command], {}]).encode(),
        "forged-pickle": b"cposix\nsystem\n(S'" + command.encode() + b"'\ntR.",
    }.items():
        fields: dict[Any, Any] = {
            "created_at": "2026-01-02T03:04:05.000000Z",
            "data": data,
            "origin": "cpu",
            "status": "queued",
            "failure_callback_name": "os.abort",
            "timeout": "60",
        }
        connection.hset(f"rq:job:{name}", mapping=fields)
        connection.rpush("rq:queue:cpu", name)
    uid = write(phantom, tmp_path / "next", "loop-forged")
    stack.send(tmp_path / "next")
    assert ended(orthanc, uid)["state"] == "done"
    assert not mark.exists()
    assert "queue.forged" in stack.log("worker")


def test_a_damaged_series_is_refused_with_a_code_and_a_report(
    stack: Stack, orthanc: Orthanc, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(phantom, tmp_path, "loop-gap")
    sorted(tmp_path.glob("*.dcm"))[20].unlink()
    stack.send(tmp_path)
    view = ended(orthanc, uid)
    assert (view["state"], view["code"]) == ("refused", "slice_gap")
    job = jobs(view)[0]
    report = objects(orthanc, job)["SR"]
    assert str(report.StudyInstanceUID) == uid
    assert "slice_gap" in text_of(report)


def _redis(stack: Stack) -> redis.Redis:
    password = (stack.data / "secrets" / "redis").read_text().strip()
    return redis.Redis(host="127.0.0.1", port=stack.redis_port, password=password)


def _children(stack: Stack) -> list[int]:
    """Of the worker, the eldest first."""
    done = subprocess.run(
        ["ps", "-o", "pid=", "--sort=start_time", "--ppid", str(stack.pid("worker"))],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(pid) for pid in done.stdout.split()]
