"""Where the voxels of a volume lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_services.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """A grid of voxels in patient space.

    Parameters
    ----------
    affine : (4, 4) float64
        Maps the index (k, j, i, 1) = (slice, row, column, 1) to the voxel's centre in LPS mm.
        Slices may be sheared against rows and columns (gantry tilt).
    shape : (k, j, i)
        Number of slices, rows and columns.
    frame_uid : str
        DICOM Frame of Reference UID; two grids are comparable only if these are equal.

    Raises
    ------
    InputError
        `geometry` when the affine is not finite, is singular or its last row is not (0, 0, 0, 1).
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    frame_uid: str

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        sound = (
            affine.shape == (4, 4)
            and bool(np.isfinite(affine).all())
            and bool((affine[3] == (0.0, 0.0, 0.0, 1.0)).all())
            and abs(float(np.linalg.det(affine[:3, :3]))) > 1e-9
        )
        if not sound or len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError("geometry")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Distance between rows (j) and between columns (i), in DICOM's order."""
        return float(np.linalg.norm(self.affine[:3, 1])), float(np.linalg.norm(self.affine[:3, 2]))

    @property
    def pixel_area_mm2(self) -> float:
        """Area of one pixel within its slice."""
        return float(np.linalg.norm(np.cross(self.affine[:3, 1], self.affine[:3, 2])))

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) unit vector across the slice plane, on the side towards which k rises."""
        across = np.cross(self.affine[:3, 2], self.affine[:3, 1])
        across /= np.linalg.norm(across)
        return across if float(across @ self.affine[:3, 0]) >= 0.0 else -across

    @property
    def slice_spacing_mm(self) -> float:
        """Distance between neighbouring slice planes, measured across them."""
        return float(abs(self.normal @ self.affine[:3, 0]))

    @property
    def tilt_degrees(self) -> float:
        """Angle between the way from slice to slice and the normal; not 0 under gantry tilt."""
        step = self.affine[:3, 0]
        cosine = min(1.0, self.slice_spacing_mm / float(np.linalg.norm(step)))
        return float(np.degrees(np.arccos(cosine)))

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel."""
        return self.pixel_area_mm2 * self.slice_spacing_mm

    def to_patient_mm(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) indices in (k, j, i) to (..., 3) LPS mm."""
        return np.asarray(index, np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, point_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) LPS mm to (..., 3) fractional indices in (k, j, i)."""
        offset = np.asarray(point_mm, np.float64) - self.affine[:3, 3]
        return offset @ np.linalg.inv(self.affine[:3, :3]).T

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether both put every voxel at the same place, within `tolerance_mm` at the corners."""
        if self.shape != other.shape or self.frame_uid != other.frame_uid:
            return False
        ends = np.array(self.shape, np.float64) - 1.0
        corners = np.array(np.meshgrid(*[(0.0, end) for end in ends])).reshape(3, -1).T
        gap = np.abs(self.to_patient_mm(corners) - other.to_patient_mm(corners))
        return bool(gap.max() <= tolerance_mm)
