"""Commands of a computing machine: analyze without a server, worker, pipelines."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ai_nodes.analysis import Outcome, analyse
from ai_nodes.ops.region_file import load_region
from ai_nodes.pipeline import Pipeline, Settings
from ai_nodes.registry import PIPELINES
from dicom_services.dicom.dynamic_series import join_dynamic
from dicom_services.dicom.intake import InputSeries, open_input
from dicom_services.dicom.write import to_bytes
from dicom_services.domain.findings import Code, Curve, Measurement, Observation
from dicom_services.errors import ConfigError, InputError
from dicom_services.refusals import refusal_of_path, sentence
from dicom_services.routes import check_rules, explain
from dicom_services.settings import read_settings

DONE, REFUSED = 0, 3
SHOWN_PLACES = 3
UNASSIGNED = "lesions not assigned to a vessel"


class SegmentationKind(StrEnum):
    """How masks are written."""

    BINARY = "binary"
    LABELMAP = "labelmap"


def analyze(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder, file or zip of DICOM.")],
    pipeline: Annotated[str, typer.Option(help="Name of the pipeline.")] = "calcium",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out"),
    series: Annotated[
        str, typer.Option(help="Series Instance UID, where INPUT holds several.")
    ] = "",
    region: Annotated[
        Path | None, typer.Option(help="SEG or NIfTI on the same grid: score inside it.")
    ] = None,
    everything_above_130: Annotated[
        bool, typer.Option("--everything-above-130", help="Score the whole volume, bones too.")
    ] = False,
    aif: Annotated[
        list[str] | None,
        typer.Option(metavar="K,J,I", help="Voxel of the artery, from 0; give it several times."),
    ] = None,
    segmentation: Annotated[
        SegmentationKind,
        typer.Option(help="Label map only where the receiver knows it and no masks overlap."),
    ] = SegmentationKind.BINARY,
    settings_of_rule: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the pipeline, as in rules."),
    ] = None,
) -> None:
    """Analyse DICOM without a server: writes .dcm results and findings.json, prints a table.

    Exit codes: 0 done, 2 usage, 3 refused, 4 unavailable.
    """
    console = Console()
    chosen = PIPELINES.get(pipeline)
    if chosen is None or (region is not None and everything_above_130):
        code = "pipeline_unknown" if chosen is None else "region_and_everything"
        raise ConfigError(code)
    if not source.exists() or (region is not None and not region.is_file()):
        raise ConfigError("input_missing")
    settings = _settings(settings_of_rule or [])
    if everything_above_130:
        settings["region"] = "everything"
    if aif:
        settings["aif"] = " ".join(aif)
    if region is not None:
        _require_sound(region)
    found = open_input(source, object_scale=read_settings().front.object_scale)
    if chosen.dynamic:
        found = join_dynamic(found)
    refused = found[0].refused if found else {}
    if refused:
        typer.echo(sentence(refused), err=True)
    picked = _pick(found, pipeline, series, by_hand=bool(settings or region or chosen.dynamic))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise ConfigError("out_unwritable") from None
    outcome = analyse(
        list(picked.files),
        chosen,
        settings,
        region=(lambda geometry: load_region(region, geometry)) if region else None,
        # Nobody looked which series they are of: every result says that they are lacking.
        notes=("files_refused",) if refused else (),
        segmentation="labelmap" if segmentation is SegmentationKind.LABELMAP else "binary",
        stage=lambda stage: console.print(f"[dim]{stage} ...[/dim]", highlight=False),
    )
    if refused:
        outcome.document["refused_files"] = dict(refused)
    _write(out, outcome)
    _print(console, chosen, outcome, out)
    if refused:
        console.print(f"{sentence(refused)}; the result is without them", highlight=False)
    raise typer.Exit(DONE if outcome.state == "done" else REFUSED)


def worker() -> None:
    """Take jobs from the queue until told to stop; started by `radloop up`."""
    from ai_nodes.worker import main

    main()


def pipelines(
    as_json: Annotated[bool, typer.Option("--json", help="Name and version as JSON.")] = False,
    warm: Annotated[
        bool, typer.Option("--warm", help="Compile what the first job would wait for; no list.")
    ] = False,
) -> None:
    """List the pipelines of this machine."""
    if warm:
        for one in PIPELINES.values():
            one.warm()
        return
    if as_json:
        print(json.dumps({name: one.version for name, one in PIPELINES.items()}))
        return
    table = Table("pipeline", "version", "intended use", "trained on")
    for name, one in PIPELINES.items():
        table.add_row(name, one.version, one.card.intended_use, one.card.trained_on)
    Console().print(table)


def _settings(words: list[str]) -> Settings:
    """NAME=VALUE as the TOML of a rule has it: whole numbers, decimals, true, false, else text."""
    settings: Settings = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise ConfigError("pipeline_settings")
        settings[name] = _value(value)
    return settings


def _value(word: str) -> float | int | str | bool:
    if word in ("true", "false"):
        return word == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _require_sound(region: Path) -> None:
    """A segmentation passes the gate like any image; what is no DICOM at all may be NIfTI."""
    refusal = refusal_of_path(region, identity=False)
    if refusal is not None and refusal.reason != "not_dicom":
        raise InputError("gate_refused", files=1, reason=refusal.reason)


def _pick(found: list[InputSeries], pipeline: str, wanted: str, *, by_hand: bool) -> InputSeries:
    """The series to analyse: the one named, the only one, or the one the routing rules choose."""
    if wanted:
        found = [one for one in found if one.series_uid == wanted]
        if not found:
            raise ConfigError("series_not_in_input")
        return found[0]
    if not found:
        raise InputError("no_dicom_series")
    if by_hand and len(found) == 1:
        return found[0]
    rules = read_settings().routing.file
    ours = {name for name, rule in check_rules(rules).items() if rule["pipeline"] == pipeline}
    asked = [
        {"id": str(at), "study": one.study_uid, "facts": one.facts} for at, one in enumerate(found)
    ]
    taken = [
        found[int(decision["id"])]
        for decision in explain(rules, asked)
        if ours.intersection(decision["chosen"])
    ]
    if not taken:
        raise InputError("no_rule", series=len(found))
    if len(found) > 1:
        typer.echo(
            f"series {taken[0].series_uid}, {len(taken[0].files)} images, is analysed", err=True
        )
    for other in taken[1:]:
        typer.echo(f"another study, not analysed: --series {other.series_uid}", err=True)
    return taken[0]


def _write(out: Path, outcome: Outcome) -> None:
    for one, entry in zip(outcome.objects, outcome.document["results"], strict=True):
        (out / entry["file"]).write_bytes(to_bytes(one))
    text = json.dumps(outcome.document, indent=2, ensure_ascii=False)
    (out / "findings.json").write_text(text + "\n", "utf-8")


def _print(console: Console, pipeline: Pipeline, outcome: Outcome, out: Path) -> None:
    title = f"{pipeline.title}: {outcome.state}"
    if outcome.state == "refused":
        facts = " ".join(f"{name}={value}" for name, value in outcome.facts.items())
        console.print(f"[bold]{title}[/bold]: {outcome.code} {facts}".rstrip(), highlight=False)
        console.print(str(outcome.document["meaning"]), highlight=False)
        for entry in outcome.document["results"]:
            console.print(f"{entry['file']} says so as a DICOM SR in {out}", highlight=False)
        return
    console.print(f"[bold]{title}[/bold]", highlight=False)
    table = Table("finding", "value", "unit", box=None, pad_edge=False)
    for finding in outcome.findings:
        if isinstance(finding, Measurement):
            if finding.derivation.endswith(UNASSIGNED):
                # While no lesion has a vessel, this is the total once more.
                continue
            name = finding.derivation or finding.what.meaning
            table.add_row(name, _number(finding.value), _unit(finding.unit))
        elif isinstance(finding, Observation):
            table.add_row(finding.what.meaning, finding.value.meaning, "")
        elif isinstance(finding, Curve) and finding.places:
            table.add_row(f"{finding.label} voxels (k,j,i)", _places(finding.places), "")
    console.print(table)
    files = ", ".join(entry["file"] for entry in outcome.document["results"])
    console.print(f"{files}, findings.json in {out}", highlight=False)
    console.print("Research use only, not a medical device.", highlight=False)


def _places(places: tuple[tuple[int, int, int], ...]) -> str:
    """The first few, as `--aif` takes them."""
    shown = " ".join(",".join(map(str, place)) for place in places[:SHOWN_PLACES])
    more = len(places) - SHOWN_PLACES
    return f"{shown} and {more} more" if more > 0 else shown


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def _unit(unit: Code) -> str:
    if unit.value == "[hnsf'U]":
        return "HU"
    return "" if unit.value == "1" or unit.value.startswith("{") else unit.value
