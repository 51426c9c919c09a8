"""A region given by hand lies exactly on the volume's grid, or is refused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from ai_nodes.ops.region_file import load_region
from dicom_services.dicom.seg import segmentation
from dicom_services.domain.findings import Code, Mask
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError
from tests import sources

SHAPE = (5, 7, 9)


def geometry(frame: str = "1.2.3") -> Geometry:
    """Oblique, anisotropic, off the origin."""
    angle = np.radians(20.0)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    affine = np.eye(4)
    affine[:3, 0] = turn @ [0.0, 0.0, 3.0]
    affine[:3, 1] = turn @ [0.0, 0.6, 0.0]
    affine[:3, 2] = turn @ [0.5, 0.0, 0.0]
    affine[:3, 3] = [-12.0, 30.5, 700.25]
    return Geometry(affine, SHAPE, frame)


def region() -> NDArray[np.bool_]:
    return np.random.default_rng(3).random(SHAPE) < 0.3


def write_nifti(
    path: Path, values: NDArray[np.bool_], grid: Geometry, shift_mm: float = 0.0
) -> None:
    image = SimpleITK.GetImageFromArray(values.astype(np.uint8))
    steps = grid.affine[:3, 2::-1]
    spacing = np.linalg.norm(steps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((steps / spacing).ravel().tolist())
    image.SetOrigin((grid.affine[:3, 3] + [shift_mm, 0, 0]).tolist())
    SimpleITK.WriteImage(image, str(path))


def test_a_nifti_on_the_same_grid_is_read_voxel_for_voxel(tmp_path: Path) -> None:
    path = tmp_path / "region.nii.gz"
    write_nifti(path, region(), geometry())
    assert np.array_equal(load_region(path, geometry()), region())


@pytest.mark.parametrize("flips", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_a_nifti_with_turned_axes_lands_on_the_same_voxels(
    tmp_path: Path, flips: tuple[int, ...]
) -> None:
    path = tmp_path / "region.nii"
    affine = geometry().affine.copy()
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
        affine[:3, axis] *= -1
    write_nifti(path, np.flip(region(), flips), Geometry(affine, SHAPE, "1.2.3"))
    assert np.array_equal(load_region(path, geometry()), region())


def test_a_nifti_with_exchanged_axes_lands_on_the_same_voxels(tmp_path: Path) -> None:
    path = tmp_path / "region.nii"
    affine = geometry().affine[:, [1, 0, 2, 3]]
    write_nifti(
        path, region().transpose(1, 0, 2), Geometry(affine, (SHAPE[1], SHAPE[0], SHAPE[2]), "1")
    )
    assert np.array_equal(load_region(path, geometry()), region())


@pytest.mark.parametrize("shift_mm", [0.1, 0.5, -40.0])
def test_a_nifti_on_a_shifted_grid_is_refused(tmp_path: Path, shift_mm: float) -> None:
    path = tmp_path / "region.nii"
    write_nifti(path, region(), geometry(), shift_mm)
    with pytest.raises(InputError, match="region_grid"):
        load_region(path, geometry())


def test_a_nifti_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "region.nii"
    write_nifti(path, region()[:4], Geometry(geometry().affine, (4, *SHAPE[1:]), "1"))
    with pytest.raises(InputError, match="region_grid"):
        load_region(path, geometry())


def test_an_empty_region_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "region.nii"
    write_nifti(path, np.zeros(SHAPE, np.bool_), geometry())
    with pytest.raises(InputError, match="region_empty"):
        load_region(path, geometry())


@pytest.mark.parametrize("name", ["region.nii", "region.dcm"])
def test_what_is_neither_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"no image at all")
    with pytest.raises(InputError, match="region_unreadable"):
        load_region(path, geometry())
    with pytest.raises(InputError, match="region_unreadable"):
        load_region(tmp_path / "absent", geometry())


def write_segmentation(path: Path, masks: Sequence[NDArray[np.bool_]]) -> Geometry:
    """A segmentation as the product itself writes it, with a segment for each mask."""
    grid = sources.geometry(shape=SHAPE, step_mm=(0.0, 0.0, -3.0))
    code = Code("1", "99TEST", "Region")
    made = [
        Mask(code, code, "region", values, grid, tracking=f"region {number}")
        for number, values in enumerate(masks)
    ]
    dataset = segmentation(made, sources.source(grid), sources.provenance())
    assert dataset is not None
    dataset.save_as(path, enforce_file_format=True)
    return grid


def minimal_segmentation(grid: Geometry, frames: NDArray[np.uint8], kind: str) -> Dataset:
    """A segmentation frame by frame along k, with no more than places and pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SegmentationStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.9"
    dataset.Modality = "SEG"
    dataset.SegmentationType = kind
    dataset.MaximumFractionalValue = 200
    dataset.FrameOfReferenceUID = grid.frame_uid
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = frames.tobytes() + b"\0" * (frames.size % 2)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    row, column = grid.affine[:3, 2], grid.affine[:3, 1]
    orientation.ImageOrientationPatient = [
        f"{value:.10f}" for step in (row, column) for value in step / np.linalg.norm(step)
    ]
    measures.PixelSpacing = [f"{np.linalg.norm(column):.8f}", f"{np.linalg.norm(row):.8f}"]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for k in range(frames.shape[0]):
        group, place = Dataset(), Dataset()
        corner = grid.to_patient_mm(np.array([k, 0.0, 0.0]))
        place.ImagePositionPatient = [f"{value:.8f}" for value in corner]
        group.PlanePositionSequence = [place]
        dataset.PerFrameFunctionalGroupsSequence.append(group)
    return dataset


