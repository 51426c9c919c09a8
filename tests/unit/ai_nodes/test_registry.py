"""What every pipeline owes, whichever it is."""

from __future__ import annotations

import ast
import builtins
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_nodes.manifest import read_manifest
from ai_nodes.pipeline import Pipeline
from ai_nodes.registry import PIPELINES
from dicom_services.dicom import codes
from dicom_services.domain.findings import Finding
from dicom_services.domain.volume import Study
from dicom_services.errors import ConfigError, InputError
from dicom_services.routes import check_rules
from dicom_services.settings import config_folder
from tests.phantoms import volume
from tests.pipeline_cases import CASES, Case

ROOT = Path(__file__).resolve().parents[3]
EVERY = pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=lambda each: str(each.name))
MANIFEST = read_manifest(config_folder() / "models.toml")


@cache
def case_of(name: str) -> Case:
    """Made once for all tests."""
    return CASES[name]()


@cache
def findings_of(name: str) -> tuple[Finding, ...]:
    """Of its case, once for all tests; whatever is to be compiled or loaded is afterwards."""
    case = case_of(name)
    return PIPELINES[name].run(case.study, case.settings, case.region)


def source_of(pipeline: Pipeline) -> ast.Module:
    return ast.parse((ROOT / "ai_nodes" / "pipelines" / f"{pipeline.name}.py").read_text("utf-8"))


# Its name and its card.


@EVERY
def test_it_is_registered_under_its_own_name(pipeline: Pipeline) -> None:
    assert PIPELINES[pipeline.name] is pipeline
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,62}", pipeline.name)
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", pipeline.version)
    assert 0 < len(pipeline.title) <= 40


@EVERY
def test_its_card_tells_what_it_is_and_where_it_comes_from(pipeline: Pipeline) -> None:
    card = pipeline.card
    assert card.version == pipeline.version
    assert card.name
    assert card.family in ("rule", "model")
    assert re.fullmatch(r"[0-9a-f]{64}", card.sha256)
    assert card.intended_use.endswith(".")
    assert card.trained_on.endswith(".")


@EVERY
def test_its_procedure_is_coded(pipeline: Pipeline) -> None:
    assert pipeline.procedure.scheme in ("SCT", "LN", "RADLEX", "DCM")
    assert pipeline.procedure.meaning


# Where else it is named.


@EVERY
def test_a_rule_sends_series_to_it(pipeline: Pipeline) -> None:
    rules = check_rules(config_folder() / "routing.toml").values()
    assert [rule for rule in rules if rule["pipeline"] == pipeline.name]


@EVERY
def test_the_readme_tells_what_it_is_for(pipeline: Pipeline) -> None:
    assert f"\n| `{pipeline.name}` {pipeline.version} |" in (ROOT / "README.md").read_text("utf-8")


def test_rules_and_cases_name_no_pipeline_that_is_not_there() -> None:
    named = {rule["pipeline"] for rule in check_rules(config_folder() / "routing.toml").values()}
    assert named | CASES.keys() <= PIPELINES.keys()


@EVERY
def test_the_models_it_loads_are_declared_and_can_be_had(pipeline: Pipeline) -> None:
    loaded = {
        call.args[0].value
        for call in ast.walk(source_of(pipeline))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in ("models.load", "models.folder")
        and isinstance(call.args[0], ast.Constant)
    }
    assert loaded <= set(pipeline.models)
    assert [name for name in pipeline.models if not MANIFEST.named(name).published] == []


# What it refuses.


@EVERY
def test_a_study_without_volumes_is_refused_with_a_code(pipeline: Pipeline) -> None:
    with pytest.raises(InputError) as error:
        pipeline.run(Study("1.2", ()), {}, None)
    assert (error.value.code, error.value.facts) == ("volumes", {"count": 0})
    assert error.value.code in codes.REASONS


