"""Outlines of lesions: corners worked out on paper, areas as a property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from dicom_services.dicom.outline import outline
from dicom_services.domain.findings import LesionSlice


def pixels(*rows: str) -> NDArray[np.bool_]:
    return np.array([[sign == "#" for sign in row] for row in rows])


def part(mask: NDArray[np.bool_], area_mm2: float = 1.0) -> LesionSlice:
    """The lesion slice that all of `mask` is; a pixel has `area_mm2`."""
    row, column = np.argwhere(mask).mean(axis=0)
    return LesionSlice(0, row, column, mask.sum() * area_mm2, 400.0, 4, 4.0)


def area(corners: NDArray[np.float64]) -> float:
    """Of a closed polygon, by the shoelace formula."""
    x, y = corners[:, 0], corners[:, 1]
    return float(abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2.0


def test_one_pixel_is_a_square_around_its_centre() -> None:
    mask = pixels("....", "....", "...#")
    corners = outline(mask, part(mask), 1.0)
    assert corners.tolist() == [[3, 2], [4, 2], [4, 3], [3, 3], [3, 2]]


def test_corners_on_a_straight_edge_are_left_out() -> None:
    mask = pixels(".....", ".###.", ".###.")
    corners = outline(mask, part(mask), 1.0)
    assert corners.tolist() == [[1, 1], [4, 1], [4, 3], [1, 3], [1, 1]]


def test_an_l_has_six_corners() -> None:
    mask = pixels("#..", "#..", "##.")
    corners = outline(mask, part(mask), 1.0)
    assert corners.tolist() == [[0, 0], [1, 0], [1, 2], [2, 2], [2, 3], [0, 3], [0, 0]]


def test_pixels_that_touch_by_a_corner_are_one_polygon() -> None:
    mask = pixels("#.", ".#")
    corners = outline(mask, part(mask), 1.0)
    assert corners.tolist() == [
        *([0, 0], [1, 0], [1, 1], [2, 1], [2, 2]),
        *([1, 2], [1, 1], [0, 1], [0, 0]),
    ]


def test_a_hole_is_not_shown() -> None:
    mask = pixels("###", "#.#", "###")
    corners = outline(mask, part(mask), 1.0)
    assert corners.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3], [0, 0]]


def test_of_two_lesions_the_one_meant_is_outlined() -> None:
    mask = pixels("##....", "......", "...###")
    alone = pixels("......", "......", "...###")
    corners = outline(mask, part(alone), 1.0)
    assert corners.tolist() == [[3, 2], [6, 2], [6, 3], [3, 3], [3, 2]]


def test_a_lesion_around_another_is_found_though_its_centre_is_not_its_own() -> None:
    ring = np.ones((5, 5), bool)
    ring[1:4, 1:4] = False
    both = ring.copy()
    both[2, 2] = True
    corners = outline(both, part(ring), 1.0)
    assert corners.tolist() == [[0, 0], [5, 0], [5, 5], [0, 5], [0, 0]]


def test_area_in_square_millimetres_tells_the_pixels() -> None:
    mask = pixels("##", "##")
    assert area(outline(mask, part(mask, 0.25), 0.25)) == 4.0


def test_a_lesion_that_is_not_in_the_mask_is_a_point_at_its_pixel_centre() -> None:
    mask = pixels("##..", "....")
    missing = LesionSlice(0, 1.0, 3.0, 1.0, 200.0, 2, 2.0)
    assert outline(mask, missing, 1.0).tolist() == [[3.5, 1.5]]


def test_a_lesion_that_lost_a_pixel_is_a_point() -> None:
    mask = pixels("##..")
    whole = LesionSlice(0, 0.0, 1.0, 3.0, 200.0, 2, 2.0)
    assert outline(mask, whole, 1.0).shape == (1, 2)


def test_a_border_too_long_for_a_content_item_is_a_point() -> None:
    comb = np.zeros((3, 3000), bool)
    comb[0] = True
    comb[:, ::2] = True
    # Every one of 1500 teeth has four corners.
    assert outline(comb, part(comb), 1.0).shape == (1, 2)
    assert len(outline(comb[:, :1000], part(comb[:, :1000]), 1.0)) > 1900


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_outline_holds_the_lesion_and_its_holes_and_nothing_else(
    mask: NDArray[np.bool_],
) -> None:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    for number in range(1, count + 1):
        lesion = labels == number
        corners = outline(mask, part(lesion), 1.0)
        if len(corners) == 1:
            # Two pieces with one centroid and one size cannot be told apart by those two.
            continue
        assert corners[0].tolist() == corners[-1].tolist()
        assert area(corners) in {
            ndimage.binary_fill_holes(labels == other).sum() for other in range(1, count + 1)
        }


@pytest.mark.parametrize("turns", range(4))
def test_turning_the_lesion_turns_its_outline(turns: int) -> None:
    mask = np.rot90(pixels("##..", ".##.", "...#", "...."), turns)
    assert area(outline(mask, part(mask), 1.0)) == 5.0
