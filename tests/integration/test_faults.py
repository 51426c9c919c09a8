"""What a full disk, a queue that is away and a killed worker cost: time, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

from dicom_services.data_folder import DataFolder
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.phantom_command import demo_phantom
from tests.chaos.disks import Disk, mount
from tests.chaos.rig import children, orphans, small_profile, supervisorctl
from tests.integration.conftest import Stack, running_stack
from tests.pacs import ended, jobs, objects, until, view_of

MEGABYTES = 96


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Disk | None]]:
    """Small disks of their own for what Orthanc, Redis and the workers write."""
    home = tmp_path_factory.mktemp("faults") / "data"
    made = {name: mount(home / name, MEGABYTES) for name in ("orthanc", "redis", "scratch")}
    yield made
    for disk in made.values():
        if disk is not None:
            disk.unmount()


@pytest.fixture(scope="module")
def stack(
    disks: dict[str, Disk | None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack of this module's own, on those disks."""
    work = next(tmp_path_factory.getbasetemp().glob("faults*"))
    folder, profile = DataFolder(work / "data"), small_profile(work)
    with running_stack(folder, profile) as running:
        yield running


@pytest.fixture(scope="module")
def volume() -> Iterator[object]:
    yield demo_phantom(slices=24, matrix=128).volume


@contextmanager
def full(disks: dict[str, Disk | None], name: str) -> Iterator[None]:
    """While not a byte more fits."""
    disk = disks[name]
    if disk is None:
        pytest.skip("only root may mount a small disk")
    try:
        assert disk.fill() > 0
        yield
    finally:
        disk.free()


@contextmanager
def held(pid: int) -> Iterator[None]:
    """While a process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def write(volume: object, folder: Path, seed: str) -> str:
    paths = write_ct_series(volume, folder, seed=seed)
    return str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)


def one_whole_result(stack: Stack, uid: str) -> bool:
    """Whether the study is done and has each of its objects once.

    A busy machine may send so slowly that the first slices were taken for a study; what came of
    them is marked as superseded.
    """
    # The queue itself gives a worker that vanished up after a minute and a half.
    view = ended(stack.orthanc, uid, 180.0)
    results = [one for one in view["series"] if one["excluded_by"] == "result"]
    standing = {one["series"] for one in results if one["state"] != "superseded"}
    newest = jobs(view)[0]
    return (
        view["state"] == "done"
        and standing == {one["series"] for one in newest["results"]}
        and objects(stack.orthanc, newest).keys() == {"SEG", "SR", "KO"}
    )


def test_results_wait_for_room_in_the_archive_and_the_log_names_why(stack, disks, volume, tmp_path):
    uid = write(volume, tmp_path, "full-orthanc")
    with held(stack.pid("worker")):
        stack.send(tmp_path)
        until(lambda: view_of(stack.orthanc, uid)["state"] == "queued")
        with full(disks, "orthanc"):
            os.kill(stack.pid("worker"), signal.SIGCONT)
            until(lambda: '"code": "disk_full"' in stack.log("worker"), 20.0)
            assert view_of(stack.orthanc, uid)["state"] != "done"
    assert one_whole_result(stack, uid)


def test_a_queue_that_cannot_write_holds_a_job_back_no_longer_than_that(
    stack, disks, volume, tmp_path
):
    uid = write(volume, tmp_path, "full-redis")
    with full(disks, "redis"):
        stack.send(tmp_path)
        until(lambda: view_of(stack.orthanc, uid)["state"] in ("waiting", "queued", "done"))
    assert one_whole_result(stack, uid)


def test_a_full_scratch_folder_stops_no_job(stack, disks, volume, tmp_path):
    uid = write(volume, tmp_path, "full-scratch")
    with full(disks, "scratch"):
        stack.send(tmp_path)
        assert one_whole_result(stack, uid)


def test_a_study_that_comes_while_the_queue_is_down_waits_in_the_ledger(stack, volume, tmp_path):
    uid = write(volume, tmp_path, "redis-down")
    supervisorctl(stack.folder, "stop", "redis")
    try:
        stack.send(tmp_path)
        until(lambda: view_of(stack.orthanc, uid)["state"] == "waiting")
    finally:
        supervisorctl(stack.folder, "start", "redis")
    assert one_whole_result(stack, uid)


def test_an_orthanc_stopped_in_good_order_before_a_study_was_complete_forgets_nothing(
    stack, volume, tmp_path
):
    uid = write(volume, tmp_path, "orthanc-term")
    stack.send(tmp_path)
    os.kill(stack.pid("orthanc"), signal.SIGTERM)
    assert one_whole_result(stack, uid)


def test_a_killed_worker_leaves_no_process_behind_and_another_takes_its_place(
    stack, volume, tmp_path
):
    before = stack.pid("worker")
    # Its scheduler of retries, a process of its own.
    until(lambda: children(before))
    os.kill(before, signal.SIGKILL)
    until(lambda: stack.pid("worker") not in (0, before))
    uid = write(volume, tmp_path, "worker-killed")
    stack.send(tmp_path)
    assert one_whole_result(stack, uid)
    until(lambda: orphans(stack.folder) == [], 10.0)
