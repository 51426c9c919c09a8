"""A clock on the wall that is set an hour forth or back, or stands in another time zone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orthanc_plugins import ledger
from tests.unit.orthanc_plugins.test_router import CT, Rig

HOUR_S = 3600.0
STORED = {"results": [{"sop": "1", "series": "gone"}]}


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds by which `time.time` is wrong, as its only element."""
    true, wrong = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: true() + wrong[0])
    yield wrong


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_a_jump_while_a_study_arrives_changes_nothing(rig, wall, jump_s):
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.turn()
    wall[0] = jump_s
    rig.turn(1.9)
    assert rig.queue.messages == []
    rig.turn(0.2)
    assert len(rig.queue.messages) == 1


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_a_jump_between_two_jobs_does_not_change_which_is_the_newer(rig, wall, jump_s):
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    first = rig.jobs("se")[0]["job"]
    rig.router.report("se", first, "done", STORED)
    wall[0] = jump_s
    rig.orthanc.receive("st", "se", 1)
    rig.settle()
    second = rig.jobs("se")[0]["job"]
    rig.router.report("se", second, "done", STORED)
    wall[0] = 0.0
    rig.orthanc.receive("st", "se", 1)
    rig.settle()
    assert [job["supersedes"] for job in rig.jobs("se")] == [second, first, ""]
    assert rig.jobs("se")[0]["state"] == "queued"


def test_a_clock_set_back_does_not_push_the_newest_job_out_of_a_full_record(rig, wall):
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    for _ in range(ledger.MAX_JOBS):
        rig.router.run_again("se", "")
    wall[0] = -HOUR_S
    newest = rig.router.run_again("se", "")
    assert rig.jobs("se")[0]["job"] == newest
    assert len(rig.jobs("se")) == ledger.MAX_JOBS


def test_a_retry_that_the_queue_put_off_by_an_hour_is_queued_again(rig):
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    job = rig.jobs("se")[0]["job"]
    rig.queue.jobs[job] = "scheduled"
    assert rig.router.reconcile() == 0
    rig.clock.now_s += 370.0
    assert rig.router.reconcile() == 0
    rig.clock.now_s += 121.0
    assert rig.router.reconcile() == 1
    rig.turn()
    assert rig.queue.jobs[job] == "queued"


def test_a_worker_that_seems_to_live_for_ever_loses_its_job_to_another(rig):
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    job = rig.jobs("se")[0]["job"]
    rig.queue.jobs[job] = "started"
    assert rig.router.reconcile() == 0
    rig.clock.now_s += 1921.0
    assert rig.router.reconcile() == 1


def test_a_job_that_only_waits_is_never_overdue(rig):
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    assert rig.router.reconcile() == 0
    rig.clock.now_s += 86_400.0
    assert rig.router.reconcile() == 0


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_first_start_is_dated_as_orthanc_dates_its_changes(rig, monkeypatch, zone):
    from orthanc_plugins.arrivals import moment

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        told = datetime.strptime(moment(), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert abs((datetime.now(UTC) - told).total_seconds()) < 5.0
