"""The reader's score is the algorithm's for the same voxels, and keeps decisions apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ai_nodes.ops.agatston import calcium_mask, find_calcium
from dicom_services.domain.agatston import MASS_FACTOR, STEPS_HU
from dicom_services.domain.calcium import (
    VESSEL_ORDER,
    CountedVoxels,
    ScoredCalcium,
    components,
    score_counted,
    voxels_of_runs,
)
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.vessels import CORONARY_ARTERIES
from dicom_services.domain.volume import Volume
from dicom_services.errors import InputError
from tests.phantoms import Box, grid, volume

UNASSIGNED = VESSEL_ORDER.index("unassigned")
LAD = VESSEL_ORDER.index("LAD")
RCA = VESSEL_ORDER.index("RCA")


def counted(
    ct: Volume, mask: NDArray[np.bool_], vessel: Any = UNASSIGNED, part: Any = 0
) -> CountedVoxels:
    k, row, column = (each.astype(np.int64) for each in np.nonzero(mask))
    spread = np.zeros(mask.shape, np.int64)
    return CountedVoxels(
        k,
        row,
        column,
        ct.values[mask].astype(np.float64),
        (spread + vessel)[mask],
        (spread + part)[mask],
    )


def scored(ct: Volume, mask: NDArray[np.bool_], **how: Any) -> ScoredCalcium:
    return score_counted(counted(ct, mask), ct.geometry, **how)


def same(ours: ScoredCalcium, ct: Volume, threshold_hu: float, region: Any, area: float) -> None:
    steps = (threshold_hu, *STEPS_HU[1:])
    theirs = find_calcium(ct, CORONARY_ARTERIES, steps_hu=steps, min_area_mm2=area, region=region)
    assert ours.agatston == pytest.approx(theirs.agatston, rel=1e-12)
    assert ours.agatston_by_spacing == pytest.approx(theirs.agatston_by_spacing, rel=1e-12)
    assert ours.volume_mm3 == pytest.approx(theirs.volume_mm3, rel=1e-12)
    assert ours.mass_mg(MASS_FACTOR) == pytest.approx(theirs.mass_mg(MASS_FACTOR), rel=1e-12)
    assert len(ours.lesions) == len(theirs.lesions)
    for one, other in zip(ours.lesions, theirs.lesions, strict=True):
        assert one.score == pytest.approx(other.score)
        assert one.volume_mm3 == pytest.approx(other.volume_mm3)
        assert one.peak_hu == other.peak_hu
        assert one.center_mm == pytest.approx(other.center_mm)
        assert [part.k for part in one.slices] == sorted(part.k for part in other.slices)


@settings(max_examples=150, deadline=None)
@given(
    values=arrays.arrays(
        np.int16,
        st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 14)),
        elements=st.sampled_from([0, 60, 129, 130, 150, 199, 200, 299, 300, 399, 400, 900]),
    ),
    threshold_hu=st.sampled_from([50.0, 130.0, 130.5, 200.0, 300.0]),
    area=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    everywhere=st.booleans(),
)
def test_any_volume_scores_as_the_nodes_kernel_scores_it(
    values: NDArray[np.int16], threshold_hu: float, area: float, everywhere: bool
) -> None:
    ct = Volume(values, grid(values.shape, (2.5, 0.6, 0.7)), "[hnsf'U]", "1.2")
    region = None if everywhere else np.indices(values.shape).sum(axis=0) % 7 != 3
    bright = values >= threshold_hu
    mask = bright if region is None else bright & region
    same(
        scored(ct, mask, threshold_hu=threshold_hu, min_area_mm2=area),
        ct,
        threshold_hu,
        region,
        area,
    )


def test_a_large_noisy_volume_scores_as_the_nodes_kernel_scores_it() -> None:
    generator = np.random.default_rng(7)
    values = generator.normal(60, 80, (12, 96, 96)).astype(np.int16)
    ct = Volume(values, grid(values.shape, (1.5, 0.4, 0.4)), "[hnsf'U]", "1.2")
    kept = calcium_mask(ct)
    same(scored(ct, values >= 130), ct, 130.0, None, 1.0)
    same(scored(ct, kept), ct, 130.0, None, 1.0)


def test_two_slices_of_eight_pixels_score_sixteen() -> None:
    # CalciumScoring.jl, test/agatston.jl.
    ct = volume([Box((1, 4, 4), (2, 4, 2), 400)], grid((4, 16, 16), (0.5, 0.5, 0.5)))
    found = scored(ct, ct.values >= 130)
    assert (found.agatston, found.volume_mm3, len(found.lesions)) == (16.0, 2.0, 1)


def test_lesions_of_two_vessels_that_touch_stay_two() -> None:
    ct = volume([Box((1, 4, 4), (1, 2, 4), 150)])
    vessel = np.full(ct.values.shape, LAD)
    vessel[:, :, 6:] = RCA
    found = score_counted(counted(ct, ct.values >= 130, vessel), ct.geometry)
    assert sorted(found.vessels) == ["LAD", "RCA"]
    assert {name: one.lesions for name, one in found.by_vessel().items()} == {"LAD": 1, "RCA": 1}
    assert found.agatston == sum(one.agatston for one in found.by_vessel().values())


def test_lesions_of_two_regions_that_touch_are_weighted_apart() -> None:
    boxes = [Box((1, 4, 4), (1, 2, 2), 150), Box((1, 4, 6), (1, 2, 2), 450)]
    ct = volume(boxes)
    part = np.zeros(ct.values.shape, np.int64)
    part[:, :, 6:] = 1
    apart = score_counted(counted(ct, ct.values >= 130, LAD, part), ct.geometry)
    together = score_counted(counted(ct, ct.values >= 130, LAD), ct.geometry)
    assert (apart.agatston, len(apart.lesions)) == (5.0, 2)
    assert (together.agatston, len(together.lesions)) == (8.0, 1)


def test_nothing_counted_is_zero_and_has_a_category() -> None:
    ct = volume([])
    found = scored(ct, ct.values >= 130)
    assert (found.agatston, found.volume_mm3, found.lesions) == (0.0, 0.0, ())
    assert found.mass_mg(MASS_FACTOR) == 0.0
    categories = found.categories()
    assert categories is not None
    assert [code.value for code in categories] == ["A0", "0"]


def test_another_threshold_has_no_category() -> None:
    ct = volume([Box((1, 4, 4), (1, 2, 2), 150)])
    assert scored(ct, ct.values >= 100, threshold_hu=100.0).categories() is None


def test_vessels_count_in_the_category_once_all_lesions_have_one() -> None:
    ct = volume([Box((1, 4, 4), (1, 4, 4), 450), Box((1, 20, 20), (1, 4, 4), 450)])
    vessel = np.full(ct.values.shape, LAD)
    vessel[:, :12] = RCA
    found = score_counted(counted(ct, ct.values >= 130, vessel), ct.geometry)
    categories = found.categories()
    assert categories is not None
    assert categories[0].value.endswith("/N2")
    vessel[:, :12] = UNASSIGNED
    found = score_counted(counted(ct, ct.values >= 130, vessel), ct.geometry)
    categories = found.categories()
    assert categories is not None
    assert "/" not in categories[0].value


def test_a_lesion_is_found_by_any_of_its_voxels() -> None:
    ct = volume([Box((1, 4, 4), (1, 2, 2), 150), Box((1, 20, 20), (1, 4, 4), 400)])
    found = scored(ct, ct.values >= 130)
    assert found.lesions_at([(1, 5, 5), (1, 20, 23), (1, 0, 0), (3, 31, 31)]) == [1, 0, None, None]


def test_a_voxel_below_the_threshold_is_refused() -> None:
    ct = volume([Box((1, 4, 4), (1, 2, 2), 129)])
    with pytest.raises(InputError, match="mask_below_threshold voxels=4"):
        scored(ct, ct.values >= 129)


def test_a_voxel_of_two_vessels_is_refused() -> None:
    ct = volume([Box((1, 4, 4), (1, 2, 2), 150)])
    one = counted(ct, ct.values >= 130, LAD)
    twice = CountedVoxels(
        *(
            np.concatenate((getattr(one, name), getattr(one, name)))
            for name in ("k", "row", "column", "hu")
        ),
        np.repeat((LAD, RCA), 4),
        np.zeros(8, np.int64),
    )
    with pytest.raises(InputError, match="mask_overlap"):
        score_counted(twice, ct.geometry)


def test_runs_are_flat_row_major_and_may_pass_the_end_of_a_row() -> None:
    k, row, column, vessel = voxels_of_runs([(2, "LAD", (10, 4, 20, 1))], (4, 5, 12))
    assert k.tolist() == [2] * 5
    assert row.tolist() == [0, 0, 1, 1, 1]
    assert column.tolist() == [10, 11, 0, 1, 8]
    assert set(vessel.tolist()) == {LAD}


def test_runs_beyond_the_image_are_refused() -> None:
    assert voxels_of_runs([(0, "LM", (59, 1))], (1, 5, 12))[1].tolist() == [4]
    with pytest.raises(InputError, match="mask_outside"):
        voxels_of_runs([(0, "LM", (59, 2))], (1, 5, 12))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_components_are_those_of_a_plain_search(edges: list[tuple[int, int]]) -> None:
    one = np.array([a for a, _ in edges], np.int64)
    other = np.array([b for _, b in edges], np.int64)
    label = list(range(31))
    for _ in range(31):
        for a, b in edges:
            label[a] = label[b] = min(label[a], label[b])
    found = components(31, (one, other))
    assert [found.tolist().index(n) for n in found] == label


def test_geometry_of_one_slice_scores() -> None:
    geometry = Geometry(np.diag([3.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]], (1, 4, 4), "1.2")
    values = np.full((1, 4, 4), 200, np.int16)
    ct = Volume(values, geometry, "[hnsf'U]", "1.2")
    assert scored(ct, values >= 130).agatston == 32.0
