"""Bolus curves keep what a tracer must: areas, delays, the shape of a short and a long transit."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_services.perfusion_curves import (
    DENSITY_G_ML,
    KAPPA,
    RESIDUES,
    Arterial,
    flow_per_s,
    residue,
    tissue_curves,
)

TIMES = np.arange(0.0, 400.0, 0.5)


def test_a_gamma_variate_peaks_at_alpha_times_beta_after_its_arrival():
    artery = Arterial(arrival_s=12.0, alpha=3.0, beta_s=1.5, peak=7.0)
    assert artery(12.0 + 4.5) == pytest.approx(7.0)
    assert artery([0.0, 11.9]).max() == 0.0
    # Integral of x^3 exp(-x / b) is 6 b^4; the peak has (3 b)^3 exp(-3).
    area = 7.0 * 6.0 * 1.5**4 / (4.5**3 * np.exp(-3.0))
    assert np.trapezoid(artery(TIMES), TIMES) == pytest.approx(area, rel=1e-4)


def test_recirculation_comes_later_and_wider():
    once, twice = Arterial(), Arterial(recirculation=0.2)
    more = twice(TIMES) - once(TIMES)
    assert more[TIMES <= 22.0].max() == 0.0
    assert more.max() == pytest.approx(0.2, rel=1e-3)
    assert TIMES[more.argmax()] == pytest.approx(22.0 + 13.5)


@pytest.mark.parametrize("kind", RESIDUES)
def test_every_residue_starts_at_one_and_has_the_transit_time_as_area(kind):
    lags = np.arange(-5.0, 200.0, 0.001)
    left = residue(kind, lags, 6.0)
    assert left[lags < -1e-6].max() == 0.0
    assert left.max() == pytest.approx(1.0, abs=1e-3)
    assert np.trapezoid(left, lags) == pytest.approx(6.0, abs=0.01)


@pytest.mark.parametrize("kind", RESIDUES)
def test_areas_of_tissue_and_artery_are_as_volume_says(kind):
    curve = tissue_curves(TIMES, Arterial(), 60.0, 4.0, kind=kind)[:, 0]
    ratio = curve.sum() / Arterial()(TIMES).sum()
    # 60 ml / 100 g / min for 4 s is 4 ml / 100 g.
    assert 100.0 * KAPPA / DENSITY_G_ML * ratio == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize("kind", RESIDUES)
def test_curves_are_what_a_plain_sum_over_a_fine_grid_gives(kind):
    fine = np.arange(0.0, 60.0, 0.005)
    left = residue(kind, fine, 5.0)
    left[0] = 0.5
    whole = np.convolve(Arterial()(fine), left)[: len(fine)] * 0.005 * flow_per_s(50.0)
    curve = tissue_curves(fine[::200], Arterial(), 50.0, 5.0, kind=kind)[:, 0]
    assert curve == pytest.approx(whole[::200], abs=1e-3 * whole.max())


def test_a_delay_moves_a_curve_and_nothing_else():
    early, late = tissue_curves(TIMES, Arterial(), 50.0, 5.0, [0.0, 3.0]).T
    assert late[6:] == pytest.approx(early[:-6], abs=1e-9)
    before = tissue_curves(TIMES, Arterial(), 50.0, 5.0, -2.0)[:, 0]
    assert before[:-4] == pytest.approx(early[4:], abs=1e-9)
