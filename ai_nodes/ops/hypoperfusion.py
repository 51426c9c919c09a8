"""Hypoperfused tissue and its core, by thresholds on Tmax and on flow relative to normal tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_services.domain.geometry import Geometry

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

TMAX_S: Final = 6.0
"""Olivot 2009, Stroke 40:469: Tmax > 6 s best separates what infarcts without reperfusion; the
threshold of DEFUSE 3 (Albers 2018, N Engl J Med 378:708, Methods)."""

CORE_PART: Final = 0.30
"""Campbell 2011, Stroke 42:3435: CBF below 31 % of normal tissue is the best match of the diffusion
lesion within an hour; DEFUSE 3 took 30 %."""

NORMAL_TMAX_S: Final = 4.0
"""Up to here tissue is benign oligaemia at worst (Olivot 2009): flow is compared with it."""

VESSEL_CBV: Final = 8.0
"""ml/100 g; more blood than tissue can hold is a vessel (Kudo 2003, AJNR 24:419)."""

ISLAND_ML: Final = 1.0
"""Smaller islands are noise: a lesion of 1 ml is 12 mm across, two smoothed pixels of CTP."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as hypoperfused and as core."""

    tmax_s: float = TMAX_S
    core_part: float = CORE_PART
    normal_tmax_s: float = NORMAL_TMAX_S
    vessel_cbv: float = VESSEL_CBV
    island_ml: float = ISLAND_ML


@dataclass(frozen=True, slots=True, eq=False)
class Hypoperfusion:
    """Masks (k, j, i) and what they amount to.

    Parameters
    ----------
    hypoperfused : (k, j, i) bool
        Tmax above its threshold; the core is part of it.
    core : (k, j, i) bool
    reference : (k, j, i) bool
        Normal tissue that flow is compared with.
    reference_cbf : float
        Its mean, ml/100 g/min.
    hypoperfused_ml, core_ml : float
    """

    hypoperfused: Bools
    core: Bools
    reference: Bools
    reference_cbf: float
    hypoperfused_ml: float
    core_ml: float

    @property
    def mismatch_ml(self) -> float:
        """Hypoperfused and not core: the penumbra."""
        return self.hypoperfused_ml - self.core_ml

    @property
    def mismatch_ratio(self) -> float | None:
        """Hypoperfused to core; None where there is no core."""
        return self.hypoperfused_ml / self.core_ml if self.core_ml > 0.0 else None


def find_hypoperfusion(
    cbf: Floats, cbv: Floats, tmax: Floats, geometry: Geometry, thresholds: Thresholds
) -> Hypoperfusion:
    """Both masks from three (k, j, i) maps; a voxel without flow value belongs to neither.

    Tissue without any flow has no bolus: its Tmax is undefined, or a number that noise has chosen.
    Flow below the core's part therefore counts as hypoperfused, too, where most of the pixels
    around it in the slice are.

    Normal tissue is every voxel that is no vessel, with Tmax up to `normal_tmax_s`, in the half of
    the brain that holds less of the hypoperfused volume; without any, both halves. The core is
    looked for inside the hypoperfused tissue only, so that white matter and CSF are none.
    """
    known = np.isfinite(cbf) & np.isfinite(tmax)
    vessel = known & (cbv > thresholds.vessel_cbv)
    with np.errstate(invalid="ignore"):
        slow = known & ~vessel & (tmax > thresholds.tmax_s)
        normal = known & ~vessel & (tmax <= thresholds.normal_tmax_s) & (cbf > 0.0)
    slow = without_islands(slow, geometry, thresholds.island_ml)
    opposite = _opposite_half(slow, known, geometry)
    reference = normal & opposite if (normal & opposite).any() else normal
    mean = float(cbf[reference].mean(dtype=np.float64)) if reference.any() else 0.0
    with np.errstate(invalid="ignore"):
        low = np.isfinite(cbf) & ~vessel & (cbf < thresholds.core_part * mean)
    slow = slow | (low & _mostly(slow, np.isfinite(cbf)))
    core = slow & low
    core = without_islands(core, geometry, thresholds.island_ml)
    ml = geometry.voxel_volume_mm3 / 1000.0
    return Hypoperfusion(
        slow, core, reference, mean, float(slow.sum()) * ml, float(core.sum()) * ml
    )


def without_islands(mask: Bools, geometry: Geometry, least_ml: float) -> Bools:
    """`mask` without the parts (26-connected) that are smaller than `least_ml`."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3), bool))
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel()) * geometry.voxel_volume_mm3 / 1000.0
    keep = sizes >= least_ml - 1e-9
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)


def _mostly(mask: Bools, inside: Bools) -> Bools:
    """Where more than half of the pixels around, as far as they lie `inside`, are in `mask`."""
    around = [
        ndimage.uniform_filter(each.astype(np.float64), (1, 3, 3), mode="constant")
        for each in (mask & inside, inside)
    ]
    return np.asarray(around[0] > 0.5 * around[1] + 1e-9)


def _opposite_half(slow: Bools, known: Bools, geometry: Geometry) -> Bools:
    """Voxels on the side of the brain's middle (LPS x) that holds less of `slow`."""
    if not slow.any():
        return known
    index = np.moveaxis(np.indices(known.shape), 0, -1).astype(np.float64)
    x_mm = geometry.to_patient_mm(index)[..., 0]
    middle = 0.5 * float(x_mm[known].min() + x_mm[known].max())
    left = x_mm > middle
    return np.asarray(~left if int((slow & left).sum()) * 2 >= int(slow.sum()) else left)
