"""What the heart's rule takes out: shown as lesions with their reason, in no number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from ai_nodes.ops.agatston import find_calcium
from ai_nodes.ops.heart import heart_region
from ai_nodes.ops.lookalikes import lookalikes
from ai_nodes.ops.set_aside import MOST_LESIONS, WHY, set_aside
from ai_nodes.pipelines.calcium import PIPELINE, analyse_calcium
from dicom_services.domain.findings import Code, Finding, Mask, Measurement
from dicom_services.phantom import Phantom, random_phantom
from tests.phantoms import Box, grid, volume

HEART = Code("80891009", "SCT", "Heart")
SHAPE = (7, 60, 60)
DECOYS = ("pacemaker_lead", "rib_cartilage_calcium")


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return random_phantom(5, "cardiac", matrix=256, decoys=DECOYS)


@pytest.fixture(scope="module")
def findings(phantom: Phantom) -> tuple[Finding, ...]:
    return analyse_calcium(phantom.volume, {})


def masks(found: Sequence[Finding]) -> dict[str, Mask]:
    return {each.label: each for each in found if isinstance(each, Mask)}


def flat(ct, *boxes):
    chosen = np.zeros(ct.geometry.shape, np.bool_)
    for box in boxes:
        chosen[box.where] = True
    return np.flatnonzero(chosen)


def test_the_lead_of_a_pacemaker_is_shown_and_named_as_metal(findings):
    aside = masks(findings)["Set aside"]
    assert {lesion.reason.value for lesion in aside.lesions} >= {"metal"}
    assert all(not lesion.counted for lesion in aside.lesions)
    assert [lesion.id for lesion in aside.lesions] == [
        f"S{n}" for n in range(1, len(aside.lesions) + 1)
    ]


def test_what_is_set_aside_is_bright_and_lies_outside_of_the_region(phantom, findings):
    found = masks(findings)
    aside = found["Set aside"].values
    assert phantom.volume.values[aside].min() >= 130
    assert not (aside & found["Heart region"].values).any()
    assert not (aside & found["Calcium"].values).any()


def test_the_decoys_change_no_score(phantom, findings):
    scores = [each.value for each in findings if isinstance(each, Measurement)]
    assert scores[0] == pytest.approx(phantom.score)
    assert f"Agatston {phantom.score:.0f}" in PIPELINE.headline(findings)
    counted = [lesion for mask in masks(findings).values() for lesion in mask.lesions]
    assert sum(each.score for each in counted if each.counted) == pytest.approx(phantom.score)
    assert sum(each.score for each in counted if not each.counted) > 0


def test_lesions_set_aside_are_those_of_the_mask_by_the_same_rule(phantom, findings):
    aside = masks(findings)["Set aside"]
    again = find_calcium(phantom.volume, HEART, region=aside.values)
    told = [(each.score, each.center_mm, each.slices) for each in aside.lesions]
    assert told == [(each.score, each.center_mm, each.slices) for each in again.lesions]


def test_without_decoys_nothing_is_set_aside():
    plain = random_phantom(5, "cardiac", matrix=192, decoys=())
    assert "Set aside" not in masks(analyse_calcium(plain.volume, {}))


def test_a_region_given_by_hand_sets_nothing_aside(phantom):
    everywhere = np.ones(phantom.volume.geometry.shape, np.bool_)
    assert "Set aside" not in masks(analyse_calcium(phantom.volume, {}, everywhere))


def test_the_rule_that_scored_stands_with_the_lesions(findings):
    rule = masks(findings)["Calcium"].scoring
    assert (rule.region, rule.steps_hu, rule.min_area_mm2) == ("rule", (130, 200, 300, 400), 1.0)
    assert rule.mass_factor == pytest.approx(100 / 130 / 1000)


def test_bone_that_was_cut_from_the_outline_before_is_told_as_bone():
    ct = volume([Box((3, 5, 30), (1, 3, 4), 500)], grid(SHAPE))
    region, outline, near = (np.zeros(SHAPE, np.bool_) for _ in range(3))
    region[:, 20:40] = True
    outline[:, :40] = True
    near[:] = True
    found = lookalikes(
        ct.values, region, near, np.zeros(SHAPE, np.bool_), ct.geometry, 40.0, outline
    )
    assert found["bone"].size == 12


def test_metal_that_was_cut_from_the_outline_before_is_still_metal():
    ct = volume([Box((3, 5, 30), (1, 3, 4), 2500)], grid(SHAPE))
    region, outline, near = (np.zeros(SHAPE, np.bool_) for _ in range(3))
    region[:, 20:40] = True
    outline[:, :40] = True
    near[:] = True
    found = lookalikes(
        ct.values, region, near, np.zeros(SHAPE, np.bool_), ct.geometry, 40.0, outline
    )
    assert (found["metal"].size, found["bone"].size) == (12, 0)


def test_a_lesion_is_named_after_most_of_its_voxels():
    less, more = Box((3, 10, 10), (1, 2, 4), 300), Box((3, 12, 10), (1, 3, 4), 300)
    ct = volume([less, more], grid(SHAPE))
    found = set_aside(ct, (("edge", flat(ct, less)), ("rim", flat(ct, more))), HEART)
    assert [lesion.reason for lesion in found.lesions] == [WHY["rim"]]


def test_two_lesions_in_one_slice_keep_their_own_reasons():
    first, second = Box((3, 10, 10), (1, 4, 4), 300), Box((3, 10, 30), (2, 6, 6), 500)
    ct = volume([first, second], grid(SHAPE))
    found = set_aside(ct, (("smear", flat(ct, first)), ("bone", flat(ct, second))), HEART)
    assert [(one.id, one.reason.value) for one in found.lesions] == [
        ("S1", "bone"),
        ("S2", "smear"),
    ]


def test_too_many_lesions_are_cut_and_the_rest_is_counted():
    where = grid((1, 96, 96), (3.0, 1.0, 1.0))
    boxes = [Box((0, j, i), (1, 2, 2), 200) for j in range(1, 90, 5) for i in range(1, 90, 5)]
    boxes.append(Box((0, 90, 90), (1, 4, 4), 900))
    ct = volume(boxes, where)
    found = set_aside(ct, (("bone", flat(ct, *boxes)),), HEART)
    assert len(found.lesions) == MOST_LESIONS
    assert found.unlisted == len(boxes) - MOST_LESIONS
    assert found.lesions[0].peak_hu == 900
    assert all(one.score >= other.score for one, other in pairwise(found.lesions))


def test_specks_below_the_least_area_are_in_the_mask_and_in_no_lesion():
    speck = Box((3, 10, 10), (1, 1, 1), 400)
    ct = volume([speck], grid(SHAPE))
    found = set_aside(ct, (("bone", flat(ct, speck)),), HEART)
    assert (int(found.mask.sum()), found.lesions) == (1, ())


def test_a_tracking_key_of_a_counted_lesion_is_not_given_twice():
    box = Box((3, 10, 10), (1, 4, 4), 300)
    ct = volume([box], grid(SHAPE))
    key = set_aside(ct, (("bone", flat(ct, box)),), HEART).lesions[0].tracking
    again = set_aside(ct, (("bone", flat(ct, box)),), HEART, taken={key}).lesions[0].tracking
    assert again != key


def test_reasons_of_a_heart_without_lookalikes_are_empty():
    plain = random_phantom(5, "cardiac", matrix=192, decoys=(), lesions=0)
    heart = heart_region(plain.volume)
    assert heart.found
    assert sum(voxels.size for _, voxels in heart.set_aside) == 0
