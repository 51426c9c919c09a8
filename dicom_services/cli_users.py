"""`radloop users`: accounts, roles and the patients they may see."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dicom_services.cli_options import (
    DataOption,
    JsonOption,
    folder_of,
    orthanc_of,
    records_of,
    show_json,
)

if TYPE_CHECKING:
    from dicom_services.errors import Fact
    from dicom_services.orthanc import Orthanc
    from dicom_services.store.records import Records

_UID: Final = re.compile(r"[0-9.]{1,64}\Z")

users = typer.Typer(
    help="Accounts, their roles, and the patients they may see.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="Name to log in with.", show_default=False)]
PasswordFile = Annotated[
    Path | None, typer.Option(help="Its first line is the password; else it is asked for.")
]
StudyOption = Annotated[
    str | None, typer.Option("--study", help="A Study Instance UID: the patient of that study.")
]
PatientOption = Annotated[str | None, typer.Option("--patient", help="A Patient ID.")]
AllPatients = Annotated[
    bool, typer.Option("--all-patients", help="May see every patient, now and later.")
]


@users.command("add")
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="admin, radiologist, doctor or clinician.")],
    all_patients: AllPatients = False,
    display_name: Annotated[str, typer.Option(help="As others see it.")] = "",
    password_file: PasswordFile = None,
    code: Annotated[
        bool, typer.Option("--code", help="No password; print a code that logs in once.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Add an account."""
    from dicom_services.access.roles import checked_role

    role = checked_role(role)
    password = None if code else _password(password_file)
    with _changed(data, "user.add", user=name, role=role, all_patients=all_patients) as records:
        records.accounts.add_user(
            name, role, password, display_name=display_name, all_patients=all_patients
        )
        printed = records.accounts.login_code(name) if code else ""
    typer.echo(f"{name} may log in" + (f" once within an hour with {printed}" if code else ""))


@users.command("list")
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List accounts."""
    from dataclasses import asdict

    from dicom_services import tables

    records = records_of(folder_of(data))
    known = records.accounts.users()
    records.close()
    if as_json:
        show_json([asdict(one) for one in known])
        return
    rows = [
        (
            one.name,
            one.role,
            "all" if one.all_patients or one.role == "admin" else one.patients,
            "disabled" if one.disabled else ("active" if one.has_password else "by code"),
            one.display_name,
        )
        for one in known
    ]
    tables.show_table(("name", "role", "patients", "state", "shown as"), rows)


@users.command("role")
def role(
    name: Name,
    role: Annotated[str, typer.Argument(help="admin, radiologist, doctor or clinician.")],
    all_patients: Annotated[
        bool | None, typer.Option(help="Every patient, or the assigned ones only.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Give an account another role."""
    from dicom_services.access.roles import checked_role

    role = checked_role(role)
    with _changed(data, "user.role", user=name, role=role) as records:
        records.accounts.set_role(name, role, all_patients=all_patients)
    typer.echo(f"{name} is {role}")


@users.command("assign")
def assign(
    name: Name,
    study: StudyOption = None,
    patient: PatientOption = None,
    data: DataOption = None,
) -> None:
    """Let a user see a patient."""
    key = _patient_key(data, study, patient)
    with _changed(data, "user.assign", user=name, patient=key) as records:
        new = records.accounts.assign(name, key)
    typer.echo(f"{name} may see this patient" + ("" if new else ", as before"))


@users.command("unassign")
def unassign(
    name: Name,
    study: StudyOption = None,
    patient: PatientOption = None,
    data: DataOption = None,
) -> None:
    """Take a patient from a user."""
    key = _patient_key(data, study, patient)
    with _changed(data, "user.unassign", user=name, patient=key) as records:
        there = records.accounts.unassign(name, key)
        whole = records.accounts.user(name)
    typer.echo("done" if there else f"{name} had not been assigned this patient")
    if whole.all_patients or whole.role == "admin":
        typer.echo(f"{name} still sees every patient, see `radloop users role`")


