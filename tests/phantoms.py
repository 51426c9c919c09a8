"""Small volumes whose answers follow on paper from how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume
from dicom_services.phantom import PlannedLesion, disc_of_calcium, plant

HOUNSFIELD = "[hnsf'U]"
CT = Acquisition("CT", tube_voltage_kv=120.0, slice_thickness_mm=3.0)


def grid(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float] = (3.0, 0.5, 0.5),
    *,
    rotation: NDArray[np.float64] | None = None,
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    shear_mm: float = 0.0,
) -> Geometry:
    """A grid with k towards the head, j backwards and i to the patient's left, then rotated.

    `rotation` (3, 3) turns LPS directions; `shear_mm` moves each slice backwards against the one
    below it, as a tilted gantry does.
    """
    slices, rows, columns = spacing_mm
    turn = np.eye(3) if rotation is None else rotation
    affine = np.eye(4)
    affine[:3, 0] = turn @ np.array([0.0, shear_mm, slices])
    affine[:3, 1] = turn @ np.array([0.0, rows, 0.0])
    affine[:3, 2] = turn @ np.array([columns, 0.0, 0.0])
    affine[:3, 3] = origin_mm
    return Geometry(affine, shape, "1.2.3.4")


def rotation(axis: Sequence[float], degrees: float) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) about an axis through the origin (Rodrigues)."""
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.radians(degrees)
    turn: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross
    turn += (1.0 - np.cos(angle)) * cross @ cross
    return turn


@dataclass(frozen=True, slots=True)
class Box:
    """A block of voxels with one HU: first slice, row, column and how many of each."""

    at: tuple[int, int, int]
    size: tuple[int, int, int]
    hu: float

    @property
    def where(self) -> tuple[slice, slice, slice]:
        """Slices that select the block."""
        k, j, i = (slice(a, a + n) for a, n in zip(self.at, self.size, strict=True))
        return k, j, i


def volume(
    boxes: Sequence[Box] = (),
    geometry: Geometry | None = None,
    *,
    background_hu: float = 0.0,
    acquisition: Acquisition = CT,
    series: str = "1.2.3.5",
) -> Volume:
    """Water, or another background, with blocks in it; later blocks overwrite earlier ones."""
    where = grid((4, 32, 32)) if geometry is None else geometry
    values = np.full(where.shape, background_hu, np.int16)
    for box in boxes:
        values[box.where] = box.hu
    return Volume(values, where, HOUNSFIELD, series, acquisition)


def calcium_plaque(
    peak_hu: float,
    *,
    rows: int = 4,
    columns: int = 4,
    slices: int = 1,
    geometry: Geometry | None = None,
) -> Volume:
    """A plaque of one HU in water, in the middle of the volume.

    On the default grid (0.5 mm pixels, 3 mm slices) the default plaque is 4 x 4 pixels = 4.0 mm2
    in one slice, so its score is 4 times the weight of `peak_hu`.
    """
    where = grid((max(4, slices + 2), 32, 32)) if geometry is None else geometry
    size = (slices, rows, columns)
    at = tuple((n - m) // 2 for n, m in zip(where.shape, size, strict=True))
    return volume([Box((at[0], at[1], at[2]), size, peak_hu)], where)


def insert_lesions(
    ct: Volume,
    places: Sequence[tuple[str, int, int, int]],
    *,
    radius_mm: float = 1.2,
    peak_hu: int = 400,
    slices: int = 2,
) -> tuple[Volume, tuple[PlannedLesion, ...]]:
    """A copy of a CT with a disc of calcium at each (vessel, k, j, i), and what was planted.

    The peak stands in one pixel and 135 HU or more in the others; neighbours are quietened to
    110 HU, so that area, weight and score of each slice are those of the plan.
    """
    values = ct.values.astype(np.int16)
    planted = []
    for vessel, *index in places:
        place = ct.geometry.to_patient_mm(np.array(index, np.float64))
        lesion = disc_of_calcium(vessel, place, radius_mm, peak_hu, slices, ct.geometry)
        if lesion is None:
            raise ValueError("a lesion does not fit here")
        plant(lesion, values)
        planted.append(lesion)
    changed = Volume(values, ct.geometry, ct.unit, ct.series, ct.acquisition)
    return changed, tuple(planted)


CORONARY_COURSE_LIDC_0002 = (
    ("LM", 84, 205, 300),
    ("LAD", 80, 195, 318),
    ("LAD", 76, 180, 337),
    ("LAD", 72, 172, 336),
    ("LAD", 66, 155, 340),
    ("LAD", 58, 128, 322),
    ("LAD", 50, 118, 318),
    ("LAD", 42, 113, 320),
    ("LAD", 34, 113, 325),
    ("LCx", 80, 222, 308),
    ("LCx", 76, 216, 301),
    ("LCx", 72, 232, 313),
    ("LCx", 58, 233, 320),
    ("LCx", 50, 244, 310),
    ("RCA", 76, 172, 250),
    ("RCA", 72, 172, 246),
    ("RCA", 66, 140, 238),
    ("RCA", 58, 135, 244),
    ("RCA", 50, 140, 233),
    ("RCA", 42, 138, 214),
    ("RCA", 42, 218, 258),
    ("RCA", 34, 206, 262),
    ("RCA", 26, 205, 252),
)
"""Vessel, slice (from the feet up), row and column along the arteries' fat, read off the images."""
