"""A key image shows the right side of the patient, and the outline of exactly its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from dicom_services.reports.key_image import Outline, border, side_letters, view_box
from tests.sources import geometry


@pytest.mark.parametrize(
    ("row", "column", "letters"),
    [
        ((1, 0, 0), (0, 1, 0), ("A", "L", "P", "R")),
        ((-1, 0, 0), (0, 1, 0), ("A", "R", "P", "L")),
        ((-1, 0, 0), (0, -1, 0), ("P", "R", "A", "L")),
        ((0, 1, 0), (0, 0, -1), ("H", "P", "F", "A")),
        ((0.8, 0.6, 0), (-0.6, 0.8, 0), ("AL", "LP", "PR", "RA")),
    ],
)
def test_letters_name_the_sides_of_the_patient(
    row: tuple[float, float, float],
    column: tuple[float, float, float],
    letters: tuple[str, str, str, str],
) -> None:
    step = tuple(3.0 * value for value in np.cross(row, column))
    grid = geometry(row=row, column=column, step_mm=step)  # type: ignore[arg-type]
    assert side_letters(grid) == letters


def test_the_border_of_one_pixel_has_four_edges() -> None:
    inside = np.zeros((3, 4), np.bool_)
    inside[1, 2] = True
    assert sorted(border(inside)) == [(1, 2, 1, 3), (1, 2, 2, 2), (1, 3, 2, 3), (2, 2, 2, 3)]


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_border_is_as_long_as_pixels_differ(inside: NDArray[np.bool_]) -> None:
    length = sum(abs(r1 - r0) + abs(c1 - c0) for r0, c0, r1, c1 in border(inside))
    padded = np.pad(inside, 1)
    expected = (padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum()
    assert length == expected


@pytest.mark.parametrize("corner", [(0, 0), (0, 500), (500, 0), (500, 500), (250, 250)])
def test_the_view_holds_the_lesion_and_stays_in_the_image(corner: tuple[int, int]) -> None:
    inside = np.zeros((512, 512), np.bool_)
    inside[corner[0] : corner[0] + 5, corner[1] : corner[1] + 5] = True
    top, left, rows, columns = view_box((512, 512), (0.5, 0.5), [Outline(inside, (1, 0, 0))])
    assert inside[top : top + rows, left : left + columns].sum() == inside.sum()
    assert (rows, columns) == (260, 260)


def test_a_lesion_larger_than_the_view_is_shown_whole() -> None:
    inside = np.zeros((512, 512), np.bool_)
    inside[10:500, 10:20] = True
    top, _, rows, _ = view_box((512, 512), (0.5, 0.5), [Outline(inside, (1, 0, 0))])
    assert top <= 10
    assert top + rows >= 500
