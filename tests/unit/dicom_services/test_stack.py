"""What `up` writes and decides, without starting anything."""

from __future__ import annotations

import configparser
import json
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_services import stack
from dicom_services.configuration import write_configuration
from dicom_services.data_folder import (
    SECRETS,
    DataFolder,
    State,
    data_folder,
    first_state,
    write_private,
)
from dicom_services.errors import AccessError, ConfigError, CorruptError, UnavailableError
from dicom_services.orthanc_config import orthanc_config
from dicom_services.ports import choose_port, is_free, listeners
from dicom_services.settings import Settings, read_settings
from dicom_services.supervision import Supervisor, stack_processes
from dicom_services.supervisor_config import Program, supervisor_config

STATE = State(8042, 4242, 6379, 4243, gateway_port=8000)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    made.prepare()
    return made


def config(folder: DataFolder) -> dict:
    return orthanc_config(folder, STATE, Settings().orthanc, ())


# Orthanc's configuration.


@pytest.mark.parametrize(
    ("key", "safe"),
    [
        ("AuthenticationEnabled", True),
        ("RemoteAccessAllowed", False),
        ("ExecuteLuaEnabled", False),
        ("RestApiWriteToFileSystemEnabled", False),
        ("WebDavEnabled", False),
        ("HttpDescribeErrors", False),
        ("DicomCheckCalledAet", True),
        ("DicomCheckModalityHost", True),
        ("StrictAetComparison", True),
        ("DicomAlwaysAllowEcho", False),
        ("DicomAlwaysAllowStore", False),
        ("DicomAlwaysAllowFind", False),
        ("DicomAlwaysAllowFindWorklist", False),
        ("DicomAlwaysAllowGet", False),
        ("DicomAlwaysAllowMove", False),
        ("OverwriteInstances", False),
        ("MaximumStorageSize", 0),
        ("MaximumPatientCount", 0),
        ("HttpCompressionEnabled", False),
        ("DicomScpTimeout", 10),
    ],
)
def test_orthanc_is_closed_where_it_could_be_open(folder, key, safe):
    assert config(folder)[key] == safe


def test_orthanc_serves_no_folders_and_bounds_its_answers(folder):
    written = config(folder)
    assert "ServeFolders" not in written
    assert not any("ServeFolders" in path for path in written["Plugins"])
    assert written["LimitFindResults"] > 0
    assert written["LimitFindInstances"] > 0


def test_orthanc_has_two_users_with_different_long_passwords(folder):
    users = config(folder)["RegisteredUsers"]
    assert set(users) == {"admin", "radloop"}
    assert len(set(users.values())) == 2
    assert all(len(password) == 64 for password in users.values())


# The data folder.


def test_everything_is_its_owners_alone(folder):
    for path in [folder.home, *folder.home.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_secrets_are_made_once(folder):
    before = {path.name: path.read_text() for path in (folder.home / "secrets").iterdir()}
    folder.prepare()
    assert {path.name: path.read_text() for path in (folder.home / "secrets").iterdir()} == before
    assert len(set(before.values())) == len(SECRETS)


def test_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.odt").write_text("years of work")
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="data_folder_foreign"):
        DataFolder(tmp_path).prepare()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ['quo"te', "per%cent", "semi;colon", "li\nne", "dol$lar"])
def test_path_that_a_configuration_cannot_hold_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="data_folder_path"):
        DataFolder(tmp_path / name).prepare()


def test_socket_of_a_long_path_lies_in_a_short_private_folder(tmp_path):
    folder = DataFolder(tmp_path / ("long" * 20) / "data")
    folder.prepare()
    assert len(str(folder.socket)) < 98
    assert stat.S_IMODE(folder.socket.parent.stat().st_mode) == 0o700
    folder.socket.parent.chmod(0o777)
    with pytest.raises(AccessError, match="socket_folder_foreign"):
        folder.prepare()
    folder.socket.parent.rmdir()


def test_data_folder_is_named_by_option_then_variable_then_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RADLOOP_DATA", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert data_folder().home == tmp_path / ".local" / "share" / "radloop"
    monkeypatch.setenv("RADLOOP_DATA", str(tmp_path / "variable"))
    assert data_folder().home == tmp_path / "variable"
    assert data_folder(tmp_path / "option").home == tmp_path / "option"


def test_state_is_kept_and_a_broken_one_is_an_error(folder):
    with pytest.raises(UnavailableError, match="stack_absent"):
        folder.state()
    kept = replace(STATE, dicom_listen=True, preferred=(1, 2, 3))
    folder.keep(kept)
    assert folder.state() == kept
    folder.state_json.write_text('{"http_port": 1}')
    with pytest.raises(CorruptError, match="state_file"):
        folder.state()


