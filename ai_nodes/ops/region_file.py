"""A region drawn elsewhere, DICOM segmentation or NIfTI, as a mask on the grid of a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_services.dicom.segmented_region import SegmentedFrame, read_segmented_frames
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError

TOLERANCE_VOXELS: Final = 0.05
"""How far a voxel of the region may lie from one of the volume; NIfTI keeps 32-bit floats."""


def load_region(path: Path, geometry: Geometry) -> NDArray[np.bool_]:
    """Everything marked in a file, on the voxels of `geometry`.

    The grids must be the same but for the order and direction of their axes; nothing is
    interpolated. Segments or labels are united. A DICOM segmentation may leave out slices.

    Returns
    -------
    (k, j, i) bool

    Raises
    ------
    InputError
        `region_unreadable` when it is neither format, `region_grid` when the grids differ,
        `region_empty` when nothing is marked.
    """
    nifti = path.name.lower().endswith((".nii", ".nii.gz"))
    mask = _from_nifti(path, geometry) if nifti else _from_dicom(path, geometry)
    if not mask.any():
        raise InputError("region_empty")
    return mask


def _from_dicom(path: Path, geometry: Geometry) -> NDArray[np.bool_]:
    mask = np.zeros(geometry.shape, np.bool_)
    for frame in read_segmented_frames(path):
        if not geometry.frame_uid or frame.frame_uid != geometry.frame_uid:
            raise InputError("region_grid")
        _mark(mask, frame, geometry)
    return mask


def _mark(mask: NDArray[np.bool_], frame: SegmentedFrame, geometry: Geometry) -> None:
    """Mark what one frame holds; a frame covers a slice of the grid across any of its axes."""
    start, *steps = _steps(geometry, frame.position_mm, frame.row_step_mm, frame.column_step_mm)
    turned, across = _turned(frame.values, start, steps, geometry)
    at: list[slice | int] = [slice(None)] * 3
    at[across] = int(start[across])
    mask[tuple(at)] |= turned


def _from_nifti(path: Path, geometry: Geometry) -> NDArray[np.bool_]:
    # Loading it takes longer than most runs that do without.
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError:
        raise InputError("region_unreadable") from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError("region_grid")
    values: NDArray[Any] = SimpleITK.GetArrayViewFromImage(image)
    turn = np.array(image.GetDirection(), np.float64).reshape(3, 3) * image.GetSpacing()
    # SimpleITK's own index is (x, y, z), its arrays are (z, y, x), its space is LPS.
    start, *steps = _steps(
        geometry, np.array(image.GetOrigin()), turn[:, 2], turn[:, 1], turn[:, 0]
    )
    turned, _ = _turned(values > 0, start, steps, geometry)
    return np.ascontiguousarray(turned)


def _steps(
    geometry: Geometry, origin_mm: NDArray[np.float64], *steps_mm: NDArray[np.float64]
) -> list[NDArray[np.int64]]:
    """The index of a place, and by how much each step moves the index: one along one axis.

    Raises
    ------
    InputError
        `region_grid` when the place is no voxel or a step does not lead to its neighbour.
    """
    start = geometry.to_index(origin_mm)
    found = [np.rint(start).astype(np.int64)]
    off = [float(np.abs(start - found[0]).max())]
    for step in steps_mm:
        move = geometry.to_index(origin_mm + step) - start
        whole = np.rint(move).astype(np.int64)
        if np.abs(whole).sum() != 1:
            raise InputError("region_grid")
        found.append(whole)
        # What a step is off adds up along the grid.
        count = geometry.shape[int(np.abs(whole).argmax())]
        off.append(float(np.abs(move - whole).max()) * count)
    if not max(off) <= TOLERANCE_VOXELS:
        raise InputError("region_grid", voxels=round(max(off), 3))
    return found


def _turned(
    values: NDArray[np.bool_],
    start: NDArray[np.int64],
    steps: list[NDArray[np.int64]],
    geometry: Geometry,
) -> tuple[NDArray[np.bool_], int]:
    """Values with their axes in the order and direction of the grid's, which they must cover.

    Returns
    -------
    array, int
        The latter is the axis of the grid that values of two dimensions lie across.
    """
    axes = [int(np.abs(step).argmax()) for step in steps]
    across = ({0, 1, 2} - set(axes) or {0}).pop()
    first = [
        0 if step.sum() > 0 else geometry.shape[axis] - 1
        for axis, step in zip(axes, steps, strict=True)
    ]
    fits = (
        len(set(axes)) == values.ndim
        and all(
            geometry.shape[axis] == count for axis, count in zip(axes, values.shape, strict=True)
        )
        and [int(start[axis]) for axis in axes] == first
        and 0 <= start[across] < geometry.shape[across]
    )
    if not fits:
        raise InputError("region_grid")
    flipped = values[tuple(slice(None, None, int(step.sum())) for step in steps)]
    return flipped.transpose(np.argsort(axes)), across
