"""`radloop models`: which there are, what is known of one, getting them, checking them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicom_services.cli_options import DataOption, JsonOption, folder_of, show_json
from dicom_services.errors import ConfigError, CorruptError, MissingError, RadloopError
from dicom_services.tables import progress_bar, show_table, size

if TYPE_CHECKING:
    from ai_nodes.manifest import Model, Source
    from ai_nodes.model_store import ModelStore

models = typer.Typer(
    help="Models: list, show, fetch, verify.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `radloop models list`.")]


@models.command("list")
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the models of the manifest and whether their weights are here."""
    store = _store(data)
    used = _used_by()
    known = list(store.manifest.models.values())
    if as_json:
        show_json({"version": 1, "models": [_document(store, one, used) for one in known]})
        return
    columns = ("model", "version", "task", "runtime", "licence", "size", "weights", "used by")
    show_table(
        columns,
        [
            (
                one.name,
                one.version,
                one.task,
                one.runtime,
                one.licence,
                size(one.bytes) if one.published else "-",
                store.state(one),
                ", ".join(used.get(one.name, ())) or "-",
            )
            for one in known
        ],
    )


@models.command("show")
def show(name: NameArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show a model's card and check its weights, where they are here."""
    store = _store(data)
    model = store.manifest.named(name)
    told = _document(store, model, _used_by()) | {"verified": _verified(store, model)}
    if as_json:
        show_json(told)
        return
    rows: list[tuple[str, object]] = [
        ("model", f"{model.title} ({model.name} {model.version})"),
        ("task, runtime", f"{model.task}, {model.runtime}"),
        ("intended use", model.intended_use),
        ("trained on", model.trained_on),
        ("licence", model.licence),
        ("memory", f"{model.memory_mb} MB"),
    ]
    rows += [(f"  {what}", value) for what, value in model.metrics.items()]
    rows += [("measured on", model.metrics_on)] if model.metrics_on else []
    rows += [("reference", one) for one in model.reference]
    rows += [(f"input {one.name}", f"{_shape(one.shape)} {one.meaning}") for one in model.input]
    for one in model.output:
        codes = ", ".join(f"{code.meaning} ({code.scheme} {code.value})" for code in one.code)
        rows.append((f"output {one.name}", f"{_shape(one.shape)} {one.meaning} {codes}".rstrip()))
    for file in model.file:
        rows.append((f"file {file.path}", f"{size(file.bytes)}, SHA-256 {file.sha256}"))
        rows += [("  from", _whence(source)) for source in file.source]
    rows += [("used by", ", ".join(told["used_by"]) or "no pipeline of this machine")]
    rows += [("weights", told["verified"])]
    rows += [("folder", store.folder(model))] if told["state"] == "fetched" else []
    show_table(("what", "value"), rows)


@models.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One model.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every published model.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Get the weights of a model and check them; what is here and right is left alone.

    Exit codes: 0 done, 2 usage, 3 refused, 4 unavailable, 5 another SHA-256, 7 not there.
    """
    if bool(name) == everything:
        raise ConfigError("model_or_all")
    store = _store(data)
    published = [one for one in store.manifest.models.values() if one.published]
    chosen = published if everything else [store.manifest.named(name)]
    told: list[dict[str, Any]] = []
    failed: RadloopError | None = None
    for model in chosen:
        try:
            with progress_bar(model.name) as advance:
                new = store.fetch(model, lambda _, done, total: advance(done, total))
        except RadloopError as error:
            if not everything:
                raise
            # The others are wanted all the same; the last code is the exit code.
            typer.echo(str(error), err=True)
            failed = error
            continue
        told.append({"model": model.name, "version": model.version, "fetched": new})
        if not as_json:
            what = "fetched and verified" if new else "was here and is right"
            typer.echo(f"{model.name} {model.version} {what}: {store.folder(model)}")
    if as_json:
        show_json({"version": 1, "models": told})
    if failed is not None:
        raise failed


@models.command("verify")
def verify(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One; else all fetched.")] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the weights that are here and compare their SHA-256 with the manifest.

    Exit codes: 0 all right, 5 one is not, 7 the one named is not here.
    """
    store = _store(data)
    chosen: Sequence[Model]
    if name:
        chosen = [store.manifest.named(name)]
        if store.state(chosen[0]) != "fetched":
            raise MissingError("weights_missing", model=name)
    else:
        chosen = [one for one in store.manifest.models.values() if store.state(one) == "fetched"]
    told = [(one, _verified(store, one)) for one in chosen]
    if as_json:
        rows = [{"model": one.name, "version": one.version, "weights": how} for one, how in told]
        show_json({"version": 1, "models": rows})
    else:
        show_table(
            ("model", "version", "weights"), [(one.name, one.version, how) for one, how in told]
        )
    wrong = [one.name for one, how in told if how == "altered"]
    if wrong:
        raise CorruptError("weights_hash", model=wrong[0], models=len(wrong))


def _store(data: Any) -> ModelStore:
    from ai_nodes.models import open_models

    return open_models(folder_of(data).home).store


def _used_by() -> dict[str, list[str]]:
    """Model to the pipelines of this machine that load it."""
    from ai_nodes.registry import PIPELINES

    found: dict[str, list[str]] = {}
    for pipeline in PIPELINES.values():
        for name in pipeline.models:
            found.setdefault(name, []).append(pipeline.name)
    return found


def _verified(store: ModelStore, model: Model) -> str:
    state = store.state(model)
    if state != "fetched":
        return state
    try:
        store.verify(model)
    except CorruptError:
        return "altered"
    return "verified"


def _document(store: ModelStore, model: Model, used: dict[str, list[str]]) -> dict[str, Any]:
    return model.model_dump(mode="json") | {
        "state": store.state(model),
        "size_bytes": model.bytes,
        "used_by": used.get(model.name, []),
    }


def _whence(source: Source) -> str:
    told = source.model_dump()
    kind = told.pop("kind")
    return f"{kind} " + " ".join(str(value) for value in told.values())


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(side) if side else "n" for side in shape)
