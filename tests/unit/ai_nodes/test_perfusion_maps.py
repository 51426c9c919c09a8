"""Maps in clinical units agree with published curves and with phantoms of known truth."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_nodes.ops.concentration import Bolus
from ai_nodes.ops.deconvolution import METHODS
from ai_nodes.ops.perfusion_maps import (
    DENSITY_G_ML,
    PerfusionMaps,
    PerfusionSettings,
    area_weights,
    perfusion_maps,
    scaled_artery,
)
from dicom_services import perfusion_curves
from dicom_services.errors import InputError
from dicom_services.perfusion_curves import Arterial, tissue_curves
from tests.perfusion_tiles import Tiles, tiles

TIMES = np.arange(0.0, 60.0, 1.0)
ARTERY = Arterial()
AIF = ARTERY(TIMES)


# --- the digital reference object of OSIPI -----------------------------------------------------


def published(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Curves (t, 14), artery, times, CBV and CBF of OSIPI's DSC reference."""
    path = folder / "dsc-perfusion/codecollection/test/DSCmodels/data/dsc_data.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    curves = np.stack([np.array(row["C_tis"].split(), np.float32) for row in rows], 1)
    times = np.arange(len(curves)) * float(rows[0]["tr"])
    volume, flow = (np.array([float(row[name]) for row in rows]) for name in ("cbv", "cbf"))
    return curves, np.array(rows[0]["C_aif"].split(), float), times, volume, flow


@pytest.mark.parametrize(
    ("method", "error"),
    [("sSVD", 4.4), ("cSVD", 6.0), ("oSVD", 6.0), ("Lucy-Richardson", 6.0)],
)
def test_published_curves_give_their_flow_and_volume(shared_data, method, error):
    """Within 15 + 10 % and 1 + 10 %, OSIPI's own bounds; its curves know no haematocrit."""
    curves, aif, times, volume, flow = published(shared_data)
    rule = PerfusionSettings(method, hematocrit_large=0.0, hematocrit_small=0.0, density_g_ml=1.0)
    found = [perfusion_maps(curves[:, [n]], aif, times, rule) for n in range(14)]
    cbf = np.array([one.cbf[0] for one in found])
    cbv = np.array([one.cbv[0] for one in found])
    assert (np.abs(cbf - flow) <= 15.0 + 0.1 * flow).all()
    assert (np.abs(cbv - volume) <= 1.0 + 0.1 * volume).all()
    assert np.abs(cbf - flow).mean() <= error


# --- the tile phantom of Kudo ------------------------------------------------------------------


def maps_of(phantom: Tiles, method: str) -> PerfusionMaps:
    return perfusion_maps(
        phantom.curves, phantom.aif, phantom.times_s, PerfusionSettings(method=method)
    )


def agreement(phantom: Tiles, found: PerfusionMaps, name: str) -> float:
    """Correlation of the tiles' means with the truth."""
    means = phantom.means(getattr(found, name))
    return float(np.corrcoef(means, phantom.means(getattr(phantom, name)))[0, 1])


@pytest.mark.parametrize(
    ("method", "snr"), [("oSVD", 10.0), ("oSVD", 20.0), *((method, 30.0) for method in METHODS)]
)
def test_tiles_of_noise_agree_with_their_truth(method, snr):
    phantom = tiles(snr=snr, voxels=32)
    found = maps_of(phantom, method)
    for name in ("cbf", "cbv", "mtt"):
        assert agreement(phantom, found, name) >= 0.9


@pytest.mark.parametrize("method", METHODS)
def test_volume_is_exact_without_noise(method):
    phantom = tiles(duration_s=150.0)
    found = maps_of(phantom, method)
    assert agreement(phantom, found, "cbv") >= 0.9999
    assert found.cbv == pytest.approx(phantom.cbv, rel=0.01)


@pytest.mark.parametrize("method", ["cSVD", "oSVD"])
@pytest.mark.parametrize("snr", [None, 20.0])
def test_delay_biases_flow_of_all_tiles_by_less_than_a_twentieth(method, snr):
    phantom = tiles(snr=snr, voxels=1 if snr is None else 32)
    found = maps_of(phantom, method)
    undelayed = found.cbf[phantom.delay == 0.0].mean()
    for delay_s in np.unique(phantom.delay):
        assert found.cbf[phantom.delay == delay_s].mean() == pytest.approx(undelayed, rel=0.05)


