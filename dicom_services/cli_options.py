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


def show_json(value: Any) -> None:
    """Print it."""
    typer.echo(json.dumps(value, indent=2, default=str))
