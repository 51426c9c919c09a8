"""The `radloop` command: parses, calls one function, prints, and ends with a code that means it."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Annotated, Final

import typer

from dicom_services.cli_audit import audit
from dicom_services.cli_demo import demo, phantom
from dicom_services.cli_jobs import jobs, routes
from dicom_services.cli_modalities import modality, send
from dicom_services.cli_options import (
    PROBLEMS,
    UNAVAILABLE,
    DataOption,
    JsonOption,
    folder_of,
    quarantine_of,
    settings_of_call,
    show_json,
)
from dicom_services.cli_quarantine import gate, quarantine
from dicom_services.cli_users import users
from dicom_services.errors import RadloopError, UnavailableError
from dicom_services.remedies import remedy

GROUP: Final = "radloop.commands"
# Commands of packages that this one may not import; shown without loading them.
_FOREIGN: Final = {
    "analyze": "Run a pipeline on files, without any server.",
    "models": "Models: list, show, fetch, verify.",
    "pipelines": "List the pipelines of this machine.",
    "worker": "Take jobs from the queue; `radloop up` starts these.",
}
_UNPARSED: Final = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
}

app = typer.Typer(
    name="radloop",
    help="Closes the loop between PACS, AI models and readers. Research use; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(modality, name="modality")
app.add_typer(jobs, name="jobs")
app.add_typer(routes, name="routes")
app.add_typer(quarantine, name="quarantine")
app.add_typer(users, name="users")
app.add_typer(audit, name="audit")
app.command("send")(send)
app.command("gate")(gate)
app.command("demo")(demo)
app.command("phantom")(phantom)


@app.command()
def up(
    data: DataOption = None,
    dicom_listen: Annotated[
        bool | None,
        typer.Option(help="Let registered modalities of other machines send; remembered."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, max=64, help="How many workers; remembered.")
    ] = None,
) -> None:
    """Start Orthanc, Redis and workers, or bring a running stack up to date."""
    from dicom_services import stack, tables

    folder, settings = folder_of(data), settings_of_call()
    begun = stack.up(folder, settings, dicom_listen=dicom_listen, workers=workers, say=typer.echo)
    if begun.was_running and not begun.restarted:
        typer.echo("already running; nothing had changed")
    told = stack.status(folder, settings)
    tables.show_table(("what", "where"), tables.address_rows(folder, told))
    broken = [one for one in begun.processes if one.state != "RUNNING"]
    for one in broken:
        typer.echo(f"{one.name} does not run; read {folder.logs / one.name}.log", err=True)
    if broken:
        raise typer.Exit(PROBLEMS)


@app.command()
def down(data: DataOption = None) -> None:
    """Stop the stack; what is stored stays."""
    from dicom_services import stack

    stopped = stack.down(folder_of(data), settings_of_call(), say=typer.echo)
    typer.echo("stopped" if stopped else "nothing was running")


@app.command()
def status(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show processes, addresses, queues and jobs."""
    from dicom_services import stack, tables

    folder = folder_of(data)
    told = stack.status(folder, settings_of_call())
    refused = quarantine_of(folder).usage()
    if as_json:
        show_json(tables.status_document(folder, told, refused))
    else:
        if told.running:
            columns = ("process", "state", "pid", "uptime", "restarts")
            tables.show_table(columns, tables.process_rows(told))
            typer.echo()
        rows = [*tables.address_rows(folder, told), *tables.state_rows(told)]
        rows += tables.usage_rows(refused)
        tables.show_table(("what", "where"), rows)
    if not told.running:
        raise UnavailableError("stack_not_running")
    if told.orthanc_version is None or any(one.state != "RUNNING" for one in told.processes):
        raise typer.Exit(PROBLEMS)


@app.command()
def doctor(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Name everything missing or wrong, each with its remedy."""
    from dicom_services import tables
    from dicom_services.doctor import examine

    found = examine(folder_of(data))
    if as_json:
        show_json({"version": 1, "checks": [one.document() for one in found]})
    else:
        tables.show_table(
            ("", "check", "found", "remedy"),
            [(one.verdict, one.name, one.found, one.remedy) for one in found],
        )
    if any(one.verdict == "FAIL" for one in found):
        raise typer.Exit(PROBLEMS)


@app.command("setup-plugin")
def setup_plugin() -> None:
    """Install what our plugin needs inside Orthanc's own Python."""
    from dicom_services.plugin_site import install_plugin_site, plugin_site

    install_plugin_site()
    typer.echo(f"installed in {plugin_site()}")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("radloop"))


def _add_foreign(name: str, entry: importlib.metadata.EntryPoint | None) -> None:
    summary = _FOREIGN.get(name, "")

    @app.command(name, help=summary, add_help_option=False, context_settings=dict(_UNPARSED))
    def run(context: typer.Context) -> None:
        try:
            if entry is None:
                raise ImportError(name=GROUP)
            loaded = entry.load()
        except ImportError as error:
            raise UnavailableError("nodes_missing", module=error.name or "unknown") from None
        if isinstance(loaded, typer.Typer):
            inner = loaded
        else:
            inner = typer.Typer(
                add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
            )
            inner.command(name)(loaded)
        inner(args=context.args, prog_name=f"radloop {name}")


_entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
for _name in sorted(_FOREIGN.keys() | _entries.keys()):
    _add_foreign(_name, _entries.get(_name))


def main() -> None:
    """Run one command; every error of ours ends as its code, its facts and its remedy."""
    # Whatever a command writes is its caller's alone.
    os.umask(0o077)
    try:
        app()
    except RadloopError as error:
        advice = remedy(error.code)
        typer.echo(f"{error}\n  {advice}" if advice else str(error), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output went away; nothing is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(UNAVAILABLE)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
