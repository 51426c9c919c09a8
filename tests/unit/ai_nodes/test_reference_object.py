"""OSIPI's digital reference object: blood volume is exact, flow low by what a method takes off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ai_nodes.pipelines.perfusion import analyse_perfusion
from dicom_services.domain.findings import ParametricMap
from tests.reference_object import PLACE, exponential_residue, reference_object


@pytest.mark.parametrize(
    ("method", "flow_ratio", "transit_ratio"),
    [("oSVD", 0.71, 1.42), ("cSVD", 0.74, 1.36), ("sSVD", 0.62, 1.60)],
)
def test_maps_follow_the_truth(
    shared_data: Path, method: str, flow_ratio: float, transit_ratio: float
) -> None:
    truth = reference_object(shared_data / PLACE)
    found = {
        one.label: one.values
        for one in analyse_perfusion(truth.volume, {"method": method, "smoothing_mm": 0.0})
        if isinstance(one, ParametricMap)
    }
    known = truth.mask & np.isfinite(found["CBF"])
    # The outline of its box is rounded off by four voxels in each slice.
    assert known.sum() >= truth.mask.sum() - 24

    def compared(label: str, planted: NDArray[np.float32]) -> tuple[float, float]:
        values = found[label][known]
        ratio = float((values / planted[known]).mean())
        return float(np.corrcoef(values, planted[known])[0, 1]), ratio

    correlation, ratio = compared("CBV", truth.cbv)
    assert correlation > 0.999
    assert ratio == pytest.approx(1.0, abs=0.005)
    correlation, ratio = compared("CBF", truth.cbf)
    assert correlation > 0.99
    assert ratio == pytest.approx(flow_ratio, abs=0.03)
    correlation, ratio = compared("MTT", truth.mtt)
    assert correlation > 0.99
    assert ratio == pytest.approx(transit_ratio, abs=0.05)


def test_its_three_maps_agree_with_each_other(shared_data: Path) -> None:
    truth = reference_object(shared_data / PLACE)
    inside = truth.mask
    assert truth.mtt[inside] == pytest.approx(60.0 * truth.cbv[inside] / truth.cbf[inside], 1e-5)


def test_the_forward_model_is_the_integral_it_says() -> None:
    times = np.linspace(0.0, 30.0, 31)
    step = np.where(times >= 5.0, 1.0, times / 5.0)
    # Long after a step the convolution with exp(-t / 4) reaches its area, 4 s.
    assert exponential_residue(step, times, np.array([4.0]))[-1, 0] == pytest.approx(4.0, rel=0.01)
