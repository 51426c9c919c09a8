"""What reaches 130 HU in the heart's region and yet cannot be a plaque of a coronary artery."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_services.domain.geometry import Geometry

Bools = NDArray[np.bool_]
Hounsfield = NDArray[np.int16] | NDArray[np.float32]

CALCIUM_HU: Final = 130
"""Agatston 1990, Methods."""

METAL_HU: Final = 2000
"""Coronary plaques stay below 1500 HU at 120 kVp; leads, clips and stents reach 2000 and more."""

LUNG_HU: Final = -500
EDGE_MM: Final = 2.0
"""The pericardium alone, at most 2 mm (Bogaert, Francone. Radiology 2013;267:340-356), lies between
lung and artery, so a plaque reaches deeper than this. In lean people it may not reach 3 mm."""

SMALL_EDGE_MM: Final = 3.0
SMALL_MM2: Final = 2.0
"""The bright rim a kernel draws along lung is a pixel or two thin: what is smaller than 2 mm2 must
reach 3 mm deep, past the artery's outer wall."""

RIM_MM: Final = (2.5, 4.5)
"""What kernel and motion draw along lung begins within the 2 mm of the pericardium and half a
millimetre of blur, and is at most 2 mm thick."""

RIM_SHARE: Final = 0.2
"""Of the step from lung to blood: what they overshoot it by, so blood at 40 HU can reach 218 HU.
Read off two public scans without calcium, whose rims reach 147 to 227 HU."""

LUNG_INSIDE_HU: Final = -850.0

RING_MM: Final = (1.5, 3.0)
"""A CT blurs over 1 mm: 1.5 mm outside of a plaque its brightness is gone."""

SMEAR_OVER_BLOOD_HU: Final = 40.0
"""Four times the noise of a ring's median above blood, muscle and fat, which a plaque lies in."""

MIN_AREA_MM2: Final = 1.0
"""Below this Agatston 1990 counts nothing, so nothing has to be judged."""


def lookalikes(
    hu: Hounsfield,
    region: Bools,
    near: Bools,
    aorta: Bools,
    geometry: Geometry,
    blood_hu: float,
    outline: Bools | None = None,
) -> dict[str, NDArray[np.intp]]:
    """Parts of the region, or of a wider outline, that are no coronary plaque, by reason.

    Parameters
    ----------
    hu : (k, j, i)
        The CT about the heart.
    region, near : (k, j, i) bool
        The heart's region, and the same 6 mm wider.
    aorta : (k, j, i) bool
        The aorta with its wall, as far as it is known; no part of the region.
    geometry : Geometry
        Whose pixel spacing holds in each slice.
    blood_hu : float
        Median of the heart's inside.
    outline : (k, j, i) bool or None
        Holds the region and what was cut from it before because it is bone or cartilage. What is
        bright there is told, too, and is "bone" unless its part in 3D is something else.

    Returns
    -------
    dict of str to (n,) int
        Flat indices into the region, by reason; none stands for two.
        "metal": parts in 3D with a voxel of `METAL_HU`.
        "bone": parts in 3D that continue outside of `near`, such as bone or cartilage.
        "aortic_wall": parts in 3D at least half of which lie in `aorta`.
        "edge": lesions in a slice that lie along the lung altogether.
        "rim": thin lesions in a slice that come near the lung and, in 3D, nowhere rise above what
        the overshoot along it can reach.
        "smear": lesions in a slice whose surroundings, 1.5 to 3 mm away, are still bright; motion.
    """
    solid = hu >= CALCIUM_HU
    labels, count = ndimage.label(solid, np.ones((3, 3, 3), np.bool_))
    bright = np.flatnonzero(solid)
    part = labels.ravel()[bright]
    del labels
    size = np.bincount(part, minlength=count + 1)
    metal = np.bincount(part[hu.ravel()[bright] >= METAL_HU], minlength=count + 1) > 0
    leaves = np.bincount(part[~near.ravel()[bright]], minlength=count + 1) > 0
    wall = 2 * np.bincount(part[aorta.ravel()[bright]], minlength=count + 1) >= size
    judged = region.ravel()[bright]
    told = judged if outline is None else judged | outline.ravel()[bright]
    cut = told & ~judged
    found = {}
    parts = {"metal": metal, "bone": leaves & ~metal, "aortic_wall": wall & ~leaves & ~metal}
    for reason, chosen in parts.items():
        hit = chosen[part]
        found[reason] = bright[hit & told]
        judged = judged & ~hit
        cut &= ~hit
    found["bone"] = np.sort(np.concatenate([found["bone"], bright[cut]]))
    solid.ravel()[bright[~judged]] = False
    peak = np.full(count + 1, -np.inf)
    np.maximum.at(peak, part, hu.ravel()[bright])
    faint = np.zeros(hu.shape, np.bool_)
    overshoot_hu = blood_hu + RIM_SHARE * (blood_hu - LUNG_INSIDE_HU)
    faint.ravel()[bright[peak[part] < overshoot_hu]] = True
    return found | _along_lung(hu, solid, faint, geometry, blood_hu)


