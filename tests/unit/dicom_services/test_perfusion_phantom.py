"""The perfusion phantom: what it plants is what its curves hold, and DICOM carries it unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_services.dicom.dynamic_writer import Described, write_dynamic_series
from dicom_services.dicom.read import read_dynamic
from dicom_services.head import ARTERY, CORE, GREY, PENUMBRA, WHITE, Lesion
from dicom_services.perfusion_curves import DENSITY_G_ML, KAPPA
from dicom_services.perfusion_phantom import PerfusionPhantom, PerfusionScan, perfusion_phantom
from tests.validators import dciodvfy_errors

QUIET = {kind: PerfusionScan(kind, noise=0.0) for kind in ("DSC", "CTP")}


@pytest.fixture(scope="module", params=["DSC", "CTP"])
def phantom(request: pytest.FixtureRequest) -> PerfusionPhantom:
    return perfusion_phantom(QUIET[request.param])


def test_every_tissue_obeys_the_central_volume_theorem(phantom: PerfusionPhantom) -> None:
    inside = phantom.head.brain
    held = phantom.cbf[inside] * phantom.mtt[inside] / 60.0
    assert held == pytest.approx(phantom.cbv[inside], rel=1e-5)
    assert np.isnan(phantom.cbf[~inside]).all()


def test_the_area_of_a_tissue_over_that_of_the_artery_is_its_blood_volume(
    phantom: PerfusionPhantom,
) -> None:
    grey = (phantom.head.tissue == GREY) & (phantom.head.state == 0)
    frames = phantom.volume.values[:, grey].mean(axis=1, dtype=np.float64)
    if phantom.scan.kind == "DSC":
        change = -np.log(frames / frames[0]) / (0.001 * phantom.scan.echo_time_ms)
    else:
        change = frames - frames[0]
    ratio = change.sum() / phantom.aif.sum()
    # Whole HU leave half a unit of rounding in every frame of a curve that peaks at 13.
    tolerance = 0.01 if phantom.scan.kind == "DSC" else 0.06
    assert 100.0 * ratio * KAPPA / DENSITY_G_ML == pytest.approx(4.0, rel=tolerance)


def test_volumes_on_paper_are_counts_of_voxels(phantom: PerfusionPhantom) -> None:
    truth, state = phantom.truth(), phantom.head.state
    voxel_ml = 2.2 * 2.2 * 6.0 / 1000.0
    assert truth["core_ml"] == pytest.approx((state == CORE).sum() * voxel_ml, abs=1e-3)
    assert truth["hypoperfused_ml"] == pytest.approx((state > 0).sum() * voxel_ml, abs=1e-3)
    assert truth["mismatch_ratio"] == pytest.approx((state > 0).sum() / (state == CORE).sum(), 1e-3)


def test_both_halves_of_the_head_are_alike_but_for_the_lesion(phantom: PerfusionPhantom) -> None:
    tissue = np.where(phantom.head.tissue == 7, ARTERY, phantom.head.tissue)
    assert (tissue == tissue[:, :, ::-1]).all()
    columns = np.flatnonzero((phantom.head.state > 0).any(axis=(0, 1)))
    assert columns.min() > phantom.scan.shape[2] // 2


def test_the_lesion_may_lie_on_the_right_or_nowhere() -> None:
    right = perfusion_phantom(QUIET["DSC"], lesion=Lesion(side=-1))
    none = perfusion_phantom(QUIET["DSC"], lesion=Lesion(side=0))
    columns = np.flatnonzero((right.head.state == PENUMBRA).any(axis=(0, 1)))
    assert columns.max() < right.scan.shape[2] // 2
    assert not none.head.state.any()
    assert none.truth()["mismatch_ratio"] is None


def test_a_seed_gives_the_same_images_and_another_seed_other_noise() -> None:
    scan = PerfusionScan(times=12, shape=(4, 48, 48), pixel_mm=4.4)
    first, again, other = (perfusion_phantom(scan, seed=seed) for seed in (1, 1, 2))
    assert (first.volume.values == again.volume.values).all()
    assert (first.volume.values != other.volume.values).any()
    assert (first.head.tissue == other.head.tissue).all()
    assert {GREY, WHITE} <= set(np.unique(first.head.tissue))


@pytest.mark.parametrize("series", ["one", "per_time"])
@pytest.mark.parametrize("kind", ["DSC", "CTP"])
def test_dicom_carries_every_value_time_and_place(kind: str, series: str, tmp_path: Path) -> None:
    made = perfusion_phantom(
        PerfusionScan("DSC" if kind == "DSC" else "CTP", 10, 1.75, (3, 32, 32), 6.6)
    )
    paths = write_dynamic_series(made.volume, tmp_path, Described("seed", series=series))
    read = read_dynamic([*reversed(paths)]).volume
    assert (read.values == made.volume.values).all()
    assert read.times_s == pytest.approx(made.volume.times_s)
    assert read.geometry.affine == pytest.approx(made.volume.geometry.affine)
    assert read.acquisition.echo_time_ms == made.volume.acquisition.echo_time_ms
    count = len({str(pydicom.dcmread(path).SeriesInstanceUID) for path in paths})
    assert count == (1 if series == "one" else 10)


@pytest.mark.parametrize("kind", ["DSC", "CTP"])
def test_the_images_pass_the_validator(kind: str, tmp_path: Path) -> None:
    scan = PerfusionScan("DSC" if kind == "DSC" else "CTP", 10, 1.5, (1, 16, 16), 12.0)
    path = write_dynamic_series(perfusion_phantom(scan).volume, tmp_path)[3]
    assert dciodvfy_errors(path.read_bytes(), tmp_path) == []
