"""Where a bolus starts, what is refused, and what a signal is worth as concentration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import loadmat

from ai_nodes.ops.concentration import (
    MIN_TIMES,
    Bolus,
    find_bolus,
    signal_facts,
    to_concentration,
)
from dicom_services.errors import InputError
from dicom_services.perfusion_curves import Arterial, tissue_curves

TIMES = np.arange(0.0, 75.0, 1.5)
BOLUS = Bolus(2, (0, 3))


def brain(artery: Arterial | None = None, times: np.ndarray = TIMES) -> np.ndarray:
    """Mean of grey and white matter, highest value 1."""
    curve = tissue_curves(times, artery or Arterial(recirculation=0.2), [60.0, 25.0], [4.0, 5.0])
    return curve.mean(axis=1) / curve.mean(axis=1).max()


def dsc(curve: np.ndarray) -> np.ndarray:
    """A signal of 800 that loses 30 % at the top."""
    return 800.0 * np.exp(np.log(0.7) * curve)


def code(curve: np.ndarray, times: np.ndarray = TIMES, kind=None) -> str:
    with pytest.raises(InputError) as refused:
        find_bolus(curve, times, kind)
    return refused.value.code


# --- where the bolus is ------------------------------------------------------------------------


@pytest.mark.parametrize("arrival_s", [7.0, 10.3, 20.0])
@pytest.mark.parametrize("step_s", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("beta_s", [1.5, 2.5])
@pytest.mark.parametrize("kind", ["DSC", "CTP", None])
def test_the_foot_is_found_within_a_frame_or_a_second(arrival_s, step_s, beta_s, kind):
    times = np.arange(0.0, 75.0, step_s)
    curve = brain(Arterial(arrival_s=arrival_s, beta_s=beta_s, recirculation=0.2), times)
    signal = 40.0 + 10.0 * curve if kind == "CTP" else dsc(curve)
    signal = signal + 0.002 * signal[0] * np.random.default_rng(1).normal(size=len(times))
    bolus = find_bolus(signal, times, kind)
    assert abs(times[bolus.arrival] - arrival_s) <= max(1.2 * step_s, 1.0)
    assert bolus.baseline[0] == 0 and 2 <= bolus.baseline[1] <= bolus.arrival + 1


@pytest.mark.parametrize("unit", [0.001, 1000.0])
def test_times_that_are_no_seconds_are_refused(unit):
    """Some makers write seconds where DICOM has milliseconds: Tmax would be a thousandth."""
    with pytest.raises(InputError, match="times_step"):
        find_bolus(dsc(brain()), unit * TIMES, "DSC")


def test_signal_before_the_steady_state_is_no_baseline():
    signal = dsc(brain())
    signal[:2] *= 1.25, 1.08
    bolus = find_bolus(signal, TIMES, "DSC")
    assert bolus.baseline[0] == 2
    assert bolus.flags == ("unsteady_start",)


@pytest.mark.parametrize("kind", ["DSC", "CTP"])
def test_signal_before_the_steady_state_is_no_tracer(kind):
    """Left in, it is a second bolus, the same in artery and tissue: a flow of its own."""
    signal = np.array([[1.6], [1.1], *[[1.0]] * 6, [0.6], [0.8]], np.float32) * 100.0
    bolus = Bolus(7, (2, 8))
    found = to_concentration(signal, np.arange(10.0), bolus, kind=kind, echo_time_ms=25.0)
    assert (found[:8] == 0.0).all()
    assert found[8] != 0.0


def test_the_top_is_the_frame_furthest_from_the_baseline():
    curve = brain()
    assert find_bolus(dsc(curve), TIMES).peak == curve.argmax()


def test_a_short_baseline_coarse_steps_and_a_cut_tail_are_told():
    assert "short_baseline" in find_bolus(dsc(brain(Arterial(arrival_s=2.0))), TIMES).flags
    slow = np.arange(0.0, 75.0, 3.5)
    assert "coarse_sampling" in find_bolus(dsc(brain(times=slow)), slow).flags
    until = TIMES[: np.flatnonzero(brain() > 0.35)[-1] + 1]
    assert "short_tail" in find_bolus(dsc(brain(times=until)), until).flags


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3, MIN_TIMES - 1])
def test_three_times_are_too_few(count):
    assert code(np.ones(count), np.arange(float(count))) == "too_few_times"


@pytest.mark.parametrize("times", [TIMES[::-1], np.zeros(50), np.append(TIMES[:-1], np.nan)])
def test_times_must_rise(times):
    assert code(dsc(brain()), times) == "times_order"


def test_as_many_times_as_frames():
    assert code(dsc(brain()), TIMES[:-1]) == "times_order"


def test_noise_is_no_bolus():
    found = 0
    for seed in range(200):
        noise = 100.0 + np.random.default_rng(seed).normal(size=50)
        found += code(noise) != "no_bolus"
    assert found == 0


@pytest.mark.parametrize("curve", [np.full(50, 7.0), np.zeros(50), np.full(50, np.nan)])
def test_a_flat_curve_is_no_bolus(curve):
    assert code(curve) == "no_bolus"


def test_a_signal_that_rises_for_good_is_no_drop():
    leaking = 100.0 + 50.0 * np.cumsum(brain()) / brain().sum()
    leaking += np.random.default_rng(2).normal(0.0, 0.5, len(leaking))
    assert code(leaking, kind="DSC") == "no_bolus"


def test_a_bolus_that_came_before_the_first_frame_has_no_baseline():
    late = Arterial(arrival_s=-4.0)
    assert code(dsc(brain(late))) == "no_baseline"


@pytest.mark.parametrize("share", [0.3, 0.99, 0.75])
def test_a_scan_that_ends_in_the_first_pass_is_truncated(share):
    curve = brain()
    if share == 0.75:
        end = curve.argmax() + int(np.flatnonzero(curve[curve.argmax() :] < share)[0]) + 1
    else:
        end = int(np.flatnonzero(curve > share)[0]) + 1
    assert code(dsc(brain(times=TIMES[:end])), TIMES[:end]) == "truncated_tail"


# --- concentration -----------------------------------------------------------------------------


def test_dr2_star_is_minus_the_log_of_the_ratio_over_the_echo_time():
    signal = np.full((12, 1), 200.0, np.float32)
    signal[5] = 100.0
    found = to_concentration(signal, range(12), BOLUS, kind="DSC", echo_time_ms=30.0)
    assert found[5, 0] == pytest.approx(np.log(2.0) / 0.030, rel=1e-5)
    assert np.abs(np.delete(found[:, 0], 5)).max() < 1e-5
    assert found.dtype == np.float32


def test_the_baseline_is_the_mean_of_its_frames():
    signal = np.full((12, 1), 100.0)
    signal[:3, 0] = 90.0, 100.0, 110.0
    found = to_concentration(signal.astype(np.int16), range(12), BOLUS, kind="CTP")
    assert found[:, 0].tolist() == [-10.0, 0.0, 10.0, *([0.0] * 9)]


@pytest.mark.parametrize("bad", [0.0, -3.0, np.nan, np.inf])
def test_a_sample_without_logarithm_leaves_its_voxel_undefined_and_is_counted(bad):
    signal = np.full((12, 20_000), 100.0, np.float32)
    signal[7, [3, 19_999]] = bad
    found = to_concentration(signal, range(12), BOLUS, kind="DSC", echo_time_ms=30.0)
    assert np.flatnonzero(np.isnan(found).all(axis=0)).tolist() == [3, 19_999]
    assert np.isfinite(np.delete(found, [3, 19_999], axis=1)).all()
    facts = signal_facts(signal, kind="DSC")
    assert (facts.voxels, facts.undefined_voxels) == (20_000, 2)
    positive = bad > 0.0 or np.isnan(bad)
    assert facts.nonpositive_values == (0 if positive else 2)
    assert facts.nonfinite_values == (0 if np.isfinite(bad) else 2)


def test_ct_may_be_below_zero_but_must_be_a_number():
    signal = np.full((12, 3), -50.0, np.float32)
    signal[5, 1] = np.nan
    found = to_concentration(signal, range(12), BOLUS, kind="CTP")
    assert np.isnan(found).all(axis=0).tolist() == [False, True, False]
    facts = signal_facts(signal, kind="CTP")
    assert (facts.undefined_voxels, facts.nonpositive_values) == (1, 0)


def test_a_background_of_zeros_is_undefined_and_does_not_crash():
    found = to_concentration(
        np.zeros((12, 5), np.float32), range(12), BOLUS, kind="DSC", echo_time_ms=30.0
    )
    assert np.isnan(found).all()


@pytest.mark.parametrize("echo_time_ms", [None, 0.0, -2.0])
def test_dsc_needs_an_echo_time(echo_time_ms):
    with pytest.raises(InputError, match="echo_time_missing"):
        to_concentration(np.ones((12, 1)), range(12), BOLUS, kind="DSC", echo_time_ms=echo_time_ms)


def test_a_signal_has_as_many_frames_as_times():
    with pytest.raises(InputError, match="times_order"):
        to_concentration(np.ones((12, 1)), range(11), BOLUS, kind="CTP")


def test_in_a_patient_the_foot_and_top_are_those_of_the_published_artery(shared_data):
    """Signal of an artery and the concentration that its makers computed from two echoes."""
    folder = "dsc-perfusion/codecollection/src/original/LCB_BNI_USA/notebooks"
    data = loadmat(shared_data / folder / "data.mat")
    published = data["AIF_Ct"][0]
    times = np.arange(len(published)) * float(data["TR"][0, 0])
    signal, echo_time_ms = data["AIF_SIt"][1], 1000.0 * float(data["TE2"][0, 0])
    bolus = find_bolus(signal, times, "DSC")
    assert bolus.peak == published.argmax()
    # Theirs is smooth, and starts earlier than any signal falls.
    assert published[bolus.arrival] < 0.15 * published.max()
    found = to_concentration(signal[:, None], times, bolus, kind="DSC", echo_time_ms=echo_time_ms)
    assert np.corrcoef(found[:, 0], published)[0, 1] > 0.94
    with pytest.raises(InputError, match="no_bolus"):
        find_bolus(data["tumor_SIt"][0], times, "DSC")
