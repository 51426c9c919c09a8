"""A region given by hand lies exactly on the volume's grid, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from ai_nodes.ops.region_file import load_region
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError

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
    image = sitk.GetImageFromArray(values.astype(np.uint8))
    steps = grid.affine[:3, 2::-1]
    spacing = np.linalg.norm(steps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((steps / spacing).ravel().tolist())
    image.SetOrigin((grid.affine[:3, 3] + [shift_mm, 0, 0]).tolist())
    sitk.WriteImage(image, str(path))


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
