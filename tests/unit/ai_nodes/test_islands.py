"""Islands against a plain loop over slices, and against what follows on paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops import islands as module
from ai_nodes.ops.islands import find_islands, islands_mask, warm
from dicom_services.errors import InputError

EIGHT = np.ones((3, 3), np.int8)
KERNELS = [name for name, value in vars(module).items() if hasattr(value, "py_func")]


@pytest.fixture(params=["compiled", "interpreted"])
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Runs a test twice: with machine code and with the Python it was compiled from."""
    if request.param == "interpreted":
        for name in KERNELS:
            monkeypatch.setattr(module, name, getattr(module, name).py_func)
    yield request.param


def plain_loop(
    values: NDArray[Any], low: float, least_px: int, region: NDArray[np.bool_] | None = None
) -> tuple[list[tuple[Any, ...]], NDArray[np.bool_], NDArray[np.int32]]:
    """The same by scipy, slice by slice: islands, their pixels, and their groups as a volume."""
    bright = values >= low
    if region is not None:
        bright = bright & region
    kept = np.zeros(values.shape, np.bool_)
    rows = []
    for k in range(values.shape[0]):
        labels, count = ndimage.label(bright[k], EIGHT)
        for n in range(1, count + 1):
            j, i = np.nonzero(labels == n)
            if j.size < least_px:
                continue
            kept[k, j, i] = True
            hu = values[k, j, i].astype(np.float64)
            box = (j.min(), j.max(), i.min(), i.max())
            rows.append((k, j.size, hu.max(), hu.sum(), j.mean(), i.mean(), *box))
    groups, _ = ndimage.label(kept, np.ones((3, 3, 3), np.int8))
    return sorted(rows), kept, groups


def table(found: module.Islands) -> list[tuple[Any, ...]]:
    columns = [found.k, found.area_px, found.peak, found.total, found.row, found.column]
    return sorted(zip(*columns, *found.box.T, strict=True))


def same_partition(a: NDArray[Any], b: NDArray[Any]) -> bool:
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def check(
    values: NDArray[Any], low: float, least_px: int, region: NDArray[np.bool_] | None = None
) -> None:
    found = find_islands(values, low, least_px=least_px, region=region)
    rows, kept, groups = plain_loop(values, low, least_px, region)
    assert np.allclose(table(found), rows) if rows else found.count == 0
    mask = islands_mask(values, low, least_px=least_px, region=region)
    assert np.array_equal(mask, kept)
    labels = [ndimage.label(plane, EIGHT)[0] for plane in kept]
    mine = []
    for n in range(found.count):
        k, (j, _, first, last) = found.k[n], found.box[n]
        # A pixel of the island in its first row; islands of one row cannot interleave there.
        inside = [i for i in range(first, last + 1) if kept[k, j, i]]
        own = [i for i in inside if _belongs(labels[k], found, n, j, i)]
        mine.append(groups[k, j, own[0]])
    assert same_partition(found.group, np.array(mine, np.int64))


def _belongs(labels: NDArray[Any], found: module.Islands, n: int, j: int, i: int) -> bool:
    rows, columns = np.nonzero(labels == labels[j, i])
    return bool(
        rows.size == found.area_px[n]
        and np.isclose(rows.mean(), found.row[n])
        and np.isclose(columns.mean(), found.column[n])
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(
        st.integers(1, 5), st.integers(1, 20), st.sampled_from([1, 7, 63, 64, 65, 150])
    ),
    share=st.floats(0.0, 1.0),
    least_px=st.integers(1, 6),
    masked=st.booleans(),
    floats=st.booleans(),
)
def test_random_volumes_give_what_a_plain_loop_gives(
    seed: int,
    shape: tuple[int, int, int],
    share: float,
    least_px: int,
    masked: bool,
    floats: bool,
) -> None:
    draw = np.random.default_rng(seed)
    bright = draw.random(shape) < share
    values = np.where(bright, draw.integers(130, 3072, shape), draw.integers(-1024, 130, shape))
    region = draw.random(shape) < 0.7 if masked else None
    check(values.astype(np.float32 if floats else np.int16), 130.0, least_px, region)


def test_small_volumes_give_what_a_plain_loop_gives(both: str) -> None:
    draw = np.random.default_rng(1)
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        values = np.where(draw.random((3, 9, 70)) < share, 200, 0).astype(np.int16)
        check(values, 130.0, 3)
        check(values, 130.0, 1, draw.random(values.shape) < 0.6)
        check(values.astype(np.float32), 130.0, 2)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 128])
