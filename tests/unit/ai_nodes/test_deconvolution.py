"""Deconvolution finds flow, delay and residue; against paper, phantoms and properties."""

from __future__ import annotations

import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_nodes.ops import oscillation, residue_peaks
from ai_nodes.ops.deconvolution import (
    CSVD_AT_SNR,
    METHODS,
    OSVD_RANGE,
    PEAK_PER_SNR,
    SSVD_THRESHOLD,
    Truncation,
    by_noise,
    deconvolve,
)
from ai_nodes.ops.inverses import circulant_inverse, standard_inverse, truncations
from ai_nodes.ops.residue_peaks import peaks, peaks_of_rows
from ai_nodes.ops.time_grid import even_times
from dicom_services.errors import InputError
from dicom_services.perfusion_curves import RESIDUES, Arterial, flow_per_s, tissue_curves

TIMES = np.arange(0.0, 60.0, 1.0)
ARTERY = Arterial()
AIF = ARTERY(TIMES)
CIRCULANT = ("cSVD", "oSVD")
PLAIN = types.ModuleType("plain")
"""numpy under another name: the way that curves on a card take."""
vars(PLAIN).update({name: getattr(np, name) for name in dir(np) if not name.startswith("__")})


def noisy(count: int, noise: float = 0.02, seed: int = 3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    curves = tissue_curves(
        TIMES,
        ARTERY,
        draw.uniform(8.0, 80.0, count),
        draw.choice([4.0, 6.0, 10.0], count),
        draw.uniform(0.0, 3.0, count),
    )
    curves += noise * curves.max() * draw.normal(size=curves.shape)
    return curves.astype(np.float32)


# --- the matrices ------------------------------------------------------------------------------


def test_a_circulant_inverse_without_truncation_undoes_a_circular_convolution():
    artery = np.array([1.0, 3.0, 2.0, 0.5, 0.2, 0.1])
    kernel = np.convolve(artery, [1.0, 4.0, 1.0])[:7] / 6.0
    # Of the 1-4-1 means the first reaches back by a sample: index -1 on the circle.
    column = np.zeros(12)
    column[:6], column[-1] = kernel[1:], kernel[0]
    column[6] = artery[-1] / 6.0
    matrix = np.stack([np.roll(column, shift) for shift in range(12)], 1) * 2.0
    inverse = circulant_inverse(artery, 2.0, 1e-9)
    assert inverse @ matrix[:6, :] == pytest.approx(
        np.linalg.inv(matrix)[:, :6] @ matrix[:6, :], abs=1e-9
    )


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.3])
def test_leaving_out_bins_is_truncating_singular_values(threshold):
    kernel = np.zeros(120)
    kernel[:60] = AIF
    kernel = (np.roll(kernel, 1) + 4.0 * kernel + np.roll(kernel, -1)) / 6.0
    matrix = np.stack([np.roll(kernel, shift) for shift in range(120)], 1)
    left, values, right = np.linalg.svd(matrix)
    kept = values >= threshold * values[0]
    truncated = (right[kept].T / values[kept]) @ left[:, kept].T
    assert circulant_inverse(AIF, 1.0, threshold) == pytest.approx(truncated[:, :60], abs=1e-8)


def test_a_standard_inverse_without_truncation_undoes_the_triangle():
    artery = np.array([2.0, 1.0, 0.5, 0.25, 0.1])
    column = np.array([(0.0 + 8.0 + 1.0), (2 + 4 + 0.5), (1 + 2 + 0.25), (0.5 + 1 + 0.1), 0.65]) / 6
    matrix = np.array([[column[i - j] if i >= j else 0.0 for j in range(5)] for i in range(5)])
    assert standard_inverse(artery, 0.5, 1e-9) @ (0.5 * matrix) == pytest.approx(np.eye(5))


def test_waves_of_a_truncation_add_up_to_its_inverse():
    basis, solve, keeps = truncations(AIF, 1.0, *OSVD_RANGE)
    assert keeps.tolist() == sorted(set(keeps.tolist()), reverse=True)
    assert basis[:, : keeps[0]] @ solve[: keeps[0]] == pytest.approx(
        circulant_inverse(AIF, 1.0, 0.05), abs=1e-9
    )
    assert basis[:, : keeps[-1]] @ solve[: keeps[-1]] == pytest.approx(
        circulant_inverse(AIF, 1.0, 0.95), abs=1e-9
    )


