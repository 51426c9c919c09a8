"""Perfusion of the brain from DSC-MRI or CT: flow, volume, transit times, tissue at risk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.models import of_process
from ai_nodes.ops import perfusion_quality
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
from ai_nodes.ops.device import array_module, choose_device
from ai_nodes.ops.hypoperfusion import find_hypoperfusion
from ai_nodes.ops.motion import Motion, measure_motion
from ai_nodes.ops.perfusion_findings import PerfusionResult, findings_of, headline
from ai_nodes.ops.perfusion_maps import (
    area_weights,
    perfusion_maps,
)
from ai_nodes.ops.perfusion_rules import Place, Rules
from ai_nodes.ops.voxel_curves import VoxelCurves, smoothed
from ai_nodes.pipeline import Pipeline, Settings
from dicom_services.domain.card import ModelCard
from dicom_services.domain.findings import Code, Finding
from dicom_services.domain.volume import Study, Volume
from dicom_services.errors import InputError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
NAME: Final = "perfusion"
VERSION: Final = "1.0.0"
HOUNSFIELD: Final = "[hnsf'U]"
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

CARD_COPIES: Final = 6
"""Of the curves, that deconvolution holds at once: padded, spectra, residues (counted, not run)."""

SMOOTHING_MM: Final = {"DSC": 1.5, "CTP": 2.5}
"""Standard deviation in the slice: less than a pixel of MR; the 6 mm (full width) that CT with its
2 HU and more of noise needs for a delay in white matter. On our phantoms, not on OSIPI's curves."""


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


def _curves(scan: Volume, brain: Brain, bolus: Bolus, kind: Kind) -> VoxelCurves:
    index = np.flatnonzero(brain.head)
    signal = _signal(scan, index)
    concentration = to_concentration(
        signal, scan.times_s, bolus, kind=kind, echo_time_ms=scan.acquisition.echo_time_ms
    )
    facts = signal_facts(signal, kind=kind)
    return VoxelCurves(index, concentration, tuple(perfusion_quality.warnings_of_signal(facts)))


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
    curves: VoxelCurves, rules: Rules, scan: Volume, brain: Brain, bolus: Bolus, kind: Kind
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
    # By the curve of tissue no tissue is late: the scan would be called normal.
    raise InputError("no_aif", peak=round(found.facts["peak"], 1), highest=round(highest, 1))


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
    curves: VoxelCurves,
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
    curves: VoxelCurves,
    scan: Volume,
    brain: Brain,
    kind: Kind,
    rules: Rules,
    artery: ArterialInput,
    bolus: Bolus,
) -> VoxelCurves:
    """Curves of the tissue alone, smoothed within the slice where the settings say so."""
    inside = curves.within(brain.tissue)
    index = curves.index[inside]
    sigma_mm = rules.smoothing_mm if rules.smoothing_mm >= 0.0 else SMOOTHING_MM[kind]
    concentration = curves.concentration[:, inside]
    if sigma_mm > 0.0:
        tissue = ~_vessels(concentration, index, scan, artery, bolus, rules)
        concentration = smoothed(concentration, index, tissue, scan.geometry, sigma_mm)
    return VoxelCurves(index, concentration, ())


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


def _result(
    scan: Volume,
    rules: Rules,
    kind: Kind,
    brain: Brain,
    bolus: Bolus,
    tissue: VoxelCurves,
    artery: ArterialInput,
    vein: ArterialInput | None,
    motion: Motion,
) -> PerfusionResult:
    with _card_for(tissue.concentration.nbytes) as xp:
        maps = perfusion_maps(
            tissue.concentration,
            artery.values,
            scan.times_s,
            rules.of_maps(),
            vof=vein.values if vein is not None and rules.scale_by_vein else None,
            bolus=bolus,
            xp=xp,
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


@contextmanager
def _card_for(curve_bytes: int) -> Iterator[ModuleType]:
    """numpy, or cupy on a card whose memory is leased for curves of so many bytes."""
    if choose_device().kind == "cpu":
        yield np
        return
    with of_process().borrowed_card(CARD_COPIES * curve_bytes) as device:
        yield array_module(f"cuda:{device.index}" if device.kind == "cuda" else "cpu")


def warm() -> None:
    """Compile the kernel of oSVD, seconds that the first job should not wait for."""
    times_s = np.arange(16.0)
    curve = np.exp(-((times_s - 6.0) ** 2) / 4.0)
    perfusion_maps(curve[:, None].astype(np.float32), curve, times_s, Rules().of_maps(), xp=np)


def _on_grid(values: Floats, index: NDArray[np.intp], shape: tuple[int, int, int]) -> Floats:
    grid = np.full(shape, np.nan, np.float32)
    grid.reshape(-1)[index] = values
    return grid


def _warnings(
    scan: Volume, rules: Rules, result: PerfusionResult, curves: VoxelCurves, *, by_hand: bool
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
        "late_aif": bool(np.nanmedian(result.maps["Tmax"]) < 0.0),
        "no_reference": not result.risk.reference.any(),
        "risk_everywhere": result.risk.hypoperfused.sum() > 0.5 * result.brain.tissue.sum(),
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
    warm=warm,
    dynamic=True,
)
