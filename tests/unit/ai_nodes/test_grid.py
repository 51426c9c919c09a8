"""Values brought from grid to grid keep their place; SimpleITK says the same where it can."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ai_nodes.ops.grid import (
    Region,
    bounding_region,
    cropped,
    paste,
    resample,
    resample_to_spacing,
    spaced,
)
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError

FRAME = "1.2.3"
ITK = {
    "nearest": SimpleITK.sitkNearestNeighbor,
    "linear": SimpleITK.sitkLinear,
    "cubic": SimpleITK.sitkBSpline,
}


def grid(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    turn_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Geometry:
    axes = Rotation.from_euler("xyz", turn_degrees, degrees=True).as_matrix()[:, ::-1]
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = origin_mm
    return Geometry(affine, shape, FRAME)


def tilted(shape: tuple[int, int, int] = (12, 14, 16)) -> Geometry:
    """Slices 3 mm apart, each 1 mm further along y than the one before."""
    affine = np.zeros((4, 4))
    affine[:3, 0] = (0.0, 1.0, 3.0)
    affine[:3, 1] = (0.0, 1.5, 0.0)
    affine[:3, 2] = (1.5, 0.0, 0.0)
    affine[3, 3] = 1.0
    return Geometry(affine, shape, FRAME)


def plane(geometry: Geometry, slope=(2.0, -3.0, 0.5)) -> np.ndarray:
    """Values that rise evenly through the patient: linear interpolation has no error on them."""
    index = np.moveaxis(np.indices(geometry.shape), 0, -1)
    return (geometry.to_patient_mm(index) @ np.array(slope) + 7.0).astype(np.float32)


def image(values: np.ndarray, geometry: Geometry) -> SimpleITK.Image:
    made = SimpleITK.GetImageFromArray(values)
    steps = geometry.affine[:3, 2::-1]
    lengths = np.linalg.norm(steps, axis=0)
    made.SetSpacing(lengths.tolist())
    made.SetDirection((steps / lengths).ravel().tolist())
    made.SetOrigin(geometry.affine[:3, 3].tolist())
    return made


@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
def test_oblique_grids_are_read_as_simpleitk_reads_them(order):
    source = grid((22, 40, 44), (3.0, 0.9, 0.8), (-17, 6, 11), (-20, -10, 5))
    target = grid((40, 38, 50), (1.1, 1.3, 1.0), (3, 14, -6), (-25, -10, 0))
    values = np.random.default_rng(1).normal(100, 300, source.shape).astype(np.float32)
    ours = resample(values, source, target, order, outside=-5.0)
    empty = image(np.zeros(target.shape, np.float32), target)
    theirs = SimpleITK.Resample(
        image(values, source), empty, SimpleITK.Transform(), ITK[order], -5.0
    )
    theirs = SimpleITK.GetArrayFromImage(theirs)
    assert 0.3 < float((theirs != -5.0).mean()) < 1.0
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
def test_a_thin_stack_is_read_at_its_edges_as_simpleitk_reads_it(order):
    source = grid((4, 5, 6), (4.0, 2.0, 2.0))
    target = grid((30, 26, 26), (0.7, 0.5, 0.5), (5, 0, 0), (-1.1, -1.1, -3))
    values = np.random.default_rng(2).normal(0, 100, source.shape).astype(np.float32)
    ours = resample(values, source, target, order)
    empty = image(np.zeros(target.shape, np.float32), target)
    theirs = SimpleITK.Resample(image(values, source), empty, SimpleITK.Transform(), ITK[order])
    np.testing.assert_allclose(ours, SimpleITK.GetArrayFromImage(theirs), atol=1e-3)


@pytest.mark.parametrize("order", ["linear", "cubic"])
def test_a_tilted_stack_shows_an_even_rise_without_error(order):
    source, target = tilted(), grid((20, 12, 12), (1.0, 1.0, 1.0), (0, 0, 0), (4, 10, 6))
    got = resample(plane(source), source, target, order, outside=np.nan)
    inner = ~np.isnan(got)
    assert inner.mean() > 0.8
    # The spline's mirrored ends bend the rise near the stack's own ends.
    depth = source.to_index(target.to_patient_mm(np.moveaxis(np.indices(target.shape), 0, -1)))
    rim = 0.0 if order == "linear" else 3.0
    inner &= ((depth >= rim) & (depth <= np.array(source.shape) - 1 - rim)).all(axis=-1)
    assert inner.sum() > 100
    np.testing.assert_allclose(got[inner], plane(target)[inner], atol=5e-2 if rim else 1e-4)


def test_a_tilted_stack_comes_back_from_its_own_grid_unchanged():
    values = np.random.default_rng(3).normal(size=tilted().shape).astype(np.float32)
    np.testing.assert_array_equal(resample(values, tilted(), tilted(), "cubic"), values)


FLIPS = st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)


@given(
    *FLIPS, st.tuples(*[st.integers(-3, 3)] * 3), st.sampled_from(["nearest", "linear", "cubic"])
)
@settings(max_examples=30, deadline=None)
def test_flips_swaps_and_whole_steps_lose_nothing_there_and_back(axes, signs, steps, order):
    source = grid((5, 6, 7), (2.5, 0.7, 0.9), (20, -10, 30), (3, 4, 5))
    change = np.zeros((4, 4))
    change[axes, range(3)] = signs
    change[:, 3] = (*steps, 1.0)
    corners = np.array([[a, b, c] for a in (0, 4) for b in (0, 5) for c in (0, 6)], float)
    there = Geometry(source.affine @ change, (1, 1, 1), FRAME)
    places = np.rint(there.to_index(source.to_patient_mm(corners)))
    first = places.min(axis=0)
    shape = tuple(int(n) for n in places.max(axis=0) - first + 1)
    affine = there.affine.copy()
    affine[:3, 3] = there.to_patient_mm(first)
    target = Geometry(affine, shape, FRAME)
    values = np.random.default_rng(4).normal(size=source.shape).astype(np.float32)
    values[1, 2, 3] = np.nan
    back = resample(resample(values, source, target, order), target, source, order)
    np.testing.assert_array_equal(back, values)


def test_half_a_step_is_the_mean_of_two_neighbours():
    source, values = grid((1, 1, 4)), np.array([[[1, 3, 7, 9]]], np.int16)
    target = grid((1, 1, 3), origin_mm=(0.5, 0.0, 0.0))
    got = resample(values, source, target, "linear")
    assert got.dtype == np.float32
    assert got.tolist() == [[[2.0, 5.0, 8.0]]]


def test_a_voxel_owns_its_cell_and_nothing_beyond():
    source, values = grid((1, 1, 2)), np.array([[[4.0, 6.0]]], np.float32)
    target = grid((1, 1, 6), (1.0, 1.0, 0.4), origin_mm=(-0.6, 0.0, 0.0))
    got = resample(values, source, target, "linear", outside=-1.0)
    np.testing.assert_allclose(got[0, 0], [-1.0, 4.0, 4.4, 5.2, 6.0, 6.0], atol=1e-6)


def test_labels_keep_their_dtype_and_make_no_new_labels():
    labels = np.random.default_rng(5).choice([0, 2, 4], size=(8, 9, 10)).astype(np.uint8)
    got = resample(labels, grid(labels.shape), grid((9, 9, 9), turn_degrees=(9, 5, 3)), "nearest")
    assert got.dtype == np.uint8
    assert set(np.unique(got)) <= {0, 2, 4}
    mask = resample(labels > 0, grid(labels.shape), grid((9, 9, 9)), "nearest")
    assert mask.dtype == np.bool_


@pytest.mark.parametrize("order", ["linear", "cubic"])
def test_what_is_not_defined_spreads_to_its_neighbours_only(order):
    values = np.ones((1, 1, 9), np.float32)
    values[0, 0, 4] = np.nan
    target = grid((1, 1, 8), origin_mm=(0.5, 0.0, 0.0))
    got = resample(values, grid(values.shape), target, order)[0, 0]
    assert np.flatnonzero(np.isnan(got)).tolist() == [3, 4]
    np.testing.assert_allclose(got[~np.isnan(got)], 1.0, atol=1e-6)


def test_every_time_point_is_read_alike():
    values = np.random.default_rng(6).normal(size=(3, 4, 5, 6)).astype(np.float32)
    source, target = grid((4, 5, 6)), grid((4, 5, 6), origin_mm=(0.3, 0.2, 0.1))
    together = resample(values, source, target)
    assert together.shape == values.shape
    np.testing.assert_array_equal(together[2], resample(values[2], source, target))


def test_grids_in_different_frames_need_a_transform():
    source = grid((3, 4, 5))
    other = Geometry(source.affine, source.shape, "9.9")
    with pytest.raises(InputError, match="frame_differs"):
        resample(np.zeros(source.shape), source, other)
    shift = np.eye(4)
    shift[0, 3] = 1.0
    values = np.arange(60.0).reshape(source.shape)
    moved = resample(values, source, other, transform=shift, outside=-1.0)
    np.testing.assert_array_equal(moved[:, :, 1:], values[:, :, :-1])
    assert (moved[:, :, 0] == -1.0).all()


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_a_transform_that_cannot_be_undone_is_refused(wrong):
    with pytest.raises(InputError, match="geometry"):
        resample(np.zeros((3, 4, 5)), grid((3, 4, 5)), grid((3, 4, 5)), transform=wrong)


@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", ">i2", "f4", ">f4", "f8", "i8"])
def test_any_number_is_read(dtype, order):
    values = (np.arange(60).reshape(3, 4, 5) % 2).astype(dtype)
    target = grid((3, 4, 4), origin_mm=(0.25, 0.0, 0.0))
    got = resample(values, grid(values.shape), target, order)
    assert got.shape == target.shape
    if order != "cubic":
        want = 0.75 * values[..., :-1] + 0.25 * values[..., 1:]
        np.testing.assert_allclose(got, values[..., :-1] if order == "nearest" else want)


@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
def test_where_nothing_is_defined_nothing_becomes_so(order):
    values = np.full((3, 4, 5), np.nan, np.float32)
    target = grid((3, 4, 4), origin_mm=(0.25, 0.0, 0.0))
    assert np.isnan(resample(values, grid(values.shape), target, order)).all()


def test_values_that_do_not_lie_on_their_grid_are_refused():
    with pytest.raises(InputError, match="volume_shape"):
        resample(np.zeros((3, 4, 4)), grid((3, 4, 5)), grid((3, 4, 5)))


@given(
    st.tuples(*[st.integers(1, 40)] * 3),
    st.tuples(*[st.floats(0.3, 6.0)] * 3),
)
@settings(max_examples=50, deadline=None)
def test_another_spacing_keeps_the_corners_of_the_field_of_view(shape, spacing_mm):
    source = grid(shape, (3.0, 0.8, 0.7), (10, 20, 30), (1, 2, 3))
    made = spaced(source, spacing_mm)
    for end in (0.0, 1.0):
        theirs = made.to_patient_mm(np.array(made.shape) * end - 0.5)
        np.testing.assert_allclose(
            theirs, source.to_patient_mm(np.array(shape) * end - 0.5), atol=1e-9
        )
    steps = np.array([made.slice_spacing_mm, *made.pixel_spacing_mm])
    extent = steps * made.shape
    assert (
        np.abs(extent / np.array(spacing_mm) - made.shape) <= 0.5 + 1e-9
    ).all() or 1 in made.shape


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, math.nan)])
def test_a_spacing_that_is_no_length_is_refused(wrong):
    with pytest.raises(InputError, match="geometry"):
        spaced(grid((3, 3, 3)), wrong)


def test_a_coarser_grid_loses_noise_and_keeps_the_mean_when_smoothed():
    values = np.random.default_rng(7).normal(50, 10, (40, 40, 40)).astype(np.float32)
    source = grid(values.shape)
    plain, _ = resample_to_spacing(values, source, (4.0, 4.0, 4.0), smooth=False)
    soft, target = resample_to_spacing(values, source, (4.0, 4.0, 4.0))
    assert target.shape == (10, 10, 10)
    assert float(soft.std()) < 0.4 * float(plain.std())
    assert float(soft.mean()) == pytest.approx(50.0, abs=0.5)


def test_smoothing_leaves_undefined_voxels_out_of_their_neighbours():
    values = np.full((1, 1, 32), 5.0, np.float32)
    values[0, 0, 10] = np.nan
    soft, _ = resample_to_spacing(values, grid(values.shape), (1.0, 1.0, 4.0))
    np.testing.assert_allclose(soft[~np.isnan(soft)], 5.0, rtol=1e-6)


def test_a_region_holds_the_margin_on_every_side_and_stops_at_the_grid():
    geometry = grid((10, 30, 30), (3.0, 1.0, 1.0))
    mask = np.zeros(geometry.shape, np.bool_)
    mask[4:6, 10, 1] = True
    region = bounding_region(mask, geometry, margin_mm=4.0)
    assert region == Region((2, 6, 0), (6, 9, 6))


def test_a_region_of_a_tilted_stack_holds_every_voxel_within_the_margin():
    geometry = tilted()
    mask = np.zeros(geometry.shape, np.bool_)
    mask[6, 7, 8] = True
    places = geometry.to_patient_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    near = np.linalg.norm(places - geometry.to_patient_mm(np.array([6.0, 7, 8])), axis=-1) <= 5.0
    inside = np.zeros(geometry.shape, np.bool_)
    inside[bounding_region(mask, geometry, margin_mm=5.0).slices] = True
    assert inside[near].all()


def test_what_is_cut_out_goes_back_where_it_was():
    geometry = grid((8, 9, 10), (3.0, 0.7, 0.7), (12, 5, -8), (100, -40, 7))
    values = np.random.default_rng(8).normal(size=geometry.shape).astype(np.float32)
    region = Region((2, 3, 1), (4, 5, 6))
    part = cropped(geometry, region)
    back = paste(values[region.slices], part, geometry, outside=-9.0)
    np.testing.assert_array_equal(back[region.slices], values[region.slices])
    assert int((back == -9.0).sum()) == values.size - 4 * 5 * 6


def test_an_empty_mask_has_no_region():
    with pytest.raises(InputError, match="region_empty"):
        bounding_region(np.zeros((2, 2, 2), np.bool_), grid((2, 2, 2)))
    with pytest.raises(InputError, match="mask_shape"):
        bounding_region(np.zeros((2, 2, 3), np.bool_), grid((2, 2, 2)))


def test_a_part_that_lies_between_voxels_is_not_pasted():
    between = grid((2, 2, 2), origin_mm=(0.5, 0.0, 0.0))
    with pytest.raises(InputError, match="grid_not_aligned"):
        paste(np.zeros((2, 2, 2)), between, grid((4, 4, 4)))
    with pytest.raises(InputError, match="volume_shape"):
        paste(np.zeros((2, 2, 3)), grid((2, 2, 2)), grid((4, 4, 4)))
    elsewhere = Geometry(np.eye(4), (2, 2, 2), "9.9")
    with pytest.raises(InputError, match="frame_differs"):
        paste(np.zeros((2, 2, 2)), elsewhere, Geometry(np.eye(4), (4, 4, 4), FRAME))
