"""STAPLE gives what ITK gives, on real experts and on ITK's own case, and is defined everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from ai_nodes.ops.rater_patterns import rater_patterns, stack_masks
from ai_nodes.ops.staple import staple, staple_labels
from dicom_services.domain.findings import Code, Mask
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError

CASES = ("OtherEXampleFromTCIA/OtherEXampleFromTCIA", "TCGA-DU-7294/TCGA-DU-7294")
WHAT = Code("52988006", "SCT", "Lesion")


def experts(shared_data: Path, case: str) -> NDArray[np.uint8]:
    """(5, k, j, i) labels 0, 1, 2, 4 of five experts, cut to where any of them sees something."""
    folder = shared_data / "brain-glioma/BraTS-Toolkit/data" / f"{case}_brainles/segmentation"
    files = sorted(folder.glob("*.nii.gz"))
    assert len(files) == 5
    whole = np.stack([SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(f))) for f in files])
    used = [
        np.flatnonzero((whole > 0).any(axis=axes)) for axes in ((0, 2, 3), (0, 1, 3), (0, 1, 2))
    ]
    k, j, i = (slice(max(0, one[0] - 8), one[-1] + 9) for one in used)
    return np.ascontiguousarray(whole[:, k, j, i], np.uint8)


def images(masks: NDArray[np.generic]) -> list[SimpleITK.Image]:
    return [SimpleITK.GetImageFromArray(np.asarray(each, np.uint8)) for each in masks]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("label", [None, 1, 2, 4])
def test_five_experts_are_fused_as_simpleitk_fuses_them(shared_data, case, label):
    labels = experts(shared_data, case)
    masks = labels > 0 if label is None else labels == label
    theirs = SimpleITK.STAPLEImageFilter()
    probability = SimpleITK.GetArrayFromImage(theirs.Execute(images(masks)))
    ours = staple(masks)
    assert float(np.abs(ours.probability - probability).max()) <= 1e-6
    np.testing.assert_allclose(ours.sensitivity, theirs.GetSensitivity(), atol=1e-6)
    np.testing.assert_allclose(ours.specificity, theirs.GetSpecificity(), atol=1e-6)
    assert ours.iterations == theirs.GetElapsedIterations()
    assert ours.converged


@pytest.mark.parametrize("case", CASES)
def test_five_experts_label_maps_are_fused_as_simpleitk_fuses_them(shared_data, case):
    labels = experts(shared_data, case)
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(images(labels)))
    ours = staple_labels(labels)
    np.testing.assert_array_equal(ours.labels, theirs)
    assert ours.converged


def test_itks_own_published_label_case_is_fused_as_published():
    a = [0, 1, 3, 3, 4, 6, 6, 0]
    b = [1, 1, 2, 4, 4, 5, 7, 1]
    c = [0, 2, 2, 3, 5, 5, 6, 8]
    fused = staple_labels(np.array([a, b, c], np.uint8))
    assert fused.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 9]
    assert fused.undecided == 9


def test_a_confidence_weight_acts_as_in_simpleitk():
    masks = np.random.default_rng(1).random((4, 6, 7, 8)) < 0.3
    theirs = SimpleITK.STAPLEImageFilter()
    theirs.SetConfidenceWeight(0.6)
    probability = SimpleITK.GetArrayFromImage(theirs.Execute(images(masks)))
    ours = staple(masks, confidence=0.6)
    np.testing.assert_allclose(ours.probability, probability, atol=1e-6)


def test_raters_of_known_quality_are_found_out():
    random = np.random.default_rng(2)
    truth = random.random((30, 40, 40)) < 0.4
    sensitivity, specificity = (0.95, 0.9, 0.8), (0.99, 0.95, 0.9)
    masks = [
        np.where(truth, random.random(truth.shape) < p, random.random(truth.shape) > q)
        for p, q in zip(sensitivity, specificity, strict=True)
    ]
    fused = staple(masks)
    np.testing.assert_allclose(fused.sensitivity, sensitivity, atol=0.02)
    np.testing.assert_allclose(fused.specificity, specificity, atol=0.02)
    assert fused.prior == pytest.approx(float(np.mean(masks)))
    assert float((fused.mask == truth).mean()) > 0.95


def test_masks_without_a_voxel_fuse_to_nothing():
    fused = staple(np.zeros((3, 4, 5, 6), np.bool_))
    assert not fused.probability.any()
    assert fused.sensitivity.tolist() == fused.specificity.tolist() == [1.0, 1.0, 1.0]
    assert fused.converged


def test_masks_that_are_full_fuse_to_everything():
    fused = staple(np.ones((3, 4, 5, 6), np.bool_))
    assert (fused.probability == 1.0).all()
    assert fused.sensitivity.tolist() == fused.specificity.tolist() == [1.0, 1.0, 1.0]


def test_one_rater_is_believed():
    mask = np.random.default_rng(3).random((1, 4, 5, 6)) < 0.5
    np.testing.assert_array_equal(staple(mask).probability, mask[0].astype(np.float32))
    labels = np.random.default_rng(3).choice([0, 2, 5], (1, 4, 5, 6)).astype(np.uint8)
    np.testing.assert_array_equal(staple_labels(labels).labels, labels[0])


def test_raters_who_share_no_voxel_give_finite_numbers():
    masks = np.zeros((2, 1, 1, 4), np.bool_)
    masks[0, 0, 0, 1] = masks[1, 0, 0, 2] = True
    fused = staple(masks)
    assert np.isfinite(fused.probability).all()
    assert np.isfinite([*fused.sensitivity, *fused.specificity]).all()


def test_label_maps_of_background_alone_stay_background():
    fused = staple_labels(np.zeros((3, 2, 3, 4), np.uint8))
    assert not fused.labels.any()
    assert np.isfinite(fused.confusion).all()


def test_an_end_by_the_limit_is_told():
    masks = np.random.default_rng(4).random((3, 5, 5, 5)) < 0.4
    assert not staple(masks, max_iterations=1).converged
    assert not staple_labels(masks.view(np.uint8), max_iterations=1).converged


def test_more_raters_than_there_are_counters_for_are_fused_alike():
    few = np.random.default_rng(5).random((3, 6, 6, 6)) < 0.4
    many = np.concatenate([few] * 8)
    assert 2 ** len(many) > 1 << 20
    ours = staple(many)
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.STAPLE(images(many)))
    np.testing.assert_allclose(ours.probability, theirs, atol=1e-6)


def test_patterns_count_every_voxel_once_and_lead_back_to_it():
    masks = np.random.default_rng(6).random((5, 7, 9, 11)) < 0.1
    found = rater_patterns(masks)
    assert int(found.counts.sum()) == masks[0].size
    for rater, mask in enumerate(masks):
        np.testing.assert_array_equal(found.spread(found.said[:, rater].astype(np.bool_)), mask)


def test_nothing_to_fuse_is_refused():
    for nothing in ([], np.zeros((2, 0, 3, 3), np.bool_)):
        with pytest.raises(InputError, match="no_masks"):
            staple(nothing)
        with pytest.raises(InputError, match="no_masks"):
            staple_labels(nothing)
    with pytest.raises(InputError, match="no_masks"):
        stack_masks([])


def test_labels_that_leave_no_number_for_undecided_are_refused():
    with pytest.raises(InputError, match="label_range"):
        staple_labels(np.full((2, 2, 2, 2), 255, np.uint8))


def test_masks_on_different_grids_are_refused():
    with pytest.raises(InputError, match="mask_grid"):
        staple([np.zeros((2, 3, 4), np.bool_), np.zeros((2, 3, 5), np.bool_)])
    here = Geometry(np.eye(4), (2, 3, 4), "1.2")
    shifted = np.eye(4)
    shifted[0, 3] = 0.5
    there = Geometry(shifted, (2, 3, 4), "1.2")
    full = np.ones((2, 3, 4), np.bool_)
    masks = [Mask(WHAT, WHAT, "Lesion", full, geometry) for geometry in (here, there)]
    with pytest.raises(InputError, match="mask_grid"):
        stack_masks(masks)
    assert stack_masks([masks[0], masks[0]]).shape == (2, 2, 3, 4)
