"""Experts on the series of a study and jobs that join them, through the real stack."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import redis
from pydicom.uid import ExplicitVRLittleEndian

from ai_nodes import predecessors
from dicom_services.data_folder import DataFolder
from dicom_services.dicom.ct_writer import made_uid, write_ct_series
from dicom_services.dicom.dynamic_writer import Described, write_dynamic_series
from dicom_services.domain.job import Job
from dicom_services.domain.volume import Volume
from dicom_services.perfusion_phantom import PerfusionScan, perfusion_phantom
from dicom_services.phantom_command import demo_phantom
from tests.integration.conftest import PROFILE, Stack, running_stack
from tests.pacs import objects, text_of, until, view_of
from tests.phi_scan import descendants

RULES = """version = 1
[[rule]]
name = "panel"
pipeline = "calcium"
queue = "cpu"
after = ["expert-soft", "expert-strict", "expert-gap"]
when = { SeriesDescription = "WHOLE*" }
settings = { region = "everything" }

[[rule]]
name = "all-or-nothing"
pipeline = "calcium"
queue = "cpu"
after = ["expert-soft", "expert-gap"]
after_failed = "refuse"
when = { SeriesDescription = "WHOLE AND MORE" }

[[rule]]
name = "last"
pipeline = "calcium"
queue = "cpu"
after = ["panel"]
when = { SeriesDescription = "WHOLE AND MORE" }
settings = { region = "everything" }

[[rule]]
name = "expert-soft"
pipeline = "calcium"
queue = "cpu"
when = { SeriesDescription = "WHOLE*" }
settings = { region = "everything" }

[[rule]]
name = "expert-strict"
pipeline = "calcium"
queue = "cpu"
when = { SeriesDescription = "WHOLE*" }
settings = { region = "everything", min_area_mm2 = 2.0 }

[[rule]]
name = "expert-gap"
pipeline = "calcium"
queue = "cpu"
when = { SeriesDescription = "GAP" }

[[rule]]
name = "parts"
pipeline = "calcium"
queue = "cpu"
when = { SeriesDescription = "PART *" }
select = { per = "study", take = "all" }

[[rule]]
name = "times"
pipeline = "perfusion"
queue = "cpu"
when = { SeriesDescription = "TIME *" }
select = { per = "study", take = "all" }

[[rule]]
name = "facts"
pipeline = "calcium"
queue = "cpu"
[rule.when]
Modality = "MR"
NumberOfTemporalPositions = { min = 3, max = 3 }
TemporalPositionIdentifier = { min = 2, max = 2 }
NumberOfTimeSlots = { min = 4 }
ProtocolName = "PERF*"
SeriesDescription = "DSC"
ScanningSequence = "EP"
SequenceName = "*epfid2d*"
MRAcquisitionType = "2D"
ImageType = "PRIMARY"
EchoTime = { min = 29, max = 31 }
DiffusionBValue = { min = 1000 }
NumberOfFrames = { max = 1, absent = true }
"""
EXPERTS = ("expert-soft", "expert-strict", "expert-gap")
FINAL = {"done", "refused", "failed"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with rules of its own."""
    work = tmp_path_factory.mktemp("joins")
    (work / "routing.toml").write_text(RULES)
    profile = work / "profile.toml"
    profile.write_text(f'{PROFILE.read_text()}\n[routing]\nfile = "{work / "routing.toml"}"\n')
    with running_stack(DataFolder(work / "data"), profile) as running:
        yield running


@pytest.fixture(scope="module")
def volume() -> Volume:
    return demo_phantom(slices=16, matrix=64).volume


@pytest.fixture(scope="module")
def queue(stack: Stack) -> Iterator[redis.Redis]:
    password = stack.folder.secret("redis").read_text().strip()
    with redis.Redis(host="127.0.0.1", port=stack.redis_port, password=password) as connection:
        yield connection


def write(volume: Volume, folder: Path, seed: str, *series: str) -> str:
    """Series of one study, each named by its description; the Study Instance UID."""
    uid = made_uid(seed, "the study")
    for description in series:
        paths = write_ct_series(
            volume,
            folder / description,
            seed=f"{seed} {description}",
            series_description=description,
        )
        for path in paths:
            data = pydicom.dcmread(path)
            data.StudyInstanceUID = uid
            data.save_as(path)
        if description == "GAP":
            paths[10].unlink()
    return str(uid)


