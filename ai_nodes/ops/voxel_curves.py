"""Curves of single voxels of a scan, and how they are averaged with their neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops.concentration import Bolus
from dicom_services.domain.geometry import Geometry

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class VoxelCurves:
    """Concentration (t, n) of the voxels at flat positions `index`, in one modality's unit."""

    index: NDArray[np.intp]
    concentration: Floats
    warnings: tuple[str, ...]

    def rebase(self, bolus: Bolus) -> None:
        """Put the mean of another baseline to zero, in place: the array may be large."""
        first, last = bolus.baseline
        level = self.concentration[first:last].mean(axis=0)
        np.subtract(self.concentration, level, out=self.concentration)

    def within(self, mask: Bools) -> NDArray[np.bool_]:
        """(n,): which of them lie in a (k, j, i) mask."""
        return np.asarray(mask.reshape(-1)[self.index])


def smoothed(
    concentration: Floats,
    index: NDArray[np.intp],
    tissue: NDArray[np.bool_],
    geometry: Geometry,
    sigma_mm: float,
) -> Floats:
    """Curves (t, n) of `tissue` (n,) averaged with their neighbours in the slice.

    Gaussian weights among tissue alone, so that neither CSF nor bone nor a vessel leaks into it;
    all other curves stay as they are.
    """
    sigma = [0.0, *(sigma_mm / mm for mm in geometry.pixel_spacing_mm)]
    known = tissue & np.isfinite(concentration).all(axis=0)
    where = index[known]
    grid = np.zeros(geometry.shape, np.float32)
    flat = grid.reshape(-1)
    flat[where] = 1.0
    weight = ndimage.gaussian_filter(grid, sigma, truncate=3.0).reshape(-1)[where]
    out = concentration.copy()
    for t, frame in enumerate(concentration):
        flat[where] = frame[known]
        out[t, known] = ndimage.gaussian_filter(grid, sigma, truncate=3.0).reshape(-1)[where]
    out[:, known] /= weight
    return out
