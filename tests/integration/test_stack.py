"""The real stack: what starts, what may enter, what dies and comes back, what stops."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
import redis
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from dicom_services.errors import InputError, MissingError, UnavailableError
from dicom_services.orthanc import Orthanc
from dicom_services.supervision import stack_processes
from tests.integration.conftest import SENDER, Stack


def ct_slices(folder: Path, count: int = 3) -> list[Path]:
    """A series of 8 x 8 pixels; nothing in it is anybody's."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series = generate_uid(), generate_uid()
    paths = []
    for number in range(count):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ct = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        ct.SOPClassUID, ct.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ct.StudyInstanceUID, ct.SeriesInstanceUID = study, series
        ct.PatientID, ct.PatientName, ct.Modality = "P1", "Paper^Made", "CT"
        ct.InstanceNumber, ct.Rows, ct.Columns = number + 1, 8, 8
        ct.BitsAllocated, ct.BitsStored, ct.HighBit = 16, 16, 15
        ct.SamplesPerPixel, ct.PixelRepresentation = 1, 1
        ct.PhotometricInterpretation = "MONOCHROME2"
        ct.PixelData = np.full((8, 8), number, "<i2").tobytes()
        paths.append(folder / f"{number:03d}.dcm")
        ct.save_as(paths[-1], enforce_file_format=True)
    return paths


def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)


def redis_of(stack: Stack) -> redis.Redis:
    password = (stack.data / "secrets" / "redis").read_text().strip()
    return redis.Redis(host="127.0.0.1", port=stack.redis_port, password=password)


# What stands after `up`.


def test_every_process_runs_and_the_plugin_answers(stack):
    told = stack.status()
    assert {one["name"]: one["state"] for one in told["processes"]} == {
        "front": "RUNNING",
        "gateway": "RUNNING",
        "orthanc": "RUNNING",
        "redis": "RUNNING",
        "worker_0": "RUNNING",
    }
    assert told["orthanc_version"]
    assert "calcium" in told["router"]["rules"]
    assert told["waiting"] == {"cpu": 0}


def test_nothing_in_the_data_folder_is_anybody_elses_business(stack):
    for path in [stack.data, *stack.data.rglob("*")]:
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name


def test_secrets_appear_in_no_command_line(stack):
    secrets = [path.read_text().strip() for path in (stack.data / "secrets").iterdir()]
    assert len(secrets) == 8
    for pid in stack_processes(stack.folder):
        words = Path(f"/proc/{pid}/cmdline").read_text()
        assert not any(secret in words for secret in secrets)


def test_status_in_a_pipe_is_plain_columns(stack):
    assert "\x1b" not in stack.radloop("status")


def test_second_up_changes_nothing(stack):
    before = stack.pids()
    assert "nothing had changed" in stack.radloop("up")
    assert stack.pids() == before


def test_two_commands_do_not_change_a_stack_at_once(stack):
    with stack.folder.locked():
        assert "stack_busy" in stack.radloop("up", code=4)


# Who may enter by HTTP and Redis.


def test_orthanc_answers_nobody_without_a_password(stack):
    url = f"http://127.0.0.1:{stack.http_port}"
    for path in ("/system", "/dicom-web/studies", "/radloop/status", "/app/explorer.html"):
        assert httpx.get(url + path, trust_env=False).status_code == 401
    with (
        Orthanc(url, "orthanc", "orthanc") as stranger,
        pytest.raises(Exception, match="orthanc_login"),
    ):
        stranger.system()


def test_orthanc_runs_no_scripts_for_anybody(stack):
    with pytest.raises(Exception, match=r"orthanc_(login|refused|missing)"):
        stack.orthanc.post_json("/tools/execute-script", "print(1)")


