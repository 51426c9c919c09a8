"""Where windows lie, how they are weighted, and what they become when memory is short."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_nodes.ops.windows import (
    WindowSettings,
    gaussian,
    mirrorings,
    padding,
    places,
    starts,
)


@pytest.mark.parametrize(
    ("size", "window", "overlap", "expected"),
    [
        (96, 96, 0.5, (0,)),
        (50, 96, 0.5, (0,)),
        (144, 96, 0.5, (0, 48)),
        (145, 96, 0.5, (0, 24, 49)),
        (192, 96, 0.5, (0, 48, 96)),
        (10, 4, 0.0, (0, 3, 6)),
        (3, 1, 0.9, (0, 1, 2)),
    ],
)
def test_windows_are_spread_evenly_from_the_first_voxel_to_the_last(
    size, window, overlap, expected
):
    assert starts(size, window, overlap) == expected


@given(st.integers(1, 200), st.integers(1, 64), st.floats(0.0, 0.9))
def test_every_voxel_lies_in_a_window(size, window, overlap):
    covered = np.zeros(max(size, window), bool)
    for start in starts(size, window, overlap):
        assert start + window <= len(covered)
        covered[start : start + window] = True
    assert covered.all()


def test_weights_are_a_gaussian_of_an_eighth_of_the_window_that_is_never_zero():
    along = gaussian((8, 9, 400), 0.125)
    # 9 voxels: middle 4, sigma 9/8; one voxel off: exp(-0.5 / 1.125^2).
    assert along[1][[3, 4, 5]] == pytest.approx([0.673638, 1.0, 0.673638], abs=1e-5)
    assert all(np.array_equal(one, one[::-1]) for one in along)
    assert gaussian((400, 400, 400), 0.001)[0].min() > 0.0


def test_a_small_volume_is_padded_on_both_sides():
    assert padding((5, 16, 30), (16, 16, 16)) == ((5, 6), (0, 0), (0, 0))


def test_windows_over_a_volume_are_those_along_its_axes():
    settings = WindowSettings(window=(4, 4, 4))
    assert len(list(places((8, 4, 6), settings))) == 3 * 1 * 2


def test_mirrorings_are_every_combination_of_the_axes():
    assert mirrorings("") == ((),)
    assert mirrorings("ik") == ((), (0,), (2,), (0, 2))
    assert len(mirrorings("kji")) == 8


def test_memory_takes_the_batch_first_then_halves_of_the_window():
    settings = WindowSettings(window=(96, 96, 40), batch=4)
    tried = []
    while settings is not None:
        tried.append((settings.batch, settings.window))
        settings = settings.smaller()
    assert tried == [
        (4, (96, 96, 40)),
        (1, (96, 96, 40)),
        (1, (48, 48, 32)),
        (1, (32, 32, 16)),
        (1, (16, 16, 16)),
    ]


def test_a_window_that_is_no_multiple_does_not_grow():
    assert WindowSettings(window=(10, 10, 10), multiple=16).smaller() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": (0, 4, 4)},
        {"window": (4, 4)},
        {"overlap": 1.0},
        {"sigma": 0.0},
        {"batch": 0},
        {"multiple": 0},
        {"mirrors": "kx"},
        {"mirrors": "kk"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"window|overlap|batch|mirrors"):
        WindowSettings(**wrong)
