"""The brain by rule: all white and grey matter, no bone, scalp or air, hardly any CSF."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ai_nodes.ops.brain import Brain, find_brain, otsu
from dicom_services.head import AIR, ARTERY, CSF, SKIN, SKULL
from dicom_services.perfusion_phantom import PerfusionPhantom, PerfusionScan, perfusion_phantom


def brain_of(phantom: PerfusionPhantom) -> Brain:
    baseline = phantom.volume.values[:6].mean(axis=0, dtype=np.float32)
    modality = phantom.volume.acquisition.modality
    return find_brain(baseline, phantom.volume.geometry, modality)


@pytest.fixture(scope="module", params=["DSC", "CTP"])
def phantom(request: pytest.FixtureRequest) -> PerfusionPhantom:
    return perfusion_phantom(PerfusionScan(request.param, times=12))


def share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float((part & whole).sum() / whole.sum())


def test_white_and_grey_matter_are_tissue(phantom: PerfusionPhantom) -> None:
    assert share(brain_of(phantom).tissue, phantom.head.brain) > 0.98


def test_air_and_scalp_and_skull_are_not(phantom: PerfusionPhantom) -> None:
    found, tissue = brain_of(phantom), phantom.head.tissue
    assert not (found.tissue & ((tissue == AIR) | (tissue == SKIN) | (tissue == SKULL))).any()
    assert not (found.head & (tissue == AIR)).any()


def test_hardly_any_csf_is_tissue(phantom: PerfusionPhantom) -> None:
    # CT sees the CSF that lies beside bone as partly bone: up to an eighth of it.
    assert share(brain_of(phantom).tissue, phantom.head.tissue == CSF) < 0.13


def test_the_arteries_are_within_the_head(phantom: PerfusionPhantom) -> None:
    assert share(brain_of(phantom).head, phantom.head.tissue == ARTERY) > 0.95


def test_what_holds_no_head_gives_no_brain(phantom: PerfusionPhantom) -> None:
    empty = np.zeros(phantom.scan.shape, np.float32)
    air = empty - 1000.0
    grid = phantom.volume.geometry
    assert not find_brain(air, grid, "CT").tissue.any()
    assert not find_brain(empty, grid, "MR").tissue.any()


def test_otsu_parts_two_levels_between_them() -> None:
    values = np.repeat(np.array([100.0, 900.0], np.float32), [300, 100])
    assert 100.0 < otsu(values) < 900.0