def test_redis_wants_its_password_and_keeps_its_queue(stack):
    with (
        redis.Redis(host="127.0.0.1", port=stack.redis_port) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    with redis_of(stack) as ours:
        assert ours.info("persistence")["aof_enabled"] == 1
        for words in (["FLUSHALL"], ["CONFIG", "GET", "*"], ["DEBUG", "SLEEP", "0"]):
            with pytest.raises(redis.ResponseError):
                ours.execute_command(*words)


# Who may enter by DICOM.


def test_sender_that_is_registered_is_stored(stack, tmp_path):
    ct_slices(tmp_path, 5)
    (tmp_path / "notes.txt").write_text("not DICOM")
    said = stack.send(tmp_path)
    assert "5 of 5 files stored; 1 files that are not DICOM were left out" in said


def test_stranger_is_refused_with_a_remedy(stack, tmp_path):
    ct_slices(tmp_path)
    said = stack.radloop("send", str(tmp_path), "--aet", "STRANGER", code=3)
    assert "send_unknown_sender" in said
    assert "radloop modality add" in said


def test_known_title_from_another_address_is_refused(stack, tmp_path):
    ct_slices(tmp_path)
    stack.radloop("modality", "add", "ELSEWHERE", "127.0.0.2", "104")
    stack.radloop("send", str(tmp_path), "--aet", "ELSEWHERE", code=3)


def test_title_that_is_not_ours_is_refused(stack, tmp_path):
    ct_slices(tmp_path)
    said = stack.radloop("send", str(tmp_path), "--called", "SOMEBODY", code=3)
    assert "send_unknown_receiver" in said


def test_modality_enters_and_leaves_a_running_orthanc(stack, tmp_path):
    ct_slices(tmp_path)
    pid = stack.pid("orthanc")
    stack.radloop("modality", "add", "CT 1_B", "127.0.0.1", "104")
    stack.radloop("send", str(tmp_path), "--aet", "CT 1_B")
    stack.radloop("modality", "remove", "CT 1_B")
    stack.radloop("send", str(tmp_path), "--aet", "CT 1_B", code=3)
    stack.radloop("modality", "remove", "CT 1_B", code=7)
    assert stack.pid("orthanc") == pid


def test_modality_of_another_machine_waits_for_dicom_listen(stack):
    stack.radloop("modality", "add", "FAR", "192.0.2.7", "104")
    assert "FAR" not in stack.orthanc.get_json("/modalities")
    assert "inactive" in stack.radloop("modality", "list")
    stack.radloop("up", "--dicom-listen")
    assert stack.orthanc.get_json("/modalities/FAR/configuration")["Host"].startswith("127.")
    stack.radloop("up", "--no-dicom-listen")
    assert "FAR" not in stack.orthanc.get_json("/modalities")
    stack.radloop("modality", "remove", "FAR")


# The HTTP client against the real Orthanc.


def test_fetched_files_are_the_stored_bytes_in_the_order_asked_for(stack, tmp_path):
    files = [path.read_bytes() for path in ct_slices(tmp_path, 9)]
    assert stack.orthanc.stow(files) == 9
    series = str(pydicom.dcmread(tmp_path / "000.dcm").SeriesInstanceUID)
    (found,) = stack.orthanc.find("series", {"SeriesInstanceUID": series})
    ids = stack.orthanc.instances_of(found)
    by_id = dict(zip(ids, stack.orthanc.fetch(ids), strict=True))
    assert sorted(by_id.values()) == sorted(files)
    assert stack.orthanc.fetch(ids[::-1]) == [by_id[name] for name in ids[::-1]]


def test_storing_twice_is_storing_once(stack, tmp_path):
    files = [path.read_bytes() for path in ct_slices(tmp_path, 2)]
    assert stack.orthanc.stow(files) == 2
    count = stack.orthanc.get_json("/statistics")["CountInstances"]
    assert stack.orthanc.stow(files) == 2
    assert stack.orthanc.get_json("/statistics")["CountInstances"] == count


def test_what_orthanc_cannot_store_is_an_error_and_not_a_success(stack, tmp_path):
    good = ct_slices(tmp_path, 1)[0].read_bytes()
    with pytest.raises((InputError, UnavailableError)):
        stack.orthanc.stow([good, b"not DICOM at all"])


def test_metadata_is_kept_and_absent_metadata_is_none(stack, tmp_path):
    stack.orthanc.stow([ct_slices(tmp_path, 1)[0].read_bytes()])
    series = str(pydicom.dcmread(tmp_path / "000.dcm").SeriesInstanceUID)
    (found,) = stack.orthanc.find("series", {"SeriesInstanceUID": series})
    assert stack.orthanc.metadata("series", found, "4002") is None
    stack.orthanc.set_metadata("series", found, "4002", "größe")
    assert stack.orthanc.metadata("series", found, "4002") == "größe"
    stack.orthanc.delete("series", found)
    with pytest.raises(MissingError, match="orthanc_missing"):
        stack.orthanc.instances_of(found)


# What dies comes back, what changed is taken up, what stops is gone.


@pytest.mark.parametrize("name", ["orthanc", "redis", "worker"])
def test_killed_process_comes_back_and_is_counted(stack, name):
    before = stack.process(name)
    os.kill(before.pid, signal.SIGKILL)
    until(lambda: stack.process(name).state == "RUNNING" and stack.pid(name) != before.pid)
    assert stack.process(name).restarts == before.restarts + 1


def test_changed_setting_restarts_only_what_reads_it(stack, tmp_path):
    changed = tmp_path / "site.toml"
    changed.write_text(stack.profile.read_text().replace("quiet_s = 2.0", "quiet_s = 3.0"))
    before = stack.pids()
    assert "orthanc started anew" in stack.radloop("up", RADLOOP_CONFIG=str(changed))
    after = stack.pids()
    assert after["orthanc"] != before["orthanc"]
    assert (after["redis"], after["worker"]) == (before["redis"], before["worker"])
    stack.radloop("up")


def test_wrong_rules_stop_up_before_anything_is_touched(stack, tmp_path):
    rules, site = tmp_path / "rules.toml", tmp_path / "site.toml"
    rules.write_text("version = 1\n[[rule]]\nname = 'x'\nwen = {}\n")
    site.write_text("[routing]\nfile = 'rules.toml'\n")
    pid = stack.pid("orthanc")
    assert "routing" in stack.radloop("up", code=2, RADLOOP_CONFIG=str(site))
    assert stack.pid("orthanc") == pid


def test_processes_of_a_killed_supervisor_are_ended_and_nothing_is_lost(stack):
    count = stack.orthanc.get_json("/statistics")["CountInstances"]
    before = stack.state
    strays = set(stack_processes(stack.folder))
    assert set(stack.pids().values()) <= strays
    os.kill(int(stack.folder.supervisord_pid.read_text()), signal.SIGKILL)
    assert "left behind" in stack.radloop("up")
    assert stack.state == before
    assert not strays & set(stack_processes(stack.folder))
    assert stack.orthanc.get_json("/statistics")["CountInstances"] == count


def test_down_leaves_no_process_and_up_keeps_ports_senders_and_data(stack):
    count, before = stack.orthanc.get_json("/statistics")["CountInstances"], stack.state
    assert "stopped" in stack.radloop("down")
    assert stack_processes(stack.folder) == ()
    assert "nothing was running" in stack.radloop("down")
    assert stack.status(code=4)["running"] is False
    assert "stack_not_running" in stack.radloop("status", code=4)
    stack.radloop("up")
    assert stack.state == before
    assert SENDER in stack.orthanc.get_json("/modalities")
    assert stack.orthanc.get_json("/statistics")["CountInstances"] == count
