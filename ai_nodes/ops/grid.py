"""Brings values from one grid to another without losing where they lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops import interpolation
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError

Order = Literal["nearest", "linear", "cubic"]

ALIGNED: Final = 1e-5
"""Steps by which two grids may miss each other and still count as lying on one another."""

_KERNELS: Final = {
    "nearest": interpolation.nearest,
    "linear": interpolation.linear,
    "cubic": interpolation.cubic,
}


def resample(
    values: NDArray[Any],
    source: Geometry,
    target: Geometry,
    order: Order = "linear",
    *,
    outside: float = 0.0,
    transform: NDArray[np.float64] | None = None,
    smooth: bool = False,
) -> NDArray[Any]:
    """`values` of the grid `source` as they are on the grid `target`.

    Grids may be oblique, flipped or sheared. Where the voxels of the target lie on voxels of the
    source, values are copied, so that a way there and back over such grids loses nothing.

    Parameters
    ----------
    values : (k, j, i) or (t, k, j, i)
        Any number or bool. NaN means "not defined here" and makes its neighbours undefined only
        where it has weight.
    order : "nearest", "linear" or "cubic"
        Nearest for masks and labels, which keep their dtype; cubic is the B-spline. Linear and
        cubic give float32, of float64 float64.
    outside : float
        The value beyond the source, whose cells reach half a step beyond their centres.
    transform : (4, 4) or None
        LPS mm of the source to LPS mm of the target, such as `Rigid.matrix`. Without one both
        must have the same frame of reference.
    smooth : bool
        Whether to take away what the steps of a coarser target cannot hold; see `smoothed`. Off
        by default: interpolation then takes samples, as ITK does, and a value read at a voxel's
        centre is that voxel's. Never done for "nearest".

    Raises
    ------
    InputError
        `volume_shape` when values do not lie on `source`; `frame_differs`; `geometry` when the
        transform is no affine one or cannot be undone.
    """
    if values.shape[-3:] != source.shape or values.ndim not in (3, 4):
        raise InputError("volume_shape")
    if transform is None and source.frame_uid != target.frame_uid:
        raise InputError("frame_differs")
    if values.ndim == 4:
        options: dict[str, Any] = {"outside": outside, "transform": transform, "smooth": smooth}
        return np.stack([resample(each, source, target, order, **options) for each in values])
    matrix, offset = index_map(source, target, transform)
    exact = _snapped(matrix, offset, target.shape)
    if order != "nearest" and values.dtype != np.float64:
        wanted = np.dtype(np.float32)
    else:
        wanted = values.dtype.newbyteorder("=")
    out = np.full(target.shape, outside, wanted)
    if exact is not None:
        interpolation.nearest(values.astype(wanted, copy=False), *exact, out)
        return out
    if smooth and order != "nearest":
        values = smoothed(values, matrix)
    _KERNELS[order](values, matrix, offset, out)
    return out


def index_map(
    source: Geometry, target: Geometry, transform: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) and (3,) that bring an index of `target` to one of `source`.

    Raises
    ------
    InputError
        `geometry` when the transform is no affine one or cannot be undone.
    """
    # A transform has to be what a grid's affine has to be, so it is checked as one.
    way = Geometry(np.eye(4) if transform is None else transform, (1, 1, 1), "")
    whole = np.linalg.inv(source.affine) @ np.linalg.inv(way.affine) @ target.affine
    return np.ascontiguousarray(whole[:3, :3]), np.ascontiguousarray(whole[:3, 3])


def smoothed(values: NDArray[Any], matrix: NDArray[np.float64]) -> NDArray[Any]:
    """`values` blurred as far as voxels of the target are wider than those of the source.

    Both are taken for Gaussians with a full width at half maximum of one step; the blur is what
    brings one to the other, axis by axis of the source. Undefined values weigh nothing.

    Parameters
    ----------
    matrix : (3, 3)
        Steps of the target in steps of the source, as from `index_map`.

    References
    ----------
    Cardoso MJ et al. MICCAI 2015, LNCS 9350:81-88, section 2.1 (scale factor point spread).
    """
    widths = np.einsum("ab,ab->a", matrix, matrix)
    sigma = np.sqrt(np.maximum(widths - 1.0, 0.0) / (8.0 * np.log(2.0)))
    kept = values if values.dtype == np.float64 else values.astype(np.float32)
    undefined = np.isnan(kept)
    if not undefined.any():
        return np.asarray(ndimage.gaussian_filter(kept, sigma, mode="nearest"))
    total = ndimage.gaussian_filter(np.where(undefined, 0, kept), sigma, mode="nearest")
    weight = ndimage.gaussian_filter((~undefined).astype(kept.dtype), sigma, mode="nearest")
    blurred = np.full_like(kept, np.nan)
    np.divide(total, weight, out=blurred, where=~undefined)
    return blurred


