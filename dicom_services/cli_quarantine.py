"""`radloop quarantine` and `radloop gate`: what was refused, why, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_services.cli_options import (
    REFUSED,
    DataOption,
    JsonOption,
    folder_of,
    orthanc_of,
    quarantine_of,
    show_json,
)
from dicom_services.errors import (
    AccessError,
    ConfigError,
    InputError,
    MissingError,
    UnavailableError,
)

if TYPE_CHECKING:
    from dicom_services.orthanc import Orthanc
    from dicom_services.quarantine import Quarantine, Record

quarantine = typer.Typer(
    help="See, release or delete files that the gate refused.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
IdArgument = Annotated[str, typer.Argument(help="Its id, or the first or last digits of it.")]
_COLUMNS = ("id", "when (UTC)", "reason", "sender", "by", "size", "times")
_POISON = "poison"


@quarantine.command("list")
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List refused files, the latest last."""
    from dataclasses import asdict

    from dicom_services import tables

    kept = quarantine_of(folder_of(data))
    records, unreadable = kept.records()
    usage = kept.usage()
    if as_json:
        show_json(
            {
                "version": 1,
                "records": [asdict(one) for one in records],
                "unreadable": unreadable,
                "usage": asdict(usage),
                "limits": {"bytes": kept.max_bytes, "records": kept.max_records},
            }
        )
        return
    tables.show_table(_COLUMNS, tables.quarantine_rows(records))
    text = f"{usage.records} refused, {tables.size(usage.bytes)} of {tables.size(kept.max_bytes)}"
    if usage.beyond:
        text += f"; {usage.beyond} more came when there was no room for a record"
    if unreadable:
        text += f"; {unreadable} cannot be read"
    typer.echo(text)


@quarantine.command("show")
def show(name: IdArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show why one file was refused; never what is in it."""
    from dataclasses import asdict

    from dicom_services import tables

    record = _record(quarantine_of(folder_of(data)), name)
    if as_json:
        show_json(asdict(record) | {"meaning": _meaning(record.reason)})
        return
    told = {key: value for key, value in asdict(record).items() if value != ""}
    tables.show_table(("what", "value"), list(told.items()))
    typer.echo(f"refused because {_meaning(record.reason)}")


@quarantine.command("release")
def release(
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="As `list` shows them.")],
    to: Annotated[
        Path | None, typer.Option(help="Write the file here to be mended; it stays in quarantine.")
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Although it has stopped a reader before.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Judge again and, if it passes now, store it in the archive and let go of it."""
    folder = folder_of(data)
    kept = quarantine_of(folder)
    records = [_record(kept, name) for name in names]
    if to is not None:
        for record in records:
            typer.echo(f"{record.id} is in {_copy(_file(kept, record), to)}")
        return
    refused = 0
    with orthanc_of(folder) as orthanc:
        for record in records:
            told = _released(kept, record, orthanc, anyway=anyway)
            refused += bool(told)
            typer.echo(f"{record.id} {told or 'is stored'}")
    if refused:
        raise typer.Exit(REFUSED)


@quarantine.command("purge")
def purge(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID...]", help="As `list` shows them.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0.0, help="Those that came DAYS ago.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    data: DataOption = None,
) -> None:
    """Delete refused files for good; what has stopped a reader stays refused."""
    kept = quarantine_of(folder_of(data))
    if sum((bool(names), older_than is not None, everything)) != 1:
        raise ConfigError("purge_what")
    try:
        if names:
            count = kept.remove([_id(kept, name) for name in names])
        else:
            count = kept.purge(older_than_days=older_than or 0.0)
    except OSError:
        raise AccessError("quarantine_unwritable") from None
    typer.echo(f"{count} deleted")


def gate(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="DICOM files, folders or zips of them.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Say which DICOM files would be refused, and why; nothing is sent or kept."""
    from dicom_services import tables
    from dicom_services.inspection import Inspection, inspect
    from dicom_services.refusals import sentence

    each = [inspect(path) for path in paths]
    found = Inspection(
        passed=sum(one.passed for one in each),
        left_out=sum(one.left_out for one in each),
        refused=tuple(file for one in each for file in one.refused),
    )
    if as_json:
        show_json(found.document())
    else:
        if found.refused:
            tables.show_table(
                ("file", "reason", "byte", "because"),
                [(one.file, one.reason, one.offset, _meaning(one.reason)) for one in found.refused],
            )
        text = f"{found.passed} of {found.passed + len(found.refused)} files pass the gate"
        if found.refused:
            text += f"; {sentence(found.reasons)}"
        if found.left_out:
            text += f"; {found.left_out} files that are not DICOM were left out"
        typer.echo(text)
    if found.refused:
        raise typer.Exit(REFUSED)


def _released(kept: Quarantine, record: Record, orthanc: Orthanc, *, anyway: bool) -> str:
    """Store one file and let go of it; "" then, else why not."""
    from dicom_services.refusals import refusal_of_path

    file, digest = _file(kept, record), record.sop_instance_digest
    refusal = refusal_of_path(file)
    if refusal is not None:
        return f"is refused still: {refusal.reason}, {_meaning(refusal.reason)}"
    poisonous = record.reason == _POISON or (digest != "" and kept.is_poison(digest))
    if poisonous and not anyway:
        return f"is refused still: poison, {_meaning(_POISON)}; --anyway stores it all the same"
    try:
        if digest:
            kept.forget_poison(digest)
        try:
            new = orthanc.store(file)
        except UnavailableError:
            # It may have stopped the archive once more.
            if poisonous and digest:
                kept.mark_poison(digest)
            raise
        except InputError:
            return "is refused by the archive, for which it is no DICOM; it stays in quarantine"
        if not new:
            return "stays in quarantine: the archive has an instance of the same UID already"
        kept.remove([record.id])
    except OSError:
        raise AccessError("quarantine_unwritable") from None
    return ""


def _copy(file: Path, folder: Path) -> Path:
    import os
    import shutil

    target = folder / file.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with file.open("rb") as source, os.fdopen(handle, "wb") as copy:
            shutil.copyfileobj(source, copy)
    except OSError:
        raise ConfigError("quarantine_out") from None
    return target


def _record(kept: Quarantine, name: str) -> Record:
    try:
        return kept.record(_id(kept, name))
    except LookupError:
        raise MissingError("quarantine_unknown") from None


def _id(kept: Quarantine, name: str) -> str:
    """The one id that begins or ends so."""
    found = [one for one in kept.ids() if one.startswith(name) or one.endswith(name)]
    if len(name) < 4 or not found:
        raise MissingError("quarantine_unknown")
    if len(found) > 1:
        raise InputError("quarantine_ambiguous", count=len(found))
    return found[0]


def _file(kept: Quarantine, record: Record) -> Path:
    try:
        return kept.file_of(record)
    except LookupError:
        raise MissingError("quarantine_not_kept") from None


def _meaning(reason: str) -> str:
    from dicom_services.gate import REASONS

    # A newer version may have refused it.
    return REASONS.get(reason, "of a reason that this version does not know")