@pytest.mark.parametrize("step_s", [0.5, 1.5, 2.0, 3.0])
def test_flow_and_tmax_hardly_depend_on_how_often_images_are_taken(step_s):
    """An index that is not scaled to the step gives 11 for 60 ml/100 g/min at one image in 3 s."""
    artery = perfusion_curves.Arterial(beta_s=1.8)

    def found(step_s: float) -> PerfusionMaps:
        times = np.arange(0.0, 72.0, step_s)
        curves = tissue_curves(times, artery, [60.0, 25.0], [4.0, 4.8], [1.0, 1.0])
        return perfusion_maps(
            curves.astype(np.float32), artery(times), times, PerfusionSettings("oSVD")
        )

    usual, other = found(1.0), found(step_s)
    assert other.cbf == pytest.approx(usual.cbf, rel=0.12)
    assert other.tmax == pytest.approx(usual.tmax, abs=0.7)


def test_tmax_of_slow_tiles_is_later_by_their_delay():
    phantom = tiles()
    found = maps_of(phantom, "oSVD")
    means = [found.tmax[phantom.delay == delay].mean() for delay in (0.0, 1.0, 2.0, 3.0)]
    assert np.diff(means) == pytest.approx(np.ones(3), abs=0.05)


# --- units and conventions ---------------------------------------------------------------------


def test_the_factor_of_haematocrit_and_density_is_that_of_the_phantom():
    assert PerfusionSettings().kappa == pytest.approx(perfusion_curves.KAPPA)
    assert perfusion_curves.DENSITY_G_ML == DENSITY_G_ML
    # (1 - 0.45) / (1 - 0.25) = 0.733 (Rempp 1994).
    assert PerfusionSettings().kappa == pytest.approx(0.7333, abs=1e-4)


def test_flow_times_transit_is_volume():
    curves = tissue_curves(TIMES, ARTERY, [20.0, 60.0], [8.0, 4.0]).astype(np.float32)
    found = perfusion_maps(curves, AIF, TIMES)
    assert found.cbf * found.mtt / 60.0 == pytest.approx(found.cbv, rel=1e-5)
    assert found.cbv == pytest.approx([160.0 / 60.0, 4.0], rel=0.01)


def test_time_to_peak_counts_from_the_first_frame():
    times = TIMES + 100.0
    curves = np.zeros((60, 2), np.float32)
    curves[17, 0] = curves[31, 1] = 1.0
    found = perfusion_maps(curves, AIF, times)
    assert found.ttp.tolist() == [17.0, 31.0]


def test_areas_start_when_the_artery_does():
    curves = tissue_curves(TIMES, ARTERY, 60.0, 4.0).astype(np.float32)
    drifting = curves.copy()
    drifting[:8] += 0.2 * curves.max()
    from_start = perfusion_maps(drifting, AIF, TIMES)
    from_bolus = perfusion_maps(drifting, AIF, TIMES, bolus=Bolus(9, (0, 9)))
    assert from_bolus.cbv == pytest.approx([4.0], rel=0.01)
    assert from_start.cbv[0] > 4.5


def test_weights_of_uneven_frames_are_trapezoids():
    times = [0.0, 1.0, 3.0, 4.0]
    assert area_weights(times, 0).tolist() == [0.5, 1.5, 1.5, 0.5]
    assert area_weights(times, 1).tolist() == [0.0, 1.0, 1.5, 0.5]


def test_a_vein_mends_an_artery_of_half_a_voxel():
    """Half of the artery's voxel is tissue: flow and volume are twice too high without the vein."""
    vein = ARTERY(TIMES - 6.0)
    curves = tissue_curves(TIMES, ARTERY, [50.0], [5.0]).astype(np.float32)
    whole = perfusion_maps(curves, AIF, TIMES)
    half = perfusion_maps(curves, 0.5 * AIF, TIMES, vof=vein)
    assert half.cbv == pytest.approx(2.0 * whole.cbv, rel=1e-4)
    rule = PerfusionSettings(volume_scaling=True)
    mended = perfusion_maps(curves, 0.5 * AIF, TIMES, rule, vof=vein)
    assert mended.cbv == pytest.approx(whole.cbv, rel=0.01)
    assert mended.facts["artery_scale"] == pytest.approx(2.0, rel=0.01)


def test_an_artery_is_never_made_smaller():
    assert scaled_artery(AIF, 0.3 * AIF, TIMES)[1] == 1.0


def test_scaling_needs_a_vein():
    with pytest.raises(InputError, match="vof_missing"):
        perfusion_maps(
            np.ones((60, 1), np.float32), AIF, TIMES, PerfusionSettings(volume_scaling=True)
        )


def test_uneven_times_are_told():
    times = np.delete(TIMES, [30, 44])
    curves = tissue_curves(times, ARTERY, [50.0], [5.0]).astype(np.float32)
    found = perfusion_maps(curves, ARTERY(times), times)
    assert found.flags == ("times_resampled",)
    assert found.facts["largest_gap_s"] == pytest.approx(2.0)
    assert found.cbv == pytest.approx([50.0 / 12.0], rel=0.01)
    assert perfusion_maps(curves[:40], AIF[:40], TIMES[:40]).flags == ()