@users.command("disable")
def disable(name: Name, data: DataOption = None) -> None:
    """Close an account; its sessions end within a second."""
    with _changed(data, "user.disable", user=name) as records:
        records.accounts.disable(name)
    typer.echo(f"{name} is disabled")


@users.command("enable")
def enable(name: Name, data: DataOption = None) -> None:
    """Open a disabled account again."""
    with _changed(data, "user.enable", user=name) as records:
        records.accounts.enable(name)
    typer.echo(f"{name} may log in again")


@users.command("password")
def password(name: Name, password_file: PasswordFile = None, data: DataOption = None) -> None:
    """Give an account another password; its sessions end."""
    chosen = _password(password_file)
    with _changed(data, "user.password", user=name) as records:
        records.accounts.set_password(name, chosen)
    typer.echo(f"{name} has another password and is logged out everywhere")


@users.command("code")
def code(name: Name, data: DataOption = None) -> None:
    """Print a code that logs in once within an hour."""
    with _changed(data, "user.code", user=name) as records:
        printed = records.accounts.login_code(name)
    typer.echo(printed)


@users.command("sessions")
def sessions(name: Name, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List where an account is logged in."""
    from dicom_services import tables

    records = records_of(folder_of(data))
    living = records.accounts.sessions(name)
    records.close()
    if as_json:
        show_json(
            [{"since": since.isoformat(), "seen": seen.isoformat()} for since, seen in living]
        )
        return
    rows = [(f"{since:%Y-%m-%d %H:%M} UTC", f"{seen:%H:%M} UTC") for since, seen in living]
    tables.show_table(("since", "last seen"), rows)


@users.command("logout")
def logout(name: Name, data: DataOption = None) -> None:
    """End every session and token of an account."""
    with _changed(data, "user.logout", user=name) as records:
        ended = records.accounts.logout_everywhere(name)
    typer.echo(f"{ended} sessions ended")


@contextmanager
def _changed(data: Path | None, action: str, **facts: Fact) -> Iterator[Records]:
    """The records, with a row in the audit before the change and one of how it ended."""
    from dicom_services.errors import RadloopError
    from dicom_services.store.audit import COMMAND_LINE
    from dicom_services.store.users import checked_name

    told = dict(facts) | {"user": checked_name(str(facts["user"]))}
    records = records_of(folder_of(data))
    try:
        records.audit.write(None, action, outcome="begun", facts=told, actor=COMMAND_LINE)
        try:
            yield records
        except RadloopError as error:
            records.audit.write(None, action, outcome=error.code, facts=told, actor=COMMAND_LINE)
            raise
        records.audit.write(None, action, facts=told, actor=COMMAND_LINE)
    finally:
        records.close()


def _password(file: Path | None) -> str:
    from dicom_services.errors import InputError

    if file is not None:
        try:
            return file.read_text("utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, ValueError):
            raise InputError("password_file") from None
    if not sys.stdin.isatty():
        raise InputError("password_missing")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="The same again"))


def _patient_key(data: Path | None, study: str | None, patient: str | None) -> str:
    from dicom_services.errors import InputError

    if (study is None) == (patient is None):
        raise InputError("study_or_patient")
    folder = folder_of(data)
    if study is not None:
        with orthanc_of(folder) as orthanc:
            patient = _patient_of(orthanc, study)
    records = records_of(folder)
    records.close()
    return records.patients.patient(patient or "")


def _patient_of(orthanc: Orthanc, study_uid: str) -> str:
    """The patient's ID in the archive."""
    from dicom_services.errors import InputError, MissingError

    # Anything else would be a pattern, which could stand for another patient.
    found = (
        orthanc.find("studies", {"StudyInstanceUID": study_uid}) if _UID.match(study_uid) else []
    )
    if not found:
        raise MissingError("study_unknown")
    patients = {
        str(
            orthanc.get_json(f"/studies/{one}").get("PatientMainDicomTags", {}).get("PatientID", "")
        )
        for one in found
    }
    if len(patients) > 1:
        raise InputError("study_of_several_patients", patients=len(patients))
    return patients.pop()
