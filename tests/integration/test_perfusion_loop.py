"""Perfusion through the real stack: sent, routed, analysed, stored as maps, SEG and SR, shown."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from ai_nodes.pipelines.perfusion import analyse_perfusion
from dicom_services.dicom.dynamic_writer import Described, write_dynamic_series
from dicom_services.domain.findings import ParametricMap
from dicom_services.perfusion_phantom import PerfusionPhantom, PerfusionScan, perfusion_phantom
from tests.conftest import DATA
from tests.integration.conftest import Stack
from tests.pacs import ended, jobs, numbers
from tests.reference_object import PLACE, ReferenceObject, write_reference_object
from tests.validators import dciodvfy_errors

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "tests" / "wire" / "findings.schema.json").read_text())
PASSWORD = "Correct-Horse-Battery-9"
MAPS = ("CBF", "CBV", "MTT", "TTP", "TMAX")


@dataclass(frozen=True)
class Sent:
    """A study in the stack, and what it was made from."""

    uid: str
    phantom: PerfusionPhantom


@pytest.fixture(scope="module")
def sent(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sent]:
    """One study of each kind; the stack works on one while the other still comes."""
    found = {}
    for kind in ("DSC", "CTP"):
        folder = tmp_path_factory.mktemp(kind)
        made = perfusion_phantom(PerfusionScan("DSC" if kind == "DSC" else "CTP"))
        paths = write_dynamic_series(made.volume, folder, Described(f"loop-{kind}"))
        found[kind] = Sent(_study(paths[0]), made)
        stack.send(folder)
    return found


def _study(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def done(stack: Stack, uid: str) -> dict[str, Any]:
    """The job that stands, which must have brought results; a slow sender may have had earlier."""
    view = ended(stack.orthanc, uid, 180.0)
    assert view["state"] == "done", view
    (job,) = (each for each in jobs(view) if each["state"] != "superseded")
    return job


def stored(stack: Stack, job: dict[str, Any]) -> dict[str, Dataset]:
    """The results of a job as the archive holds them: maps by their label, others by modality."""
    found = {}
    for result in job["results"]:
        (instance,) = stack.orthanc.instances_of(result["series"])
        one = pydicom.dcmread(
            io.BytesIO(stack.orthanc.get_bytes(f"/instances/{instance}/file")), force=False
        )
        name = str(one.ContentLabel).upper() if one.get("FloatPixelData") else str(one.Modality)
        found[name] = one
    return found


def values(one: Dataset) -> NDArray[np.float32]:
    """Frames of a Parametric Map in the order of rising z; NaN where it is not defined."""
    frames = np.frombuffer(one.FloatPixelData, "<f4").reshape(-1, one.Rows, one.Columns)
    heights = [
        float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        for group in one.PerFrameFunctionalGroupsSequence
    ]
    padding = one.get("FloatPixelPaddingValue")
    ordered = frames[np.argsort(heights)].copy()
    if padding is not None:
        ordered[ordered == np.float32(padding)] = np.nan
    return ordered


@pytest.mark.parametrize(("kind", "rule"), [("DSC", "perfusion-dsc"), ("CTP", "perfusion-ctp")])
def test_a_phantom_comes_back_with_maps_masks_and_volumes(
    stack: Stack, sent: dict[str, Sent], kind: str, rule: str
) -> None:
    job = done(stack, sent[kind].uid)
    assert (job["rule"], job["pipeline"]) == (rule, "perfusion")
    found = stored(stack, job)
    assert set(found) == {*MAPS, "SEG", "SR"}
    assert {str(one.StudyInstanceUID) for one in found.values()} == {sent[kind].uid}
    truth = sent[kind].phantom.truth()
    volumes = numbers(found["SR"], "118565006")
    assert any(v == pytest.approx(truth["hypoperfused_ml"], rel=0.03) for v in volumes), volumes
    assert any(v == pytest.approx(truth["core_ml"], rel=0.2) for v in volumes), volumes
    assert job["summary"].startswith("Tmax > 6 s 7")


def test_the_archive_holds_the_very_values_of_the_pipeline(
    stack: Stack, sent: dict[str, Sent]
) -> None:
    found = stored(stack, done(stack, sent["DSC"].uid))
    for one in analyse_perfusion(sent["DSC"].phantom.volume, {}):
        if isinstance(one, ParametricMap):
            kept = values(found[one.label.upper()])
            assert kept == pytest.approx(one.values, rel=1e-6, nan_ok=True), one.label


def test_every_object_passes_the_validator(
    stack: Stack, sent: dict[str, Sent], tmp_path: Path
) -> None:
    for kind in sent:
        for name, one in stored(stack, done(stack, sent[kind].uid)).items():
            buffer = io.BytesIO()
            one.save_as(buffer)
            assert dciodvfy_errors(buffer.getvalue(), tmp_path) == [], name


def test_the_gateway_gives_maps_and_curves_to_the_viewer(
    stack: Stack, sent: dict[str, Sent], tmp_path: Path
) -> None:
    done(stack, sent["DSC"].uid)
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    options = ("--role", "radiologist", "--password-file", str(secret), "--all-patients")
    stack.radloop("users", "add", "rita", *options)
    base = f"http://localhost:{stack.state.gateway_port}"
    with httpx.Client(base_url=base, timeout=60.0, headers={"Origin": base}) as http:
        answer = http.post("/api/login", json={"name": "rita", "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        results = http.get(f"/api/studies/{sent['DSC'].uid}/results").json()
    images = next(one for one in results["series"] if one["modality"] == "MR")
    (job,) = (one for one in images["jobs"] if not one["superseded"])
    document = job["findings"]
    jsonschema.validate(document, SCHEMA, jsonschema.Draft202012Validator)
    assert [one["label"] for one in document["maps"]] == ["CBF", "CBV", "MTT", "TTP", "Tmax"]
    assert [one["label"] for one in document["curves"]] == ["AIF", "VOF", "Tissue"]
    assert len(document["curves"][0]["values"]) == sent["DSC"].phantom.scan.times


def test_a_scan_that_comes_as_a_series_for_each_time_is_one_job(
    stack: Stack, tmp_path: Path
) -> None:
    scan = PerfusionScan("DSC", 24, 2.5, (3, 48, 48), 4.4, 12.0)
    told = Described("apart", series="per_time")
    paths = write_dynamic_series(perfusion_phantom(scan).volume, tmp_path, told)
    stack.send(tmp_path)
    view = ended(stack.orthanc, _study(paths[0]), 180.0)
    made = [job for series in view["series"] for job in series["jobs"]]
    assert {(job["rule"], job["state"]) for job in made} == {("perfusion-dsc-apart", "done")}, view
    assert len({job["job"] for job in made}) == 1
    assert sorted(result["modality"] for result in made[0]["results"]) == [*["OT"] * 5, "SEG", "SR"]


def test_the_command_line_says_the_same_without_a_server(
    stack: Stack, sent: dict[str, Sent], tmp_path: Path
) -> None:
    phantom = sent["DSC"].phantom
    write_dynamic_series(phantom.volume, tmp_path / "in", Described("by-hand", series="per_time"))
    place = ",".join(map(str, phantom.truth()["aif_voxels"][0]))  # type: ignore[index]
    words = ("analyze", str(tmp_path / "in"), "--pipeline", "perfusion", "--aif", place)
    told = stack.radloop(*words, "--set", "tmax_s=7", "--out", str(tmp_path / "out"))
    assert "Tmax > 7 s" in told
    document = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert document["settings"] == {"aif": place, "tmax_s": 7}
    assert document["curves"][0]["places"] == [phantom.truth()["aif_voxels"][0]]  # type: ignore[index]


@pytest.fixture(scope="module")
def reference(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ReferenceObject]:
    folder = tmp_path_factory.mktemp("dro")
    made = write_reference_object(folder, DATA / PLACE)
    stack.send(folder)
    return _study(next(iter(sorted(folder.glob("*.dcm"))))), made


def agreement(found: NDArray[np.float32], truth: NDArray[np.float32]) -> tuple[float, float]:
    """Correlation and mean ratio."""
    return float(np.corrcoef(found, truth)[0, 1]), float((found / truth).mean())


def test_the_reference_object_comes_back_as_far_as_the_method_allows(
    stack: Stack, shared_data: Path, request: pytest.FixtureRequest
) -> None:
    """The object has no noise; oSVD at its published oscillation index flattens its residue.

    Measured: CBV r 0.97 by the shipped smoothing of 1.5 mm, which blurs its independent voxels
    (1.000 without), no bias; CBF r 0.98 at 0.71 of the truth; MTT, by CBV / CBF, at 1.42 of it.
    """
    uid, truth = request.getfixturevalue("reference")
    found = stored(stack, done(stack, uid))
    volume, flow, transit = (values(found[name]) for name in ("CBV", "CBF", "MTT"))
    known = truth.mask & np.isfinite(flow)
    assert known.sum() > 0.99 * truth.mask.sum()
    correlation, ratio = agreement(volume[known], truth.cbv[known])
    assert correlation > 0.96
    assert ratio == pytest.approx(1.0, abs=0.02)
    correlation, ratio = agreement(flow[known], truth.cbf[known])
    assert correlation > 0.97
    assert 0.65 < ratio < 0.8
    correlation, ratio = agreement(transit[known], truth.mtt[known])
    assert correlation > 0.8
    assert 1.3 < ratio < 1.5
