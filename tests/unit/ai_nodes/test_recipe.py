"""The recipe of CONTRIBUTING.md, followed to the letter in a copy of the sources: it works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from dicom_services.phantom_command import write_phantom
from tests.validators import dciodvfy_errors

ROOT = Path(__file__).resolve().parents[3]

PIPELINE = '''\
"""Mean attenuation of a CT: the smallest pipeline there can be."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.pipeline import Pipeline, Settings
from dicom_services.domain.card import ModelCard
from dicom_services.domain.findings import Code, Finding, Measurement
from dicom_services.domain.volume import Study
from dicom_services.errors import ConfigError, InputError

VERSION: Final = "1.0.0"
ATTENUATION: Final = Code("112031", "DCM", "Attenuation Coefficient")
MEAN: Final = "mean of all voxels"
HOUNSFIELD: Final = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
BODY: Final = Code("38266002", "SCT", "Entire body")


def run(
    study: Study, settings: Settings, region: NDArray[np.bool_] | None
) -> tuple[Finding, ...]:
    """One number."""
    if settings:
        raise ConfigError("attenuation_settings")
    if len(study.volumes) != 1:
        raise InputError("volumes", count=len(study.volumes))
    (ct,) = study.volumes
    if ct.acquisition.modality != "CT":
        raise InputError("not_ct")
    values = ct.values if region is None else ct.values[region]
    mean = round(float(values.mean(dtype=np.float64)), 3)
    return (Measurement(ATTENUATION, mean, HOUNSFIELD, derivation=MEAN, site=BODY),)


def headline(findings: Sequence[Finding]) -> str:
    """The number."""
    return " ".join(f"{one.value:.1f} HU" for one in findings if isinstance(one, Measurement))


PIPELINE: Final = Pipeline(
    name="attenuation",
    version=VERSION,
    title="Mean attenuation",
    procedure=Code("77477000", "SCT", "Computed tomography"),
    card=ModelCard(
        name="Mean attenuation",
        version=VERSION,
        sha256=sha256(f"attenuation {VERSION}".encode()).hexdigest(),
        family="rule",
        intended_use="Shows that the recipe works.",
        trained_on="Not trained.",
    ),
    run=run,
    headline=headline,
    warm=lambda: None,
)
'''
RULE = """
[[rule]]
name = "attenuation"
pipeline = "attenuation"
queue = "cpu"
[rule.when]
Modality = "CT"
"""
CASE = '''

def attenuation() -> Case:
    """16 of 4096 voxels at 256 HU, the others at 0: the mean is 1."""
    ct = volume([Box(at=(1, 10, 10), size=(1, 4, 4), hu=256.0)])
    return Case(Study("1.2", (ct,)), lambda findings: measured(findings, "112031") == [1.0])


CASES: Final'''
ROW = "| `attenuation` 1.0.0 | Shows that the recipe works | A number | Not trained |\n"


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources with one pipeline more: a file, a line, a rule, a case, a row."""
    tree = tmp_path_factory.mktemp("tree")
    unwanted = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    for package in ("ai_nodes", "dicom_services", "orthanc_plugins"):
        shutil.copytree(ROOT / package, tree / package, ignore=unwanted)
    # As the installed package of the settings is called.
    shutil.copytree(ROOT / "config", tree / "radloop_config", ignore=unwanted)
    (tree / "tests" / "unit" / "ai_nodes").mkdir(parents=True)
    for name in ("tests/unit/ai_nodes/test_registry.py", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tree / name)
    for path in (ROOT / "tests").glob("*.py"):
        shutil.copy(path, tree / "tests" / path.name)
    (tree / "ai_nodes" / "pipelines" / "attenuation.py").write_text(PIPELINE, "utf-8")
    edited(
        tree / "ai_nodes" / "registry.py",
        '    "calcium",\n',
        '    "calcium",\n    "attenuation",\n',
    )
    with (tree / "radloop_config" / "routing.toml").open("a") as rules:
        rules.write(RULE)
    cases = tree / "tests" / "pipeline_cases.py"
    edited(cases, "\n\nCASES: Final", CASE)
    edited(
        cases,
        '    "calcium": calcium,\n',
        '    "calcium": calcium,\n    "attenuation": attenuation,\n',
    )
    text = (tree / "README.md").read_text("utf-8")
    (tree / "README.md").write_text(
        re.sub(r"(?m)^\| `calcium` ", ROW + "| `calcium` ", text, count=1)
    )
    return tree


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    write_phantom(folder, slices=12)
    (folder / "truth.json").unlink()
    return folder


def run(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "RADLOOP_CONFIG": "", "RADLOOP_TEST_DATA": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_new_pipeline_is_listed_beside_the_others(tree: Path) -> None:
    done = run(tree, "-m", "dicom_services.cli", "pipelines", "--json")
    told = json.loads(done.stdout)
    assert told["attenuation"] == "1.0.0"
    assert "calcium" in told


def test_its_rule_takes_a_real_series(tree: Path, scan: Path) -> None:
    done = run(tree, "-m", "dicom_services.cli", "routes", "explain", str(scan), "--json")
    (series,) = json.loads(done.stdout)["series"]
    assert "attenuation" in series["chosen"]


def test_its_result_is_a_valid_dicom_report_with_the_number_in_it(
    tree: Path, scan: Path, tmp_path: Path
) -> None:
    words = ("analyze", str(scan), "--pipeline", "attenuation", "--out", str(tmp_path / "out"))
    done = run(tree, "-m", "dicom_services.cli", *words)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "findings.json").read_text())
    slices = [pydicom.dcmread(path) for path in sorted(scan.rglob("*.dcm"))]
    assert len(slices) == 12
    stored = [one.pixel_array * one.RescaleSlope + one.RescaleIntercept for one in slices]
    mean_hu = sum(float(one.mean()) for one in stored) / len(stored)
    (measurement,) = told["findings"]
    assert measurement["value"] == pytest.approx(mean_hu, abs=0.01)
    (report,) = (tmp_path / "out").glob("*.dcm")
    assert pydicom.dcmread(report).Modality == "SR"
    assert dciodvfy_errors(report.read_bytes(), tmp_path) == []


def test_the_walk_over_the_registry_finds_nothing_that_it_owes(tree: Path) -> None:
    done = run(
        tree, "-m", "pytest", "-q", "tests/unit/ai_nodes/test_registry.py",
        "-k", "attenuation or named or names",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 14  # type: ignore[index]


def test_the_walk_tells_what_is_lacking(tree: Path) -> None:
    """Without its rule it would never get a job, and nobody would notice."""
    rules = tree / "radloop_config" / "routing.toml"
    text = rules.read_text("utf-8")
    rules.write_text(text.replace(RULE, ""), "utf-8")
    try:
        done = run(
            tree, "-m", "pytest", "-q", "tests/unit/ai_nodes/test_registry.py",
            "-k", "attenuation and rule",
        )  # fmt: skip
    finally:
        rules.write_text(text, "utf-8")
    assert done.returncode == 1
    assert "test_a_rule_sends_series_to_it[attenuation]" in done.stdout
