"""Tissue at risk and its core by thresholds, on maps whose volumes are counted on paper."""

from __future__ import annotations

import numpy as np
import pytest

from ai_nodes.ops.hypoperfusion import (
    Hypoperfusion,
    Thresholds,
    find_hypoperfusion,
    without_islands,
)
from dicom_services.domain.geometry import Geometry
from tests.phantoms import grid, rotation

SHAPE = (4, 40, 40)
# 5 x 2 x 2 mm: 50 voxels are a millilitre.
GRID = grid(SHAPE, (5.0, 2.0, 2.0))


def found(
    thresholds: Thresholds | None = None, geometry: Geometry = GRID, **changed: float
) -> Hypoperfusion:
    """Flow 50 everywhere but 25 in a block of 800 voxels and 10 in 200 of them, Tmax 1 and 8 s."""
    cbf, cbv, tmax = (np.full(SHAPE, value, np.float32) for value in (50.0, 4.0, 1.0))
    cbf[:, 10:20, 22:38], tmax[:, 10:20, 22:38] = 25.0, changed.get("tmax", 8.0)
    cbf[:, 10:20, 28:33] = changed.get("core", 10.0)
    cbv[0, 0, 0], cbf[0, 0, 0] = 40.0, 400.0
    cbf[:, :4] = np.nan
    return find_hypoperfusion(cbf, cbv, tmax, geometry, thresholds or Thresholds())


def test_volumes_and_ratio_are_those_of_the_blocks() -> None:
    risk = found()
    assert risk.hypoperfused_ml == pytest.approx(4 * 10 * 16 * 0.02)
    assert risk.core_ml == pytest.approx(4 * 10 * 5 * 0.02)
    assert risk.mismatch_ml == pytest.approx(4 * 10 * 11 * 0.02)
    assert risk.mismatch_ratio == pytest.approx(16 / 5)


def test_flow_is_compared_with_normal_tissue_of_the_other_half() -> None:
    risk = found()
    assert risk.reference_cbf == pytest.approx(50.0)
    assert not risk.reference[:, :, 20:].any()
    assert not risk.reference[:, :4].any()


@pytest.mark.parametrize(("flow", "is_core"), [(14.9, True), (15.1, False)])
def test_core_begins_below_thirty_percent_of_normal(flow: float, is_core: bool) -> None:
    assert (found(core=flow).core_ml > 0.0) is is_core


@pytest.mark.parametrize(("tmax_s", "slow"), [(6.0, False), (6.1, True)])
def test_hypoperfusion_begins_above_six_seconds(tmax_s: float, slow: bool) -> None:
    assert (found(tmax=tmax_s).hypoperfused_ml > 0.0) is slow


def test_tissue_without_flow_inside_of_the_delayed_one_is_core_whatever_its_tmax() -> None:
    """No bolus, no delay: a quarter of a dead core has a Tmax that noise has made short."""
    cbf, cbv, tmax = (np.full(SHAPE, value, np.float32) for value in (50.0, 4.0, 1.0))
    cbf[:, 10:20, 22:38], tmax[:, 10:20, 22:38] = 1.0, 20.0
    tmax[:, 10:20:2, 22:38:4], tmax[:, 10:20:2, 24:38:4] = -9.0, np.nan
    cbf[:, 12:18:2, 24:38:4] = 0.0
    # Low flow beside the lesion, without its delay, is not drawn in.
    cbf[:, 20:30, 22:38] = 1.0
    risk = find_hypoperfusion(cbf, cbv, tmax, GRID, Thresholds())
    assert risk.core[:, 11:19, 23:37].all()
    assert not risk.core[:, 21:].any()
    assert (risk.core == risk.hypoperfused).all()


def test_low_flow_outside_of_the_delayed_tissue_is_no_core() -> None:
    assert found(tmax=3.0).core_ml == 0.0


def test_without_a_core_there_is_no_ratio() -> None:
    risk = found(core=30.0)
    assert risk.mismatch_ratio is None
    assert risk.mismatch_ml == risk.hypoperfused_ml


def test_thresholds_are_those_given() -> None:
    assert found(Thresholds(tmax_s=9.0)).hypoperfused_ml == 0.0
    assert found(Thresholds(core_part=0.6)).core_ml == pytest.approx(4 * 10 * 16 * 0.02)


def test_a_turned_grid_gives_the_same_volumes() -> None:
    turned = grid(SHAPE, (5.0, 2.0, 2.0), rotation=rotation((0.0, 0.3, 1.0), 15.0))
    assert found(geometry=turned).core_ml == pytest.approx(found().core_ml)


def test_islands_below_the_limit_are_left_out_and_those_at_it_stay() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[0, :5, :10] = True
    mask[2, 20:27, 20:27] = True
    kept = without_islands(mask, GRID, 1.0)
    assert kept[0].sum() == 50
    assert not kept[2].any()


def test_maps_without_a_value_hold_nothing() -> None:
    nothing = np.full(SHAPE, np.nan, np.float32)
    risk = find_hypoperfusion(nothing, nothing, nothing, GRID, Thresholds())
    assert (risk.hypoperfused_ml, risk.core_ml, risk.reference_cbf) == (0.0, 0.0, 0.0)
