"""The heart's region: on phantoms whose anatomy is known, and on two real chest CTs."""

from __future__ import annotations

import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops.heart import HeartRegion, heart_region
from dicom_services.body import LABELS, random_body
from dicom_services.dicom.read import read_series
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume
from dicom_services.phantom import Phantom, Scan, paint_phantom, random_phantom
from tests.phantoms import CORONARY_COURSE_LIDC_0002, HOUNSFIELD, insert_lesions, rotation


def as_ct(values: NDArray[np.int16], affine: NDArray[np.float64]) -> Volume:
    geometry = Geometry(affine, values.shape, "1.2.3")
    return Volume(np.ascontiguousarray(values), geometry, HOUNSFIELD, "1.2", Acquisition("CT"))


@cache
def phantom(seed: int, view: str) -> tuple[Phantom, HeartRegion]:
    made = random_phantom(seed, view, lesions=8, matrix=256)
    return made, heart_region(made.volume)


@cache
def tall() -> Phantom:
    scan = Scan(matrix=224, fov_mm=400.0, spacing_mm=3.0, top_mm=170.0, bottom_mm=-170.0)
    return paint_phantom(random_body(11), scan)


@cache
def real(folder: Path) -> Volume:
    return read_series(sorted(folder.rglob("*.dcm"))).volume


def share(region: HeartRegion, labels: NDArray[np.uint8], name: str) -> float:
    part = labels == LABELS[name]
    return np.count_nonzero(region.mask & part) / max(1, np.count_nonzero(part))


PHANTOMS = [(21, "chest"), (22, "chest"), (23, "cardiac"), (24, "cardiac"), (25, "cardiac")]


@pytest.mark.parametrize(("seed", "view"), PHANTOMS)
def test_every_planted_lesion_lies_in_the_region(seed, view):
    made, region = phantom(seed, view)
    assert region.found
    assert len(made.lesions) >= 6
    for lesion in made.lesions:
        for part in lesion.slices:
            assert region.mask[part.k, part.rows, part.columns].all()


@pytest.mark.parametrize(("seed", "view"), PHANTOMS)
def test_calcium_of_other_organs_and_metal_stay_out(seed, view):
    made, region = phantom(seed, view)
    solid = region.mask & (made.volume.values >= 130)
    for name in (
        "bone",
        "aorta_arch_calcium",
        "aorta_descending_calcium",
        "pacemaker_lead",
        "rib_cartilage_calcium",
        "lung_granuloma",
    ):
        assert np.count_nonzero(solid & (made.labels == LABELS[name])) == 0, name


def test_metal_in_the_heart_is_told_and_none_is_told_without():
    assert phantom(21, "chest")[1].metal_mm3 > 10.0
    bare = random_phantom(21, "cardiac", lesions=0, decoys=(), matrix=192)
    assert heart_region(bare.volume).metal_mm3 == 0.0


@pytest.mark.parametrize(("seed", "view"), PHANTOMS)
def test_region_holds_heart_and_arteries_but_neither_spine_nor_lung(seed, view):
    made, region = phantom(seed, view)
    assert share(region, made.labels, "artery") > 0.97
    assert share(region, made.labels, "heart") > 0.9
    assert share(region, made.labels, "bone") < 0.001
    assert share(region, made.labels, "lung") < 0.05
    assert region.blood_pool_hu == pytest.approx(44.0, abs=3.0)
    assert not region.has_contrast


def test_order_and_direction_of_the_index_axes_do_not_matter():
    made, region = phantom(21, "chest")
    geometry, values = made.volume.geometry, made.volume.values
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.to_patient_mm(np.array(geometry.shape) - 1.0)
    affine[:3, :3] *= -1.0
    flipped = heart_region(as_ct(values[::-1, ::-1, ::-1], affine))
    assert (flipped.mask[::-1, ::-1, ::-1] != region.mask).mean() < 1e-4
    coronal = heart_region(as_ct(values.transpose(1, 0, 2), geometry.affine[:, [1, 0, 2, 3]]))
    assert (coronal.mask.transpose(1, 0, 2) != region.mask).mean() < 1e-4


