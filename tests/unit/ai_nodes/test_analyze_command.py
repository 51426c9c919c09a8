"""`radloop analyze` as a process: what it writes, and that its exit code means what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_services.dicom.dynamic_writer import Described, write_dynamic_series
from dicom_services.perfusion_phantom import PerfusionScan, perfusion_phantom
from tests.dicom_files import SERIES, ct_files

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "tests" / "wire" / "findings.schema.json").read_text())
PLANTED = "PLANTED"
DONE, USAGE, REFUSED, UNAVAILABLE = 0, 2, 3, 4


def with_patient(k: int, ds: Dataset) -> None:
    ds.PatientName, ds.PatientID = f"{PLANTED}^NAME", f"{PLANTED}-ID"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Ten slices of soft tissue with a block of 300 HU."""
    stored = np.full((10, 32, 32), 1064, np.int16)
    stored[4:6, 10:14, 10:14] = 1324
    folder = tmp_path / "study"
    folder.mkdir()
    for k, file in enumerate(ct_files(stored, change=with_patient)):
        (folder / f"{k:02d}.dcm").write_bytes(file)
    return folder


def analyze(*words: str | Path, code: int, **environment: str) -> str:
    """Run the command, which must end with `code`; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "dicom_services.cli", "analyze", *map(str, words)],
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout
    assert PLANTED not in done.stdout
    return done.stdout


def findings(out: Path) -> dict[str, Any]:
    """findings.json, which must follow its schema."""
    document = dict(json.loads((out / "findings.json").read_text("utf-8")))
    jsonschema.validate(document, SCHEMA)
    return document


def test_done_writes_findings_and_the_objects_they_name(study, tmp_path):
    out = tmp_path / "out"
    told = analyze(study, "--everything-above-130", "--out", out, code=DONE)
    assert "done" in told
    document = findings(out)
    assert document["state"] == "done"
    assert document["source_instances"] == 10
    # Two slices of 4 x 4 pixels of 0.5 x 0.75 mm, at 300 HU weighing 3.
    totals = [one["value"] for one in document["findings"] if one["kind"] == "measurement"]
    assert any(value == pytest.approx(2 * 16 * 0.5 * 0.75 * 3) for value in totals), totals
    named = {one["file"]: one["sop_instance_uid"] for one in document["results"]}
    assert {path.name for path in out.iterdir()} == {"findings.json", *named}
    assert {name: str(pydicom.dcmread(out / name).SOPInstanceUID) for name in named} == named


def test_results_are_their_owners_alone(study, tmp_path):
    analyze(study, "--everything-above-130", "--out", tmp_path / "out", code=DONE)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "out").iterdir())


def test_findings_hold_no_patient(study, tmp_path):
    analyze(study, "--everything-above-130", "--out", tmp_path / "out", code=DONE)
    assert PLANTED not in (tmp_path / "out" / "findings.json").read_text("utf-8")


def test_refused_writes_findings_and_a_report_that_say_why(study, tmp_path):
    (study / "04.dcm").unlink()
    out = tmp_path / "out"
    told = analyze(study, "--out", out, code=REFUSED)
    assert "refused: slice_gap" in told
    document = findings(out)
    assert (document["state"], document["code"]) == ("refused", "slice_gap")
    assert document["findings"] == []
    (report,) = document["results"]
    assert str(pydicom.dcmread(out / report["file"]).SOPInstanceUID) == report["sop_instance_uid"]


def test_study_that_cannot_be_named_is_refused_in_findings_alone(study, tmp_path):
    for path in study.iterdir():
        data = pydicom.dcmread(path)
        data.StudyInstanceUID = ""
        data.save_as(path)
    out = tmp_path / "out"
    analyze(study, "--everything-above-130", "--out", out, code=REFUSED)
    document = findings(out)
    assert (document["code"], document["results"]) == ("illegal_uid", [])


def test_study_that_no_rule_wants_is_refused(study, tmp_path):
    for path in sorted(study.iterdir())[3:]:
        path.unlink()
    assert "no_rule series=1" in analyze(study, "--out", tmp_path / "out", code=REFUSED)


def test_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text(PLANTED)
    assert "no_dicom files=1" in analyze(tmp_path, code=REFUSED)


def test_what_the_gate_refuses_is_left_out_and_counted_with_the_result(study, tmp_path):
    whole = (study / "00.dcm").read_bytes()
    (study / "cut.dcm").write_bytes(whole[:-2])
    (study / "program.dcm").write_bytes(b"MZ" + whole[2:])
    out = tmp_path / "out"
    told = analyze(study, "--everything-above-130", "--out", out, code=DONE)
    refused = "2 files refused by the gate: length (1), preamble (1)"
    assert f"{refused}; the result is without them" in " ".join(told.split())
    found = findings(out)
    assert found["refused_files"] == {"length": 1, "preamble": 1}
    assert found["source_instances"] == 10
    assert "files_refused" in {one["value"]["value"] for one in found["warnings"]}
    report = pydicom.dcmread(next(out.glob("*-sr.dcm")))
    assert "Unsafe or broken files of the input were left out" in str(report.to_json())


def test_input_of_which_the_gate_leaves_nothing_is_refused_with_its_reason(study, tmp_path):
    for place in study.iterdir():
        place.write_bytes(place.read_bytes()[:-2])
    told = analyze(study, "--out", tmp_path / "out", code=REFUSED)
    assert "gate_refused files=10 reason=length\n  radloop gate PATH names each file" in told


def test_region_passes_the_gate_before_anything_reads_it(study, tmp_path):
    (tmp_path / "seg.dcm").write_bytes((study / "00.dcm").read_bytes()[:-2])
    told = analyze(study, "--region", tmp_path / "seg.dcm", "--out", tmp_path, code=REFUSED)
    assert "gate_refused files=1 reason=length" in told


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--pipeline", "unheard-of"], "pipeline_unknown"),
        (["--region", "x.nii", "--everything-above-130"], "region_and_everything"),
        (["--series", SERIES + ".77"], "series_not_in_input"),
        (["--unheard-of"], "No such option"),
    ],
)
def test_wrong_option_is_usage_and_writes_nothing(study, tmp_path, words, code):
    out = tmp_path / "out"
    assert code in analyze(study, *words, "--out", out, code=USAGE)
    assert not out.exists()


def test_input_that_is_missing_or_absent_is_usage(tmp_path):
    assert "input_missing" in analyze(tmp_path / "absent", code=USAGE)
    assert "INPUT" in analyze(code=USAGE)


@pytest.mark.parametrize("module", ["scipy", "numba"])
def test_machine_without_what_nodes_need_is_unavailable_and_says_how_to_get_it(
    study, tmp_path, module
):
    hidden = tmp_path / "hidden" / module
    hidden.mkdir(parents=True)
    # As if it were not installed.
    (hidden / "__init__.py").write_text(
        f"raise ModuleNotFoundError('No module named {module}', name={module!r})\n"
    )
    out = tmp_path / "out"
    told = analyze(study, "--out", out, code=UNAVAILABLE, PYTHONPATH=str(hidden.parent))
    assert f"nodes_missing module={module}" in told
    assert "install" in told
    assert not out.exists()


def test_machine_without_what_nodes_need_still_has_its_other_commands(tmp_path):
    (tmp_path / "scipy.py").write_text("raise ModuleNotFoundError(name='scipy')\n")
    done = subprocess.run(
        [sys.executable, "-m", "dicom_services.cli", "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == DONE
    assert "analyze" in done.stdout


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DSC scan of a small head with a stroke, each time a series of its own."""
    folder = tmp_path_factory.mktemp("head")
    scan = PerfusionScan("DSC", 24, 2.5, (3, 48, 48), 4.4, 12.0)
    told = Described("head", f"{PLANTED}^NAME", f"{PLANTED}-ID", series="per_time")
    write_dynamic_series(perfusion_phantom(scan).volume, folder, told)
    return folder


