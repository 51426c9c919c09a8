"""Scores whose answers follow on paper, and equal those of a plain loop on anything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from scipy import ndimage

from ai_nodes.ops.agatston import calcium_mask, find_calcium, interpolated_volume_mm3
from dicom_services.domain.agatston import MASS_FACTOR, density_weight, least_pixels
from dicom_services.domain.cac_category import cac_drs, rumberger
from dicom_services.domain.findings import Lesion
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.vessels import CORONARY_ARTERIES, rescore, vessels_with_calcium
from dicom_services.domain.volume import Volume
from dicom_services.errors import InputError
from tests.phantoms import HOUNSFIELD, Box, calcium_plaque, grid, rotation, volume

EIGHT = np.ones((3, 3), np.int8)


def score(ct: Volume, **how: Any) -> float:
    return find_calcium(ct, CORONARY_ARTERIES, **how).agatston


def lesions(ct: Volume, **how: Any) -> tuple[Lesion, ...]:
    return find_calcium(ct, CORONARY_ARTERIES, **how).lesions


def plain_score(values: NDArray[Any], area_mm2: float, region: NDArray[Any] | None = None) -> float:
    """Agatston 1990 as a loop over slices and labels, by scipy."""
    total = 0.0
    for k, plane in enumerate(values):
        bright = plane >= 130
        if region is not None:
            bright = bright & region[k]
        labels, count = ndimage.label(bright, EIGHT)
        for n in range(1, count + 1):
            hu = plane[labels == n]
            if hu.size * area_mm2 >= 1.0 - 1e-9:
                total += hu.size * area_mm2 * min(4, int(hu.max()) // 100 if hu.max() >= 200 else 1)
    return total


@pytest.mark.parametrize(
    ("peak_hu", "weight"),
    [(129, 0), (130, 1), (199, 1), (200, 2), (299, 2), (300, 3), (399, 3), (400, 4), (3071, 4)],
)
def test_score_is_area_times_density_weight(peak_hu: int, weight: int) -> None:
    assert score(calcium_plaque(peak_hu)) == 4.0 * weight


def test_two_slices_of_eight_pixels_score_sixteen_and_measure_two_cubic_millimetres() -> None:
    # CalciumScoring.jl, test/agatston.jl: 8 px of 0.25 mm2 = 2 mm2, times 4, in 2 slices.
    ct = volume([Box((1, 4, 4), (2, 4, 2), 400)], grid((4, 16, 16), (0.5, 0.5, 0.5)))
    found = find_calcium(ct, CORONARY_ARTERIES)
    assert found.agatston == 16.0
    assert found.volume_mm3 == 2.0
    assert found.agatston_by_spacing == pytest.approx(16.0 * 0.5 / 3.0)
    assert [lesion.score for lesion in found.lesions] == [16.0]


@pytest.mark.parametrize(("rows", "columns", "expected"), [(2, 2, 4.0), (1, 3, 0.0), (1, 4, 4.0)])
def test_an_area_of_one_square_millimetre_counts_and_less_does_not(
    rows: int, columns: int, expected: float
) -> None:
    assert score(calcium_plaque(400, rows=rows, columns=columns)) == expected


@pytest.mark.parametrize("spacing_mm", [0.1, 0.2, 0.25, 0.5, 1.0])
def test_pixels_that_add_up_to_one_square_millimetre_reach_it(spacing_mm: float) -> None:
    geometry = grid((1, 4, 4), (3.0, spacing_mm, spacing_mm))
    assert least_pixels(1.0, geometry.pixel_area_mm2) == round(1.0 / spacing_mm**2)


def test_the_least_area_can_be_set() -> None:
    ct = calcium_plaque(400, rows=1, columns=3)
    assert score(ct, min_area_mm2=0.75) == 3.0
    assert score(ct, min_area_mm2=0.0) == 3.0


def test_pixels_touching_at_corners_are_one_lesion_with_one_weight() -> None:
    # Four pixels on a diagonal: 1.0 mm2 together; by edges alone each would be 0.25 and nothing.
    boxes = [Box((1, 5 + n, 5 + n), (1, 1, 1), 450 if n == 0 else 140) for n in range(4)]
    assert score(volume(boxes)) == 4.0


def test_islands_of_one_lesion_are_weighted_each_by_its_own_peak() -> None:
    # A bridge in slice 1 makes one lesion of two islands in slice 2: weights 4 and 1, not 4 and 4.
    boxes = [
        Box((1, 8, 4), (1, 2, 10), 210),
        Box((2, 8, 4), (1, 2, 2), 450),
        Box((2, 8, 12), (1, 2, 2), 150),
    ]
    found = lesions(volume(boxes))
    assert len(found) == 1
    assert found[0].score == 5.0 * 2 + 1.0 * 4 + 1.0 * 1
    assert [part.weight for part in found[0].slices] == [2, 4, 1]


def test_peak_is_of_the_slice_not_of_the_lesion() -> None:
    boxes = [Box((1, 4, 4), (1, 2, 2), 450), Box((2, 4, 4), (1, 2, 2), 150)]
    assert score(volume(boxes)) == 4.0 + 1.0


def test_lesions_apart_get_ids_by_falling_score() -> None:
    boxes = [Box((1, 4, 4), (1, 2, 2), 150), Box((1, 20, 20), (1, 4, 4), 400)]
    found = lesions(volume(boxes))
    assert [(lesion.id, lesion.score) for lesion in found] == [("L1", 16.0), ("L2", 1.0)]


def test_a_lesion_knows_where_it_lies_in_the_patient() -> None:
    geometry = grid((4, 16, 16), (3.0, 0.5, 0.25), origin_mm=(-10.0, 20.0, 100.0))
    lesion = lesions(volume([Box((1, 4, 8), (2, 2, 4), 300)], geometry))[0]
    # Columns 8..11, rows 4..5, slices 1..2: centre (9.5, 4.5, 1.5).
    assert lesion.center_mm == pytest.approx((-10.0 + 9.5 * 0.25, 20.0 + 2.25, 100.0 + 4.5))
    assert lesion.tracking == "lesion at -8 22 104"
    assert [(part.k, part.row, part.column) for part in lesion.slices] == [
        (1, 4.5, 9.5),
        (2, 4.5, 9.5),
    ]
    assert lesion.volume_mm3 == pytest.approx(16 * 3.0 * 0.125)


def test_tracking_stays_when_slices_are_reversed_or_other_lesions_come() -> None:
    boxes = [Box((1, 4, 4), (1, 3, 3), 250), Box((2, 20, 12), (1, 4, 4), 400)]
    ct = volume(boxes)
    keys = {lesion.tracking for lesion in lesions(ct)}
    assert {lesion.tracking for lesion in lesions(reversed_slices(ct))} == keys
    more = volume([*boxes, Box((1, 26, 26), (1, 5, 5), 900)])
    assert keys < {lesion.tracking for lesion in lesions(more)}


def test_lesions_in_the_same_millimetre_have_different_keys() -> None:
    geometry = grid((1, 16, 16), (3.0, 0.1, 0.1))
    boxes = [Box((0, 0, 0), (1, 2, 2), 300), Box((0, 0, 3), (1, 2, 2), 200)]
    found = lesions(volume(boxes, geometry), min_area_mm2=0.0)
    assert [each.tracking for each in found] == ["lesion at 0 0 0", "lesion at 0 0 0 no. 2"]


def reversed_slices(ct: Volume) -> Volume:
    affine = ct.geometry.affine.copy()
    affine[:3, 3] += (ct.geometry.shape[0] - 1) * affine[:3, 0]
    affine[:3, 0] *= -1.0
    geometry = Geometry(affine, ct.geometry.shape, ct.geometry.frame_uid)
    return Volume(ct.values[::-1], geometry, HOUNSFIELD, ct.series, ct.acquisition)


@pytest.mark.parametrize("spacing_mm", [0.5, 1.5, 3.0, 5.0])
def test_the_corrected_score_is_the_plain_one_times_spacing_by_three(spacing_mm: float) -> None:
    ct = calcium_plaque(400, geometry=grid((4, 32, 32), (spacing_mm, 0.5, 0.5)))
    found = find_calcium(ct, CORONARY_ARTERIES)
    assert found.agatston == 16.0
    assert found.agatston_by_spacing == pytest.approx(16.0 * spacing_mm / 3.0)


def test_spacing_is_measured_across_tilted_slices() -> None:
    geometry = grid((4, 32, 32), (3.0, 0.5, 0.5), shear_mm=1.0)
    found = find_calcium(calcium_plaque(400, geometry=geometry), CORONARY_ARTERIES)
    assert found.agatston_by_spacing == pytest.approx(16.0)
    assert found.volume_mm3 == pytest.approx(4.0 * 3.0)


@pytest.mark.parametrize("degrees", [0.0, 17.0, 90.0])
def test_the_score_does_not_depend_on_how_the_patient_lies(degrees: float) -> None:
    turn = rotation((1.0, 2.0, 0.5), degrees)
    geometry = grid((4, 32, 32), (2.5, 0.4, 0.7), rotation=turn, origin_mm=(50.0, -7.0, 9.0))
    found = find_calcium(calcium_plaque(250, geometry=geometry), CORONARY_ARTERIES)
    assert found.agatston == pytest.approx(16 * 0.28 * 2)
    assert found.volume_mm3 == pytest.approx(16 * 0.28 * 2.5)
    assert found.lesions[0].center_mm == pytest.approx(
        tuple(geometry.to_patient_mm(np.array([1.0, 15.5, 15.5])))
    )


def test_rows_and_columns_may_differ_in_spacing() -> None:
    # 4 x 4 pixels of 0.3 x 0.8 mm: 3.84 mm2, weight 3.
    ct = calcium_plaque(350, geometry=grid((4, 32, 32), (3.0, 0.3, 0.8)))
    assert score(ct) == pytest.approx(3.84 * 3)


def test_only_what_lies_in_the_region_counts() -> None:
    ct = volume([Box((1, 4, 4), (1, 4, 4), 400), Box((1, 20, 20), (1, 4, 4), 400)])
    region = np.zeros(ct.geometry.shape, np.bool_)
    region[:, :8] = True
    assert score(ct, region=region) == 16.0
    region[:, 6:] = False
    assert score(ct, region=region) == 8.0
    assert score(ct, region=np.zeros_like(region)) == 0.0
    assert calcium_mask(ct, region=region).sum() == 8


@pytest.mark.parametrize(
    ("threshold", "peak_hu", "weight"),
    [(100, 99, 0), (100, 100, 1), (100, 199, 1), (100, 200, 2), (160, 159, 0), (160, 160, 1),
     (250, 249, 0), (250, 250, 2), (250, 400, 4)],
)  # fmt: skip
def test_another_threshold_moves_only_the_lowest_weight(
    threshold: float, peak_hu: int, weight: int
) -> None:
    steps = (float(threshold), 200.0, 300.0, 400.0)
    assert density_weight(peak_hu, steps) == weight
    assert score(calcium_plaque(peak_hu), steps_hu=steps) == 4.0 * weight


def test_a_weight_of_nothing_is_nothing() -> None:
    assert density_weight(float("nan")) == 0


def test_decimal_values_are_not_rounded_up_to_the_threshold() -> None:
    ct = calcium_plaque(400)
    values = np.where(ct.values == 400, np.float32(129.9), np.float32(0.0))
    decimals = replace(ct, values=values)
    assert score(decimals) == 0.0
    above = replace(ct, values=np.where(values > 0, np.float32(199.75), values))
    assert score(above) == 4.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 0.9))
def test_score_equals_a_plain_loop_and_keeps_when_turned_moved_or_split(
    seed: int, share: float
) -> None:
    draw = np.random.default_rng(seed)
    bright = ndimage.binary_opening(draw.random((5, 24, 30)) < share, np.ones((1, 1, 2)))
    values = np.where(bright, draw.integers(130, 900, bright.shape), 20).astype(np.int16)
    geometry = grid((5, 24, 30), (3.0, 0.6, 0.6))
    ct = Volume(values, geometry, HOUNSFIELD, "1.2")
    region = draw.random(bright.shape) < 0.9
    expected = plain_score(values, 0.36)
    assert score(ct) == pytest.approx(expected)
    assert score(ct, region=region) == pytest.approx(plain_score(values, 0.36, region))
    for axis in (0, 1, 2):
        flipped = replace(ct, values=np.flip(values, axis))
        assert score(flipped) == pytest.approx(expected)
    moved = np.pad(values, ((1, 0), (3, 0), (2, 0)))[:5, :, :]
    wider = Volume(moved, grid(moved.shape, (3.0, 0.6, 0.6)), HOUNSFIELD, "1.2")
    assert score(wider) == pytest.approx(plain_score(moved, 0.36))
    parts = [replace(ct, values=values[a:b], geometry=grid((b - a, 24, 30), (3.0, 0.6, 0.6)))
             for a, b in ((0, 2), (2, 5))]  # fmt: skip
    assert sum(score(part) for part in parts) == pytest.approx(expected)


def test_interpolated_volume_of_a_block_follows_the_line_between_slices() -> None:
    # 400 HU in two slices, water beyond: the line falls to 130 HU after 0.675 of the way.
    ct = calcium_plaque(400, slices=2)
    volume_mm3 = interpolated_volume_mm3(ct, calcium_mask(ct))
    assert volume_mm3 == pytest.approx(16 * 0.25 * 3.0 * (1.0 + 2 * (400 - 130) / 400))


def test_interpolated_volume_equals_dense_interpolation() -> None:
    draw = np.random.default_rng(7)
    ct = volume([Box((1, 5, 5), (3, 6, 6), 300)], grid((5, 16, 16), (2.0, 0.5, 0.5)))
    values = ct.values + draw.integers(-60, 60, ct.values.shape).astype(np.int16)
    noisy = replace(ct, values=values)
    steps = 500
    at = (np.arange(steps * 4) + 0.5) / steps
    below = at.astype(int)
    part = (at - below)[:, None, None]
    dense = (1 - part) * values[below] + part * values[below + 1]
    expected = float((dense >= 130).sum()) / steps * 2.0 * 0.25
    found = interpolated_volume_mm3(noisy, calcium_mask(noisy))
    assert found == pytest.approx(expected, rel=0.002)


def test_interpolated_volume_keeps_when_slices_are_reversed() -> None:
    ct = volume([Box((1, 5, 5), (2, 6, 6), 300), Box((3, 6, 6), (1, 3, 3), 180)])
    there = interpolated_volume_mm3(ct, calcium_mask(ct))
    back = reversed_slices(ct)
    assert interpolated_volume_mm3(back, calcium_mask(back)) == pytest.approx(there)


def test_interpolated_volume_ends_half_way_to_what_is_bright_but_not_counted() -> None:
    ct = calcium_plaque(400, slices=2)
    region = np.zeros(ct.geometry.shape, np.bool_)
    region[1] = True
    counted = calcium_mask(ct, region=region)
    expected = 16 * 0.25 * 3.0 * (0.5 + (400 - 130) / 400)
    assert interpolated_volume_mm3(ct, counted) == pytest.approx(expected)


@pytest.mark.parametrize("slices", [1, 4])
def test_nothing_found_adds_up_to_nothing(slices: int) -> None:
    ct = volume([], grid((slices, 8, 8)))
    found = find_calcium(ct, CORONARY_ARTERIES)
    assert (found.agatston, found.volume_mm3, found.mass_mg(1.0), found.lesions) == (0, 0, 0, ())
    assert interpolated_volume_mm3(ct, calcium_mask(ct)) == 0.0


def test_mass_is_factor_times_mean_times_volume() -> None:
    # 16 px x 0.75 mm3 = 12 mm3 of 400 HU.
    found = find_calcium(calcium_plaque(400), CORONARY_ARTERIES)
    assert found.mass_mg(0.0008) == pytest.approx(0.0008 * 400 * 12)
    assert pytest.approx(100.0) == MASS_FACTOR * 130.0 * 1000.0


def qrm(diameter_mm: float, density: float, fine: int = 5) -> tuple[Volume, float]:
    """One cylinder of the QRM calcium phantom, height = diameter, and its mass in mg.

    Density in mg/cm3 is shown as 1.3 HU each, with the partial volume of 0.3 x 0.3 x 0.5 mm
    voxels.
    """
    spacing = (0.5, 0.3, 0.3)
    counts = [int(np.ceil(1.5 * diameter_mm / step)) + 4 for step in spacing]
    z, y, x = (
        (np.arange(count * fine) + 0.5) / fine * step - 0.5 * count * step
        for count, step in zip(counts, spacing, strict=True)
    )
    disc = np.hypot(y[:, None], x) <= 0.5 * diameter_mm
    inside = (np.abs(z) <= 0.5 * diameter_mm)[:, None, None] & disc
    blocks = inside.reshape(counts[0], fine, counts[1], fine, counts[2], fine)
    share = blocks.mean(axis=(1, 3, 5))
    values = np.rint(1.3 * density * share).astype(np.int16)
    shape = (counts[0], counts[1], counts[2])
    truth = np.pi / 4 * diameter_mm**3 * density * 1e-3
    return Volume(values, grid(shape, spacing), HOUNSFIELD, "1.2"), float(truth)


@pytest.mark.parametrize(("diameter_mm", "tolerance"), [(5.0, 0.05), (3.0, 0.15)])
@pytest.mark.parametrize("density", [200.0, 400.0, 800.0])
def test_mass_of_the_digital_phantom_is_found(
    diameter_mm: float, tolerance: float, density: float
) -> None:
    ct, truth = qrm(diameter_mm, density)
    found = find_calcium(ct, CORONARY_ARTERIES).mass_mg(1e-3 / 1.3)
    assert found == pytest.approx(truth, rel=tolerance)


def test_total_mass_of_the_digital_phantom_is_found() -> None:
    total, truth = 0.0, 0.0
    for diameter_mm in (5.0, 3.0, 1.0):
        for density in (200.0, 400.0, 800.0):
            ct, mass = qrm(diameter_mm, density)
            total += find_calcium(ct, CORONARY_ARTERIES).mass_mg(1e-3 / 1.3)
            truth += mass
    assert truth == pytest.approx(168.232, abs=0.001)
    assert total == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize(
    ("value", "drs", "group"),
    [(0.0, "A0", "0"), (0.4, "A1", "1-10"), (1.0, "A1", "1-10"), (10.0, "A1", "1-10"),
     (11.0, "A1", "11-100"), (99.9, "A1", "11-100"), (100.0, "A2", "11-100"),
     (101.0, "A2", "101-400"), (299.9, "A2", "101-400"), (300.0, "A3", "101-400"),
     (400.0, "A3", "101-400"), (400.5, "A3", ">400"), (2500.0, "A3", ">400")],
)  # fmt: skip
def test_categories_begin_where_the_papers_say(value: float, drs: str, group: str) -> None:
    assert (cac_drs(value).value, rumberger(value).value) == (drs, group)


def test_the_number_of_vessels_is_named_only_where_it_is_known() -> None:
    assert cac_drs(150.0, 3).value == "A2/N3"
    assert cac_drs(0.0, 0).value == "A0"


def three_lesions() -> tuple[Lesion, ...]:
    return lesions(
        volume(
            [
                Box((1, 4, 4), (1, 4, 4), 400),
                Box((1, 16, 4), (1, 4, 4), 300),
                Box((2, 4, 20), (1, 4, 4), 200),
            ]
        )
    )


def test_lesions_nobody_assigned_are_unassigned() -> None:
    scores = rescore(three_lesions())
    assert list(scores) == ["total", "unassigned"]
    assert scores["total"] == scores["unassigned"]
    assert (scores["total"].agatston, scores["total"].lesions) == (36.0, 3)
    assert scores["total"].volume_mm3 == 3 * 12.0
    assert vessels_with_calcium(scores) is None


def test_scores_follow_what_a_reader_assigns_and_excludes() -> None:
    scores = rescore(three_lesions(), {"L1": "LAD", "L2": "LAD", "L3": "RCA"}, excluded={"L2"})
    assert list(scores) == ["total", "LAD", "RCA"]
    assert [scores[name].agatston for name in scores] == [24.0, 16.0, 8.0]
    assert vessels_with_calcium(scores) == 2
    assert rescore(three_lesions(), excluded={"L1", "L2", "L3"})["total"].agatston == 0.0


@pytest.mark.parametrize(
    ("assignments", "excluded", "code"),
    [
        ({"L9": "LAD"}, (), "lesion_unknown"),
        ({}, ("L9",), "lesion_unknown"),
        ({"L1": "aorta"}, (), "vessel_unknown"),
    ],
)
def test_an_unknown_lesion_or_vessel_is_refused(
    assignments: dict[str, str], excluded: tuple[str, ...], code: str
) -> None:
    with pytest.raises(InputError, match=code):
        rescore(three_lesions(), assignments, excluded)


def test_real_slices_score_as_a_plain_loop_over_their_pixels(shared_data: Path) -> None:
    folder = shared_data / "ct-torso/tests/reference_files/example_ct_dicom"
    slices = [dcmread(file) for file in sorted(folder.iterdir())]
    slices.sort(key=lambda each: float(each.ImagePositionPatient[2]))
    first = slices[0]
    stored = np.stack([each.pixel_array.astype(np.int32) for each in slices])
    hu = stored * int(first.RescaleSlope) + int(first.RescaleIntercept)
    rows, columns = (float(value) for value in first.PixelSpacing)
    step = float(slices[1].ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    geometry = grid(hu.shape, (step, rows, columns))
    ct = Volume(hu.astype(np.int16), geometry, HOUNSFIELD, "1.2")
    expected = plain_score(hu, rows * columns)
    assert expected > 1000.0
    assert score(ct) == pytest.approx(expected, rel=1e-12)
