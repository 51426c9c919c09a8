"""Tiles of every volume, transit time and delay, as curves with noise and their truth."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_services.perfusion_curves import Arterial, Residue, tissue_curves

VOLUMES_ML_100G = (1.0, 2.0, 3.0, 4.0, 5.0)
TRANSITS_S = (3.4, 4.0, 4.8, 6.0, 8.0, 12.0, 24.0)
DELAYS_S = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
NORMAL_PEAK_SHARE = 4.0 / 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Curves (t, n), tile after tile, and what is true of each voxel.

    Parameters
    ----------
    curves : (t, n) f32
        Arterial peak 1.
    aif : (t,) float
    times_s : (t,) float
    cbf, cbv, mtt, delay : (n,) float
        ml / 100 g / min, ml / 100 g, s, s.
    tile : (n,) int
    """

    curves: NDArray[np.float32]
    aif: NDArray[np.float64]
    times_s: NDArray[np.float64]
    cbf: NDArray[np.float64]
    cbv: NDArray[np.float64]
    mtt: NDArray[np.float64]
    delay: NDArray[np.float64]
    tile: NDArray[np.int64]

    def means(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Of each tile, as Kudo compares them."""
        count = np.bincount(self.tile)
        return np.bincount(self.tile, np.asarray(values, np.float64)) / count


def tiles(
    *,
    snr: float | None = None,
    voxels: int = 1,
    step_s: float = 1.0,
    duration_s: float = 90.0,
    kind: Residue = "exponential",
    seed: int = 20130801,
) -> Tiles:
    """The phantom of Kudo K et al. Radiology 2013;267:201-211 as curves.

    Parameters
    ----------
    snr : float or None
        Peak of normal grey matter (60 ml / 100 g / min, 4 ml / 100 g) over the noise's deviation.
    voxels : int
        In each tile.
    """
    plan = np.array(list(itertools.product(VOLUMES_ML_100G, TRANSITS_S, DELAYS_S)))
    cbv, mtt, delay = plan.T
    cbf = 60.0 * cbv / mtt
    times = np.arange(0.0, duration_s, step_s)
    artery = Arterial()
    curves = np.repeat(tissue_curves(times, artery, cbf, mtt, delay, kind=kind), voxels, axis=1)
    if snr is not None:
        normal = tissue_curves(times, artery, 60.0, 4.0, kind=kind).max()
        noise = np.random.default_rng(seed).normal(0.0, normal / snr, curves.shape)
        curves = curves + noise
    return Tiles(
        curves.astype(np.float32),
        artery(times),
        times,
        *(np.repeat(one, voxels) for one in (cbf, cbv, mtt, delay)),
        np.repeat(np.arange(len(cbf)), voxels),
    )