def spaced(geometry: Geometry, spacing_mm: tuple[float, float, float]) -> Geometry:
    """The grid with about this spacing (k, j, i) and exactly the same field of view.

    The outer corners of the outermost voxels stay where they are; the number of steps is the
    nearest whole one, so a step may differ from the wish by half a voxel over the whole field.

    Raises
    ------
    InputError
        `geometry` when a spacing is not a positive number.
    """
    wished = np.asarray(spacing_mm, np.float64)
    if wished.shape != (3,) or not np.isfinite(wished).all() or float(wished.min()) <= 0.0:
        raise InputError("geometry")
    steps_mm = np.array([geometry.slice_spacing_mm, *geometry.pixel_spacing_mm])
    shape = np.maximum(1, np.rint(np.array(geometry.shape) * steps_mm / wished)).astype(int)
    scale = np.array(geometry.shape) / shape
    affine = geometry.affine.copy()
    affine[:3, :3] *= scale
    affine[:3, 3] = geometry.to_patient_mm((scale - 1.0) / 2.0)
    return Geometry(affine, (int(shape[0]), int(shape[1]), int(shape[2])), geometry.frame_uid)


def resample_to_spacing(
    values: NDArray[Any],
    geometry: Geometry,
    spacing_mm: tuple[float, float, float],
    order: Order = "linear",
    *,
    smooth: bool = True,
) -> tuple[NDArray[Any], Geometry]:
    """Values on the grid of `spaced`, smoothed where it is coarser, and that grid."""
    target = spaced(geometry, spacing_mm)
    return resample(values, geometry, target, order, smooth=smooth), target


@dataclass(frozen=True, slots=True)
class Region:
    """A box of voxels: its first (k, j, i) and how many there are along each axis."""

    first: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What to index a (k, j, i) array with."""
        k, j, i = (slice(a, a + n) for a, n in zip(self.first, self.shape, strict=True))
        return k, j, i


def bounding_region(
    mask: NDArray[np.bool_], geometry: Geometry, *, margin_mm: float = 0.0
) -> Region:
    """The smallest box around a mask that holds every voxel within `margin_mm` of it.

    Measured at right angles to the box's faces, so that it holds for sheared grids too; cut off
    at the edge of the grid.

    Raises
    ------
    InputError
        `mask_shape` when the mask does not lie on `geometry`, `region_empty` when it is empty.
    """
    if mask.shape != geometry.shape:
        raise InputError("mask_shape")
    per_mm = np.linalg.norm(np.linalg.inv(geometry.affine[:3, :3]), axis=1)
    first, shape = [], []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not used.size:
            raise InputError("region_empty")
        wider = int(np.ceil(margin_mm * per_mm[axis] - ALIGNED))
        low = max(0, int(used[0]) - wider)
        first.append(low)
        shape.append(min(geometry.shape[axis], int(used[-1]) + wider + 1) - low)
    return Region((first[0], first[1], first[2]), (shape[0], shape[1], shape[2]))


def cropped(geometry: Geometry, region: Region) -> Geometry:
    """The grid of a region."""
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.to_patient_mm(np.array(region.first, np.float64))
    return Geometry(affine, region.shape, geometry.frame_uid)


def paste(
    part: NDArray[Any], inner: Geometry, whole: Geometry, *, outside: float = 0.0
) -> NDArray[Any]:
    """The values of a part of a grid within all of it, `outside` elsewhere.

    Raises
    ------
    InputError
        `volume_shape`; `frame_differs`; `grid_not_aligned` when the voxels of `inner` are not
        voxels of `whole`.
    """
    exact = _snapped(*index_map(inner, whole), whole.shape)
    if exact is None:
        raise InputError("grid_not_aligned")
    out = np.full(whole.shape, outside, part.dtype.newbyteorder("="))
    if part.shape != inner.shape:
        raise InputError("volume_shape")
    if inner.frame_uid != whole.frame_uid:
        raise InputError("frame_differs")
    interpolation.nearest(part, *exact, out)
    return out


def _snapped(
    matrix: NDArray[np.float64], offset: NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Matrix and offset in whole numbers, if that moves no voxel by more than `ALIGNED`."""
    whole, start = np.rint(matrix), np.rint(offset)
    reach = np.abs(matrix - whole) @ np.array(shape, np.float64) + np.abs(offset - start)
    return (whole, start) if float(reach.max()) <= ALIGNED else None