def _along_lung(
    hu: Hounsfield, solid: Bools, faint: Bools, geometry: Geometry, blood_hu: float
) -> dict[str, NDArray[np.intp]]:
    nothing = np.empty(0, np.intp)
    found: dict[str, list[NDArray[np.intp]]] = {
        name: [nothing] for name in ("edge", "rim", "smear")
    }
    plane = solid.shape[1] * solid.shape[2]
    spacing = geometry.pixel_spacing_mm
    margin = [int(np.ceil(max(*RING_MM, *RIM_MM) / step)) + 1 for step in spacing]
    least = MIN_AREA_MM2 / geometry.pixel_area_mm2
    for k in np.flatnonzero(solid.any(axis=(1, 2))):
        labels, _ = ndimage.label(solid[k], np.ones((3, 3), np.bool_))
        sizes = np.bincount(labels.ravel())
        for n, box in enumerate(ndimage.find_objects(labels), start=1):
            if sizes[n] < least:
                continue
            window = tuple(
                slice(max(0, part.start - wider), part.stop + wider)
                for part, wider in zip(box, margin, strict=True)
            )
            lesion = labels[window] == n
            seen = hu[k][window]
            depth_mm = EDGE_MM if sizes[n] * geometry.pixel_area_mm2 >= SMALL_MM2 else SMALL_EDGE_MM
            nearest_mm, farthest_mm = _from_lung_mm(seen, lesion, spacing)
            if farthest_mm <= depth_mm:
                reason = "edge"
            elif (
                nearest_mm < RIM_MM[0]
                and farthest_mm < RIM_MM[1]
                and bool(faint[k][window][lesion].all())
            ):
                reason = "rim"
            elif _fades_slowly(seen, lesion, spacing, blood_hu):
                reason = "smear"
            else:
                continue
            found[reason].append(k * plane + np.flatnonzero(labels == n))
    return {reason: np.concatenate(parts) for reason, parts in found.items()}


def _from_lung_mm(
    hu: Hounsfield, lesion: Bools, spacing_mm: tuple[float, float]
) -> tuple[float, float]:
    """How far the lesion's nearest and farthest pixel lie from lung; infinite without lung."""
    lung = hu < LUNG_HU
    if not lung.any():
        return np.inf, np.inf
    away = ndimage.distance_transform_edt(~lung, sampling=spacing_mm)[lesion]
    return float(away.min()), float(away.max())


def _fades_slowly(
    hu: Hounsfield, lesion: Bools, spacing_mm: tuple[float, float], blood_hu: float
) -> bool:
    """Whether the ring about the lesion is brighter than what arteries lie in."""
    away = ndimage.distance_transform_edt(~lesion, sampling=spacing_mm)
    ring = hu[(away > RING_MM[0]) & (away <= RING_MM[1]) & (hu < CALCIUM_HU)]
    return ring.size > 0 and float(np.median(ring)) > blood_hu + SMEAR_OVER_BLOOD_HU