def resampled(made: Phantom, affine: NDArray[np.float64], shape: tuple[int, int, int]):
    into = np.linalg.inv(made.volume.geometry.affine) @ affine
    matrix, offset = into[:3, :3], into[:3, 3]
    values = ndimage.affine_transform(made.volume.values, matrix, offset, shape, order=1)
    labels = ndimage.affine_transform(made.labels, matrix, offset, shape, order=0)
    return as_ct(values, affine), labels


@pytest.mark.parametrize(
    ("axis", "degrees", "shear"),
    [((1, 0, 0), 15, 0.0), ((0, 1, 0), 12, 0.0), ((0, 0, 1), 30, 0.0), ((1, 0, 0), 0, 0.4)],
)
def test_oblique_and_sheared_slices_find_the_same_heart(axis, degrees, shear):
    turn = rotation(axis, degrees)
    shape = (60, 200, 200)
    affine = np.eye(4)
    affine[:3, 0] = turn @ np.array([0.0, 3.0 * shear, 3.0])
    affine[:3, 1] = turn @ np.array([0.0, 1.5, 0.0])
    affine[:3, 2] = turn @ np.array([1.5, 0.0, 0.0])
    affine[:3, 3] = np.array([4.0, 4.0, 10.0]) - affine[:3, :3] @ ((np.array(shape) - 1.0) / 2.0)
    ct, labels = resampled(tall(), affine, shape)
    region = heart_region(ct)
    assert region.found
    assert share(region, labels, "artery") > 0.95
    assert share(region, labels, "bone") < 0.001


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_patient_who_lies_15_degrees_askew_keeps_his_arteries(axis):
    made = tall()
    geometry = made.volume.geometry
    middle = (np.array(geometry.shape) - 1.0) / 2.0
    affine = geometry.affine.copy()
    affine[:3, :3] = rotation(axis, 15.0) @ affine[:3, :3]
    affine[:3, 3] = geometry.to_patient_mm(middle) - affine[:3, :3] @ middle
    region = heart_region(as_ct(made.volume.values, affine))
    assert region.found
    assert share(region, made.labels, "artery") > 0.95


@pytest.mark.parametrize("blood_hu", [320.0, 110.0])
@pytest.mark.parametrize("view", ["chest", "cardiac"])
def test_enhanced_blood_is_told_as_contrast(view, blood_hu):
    made = random_phantom(5, view, lesions=0, decoys=(), matrix=224, blood_hu=blood_hu)
    region = heart_region(made.volume)
    assert region.found
    assert region.has_contrast
    assert region.blood_pool_hu == pytest.approx(blood_hu + 4.0, abs=5.0)


@pytest.mark.parametrize(("top_mm", "bottom_mm"), [(-55.0, -170.0), (-30.0, -140.0), (170.0, 70.0)])
def test_belly_and_upper_chest_hold_no_heart(top_mm, bottom_mm):
    scan = Scan(matrix=192, top_mm=top_mm, bottom_mm=bottom_mm)
    region = heart_region(paint_phantom(random_body(5), scan).volume)
    assert not region.found
    assert region.reason == "no_heart"
    assert not region.mask.any()
    assert np.isnan(region.blood_pool_hu)


def test_lungs_without_a_heart_hold_no_heart():
    body = random_body(5, with_heart=False)
    region = heart_region(paint_phantom(body, Scan(matrix=192)).volume)
    assert (region.found, region.reason) == (False, "no_heart")


@pytest.mark.parametrize("hu", [-1000, 0, 1000])
@pytest.mark.parametrize("shape", [(20, 64, 64), (1, 64, 64), (2, 2, 2)])
def test_uniform_volumes_hold_no_lungs(hu, shape):
    ct = as_ct(np.full(shape, hu, np.int16), np.diag([3.0, 1.0, 1.0, 1.0]))
    assert heart_region(ct).reason == "no_lungs"


