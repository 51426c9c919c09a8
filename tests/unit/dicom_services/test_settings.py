"""Settings: overlays, unknown keys, paths and secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_services.errors import ConfigError
from dicom_services.settings import (
    ModelSettings,
    Settings,
    config_folder,
    read_secret,
    read_settings,
)


def overlay(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text)
    return path


def test_default_file_says_what_the_models_say():
    read = read_settings()
    models = ModelSettings(file=read.models.file)
    assert read == Settings(routing=read.routing, models=models)
    assert models.file == config_folder() / "models.toml"


def test_overlay_replaces_single_keys_and_keeps_the_rest(tmp_path):
    read = read_settings(overlay(tmp_path, "[completeness]\nquiet_s = 4.5\n"))
    assert (read.completeness.quiet_s, read.completeness.reconcile_s) == (4.5, 30.0)


@pytest.mark.parametrize("name", ["development", "staging", "production"])
def test_every_environment_is_valid(name):
    read_settings(config_folder() / "environments" / f"{name}.toml")


def test_development_waits_two_seconds_and_the_shipped_default_fifteen():
    development = config_folder() / "environments" / "development.toml"
    assert read_settings().completeness.quiet_s == 15.0
    assert read_settings(development).completeness.quiet_s == 2.0


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[queue]\nretires_s = [1]\n", "queue.retires_s"),
        ("[ports]\nhttp = 80\n", "ports.http"),
        ("[queue]\nretry_s = []\n", "queue.retry_s"),
        ("[orthanc]\naet = 'A\\B'\n", "orthanc.aet"),
        ("[orthanc]\naet = 'SEVENTEEN_LETTERS'\n", "orthanc.aet"),
        ("[completeness.quiet_per_source_s]\nCT1 = -1.0\n", "completeness.quiet_per_source_s.CT1"),
    ],
)
def test_unknown_or_wrong_key_is_named(tmp_path, text, key):
    with pytest.raises(ConfigError) as caught:
        read_settings(overlay(tmp_path, text))
    assert (caught.value.code, caught.value.facts["key"]) == ("settings", key)


def test_value_of_a_wrong_key_is_not_repeated(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_settings(overlay(tmp_path, "[workers]\ncount = 'hunter2'\n"))
    assert "hunter2" not in str(caught.value)


def test_missing_and_broken_overlays_have_their_own_codes(tmp_path):
    with pytest.raises(ConfigError, match="settings_missing layer=overlay"):
        read_settings(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="settings_not_toml layer=overlay"):
        read_settings(overlay(tmp_path, "[queue\n"))


def test_routing_file_is_taken_from_the_folder_that_names_it(tmp_path):
    assert read_settings().routing.file == config_folder() / "routing.toml"
    read = read_settings(overlay(tmp_path, "[routing]\nfile = 'ours.toml'\n"))
    assert read.routing.file == tmp_path / "ours.toml"


def test_secret_is_read_only_where_others_cannot_read_it(tmp_path):
    secret = tmp_path / "redis"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    assert read_secret(secret) == "s3cret"
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="secret_readable_by_others"):
        read_secret(secret)
    with pytest.raises(ConfigError, match="secret_missing"):
        read_secret(tmp_path / "absent")
