"""The brain in a perfusion scan by rule: within the skull (CT) or the bright head (EPI)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_services.domain.geometry import Geometry

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

BONE_HU: Final = 250.0
"""Dense bone begins about here; contrast agent in vessels may exceed it, and the rule fills it."""

TISSUE_HU: Final = (15.0, 80.0)
"""CSF ends at about 15 HU, white and grey matter have 20 to 45; above 80 is calcium, blood or bone
(Osborn AG, Diagnostic Imaging: Brain; RSNA's window for brain is 40 +- 40)."""

CLOSE_MM: Final = 6.0
"""Foramina and thin bone leave gaps in the ring of the skull; wider ones are the skull base."""

SKULL_EDGE_MM: Final = 3.0
"""Pixels this close to bone hold some of it (partial volume)."""

CSF_RATIO: Final = 1.45
"""CSF on T2*-weighted EPI is brighter than the brain's median by at least this; grey matter is
brighter than white by less than 1.3 (Wansapura 1999, JMRI 9:531, T2* of 42 to 52 ms at 3 T)."""

DARK_RATIO: Final = 0.35
"""Below this part of the brain's median lies bone, air or what susceptibility has taken."""

NECK_MM: Final = 4.0
"""Scalp and eyes hang on the brain by thinner bridges than this."""

SMOOTH_MM: Final = 2.0
"""In-plane, standard deviation; CT noise would tear the tissue apart otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Brain:
    """Where perfusion is looked for.

    Parameters
    ----------
    head : (k, j, i) bool
        Brain with its CSF and vessels: where arteries and veins are looked for.
    tissue : (k, j, i) bool
        Part of it that is neither CSF nor bone: where maps are defined.
    """

    head: Bools
    tissue: Bools


def find_brain(baseline: Floats, geometry: Geometry, modality: str) -> Brain:
    """The brain of a mean of the frames before the bolus.

    CT: bone, closed to a ring in each slice; what it encloses, largest part, without the pixels
    beside bone; tissue is what has 15 to 80 HU. MR: what is brighter than Otsu's threshold, opened
    so that scalp and eyes fall off, largest part, holes filled; tissue is what is neither much
    brighter (CSF) nor much darker (bone, air) than the median.

    Parameters
    ----------
    baseline : (k, j, i)
        HU or signal.
    modality : "CT" or "MR"
    """
    sigma = [SMOOTH_MM / mm for mm in geometry.pixel_spacing_mm]
    smooth = np.asarray(ndimage.gaussian_filter(baseline, (0.0, *sigma)), np.float32)
    if modality == "CT":
        head = _within_skull(baseline, geometry)
        tissue = head & (smooth > TISSUE_HU[0]) & (smooth < TISSUE_HU[1])
    else:
        head = _bright_head(smooth, geometry)
        typical = float(np.median(baseline[head])) if head.any() else 1.0
        light = baseline < CSF_RATIO * typical
        tissue = head & light & (baseline > DARK_RATIO * typical)
    return Brain(head, tissue)


def _within_skull(baseline: Floats, geometry: Geometry) -> Bools:
    bone = baseline > BONE_HU
    closed = _close(bone, geometry, CLOSE_MM)
    inner = np.zeros_like(bone)
    for k in range(len(bone)):
        enclosed = ndimage.binary_fill_holes(closed[k]) & ~closed[k]
        inner[k] = _largest(enclosed & (baseline[k] > -200.0))
    # The closing has eaten a rim of brain; it comes back as far as bone and its edge allow.
    rim = _disc(geometry, CLOSE_MM)
    grown = ndimage.binary_dilation(inner, rim) & _filled(closed)
    head = grown & ~ndimage.binary_dilation(
        bone & ~_islands_inside(bone, inner), _disc(geometry, SKULL_EDGE_MM)
    )
    return np.asarray(head, np.bool_)


def _filled(mask: Bools) -> Bools:
    return np.stack([ndimage.binary_fill_holes(each) for each in mask])


def _islands_inside(bone: Bools, inner: Bools) -> Bools:
    """Dense parts that the brain surrounds: calcium, or vessels full of contrast agent."""
    surrounded = np.stack([ndimage.binary_fill_holes(each) for each in inner])
    return np.asarray(bone & surrounded, np.bool_)


def _bright_head(smooth: Floats, geometry: Geometry) -> Bools:
    bright = smooth > otsu(smooth)
    disc = _disc(geometry, NECK_MM)
    opened = ndimage.binary_opening(bright, disc)
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.zeros_like(bright)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return _filled(np.asarray(labels == sizes.argmax(), np.bool_))


def otsu(values: Floats) -> float:
    """The threshold that parts two classes best (Otsu 1979, IEEE Trans SMC 9:62), of 256 bins.

    Values above the 99th percentile are counted at it, or a few bright pixels would take the bins.
    """
    top = float(np.percentile(values, 99.0))
    counts, edges = np.histogram(np.minimum(values, top), 256)
    middle = 0.5 * (edges[:-1] + edges[1:])
    below = np.cumsum(counts).astype(np.float64)
    total = float(below[-1])
    sums = np.cumsum(counts * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / total - sums) ** 2 / (below * (total - below))
    between[~np.isfinite(between)] = 0.0
    return float(middle[int(between.argmax())])


def _disc(geometry: Geometry, radius_mm: float) -> Bools:
    """(1, j, i) disc within a slice, at least one pixel about its middle."""
    rows, columns = (max(1, int(radius_mm / mm)) for mm in geometry.pixel_spacing_mm)
    j, i = np.mgrid[-rows : rows + 1, -columns : columns + 1]
    return np.asarray((j / (rows + 0.5)) ** 2 + (i / (columns + 0.5)) ** 2 <= 1.0)[None]


def _close(mask: Bools, geometry: Geometry, radius_mm: float) -> Bools:
    disc = _disc(geometry, radius_mm)
    rows, columns = disc.shape[1] // 2, disc.shape[2] // 2
    wide = np.pad(mask, ((0, 0), (rows, rows), (columns, columns)))
    closed = ndimage.binary_closing(wide, disc)
    return np.asarray(closed[:, rows : closed.shape[1] - rows, columns : closed.shape[2] - columns])


def _largest(mask: Bools) -> Bools:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax(), np.bool_)
