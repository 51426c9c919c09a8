"""How far the surfaces of two masks lie apart, in mm of the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances between two surfaces; NaN where only one of the masks holds anything.

    Parameters
    ----------
    hausdorff_mm : float
        The largest distance from a point of either surface to the other one.
    hausdorff_95_mm : float
        The larger of both directions' 95th percentiles.
    mean_mm : float
        Average symmetric surface distance: the mean over the points of both surfaces.

    References
    ----------
    Heimann T et al. IEEE Trans Med Imaging 2009;28:1251-1265, section II.C.
    """

    hausdorff_mm: float
    hausdorff_95_mm: float
    mean_mm: float


def surface_distances(
    first: NDArray[np.bool_], second: NDArray[np.bool_], geometry: Geometry
) -> SurfaceDistances:
    """Distances between the centres of surface voxels, those that have a neighbour outside.

    Measured in patient space, so that any spacing and any shear is right. Beyond the grid is
    outside. Two empty masks are no distance apart.

    Raises
    ------
    InputError
        `mask_grid` when a mask does not lie on `geometry`.
    """
    if first.shape != geometry.shape or second.shape != geometry.shape:
        raise InputError("mask_grid")
    one, other = _surface_mm(first, geometry), _surface_mm(second, geometry)
    if not len(one) or not len(other):
        apart = 0.0 if len(one) == len(other) else float("nan")
        return SurfaceDistances(apart, apart, apart)
    there = KDTree(other).query(one)[0]
    back = KDTree(one).query(other)[0]
    return SurfaceDistances(
        hausdorff_mm=float(max(there.max(), back.max())),
        hausdorff_95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        mean_mm=float((there.sum() + back.sum()) / (len(there) + len(back))),
    )


def _surface_mm(mask: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.float64]:
    """(n, 3) centres of the voxels of a mask that touch the outside by a face."""
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        return np.zeros((0, 3))
    part = mask[box[0]]
    edge = np.argwhere(part & ~ndimage.binary_erosion(part))
    return geometry.to_patient_mm(edge + [each.start for each in box[0]])