@EVERY
def test_unknown_settings_are_refused(pipeline: Pipeline) -> None:
    case = case_of(pipeline.name)
    with pytest.raises(ConfigError):
        pipeline.run(case.study, {**case.settings, "no_such_setting": 1}, case.region)


@EVERY
def test_what_it_cannot_use_is_refused_with_a_code_that_readers_are_told(
    pipeline: Pipeline,
) -> None:
    ct = volume([])
    nothing = Study("1.2", (ct, ct))
    for study in (nothing, Study("1.2", ())):
        with pytest.raises(InputError) as error:
            pipeline.run(study, {}, None)
        assert error.value.code in codes.REASONS


# What it says.


@EVERY
def test_it_finds_what_its_case_holds(pipeline: Pipeline) -> None:
    assert case_of(pipeline.name).holds(findings_of(pipeline.name))


@EVERY
def test_its_headline_is_one_line(pipeline: Pipeline) -> None:
    line = pipeline.headline(findings_of(pipeline.name))
    assert line
    assert line.isprintable()


@EVERY
def test_it_says_the_same_twice_and_leaves_its_input_alone(pipeline: Pipeline) -> None:
    case = case_of(pipeline.name)
    before = [each.values.copy() for each in case.study.volumes]
    again = pipeline.run(case.study, case.settings, case.region)
    assert _plain(again) == _plain(findings_of(pipeline.name))
    for each, values in zip(case.study.volumes, before, strict=True):
        assert np.array_equal(each.values, values)


def _plain(value: Any) -> Any:
    """Arrays as bytes, so that findings can be compared; NaN equals NaN."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if is_dataclass(value):
        return [(one.name, _plain(getattr(value, one.name))) for one in fields(value)]
    return repr(value)


# What it must not touch: the same study gives the same findings wherever and whenever it runs.


@EVERY
def test_it_opens_no_file_socket_process_or_clock(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_of(pipeline.name)
    findings_of(pipeline.name)
    for owner, name in (
        (time, "time"), (time, "time_ns"), (time, "localtime"), (time, "gmtime"),
        (random, "random"), (os, "urandom"), (os, "getenv"), (builtins, "input"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, _never(f"{owner.__name__}.{name}"))
    with _watched() as seen:
        pipeline.run(case.study, case.settings, case.region)
    assert seen == []


@EVERY
def test_its_file_imports_nothing_that_reaches_out(pipeline: Pipeline) -> None:
    names = {
        one.name if isinstance(node, ast.Import) else f"{node.module}.{one.name}"
        for node in ast.walk(source_of(pipeline))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for one in node.names
    }
    outside = (
        *("os", "io", "pathlib", "socket", "subprocess", "time", "datetime", "random", "secrets"),
        *("shutil", "tempfile", "urllib", "httpx", "redis", "pydicom", "highdicom", "torch"),
        *("dicom_services.dicom", "dicom_services.orthanc", "dicom_services.settings"),
    )
    assert [name for name in names for out in outside if f"{name}.".startswith(f"{out}.")] == []


def test_the_watch_sees_what_it_is_there_for(tmp_path: Path) -> None:
    with _watched() as seen:
        (tmp_path / "file").write_bytes(b"")
        subprocess.run(["true"], check=True, timeout=10)
        with socket.socket() as one, pytest.raises(OSError, match="refused"):
            one.connect(("127.0.0.1", 9))
    assert {name.partition(" ")[0] for name in seen} >= {
        "open", "subprocess.Popen", "socket.connect",
    }  # fmt: skip


def _never(name: str) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise AssertionError(f"{name} was called")

    return call


_SEEN: list[list[str]] = []
_OUT = ("open", "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.remove", "shutil.")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _SEEN and event.startswith(_OUT):
        _SEEN[-1].append(f"{event} {arguments[:1]}")


sys.addaudithook(_hook)


@contextmanager
def _watched() -> Iterator[list[str]]:
    """Names of what this process opened, connected to or started in the block."""
    _SEEN.append([])
    try:
        yield _SEEN[-1]
    finally:
        _SEEN.pop()
