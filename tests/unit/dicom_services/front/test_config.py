"""The front's file: read anew when it changes, kept as it was while it cannot be read."""

from __future__ import annotations

import json
import os

import pytest

from dicom_services.errors import ConfigError
from dicom_services.front.config import ConfigFile

CALLER = {"aet": "CT1", "address": "192.0.2.7", "port": 104, "alias": "127.1.2.3"}
TOLD = {
    "version": 1,
    "listen": "127.0.0.1",
    "port": 4242,
    "aet": "RADLOOP",
    "orthanc_port": 4243,
    "slots": 16,
    "archive_wait_s": 1.0,
    "connections": 512,
    "callers": [],
    "quarantine": "/q",
    "quarantine_bytes": 1,
    "quarantine_records": 1,
    "store": "/s",
    "scratch": "/t",
    "reserve_bytes": 1,
    "object_scale": 1.0,
    "most_bytes": 1,
}


def write(path, told, second):
    path.write_text(json.dumps(told) if isinstance(told, dict) else told)
    os.utime(path, (second, second))


def test_a_modality_added_later_is_known_at_once(tmp_path):
    path = tmp_path / "front.json"
    write(path, TOLD, 1)
    file = ConfigFile(path)
    assert file.current().caller("CT1") is None
    write(path, TOLD | {"callers": [CALLER | {"alias_port": 10_104}]}, 2)
    found = file.current().caller("CT1")
    assert found is not None
    assert (found.address, found.alias_port) == ("192.0.2.7", 10_104)


def test_a_file_that_cannot_be_read_changes_nothing(tmp_path):
    path = tmp_path / "front.json"
    write(path, TOLD, 1)
    file = ConfigFile(path)
    write(path, "{", 2)
    assert file.current().port == 4242


@pytest.mark.parametrize("told", ["[]", "{}", TOLD | {"version": 2}, TOLD | {"colour": "red"}])
def test_a_wrong_file_at_the_start_is_an_error(tmp_path, told):
    path = tmp_path / "front.json"
    write(path, told, 1)
    with pytest.raises(ConfigError) as error:
        ConfigFile(path)
    assert error.value.code == "front_config"