# --- nothing lies silently ---------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_curves_without_a_bolus_have_no_flow_and_no_times(method):
    curves = np.zeros((60, 4), np.float32)
    curves[:, 1] = np.nan
    curves[:, 2] = -3.0
    curves[:, 3] = tissue_curves(TIMES, ARTERY, 50.0, 5.0)[:, 0]
    found = perfusion_maps(curves, AIF, TIMES, PerfusionSettings(method=method))
    assert found.cbf[0] == 0.0 and found.cbv[0] == 0.0
    assert np.isnan([found.mtt[0], found.ttp[0], found.tmax[0]]).all()
    for one in (found.cbf, found.cbv, found.mtt, found.ttp, found.tmax):
        assert np.isnan(one[1]) and np.isfinite(one[3]) and one.dtype == np.float32
    assert found.cbv[2] == 0.0 and np.isnan(found.ttp[2])
    assert found.facts["undefined_voxels"] == 1


def test_no_voxel_at_all_is_no_error():
    found = perfusion_maps(np.zeros((60, 0), np.float32), AIF, TIMES)
    assert found.cbf.shape == (0,)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.01, 100.0))
def test_scaled_tissue_scales_flow_and_volume_and_leaves_the_times(method, scale):
    phantom = tiles(snr=20.0)
    one = maps_of(phantom, method)
    rule = PerfusionSettings(method=method)
    curves = np.float32(scale) * phantom.curves
    other = perfusion_maps(curves, phantom.aif, phantom.times_s, rule)
    share = np.isclose(other.cbf, scale * one.cbf, rtol=1e-3).mean()
    # oSVD may take the next truncation in a voxel whose index is at the limit.
    assert share >= 0.98
    assert other.cbv == pytest.approx(scale * one.cbv, rel=1e-3, abs=1e-5 * scale)
    assert other.ttp == pytest.approx(one.ttp)


@pytest.mark.parametrize(
    "setting",
    [
        {"method": "tSVD"},
        {"threshold": 2.0},
        {"hematocrit_large": 1.0},
        {"hematocrit_small": -0.1},
        {"density_g_ml": 0.0},
    ],
)
def test_settings_are_checked(setting):
    with pytest.raises(InputError, match="perfusion_settings"):
        PerfusionSettings(**setting)


# --- where it is computed ----------------------------------------------------------------------


class OnCard(np.ndarray):
    """An array that must be fetched, as those of a card: the result may hold none of them."""

    def get(self) -> np.ndarray:
        return np.asarray(self)


def card(bytes_free: float) -> ModuleType:
    """numpy as cupy would look: other arrays, and an end of memory."""

    def asarray(values: object) -> np.ndarray:
        array = np.asarray(values)
        if array.nbytes > bytes_free:
            raise MemoryError
        return array.view(OnCard)

    module = ModuleType("card")
    vars(module).update({name: getattr(np, name) for name in dir(np) if name[:2] != "__"})
    vars(module)["asarray"] = asarray
    return module


@pytest.mark.parametrize(
    ("bytes_free", "flags"),
    [(1e9, ("times_resampled",)), (1e3, ("times_resampled", "card_memory"))],
)
def test_maps_of_a_card_come_back_from_it_and_its_memory_may_end(bytes_free, flags):
    phantom = tiles(snr=20.0)
    curves, aif, times = (
        np.delete(one, 50, axis=0) for one in (phantom.curves, phantom.aif, phantom.times_s)
    )
    rule = PerfusionSettings(leakage=True)
    bolus = Bolus(9, (0, 9))
    here = perfusion_maps(curves, aif, times, rule, bolus=bolus, xp=np)
    there = perfusion_maps(curves, aif, times, rule, bolus=bolus, xp=card(bytes_free))
    for name in ("cbf", "cbv", "mtt", "ttp", "tmax", "k2"):
        one, other = getattr(here, name), getattr(there, name)
        assert type(other) is np.ndarray
        assert np.isclose(one, other, rtol=1e-3, equal_nan=True).mean() > 0.99
    assert there.flags == flags


@pytest.mark.parametrize(
    ("aif", "code"),
    [(AIF[:-1], "aif_shape"), (AIF * 0.0, "aif_empty"), (AIF[::-1] - 0.01, "aif_empty")],
)
def test_an_artery_that_is_none_is_refused(aif, code):
    curves = np.ones((60, 3), np.float32)
    with pytest.raises(InputError) as refused:
        perfusion_maps(curves, aif, TIMES, bolus=Bolus(50, (0, 50)))
    assert refused.value.code == code
