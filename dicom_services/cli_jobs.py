"""`radloop jobs` and `radloop routes`: what became of series, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_services.cli_options import (
    DataOption,
    JsonOption,
    folder_of,
    orthanc_of,
    settings_of_call,
    show_json,
)
from dicom_services.errors import InputError, MissingError

jobs = typer.Typer(help="See and repeat jobs.", rich_markup_mode=None)
routes = typer.Typer(
    help="See which rules want a series.", no_args_is_help=True, rich_markup_mode=None
)
_COLUMNS = ("job", "state", "code", "rule", "run", "updated (UTC)", "series", "result")
IdArgument = Annotated[
    str, typer.Argument(help="Orthanc id of a series, or a job id or its first digits.")
]


@jobs.callback(invoke_without_command=True)
def jobs_(context: typer.Context, data: DataOption = None, as_json: JsonOption = False) -> None:
    """See and repeat jobs; without a command, list them."""
    if context.invoked_subcommand is None:
        list_(data=data, as_json=as_json)


@jobs.command("list")
def list_(
    state: Annotated[str, typer.Option(help="Only jobs in this state.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=5000)] = 50,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the latest first."""
    from dicom_services import tables

    found = _jobs(data, state, limit)
    if as_json:
        show_json({"version": 1, "jobs": found})
        return
    tables.show_table(_COLUMNS, tables.job_rows(found))
    with orthanc_of(folder_of(data)) as orthanc:
        arriving = int(orthanc.status().get("arriving_studies", 0))
    if arriving:
        typer.echo(f"studies that are still arriving: {arriving}")


@jobs.command("dead")
def dead(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List jobs that failed after every try; `radloop jobs rerun ID` tries again."""
    list_(state="failed", limit=5000, data=data, as_json=as_json)


@jobs.command("show")
def show(name: IdArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show a series or a job with everything known of it."""
    from dicom_services import tables

    with orthanc_of(folder_of(data)) as orthanc:
        series = _is_series(name)
        found = _series_of(orthanc, name) if series else _job(_jobs(data, "", 5000), name)
    if as_json:
        show_json(found)
        return
    nested = [(key, value) for key, value in found.items() if key not in ("jobs", "why")]
    tables.show_table(("what", "value"), [(key, _flat(value)) for key, value in nested])
    for rule in found.get("why", []):
        typer.echo(f"rule {rule.get('rule', '')}: {rule.get('why', '')}")
    if found.get("jobs"):
        typer.echo()
        tables.show_table(_COLUMNS, tables.job_rows(found["jobs"]))


@jobs.command("rerun")
def rerun(
    name: IdArgument,
    rule: Annotated[str, typer.Option(help="Of a series: the rule to run.")] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a job again, as a new run whose result replaces the earlier one."""
    with orthanc_of(folder_of(data)) as orthanc:
        series = name
        if not _is_series(name):
            job = _job(_jobs(data, "", 5000), name)
            series, rule = str(job["series"]), rule or str(job["rule"])
        if not re.fullmatch(r"[a-z0-9_-]{0,64}", rule):
            raise InputError("rule_name")
        try:
            made = orthanc.post_json(f"/radloop/series/{series}/run/{rule or '-'}", {})
        except InputError:
            raise InputError("no_rule") from None
    if as_json:
        show_json(made)
    else:
        typer.echo(f"queued as {made['job']}")


@routes.command("explain")
def explain(
    path: Annotated[Path, typer.Argument(help="A DICOM file, or a folder or zip of them.")],
    rules: Annotated[Path | None, typer.Option(help="Another routing.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show each rule and each clause, true or false, for each series; nothing is sent."""
    from dicom_services import tables
    from dicom_services.dicom.intake import open_input
    from dicom_services.refusals import sentence
    from dicom_services.routes import explain as ask

    found = open_input(path, object_scale=settings_of_call().front.object_scale)
    refused = dict(found[0].refused)
    # Numbers stand for UIDs: nothing that names a patient's study is printed.
    studies = {one.study_uid: f"study {i + 1}" for i, one in enumerate(found)}
    series = [
        {"id": f"series {i + 1}", "study": studies[one.study_uid], "facts": dict(one.facts)}
        for i, one in enumerate(found)
    ]
    explained = ask(rules or settings_of_call().routing.file, series)
    described: list[dict[str, Any]] = [
        {"modality": one.modality, "files": len(one.files), "folder": _folder(one.files), **answer}
        for one, answer in zip(found, explained, strict=True)
    ]
    if as_json:
        show_json({"version": 1, "series": described, "refused": refused})
        return
    if refused:
        typer.echo(sentence(refused))
    for one in described:
        chosen = ", ".join(one["chosen"]) or "no rule"
        typer.echo(
            f"{one['id']}: {one['modality']}, {one['files']} files{one['folder']} -> {chosen}"
        )
    typer.echo()
    tables.show_table(("series", "rule", "clause", "holds"), tables.clause_rows(described))


def _jobs(data: Path | None, state: str, limit: int) -> list[dict[str, Any]]:
    if not re.fullmatch(r"[a-z]{0,20}", state):
        raise InputError("job_state")
    with orthanc_of(folder_of(data)) as orthanc:
        return list(orthanc.get_json("/radloop/jobs", state=state, limit=limit))


def _job(known: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The one whose id begins so."""
    if not re.fullmatch(r"[0-9a-f]{4,40}", name):
        raise MissingError("job_unknown")
    found = [job for job in known if str(job["job"]).startswith(name)]
    if not found:
        raise MissingError("job_unknown")
    if len(found) > 1:
        raise InputError("job_ambiguous", count=len(found))
    return found[0]


def _folder(files: Sequence[bytes | Path]) -> str:
    """Where a series lies, as the caller's own path; "" inside an archive."""
    return f" in {files[0].parent}" if isinstance(files[0], Path) else ""


def _is_series(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}", name) is not None


def _series_of(orthanc: Any, name: str) -> dict[str, Any]:
    try:
        return dict(orthanc.get_json(f"/radloop/series/{name}"))
    except MissingError:
        raise MissingError("series_unknown") from None


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(str(inner) for inner in value.values())
    if isinstance(value, list):
        return ", ".join(_flat(inner) for inner in value)
    return str(value)