def by_rule(stack: Stack, uid: str) -> dict[str, dict[str, Any]]:
    """The newest job of each rule."""
    found: dict[str, dict[str, Any]] = {}
    for series in view_of(stack.orthanc, uid)["series"]:
        for job in series["jobs"]:
            found.setdefault(job["rule"], job)
    return found


def ended(stack: Stack, uid: str, rules: int = 4, limit_s: float = 150.0) -> dict[str, Any]:
    """The jobs, once all of so many have ended."""

    def look() -> dict[str, Any] | None:
        found = by_rule(stack, uid)
        over = all(job["state"] in FINAL for job in found.values())
        return found if len(found) == rules and over else None

    return dict(until(look, limit_s))


def require_panel(jobs: dict[str, Any]) -> None:
    """What must come of a study with a whole and a broken series, whatever happens meanwhile."""
    expected = {
        "expert-soft": ("done", ""),
        "expert-strict": ("done", ""),
        "expert-gap": ("refused", "slice_gap"),
        "panel": ("done", ""),
        "last": ("done", ""),
        "all-or-nothing": ("refused", "predecessor_failed"),
    }
    states = {rule: (job["state"], job["code"]) for rule, job in jobs.items()}
    assert states == {rule: expected[rule] for rule in jobs}
    told = [(one["rule"], one["state"], one["code"]) for one in jobs["panel"]["after"]]
    assert told == [
        ("expert-soft", "done", ""),
        ("expert-strict", "done", ""),
        ("expert-gap", "refused", "slice_gap"),
    ]
    assert all(jobs["panel"]["began"] > jobs[one]["updated"] for one in EXPERTS)


def require_one_end_each(stack: Stack, uid: str, jobs: dict[str, Any]) -> None:
    """No result beside those that the jobs name, and none of them twice."""
    view = view_of(stack.orthanc, uid)
    stored = [one["series"] for one in view["series"] if one["excluded_by"] == "result"]
    named = [result["series"] for job in jobs.values() for result in job["results"]]
    assert sorted(stored) == sorted(named)
    for job in jobs.values():
        ends = [one for one in lines(stack) if one.get("job") == job["job"]]
        done = [one for one in ends if one["event"] == "job.ended" and one["state"] in FINAL]
        assert len(done) == 1


def lines(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.log("worker").splitlines() if line[:1] == "{"]


@contextmanager
def held(stack: Stack) -> Iterator[None]:
    """While no job is begun."""
    os.kill(stack.pid("worker"), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stack.pid("worker"), signal.SIGCONT)


def all_entered(stack: Stack, uid: str) -> dict[str, Any]:
    """The jobs once the queue knows them all."""

    def look() -> dict[str, Any] | None:
        found = by_rule(stack, uid)
        known = all(job["state"] == "queued" or job["stage"] == "after" for job in found.values())
        return found if len(found) == 4 and known else None

    return dict(until(look))


def test_a_join_runs_after_its_experts_with_those_that_succeeded(
    stack: Stack, volume: Volume, tmp_path: Path
) -> None:
    uid = write(volume, tmp_path, "joins-panel", "WHOLE AND MORE", "GAP")
    stack.send(tmp_path)
    jobs = ended(stack, uid, rules=6)
    require_panel(jobs)
    assert jobs["last"]["began"] > jobs["panel"]["updated"]
    require_one_end_each(stack, uid, jobs)
    report = objects(stack.orthanc, jobs["all-or-nothing"])["SR"]
    assert "predecessor_failed" in text_of(report)
    shown = stack.radloop("jobs", "show", jobs["panel"]["job"])
    assert "expert-gap" in shown
    assert "refused slice_gap" in shown
    as_entered = {
        "version": 2,
        **told_of(jobs["panel"]),
        "study": view_of(stack.orthanc, uid)["study"],
    }
    job = Job.from_message(as_entered)
    found = predecessors.earlier(stack.orthanc, predecessors.told(stack.orthanc, job))
    assert [(one.rule, one.pipeline, one.succeeded) for one in found] == [
        ("expert-soft", "calcium", True),
        ("expert-strict", "calcium", True),
        ("expert-gap", "calcium", False),
    ]
    assert [one.document["job"] for one in found] == [jobs[one]["job"] for one in EXPERTS]
    assert found[2].document["code"] == "slice_gap"


