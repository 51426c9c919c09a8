"""Coronary calcium: lesions slice by slice, and the Agatston, volume and mass scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.islands import Islands, find_islands, islands_mask
from dicom_services.domain.agatston import (
    MIN_AREA_MM2,
    STANDARD_SPACING_MM,
    STEPS_HU,
    Steps,
    density_weight,
    least_pixels,
)
from dicom_services.domain.findings import Code, Lesion, LesionSlice
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class Calcium:
    """The lesions of a volume and what they add up to.

    Parameters
    ----------
    lesions : tuple of Lesion
        By falling score, "L1" first.
    islands : Islands
        The same, slice by slice, as arrays.
    geometry : Geometry
    groups : tuple of int
        Which group of `islands` each lesion is.
    """

    lesions: tuple[Lesion, ...]
    islands: Islands
    geometry: Geometry
    groups: tuple[int, ...] = ()

    @property
    def agatston(self) -> float:
        """Sum over slices of area times weight, whatever the distance between slices."""
        return math.fsum(part.score for lesion in self.lesions for part in lesion.slices)

    @property
    def agatston_by_spacing(self) -> float:
        """The plain score times spacing / 3 mm: overlapping or thin slices count less."""
        return self.agatston * self.geometry.slice_spacing_mm / STANDARD_SPACING_MM

    @property
    def volume_mm3(self) -> float:
        """Number of voxels times their volume."""
        return float(self.islands.area_px.sum()) * self.geometry.voxel_volume_mm3

    def mass_mg(self, factor: float) -> float:
        """Mass of hydroxyapatite: factor times mean HU times volume, lesion by lesion.

        Parameters
        ----------
        factor : float
            mg per mm3 and HU, from a scan of a calibration phantom.

        References
        ----------
        McCollough CH et al. Radiology 2007;243:527-538, Materials and Methods.
        """
        return factor * math.fsum(self.islands.total) * self.geometry.voxel_volume_mm3


def find_calcium(
    ct: Volume,
    site: Code,
    *,
    steps_hu: Steps = STEPS_HU,
    min_area_mm2: float = MIN_AREA_MM2,
    region: NDArray[np.bool_] | None = None,
) -> Calcium:
    """Lesions of `ct` within a region, all with the same `site`.

    Parameters
    ----------
    ct : Volume
        (k, j, i) in HU.
    site : Code
        Where they are, as far as is known.
    region : (k, j, i) bool or None
        Only voxels inside of it count; None for the whole volume.

    References
    ----------
    Agatston AS et al. J Am Coll Cardiol 1990;15:827-832, Methods.
    """
    islands = find_islands(
        ct.values,
        steps_hu[0],
        least_px=least_pixels(min_area_mm2, ct.geometry.pixel_area_mm2),
        region=region,
    )
    lesions, groups = _lesions(islands, ct.geometry, site, steps_hu)
    return Calcium(lesions, islands, ct.geometry, groups)


def calcium_mask(
    ct: Volume,
    *,
    steps_hu: Steps = STEPS_HU,
    min_area_mm2: float = MIN_AREA_MM2,
    region: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """(k, j, i) bool: the voxels of the lesions that `find_calcium` finds; another pass."""
    least = least_pixels(min_area_mm2, ct.geometry.pixel_area_mm2)
    return islands_mask(ct.values, steps_hu[0], least_px=least, region=region)


def interpolated_volume_mm3(
    ct: Volume, calcium: NDArray[np.bool_], low_hu: float = STEPS_HU[0]
) -> float:
    """Volume at or above `low_hu` when values between two slices are interpolated linearly.

    It is the limit of Callister's isotropic voxels as they become ever thinner, so it depends on
    nothing but the data. A lesion ends where the line to its neighbour falls below `low_hu`, and
    half way to what is bright but not counted. Beyond the first and last slice there is nothing.

    Parameters
    ----------
    calcium : (k, j, i) bool
        The lesions' voxels.

    References
    ----------
    Callister TQ et al. Radiology 1998;208:807-814, Materials and Methods.
    """
    used: NDArray[np.bool_] = np.any(calcium, axis=(1, 2))
    slabs = []
    for k in np.flatnonzero(used[:-1] | used[1:]):
        at = np.flatnonzero(calcium[k] | calcium[k + 1])
        below, above = _as_hu(ct.values[k], at), _as_hu(ct.values[k + 1], at)
        in_below, in_above = calcium[k].ravel()[at], calcium[k + 1].ravel()[at]
        inner = np.where(in_below, below, above)
        outer = np.where(in_below, above, below)
        fall = np.maximum(inner - outer, 1e-6)
        part = np.where(outer >= low_hu, 0.5, (inner - low_hu) / fall)
        slabs.append(float(np.where(in_below & in_above, 1.0, part).sum()))
    return math.fsum(slabs) * ct.geometry.voxel_volume_mm3


def _as_hu(plane: NDArray[Any], at: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.clip(plane.ravel()[at].astype(np.float64), -32768.0, 32767.0)


def _lesions(
    islands: Islands, geometry: Geometry, site: Code, steps_hu: Steps
) -> tuple[tuple[Lesion, ...], tuple[int, ...]]:
    if not islands.count:
        return (), ()
    order = np.argsort(islands.group, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(islands.group[order])) + 1)
    found = [
        (_lesion(islands, each, geometry, site, steps_hu), int(islands.group[each[0]]))
        for each in members
    ]
    found.sort(key=lambda one: (-one[0].score, -one[0].volume_mm3, one[0].center_mm[::-1]))
    return _named([lesion for lesion, _ in found]), tuple(group for _, group in found)


def _lesion(
    islands: Islands,
    members: NDArray[np.intp],
    geometry: Geometry,
    site: Code,
    steps_hu: Steps,
) -> Lesion:
    slices = []
    for n in members:
        peak = float(islands.peak[n])
        area = int(islands.area_px[n]) * geometry.pixel_area_mm2
        weight = density_weight(peak, steps_hu)
        slices.append(
            LesionSlice(
                k=int(islands.k[n]),
                row=float(islands.row[n]),
                column=float(islands.column[n]),
                area_mm2=area,
                peak_hu=peak,
                weight=weight,
                score=area * weight,
            )
        )
    pixels = islands.area_px[members]
    places = np.stack([islands.k[members], islands.row[members], islands.column[members]], axis=1)
    x, y, z = geometry.to_patient_mm(pixels @ places / pixels.sum())
    return Lesion(
        id="",
        tracking="",
        site=site,
        center_mm=(float(x), float(y), float(z)),
        volume_mm3=float(pixels.sum()) * geometry.voxel_volume_mm3,
        peak_hu=max(part.peak_hu for part in slices),
        score=math.fsum(part.score for part in slices),
        slices=tuple(slices),
    )


def _named(lesions: Sequence[Lesion]) -> tuple[Lesion, ...]:
    """Lesions with their ids, in the order given, and tracking keys made of their places.

    The key is the centre in whole mm of patient space, so it outlives another order of slices,
    another threshold for other lesions, or their exclusion. Lesions with the same whole mm are
    told apart by rank.
    """
    seen: dict[str, int] = {}
    named = []
    for number, lesion in enumerate(lesions, 1):
        x, y, z = (round(value) for value in lesion.center_mm)
        place = f"lesion at {x} {y} {z}"
        seen[place] = seen.get(place, 0) + 1
        tracking = place if seen[place] == 1 else f"{place} no. {seen[place]}"
        named.append(
            Lesion(
                id=f"L{number}",
                tracking=tracking,
                site=lesion.site,
                center_mm=lesion.center_mm,
                volume_mm3=lesion.volume_mm3,
                peak_hu=lesion.peak_hu,
                score=lesion.score,
                slices=lesion.slices,
            )
        )
    return tuple(named)