def test_perfusion_joins_series_and_writes_maps(head, tmp_path):
    out = tmp_path / "out"
    told = analyze(head, "--pipeline", "perfusion", "--set", "tmax_s=5", "--out", out, code=DONE)
    assert "Tmax > 5 s" in told
    assert "AIF voxels (k,j,i)" in told
    document = findings(out)
    assert document["source_instances"] == 24 * 3
    assert document["settings"] == {"tmax_s": 5}
    names = {f"perfusion-map-{name}.dcm" for name in ("cbf", "cbv", "mtt", "ttp", "tmax")}
    assert {path.name for path in out.iterdir()} == {
        "findings.json",
        "perfusion-seg.dcm",
        "perfusion-sr.dcm",
        *names,
    }


def test_an_artery_by_hand_stands_in_the_findings(head, tmp_path):
    voxels = ("--aif", "0,14,23", "--aif", "0,14,24")
    out = tmp_path / "out"
    analyze(head, "--pipeline", "perfusion", *voxels, "--out", out, code=DONE)
    curve = next(one for one in findings(out)["curves"] if one["label"] == "AIF")
    assert curve["places"] == [[0, 14, 23], [0, 14, 24]]


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "no_such=1"),
        ("--set", "tmax_s"),
        ("--set", "method=FFT"),
        ("--aif", "1,2"),
    ],
)
def test_settings_that_make_no_sense_are_usage(head, tmp_path, words):
    told = analyze(head, "--pipeline", "perfusion", *words, "--out", tmp_path / "o", code=USAGE)
    assert "pipeline_settings" in told


def test_a_scan_of_three_times_is_refused(head, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in head.glob("t-00[1-3]-*.dcm"):
        (few / path.name).write_bytes(path.read_bytes())
    told = analyze(few, "--pipeline", "perfusion", "--out", tmp_path / "out", code=REFUSED)
    assert "too_few_times" in told
    assert findings(tmp_path / "out")["state"] == "refused"
