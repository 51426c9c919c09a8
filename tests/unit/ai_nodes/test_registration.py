"""Known motions are found again within a tenth of a voxel, and what cannot be found is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ai_nodes.ops.grid import resample, spaced
from ai_nodes.ops.mutual_information import Samples, fixed_bins, information, read_at, window
from ai_nodes.ops.registration import Rigid, register_rigid
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Volume
from dicom_services.errors import InputError

GLIOMA = (
    "brain-glioma/BraTS-Toolkit/data/OtherEXampleFromTCIA/OtherEXampleFromTCIA_brainles/raw_bet"
)
MOTIONS = [
    ((6.0, -4.0, 8.0), (12.0, -8.0, 9.0)),
    ((-9.0, 3.0, 1.0), (-15.0, 10.0, 5.0)),
]


@cache
def nifti(path: Path) -> Volume:
    picture = SimpleITK.ReadImage(str(path))
    values = SimpleITK.GetArrayFromImage(picture).astype(np.float32)
    steps = np.array(picture.GetDirection()).reshape(3, 3) * picture.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3] = steps[:, ::-1]
    affine[:3, 3] = picture.GetOrigin()
    return Volume(values, Geometry(affine, values.shape, "1.2"), "1", "1.3")


def head(shared_data: Path, kind: str) -> Volume:
    return nifti(shared_data / GLIOMA / f"OtherEXampleFromTCIA_{kind}_bet.nii.gz")


def coarse(volume: Volume, motion: NDArray[np.float64], spacing_mm: float = 2.0) -> Volume:
    """The anatomy of a volume after a motion, as a scanner with larger voxels sees it."""
    target = spaced(volume.geometry, (spacing_mm,) * 3)
    values = resample(volume.values, volume.geometry, target, transform=motion, smooth=True)
    return Volume(values, target, "1", "1.3")


def motion_of(turn_degrees, shift_mm, center_mm) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", turn_degrees, degrees=True).as_matrix()
    matrix[:3, 3] = center_mm + np.array(shift_mm) - matrix[:3, :3] @ center_mm
    return matrix


def targets_mm(volume: Volume) -> NDArray[np.float64]:
    """Some 1,000 places all over what is bright."""
    seen = np.argwhere(volume.values > 0.2 * np.percentile(volume.values, 99))
    return volume.geometry.to_patient_mm(seen[:: max(1, len(seen) // 1000)].astype(np.float64))


def error_mm(found: Rigid, truth: NDArray[np.float64], places: NDArray[np.float64]) -> float:
    """Mean distance between where places come from and where they are brought back to."""
    moved = places @ truth[:3, :3].T + truth[:3, 3]
    return float(np.linalg.norm(found.move_points(moved) - places, axis=1).mean())


@pytest.mark.parametrize(("turn_degrees", "shift_mm"), MOTIONS)
def test_a_known_motion_of_a_head_is_found_to_a_tenth_of_a_voxel(
    shared_data, turn_degrees, shift_mm
):
    fixed = head(shared_data, "t1")
    places = targets_mm(fixed)
    truth = motion_of(turn_degrees, shift_mm, places.mean(axis=0))
    still, moved = coarse(fixed, np.eye(4)), coarse(fixed, truth)
    found = register_rigid(moved, still)
    assert error_mm(found, truth, places) <= 0.1 * 2.0
    assert found.converged
    turn = Rotation.from_euler("xyz", turn_degrees, degrees=True).magnitude()
    assert found.rotation_degrees == pytest.approx(np.degrees(turn), abs=0.1)


@pytest.mark.parametrize("kind", ["t2", "fla"])
def test_a_motion_between_contrasts_is_found_as_well(shared_data, kind):
    """Against the same pair unmoved, which is itself aligned to some tenths of a mm only."""
    fixed, other = head(shared_data, "t1"), head(shared_data, kind)
    places = targets_mm(fixed)
    truth = motion_of(*MOTIONS[0], places.mean(axis=0))
    still = coarse(fixed, np.eye(4))
    as_given = register_rigid(coarse(other, np.eye(4)), still)
    found = register_rigid(coarse(other, truth), still)
    assert error_mm(as_given, np.eye(4), places) <= 0.6
    inherent = np.linalg.inv(as_given.matrix)
    assert error_mm(found, truth @ inherent, places) <= 0.1 * 2.0


PAIRS = [
    ("study1_FLAIR", "study2_FLAIR", None),
    ("study1_FLAIR", "study1_T2W", "study1_T2W_intrastudy_to_FLAIR"),
]


@pytest.mark.parametrize(("fixed", "moving", "name"), PAIRS)
def test_follow_up_heads_are_laid_as_the_rigid_part_of_their_given_transforms(
    shared_data, fixed, moving, name
):
    """The given ones stretch by up to 1.6 %, which no rigid motion can follow."""
    folder = shared_data / "brain-longitudinal/longitudinal/raw/patient01"
    still = nifti(folder / f"{fixed}.nii.gz")
    if name:
        given = affine_of(folder / f"{name}.txt")
    else:
        to_common = [affine_of(folder / f"study{n}_FLAIR_to_common_space.txt") for n in (1, 2)]
        given = to_common[1] @ np.linalg.inv(to_common[0])
    places = targets_mm(still)
    left, _, right = np.linalg.svd(given[:3, :3])
    rigid = np.eye(4)
    rigid[:3, :3] = left @ right
    center = places.mean(axis=0)
    rigid[:3, 3] = given[:3, :3] @ center + given[:3, 3] - rigid[:3, :3] @ center
    found = register_rigid(nifti(folder / f"{moving}.nii.gz"), still)
    assert error_mm(found, rigid, places) <= 0.35


def affine_of(path: Path) -> NDArray[np.float64]:
    """(4, 4) of an ITK text file: LPS mm of the fixed volume to the moving one."""
    lines = path.read_text().splitlines()
    numbers = np.array(lines[3].split()[1:], np.float64)
    center = np.array(lines[4].split()[1:], np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = numbers[:9].reshape(3, 3)
    matrix[:3, 3] = numbers[9:] + center - matrix[:3, :3] @ center
    return matrix


def phantom(geometry: Geometry, motion: NDArray[np.float64]) -> Volume:
    """Soft ellipsoids, one of them off the middle, drawn where a motion brings them."""
    index = np.moveaxis(np.indices(geometry.shape), 0, -1)
    back = np.linalg.inv(motion)
    places = geometry.to_patient_mm(index) @ back[:3, :3].T + back[:3, 3]
    values = np.zeros(geometry.shape)
    for center, half_axes, value in (
        ((0, 0, 0), (70, 85, 60), 100.0),
        ((10, -20, 5), (15, 25, 12), 80.0),
        ((-25, 15, -10), (12, 10, 20), -60.0),
        ((20, 30, 15), (10, 12, 9), 140.0),
    ):
        radius = np.sqrt((((places - center) / half_axes) ** 2).sum(axis=-1))
        values += value / (1.0 + np.exp((radius - 1.0) * min(half_axes) / 1.5))
    return Volume(values.astype(np.float32), geometry, "1", "1.3")


def scan(tilt: float = 0.0) -> Geometry:
    affine = np.zeros((4, 4))
    affine[:3, 0] = (0.0, tilt, 4.0)
    affine[:3, 1] = (0.0, 2.0, 0.0)
    affine[:3, 2] = (2.0, 0.0, 0.0)
    affine[:3, 3] = (-99.0, -99.0 - 19.5 * tilt, -78.0)
    affine[3, 3] = 1.0
    return Geometry(affine, (40, 100, 100), "1.2")


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_a_phantom_in_thick_and_tilted_slices_is_found_to_a_tenth_of_a_voxel(tilt):
    truth = motion_of((5.0, -3.0, 7.0), (10.0, -6.0, 8.0), np.zeros(3))
    places = np.random.default_rng(1).uniform(-50, 50, (500, 3))
    found = register_rigid(phantom(scan(tilt), truth), phantom(scan(), np.eye(4)))
    assert error_mm(found, truth, places) <= 0.2


def test_moved_values_and_moved_points_lie_on_the_fixed_volume():
    truth = motion_of((4.0, 2.0, -5.0), (6.0, 3.0, -4.0), np.zeros(3))
    still, moved = phantom(scan(), np.eye(4)), phantom(scan(), truth)
    found = register_rigid(moved, still)
    back = found.move_values(moved.values, moved.geometry, still.geometry, "cubic")
    core = (slice(8, -8), slice(20, -20), slice(20, -20))
    assert float(np.abs(back - still.values)[core].mean()) < 1.0
    middle_mm = truth[:3, 3] + truth[:3, :3] @ (10.0, -20.0, 5.0)
    np.testing.assert_allclose(found.move_points(middle_mm), (10.0, -20.0, 5.0), atol=0.2)


def test_the_same_volumes_give_the_same_motion_to_the_last_bit():
    truth = motion_of((2.0, 0.0, 1.0), (3.0, 1.0, 2.0), np.zeros(3))
    still, moved = phantom(scan(), np.eye(4)), phantom(scan(), truth)
    first, second = register_rigid(moved, still), register_rigid(moved, still)
    np.testing.assert_array_equal(first.matrix, second.matrix)


def test_a_volume_far_away_is_found_by_its_middle():
    truth = motion_of((0.0, 0.0, 5.0), (400.0, -300.0, 900.0), np.zeros(3))
    affine = scan().affine.copy()
    affine[:3, 3] += truth[:3, 3]
    there = Geometry(affine, scan().shape, "7.7")
    found = register_rigid(phantom(there, truth), phantom(scan(), np.eye(4)))
    assert error_mm(found, truth, np.random.default_rng(2).uniform(-50, 50, (99, 3))) <= 0.2


def test_undefined_voxels_do_not_hinder():
    still = phantom(scan(), np.eye(4))
    holes = still.values.copy()
    holes[:3] = np.nan
    found = register_rigid(Volume(holes, still.geometry, "1", "1.3"), still)
    assert error_mm(found, np.eye(4), np.random.default_rng(3).uniform(-40, 40, (99, 3))) <= 0.2


def test_volumes_that_share_nothing_are_refused_with_what_was_found():
    noise = np.random.default_rng(4).normal(size=scan().shape).astype(np.float32)
    with pytest.raises(InputError, match="registration_failed") as refused:
        register_rigid(Volume(noise, scan(), "1", "1.3"), phantom(scan(), np.eye(4)))
    assert float(refused.value.facts["information"]) < 0.05


@pytest.mark.parametrize("empty", ["fixed", "moving"])
def test_an_even_volume_is_refused(empty):
    even = Volume(np.full(scan().shape, 5, np.int16), scan(), "1", "1.3")
    full = phantom(scan(), np.eye(4))
    pair = (full, even) if empty == "fixed" else (even, full)
    with pytest.raises(InputError, match="registration_failed"):
        register_rigid(*pair)


def test_several_time_points_are_refused():
    still = phantom(scan(), np.eye(4))
    times = Volume(np.stack([still.values] * 2), scan(), "1", "1.3", times_s=(0.0, 1.0))
    with pytest.raises(InputError, match="volume_shape"):
        register_rigid(times, still)


def test_the_gradient_is_the_slope_of_the_information():
    random = np.random.default_rng(5)
    values = ndimage.gaussian_filter(random.normal(size=(30, 32, 34)), 3).astype(np.float32)
    offsets, center = random.uniform(-10, 10, (5000, 3)), np.array([15.0, 16.0, 17.0])
    to_index = np.eye(4)
    to_index[:3, 3] = (0.5, 0.2, -0.3)
    bins = fixed_bins(read_at(values, offsets + center), window(values))
    samples = Samples(offsets, bins, center, values, to_index, window(values))
    motion = np.array([0.1, -0.05, 0.2, 0.5, -0.3, 0.7])
    steps = 1e-5 * np.eye(6)
    slope = [
        (information(samples, motion + step).nats - information(samples, motion - step).nats) / 2e-5
        for step in steps
    ]
    np.testing.assert_allclose(information(samples, motion).gradient, slope, rtol=0.02, atol=1e-4)


def test_a_volume_tells_most_about_itself_when_it_is_not_moved():
    values = phantom(scan(), np.eye(4)).values
    places = np.random.default_rng(6).uniform(5, 30, (4000, 3))
    bins = fixed_bins(read_at(values, places), window(values))
    samples = Samples(places, bins, np.zeros(3), values, np.eye(4), window(values))
    nats = [information(samples, np.array([0, 0, 0, s, 0, 0])).nats for s in (-1.0, 0.0, 1.0)]
    assert nats[1] > max(nats[0], nats[2])
    gone = information(samples, np.array([0.0, 0, 0, 1e4, 0, 0]))
    assert (gone.nats, gone.inside) == (0.0, 0.0)
