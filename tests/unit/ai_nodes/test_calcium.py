"""The calcium pipeline: what it refuses, finds, names and warns of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ai_nodes.ops.ct_quality import cuts_heart, is_sharp, noise_hu
from ai_nodes.pipeline import Settings
from ai_nodes.pipelines.calcium import PIPELINE, CalciumSettings, analyse_calcium
from dicom_services.domain.findings import Finding, Mask, Measurement, Observation
from dicom_services.domain.volume import Study, Volume
from dicom_services.errors import ConfigError, InputError
from dicom_services.phantom import Phantom, random_phantom
from dicom_services.phantom_command import demo_phantom
from tests.phantoms import CT, Box, calcium_plaque, grid, rotation, volume

EVERYTHING: Settings = {"region": "everything"}
GATED = replace(CT, gated=True)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return random_phantom(5, "cardiac", matrix=256, decoys=())


@pytest.fixture(scope="module")
def findings(phantom: Phantom) -> tuple[Finding, ...]:
    return analyse_calcium(phantom.volume, {})


def numbers(found: Sequence[Finding], method: str = "112055") -> list[float]:
    return [
        each.value
        for each in found
        if isinstance(each, Measurement) and each.method and each.method.value == method
    ]


def masks(found: Sequence[Finding]) -> dict[str, Mask]:
    return {each.tracking: each for each in found if isinstance(each, Mask)}


def warnings(found: Sequence[Finding]) -> set[str]:
    return {
        each.value.value
        for each in found
        if isinstance(each, Observation) and each.what.value == "warning"
    }


def categories(found: Sequence[Finding]) -> dict[str, str]:
    return {
        each.what.value: each.value.value
        for each in found
        if isinstance(each, Observation) and each.what.value != "warning"
    }


def derivations(found: Sequence[Finding]) -> list[str]:
    return [each.derivation for each in found if isinstance(each, Measurement)]


def everywhere(ct: Volume) -> Any:
    return np.ones(ct.geometry.shape, np.bool_)


def code_of(ct: Volume, settings: Settings | None = None, region: Any = None) -> str:
    with pytest.raises(InputError) as error:
        analyse_calcium(ct, settings or {}, region)
    return error.value.code


def test_planted_lesions_are_found_and_scored_as_planned(
    phantom: Phantom, findings: tuple[Finding, ...]
) -> None:
    plain, corrected = numbers(findings)[:2]
    assert plain == pytest.approx(phantom.score)
    assert corrected == pytest.approx(phantom.score * phantom.volume.geometry.slice_spacing_mm / 3)
    assert len(masks(findings)["calcium"].lesions) == len(phantom.lesions)


def test_the_mask_holds_the_voxels_of_its_lesions(findings: tuple[Finding, ...]) -> None:
    mask = masks(findings)["calcium"]
    voxel = mask.geometry.voxel_volume_mm3
    assert mask.values.sum() * voxel == pytest.approx(sum(each.volume_mm3 for each in mask.lesions))
    assert mask.what.value == "18115005"
    region = masks(findings)["heart-region"]
    assert not (mask.values & ~region.values).any()
    assert region.what.value == "80891009"


def test_findings_are_the_same_twice(phantom: Phantom, findings: tuple[Finding, ...]) -> None:
    again = analyse_calcium(phantom.volume, {})
    assert len(again) == len(findings)
    for one, other in zip(findings, again, strict=True):
        if isinstance(one, Mask) and isinstance(other, Mask):
            assert np.array_equal(one.values, other.values)
            assert one.lesions == other.lesions
        else:
            assert one == other


def test_the_blood_pool_is_measured(findings: tuple[Finding, ...]) -> None:
    blood = [
        each
        for each in findings
        if isinstance(each, Measurement) and each.tracking == "heart-region"
    ]
    assert [each.value for each in blood] == [pytest.approx(40.0, abs=15.0)]


def test_enhanced_blood_is_refused_and_named() -> None:
    bright = random_phantom(6, "cardiac", matrix=192, blood_hu=150.0, lesions=0, decoys=())
    with pytest.raises(InputError) as error:
        analyse_calcium(bright.volume, {})
    assert error.value.code == "contrast"
    assert error.value.facts["blood_pool_hu"] == pytest.approx(150.0, abs=10.0)


def test_a_volume_without_a_heart_is_refused() -> None:
    assert code_of(volume([], grid((8, 32, 32)))) == "no_heart"


def test_what_is_no_ct_is_refused() -> None:
    ct = calcium_plaque(400)
    assert code_of(replace(ct, acquisition=replace(CT, modality="MR"))) == "not_ct"
    assert code_of(replace(ct, unit="1")) == "not_hounsfield"


def test_a_time_series_is_refused() -> None:
    ct = calcium_plaque(400)
    moving = replace(ct, values=np.stack([ct.values, ct.values]), times_s=(0.0, 1.0))
    assert code_of(moving, EVERYTHING) == "time_series"


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_slices_more_than_five_millimetres_apart_are_refused(settings: Settings) -> None:
    ct = calcium_plaque(400, geometry=grid((4, 32, 32), (5.5, 0.5, 0.5)))
    with pytest.raises(InputError) as error:
        analyse_calcium(ct, settings)
    assert (error.value.code, error.value.facts) == ("slice_increment", {"millimetres": 5.5})


def test_five_millimetres_are_still_scored() -> None:
    ct = calcium_plaque(400, geometry=grid((4, 32, 32), (5.0, 0.5, 0.5)))
    assert numbers(analyse_calcium(ct, EVERYTHING)) == pytest.approx([16.0, 16.0 * 5 / 3])


def test_two_slices_hold_no_heart_but_may_be_scored_by_hand() -> None:
    ct = volume([Box((0, 4, 4), (1, 4, 4), 400)], grid((2, 16, 16)))
    assert code_of(ct) == "too_few_slices"
    assert numbers(analyse_calcium(ct, EVERYTHING))[0] == 16.0


def test_slices_that_are_not_axial_are_refused_or_named() -> None:
    coronal = grid((4, 32, 32), rotation=rotation((1, 0, 0), 90.0))
    ct = calcium_plaque(400, geometry=coronal)
    assert code_of(ct) == "not_axial"
    found = analyse_calcium(ct, EVERYTHING)
    assert "not_axial" in warnings(found)
    assert numbers(found)[0] == pytest.approx(16.0)
    tilted = calcium_plaque(400, geometry=grid((4, 32, 32), rotation=rotation((1, 0, 0), 25.0)))
    assert code_of(tilted) == "no_heart"


def test_everything_scores_the_whole_volume_without_heart_vessels_or_category() -> None:
    found = analyse_calcium(calcium_plaque(400), EVERYTHING)
    assert numbers(found) == [16.0, 16.0]
    assert numbers(found, "112056")[0] == pytest.approx(12.0)
    assert set(masks(found)) == {"calcium"}
    assert categories(found) == {}
    assert "no_region" in warnings(found)
    assert {each.site.value for each in found if isinstance(each, Measurement)} == {"38266002"}


def test_a_region_given_by_hand_needs_no_heart() -> None:
    ct = volume([Box((1, 4, 4), (1, 4, 4), 400), Box((1, 20, 20), (1, 4, 4), 400)])
    region = everywhere(ct)
    region[:, 16:] = False
    found = analyse_calcium(ct, {}, region)
    assert numbers(found) == [16.0, 16.0, 16.0, 16.0]
    assert masks(found)["heart-region"].what.value == "given_region"
    assert categories(found) == {"cac_drs": "A1", "rumberger": "11-100"}
    assert numbers(analyse_calcium(ct, {"region": "given"}, region)) == numbers(found)


def test_a_region_that_does_not_fit_is_refused() -> None:
    ct = calcium_plaque(400)
    assert code_of(ct, {}, np.ones((1, 2, 3), np.bool_)) == "region_grid"
    assert code_of(ct, {}, np.zeros(ct.geometry.shape, np.bool_)) == "region_empty"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"region": "heart"}, "pipeline_settings"),
        ({"regions": "rule"}, "pipeline_settings"),
        ({"threshold_hu": 10}, "pipeline_settings"),
        ({"threshold_hu": "130"}, "pipeline_settings"),
        ({"threshold_hu": True}, "pipeline_settings"),
        ({"threshold_hu": float("nan")}, "pipeline_settings"),
        ({"min_area_mm2": -1.0}, "pipeline_settings"),
        ({"mass_factor": 2.0}, "pipeline_settings"),
        ({"kv_table": "slicer"}, "pipeline_settings"),
        ({"kv_table": "graeni2018", "threshold_hu": 177}, "pipeline_settings"),
        ({"region": "given"}, "region_missing"),
    ],
)
def test_settings_that_are_unknown_or_make_no_sense_are_refused(
    settings: Settings, code: str
) -> None:
    with pytest.raises(ConfigError, match=code):
        analyse_calcium(calcium_plaque(400), settings)


def test_a_region_and_everything_contradict_each_other() -> None:
    ct = calcium_plaque(400)
    with pytest.raises(ConfigError, match="pipeline_settings"):
        analyse_calcium(ct, EVERYTHING, everywhere(ct))


def test_nothing_found_is_a_score_of_nothing() -> None:
    ct = volume([])
    found = analyse_calcium(ct, {}, everywhere(ct))
    assert numbers(found) == [0.0, 0.0]
    assert categories(found) == {"cac_drs": "A0", "rumberger": "0"}
    assert masks(found)["calcium"].lesions == ()


def test_categories_follow_the_score_corrected_for_spacing() -> None:
    # 36 px = 9 mm2, weight 4: 36 in each of 3 slices; 108 plain, 36 at 1 mm.
    ct = calcium_plaque(
        400, rows=6, columns=6, slices=3, geometry=grid((5, 32, 32), (1.0, 0.5, 0.5))
    )
    found = analyse_calcium(ct, {}, everywhere(ct))
    assert numbers(found)[:2] == pytest.approx([108.0, 36.0])
    assert categories(found) == {"cac_drs": "A1", "rumberger": "11-100"}


def test_another_threshold_is_named_and_never_categorised() -> None:
    ct = calcium_plaque(120)
    found = analyse_calcium(ct, {"threshold_hu": 110.0}, everywhere(ct))
    assert numbers(found)[0] == 4.0
    assert categories(found) == {}
    assert "other_threshold" in warnings(found)
    scores = [
        each for each in found if isinstance(each, Measurement) and each.unit.value == "{score}"
    ]
    assert all("threshold 110 HU" in each.derivation for each in scores)
    recorded = [each for each in found if isinstance(each, Measurement)]
    assert [each.value for each in recorded if each.what.value == "122657"] == [110.0]


def test_a_table_for_low_voltage_is_used_only_when_named_and_recorded() -> None:
    low = replace(calcium_plaque(180), acquisition=replace(CT, tube_voltage_kv=80.0))
    plain = analyse_calcium(low, EVERYTHING)
    assert numbers(plain)[0] == 4.0
    assert "tube_voltage" in warnings(plain)
    named = analyse_calcium(low, {"kv_table": "graeni2018"}, everywhere(low))
    assert numbers(named)[0] == 4.0
    assert categories(named) == {}
    assert "kv_table" in warnings(named)
    assert "177/271/408/544 HU of table graeni2018" in derivations(named)[0]
    below = replace(calcium_plaque(170), acquisition=low.acquisition)
    assert numbers(analyse_calcium(below, {"kv_table": "graeni2018"}, everywhere(low)))[0] == 0.0


def test_a_table_without_the_voltage_is_refused() -> None:
    settings: Settings = {"kv_table": "graeni2018", "region": "everything"}
    assert numbers(analyse_calcium(calcium_plaque(400), settings))[0] == 16.0
    for voltage in (100.0, None):
        other = replace(calcium_plaque(400), acquisition=replace(CT, tube_voltage_kv=voltage))
        assert code_of(other, settings) == "kv_not_in_table"


def test_mass_is_given_with_its_factor_and_warned_of_until_calibrated() -> None:
    ct = calcium_plaque(400)
    default = analyse_calcium(ct, EVERYTHING)
    assert numbers(default, "112057") == [pytest.approx(100 / 130 * 1e-3 * 400 * 12)]
    assert "mass_factor" in warnings(default)
    own = analyse_calcium(ct, {**EVERYTHING, "mass_factor": 0.0008})
    assert numbers(own, "112057") == [pytest.approx(0.0008 * 400 * 12)]
    assert "mass_factor" not in warnings(own)


def test_no_mass_is_guessed_for_another_voltage() -> None:
    ct = replace(calcium_plaque(400), acquisition=replace(CT, tube_voltage_kv=100.0))
    assert numbers(analyse_calcium(ct, EVERYTHING), "112057") == []


def test_a_single_slice_has_no_interpolated_volume() -> None:
    ct = volume([Box((0, 4, 4), (1, 4, 4), 400)], grid((1, 16, 16)))
    assert len(numbers(analyse_calcium(ct, EVERYTHING), "112056")) == 1


def test_a_standard_scan_has_nothing_to_warn_of() -> None:
    ct = replace(calcium_plaque(400, slices=2), acquisition=GATED)
    region = everywhere(ct)
    region[0] = region[-1] = False
    found = analyse_calcium(ct, {"mass_factor": 0.0008}, region)
    assert warnings(found) == set()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"slice_thickness_mm": 1.25}, "slice_thickness"),
        ({"slice_thickness_mm": None}, "no_thickness"),
        ({"tube_voltage_kv": 100.0}, "tube_voltage"),
        ({"tube_voltage_kv": None}, "no_voltage"),
        ({"kernel": "B70f"}, "sharp_kernel"),
        ({"gated": False}, "not_gated"),
        ({"contrast_agent": True}, "contrast_named"),
        ({"notes": ("padding_clipped",)}, "padding_clipped"),
        ({"notes": ("duplicates_dropped",)}, "duplicates"),
        ({"notes": ("single_slice",)}, "single_slice"),
    ],
)
def test_each_departure_from_the_standard_is_warned_of(change: dict[str, Any], code: str) -> None:
    ct = replace(calcium_plaque(400), acquisition=replace(GATED, **change))
    assert code in warnings(analyse_calcium(ct, EVERYTHING))


def test_geometry_and_metal_are_warned_of() -> None:
    sheared = grid((4, 32, 32), (2.5, 0.5, 0.5), shear_mm=0.5)
    found = warnings(analyse_calcium(calcium_plaque(2500, geometry=sheared), EVERYTHING))
    assert {"gantry_tilt", "slice_spacing", "metal"} <= found


def test_noise_and_a_cut_region_are_warned_of() -> None:
    geometry = grid((4, 128, 128))
    draw = np.random.default_rng(2)
    values = draw.normal(40.0, 30.0, geometry.shape).astype(np.int16)
    ct = replace(volume([], geometry), values=values)
    assert noise_hu(ct, everywhere(ct)) == pytest.approx(30.0, rel=0.1)
    assert {"image_noise", "heart_cut_off"} <= warnings(analyse_calcium(ct, {}, everywhere(ct)))
    quiet = replace(ct, values=draw.normal(40.0, 12.0, geometry.shape).astype(np.int16))
    assert noise_hu(quiet, everywhere(quiet)) == pytest.approx(12.0, rel=0.1)
    assert "image_noise" not in warnings(analyse_calcium(quiet, {}, everywhere(quiet)))


def test_too_little_tissue_has_no_noise() -> None:
    ct = volume([])
    assert np.isnan(noise_hu(ct, np.zeros(ct.geometry.shape, np.bool_)))
    assert not cuts_heart(np.zeros(ct.geometry.shape, np.bool_), ct.geometry)


@pytest.mark.parametrize(
    ("areas_px", "cut"),
    [((0, 50, 100, 60, 40), False), ((5, 50, 100, 60, 40), True), ((0, 50, 100, 90, 80), True)],
    ids=["ends below, vessels above", "goes on below", "begins within the heart"],
)
@pytest.mark.parametrize("upwards", [True, False])
def test_a_scan_that_ends_within_the_heart_is_told(
    areas_px: tuple[int, ...], cut: bool, upwards: bool
) -> None:
    """Pixels of 25 mm2, slices from below upwards or the other way."""
    geometry = grid((5, 10, 10), (3.0 if upwards else -3.0, 5.0, 5.0))
    region = np.zeros(geometry.shape, np.bool_)
    for k, area in enumerate(areas_px if upwards else reversed(areas_px)):
        region[k].ravel()[:area] = True
    assert cuts_heart(region, geometry) is cut


@pytest.mark.parametrize("kernel", ["B70f", "Br59", "Hr60", "BONE", "BONEPLUS", "LUNG", "FC30",
                                    "FC52", "YB", "HD LUNG", "I70f", "Qr64"])  # fmt: skip
def test_kernels_for_bone_and_lung_are_sharp(kernel: str) -> None:
    assert is_sharp(kernel)


@pytest.mark.parametrize("kernel", ["B35f", "Qr36", "Sa36f", "STANDARD", "SOFT", "FC12", "FC43",
                                    "XCB", "B", "I31f", "", "UB"])  # fmt: skip
def test_kernels_for_soft_tissue_are_not(kernel: str) -> None:
    assert not is_sharp(kernel)


def test_the_pipeline_scores_the_only_volume_of_a_study() -> None:
    ct = calcium_plaque(400)
    found = PIPELINE.run(Study("1.2", (ct,)), EVERYTHING, None)
    assert numbers(found)[0] == 16.0
    with pytest.raises(InputError, match="volumes"):
        PIPELINE.run(Study("1.2", (ct, ct)), EVERYTHING, None)


def test_settings_left_out_take_their_defaults() -> None:
    assert CalciumSettings.read({}) == CalciumSettings("rule", 130.0, 1.0, 0.0, "none")


def test_every_code_and_meaning_fits_its_dicom_field(findings: tuple[Finding, ...]) -> None:
    from ai_nodes.ops import ct_quality

    for code, meaning in ct_quality._WARNINGS.items():
        assert len(code) <= 16
        assert len(meaning) <= 64
    for each in findings:
        assert len(each.what.value) <= 16
        assert len(each.what.meaning) <= 64
        if isinstance(each, Observation):
            assert len(each.value.meaning) <= 64


@pytest.mark.parametrize("seed", [1, 3, 7, 11])
def test_phantoms_of_the_command_line_score_as_planned(seed: int) -> None:
    made = demo_phantom(seed, matrix=256)
    found = analyse_calcium(made.volume, {})
    scores = [one.value for one in found if isinstance(one, Measurement)]
    assert scores[0] == pytest.approx(made.score, rel=1e-9)
    assert PIPELINE.headline(found).startswith(f"Agatston {made.score:.0f} AU, CAC-DRS A")


def test_headline_tells_both_scores_where_slices_are_not_three_millimetres_apart() -> None:
    ct = calcium_plaque(450, geometry=grid((4, 32, 32), (1.5, 0.5, 0.5)))
    everywhere = np.ones(ct.geometry.shape, np.bool_)
    line = PIPELINE.headline(analyse_calcium(ct, {}, everywhere))
    assert line.startswith("Agatston 16 AU, corrected for spacing 8 AU, CAC-DRS A1")
