"""A region given by hand: a DICOM SEG or a NIfTI on the very grid of the volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError

_TOLERANCE: Final = 0.05
"""Of a voxel: what rounding of decimal strings and float32 affines leaves."""
_SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.4"


def load_region(path: Path, geometry: Geometry) -> NDArray[np.bool_]:
    """Read a region and put it on `geometry`; all segments or labels together.

    Parameters
    ----------
    path : Path
        DICOM SEG (binary), .nii or .nii.gz. Axes may be in another order or direction.
    geometry : Geometry
        Of the volume that is scored.

    Returns
    -------
    (k, j, i) bool

    Raises
    ------
    InputError
        `region_unreadable`, `region_grid` when it is not on the same grid, `region_empty`.
    """
    if not path.is_file():
        raise InputError("region_unreadable")
    if path.name.endswith((".nii", ".nii.gz")):
        region = _from_nifti(path, geometry)
    else:
        region = _from_seg(path, geometry)
    if not region.any():
        raise InputError("region_empty")
    return region


def _from_nifti(path: Path, geometry: Geometry) -> NDArray[np.bool_]:
    # Costs a second to import, and only this needs it.
    import SimpleITK as sitk  # noqa: N813 - its own customary name

    try:
        image = sitk.ReadImage(str(path))
        values = sitk.GetArrayFromImage(image)
    except RuntimeError:
        raise InputError("region_unreadable") from None
    if values.ndim != 3:
        raise InputError("region_grid")
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return _on_grid(values != 0, affine, geometry)


def _on_grid(
    values: NDArray[np.bool_], affine: NDArray[np.float64], geometry: Geometry
) -> NDArray[np.bool_]:
    """Reorder and turn axes so that `values` lie on `geometry`, without interpolating."""
    change = np.linalg.inv(affine) @ geometry.affine
    turn = np.rint(change[:3, :3])
    exact = np.abs(change[:3, :3] - turn).max() * max(geometry.shape) <= _TOLERANCE * 10
    if not exact or not (np.abs(turn).sum(axis=0) == 1).all() or abs(np.linalg.det(turn)) != 1:
        raise InputError("region_grid")
    axes = [int(np.flatnonzero(turn[:, axis])[0]) for axis in range(3)]
    turned = values.transpose(axes)
    for axis, source in enumerate(axes):
        if turn[source, axis] < 0:
            turned = np.flip(turned, axis)
    start = [
        0.0 if turn[source, axis] > 0 else values.shape[source] - 1.0
        for axis, source in enumerate(axes)
    ]
    offset = np.array([change[source, 3] for source in axes]) - start
    if turned.shape != geometry.shape or np.abs(offset).max() > _TOLERANCE:
        raise InputError("region_grid")
    return np.ascontiguousarray(turned)


def _from_seg(path: Path, geometry: Geometry) -> NDArray[np.bool_]:
    try:
        seg = pydicom.dcmread(path)
        if str(seg.SOPClassUID) != _SEGMENTATION or seg.SegmentationType != "BINARY":
            raise InputError("region_unreadable")
        frames = seg.pixel_array.reshape(-1, int(seg.Rows), int(seg.Columns)).astype(np.bool_)
        places = [_place(seg, at) for at in range(len(frames))]
        same_frame = str(seg.get("FrameOfReferenceUID", "")) == geometry.frame_uid
    except (InvalidDicomError, AttributeError, ValueError, IndexError, OSError, KeyError):
        raise InputError("region_unreadable") from None
    if not same_frame or frames.shape[1:] != geometry.shape[1:]:
        raise InputError("region_grid")
    region = np.zeros(geometry.shape, np.bool_)
    for pixels, (corner, along_row, along_column) in zip(frames, places, strict=True):
        k = _slice_of(corner, along_row, along_column, geometry)
        region[k] |= pixels
    return region


def _slice_of(
    corner: NDArray[np.float64],
    along_row: NDArray[np.float64],
    along_column: NDArray[np.float64],
    geometry: Geometry,
) -> int:
    index = geometry.to_index(corner)
    far = geometry.to_index(
        corner + along_row * (geometry.shape[2] - 1) + along_column * (geometry.shape[1] - 1)
    )
    k = round(float(index[0]))
    wanted = np.array([[k, 0, 0], [k, geometry.shape[1] - 1, geometry.shape[2] - 1]])
    off = float(np.abs(np.stack([index, far]) - wanted).max())
    if off > _TOLERANCE or not 0 <= k < geometry.shape[0]:
        raise InputError("region_grid")
    return k


def _place(seg: Dataset, at: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Corner of a frame, and the steps along a row and along a column, LPS mm."""
    groups = [seg.PerFrameFunctionalGroupsSequence[at], seg.SharedFunctionalGroupsSequence[0]]

    def found(name: str) -> Dataset:
        return next(group[name].value[0] for group in groups if name in group)

    corner = np.array(found("PlanePositionSequence").ImagePositionPatient, np.float64)
    turn = np.array(found("PlaneOrientationSequence").ImageOrientationPatient, np.float64)
    down, across = (float(v) for v in found("PixelMeasuresSequence").PixelSpacing)
    return corner, turn[:3] * across, turn[3:] * down
