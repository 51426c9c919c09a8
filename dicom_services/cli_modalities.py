"""`radloop modality` and `radloop send`: who may send, and sending."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_services.cli_options import REFUSED, DataOption, JsonOption, folder_of, show_json
from dicom_services.cli_options import settings_of_call as settings_now

modality = typer.Typer(
    help="Register who may send; strangers are refused.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@modality.command("add")
def add(
    aet: Annotated[str, typer.Argument(help="Its AE title.")],
    host: Annotated[str, typer.Argument(help="Its address; associations from others are refused.")],
    port: Annotated[int, typer.Argument(help="Where it listens.")],
    query: Annotated[bool, typer.Option("--query", help="May also find and retrieve.")] = False,
    quiet_s: Annotated[
        float | None,
        typer.Option("--quiet-s", help="Seconds of silence until its series count as complete."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Register a modality, or change one."""
    from dicom_services import modalities
    from dicom_services.stack import change_modalities

    folder = folder_of(data)
    listen = folder.state().dicom_listen
    added = modalities.Modality(aet, modalities.resolve(host), port, query, quiet_s)
    known = modalities.with_modality(modalities.read_modalities(folder.modalities_json), added)
    told = change_modalities(folder, settings_now(), known)
    typer.echo(f"{aet} at {added.address} may send" + ("" if told else " once the stack is up"))
    if not listen and not added.loopback:
        typer.echo("inactive until `radloop up --dicom-listen`: it is on another machine")
    if quiet_s is not None and told:
        typer.echo("its quiet time counts within half a minute")


@modality.command("remove")
def remove(aet: str, data: DataOption = None) -> None:
    """Forget a modality; from now on it is refused."""
    from dicom_services import modalities
    from dicom_services.stack import change_modalities

    folder = folder_of(data)
    known = modalities.read_modalities(folder.modalities_json)
    change_modalities(folder, settings_now(), modalities.without_modality(known, aet))
    typer.echo(f"{aet} may no longer send")


@modality.command("list")
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List who may send."""
    from dataclasses import asdict

    from dicom_services import modalities, tables

    folder = folder_of(data)
    listen = folder.state().dicom_listen
    known = modalities.read_modalities(folder.modalities_json)
    if as_json:
        active = modalities.active(known, dicom_listen=listen)
        show_json([asdict(one) | {"active": one in active} for one in known])
        return
    columns = ("aet", "address", "port", "may", "quiet s", "state")
    tables.show_table(columns, tables.modality_rows(known, dicom_listen=listen))


def send(
    path: Annotated[Path, typer.Argument(help="A DICOM file, or a folder or zip of them.")],
    aet: Annotated[str, typer.Option(help="Our AE title; it must be registered.")] = "RADLOOP",
    called: Annotated[
        str | None, typer.Option(help="AE title of the receiver; else this stack's.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the receiver.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Its port; else this stack's.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send DICOM files by C-STORE."""
    from dicom_services import send as sending
    from dicom_services import tables

    receiver = sending.Receiver(
        host=host,
        port=port or folder_of(data).state().dicom_port,
        called=called or settings_now().orthanc.aet,
        calling=aet,
        object_scale=settings_now().front.object_scale,
    )
    with tables.progress_bar("sending") as advance:
        sent = sending.send_path(path, receiver, advance)
    if as_json:
        show_json(sent.document())
    else:
        typer.echo(sent.sentence())
    if not sent.complete:
        raise typer.Exit(REFUSED)
