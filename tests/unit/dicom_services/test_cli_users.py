"""`radloop users` and `radloop audit`: what they do, say, note, and how they end."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dicom_services.access.patients import PatientKeys
from dicom_services.cli import app
from dicom_services.cli_options import records_of
from dicom_services.data_folder import DataFolder, first_state
from dicom_services.settings import read_settings
from dicom_services.store.records import secret_keys

ROOT = Path(__file__).resolve().parents[3]
CODE = re.compile(r"\b(?:[2-9A-Z]{4}-){3}[2-9A-Z]{4}\b")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder as `radloop up` leaves it."""
    made = DataFolder(tmp_path / "data")
    made.prepare()
    made.keep(first_state(read_settings()))
    monkeypatch.setenv("RADLOOP_DATA", str(made.home))
    monkeypatch.delenv("RADLOOP_CONFIG", raising=False)
    (tmp_path / "password").write_text("four words of mine\n")
    return made


def radloop(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def done(*words: str) -> str:
    result = radloop(*words)
    assert result.exit_code == 0, result.output
    assert result.exception is None
    return result.output


def refused(*words: str) -> str:
    return radloop(*words).exception.code


def noted(folder: DataFolder) -> list[tuple[str, str, str]]:
    records = records_of(folder)
    told = [(row.actor, row.action, row.outcome) for row in records.audit.rows()]
    records.close()
    return told


def add(folder: DataFolder, name: str = "bob", role: str = "doctor", *more: str) -> str:
    file = str(folder.home.parent / "password")
    return done("users", "add", name, "--role", role, "--password-file", file, *more)


def test_who_is_added_by_code_logs_in_with_it(folder):
    printed = done(
        *("users", "add", "Ann", "--role", "radiologist", "--all-patients", "--code"),
        *("--display-name", "Dr Ann"),
    )
    records = records_of(folder)
    ann = records.accounts.login_with_code("ann", CODE.search(printed)[0])
    records.close()
    assert (ann.role, ann.all_patients, ann.display_name) == ("radiologist", True, "Dr Ann")


def test_who_is_added_with_a_password_logs_in_with_it(folder):
    add(folder)
    records = records_of(folder)
    assert records.accounts.login("bob", "four words of mine").role == "doctor"
    records.close()


def test_every_change_is_noted_before_and_after(folder):
    add(folder)
    done("users", "assign", "bob", "--patient", "4711")
    done("users", "unassign", "bob", "--patient", "4711")
    done("users", "role", "bob", "clinician", "--all-patients")
    done("users", "disable", "bob")
    done("users", "enable", "bob")
    done("users", "code", "bob")
    done("users", "logout", "bob")
    done("users", "password", "bob", "--password-file", str(folder.home.parent / "password"))
    actions = ("add", "assign", "unassign", "role", "disable", "enable", "code", "logout")
    assert noted(folder) == [
        ("command line", f"user.{action}", outcome)
        for action in (*actions, "password")
        for outcome in ("begun", "done")
    ]


def test_a_refused_change_is_noted_as_such(folder):
    assert refused("users", "disable", "nobody") == "user_unknown"
    assert noted(folder) == [
        ("command line", "user.disable", "begun"),
        ("command line", "user.disable", "user_unknown"),
    ]


def test_patients_are_named_by_keys_in_the_database_and_the_audit(folder):
    add(folder)
    done("users", "assign", "bob", "--patient", "SENTINEL-4711")
    key = PatientKeys(secret_keys(folder.secret("patient_key"))[0]).patient("SENTINEL-4711")
    records = records_of(folder)
    assert records.accounts.assigned("bob") == {key}
    records.close()
    held = b"".join(file.read_bytes() for file in folder.home.iterdir() if file.is_file())
    assert b"SENTINEL" not in held
    assert key in done("audit", "show", "--json")


def test_an_assigned_patient_can_be_taken_away(folder):
    add(folder)
    done("users", "assign", "bob", "--patient", "4711")
    assert "as before" in done("users", "assign", "bob", "--patient", " 4711 ")
    assert "done" in done("users", "unassign", "bob", "--patient", "4711")
    assert "had not been" in done("users", "unassign", "bob", "--patient", "4711")


def test_whoever_still_sees_everyone_after_unassign_is_named(folder):
    add(folder, "ann", "admin")
    assert "still sees every patient" in done("users", "unassign", "ann", "--patient", "4711")


def test_accounts_are_listed(folder):
    add(folder)
    add(folder, "ann", "radiologist", "--all-patients")
    done("users", "disable", "bob")
    lines = done("users", "list").splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["ann", "radiologist", "all", "active"],
        ["bob", "doctor", "0", "disabled"],
    ]
    told = json.loads(done("users", "list", "--json"))
    assert [one["name"] for one in told] == ["ann", "bob"]
    assert "password" not in told[0]


