"""Doctor names what is wrong with its remedy."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dicom_services.checks import Check
from dicom_services.data_folder import DataFolder, State
from dicom_services.doctor import examine
from dicom_services.doctor_gateway import gateway_checks
from dicom_services.plugin_site import plugin_package, plugin_site, plugin_site_works
from dicom_services.settings import read_settings
from dicom_services.store.records import open_records


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    monkeypatch.delenv("RADLOOP_CONFIG", raising=False)
    return DataFolder(tmp_path / "data")


def one(found: list[Check], name: str) -> Check:
    (match,) = [check for check in found if check.name == name]
    return match


def test_fresh_machine_is_told_to_start(folder):
    found = examine(folder)
    assert one(found, "stack").remedy == "radloop up"
    assert one(found, "python").verdict == "OK"
    assert one(found, "settings").verdict == "OK"
    assert one(found, "routing rules").verdict == "OK"


def test_whatever_is_not_ok_has_a_remedy_and_whatever_is_ok_has_none(folder):
    for check in examine(folder):
        assert bool(check.remedy) == (check.verdict != "OK"), check


def test_open_files_and_missing_secrets_fail(folder):
    folder.prepare()
    folder.keep(State(8042, 4242, 6379))
    folder.secret("redis").unlink()
    folder.secret("signing_key").chmod(0o644)
    found = examine(folder)
    assert one(found, "data folder's modes").verdict == "FAIL"
    assert f"chmod -R go= {folder.home}" in one(found, "data folder's modes").remedy
    assert "redis" in one(found, "secrets").found
    assert one(found, "stack").verdict == "FAIL"


def test_port_of_another_program_is_named(folder):
    folder.prepare()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        folder.keep(State(held.getsockname()[1], 4242, 6379))
        assert one(examine(folder), "HTTP port").verdict == "WARN"


def test_wrong_settings_end_the_examination_with_their_key(folder, tmp_path, monkeypatch):
    site = tmp_path / "site.toml"
    site.write_text("[queue]\nretires = 1\n")
    monkeypatch.setenv("RADLOOP_CONFIG", str(site))
    last = examine(folder)[-1]
    assert (last.verdict, last.name) == ("FAIL", "settings")
    assert "queue.retires" in last.found


def test_broken_rules_fail(folder, tmp_path, monkeypatch):
    (tmp_path / "rules.toml").write_text("version = 1\n[[rule]]\nname = 'x'\n")
    site = tmp_path / "site.toml"
    site.write_text("[routing]\nfile = 'rules.toml'\n")
    monkeypatch.setenv("RADLOOP_CONFIG", str(site))
    assert one(examine(folder), "routing rules").verdict == "FAIL"


def test_embedded_interpreter_itself_is_asked(tmp_path):
    parent = plugin_package().parent
    assert plugin_site_works(plugin_site(), parent)
    assert not plugin_site_works(tmp_path, parent)


@pytest.mark.parametrize(
    ("gateway", "verdict", "told"),
    [
        ("", "OK", "this machine only"),
        ('host = "0.0.0.0"', "FAIL", "gateway_without_tls"),
        ('host = "0.0.0.0"\nbehind_proxy = true', "WARN", "in the clear"),
        ('tls_certificate = "none.pem"', "FAIL", "gateway_certificate"),
    ],
)
def test_reach_of_the_gateway_is_named(folder, tmp_path, monkeypatch, gateway, verdict, told):
    site = tmp_path / "site.toml"
    site.write_text(f"[gateway]\n{gateway}\n")
    monkeypatch.setenv("RADLOOP_CONFIG", str(site))
    reach = one(gateway_checks(folder, read_settings(site)), "gateway's reach")
    assert reach.verdict == verdict
    assert told in reach.found


def test_gateway_that_nobody_may_enter_and_that_shows_nothing_is_named(folder, tmp_path):
    settings = read_settings()
    own = settings.gateway.model_copy(update={"viewer": str(tmp_path)})
    found = gateway_checks(folder, settings.model_copy(update={"gateway": own}))
    assert one(found, "viewer").verdict == "WARN"
    assert "radloop users add" in one(found, "accounts").remedy
    folder.prepare()
    records = open_records(folder.places())
    records.accounts.add_user("rita", "radiologist", None)
    assert one(gateway_checks(folder, settings), "accounts").verdict == "WARN"
    records.accounts.add_user("ada", "admin", None)
    records.close()
    assert one(gateway_checks(folder, settings), "accounts").verdict == "OK"
