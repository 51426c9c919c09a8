"""Perfusion of the brain from DSC-MRI or CT: flow, volume, transit times, tissue at risk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops import hypoperfusion, perfusion_quality
from ai_nodes.ops.arterial_input import ArterialInput, aif_of, find_aif, find_vof
from ai_nodes.ops.brain import Brain, find_brain
from ai_nodes.ops.concentration import (
    Bolus,
    Kind,
    checked_times,
    find_bolus,
    signal_facts,
    to_concentration,
)
from ai_nodes.ops.deconvolution import (
    LUCY_ITERATIONS,
    LUCY_SUPPORT_S,
    METHODS,
    OSCILLATION_INDEX,
)
from ai_nodes.ops.hypoperfusion import Thresholds, find_hypoperfusion
from ai_nodes.ops.motion import Motion, measure_motion
from ai_nodes.ops.perfusion_findings import PerfusionResult, findings_of, headline
from ai_nodes.ops.perfusion_maps import (
    DENSITY_G_ML,
    HEMATOCRIT_LARGE,
    HEMATOCRIT_SMALL,
    PerfusionSettings,
    area_weights,
    perfusion_maps,
)
from ai_nodes.pipeline import Pipeline, Settings
from dicom_services.domain.card import ModelCard
from dicom_services.domain.findings import Code, Finding
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Study, Volume
from dicom_services.errors import ConfigError, InputError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Place = tuple[int, int, int]

NAME: Final = "perfusion"
VERSION: Final = "1.0.0"
HOUNSFIELD: Final = "[hnsf'U]"
MOST_PLACES: Final = 64

LOW_PEAK: Final = 0.3
HIGHEST_PERCENT: Final = 99.9
"""Vessels are the highest curves, and an artery that fills a third of its voxel still has a third
of their height. A lower input is tissue: the arteries were passed over, clipped or not scanned."""

FEWEST_CLIPPED: Final = 5
"""So many flat tops among the largest curves are no chance of the noise."""

FEWEST_BASELINE: Final = 3

FIRST_FRAMES: Final = 5
"""Of these all but the very first, which is not at steady state, show the brain."""

LEAST_BRAIN_ML: Final = 20.0
"""Less than one slice of 5 mm holds of a brain: the rule has found something else."""

SMOOTHING_MM: Final = {"DSC": 1.5, "CTP": 2.5}
"""Standard deviation in the slice: less than a pixel of MR; the 6 mm (full width) that CT with its
2 HU and more of noise needs for a delay in white matter. On our phantoms, not on OSIPI's curves."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a rule in routing.toml or the command line may set.

    Parameters
    ----------
    method : "oSVD", "cSVD", "sSVD" or "Lucy-Richardson"
    threshold : float
        Of sSVD and cSVD, a part of the largest singular value; 0 takes the published one.
    oscillation_index : float
        Of oSVD.
    iterations, support_s
        Of Lucy-Richardson.
    aif, vof : str
        "auto", or voxels "k,j,i k,j,i"; `vof` may be "none".
    leakage : "none" or "bsw"
        Boxerman, Schmainda and Weisskoff's correction, DSC only.
    scale_by_vein : bool
        Whether the artery is scaled to the vein's area, against partial volume.
    hematocrit_large, hematocrit_small, density_g_ml : float
    smoothing_mm : float
        Standard deviation within the slice; below 0: 2.5 mm for CT, none for MR.
    tmax_s, core_part, normal_tmax_s, vessel_cbv, island_ml : float
        As `Thresholds` of `ai_nodes.ops.hypoperfusion`.
    motion_warn_mm, motion_refuse_mm : float
    """

    method: str = "oSVD"
    threshold: float = 0.0
    oscillation_index: float = OSCILLATION_INDEX
    iterations: int = LUCY_ITERATIONS
    support_s: float = LUCY_SUPPORT_S
    aif: str = "auto"
    vof: str = "auto"
    leakage: str = "none"
    scale_by_vein: bool = False
    hematocrit_large: float = HEMATOCRIT_LARGE
    hematocrit_small: float = HEMATOCRIT_SMALL
    density_g_ml: float = DENSITY_G_ML
    smoothing_mm: float = -1.0
    tmax_s: float = hypoperfusion.TMAX_S
    core_part: float = hypoperfusion.CORE_PART
    normal_tmax_s: float = hypoperfusion.NORMAL_TMAX_S
    vessel_cbv: float = hypoperfusion.VESSEL_CBV
    island_ml: float = hypoperfusion.ISLAND_ML
    motion_warn_mm: float = perfusion_quality.MOTION_WARN_MM
    motion_refuse_mm: float = perfusion_quality.MOTION_REFUSE_MM

    def __post_init__(self) -> None:
        numbers = (
            (self.threshold, 0.0, 0.95),
            (self.oscillation_index, 0.001, 9.0),
            (self.iterations, 1, 10_000),
            (self.support_s, 1.0, 1000.0),
            (self.hematocrit_large, 0.0, 0.9),
            (self.hematocrit_small, 0.0, 0.9),
            (self.density_g_ml, 0.5, 2.0),
            (self.smoothing_mm, -1.0, 10.0),
            (self.tmax_s, 1.0, 20.0),
            (self.core_part, 0.01, 0.99),
            (self.normal_tmax_s, 0.0, 20.0),
            (self.vessel_cbv, 1.0, 1000.0),
            (self.island_ml, 0.0, 100.0),
            (self.motion_warn_mm, 0.0, 1000.0),
            (self.motion_refuse_mm, 0.0, 1000.0),
        )
        sound = (
            self.method in METHODS
            and self.leakage in ("none", "bsw")
            and isinstance(self.scale_by_vein, bool)
            and isinstance(self.iterations, int)
            and all(
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and least <= value <= most
                for value, least, most in numbers
            )
            and not (self.scale_by_vein and self.vof == "none")
        )
        if not sound or not isinstance(self.aif, str) or not isinstance(self.vof, str):
            raise ConfigError("pipeline_settings")
        _ = self.aif_places, self.vof_places

    @classmethod
    def read(cls, settings: Settings) -> Rules:
        """From plain names and values; `ConfigError("pipeline_settings")` for any other."""
        try:
            return cls(**settings)  # type: ignore[arg-type] # __post_init__ checks the types
        except TypeError:
            raise ConfigError("pipeline_settings") from None

    @property
    def aif_places(self) -> tuple[Place, ...]:
        """Voxels given by hand; none where they are to be found."""
        return () if self.aif == "auto" else _places(self.aif)

    @property
    def vof_places(self) -> tuple[Place, ...]:
        """As `aif_places`."""
        return () if self.vof in ("auto", "none") else _places(self.vof)

    @property
    def thresholds(self) -> Thresholds:
        """Of tissue at risk."""
        return Thresholds(
            float(self.tmax_s),
            float(self.core_part),
            float(self.normal_tmax_s),
            float(self.vessel_cbv),
            float(self.island_ml),
        )

    def of_maps(self) -> PerfusionSettings:
        """Of the deconvolution and its units."""
        return PerfusionSettings(
            method=next(each for each in METHODS if each == self.method),
            threshold=float(self.threshold) or None,
            oscillation_index=float(self.oscillation_index),
            iterations=self.iterations,
            support_s=float(self.support_s),
            hematocrit_large=float(self.hematocrit_large),
            hematocrit_small=float(self.hematocrit_small),
            density_g_ml=float(self.density_g_ml),
            leakage=self.leakage == "bsw",
            volume_scaling=self.scale_by_vein,
        )


def _places(words: str) -> tuple[Place, ...]:
    """ "k,j,i k,j,i" as voxels."""
    places: list[Place] = []
    for word in words.split():
        parts = word.split(",")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
            raise ConfigError("pipeline_settings")
        k, j, i = (int(part) for part in parts)
        places.append((k, j, i))
    if not 0 < len(places) <= MOST_PLACES:
        raise ConfigError("pipeline_settings")
    return tuple(dict.fromkeys(places))


def run(study: Study, settings: Settings, region: Bools | None = None) -> tuple[Finding, ...]:
    """Analyse the only volume of a study."""
    return analyse_perfusion(study.only(), settings, region)


def analyse_perfusion(
    scan: Volume, settings: Settings, region: Bools | None = None
) -> tuple[Finding, ...]:
    """Maps, masks, volumes, curves and warnings of a dynamic scan.

    Parameters
    ----------
    scan : Volume
        (t, k, j, i): T2*-weighted signal, or HU.
    settings : dict
        As `Rules` names them.
    region : (k, j, i) bool or None
        The brain, given by hand.

    Raises
    ------
    InputError
        `modality_unsupported`, `not_dynamic`, `not_hounsfield`, `echo_time_missing`, `head_motion`,
        `no_brain`, `region_grid`, `region_empty`, `aif_outside`, `leakage_not_mr`, and those of
        `find_bolus`, `find_aif`, `find_vof` and `perfusion_maps`.
    ConfigError
        `pipeline_settings`.
    """
    rules = Rules.read(settings)
    kind = _kind(scan, rules, region)
    motion = measure_motion(scan.values, scan.geometry, scan.acquisition.modality)
    if motion.worst_mm > rules.motion_refuse_mm:
        raise InputError(
            "head_motion", millimetres=round(motion.worst_mm, 1), frame=motion.worst_frame + 1
        )
    brain = _brain(scan, region)
    bolus = find_bolus(_mean_curve(scan.values, brain.tissue), scan.times_s, kind)
    curves = _curves(scan, brain, bolus, kind)
    artery = _artery(curves, rules, scan, brain, bolus, kind)
    bolus = _before_artery(bolus, artery, scan)
    curves.rebase(bolus)
    artery = _again(artery, scan, bolus, kind)
    vein = _vein(curves, rules, scan, brain, bolus, kind, artery)
    tissue = _tissue(curves, scan, brain, kind, rules, artery, bolus)
    result = _result(scan, rules, kind, brain, bolus, tissue, artery, vein, motion)
    names = _warnings(scan, rules, result, curves, by_hand=region is not None)
    return findings_of(result, names)


def _kind(scan: Volume, rules: Rules, region: Bools | None) -> Kind:
    """What was done to the patient, or why it cannot be analysed."""
    acquisition = scan.acquisition
    if acquisition.modality not in ("MR", "CT"):
        raise InputError("modality_unsupported")
    if scan.values.ndim != 4:
        raise InputError("not_dynamic")
    checked_times(scan.times_s)
    if region is not None and region.shape != scan.geometry.shape:
        raise InputError("region_grid")
    if region is not None and not region.any():
        raise InputError("region_empty")
    if acquisition.modality == "CT":
        if scan.unit != HOUNSFIELD:
            raise InputError("not_hounsfield")
        if rules.leakage != "none":
            raise InputError("leakage_not_mr")
        return "CTP"
    if not acquisition.echo_time_ms or acquisition.echo_time_ms <= 0.0:
        raise InputError("echo_time_missing")
    return "DSC"


def _brain(scan: Volume, region: Bools | None) -> Brain:
    """By hand, or by rule in the mean of the first frames; the bolus is not there yet."""
    if region is not None:
        given = np.asarray(region, np.bool_)
        return Brain(given, given)
    first = scan.values[1:FIRST_FRAMES].mean(axis=0, dtype=np.float32)
    brain = find_brain(first, scan.geometry, scan.acquisition.modality)
    volume_ml = float(brain.tissue.sum()) * scan.geometry.voxel_volume_mm3 / 1000.0
    if volume_ml < LEAST_BRAIN_ML:
        raise InputError("no_brain", volume_ml=round(volume_ml, 1))
    return brain


def _mean_curve(values: NDArray[np.generic], where: Bools) -> NDArray[np.float64]:
    return np.array([frame[where].mean(dtype=np.float64) for frame in values])


@dataclass(frozen=True, slots=True, eq=False)
class _Curves:
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


def _curves(scan: Volume, brain: Brain, bolus: Bolus, kind: Kind) -> _Curves:
    index = np.flatnonzero(brain.head)
    signal = _signal(scan, index)
    concentration = to_concentration(
        signal, scan.times_s, bolus, kind=kind, echo_time_ms=scan.acquisition.echo_time_ms
    )
    facts = signal_facts(signal, kind=kind)
    return _Curves(index, concentration, tuple(perfusion_quality.warnings_of_signal(facts)))


def _signal(scan: Volume, index: NDArray[np.intp]) -> Floats:
    """(t, n) of some voxels."""
    frames = [frame.reshape(-1)[index].astype(np.float32) for frame in scan.values]
    return np.stack(frames)


def _given(places: tuple[Place, ...], scan: Volume, bolus: Bolus, kind: Kind) -> ArterialInput:
    """The mean curve of voxels given by hand, wherever they lie on the grid."""
    shape = scan.geometry.shape
    if any(n >= size for place in places for n, size in zip(place, shape, strict=True)):
        raise InputError("aif_place", voxels=len(places))
    index = np.array([np.ravel_multi_index(place, shape) for place in places])
    few = to_concentration(
        _signal(scan, index),
        scan.times_s,
        bolus,
        kind=kind,
        echo_time_ms=scan.acquisition.echo_time_ms,
    )
    column = few[:, :, None, None]
    found = aif_of([(n, 0, 0) for n in range(len(places))], column, scan.times_s)
    return replace(found, places=tuple(places[n] for n, _, _ in found.places))


def _artery(
    curves: _Curves, rules: Rules, scan: Volume, brain: Brain, bolus: Bolus, kind: Kind
) -> ArterialInput:
    if rules.aif_places:
        return _given(rules.aif_places, scan, bolus, kind)
    found = find_aif(curves.concentration, scan.times_s, brain.head, index=curves.index)
    peaks = curves.concentration.max(axis=0)
    highest = float(np.percentile(peaks[np.isfinite(peaks)], HIGHEST_PERCENT))
    if found.facts["peak"] >= LOW_PEAK * highest:
        return found
    clipped = round(found.facts.get("clipped_voxels", 0.0))
    if clipped >= FEWEST_CLIPPED:
        raise InputError("saturated_aif", clipped=clipped)
    return replace(found, flags=(*found.flags, "low_aif"))


def _before_artery(bolus: Bolus, artery: ArterialInput, scan: Volume) -> Bolus:
    """The bolus with a baseline that ends before the artery rises; it comes ahead of the tissue."""
    start = bolus.baseline[0]
    rises = int(np.searchsorted(scan.times_s, artery.facts["arrival_s"])) - 1
    arrival = min(bolus.arrival, max(start + 1, rises - 1))
    end = arrival if arrival - start >= FEWEST_BASELINE else arrival + 1
    flags = bolus.flags
    if end - start < FEWEST_BASELINE and "short_baseline" not in flags:
        flags = (*flags, "short_baseline")
    return replace(bolus, arrival=arrival, baseline=(start, end), flags=flags)


def _again(artery: ArterialInput, scan: Volume, bolus: Bolus, kind: Kind) -> ArterialInput:
    """The same voxels over another baseline."""
    found = _given(artery.places, scan, bolus, kind)
    return replace(
        found, method=artery.method, flags=artery.flags, facts=artery.facts | found.facts
    )


def _vein(
    curves: _Curves,
    rules: Rules,
    scan: Volume,
    brain: Brain,
    bolus: Bolus,
    kind: Kind,
    artery: ArterialInput,
) -> ArterialInput | None:
    if rules.vof == "none":
        return None
    if rules.vof_places:
        return _given(rules.vof_places, scan, bolus, kind)
    try:
        return find_vof(curves.concentration, scan.times_s, brain.head, artery, index=curves.index)
    except InputError:
        # A scan of few slices may hold no vein; nothing but the scaling asks for one.
        if rules.scale_by_vein:
            raise
        return None


def _tissue(
    curves: _Curves,
    scan: Volume,
    brain: Brain,
    kind: Kind,
    rules: Rules,
    artery: ArterialInput,
    bolus: Bolus,
) -> _Curves:
    """Curves of the tissue alone, smoothed within the slice where the settings say so."""
    inside = curves.within(brain.tissue)
    index = curves.index[inside]
    sigma_mm = rules.smoothing_mm if rules.smoothing_mm >= 0.0 else SMOOTHING_MM[kind]
    concentration = curves.concentration[:, inside]
    if sigma_mm > 0.0:
        tissue = ~_vessels(concentration, index, scan, artery, bolus, rules)
        concentration = smoothed(concentration, index, tissue, scan.geometry, sigma_mm)
    return _Curves(index, concentration, ())


def _vessels(
    concentration: Floats,
    index: NDArray[np.intp],
    scan: Volume,
    artery: ArterialInput,
    bolus: Bolus,
    rules: Rules,
) -> NDArray[np.bool_]:
    """(n,): voxels with more blood than tissue holds, by themselves and with their neighbours.

    Alone each would miss its aim: noise exceeds the limit here and there, and what lies beside a
    vessel exceeds it on average.
    """
    maps = rules.of_maps()
    weights = area_weights(scan.times_s, bolus.arrival)
    scale = 100.0 * maps.kappa / maps.density_g_ml / float(weights @ artery.values)
    volume = np.nan_to_num(weights.astype(np.float32) @ concentration * np.float32(scale))
    grid = np.zeros(scan.geometry.shape, np.float32)
    grid.reshape(-1)[index] = volume
    around = ndimage.gaussian_filter(grid, (0.0, 1.0, 1.0)).reshape(-1)[index]
    return np.asarray((volume > rules.vessel_cbv) & (around > rules.vessel_cbv))


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


def _result(
    scan: Volume,
    rules: Rules,
    kind: Kind,
    brain: Brain,
    bolus: Bolus,
    tissue: _Curves,
    artery: ArterialInput,
    vein: ArterialInput | None,
    motion: Motion,
) -> PerfusionResult:
    maps = perfusion_maps(
        tissue.concentration,
        artery.values,
        scan.times_s,
        rules.of_maps(),
        vof=vein.values if vein is not None and rules.scale_by_vein else None,
        bolus=bolus,
    )
    on_grid = {
        name: _on_grid(values, tissue.index, scan.geometry.shape)
        for name, values in (
            ("CBF", maps.cbf),
            ("CBV", maps.cbv),
            ("MTT", maps.mtt),
            ("TTP", maps.ttp),
            ("Tmax", maps.tmax),
        )
    }
    risk = find_hypoperfusion(
        on_grid["CBF"], on_grid["CBV"], on_grid["Tmax"], scan.geometry, rules.thresholds
    )
    return PerfusionResult(
        kind=kind,
        geometry=scan.geometry,
        times_s=scan.times_s,
        maps=on_grid,
        brain=brain,
        bolus=bolus,
        artery=artery,
        vein=vein,
        mean_curve=np.nanmean(tissue.concentration, axis=1, dtype=np.float64),
        risk=risk,
        thresholds=rules.thresholds,
        motion=motion,
        method=rules.method,
        leakage=rules.leakage != "none",
        facts=maps.facts,
        flags=maps.flags,
    )


def _on_grid(values: Floats, index: NDArray[np.intp], shape: tuple[int, int, int]) -> Floats:
    grid = np.full(shape, np.nan, np.float32)
    grid.reshape(-1)[index] = values
    return grid


def _warnings(
    scan: Volume, rules: Rules, result: PerfusionResult, curves: _Curves, *, by_hand: bool
) -> list[str]:
    found = perfusion_quality.warnings_of_acquisition(scan.acquisition)
    flags = (*result.bolus.flags, *result.flags, *result.artery.flags)
    found += [flag for flag in flags if flag not in found]
    found += curves.warnings
    told = {
        "head_motion": result.motion.worst_mm > rules.motion_warn_mm,
        "brain_by_hand": by_hand,
        "aif_by_hand": bool(rules.aif_places),
        "no_vein": result.vein is None and rules.vof != "none",
        "no_reference": not result.risk.reference.any(),
        "core_by_flow": result.kind == "DSC",
        "relative_flow": result.kind == "DSC",
    }
    return found + [name for name, so in told.items() if so]


PIPELINE: Final = Pipeline(
    name=NAME,
    version=VERSION,
    title="Brain perfusion",
    # DSC-MRI and CT perfusion alike; LOINC has a code for either, none for both.
    procedure=Code("363679005", "SCT", "Imaging"),
    card=ModelCard(
        name="radloop perfusion",
        version=VERSION,
        # Mathematics has no weights: its digest names it, so that two versions never look alike.
        sha256=hashlib.sha256(f"{NAME} {VERSION}".encode()).hexdigest(),
        family="rule",
        intended_use=(
            "Proposes maps of brain perfusion from DSC-MRI or CT, and tissue at risk by published "
            "thresholds, for a reader to check. Research only: not for treatment decisions."
        ),
        trained_on="Not trained: published mathematics and thresholds.",
    ),
    run=run,
    headline=headline,
    warm=lambda: None,
    dynamic=True,
)
