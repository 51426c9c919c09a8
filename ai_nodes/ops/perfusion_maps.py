"""Maps of perfusion from curves: flow, volume, transit and arrival times in clinical units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.concentration import Bolus
from ai_nodes.ops.deconvolution import (
    LUCY_ITERATIONS,
    LUCY_SUPPORT_S,
    METHODS,
    OSCILLATION_INDEX,
    Flow,
    Method,
    Truncation,
    deconvolve,
)
from ai_nodes.ops.device import array_module
from ai_nodes.ops.leakage import correct_leakage
from ai_nodes.ops.residue_peaks import peaks
from dicom_services.errors import InputError

HEMATOCRIT_LARGE: Final = 0.45
HEMATOCRIT_SMALL: Final = 0.25
"""Of arteries and of capillaries. Rempp KA et al. Radiology 1994;193:637-641, Methods."""
DENSITY_G_ML: Final = 1.04
"""Of brain tissue. Rempp 1994, as above."""
CHUNK: Final = 8192


@dataclass(frozen=True, slots=True)
class PerfusionSettings:
    """How maps are computed; every field may be set by a rule of a site.

    Parameters
    ----------
    method : Method
        "sSVD", "cSVD", "oSVD" or "Lucy-Richardson".
    threshold : float or None
        Of sSVD and cSVD; None is the published default, see `Truncation`.
    oscillation_index : float
        Of oSVD.
    iterations, support_s
        Of Lucy-Richardson.
    hematocrit_large, hematocrit_small, density_g_ml : float
        Factor (1 - large) / (1 - small) / density of flow and volume.
    leakage : bool
        Whether curves are corrected by `correct_leakage` first (DSC alone).
    volume_scaling : bool
        Whether the artery is scaled to the area of the vein, against partial volume.

    Raises
    ------
    InputError
        `perfusion_settings`.
    """

    method: Method = "oSVD"
    threshold: float | None = None
    oscillation_index: float = OSCILLATION_INDEX
    iterations: int = LUCY_ITERATIONS
    support_s: float = LUCY_SUPPORT_S
    hematocrit_large: float = HEMATOCRIT_LARGE
    hematocrit_small: float = HEMATOCRIT_SMALL
    density_g_ml: float = DENSITY_G_ML
    leakage: bool = False
    volume_scaling: bool = False

    def __post_init__(self) -> None:
        good = (
            self.method in METHODS
            and 0.0 <= self.hematocrit_large < 1.0
            and 0.0 <= self.hematocrit_small < 1.0
            and 0.5 <= self.density_g_ml <= 2.0
        )
        if not good:
            raise InputError("perfusion_settings")
        self.truncation()

    def truncation(self) -> Truncation:
        """What the deconvolution needs of it."""
        return Truncation(self.threshold, self.oscillation_index, self.iterations, self.support_s)

    @property
    def kappa(self) -> float:
        """(1 - Hct large) / (1 - Hct small): plasma carries the tracer, and tissue has more."""
        return (1.0 - self.hematocrit_large) / (1.0 - self.hematocrit_small)


@dataclass(frozen=True, slots=True, eq=False)
class PerfusionMaps:
    """One value for each curve, NaN where undefined.

    Parameters
    ----------
    cbf : (n,) f32
        ml / 100 g / min; 0 where the residue has no positive peak.
    cbv : (n,) f32
        ml / 100 g; area of the curve over area of the artery, 0 where that is negative.
    mtt : (n,) f32
        s; cbv / cbf. NaN where cbf is 0.
    ttp : (n,) f32
        s from the first frame to the highest; NaN for a curve that never rises.
    tmax : (n,) f32
        s; time of the residue's peak. Negative where tissue comes before the artery.
    k2 : (n,) f32 or None
        Leakage in 1/s, where corrected.
    facts : dict
        Numbers a report should tell: "threshold", "unmet_voxels", "step_s", "largest_gap_s",
        "undefined_voxels", "artery_scale", "leakage_reference_voxels".
    flags : tuple of str
        "times_resampled", "card_memory": what deserves a warning.
    """

    cbf: NDArray[np.float32]
    cbv: NDArray[np.float32]
    mtt: NDArray[np.float32]
    ttp: NDArray[np.float32]
    tmax: NDArray[np.float32]
    k2: NDArray[np.float32] | None = None
    facts: dict[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def perfusion_maps(
    concentration: Any,
    aif: Any,
    times_s: Sequence[float] | NDArray[np.floating],
    settings: PerfusionSettings | None = None,
    *,
    vof: Any | None = None,
    bolus: Bolus | None = None,
    xp: Any | None = None,
) -> PerfusionMaps:
    """Maps of curves (t, n) f32 with an artery (t,).

    Areas run from the artery's arrival (`bolus`; without one, over all frames) to the end.

    Parameters
    ----------
    xp : module or None
        Where to compute; None asks `array_module`. What does not fit on a card is computed here
        instead, with the flag "card_memory".

    Raises
    ------
    InputError
        `too_few_times`, `times_order`, `aif_shape`, `aif_empty`, `leakage_needs_bolus`,
        `leakage_reference`, `vof_missing`.

    References
    ----------
    Oestergaard L et al. Magn Reson Med 1996;36:715-725; Rempp KA et al. Radiology 1994;193:637-641.
    Scaling by the vein: Cenic A et al. AJNR 1999;20:63-73.
    """
    settings = settings or PerfusionSettings()
    artery = np.asarray(aif, np.float64)
    if artery.shape != (len(times_s),):
        raise InputError("aif_shape", aif=artery.size, times=len(times_s))
    facts: dict[str, float] = {}
    if settings.volume_scaling:
        artery, facts["artery_scale"] = scaled_artery(artery, vof, times_s)
    xp = array_module() if xp is None else xp
    if xp is np:
        return _maps(concentration, artery, times_s, settings, bolus, facts, np)
    try:
        return _maps(xp.asarray(concentration), artery, times_s, settings, bolus, facts, xp)
    except MemoryError:
        found = _maps(_host(concentration), artery, times_s, settings, bolus, facts, np)
        return replace(found, flags=(*found.flags, "card_memory"))


def _maps(
    concentration: Any,
    artery: NDArray[np.float64],
    times_s: Sequence[float] | NDArray[np.floating],
    settings: PerfusionSettings,
    bolus: Bolus | None,
    facts: dict[str, float],
    xp: Any,
) -> PerfusionMaps:
    """See `perfusion_maps`; all arrays in one place."""
    k2 = None
    if settings.leakage:
        if bolus is None:
            raise InputError("leakage_needs_bolus")
        leak = correct_leakage(concentration, times_s, bolus, xp=xp)
        concentration, k2 = leak.concentration, _host(leak.k2)
        facts = facts | {"leakage_reference_voxels": leak.reference_voxels}
    flow = deconvolve(settings.method, concentration, artery, times_s, settings.truncation(), xp=xp)
    weights = area_weights(times_s, bolus.arrival if bolus else 0)
    if weights @ artery <= 0.0:
        raise InputError("aif_empty")
    area, ttp = _area_and_top(concentration, weights, times_s, xp)
    per_100_g = 100.0 * settings.kappa / settings.density_g_ml
    cbf = flow.cbf * np.float32(60.0 * per_100_g)
    cbv = xp.maximum(area * np.float32(per_100_g / (weights @ artery)), np.float32(0.0))
    mtt = xp.where(cbf > 0.0, 60.0 * cbv / xp.where(cbf > 0.0, cbf, 1.0), np.nan)
    return PerfusionMaps(
        cbf=_host(cbf),
        cbv=_host(cbv),
        mtt=_host(mtt),
        ttp=_host(ttp),
        tmax=_host(flow.tmax),
        k2=k2,
        facts=facts | _facts(flow, int(xp.isnan(cbf).sum())),
        flags=("times_resampled",) if flow.grid.weights is not None else (),
    )


def _facts(flow: Flow, undefined: int) -> dict[str, float]:
    """What the deconvolution tells of itself."""
    told: dict[str, float] = {
        "unmet_voxels": flow.unmet,
        "step_s": flow.grid.step_s,
        "largest_gap_s": flow.grid.largest_gap_s,
        "undefined_voxels": undefined,
    }
    return told if flow.threshold is None else told | {"threshold": flow.threshold}


def scaled_artery(
    artery: NDArray[np.float64], vof: Any | None, times_s: Sequence[float] | NDArray[np.floating]
) -> tuple[NDArray[np.float64], float]:
    """Artery with the area of the vein, and the factor; never made smaller.

    A small artery shares its voxels with tissue, the sagittal sinus does not; the same tracer
    passes both (Cenic 1999).
    """
    if vof is None:
        raise InputError("vof_missing")
    weights = area_weights(times_s, 0)
    factor = max(1.0, float(weights @ np.asarray(vof, np.float64)) / float(weights @ artery))
    return artery * factor, factor


def area_weights(
    times_s: Sequence[float] | NDArray[np.floating], start: int
) -> NDArray[np.float64]:
    """Trapezoid weights of each frame from `start` on, in s; zero before."""
    times = np.asarray(times_s, np.float64)[start:]
    half = 0.5 * np.diff(times)
    weights = np.zeros(start + len(times))
    weights[start : start + len(half)] += half
    weights[start + 1 : start + 1 + len(half)] += half
    return weights


def _area_and_top(
    concentration: Any,
    weights: NDArray[np.float64],
    times_s: Sequence[float] | NDArray[np.floating],
    xp: Any,
) -> tuple[Any, Any]:
    """Area and time of the highest frame of each curve."""
    row = xp.asarray(weights.astype(np.float32))
    since = xp.asarray((np.asarray(times_s, np.float64) - times_s[0]).astype(np.float32))
    area = row @ concentration
    height, top = xp.empty((2, concentration.shape[1]), np.float32)
    for begin in range(0, concentration.shape[1], CHUNK):
        part = slice(begin, begin + CHUNK)
        height[part], top[part] = peaks(concentration[:, part], circulant=False, xp=xp)
    return area, xp.where(height > 0.0, since[top.astype(np.int32)], np.float32(np.nan))


def _host(values: Any) -> NDArray[np.float32]:
    """On this side of the bus."""
    if hasattr(values, "get"):
        values = values.get()
    return np.asarray(values, np.float32)