# --- flow and delay ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("kind", "least"), [("exponential", 0.55), ("linear", 0.63), ("box", 0.75)]
)
def test_flow_is_found_as_far_as_truncation_lets_it(method, kind, least):
    """Truncation rounds the first corner of a residue off: flow is too low, at most by half."""
    flows = np.array([10.0, 30.0, 60.0])
    curves = tissue_curves(TIMES, ARTERY, flows, 240.0 / flows, kind=kind)
    found = deconvolve(method, curves.astype(np.float32), AIF, TIMES)
    ratio = found.cbf / np.array([flow_per_s(flow) for flow in flows])
    assert ratio.min() > least
    assert ratio.max() < 1.3
    assert (np.diff(found.cbf) > 0.0).all()


@pytest.mark.parametrize("method", CIRCULANT)
@pytest.mark.parametrize("kind", RESIDUES)
def test_a_delay_changes_flow_by_less_than_a_twentieth(method, kind):
    """Each delay up to 3 s, also between samples; of boxes one is at the limit of oSVD."""
    delays = np.arange(0.0, 3.01, 0.25)
    times = np.arange(0.0, 90.0)
    for mtt_s in (3.4, 4.0, 4.8, 6.0, 8.0, 12.0, 24.0):
        curves = tissue_curves(times, ARTERY, 240.0 / mtt_s, mtt_s, delays, kind=kind)
        found = deconvolve(method, curves.astype(np.float32), ARTERY(times), times)
        worst = np.abs(found.cbf / found.cbf[0] - 1.0).max()
        assert worst < (0.08 if (method, kind, mtt_s) == ("oSVD", "box", 3.4) else 0.05)


@pytest.mark.parametrize("method", CIRCULANT)
@pytest.mark.parametrize("delay_s", [-3.0, -0.5, 0.5, 1.25, 3.0, 7.0])
def test_tmax_moves_by_the_delay(method, delay_s):
    curves = tissue_curves(TIMES, ARTERY, 50.0, 5.0, [0.0, delay_s]).astype(np.float32)
    early, late = deconvolve(method, curves, AIF, TIMES).tmax
    assert late - early == pytest.approx(delay_s, abs=0.15)


def test_ssvd_does_not_see_that_tissue_comes_before_the_artery():
    """The reason why the circulant methods exist (Wu 2003)."""
    curves = tissue_curves(TIMES, ARTERY, 50.0, 5.0, [0.0, -3.0]).astype(np.float32)
    fast, slow = deconvolve("sSVD", curves, AIF, TIMES).cbf
    assert slow > 1.15 * fast or slow < 0.85 * fast


@pytest.mark.parametrize("method", METHODS)
def test_residues_are_those_whose_peaks_are_told(method):
    curves = noisy(50)
    found = deconvolve(method, curves, AIF, TIMES, keep_residue=True)
    top = found.residue[: 24 if method == "Lucy-Richardson" else None].max(axis=0)
    # The top of a parabola through three samples is at most an eighth of their drop above them.
    assert (found.cbf >= top - 1e-7).all()
    assert found.cbf == pytest.approx(top, rel=0.05)
    assert len(found.residue) == {"sSVD": 60, "Lucy-Richardson": 41}.get(method, 120)


def test_the_residue_of_a_box_is_a_box():
    curve = tissue_curves(TIMES, ARTERY, 60.0, 10.0, kind="box").astype(np.float32)
    found = deconvolve("cSVD", curve, AIF, TIMES, Truncation(0.01), keep_residue=True)
    shape = found.residue[:, 0] / flow_per_s(60.0)
    assert shape[2:9] == pytest.approx(np.ones(7), abs=0.13)
    assert np.abs(shape[13:60]).max() < 0.13


# --- the oscillation index ---------------------------------------------------------------------


def index(residue: np.ndarray) -> float:
    rough = np.abs(residue[2:] - 2.0 * residue[1:-1] + residue[:-2]).sum()
    return float(rough / len(residue) / residue.max())


