"""What the commands share: options, the settings of this call, and JSON on standard output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from dicom_services.data_folder import DataFolder
    from dicom_services.orthanc import Orthanc
    from dicom_services.quarantine import Quarantine
    from dicom_services.settings import Settings
    from dicom_services.store.records import Records

PROBLEMS: Final = 1
REFUSED: Final = 3
UNAVAILABLE: Final = 4

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data folder; else RADLOOP_DATA, else ~/.local/share/radloop.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for other programs.")]


def folder_of(data: Path | None) -> DataFolder:
    """The data folder of this call."""
    from dicom_services.data_folder import data_folder

    return data_folder(data)


def settings_of_call() -> Settings:
    """The settings, with the overlay that the environment names."""
    from dicom_services.settings import overlay_path, read_settings

    return read_settings(overlay_path())


def orthanc_of(folder: DataFolder) -> Orthanc:
    """The Orthanc of the stack in `folder`."""
    from dicom_services.stack import connect

    return connect(folder, folder.state())


def quarantine_of(folder: DataFolder) -> Quarantine:
    """The refused files of the stack in `folder`."""
    from dicom_services.quarantine import Quarantine

    limits = settings_of_call().quarantine
    return Quarantine(folder.quarantine, limits.max_bytes, limits.max_records)


def records_of(folder: DataFolder) -> Records:
    """Accounts, corrections and audit of the stack in `folder`.

    Raises
    ------
    UnavailableError
        `stack_absent` where no stack was ever started.
    """
    from dicom_services.errors import UnavailableError
    from dicom_services.store.records import Places, open_records

    if not folder.exists():
        raise UnavailableError("stack_absent")
    # Secrets that an older stack did not have yet.
    folder.prepare()
    return open_records(
        Places(
            database=settings_of_call().database.url or f"sqlite:///{folder.database}",
            audit_anchor=folder.audit_anchor,
            vault_key=folder.secret("vault_key"),
            audit_key=folder.secret("audit_key"),
            patient_key=folder.secret("patient_key"),
            token_key=folder.secret("token_key"),
        )
    )


def show_json(value: Any) -> None:
    """Print it."""
    typer.echo(json.dumps(value, indent=2, default=str))
