"""`radloop audit`: who saw and changed what, and whether the record is whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dicom_services.cli_options import DataOption, JsonOption, folder_of, records_of, show_json

if TYPE_CHECKING:
    from dicom_services.store.audit_report import Report

_AGO: Final = re.compile(r"([0-9]{1,6})([mhd])\Z")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_MOST_SHOWN: Final = 20

audit = typer.Typer(
    help="Who saw and changed what, and whether the record is whole.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@audit.command("show")
def show(
    user: Annotated[str, typer.Option(help="Of this user alone.")] = "",
    study: Annotated[str, typer.Option(help="About this Study Instance UID alone.")] = "",
    since: Annotated[str, typer.Option(help="30m, 12h, 7d, or a date: 2026-01-31.")] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was noted, oldest first; studies appear by their key."""
    from dicom_services import tables
    from dicom_services.store.audit import COMMAND_LINE

    begin = _moment(since) if since else None
    records = records_of(folder_of(data))
    try:
        records.audit.write(None, "audit.show", actor=COMMAND_LINE)
        found = [
            (row.at, row.actor, row.action, row.outcome, row.study_key, row.facts)
            for row in records.audit.rows(
                actor=user.strip().casefold(),
                study_key=records.patients.study(study) if study else "",
                since=begin,
            )
        ]
    finally:
        records.close()
    columns = ("at", "actor", "action", "outcome", "study", "facts")
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in found])
        return
    rows = [
        (at[:19].replace("T", " "), *middle, study_key[:12] or "-", "" if facts == "{}" else facts)
        for at, *middle, study_key, facts in found
    ]
    tables.show_table(columns, rows)


@audit.command("verify")
def verify(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Check every row and the end of the record; ends with 5 where something does not hold."""
    from dicom_services.errors import CorruptError

    records = records_of(folder_of(data))
    report = records.audit.verify()
    records.close()
    _show_report(report, as_json=as_json)
    if not report.intact:
        first = report.problems[0]
        raise CorruptError(
            "audit_altered", problems=len(report.problems), first=first.seq, what=first.what
        )


@audit.command("accept")
def accept(data: DataOption = None) -> None:
    """Take the record as it is, after a person found out why; this is noted in it.

    Needed once after the database came back from a backup.
    """
    records = records_of(folder_of(data))
    report = records.audit.accept()
    records.close()
    _show_report(report, as_json=False)
    typer.echo("accepted as it is; changed rows are reported for ever")


def _show_report(report: Report, *, as_json: bool) -> None:
    from dataclasses import asdict

    from dicom_services import tables

    if as_json:
        show_json({"version": 1, "intact": report.intact, **asdict(report)})
        return
    typer.echo(f"{report.rows} rows, anchored to row {report.anchored}")
    if report.problems:
        shown = [(one.seq, one.what) for one in report.problems[:_MOST_SHOWN]]
        tables.show_table(("row", "found"), shown)
    else:
        typer.echo("whole: nothing was changed, removed or cut off")


def _moment(text: str) -> datetime:
    from dicom_services.errors import InputError

    ago = _AGO.match(text)
    try:
        if ago:
            span = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return datetime.now(UTC) - span
        told = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InputError("since") from None
    return told if told.tzinfo else told.replace(tzinfo=UTC)
