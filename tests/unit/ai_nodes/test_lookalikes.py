"""What reaches 130 HU and is no plaque, on blocks whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from ai_nodes.ops.aorta import track_tube
from ai_nodes.ops.coarse import Coarse, coarse_copy, fine_box, to_fine
from ai_nodes.ops.lookalikes import lookalikes
from tests.phantoms import Box, grid, rotation, volume

SHAPE = (7, 60, 60)
GRID = grid(SHAPE, (3.0, 0.5, 0.5))


def judge(boxes, *, region=np.s_[:], near=np.s_[:], aorta=None, background_hu=40.0):
    ct = volume(boxes, GRID, background_hu=background_hu)
    masks = []
    for where in (region, near, aorta):
        mask = np.zeros(SHAPE, np.bool_)
        if where is not None:
            mask[where] = True
        masks.append(mask)
    found = lookalikes(ct.values, *masks, GRID, 40.0)
    return {reason: parts.size for reason, parts in found.items() if parts.size}


PLAQUE = Box((3, 30, 30), (1, 4, 4), 400)


def test_plaque_in_muscle_stays():
    assert judge([PLAQUE]) == {}


def test_plaque_in_fat_stays():
    assert judge([PLAQUE], background_hu=-90.0) == {}


def test_metal_leaves_with_what_touches_it():
    metal = Box((3, 34, 30), (1, 2, 4), 2500)
    assert judge([PLAQUE, metal]) == {"metal": 16 + 8}


def test_part_that_goes_on_outside_of_the_wider_region_is_bone():
    inner = np.s_[:, 20:40]
    wider = np.s_[:, 12:48]
    bone = Box((3, 5, 30), (1, 20, 4), 500)
    assert judge([bone], region=inner, near=wider) == {"bone": 5 * 4}


def test_plaque_that_ends_just_outside_of_the_region_stays():
    inner, wider = np.s_[:, 20:40], np.s_[:, 8:52]
    assert judge([Box((3, 36, 30), (1, 8, 4), 500)], region=inner, near=wider) == {}


@pytest.mark.parametrize(("rows_inside", "leaves"), [(3, 20), (1, 0)])
def test_part_that_lies_half_in_the_aorta_is_its_wall(rows_inside, leaves):
    aorta = np.s_[:, : 20 + rows_inside]
    rest = np.s_[:, 20 + rows_inside :]
    plaque = Box((3, 20, 30), (1, 5, 10), 500)
    found = judge([plaque], region=rest, aorta=aorta)
    assert found.get("aortic_wall", 0) == leaves


@pytest.mark.parametrize(("deep_px", "leaves"), [(3, True), (6, False)])
def test_bright_rim_along_lung_leaves_but_what_reaches_deeper_stays(deep_px, leaves):
    """Half-millimetre pixels: three reach 1.5 mm deep, six 3 mm."""
    lung = Box((0, 0, 0), (7, 20, 60), -850)
    rim = Box((3, 20, 20), (1, deep_px, 12), 200)
    assert ("edge" in judge([lung, rim])) is leaves


@pytest.mark.parametrize(
    ("first_px", "deep_px", "peak_hu", "leaves"),
    [(3, 5, 210, True), (3, 5, 225, False), (5, 3, 210, False), (3, 8, 210, False)],
    ids=["thin and faint", "above what overshoots", "3 mm away", "thicker than a rim"],
)
def test_thin_faint_lesion_near_lung_is_taken_for_its_rim(first_px, deep_px, peak_hu, leaves):
    """Blood 40 HU, lung -850: a fifth of the step above blood is 218 HU; pixels of 0.5 mm."""
    lung = Box((0, 0, 0), (7, 20, 60), -850)
    lesion = Box((3, 20 + first_px, 20), (1, deep_px, 6), peak_hu)
    assert ("rim" in judge([lung, lesion])) is leaves


def test_faint_end_of_a_bright_plaque_stays():
    lung = Box((0, 0, 0), (7, 20, 60), -850)
    body = Box((3, 23, 20), (1, 5, 6), 500)
    end = Box((4, 23, 20), (1, 5, 6), 150)
    assert judge([lung, body, end]) == {}


@pytest.mark.parametrize(("around_hu", "leaves"), [(110, True), (60, False)])
def test_bright_surroundings_tell_a_smear_from_a_plaque(around_hu, leaves):
    halo = Box((3, 22, 22), (1, 20, 20), around_hu)
    assert ("smear" in judge([halo, PLAQUE])) is leaves


def test_lesion_below_one_square_millimetre_is_not_judged():
    lung = Box((0, 0, 0), (7, 20, 60), -850)
    assert judge([lung, Box((3, 20, 20), (1, 1, 3), 200)]) == {}


@pytest.mark.parametrize("turn", [np.eye(3), rotation((0, 0, 1), 90.0), rotation((1, 1, 0), 30.0)])
def test_coarse_mask_comes_back_to_the_voxels_it_was_made_from(turn):
    geometry = grid((30, 90, 80), (2.0, 0.8, 0.9), rotation=turn)
    block = Box((8, 25, 20), (14, 40, 36), 1000)
    ct = volume([block], geometry)
    coarse = coarse_copy(ct)
    mask = coarse.hu > 500.0
    box = fine_box(mask, coarse, geometry)
    assert box is not None
    back = np.zeros(geometry.shape, np.bool_)
    back[box] = to_fine(mask, coarse, geometry, box)
    truth = ct.values == 1000
    assert 2.0 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.9
    middles = [geometry.to_patient_mm(np.argwhere(m).mean(axis=0)) for m in (back, truth)]
    np.testing.assert_allclose(middles[0], middles[1], atol=1.0)
    assert fine_box(np.zeros_like(mask), coarse, geometry) is None


def test_tube_follows_a_slanting_vessel_beside_a_bone():
    planes, size = 24, 60
    hu = np.full((planes, size, size), -100.0, np.float32)
    y, x = 3.0 * np.mgrid[:size, :size]
    for z in range(planes):
        hu[z][np.hypot(x - 80.0 - z, y - 90.0) <= 12.0] = 40.0
        hu[z][np.hypot(x - 80.0, y - 125.0) <= 18.0] = 400.0
    coarse = Coarse(hu, np.zeros(3))
    corner = np.tile([60.0, 70.0], (planes, 1))
    tube = track_tube(coarse, (0, planes), corner, (60.0, 70.0), (8.0, 20.0))
    assert tube is not None
    np.testing.assert_allclose(tube.circles[:, 0], 80.0 + np.arange(planes), atol=3.1)
    np.testing.assert_allclose(tube.circles[:, 1], 90.0, atol=3.1)
    np.testing.assert_allclose(tube.circles[:, 2], 12.0, atol=1.6)
    assert tube.circles[:, 3].min() > 0.8
    assert track_tube(coarse, (0, 2), corner[:2], (60.0, 70.0), (8.0, 20.0)) is None