def test_file_is_replaced_only_when_it_differs(tmp_path):
    path = tmp_path / "a"
    assert write_private(path, "one")
    assert not write_private(path, "one")
    path.chmod(0o644)
    assert write_private(path, "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_only_one_command_holds_the_lock(folder):
    with folder.locked(), pytest.raises(UnavailableError, match="stack_busy"), folder.locked():
        pass


# Ports.


def test_taken_port_is_passed_over_and_its_holder_known():
    import os

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        assert not is_free(port)
        assert listeners(port) == {os.getpid()}
        assert choose_port(port) != port
    assert is_free(port)
    assert listeners(port) == set()


def test_two_stacks_that_start_at_once_choose_different_ports() -> None:
    code = (
        "import sys; from dicom_services.ports import choose_port;"
        "print(choose_port(31_000), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        chosen = int(other.stdout.readline())
        assert choose_port(chosen) != chosen
    finally:
        other.communicate()
    assert choose_port(chosen) == chosen


def test_chosen_ports_differ():
    free = choose_port(20_000)
    assert choose_port(free, {free}) != free


def test_ports_stay_until_the_preferred_ones_change(folder):
    settings = Settings()
    first = replace(
        first_state(settings),
        http_port=choose_port(23_000),
        dicom_port=choose_port(24_000),
        redis_port=choose_port(25_000),
        orthanc_dicom_port=choose_port(27_000),
        gateway_port=choose_port(28_000),
        workers=3,
        dicom_listen=True,
    )
    folder.keep(first)
    assert stack._decide(folder, settings, False, None, None) == first
    moved = settings.model_copy(
        update={"ports": settings.ports.model_copy(update={"http": choose_port(26_000)})}
    )
    chosen = stack._decide(folder, moved, False, None, None)
    assert chosen.http_port == moved.ports.http
    assert (chosen.workers, chosen.dicom_listen) == (3, True)


def test_ports_of_a_running_stack_never_move(folder):
    kept = replace(STATE, preferred=(1, 2, 3))
    folder.keep(kept)
    decided = stack._decide(folder, Settings(), True, True, 2)
    assert decided == replace(kept, dicom_listen=True, workers=2)


# What the programs read.


def test_written_configuration_is_what_the_parts_agreed_on(folder, monkeypatch):
    write_configuration(folder, read_settings(), STATE)
    plugin = json.loads(folder.plugin_json.read_text())
    node = json.loads(folder.node_json.read_text())
    assert set(plugin) == {
        "version", "software_version", "redis", "signing_key_file", "routing_file", "quiet_s",
        "quiet_per_source_s", "reconcile_s", "object_scale", "job_timeout_s", "retry_s",
        "pipelines", "storage", "run", "supervisor_log", "quarantine",
        "quarantine_bytes", "quarantine_records",
    }  # fmt: skip
    assert set(node) == {
        "version", "orthanc", "redis", "signing_key_file", "queues", "job_timeout_s", "retry_s",
        "fetch_threads", "scratch", "models", "segmentation",
    }  # fmt: skip
    assert plugin["quiet_s"] == 15.0
    assert len(bytes.fromhex(folder.secret("signing_key").read_text())) == 32
    password = folder.secret("redis").read_text().strip()
    assert password not in folder.redis_conf.read_text()
    assert (folder.plugin_path / "orthanc_plugins" / "plugin.py").is_file()
    shared = sorted(path.name for path in (folder.plugin_path / "dicom_services").iterdir())
    assert shared == ["gate.py", "quarantine.py"]


def test_supervisor_reads_back_what_was_meant(folder):
    program = Program(
        "worker", ("/opt/a b/python", "-m", "x"), {"TCP_NODELAY": "1", "A": "b, c"}, "text", count=2
    )
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(supervisor_config(folder, (program,)))
    section = parser["program:worker"]
    assert section["command"] == "'/opt/a b/python' -m x"
    assert section["numprocs"] == "2"
    assert section["process_name"] == "%(program_name)s_%(process_num)d"
    assert 'TCP_NODELAY="1",A="b, c"' in section["environment"]
    assert parser["unix_http_server"]["chmod"] == "0700"
    assert parser["supervisord"]["umask"] == "077"


def test_changed_input_of_a_program_changes_its_section_alone(folder):
    redis = Program("redis", ("redis-server",), {}, "same")
    before = supervisor_config(folder, (redis, Program("orthanc", ("o",), {}, "one")))
    after = supervisor_config(folder, (redis, Program("orthanc", ("o",), {}, "two")))
    differing = [a for a, b in zip(before.split("\n"), after.split("\n"), strict=True) if a != b]
    assert len(differing) == 1
    assert before.index(differing[0]) > before.index("[program:orthanc]")


def test_stack_that_does_not_run_has_no_processes_and_says_so(folder):
    assert not Supervisor(folder).answers()
    assert Supervisor(folder).processes() == ()
    assert stack_processes(folder) == ()
    assert stack.down(folder, Settings()) is False
    folder.keep(STATE)
    told = stack.status(folder, Settings())
    assert (told.running, told.orthanc_version, told.waiting) == (False, None, None)