def test_a_run_may_reach_the_end_of_a_row(width: int, both: str) -> None:
    values = np.zeros((1, 3, width), np.int16)
    values[0, 1, width // 2 :] = 140
    found = find_islands(values, 130.0)
    assert found.area_px.tolist() == [width - width // 2]
    assert found.box.tolist() == [[1, 1, width // 2, width - 1]]


def test_a_table_grows_with_the_number_of_islands(both: str) -> None:
    values = np.zeros((2, 20, 40), np.int16)
    values[:, ::2, ::2] = 150
    found = find_islands(values, 130.0)
    assert found.count == 2 * 10 * 20
    assert found.group.max() + 1 == 10 * 20


@pytest.mark.parametrize("shape", ["spiral", "comb", "ring"])
def test_an_island_that_meets_itself_again_is_one(shape: str, both: str) -> None:
    values = np.zeros((1, 9, 9), np.int16)
    if shape == "comb":
        values[0, :, ::2] = 300
        values[0, 8] = 300
    elif shape == "ring":
        values[0, 1:8, 1:8] = 300
        values[0, 2:7, 2:7] = 0
    else:
        for j, columns in enumerate(
            ["111111111", "000000001", "111111101", "100000101", "101110101",
             "101000101", "101111101", "100000001", "111111111"]
        ):  # fmt: skip
            values[0, j] = [300 * int(one) for one in columns]
    assert find_islands(values, 130.0).count == 1


def test_pixels_that_touch_at_a_corner_are_one_island(both: str) -> None:
    values = np.zeros((1, 4, 4), np.int16)
    values[0, 1, 1] = values[0, 2, 2] = 200
    assert find_islands(values, 130.0).area_px.tolist() == [2]
    assert ndimage.label(values[0])[1] == 2


def test_islands_join_across_slices_at_a_corner_too(both: str) -> None:
    values = np.zeros((3, 5, 5), np.int16)
    values[0, 1, 1] = values[1, 2, 2] = values[2, 4, 4] = 200
    found = find_islands(values, 130.0)
    assert found.group.tolist() == [0, 0, 1]


def test_what_is_too_small_does_not_join_its_neighbours() -> None:
    values = np.zeros((3, 5, 5), np.int16)
    values[0, 1:3, 1:3] = values[2, 1:3, 1:3] = 200
    values[1, 1, 1] = 200
    assert find_islands(values, 130.0, least_px=2).group.tolist() == [0, 1]
    assert find_islands(values, 130.0, least_px=1).group.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("value", "count"), [(129, 0), (130, 1), (32767, 1), (-32768, 0)])
def test_the_threshold_itself_is_bright(value: int, count: int) -> None:
    assert find_islands(np.full((1, 2, 2), value, np.int16), 130.0).count == count


@pytest.mark.parametrize("low", [129.2, 130.0])
def test_a_threshold_between_whole_numbers_is_never_rounded_down(low: float) -> None:
    values = np.array([[[129, 0, 130]]], np.int16)
    assert find_islands(values, low).column.tolist() == [2.0]


def test_no_whole_number_reaches_a_threshold_beyond_its_type() -> None:
    values = np.full((1, 2, 2), 32767, np.int16)
    assert find_islands(values, 32768.0).count == 0
    assert not islands_mask(values, 40000.0).any()


def test_sums_do_not_overflow_the_type_of_the_values() -> None:
    values = np.full((1, 512, 512), 3071, np.int16)
    found = find_islands(values, 130.0)
    assert found.total.tolist() == [3071.0 * 512 * 512]
    assert found.row.tolist() == [255.5]


def test_infinity_counts_as_the_highest_value_and_nan_as_nothing(both: str) -> None:
    values = np.array([[[np.inf, np.nan, 140.25, -np.inf, 130.5, np.inf]]], np.float32)
    found = find_islands(values, 130.0)
    assert found.area_px.tolist() == [1, 1, 2]
    assert found.peak.tolist() == [32767.0, 140.25, 32767.0]
    assert np.isfinite(found.total).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float64, ">i2"])
def test_any_type_of_number_gives_the_same_islands(dtype: Any) -> None:
    values = np.zeros((2, 3, 8), np.int16)
    values[0, 1, 2:5] = values[1, 1, 4:7] = 250
    expected = find_islands(values, 130.0)
    found = find_islands(values.astype(dtype), 130.0)
    assert table(found) == table(expected)


def test_values_beyond_sixteen_bits_stay_bright() -> None:
    values = np.full((1, 2, 2), 65535, np.uint16)
    found = find_islands(values, 130.0)
    assert (found.area_px.tolist(), found.peak.tolist()) == ([4], [32767.0])


def test_views_and_flipped_volumes_are_read_as_they_are_seen() -> None:
    draw = np.random.default_rng(4)
    values = draw.integers(0, 260, (4, 12, 30)).astype(np.int16)
    check(values[::-1, :, ::-1], 130.0, 2)
    check(values.transpose(2, 0, 1), 130.0, 2, (values > 60).transpose(2, 0, 1))


def test_chosen_islands_are_painted_alone(both: str) -> None:
    values = np.zeros((2, 4, 9), np.int16)
    values[0, 1, 1:3] = values[0, 1, 5:8] = values[1, 3, 0] = 180
    mask = islands_mask(values, 130.0, wanted=np.array([False, True, True]))
    assert np.argwhere(mask).tolist() == [[0, 1, 5], [0, 1, 6], [0, 1, 7], [1, 3, 0]]
    assert not islands_mask(values, 130.0, wanted=np.zeros(3, np.bool_)).any()


def test_a_region_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="region_grid"):
        find_islands(np.zeros((2, 3, 4), np.int16), 130.0, region=np.ones((2, 3, 3), np.bool_))
    with pytest.raises(InputError, match="region_grid"):
        find_islands(np.zeros((3, 4), np.int16), 130.0)


def test_warming_up_compiles_every_type_a_job_may_bring() -> None:
    warm()
    before = len(module._islands.signatures)
    values = np.ones((2, 3, 3), np.int16)
    values.flags.writeable = False
    for dtype in (np.int16, np.float32):
        find_islands(values.astype(dtype), 1.0, region=values > 0)
        islands_mask(values.astype(dtype), 1.0, wanted=np.ones(1, np.bool_))
    assert len(module._islands.signatures) == before