def test_osvd_takes_the_first_threshold_whose_index_is_low_enough():
    curves = noisy(200, 0.04)
    found = deconvolve("oSVD", curves, AIF, TIMES, keep_residue=True)
    basis, solve, keeps = truncations(AIF, 1.0, *OSVD_RANGE)
    chosen = []
    for n, curve in enumerate(curves.T.astype(np.float64)):
        residues = [basis[:, :k] @ (solve[:k] @ curve) for k in keeps]
        met = [index(residue) < 0.035 for residue in residues]
        expected = residues[met.index(True)]
        chosen.append(met.index(True))
        assert found.residue[:, n] == pytest.approx(expected, abs=2e-5 * expected.max() + 1e-7)
    assert len(set(chosen)) > 3


def test_voxels_that_meet_no_index_are_counted_and_keep_the_last_truncation():
    curves = noisy(20)
    found = deconvolve(
        "oSVD", curves, AIF, TIMES, Truncation(oscillation_index=1e-6), keep_residue=True
    )
    assert found.unmet == 20
    last = circulant_inverse(AIF, 1.0, 0.95) @ curves
    assert found.residue == pytest.approx(last, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_way_over_a_card_finds_the_same(method):
    curves = noisy(300)
    curves[:, 7] = np.nan
    here = deconvolve(method, curves, AIF, TIMES, keep_residue=True)
    there = deconvolve(method, curves, AIF, TIMES, keep_residue=True, xp=PLAIN)
    assert there.cbf == pytest.approx(here.cbf, rel=1e-4, nan_ok=True)
    assert there.tmax == pytest.approx(here.tmax, abs=2e-3, nan_ok=True)
    assert there.residue == pytest.approx(here.residue, abs=1e-6, nan_ok=True)
    assert there.unmet == here.unmet


def test_peaks_by_column_and_by_row_are_the_same():
    residues = np.random.default_rng(0).normal(size=(40, 500)).astype(np.float32)
    residues[:, 3] = 0.0
    by_column = peaks(residues, circulant=True)
    by_row = peaks_of_rows(np.ascontiguousarray(residues.T))
    plain = peaks(residues, circulant=True, xp=PLAIN)
    for one, other, third in zip(by_column, by_row, plain, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
        assert one == pytest.approx(third, abs=1e-5)


def test_the_top_of_a_parabola_is_its_top():
    lag = np.arange(16.0)[:, None]
    centres = np.array([5.0, 5.25, 7.75, 0.0])
    away = (lag - centres + 8.0) % 16.0 - 8.0
    height, row = peaks((3.0 - 0.5 * away**2).astype(np.float32), circulant=True)
    assert height == pytest.approx(np.full(4, 3.0), abs=1e-5)
    assert row == pytest.approx(centres, abs=1e-5)


# --- noise decides the truncation --------------------------------------------------------------


@pytest.mark.parametrize(("snr", "threshold"), [*CSVD_AT_SNR, (1e4, 0.03), (1.0, SSVD_THRESHOLD)])
def test_the_threshold_of_csvd_is_wus_at_his_noise(snr, threshold):
    """A step up at half time: neighbours' differences are noise but for one."""
    draw = np.random.default_rng(9)
    curves = np.zeros((4000, 60))
    curves[2000:] = 1.0
    noise = 1.0 / (PEAK_PER_SNR * snr)
    curves[:] += noise * draw.normal(size=curves.shape)
    curves[3000] = 1.0
    # The highest of 2000 samples is above the step; take the step for the peak.
    curves = np.minimum(curves, 1.0)
    assert by_noise(curves) == pytest.approx(threshold, rel=0.35)


def test_no_curve_at_all_is_taken_for_noisy():
    assert by_noise(np.zeros((60, 5))) == CSVD_AT_SNR[0][1]
    assert by_noise(np.full((60, 5), np.nan)) == CSVD_AT_SNR[0][1]


def test_a_threshold_by_hand_is_used_and_told():
    curves = noisy(5)
    assert deconvolve("cSVD", curves, AIF, TIMES, Truncation(0.17)).threshold == 0.17
    assert deconvolve("sSVD", curves, AIF, TIMES).threshold == SSVD_THRESHOLD
    assert deconvolve("oSVD", curves, AIF, TIMES).threshold is None


# --- properties --------------------------------------------------------------------------------

SOME = noisy(64, 0.03)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-3, 1e3))
def test_twice_the_tissue_is_twice_the_flow(method, scale):
    one = deconvolve(method, SOME, AIF, TIMES)
    other = deconvolve(method, np.float32(scale) * SOME, AIF, TIMES)
    assert other.cbf == pytest.approx(scale * one.cbf, rel=2e-3)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(shift=st.integers(1, 8))
