"""`radloop demo` and `radloop phantom`: a known answer, or your own study, all the way round."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dicom_services.cli_options import (
    PROBLEMS,
    DataOption,
    folder_of,
    records_of,
    settings_of_call,
)

if TYPE_CHECKING:
    from dicom_services.data_folder import DataFolder
    from dicom_services.demo import Row
    from dicom_services.errors import Fact
    from dicom_services.perfusion_phantom import Kind

DEMO_USER: Final = "demo"


class PhantomKind(StrEnum):
    """What `radloop phantom` makes."""

    CALCIUM = "calcium"
    DSC = "dsc"
    CTP = "ctp"


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder for the slices and truth.json.")],
    kind: Annotated[
        PhantomKind,
        typer.Option(help="Cardiac CT, or a head with a stroke as DSC-MRI or CT perfusion."),
    ] = PhantomKind.CALCIUM,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another patient.")] = 7,
    slices: Annotated[int, typer.Option(min=30, max=400, help="Of the cardiac CT.")] = 50,
) -> None:
    """Write a made-up scan whose answer is known as DICOM."""
    from dicom_services import phantom_command

    if kind is PhantomKind.CALCIUM:
        truth = phantom_command.write_phantom(out, seed, slices)
        typer.echo(f"{slices} slices in {out}; Agatston score on paper {truth['agatston']:.1f}")
        return
    scan: Kind = "DSC" if kind is PhantomKind.DSC else "CTP"
    truth = phantom_command.write_perfusion_phantom(out, scan, seed)
    typer.echo(phantom_command.sentence(out, truth))


def demo(
    study: Annotated[
        Path | None, typer.Argument(help="A folder of DICOM; else a phantom is made.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Start the stack, send a study, and show what comes back."""
    from dicom_services import stack, tables
    from dicom_services.demo import SENDER, send_and_watch
    from dicom_services.settings import overlay_path

    overlay = overlay_path()
    folder, settings = folder_of(data), settings_of_call()
    stack.up(folder, settings, say=typer.echo)
    with tempfile.TemporaryDirectory(prefix="radloop-demo-") as made:
        truth: dict[str, Any] = {}
        if study is None:
            truth = _made(Path(made))
        source = study or Path(made)
        with tables.progress_bar("sending") as advance:
            sent, ended = send_and_watch(folder, settings, source, typer.echo, advance)
    typer.echo(sent.sentence())
    told = stack.status(folder, settings)
    for one in ended:
        typer.echo()
        if one.rows:
            tables.show_table(
                ("read back from the PACS", "value", "unit"),
                [(row.name, row.value, row.unit) for row in one.rows],
            )
        if truth and one.state == "done":
            _compare(one.rows, truth)
        results = ", ".join(one.modalities) or "no objects"
        code = f" ({one.code})" if one.code else ""
        typer.echo(f"{one.state}{code}: {results} stored {one.seconds:.1f} s after the last image")
    typer.echo()
    tables.show_table(("what", "where"), tables.address_rows(folder, told))
    typer.echo()
    typer.echo("Everything keeps running; `make down` stops it. To go on with it by hand:")
    typer.echo(f"  export RADLOOP_DATA={folder.home}")
    if overlay is not None:
        typer.echo(f"  export RADLOOP_CONFIG={overlay.resolve()}")
    typer.echo(f"  .venv/bin/radloop status; .venv/bin/radloop send FOLDER --aet {SENDER}")
    typer.echo("Research use only, not a medical device.")
    _invite(folder, told.viewer, [one.uid for one in ended])
    if not ended or any(one.state == "failed" for one in ended):
        raise typer.Exit(PROBLEMS)


def _invite(folder: DataFolder, viewer: str, studies: list[str]) -> None:
    """Last of all, where to look, as somebody who may see every patient of this stack."""
    from dicom_services.store.audit import COMMAND_LINE

    records = records_of(folder)
    try:
        known = any(user.name == DEMO_USER for user in records.accounts.users())
        facts: dict[str, Fact] = {"user": DEMO_USER}
        if not known:
            records.audit.write(None, "user.add", outcome="begun", facts=facts, actor=COMMAND_LINE)
            records.accounts.add_user(
                DEMO_USER, "radiologist", None, display_name="Demo Reader", all_patients=True
            )
        code = records.accounts.login_code(DEMO_USER)
        records.audit.write(None, "user.code", facts=facts, actor=COMMAND_LINE)
    finally:
        records.close()
    typer.echo()
    for uid in studies or [""]:
        typer.echo(f"look: {viewer}/viewer?StudyInstanceUIDs={uid}" if uid else f"look: {viewer}/")
    typer.echo(f"log in once, within an hour: name {DEMO_USER}, one-time code {code}")
    typer.echo(f"  another code: .venv/bin/radloop users code {DEMO_USER}")


def _made(folder: Path) -> dict[str, Any]:
    import secrets

    from dicom_services.dicom.ct_writer import write_ct_series
    from dicom_services.phantom_command import demo_phantom

    typer.echo("making a cardiac CT phantom: 50 slices of 3 mm with planted coronary calcium")
    made = demo_phantom()
    # A new study each time, so that every demo shows the whole way.
    write_ct_series(made.volume, folder, seed=f"demo-{secrets.token_hex(8)}")
    return made.truth()


def _compare(rows: tuple[Row, ...], truth: dict[str, Any]) -> None:
    from dicom_services.demo import agatston_of

    scores = agatston_of(rows)
    if not scores:
        return
    known = float(truth["agatston"])
    typer.echo(f"known answer of the phantom: Agatston {known:.1f}; the PACS says {scores[0]:.1f}")
