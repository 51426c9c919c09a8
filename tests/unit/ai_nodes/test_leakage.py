"""Leaked contrast is found for what it is and taken out, of both signs."""

from __future__ import annotations

import numpy as np
import pytest

from ai_nodes.ops.concentration import Bolus
from ai_nodes.ops.leakage import correct_leakage, whole_vessels
from ai_nodes.ops.perfusion_maps import PerfusionSettings, perfusion_maps
from dicom_services.errors import InputError
from dicom_services.perfusion_curves import Arterial, tissue_curves

TIMES = np.arange(0.0, 90.0, 1.5)
BOLUS = Bolus(6, (0, 6))
ARTERY = Arterial(recirculation=0.1)
WHOLE, LEAKING = 200, 40


def phantom(k2: np.ndarray, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Curves that do not leak and, after them, the same tissue with K2 times the integral off."""
    draw = np.random.default_rng(2)
    flows = np.concatenate([draw.uniform(20.0, 60.0, WHOLE), np.full(len(k2), 40.0)])
    curves = tissue_curves(TIMES, ARTERY, flows, 5.0)
    mean = curves[:, :WHOLE].mean(axis=1)
    area = np.concatenate([[0.0], np.cumsum(0.75 * (mean[1:] + mean[:-1]))])
    leaked = curves.copy()
    leaked[:, WHOLE:] -= np.outer(area, k2)
    return curves, (leaked + noise * mean.max() * draw.normal(size=curves.shape)).astype(np.float32)


def test_known_leakage_is_found_and_taken_out_of_both_signs():
    k2 = np.linspace(-0.05, 0.05, LEAKING)
    true, leaked = phantom(k2)
    found = correct_leakage(leaked, TIMES, BOLUS, reference=np.arange(240) < WHOLE)
    assert found.k2[WHOLE:] == pytest.approx(k2, abs=2e-4)
    assert np.abs(found.k2[:WHOLE]).max() < 2e-4
    assert found.concentration == pytest.approx(true, abs=5e-3 * true.max())
    # All of these tissues have one transit time: their curves are shares of the mean.
    assert found.k1[:WHOLE].mean() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_tissue_that_does_not_leak_is_told_from_tissue_that_does(noise):
    k2 = np.concatenate([np.full(20, 0.04), np.full(20, -0.04)])
    _, leaked = phantom(k2, noise)
    whole = whole_vessels(leaked, BOLUS)
    assert whole[:WHOLE].mean() > 0.8
    assert whole[WHOLE:].mean() < 0.1
    found = correct_leakage(leaked, TIMES, BOLUS)
    assert found.reference_voxels == whole.sum()
    assert found.k2[WHOLE : WHOLE + 20].mean() == pytest.approx(0.04, rel=0.15)
    assert found.k2[WHOLE + 20 :].mean() == pytest.approx(-0.04, rel=0.15)


def test_volume_of_leaking_tissue_comes_right():
    k2 = np.concatenate([np.full(20, 0.04), np.full(20, -0.04)])
    true, leaked = phantom(k2, 0.01)
    aif = ARTERY(TIMES)
    plain = PerfusionSettings()
    truth = perfusion_maps(true.astype(np.float32), aif, TIMES, plain, bolus=BOLUS)
    wrong = perfusion_maps(leaked, aif, TIMES, plain, bolus=BOLUS)
    right = perfusion_maps(leaked, aif, TIMES, PerfusionSettings(leakage=True), bolus=BOLUS)
    t1, t2 = slice(WHOLE, WHOLE + 20), slice(WHOLE + 20, None)
    assert wrong.cbv[t1].mean() < 0.8 * truth.cbv[t1].mean()
    assert wrong.cbv[t2].mean() > 1.2 * truth.cbv[t2].mean()
    for part in (t1, t2):
        assert right.cbv[part].mean() == pytest.approx(truth.cbv[part].mean(), rel=0.06)
    assert right.k2 is not None and wrong.k2 is None
    assert right.facts["leakage_reference_voxels"] > 100


def test_undefined_voxels_stay_undefined_and_do_not_spoil_the_reference():
    _, leaked = phantom(np.full(4, 0.03))
    leaked[:, 3] = np.nan
    found = correct_leakage(leaked, TIMES, BOLUS)
    assert np.isnan(found.k2[3]) and np.isnan(found.concentration[:, 3]).all()
    assert np.isfinite(np.delete(found.k2, 3)).all()


def test_a_baseline_of_one_frame_has_no_deviation():
    _, leaked = phantom(np.full(4, 0.03))
    assert whole_vessels(leaked, Bolus(1, (0, 1)))[:WHOLE].mean() > 0.9


@pytest.mark.parametrize("curves", [np.zeros((60, 50)), np.full((60, 50), np.nan)])
def test_a_reference_needs_tissue(curves):
    with pytest.raises(InputError, match="leakage_reference"):
        correct_leakage(curves.astype(np.float32), TIMES, BOLUS)


def test_the_correction_needs_to_know_the_baseline():
    with pytest.raises(InputError, match="leakage_needs_bolus"):
        perfusion_maps(
            phantom(np.zeros(2))[1], ARTERY(TIMES), TIMES, PerfusionSettings(leakage=True)
        )
