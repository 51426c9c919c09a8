"""Overlap, votes and surface distances, against counts on paper, SimpleITK and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ai_nodes.ops.overlap import (
    agreement,
    band,
    dice,
    iou,
    majority,
    pairwise_dice,
    vote,
    vote_by_confidence,
    vote_labels,
)
from ai_nodes.ops.surface_distance import surface_distances
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError


def box(shape, first, size) -> np.ndarray:
    mask = np.zeros(shape, np.bool_)
    mask[tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))] = True
    return mask


def grid(shape, spacing_mm=(1.0, 1.0, 1.0)) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing_mm)[::-1]
    return Geometry(affine, shape, "1.2")


LEFT = box((4, 6, 8), (1, 1, 1), (2, 2, 4))
RIGHT = box((4, 6, 8), (1, 1, 3), (2, 2, 4))
NONE = np.zeros((4, 6, 8), np.bool_)


def test_two_boxes_of_sixteen_that_share_eight():
    assert dice(LEFT, RIGHT) == pytest.approx(16 / 32)
    assert iou(LEFT, RIGHT) == pytest.approx(8 / 24)


def test_two_empty_masks_agree_and_one_alone_does_not():
    assert (dice(NONE, NONE), iou(NONE, NONE)) == (1.0, 1.0)
    assert (dice(NONE, LEFT), iou(LEFT, NONE)) == (0.0, 0.0)


def test_overlap_is_what_simpleitk_measures():
    masks = np.random.default_rng(1).random((2, 70, 80, 90)) < 0.3
    theirs = SimpleITK.LabelOverlapMeasuresImageFilter()
    theirs.Execute(*(SimpleITK.GetImageFromArray(each.astype(np.uint8)) for each in masks))
    assert dice(*masks) == pytest.approx(theirs.GetDiceCoefficient(), abs=1e-12)
    assert iou(*masks) == pytest.approx(theirs.GetJaccardCoefficient(), abs=1e-12)


def test_all_pairs_at_once_are_the_pairs_one_by_one():
    masks = np.random.default_rng(2).random((4, 9, 9, 9)) < [
        [[[0.5]]],
        [[[0.2]]],
        [[[0.0]]],
        [[[0.9]]],
    ]
    together = pairwise_dice(masks)
    for a in range(4):
        for b in range(4):
            assert together[a, b] == pytest.approx(dice(masks[a], masks[b]))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1.0, "high"),
        (0.90, "high"),
        (0.8999, "review"),
        (0.75, "review"),
        (0.7499, "low"),
        (0, "low"),
    ],
)
def test_bands_begin_at_their_least_dice(value, name):
    assert band(value) == name


def test_each_rater_is_held_against_the_fusion():
    ours = agreement([LEFT, RIGHT, NONE], LEFT)
    assert [one.dice for one in ours] == [1.0, 0.5, 0.0]
    assert [one.iou for one in ours] == [1.0, pytest.approx(1 / 3), 0.0]
    assert [one.band for one in ours] == ["high", "low", "low"]


def test_a_majority_is_more_than_half():
    assert (majority([LEFT, RIGHT, NONE]) == (LEFT & RIGHT)).all()
    assert not majority([LEFT, NONE]).any()
    assert (majority([LEFT]) == LEFT).all()


@pytest.mark.parametrize("raters", [2, 3, 4, 7])
def test_the_majority_is_the_vote_of_labels_and_of_equal_weights(raters):
    masks = np.random.default_rng(3).random((raters, 70, 71, 72)) < 0.5
    most = majority(masks)
    assert (most == (masks.sum(axis=0) > raters / 2)).all()
    assert (vote(masks, [1.0] * raters) == most).all()
    labels, undecided = vote_labels(masks.view(np.uint8))
    assert ((labels == 1) == most).all()
    assert undecided == 2


def test_label_votes_are_those_of_simpleitk():
    labels = np.random.default_rng(4).choice(5, (5, 10, 11, 12)).astype(np.uint8)
    images = [SimpleITK.GetImageFromArray(each) for each in labels]
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.LabelVoting(images))
    ours, undecided = vote_labels(labels)
    np.testing.assert_array_equal(ours, theirs)
    assert undecided == 5


def test_a_rater_with_more_than_half_of_the_weight_decides_alone():
    assert (vote([LEFT, RIGHT, NONE], [0.9, 0.4, 0.3]) == LEFT).all()
    labels, undecided = vote_labels([LEFT.view(np.uint8) * 3, RIGHT.view(np.uint8)], [2.0, 1.0])
    assert set(np.unique(labels)) == {0, 3}
    assert undecided == 4


def test_sure_raters_move_the_mean_more_than_unsure_ones():
    said = np.array([[0.95, 0.1], [0.4, 0.4], [0.4, 0.2]], np.float32)
    np.testing.assert_allclose(vote_by_confidence(said), [1.75 / 3, 0.7 / 3], rtol=1e-6)
    weighted = vote_by_confidence(said, [0.0, 1.0, 1.0])
    np.testing.assert_allclose(weighted, [0.4, 0.3], rtol=1e-6)


def test_votes_without_usable_weights_are_refused():
    for wrong in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, math.nan]):
        with pytest.raises(InputError, match="vote_weights"):
            vote([LEFT, RIGHT], wrong)


def test_votes_of_nothing_and_of_different_grids_are_refused():
    for ask in (
        lambda: majority([]),
        lambda: vote([], []),
        lambda: vote_labels([]),
        lambda: agreement([], LEFT),
        lambda: vote_by_confidence(np.zeros((0, 3), np.float32)),
    ):
        with pytest.raises(InputError, match="no_masks"):
            ask()
    for ask in (
        lambda: dice(LEFT, LEFT[:2]),
        lambda: majority([LEFT, LEFT[:2]]),
        lambda: agreement([LEFT], LEFT[:2]),
        lambda: surface_distances(LEFT, LEFT[:2], grid(LEFT.shape)),
    ):
        with pytest.raises(InputError, match="mask_grid"):
            ask()
    with pytest.raises(InputError, match="too_many_masks"):
        majority([LEFT] * 256)
    with pytest.raises(InputError, match="probability"):
        vote_by_confidence(np.full((2, 3), 1.5, np.float32))
    with pytest.raises(InputError, match="label_range"):
        vote_labels([np.full((2, 2), 255, np.uint8)])


def test_a_box_moved_by_two_slices_is_that_far_away():
    shape = (12, 20, 20)
    first, second = box(shape, (2, 5, 5), (4, 8, 8)), box(shape, (4, 5, 5), (4, 8, 8))
    found = surface_distances(first, second, grid(shape, (3.0, 0.5, 0.5)))
    assert found.hausdorff_mm == pytest.approx(6.0)
    found = surface_distances(first, second, grid(shape, (0.5, 0.5, 0.5)))
    assert found.hausdorff_mm == pytest.approx(1.0)


def test_single_voxels_are_as_far_apart_as_their_centres():
    shape = (5, 5, 5)
    one, other = box(shape, (0, 0, 0), (1, 1, 1)), box(shape, (1, 2, 3), (1, 1, 1))
    found = surface_distances(one, other, grid(shape, (3.0, 2.0, 0.5)))
    far = math.sqrt(3.0**2 + 4.0**2 + 1.5**2)
    assert found.hausdorff_mm == pytest.approx(far)
    assert found.hausdorff_95_mm == pytest.approx(far)
    assert found.mean_mm == pytest.approx(far)


@given(st.integers(0, 2**16), st.tuples(*[st.floats(0.4, 4.0)] * 3), st.floats(-1.0, 1.0))
@settings(max_examples=20, deadline=None)
def test_surface_distances_are_those_of_brute_force_on_any_grid(seed, spacing_mm, shear):
    masks = np.random.default_rng(seed).random((2, 5, 6, 7)) < 0.4
    masks[:, 2, 2, 2] = True
    affine = grid((5, 6, 7), spacing_mm).affine.copy()
    affine[1, 0] = shear
    geometry = Geometry(affine, (5, 6, 7), "1.2")
    surfaces = []
    for mask in masks:
        padded = np.pad(mask, 1)
        buried = padded.copy()
        for axis in range(3):
            buried &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        surfaces.append(geometry.to_patient_mm(np.argwhere(mask & ~buried[1:-1, 1:-1, 1:-1])))
    apart = cdist(*surfaces)
    there, back = apart.min(axis=1), apart.min(axis=0)
    found = surface_distances(*masks, geometry)
    assert found.hausdorff_mm == pytest.approx(max(there.max(), back.max()))
    most = max(np.percentile(there, 95), np.percentile(back, 95))
    assert found.hausdorff_95_mm == pytest.approx(most)
    assert found.mean_mm == pytest.approx(np.concatenate([there, back]).mean())


def test_empty_masks_are_no_distance_apart_and_one_alone_has_none():
    geometry = grid(NONE.shape)
    assert surface_distances(NONE, NONE, geometry).mean_mm == 0.0
    alone = surface_distances(NONE, LEFT, geometry)
    assert all(math.isnan(v) for v in (alone.mean_mm, alone.hausdorff_mm, alone.hausdorff_95_mm))