def saved(path: Path, dataset: Dataset) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_segmentation_of_our_own_is_read_back_whole(tmp_path: Path) -> None:
    first, second = region(), np.random.default_rng(4).random(SHAPE) < 0.1
    first[2] = second[2] = False
    grid = write_segmentation(tmp_path / "seg.dcm", [first, second])
    assert np.array_equal(load_region(tmp_path / "seg.dcm", grid), first | second)


@pytest.mark.parametrize(("kind", "least"), [("FRACTIONAL", 100), ("LABELMAP", 1)])
def test_fractions_count_from_one_half_and_labels_from_one(
    tmp_path: Path, kind: str, least: int
) -> None:
    values = np.random.default_rng(5).integers(0, 201, SHAPE).astype(np.uint8)
    path = saved(tmp_path / "seg.dcm", minimal_segmentation(geometry(), values, kind))
    assert np.array_equal(load_region(path, geometry()), values >= least)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2)])
def test_frames_in_any_plane_and_direction_land_on_the_same_voxels(
    tmp_path: Path, order: tuple[int, int, int], flips: tuple[int, ...]
) -> None:
    affine = geometry().affine.copy()
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
        affine[:3, axis] *= -1
    turned = Geometry(affine[:, [*order, 3]], tuple(SHAPE[axis] for axis in order), "1.2.3")
    values = np.flip(region(), flips).transpose(order).astype(np.uint8)
    path = saved(tmp_path / "seg.dcm", minimal_segmentation(turned, values, "LABELMAP"))
    assert np.array_equal(load_region(path, geometry()), region())


def test_a_segmentation_of_another_grid_or_frame_is_refused(tmp_path: Path) -> None:
    values = region().astype(np.uint8)
    path = tmp_path / "seg.dcm"
    shifted = geometry().affine.copy()
    shifted[:3, 3] += [0.2, 0.0, 0.0]
    finer = geometry().affine @ np.diag([1.0, 1.0, 0.5, 1.0])
    beyond = geometry().affine.copy()
    beyond[:3, 3] += affine_step(1)
    for grid in (
        geometry("1.2.4"),
        Geometry(shifted, SHAPE, "1.2.3"),
        Geometry(finer, SHAPE, "1.2.3"),
        Geometry(beyond, SHAPE, "1.2.3"),
    ):
        saved(path, minimal_segmentation(grid, values, "LABELMAP"))
        with pytest.raises(InputError, match="region_grid"):
            load_region(path, geometry())
    saved(path, minimal_segmentation(geometry(), values[:, :6], "LABELMAP"))
    with pytest.raises(InputError, match="region_grid"):
        load_region(path, geometry())


def affine_step(axis: int) -> NDArray[np.float64]:
    step: NDArray[np.float64] = geometry().affine[:3, axis]
    return step


def test_a_frame_outside_of_the_volume_is_refused(tmp_path: Path) -> None:
    longer = Geometry(geometry().affine, (6, *SHAPE[1:]), "1.2.3")
    values = np.ones((6, *SHAPE[1:]), np.uint8)
    path = saved(tmp_path / "seg.dcm", minimal_segmentation(longer, values, "LABELMAP"))
    with pytest.raises(InputError, match="region_grid"):
        load_region(path, geometry())


def test_without_a_frame_of_reference_nothing_can_be_compared(tmp_path: Path) -> None:
    values = region().astype(np.uint8)
    path = saved(tmp_path / "seg.dcm", minimal_segmentation(geometry(), values, "LABELMAP"))
    with pytest.raises(InputError, match="region_grid"):
        load_region(path, geometry(""))


def test_dicom_that_is_no_segmentation_is_refused(tmp_path: Path) -> None:
    whole = minimal_segmentation(geometry(), region().astype(np.uint8), "LABELMAP")
    other = copy.deepcopy(whole)
    other.Modality = "CT"
    huge = copy.deepcopy(whole)
    huge.Rows = huge.Columns = 65535
    short = copy.deepcopy(whole)
    short.PixelData = whole.PixelData[:10]
    placeless = copy.deepcopy(whole)
    del placeless.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    for dataset in (other, huge, short, placeless):
        with pytest.raises(InputError, match="region_unreadable"):
            load_region(saved(tmp_path / "seg.dcm", dataset), geometry())


def test_a_nifti_with_time_or_colour_is_refused(tmp_path: Path) -> None:
    moving = SimpleITK.GetImageFromArray(np.ones((2, *SHAPE), np.uint8), isVector=False)
    coloured = SimpleITK.GetImageFromArray(np.ones((*SHAPE, 3), np.uint8), isVector=True)
    for image in (moving, coloured):
        SimpleITK.WriteImage(image, str(tmp_path / "region.nii"))
        with pytest.raises(InputError, match="region_grid"):
            load_region(tmp_path / "region.nii", geometry())


def test_a_real_segmentation_lies_on_no_grid_but_its_own(shared_data: Path) -> None:
    path = shared_data / "seg-sr-samples/data/test_files/seg_image_ct_binary.dcm"
    with pytest.raises(InputError, match="region_grid"):
        load_region(path, geometry())
