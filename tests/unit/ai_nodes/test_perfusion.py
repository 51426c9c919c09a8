"""The perfusion pipeline on phantoms: volumes, ratios and delays on paper, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from ai_nodes.analysis import Outcome, analyse
from ai_nodes.ops.perfusion_quality import WARNINGS
from ai_nodes.pipelines.perfusion import PIPELINE, Rules, analyse_perfusion
from dicom_services.dicom.dynamic_writer import write_dynamic_series
from dicom_services.domain.findings import (
    Curve,
    Finding,
    Mask,
    Measurement,
    Observation,
    ParametricMap,
)
from dicom_services.domain.volume import Study, Volume
from dicom_services.errors import ConfigError, InputError
from dicom_services.head import ARTERY, CORE, GREY, HEALTHY, PENUMBRA, VEIN, WHITE
from dicom_services.perfusion_phantom import PerfusionPhantom, PerfusionScan, perfusion_phantom
from tests.enhanced_files import write_enhanced

Found = tuple[Finding, ...]


def values_of(found: Found, label: str) -> NDArray[np.float32]:
    return next(
        one.values for one in found if isinstance(one, ParametricMap) and one.label == label
    )


def mask_of(found: Found, start: str) -> NDArray[np.bool_]:
    return next(
        one.values for one in found if isinstance(one, Mask) and one.label.startswith(start)
    )


def curve_of(found: Found, label: str) -> Curve:
    return next(one for one in found if isinstance(one, Curve) and one.label == label)


def number(found: Found, start: str) -> float:
    return next(
        one.value
        for one in found
        if isinstance(one, Measurement) and one.derivation.startswith(start)
    )


def warnings_of(found: Found) -> set[str]:
    return {
        one.value.value
        for one in found
        if isinstance(one, Observation) and one.what.value == "warning"
    }


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2.0 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.fixture(scope="module", params=["DSC", "CTP"])
def quiet(request: pytest.FixtureRequest) -> tuple[PerfusionPhantom, Found]:
    """Without noise and without smoothing, by oSVD."""
    phantom = perfusion_phantom(PerfusionScan(request.param, noise=0.0))
    return phantom, analyse_perfusion(phantom.volume, {"smoothing_mm": 0.0})


@pytest.fixture(scope="module", params=["DSC", "CTP"])
def noisy(request: pytest.FixtureRequest) -> tuple[PerfusionPhantom, Found]:
    """As scanned, with the shipped settings."""
    phantom = perfusion_phantom(PerfusionScan(request.param))
    return phantom, analyse_perfusion(phantom.volume, {})


SMALL = PerfusionScan("DSC", 40, 2.0, (4, 64, 64), 3.3, 12.0)


@pytest.fixture(scope="module")
def small() -> PerfusionPhantom:
    return perfusion_phantom(SMALL)


def test_without_noise_the_volumes_are_those_on_paper(quiet: Any) -> None:
    phantom, found = quiet
    truth = phantom.truth()
    # CT leaves out a rim of 3 mm beside the skull.
    assert number(found, "Tmax > 6 s") == pytest.approx(truth["hypoperfused_ml"], rel=0.01)
    assert number(found, "core") == pytest.approx(truth["core_ml"], rel=0.001)
    assert number(found, "mismatch ratio") == pytest.approx(truth["mismatch_ratio"], rel=0.01)
    assert dice(mask_of(found, "Core"), phantom.head.state == CORE) > 0.999
    assert dice(mask_of(found, "Hypoperfusion"), phantom.head.state > 0) > 0.995


def test_the_flow_of_normal_tissue_is_not_said_of_the_core(quiet: Any) -> None:
    _, found = quiet
    flows = [one for one in found if isinstance(one, Measurement) and one.what.value == "113055"]
    assert [one.tracking for one in flows] == ["brain"]


def test_without_noise_blood_volume_is_exact(quiet: Any) -> None:
    phantom, found = quiet
    volume, inside = values_of(found, "CBV"), phantom.head.brain
    known = inside & np.isfinite(volume)
    assert np.corrcoef(volume[known], phantom.cbv[known])[0, 1] > 0.99
    # CT's whole HU are half a unit off in each frame of a curve that peaks at 13 or, in white, 7.
    tolerance = 0.01 if phantom.scan.kind == "DSC" else 0.04
    for tissue, on_paper in ((GREY, 4.0), (WHITE, 2.0)):
        where = known & (phantom.head.tissue == tissue) & (phantom.head.state == HEALTHY)
        assert np.median(volume[where]) == pytest.approx(on_paper, rel=tolerance)


def test_without_noise_flow_and_transit_time_follow_the_truth(quiet: Any) -> None:
    phantom, found = quiet
    # A core's CT curve peaks at 1 HU, and whole HU leave little of its shape.
    least = 0.99 if phantom.scan.kind == "DSC" else 0.9
    for label, truth in (("CBF", phantom.cbf), ("MTT", phantom.mtt)):
        values = values_of(found, label)
        known = np.isfinite(values) & phantom.head.brain
        assert np.corrcoef(values[known], truth[known])[0, 1] > least


def test_flow_ratios_of_lesion_and_healthy_tissue_are_near_those_planted(quiet: Any) -> None:
    phantom, found = quiet
    flow = values_of(found, "CBF")

    def median(state: int) -> float:
        return float(
            np.nanmedian(flow[(phantom.head.tissue == GREY) & (phantom.head.state == state)])
        )

    # oSVD flattens short transit times more than long ones: ratios come out larger, never smaller.
    assert 0.6 <= median(PENUMBRA) / median(HEALTHY) < 0.75
    assert 0.12 <= median(CORE) / median(HEALTHY) < 0.22


def test_a_delay_adds_itself_to_tmax(quiet: Any) -> None:
    phantom, found = quiet
    tmax = values_of(found, "Tmax")

    def median(state: int) -> float:
        return float(
            np.nanmedian(tmax[(phantom.head.tissue == GREY) & (phantom.head.state == state)])
        )

    # Planted: 8.5 and 1 s. The longer transit of the penumbra moves its regularised peak further.
    assert median(PENUMBRA) - median(HEALTHY) == pytest.approx(7.5, abs=1.0)
    assert median(PENUMBRA) > 6.0
    assert median(HEALTHY) < 4.0


def test_as_scanned_the_volumes_are_near_those_on_paper(noisy: Any) -> None:
    phantom, found = noisy
    truth = phantom.truth()
    assert number(found, "Tmax > 6 s") == pytest.approx(truth["hypoperfused_ml"], rel=0.03)
    assert number(found, "core") == pytest.approx(truth["core_ml"], rel=0.2)
    assert dice(mask_of(found, "Hypoperfusion"), phantom.head.state > 0) > 0.97
    assert dice(mask_of(found, "Core"), phantom.head.state == CORE) > 0.85


def test_the_artery_is_found_in_arteries_and_has_their_height(noisy: Any) -> None:
    phantom, found = noisy
    aif = curve_of(found, "AIF")
    assert {int(phantom.head.tissue[place]) for place in aif.places} == {ARTERY}
    assert max(aif.values) == pytest.approx(phantom.aif.max(), rel=0.05)
    assert aif.times_s == phantom.volume.times_s
    assert aif.unit.value == ("/s" if phantom.scan.kind == "DSC" else "[hnsf'U]")


def test_maps_are_defined_in_the_brain_alone_and_carry_their_units(noisy: Any) -> None:
    found = noisy[1]
    maps = [one for one in found if isinstance(one, ParametricMap)]
    assert [(one.label, one.unit.value) for one in maps] == [
        ("CBF", "mL/(100.g.min)"),
        ("CBV", "mL/(100.g)"),
        ("MTT", "s"),
        ("TTP", "s"),
        ("Tmax", "s"),
    ]
    brain = mask_of(found, "Brain")
    assert all(not np.isfinite(one.values[~brain]).any() for one in maps)
    assert np.isfinite(maps[0].values[brain]).mean() > 0.98


def test_the_headline_tells_volumes_and_ratio(noisy: Any) -> None:
    phantom, found = noisy
    line = PIPELINE.headline(found)
    assert line.startswith(f"Tmax > 6 s {number(found, 'Tmax > 6 s'):.0f} ml, core 1")
    assert "mismatch 6." in line
    assert ("2 quality warnings" in line) is (phantom.scan.kind == "DSC")


def test_dsc_says_that_its_core_needs_diffusion(noisy: Any) -> None:
    phantom, found = noisy
    expected = {"core_by_flow", "relative_flow"} if phantom.scan.kind == "DSC" else set()
    assert warnings_of(found) == expected


def test_an_artery_by_hand_is_used_and_told(small: PerfusionPhantom) -> None:
    places = np.argwhere(small.head.tissue == ARTERY)[:2]
    words = " ".join(",".join(map(str, place)) for place in places)
    found = analyse_perfusion(small.volume, {"aif": words})
    assert curve_of(found, "AIF").places == tuple(tuple(map(int, place)) for place in places)
    assert "aif_by_hand" in warnings_of(found)
    methods = {one.value.value for one in found if isinstance(one, Observation)}
    assert "126362" in methods


def test_a_region_by_hand_is_the_brain(small: PerfusionPhantom) -> None:
    region = small.head.brain | (small.head.tissue >= ARTERY)
    found = analyse_perfusion(small.volume, {}, region)
    assert (mask_of(found, "Brain") == region).all()
    assert "brain_by_hand" in warnings_of(found)


@pytest.mark.parametrize("method", ["sSVD", "cSVD", "Lucy-Richardson"])
def test_every_method_finds_the_lesion(small: PerfusionPhantom, method: str) -> None:
    found = analyse_perfusion(small.volume, {"method": method})
    # sSVD feels a delay as less flow, and sees no delay of the artery itself.
    assert dice(mask_of(found, "Hypoperfusion"), small.head.state > 0) > 0.9
    grey = (small.head.tissue == GREY) & (small.head.state == PENUMBRA)
    assert np.median(values_of(found, "CBV")[grey]) == pytest.approx(4.0, rel=0.1)


def test_scaling_by_the_vein_leaves_a_full_artery_alone(small: PerfusionPhantom) -> None:
    plain = analyse_perfusion(small.volume, {})
    scaled = analyse_perfusion(small.volume, {"scale_by_vein": True})
    volumes = [np.nanmedian(values_of(found, "CBV")) for found in (plain, scaled)]
    assert volumes[1] / volumes[0] == pytest.approx(1.0, abs=0.05)


def test_a_vein_may_be_given_or_left_out(small: PerfusionPhantom) -> None:
    place = ",".join(map(str, np.argwhere(small.head.tissue == VEIN)[0]))
    given = analyse_perfusion(small.volume, {"vof": place, "scale_by_vein": True})
    assert [",".join(map(str, at)) for at in curve_of(given, "VOF").places] == [place]
    none = analyse_perfusion(small.volume, {"vof": "none"})
    assert not any(isinstance(one, Curve) and one.label == "VOF" for one in none)
    assert "no_vein" not in warnings_of(none)


def test_without_an_artery_a_scan_is_refused_rather_than_called_normal(
    small: PerfusionPhantom,
) -> None:
    """Signal that falls to zero in every artery leaves tissue, by which no tissue is late."""
    values = np.where(small.volume.values < 500, 0, small.volume.values).astype(np.int16)
    assert refused(replace(small.volume, values=values)) == "no_aif"


def test_a_vein_for_an_artery_is_told_by_tissue_that_comes_before_it(
    small: PerfusionPhantom,
) -> None:
    place = ",".join(map(str, np.argwhere(small.head.tissue == VEIN)[0]))
    assert "late_aif" in warnings_of(analyse_perfusion(small.volume, {"aif": place}))
    assert "late_aif" not in warnings_of(analyse_perfusion(small.volume, {}))


def test_a_brain_that_is_late_by_half_is_told(small: PerfusionPhantom) -> None:
    """Healthy tissue reads some 3 s, so that a threshold of 1 s takes nearly all of it."""
    assert "risk_everywhere" in warnings_of(analyse_perfusion(small.volume, {"tmax_s": 1.0}))
    assert "risk_everywhere" not in warnings_of(analyse_perfusion(small.volume, {}))


@pytest.mark.parametrize("kind", ["DSC", "CTP"])
def test_one_multi_frame_object_says_the_same(kind: Any, tmp_path: Path) -> None:
    phantom = perfusion_phantom(replace(SMALL, kind=kind))
    found = outcome([write_enhanced(phantom.volume, tmp_path / "scan.dcm")])
    assert found.state == "done"
    assert found.headline == PIPELINE.headline(analyse_perfusion(phantom.volume, {}))
    assert found.document["source_instances"] == 1


def refused(scan: Volume, settings: dict[str, Any] | None = None, **given: Any) -> str:
    with pytest.raises(InputError) as error:
        analyse_perfusion(scan, settings or {}, given.get("region"))
    return error.value.code


def first_frames(scan: Volume, count: int) -> Volume:
    return replace(scan, values=scan.values[:count], times_s=scan.times_s[:count])


def test_three_time_points_are_refused(small: PerfusionPhantom) -> None:
    assert refused(first_frames(small.volume, 3)) == "too_few_times"


def test_a_single_time_is_refused(small: PerfusionPhantom) -> None:
    one = replace(small.volume, values=small.volume.values[0], times_s=())
    assert refused(one) == "not_dynamic"


@pytest.mark.parametrize("noise", [0.0, 20.0])
def test_a_scan_without_a_bolus_is_refused(small: PerfusionPhantom, noise: float) -> None:
    draw = np.random.default_rng(1).normal(0.0, noise, small.volume.values.shape)
    values = (small.volume.values[:1] + draw).astype(np.float32)
    assert refused(replace(small.volume, values=values)) == "no_bolus"


@pytest.mark.parametrize("count", [11, 13])
def test_a_truncated_tail_is_refused(small: PerfusionPhantom, count: int) -> None:
    assert refused(first_frames(small.volume, count)) == "truncated_tail"


def test_saturated_arteries_are_refused(small: PerfusionPhantom) -> None:
    values = small.volume.values.copy()
    vessels = small.head.tissue >= ARTERY
    values[:, vessels] = np.maximum(values[:, vessels], 900)
    assert refused(replace(small.volume, values=values)) == "saturated_aif"


def test_irregular_sampling_is_told_and_does_no_harm(small: PerfusionPhantom) -> None:
    gaps = {13, 16, 18, 22, 23, 26, 27, 29, 31, 32, 34, 35}
    kept = [t for t in range(40) if t not in gaps]
    times = tuple(small.volume.times_s[t] for t in kept)
    found = analyse_perfusion(
        replace(small.volume, values=small.volume.values[kept], times_s=times), {}
    )
    assert "times_resampled" in warnings_of(found)
    assert dice(mask_of(found, "Hypoperfusion"), small.head.state > 0) > 0.95


@pytest.mark.parametrize("value", [0, -5])
def test_signal_at_or_below_zero_has_no_map_and_is_told(
    small: PerfusionPhantom, value: int
) -> None:
    values = small.volume.values.copy()
    values[10:14, :, 20:40, 20:30] = value
    found = analyse_perfusion(replace(small.volume, values=values), {})
    flow = values_of(found, "CBF")
    assert np.isnan(flow[:, 20:40, 20:30]).all()
    assert np.isfinite(flow[:, 30:34, 34:38]).any()
    assert "signal_not_positive" in warnings_of(found)


def test_a_mask_on_another_grid_is_refused(small: PerfusionPhantom) -> None:
    assert refused(small.volume, region=np.ones((4, 64, 63), bool)) == "region_grid"
    assert refused(small.volume, region=np.zeros((4, 64, 64), bool)) == "region_empty"


def test_a_head_that_moves_is_told_and_one_that_moves_far_is_refused(
    small: PerfusionPhantom,
) -> None:
    values = small.volume.values.copy()
    values[20:] = np.roll(values[20:], 1, axis=3)
    moved = replace(small.volume, values=values)
    assert "head_motion" in warnings_of(analyse_perfusion(moved, {}))
    assert refused(moved, {"motion_refuse_mm": 3.0}) == "head_motion"


def test_dsc_without_an_echo_time_is_refused(small: PerfusionPhantom) -> None:
    acquisition = replace(small.volume.acquisition, echo_time_ms=None)
    assert refused(replace(small.volume, acquisition=acquisition)) == "echo_time_missing"


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"modality": "PT"}, "modality_unsupported"), ({"modality": "CT"}, "not_hounsfield")],
)
def test_other_images_are_refused(
    small: PerfusionPhantom, changes: dict[str, Any], code: str
) -> None:
    acquisition = replace(small.volume.acquisition, **changes)
    assert refused(replace(small.volume, acquisition=acquisition)) == code


def test_what_is_no_brain_is_refused(small: PerfusionPhantom) -> None:
    values = np.zeros(small.volume.values.shape, np.int16)
    assert refused(replace(small.volume, values=values)) == "no_brain"


def test_leakage_correction_is_for_mr() -> None:
    ctp = perfusion_phantom(replace(SMALL, kind="CTP")).volume
    assert refused(ctp, {"leakage": "bsw"}) == "leakage_not_mr"


def test_an_artery_outside_of_the_images_is_refused(small: PerfusionPhantom) -> None:
    assert refused(small.volume, {"aif": "4,0,0"}) == "aif_place"
    assert refused(small.volume, {"aif": "0,0,0"}) in ("aif_undefined", "aif_empty")


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "FFT"},
        {"aif": "1,2"},
        {"aif": "1,2,-3"},
        {"aif": ""},
        {"aif": 3},
        {"tmax_s": "6"},
        {"tmax_s": float("nan")},
        {"core_part": 30.0},
        {"iterations": 1.5},
        {"scale_by_vein": 1},
        {"scale_by_vein": True, "vof": "none"},
        {"leakage": "yes"},
        {"no_such": 1},
    ],
)
def test_settings_that_make_no_sense_do_not_start(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="pipeline_settings"):
        Rules.read(settings)


def test_the_study_must_hold_one_volume(small: PerfusionPhantom) -> None:
    with pytest.raises(InputError, match="volumes"):
        PIPELINE.run(Study("1.2", (small.volume, small.volume)), {}, None)


def test_every_warning_fits_a_code_meaning() -> None:
    assert [text for text in WARNINGS.values() if len(text) > 64 or not text.isascii()] == []


@pytest.fixture(scope="module")
def files(small: PerfusionPhantom, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_dynamic_series(small.volume, tmp_path_factory.mktemp("series"))


def outcome(paths: Any) -> Outcome:
    return analyse([*paths], PIPELINE, {})


def test_a_time_that_is_missing_whole_is_told(files: tuple[Path, ...]) -> None:
    done = outcome(path for path in files if not path.name.startswith("t-015"))
    assert done.state == "done"
    assert {"times_irregular", "times_resampled"} <= warnings_of(done.findings)


def test_a_slice_that_is_missing_at_one_time_is_refused(files: tuple[Path, ...]) -> None:
    done = outcome(path for path in files if path.name != "t-015-s-002.dcm")
    assert (done.state, done.code) == ("refused", "frames_missing")
    assert str(done.objects[0].Modality) == "SR"


def test_mixed_echo_times_are_refused(files: tuple[Path, ...], tmp_path: Path) -> None:
    changed = []
    for n, path in enumerate(files):
        data = pydicom.dcmread(path)
        data.EchoTime = "25" if n < 80 else "30"
        data.save_as(tmp_path / path.name)
        changed.append(tmp_path / path.name)
    done = outcome(changed)
    assert (done.state, done.code) == ("refused", "mixed_echo_times")