def test_pure_noise_holds_no_lungs():
    noise = np.random.default_rng(0).integers(-1024, 3000, (30, 96, 96)).astype(np.int16)
    assert heart_region(as_ct(noise, np.diag([3.0, 2.0, 2.0, 1.0]))).reason == "no_lungs"


def test_trunk_without_a_heart_is_refused(shared_data):
    import SimpleITK

    path = shared_data / "ct-torso" / "tests" / "reference_files" / "example_ct.nii.gz"
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    columns = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, :3] = columns[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    values = SimpleITK.GetArrayFromImage(image).astype(np.int16)
    region = heart_region(as_ct(values, affine))
    assert (region.found, region.reason) == (False, "no_lungs")


REAL = [("lidc-idri-0002", 120), ("lung-dx-a0001", 40)]


def counted_pixels(ct: Volume, mask: NDArray[np.bool_]) -> int:
    """Pixels at 130 HU and above in parts of a slice of at least 1 mm2."""
    count = 0
    for k in range(ct.geometry.shape[0]):
        labels, _ = ndimage.label(mask[k] & (ct.values[k] >= 130), np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        count += int(sizes[sizes * ct.geometry.pixel_area_mm2 >= 1.0].sum())
    return count


@pytest.mark.parametrize(("name", "voxels"), REAL)
def test_real_hearts_without_calcium_keep_few_bright_voxels(shared_data, name, voxels):
    """Crude thresholds between lungs and spine leave 44 and 198; whole slices hold 750,000."""
    ct = real(shared_data / "chest-ct" / name)
    region = heart_region(ct)
    assert region.found
    assert 30.0 <= region.blood_pool_hu <= 50.0
    assert 600.0 <= dict(region.steps)["heart_ml"] <= 800.0
    assert np.count_nonzero(region.mask & (ct.values >= 130)) <= voxels
    assert counted_pixels(ct, region.mask) <= 25


def test_lesions_put_along_real_arteries_all_lie_in_the_region(shared_data):
    ct = real(shared_data / "chest-ct" / "lidc-idri-0002")
    changed, planted = insert_lesions(ct, CORONARY_COURSE_LIDC_0002)
    region = heart_region(changed)
    for lesion in planted:
        for part in lesion.slices:
            assert region.mask[part.k, part.rows, part.columns].all(), (lesion.vessel, part.k)


@pytest.mark.parametrize("padding_hu", [-3024, -1024])
def test_box_about_a_real_heart_with_round_padding_keeps_the_lesions(shared_data, padding_hu):
    whole = real(shared_data / "chest-ct" / "lidc-idri-0002")
    whole, planted = insert_lesions(whole, CORONARY_COURSE_LIDC_0002)
    values = whole.values[:, 70:400, 110:440].copy()
    j, i = np.ogrid[:330, :330]
    values[:, np.hypot(j - 164.5, i - 164.5) > 165.0] = padding_hu
    affine = whole.geometry.affine.copy()
    affine[:3, 3] = whole.geometry.to_patient_mm(np.array([0.0, 70.0, 110.0]))
    region = heart_region(as_ct(values, affine))
    inside = [
        region.mask[part.k, np.array(part.rows) - 70, np.array(part.columns) - 110].all()
        for lesion in planted
        for part in lesion.slices
    ]
    assert all(inside)


def test_half_a_real_heart_says_where_it_is_cut(shared_data):
    ct = real(shared_data / "chest-ct" / "lidc-idri-0002")
    upper = as_ct(ct.values[50:], ct.geometry.affine)
    steps = dict(heart_region(upper).steps)
    assert steps["cut_below_cm2"] > 50.0


def test_memory_stays_below_the_volume_itself(shared_data):
    ct = real(shared_data / "chest-ct" / "lidc-idri-0002")
    heart_region(ct)
    tracemalloc.start()
    heart_region(ct)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.0 * ct.values.nbytes