def told_of(job: dict[str, Any]) -> dict[str, Any]:
    names = ("rule", "pipeline", "queue", "series", "count", "run", "supersedes")
    return {
        **{name: job[name] for name in names},
        "id": job["job"],
        "instances": "0" * 40,
        "supersedes_version": "",
        "settings": {},
        "others": [],
        "after": [one["job"] for one in job["after"]],
    }


def test_redis_killed_in_the_middle_of_a_fan_out_costs_time_only(
    stack: Stack, volume: Volume, tmp_path: Path
) -> None:
    uid = write(volume, tmp_path, "joins-redis", "WHOLE", "GAP")
    stack.send(tmp_path)
    until(lambda: any(job["state"] in FINAL for job in by_rule(stack, uid).values()))
    os.kill(stack.pid("redis"), signal.SIGKILL)
    jobs = ended(stack, uid)
    require_panel(jobs)
    require_one_end_each(stack, uid, jobs)


def test_a_wiped_queue_is_filled_again_with_experts_and_joins(
    stack: Stack, queue: redis.Redis, volume: Volume, tmp_path: Path
) -> None:
    uid = write(volume, tmp_path, "joins-wiped", "WHOLE", "GAP")
    with held(stack):
        stack.send(tmp_path)
        all_entered(stack, uid)
        queue.delete(*queue.scan_iter("rq:*"))
    jobs = ended(stack, uid)
    require_panel(jobs)
    require_one_end_each(stack, uid, jobs)


def test_an_expert_killed_at_work_is_waited_for(
    stack: Stack, volume: Volume, tmp_path: Path
) -> None:
    uid = write(volume, tmp_path, "joins-horse", "WHOLE", "GAP")
    others = set(descendants(stack.pid("worker")))
    stack.send(tmp_path)
    until(lambda: any(job["state"] == "running" for job in by_rule(stack, uid).values()))
    horse = until(lambda: set(descendants(stack.pid("worker"))) - others, 10.0)
    os.kill(min(horse), signal.SIGKILL)
    jobs = ended(stack, uid)
    require_panel(jobs)
    require_one_end_each(stack, uid, jobs)


def test_whoever_writes_to_redis_can_start_no_join_before_its_experts(
    stack: Stack, queue: redis.Redis, volume: Volume, tmp_path: Path
) -> None:
    uid = write(volume, tmp_path, "joins-early", "WHOLE", "GAP")
    before = stack.pid("worker")
    with held(stack):
        stack.send(tmp_path)
        jobs = all_entered(stack, uid)
        panel, expert = jobs["panel"]["job"], jobs["expert-soft"]["job"]
        assert queue.hget(f"rq:job:{panel}", "status") == b"deferred"
        # Before everything else, and once more when an expert ends.
        queue.hset(f"rq:job:{panel}", "status", "queued")
        queue.lpush("rq:queue:cpu", panel)
        queue.delete(f"rq:job:{panel}:dependencies")
        queue.sadd(f"rq:job:{expert}:dependents", "nobody", b"\xff", jobs["expert-gap"]["job"])
        queue.delete(f"rq:job:{jobs['expert-strict']['job']}:dependents")
        queue.rpush(f"rq:job:{jobs['expert-strict']['job']}:dependents", "no set")
    jobs = ended(stack, uid)
    require_panel(jobs)
    delayed = [
        one for one in lines(stack) if one.get("job") == panel and one["event"] == "job.delayed"
    ]
    assert {one["code"] for one in delayed} == {"predecessor_unfinished"}
    assert stack.pid("worker") == before


def test_a_join_that_the_queue_forgot_is_found_in_the_ledger(
    stack: Stack, queue: redis.Redis, volume: Volume, tmp_path: Path
) -> None:
    uid = write(volume, tmp_path, "joins-forgotten", "WHOLE", "GAP")
    with held(stack):
        stack.send(tmp_path)
        jobs = all_entered(stack, uid)
        for rule in EXPERTS:
            queue.delete(f"rq:job:{jobs[rule]['job']}:dependents")
    jobs = ended(stack, uid)
    require_panel(jobs)
    require_one_end_each(stack, uid, jobs)