def test_artery_and_tissue_moved_together_change_nothing(method, shift):
    times = np.arange(0.0, 80.0)
    curves = tissue_curves(times, ARTERY, [20.0, 50.0, 70.0], [8.0, 5.0, 4.0], [0.0, 1.0, 2.5])
    curves, artery = curves.astype(np.float32), ARTERY(times)
    one = deconvolve(method, curves[8:-8], artery[8:-8], times[8:-8])
    moved = slice(8 - shift, len(times) - 8 - shift)
    other = deconvolve(method, curves[moved], artery[moved], times[8:-8])
    # The triangle of sSVD loses a row with every frame before the bolus, and with it a share of
    # its singular values; Lucy-Richardson fits a frame more or less.
    share = {"sSVD": 0.06, "Lucy-Richardson": 0.04}.get(method, 0.01)
    assert other.cbf == pytest.approx(one.cbf, rel=share)
    assert other.tmax == pytest.approx(one.tmax, abs=1.0 if share > 0.01 else 0.1)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), chunk=st.integers(1, 100))
def test_neither_order_nor_chunk_of_voxels_changes_anything(method, seed, chunk):
    order = np.random.default_rng(seed).permutation(SOME.shape[1])
    one = deconvolve(method, SOME, AIF, TIMES)
    other = deconvolve(method, SOME[:, order], AIF, TIMES, chunk=chunk)
    assert other.cbf == pytest.approx(one.cbf[order], rel=1e-3)
    assert other.tmax == pytest.approx(one.tmax[order], abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_enough(method):
    """The same in float64 differs by less than a ten-thousandth in nearly every noisy voxel."""
    curves = noisy(2000, 0.03)
    single = deconvolve(method, curves, AIF, TIMES, Truncation(0.1))
    if method == "Lucy-Richardson":
        again = deconvolve(method, curves, AIF * (1.0 + 1e-7), TIMES)
        assert again.cbf == pytest.approx(single.cbf, rel=1e-3)
        return
    if method == "oSVD":
        basis, solve, keeps = truncations(AIF, 1.0, *OSVD_RANGE)
        exact = np.empty(2000)
        for n, curve in enumerate(curves.T.astype(np.float64)):
            tried = (basis[:, :k] @ (solve[:k] @ curve) for k in keeps)
            exact[n] = next(one for one in tried if index(one) < 0.035).max()
    else:
        build = standard_inverse if method == "sSVD" else circulant_inverse
        exact = (build(AIF, 1.0, 0.1) @ curves.astype(np.float64)).max(axis=0)
    difference = np.abs(single.cbf / exact - 1.0)
    if method == "sSVD":
        assert difference.max() < 1e-4
    else:
        # The parabola adds a little, never takes away.
        assert (single.cbf / exact).min() > 1.0 - 1e-4
        assert np.median(difference) < 0.02


# --- input that is not as it should be ---------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_empty_and_undefined_curves_stay_so_and_disturb_no_other(method):
    curves = noisy(6)
    alone = deconvolve(method, curves[:, [0, 5]], AIF, TIMES, Truncation(0.1))
    curves[:, 1] = 0.0
    curves[:, 2] = np.nan
    curves[7, 3] = np.nan
    curves[:, 4] = -1.0
    found = deconvolve(method, curves, AIF, TIMES, Truncation(0.1))
    assert found.cbf[[0, 5]] == pytest.approx(alone.cbf, rel=1e-5)
    assert found.cbf[1] == 0.0 and np.isnan(found.tmax[1])
    assert np.isnan(found.cbf[2]) and np.isnan(found.tmax[2])
    # Lucy-Richardson looks at nothing before the bolus, where this hole is.
    assert np.isnan(found.cbf[3]) or method == "Lucy-Richardson"
    assert np.isfinite(found.cbf[4]) and found.cbf[4] >= 0.0
    assert found.unmet <= 2


@pytest.mark.parametrize("duration_s", [32.0, 45.0, 52.0])
def test_lucy_richardson_does_without_lags_that_a_short_scan_does_not_hold(duration_s):
    times = np.arange(0.0, duration_s, 1.0)
    artery = Arterial(arrival_s=12.0)
    curves = tissue_curves(times, artery, 60.0, 4.0).astype(np.float32)
    found = deconvolve("Lucy-Richardson", curves, artery(times), times)
    assert found.cbf == pytest.approx(flow_per_s(60.0), rel=0.4)


def test_a_pause_is_refused_before_it_is_filled_with_made_up_times():
    with pytest.raises(InputError, match="times_gap"):
        even_times([*range(40), 3600.0])
    assert len(even_times([*range(40), *range(50, 200, 15)]).times_s) == 186


@pytest.mark.parametrize("method", METHODS)
def test_uneven_times_are_made_even(method):
    draw = np.random.default_rng(4)
    times = np.sort(np.concatenate([TIMES[:1], TIMES[1:] + draw.uniform(-0.3, 0.3, 59)]))
    flows = np.array([20.0, 50.0, 70.0])
    curves = tissue_curves(times, ARTERY, flows, 240.0 / flows).astype(np.float32)
    even = deconvolve(
        method, tissue_curves(TIMES, ARTERY, flows, 240.0 / flows).astype(np.float32), AIF, TIMES
    )
    found = deconvolve(method, curves, ARTERY(times), times)
    assert even.grid.weights is None and found.grid.weights is not None
    assert found.cbf == pytest.approx(even.cbf, rel=0.15)


def test_a_dropped_frame_leaves_the_step_and_is_told():
    times = np.delete(TIMES, [20, 40])
    grid = even_times(times)
    assert grid.times_s == pytest.approx(TIMES)
    assert grid.step_s == pytest.approx(1.0) and grid.largest_gap_s == pytest.approx(2.0)
    assert grid.apply(2.0 * times) == pytest.approx(2.0 * TIMES, rel=1e-6)


def test_a_clock_that_jitters_by_a_hundredth_is_even():
    times = TIMES + 0.005 * np.cos(17.0 * np.arange(60))
    assert even_times(times).weights is None


@pytest.mark.parametrize(
    ("aif", "code"),
    [
        (AIF[:-1], "aif_shape"),
        (np.zeros(60), "aif_empty"),
        (-AIF, "aif_empty"),
        (np.where(AIF > 0.9, np.nan, AIF), "aif_empty"),
    ],
)
def test_an_artery_must_be_one(aif, code):
    with pytest.raises(InputError) as refused:
        deconvolve("cSVD", SOME, aif, TIMES)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "setting",
    [
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"threshold": float("nan")},
        {"oscillation_index": 0.0},
        {"iterations": 0},
        {"support_s": -1.0},
    ],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(InputError, match="perfusion_settings"):
        Truncation(**setting)


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="perfusion_settings"):
        deconvolve("tSVD", SOME, AIF, TIMES)


def test_kernels_do_what_their_python_says(monkeypatch):
    """Compiled code is not seen by a coverage tool, and must not differ from what is read."""
    curves = noisy(40, 0.05)
    curves[:, 3], curves[:, 7] = np.nan, 0.0
    compiled = [deconvolve(method, curves, AIF, TIMES) for method in METHODS]
    strict = deconvolve("oSVD", curves, AIF, TIMES, Truncation(oscillation_index=1e-6))
    for module in (oscillation, residue_peaks):
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)
    for method, one in zip(METHODS, compiled, strict=True):
        read = deconvolve(method, curves, AIF, TIMES)
        assert read.cbf == pytest.approx(one.cbf, rel=1e-4, nan_ok=True)
        assert read.tmax == pytest.approx(one.tmax, abs=0.01, nan_ok=True)
    read = deconvolve("oSVD", curves, AIF, TIMES, Truncation(oscillation_index=1e-6))
    assert read.unmet == strict.unmet > 0
    assert read.cbf == pytest.approx(strict.cbf, rel=1e-4, nan_ok=True)
