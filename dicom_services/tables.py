"""What the command line shows, as tables: bordered on a terminal, plain columns in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from dicom_services.data_folder import DataFolder
from dicom_services.modalities import Modality
from dicom_services.orthanc_config import ADMIN
from dicom_services.quarantine import Record, Usage
from dicom_services.stack import StackStatus

Row = Sequence[object]


def show_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print a table to standard output."""
    texts = [[_plain(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [
            max(len(column), *(len(row[i]) for row in texts)) if texts else len(column)
            for i, column in enumerate(columns)
        ]
        for line in ([column.upper() for column in columns], *texts):
            cells = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
        return
    # Costs a tenth of a second that `--help` should not.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in texts:
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))
    Console().print(table)


def address_rows(folder: DataFolder, told: StackStatus) -> list[Row]:
    """Where to look."""
    state = told.state
    reach = "registered modalities" if state.dicom_listen else "this machine only"
    http = f"http://127.0.0.1:{state.http_port}"
    return [
        ("viewer", told.viewer),
        ("Orthanc Explorer", f"{http}/app/explorer.html"),
        ("  user, password", f"{ADMIN}, {folder.secret('orthanc_admin')}"),
        ("DICOMweb", f"{http}/dicom-web/"),
        ("DICOM", f"{told.aet}@127.0.0.1:{state.dicom_port} ({reach})"),
        ("logs", folder.logs),
    ]


def process_rows(told: StackStatus) -> list[Row]:
    """One row a process."""
    return [
        (one.name, one.state, one.pid or "-", _duration(one.uptime_s), one.restarts)
        for one in told.processes
    ]


def state_rows(told: StackStatus) -> list[Row]:
    """Queues, jobs and disk."""
    rows: list[Row] = [("Orthanc", told.orthanc_version or "no answer")]
    if told.waiting is None:
        rows.append(("queue", "no answer"))
    else:
        rows += [(f"queue {name}", f"{count} waiting") for name, count in told.waiting.items()]
    if told.jobs is not None:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(told.jobs.items()))
        rows.append(("jobs", counts or "none yet"))
    rows.append(("disk", f"{told.disk_free_gb:.1f} GB free"))
    return rows


def quarantine_rows(records: Sequence[Record]) -> list[Row]:
    """One row a refused file."""
    return [
        (
            one.id,
            one.when[:19].replace("T", " "),
            one.reason,
            one.sender or "-",
            one.source,
            size(one.bytes) if one.kept else f"{size(one.bytes)}, not kept",
            one.times,
        )
        for one in records
    ]


def usage_rows(usage: Usage) -> list[Row]:
    """What is in quarantine; no row where nothing is."""
    count = usage.records + usage.beyond
    return [("quarantine", f"{count} refused, {size(usage.bytes)}")] if count else []


def size(count: int) -> str:
    """Bytes for people."""
    for unit, least in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"


def status_document(folder: DataFolder, told: StackStatus, usage: Usage) -> dict[str, Any]:
    """`radloop status --json`."""
    return {
        "version": 1,
        "data": str(folder.home),
        **asdict(told),
        "quarantine": asdict(usage),
    }


def modality_rows(known: Sequence[Modality], *, dicom_listen: bool) -> list[Row]:
    """One row a modality; whether Orthanc is told of it."""
    return [
        (
            one.aet,
            one.address,
            one.port,
            "store, query" if one.query else "store",
            one.quiet_s if one.quiet_s is not None else "default",
            "active" if dicom_listen or one.loopback else "inactive: radloop up --dicom-listen",
        )
        for one in known
    ]


def job_rows(jobs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row a job."""
    return [
        (
            str(job.get("job", ""))[:12],
            job.get("state", ""),
            job.get("code", ""),
            job.get("rule", ""),
            job.get("run", ""),
            str(job.get("updated", ""))[:19].replace("T", " "),
            job.get("series", ""),
            job.get("summary", ""),
        )
        for job in jobs
    ]


def clause_rows(explained: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Each series, each rule, each clause: true or false; after each rule what follows from it."""
    rows: list[Row] = []
    for series in explained:
        name = series["id"]
        if series.get("excluded_by"):
            rows.append((name, f"exclude {series['excluded_by']}", "", "ruled out"))
        for rule in series["rules"]:
            for clause in rule["clauses"]:
                rows.append((name, rule["rule"], clause["clause"], bool(clause["held"])))
            verdict = "chosen" if rule["selected"] else "not chosen"
            rows.append((name, rule["rule"], rule["why"], verdict))
    return rows


_STYLES = {
    "OK": "green",
    "RUNNING": "green",
    "done": "green",
    "chosen": "green",
    "true": "green",
    "WARN": "yellow",
    "STARTING": "yellow",
    "refused": "yellow",
    "FAIL": "red",
    "BACKOFF": "red",
    "FATAL": "red",
    "EXITED": "red",
    "failed": "red",
    "false": "red",
}


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h"


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line for every tenth in a pipe; both on standard error."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), Remaining())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    told = 0

    def advance(done: int, total: int) -> None:
        nonlocal told
        tenth = done * 10 // total
        if tenth > told:
            told = tenth
            sys.stderr.write(f"{what}: {done} of {total}\n")

    yield advance