def test_an_expert_run_again_runs_again_what_came_after_it(
    stack: Stack, volume: Volume, tmp_path: Path
) -> None:
    uid = write(volume, tmp_path, "joins-again", "WHOLE AND MORE", "GAP")
    stack.send(tmp_path)
    first = ended(stack, uid, rules=6)
    stack.radloop("jobs", "rerun", first["expert-strict"]["job"])
    until(lambda: by_rule(stack, uid)["last"]["job"] != first["last"]["job"])
    second = ended(stack, uid, rules=6)
    require_panel(second)
    same = {rule for rule in first if first[rule]["job"] == second[rule]["job"]}
    assert same == {"expert-soft", "expert-gap", "all-or-nothing"}
    assert second["panel"]["supersedes"] == first["panel"]["job"]
    old = first["panel"]["results"][0]["series"]
    assert stack.orthanc.get_json(f"/radloop/series/{old}")["state"] == "superseded"


def test_all_series_that_match_are_one_job(stack: Stack, volume: Volume, tmp_path: Path) -> None:
    uid = write(volume, tmp_path, "joins-parts", "PART 1", "PART 2")
    stack.send(tmp_path)
    job = ended(stack, uid, rules=1)["parts"]
    assert len(job["others"]) == 1
    view = view_of(stack.orthanc, uid)
    images = {one["series"]: one for one in view["series"] if one["excluded_by"] != "result"}
    assert [one["job"] for one in images[job["others"][0]]["part_of"]] == [job["job"]]
    assert {(one["state"], one["code"]) for one in images.values()} == {(job["state"], job["code"])}
    fetched = [one for one in lines(stack) if one.get("job") == job["job"]]
    assert [one["stage"] for one in fetched if one["event"] == "job.stage"][:2] == [
        "fetching",
        "decoding",
    ]
    # The pipeline wants one series; that it was given two is what it says.
    assert (job["state"], job["code"]) == ("refused", "mixed_series")


def test_a_perfusion_of_one_series_for_each_time_is_analysed_as_one(
    stack: Stack, tmp_path: Path
) -> None:
    scan = PerfusionScan("CTP", times=40, shape=(2, 64, 64), pixel_mm=3.3)
    paths = write_dynamic_series(perfusion_phantom(scan).volume, tmp_path, Described("joins-times"))
    for path in paths:
        data = pydicom.dcmread(path)
        time = path.name[:5]
        data.SeriesInstanceUID = made_uid("joins-times", time)
        data.SeriesDescription = f"TIME {time}"
        data.save_as(path)
    stack.send(tmp_path)
    uid = str(data.StudyInstanceUID)
    # A busy machine may send so slowly that the first series were taken for all.
    until(lambda: len(by_rule(stack, uid).get("times", {}).get("others", [])) == 39)
    job = ended(stack, uid, rules=1)["times"]
    assert (job["state"], job["code"], len(job["others"])) == ("done", "", 39)
    assert [one["modality"] for one in job["results"]].count("OT") == 5


def test_rules_read_what_tells_perfusion_from_other_series(stack: Stack, tmp_path: Path) -> None:
    uid = mr_series(tmp_path)
    stack.send(tmp_path)
    view = dict(
        until(
            lambda: (v := view_of(stack.orthanc, uid))["state"] in FINAL and not v["arriving"] and v
        )
    )
    (series,) = [one for one in view["series"] if one["excluded_by"] != "result"]
    why = {one["rule"]: one["why"] for one in series["why"]}
    assert why["facts"] == "every clause holds"
    explained = json.loads(stack.radloop("routes", "explain", str(tmp_path), "--json"))
    assert explained["series"][0]["chosen"] == ["facts"]


def mr_series(folder: Path) -> str:
    """One image that has every attribute a rule may ask for."""
    data = pydicom.Dataset()
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(data, keyword, made_uid("joins-facts", keyword))
    data.Modality, data.PatientID, data.PatientName = "MR", "JOINS", "DOE^JANE"
    data.ProtocolName, data.SeriesDescription = "PERF DSC", "DSC"
    data.ScanningSequence, data.SequenceName, data.MRAcquisitionType = "EP", "*epfid2d1_128", "2D"
    data.ImageType = ["ORIGINAL", "PRIMARY", "PERFUSION"]
    data.NumberOfTemporalPositions, data.TemporalPositionIdentifier = 3, 2
    data.NumberOfTimeSlots, data.EchoTime, data.DiffusionBValue = 4, 30.0, 1000.0
    data.Rows = data.Columns = 8
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = np.zeros((8, 8), np.uint16).tobytes()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(folder / "mr.dcm", enforce_file_format=True)
    return str(data.StudyInstanceUID)