def test_sessions_are_listed_and_ended(folder):
    add(folder)
    records = records_of(folder)
    begun = records.accounts.login("bob", "four words of mine")
    assert len(json.loads(done("users", "sessions", "bob", "--json"))) == 1
    assert begun.session not in done("users", "sessions", "bob")
    assert "1 sessions ended" in done("users", "logout", "bob")
    assert records.accounts.session(begun.session) is None
    records.close()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("add", "x", "--role", "owner", "--code"), "role_unknown"),
        (("add", "x", "--role", "x" * 5000, "--code"), "role_unknown"),
        (("add", "a b", "--role", "doctor", "--code"), "user_name"),
        (("add", "x", "--role", "doctor"), "password_missing"),
        (("add", "x", "--role", "doctor", "--password-file", "/absent"), "password_file"),
        (("role", "bob", "owner"), "role_unknown"),
        (("assign", "bob"), "study_or_patient"),
        (("assign", "bob", "--study", "1.2", "--patient", "1"), "study_or_patient"),
        (("assign", "nobody", "--patient", "1"), "user_unknown"),
        (("code", "nobody"), "user_unknown"),
        (("sessions", "nobody"), "user_unknown"),
    ],
)
def test_what_cannot_be_is_refused_in_words(folder, words, code):
    add(folder)
    assert refused("users", *words) == code
    assert [one["name"] for one in json.loads(done("users", "list", "--json"))] == ["bob"]


@pytest.mark.parametrize("words", [("users", "list"), ("audit", "verify")])
def test_without_a_stack_there_is_nothing_to_manage(folder, words):
    folder.state_json.unlink()
    assert refused(*words) == "stack_absent"


def test_a_folder_of_an_older_radloop_gets_the_new_secrets(folder):
    for name in ("vault_key", "audit_key", "patient_key", "token_key"):
        folder.secret(name).unlink()
    add(folder)
    assert folder.secret("vault_key").stat().st_mode & 0o777 == 0o600


def test_the_audit_is_shown_by_user_and_time(folder):
    add(folder)
    told = json.loads(done("audit", "show", "--since", "5m", "--user", "command line", "--json"))
    # Looking is noted as well.
    assert [(row["action"], row["outcome"]) for row in told] == [
        ("user.add", "begun"),
        ("user.add", "done"),
        ("audit.show", "done"),
    ]
    assert json.loads(done("audit", "show", "--since", "2001-01-01", "--json"))
    assert json.loads(done("audit", "show", "--user", "bob", "--json")) == []
    assert "user.add" in done("audit", "show")


@pytest.mark.parametrize("since", ["yesterday", "5x", "99999999999d", "2027-13-01", "999999d"])
def test_a_time_that_is_none_is_refused(folder, since):
    assert refused("audit", "show", "--since", since) == "since"


def test_a_whole_record_is_whole(folder):
    add(folder)
    assert "whole" in done("audit", "verify")
    assert json.loads(done("audit", "verify", "--json"))["intact"]


def test_a_changed_record_ends_with_five_and_names_the_row(folder):
    add(folder)
    records = records_of(folder)
    with records.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_no_update")
        connection.exec_driver_sql("UPDATE audit SET actor = 'x' WHERE seq = 2")
    records.close()
    result = radloop("audit", "verify")
    assert (result.exception.exit_code, result.exception.code) == (5, "audit_altered")
    assert "2    changed" in result.output
    assert not json.loads(radloop("audit", "verify", "--json").output)["intact"]


def test_a_record_from_a_backup_is_accepted_once(folder):
    add(folder)
    records = records_of(folder)
    with records.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_no_delete")
        connection.exec_driver_sql("DELETE FROM audit WHERE seq > 1")
    records.close()
    assert refused("audit", "verify") == "audit_altered"
    assert "cut" in done("audit", "accept")
    assert "whole" in done("audit", "verify")


def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown(folder):
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "dicom_services.cli",
        "users",
        "add",
        "bob",
        "--role",
        "doctor",
    ]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "RADLOOP_DATA": str(folder.home)},
    )
    os.close(theirs)
    screen = b""
    for prompt in (b"Password: ", b"The same again: "):
        while prompt not in screen:
            screen += os.read(ours, 1000)
        os.write(ours, b"four words of mine\n")
    try:
        while piece := os.read(ours, 1000):
            screen += piece
    except OSError:
        pass
    os.close(ours)
    assert child.wait(60) == 0, screen
    assert b"bob may log in" in screen
    assert b"words" not in screen
    records = records_of(folder)
    assert records.accounts.login("bob", "four words of mine")
    records.close()
