"""What a perfusion analysis says: its numbers, maps, masks and curves as coded findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.arterial_input import ArterialInput
from ai_nodes.ops.brain import Brain
from ai_nodes.ops.concentration import Bolus, Kind
from ai_nodes.ops.hypoperfusion import Hypoperfusion, Thresholds
from ai_nodes.ops.motion import Motion
from ai_nodes.ops.perfusion_quality import PRIVATE, warning
from dicom_services.domain.findings import (
    Code,
    Curve,
    Finding,
    Mask,
    Measurement,
    Observation,
    ParametricMap,
)
from dicom_services.domain.geometry import Geometry

# PS3.16: annex D for flow and volume; CID 4108 for the times; CID 4102, 4103 and 4105 for how.
MAP_CODES: Final = {
    "CBF": Code("113055", "DCM", "Regional Cerebral Blood Flow"),
    "CBV": Code("113056", "DCM", "Regional Cerebral Blood Volume"),
    "MTT": Code("113052", "DCM", "Mean Transit Time"),
    "TTP": Code("113069", "DCM", "Time To Peak"),
    "Tmax": Code("113084", "DCM", "Tmax"),
}
SVD: Final = Code("126311", "DCM", "Singular Value Decomposition (SVD) deconvolution")
BY_SUSCEPTIBILITY: Final = Code(
    "126303", "DCM", "Perfusion analysis by Susceptibility MR technique"
)
BY_CT: Final = Code("126301", "DCM", "Perfusion analysis by IV Iodinated Contrast CT technique")
AUTOMATIC_AIF: Final = Code("126363", "DCM", "Automatically Detected AIF ROI")
GIVEN_AIF: Final = Code("126362", "DCM", "User-defined AIF ROI")
ARRIVAL: Final = Code("126371", "DCM", "Bolus Arrival Time")
VOLUME: Final = Code("118565006", "SCT", "Volume")
RATIO: Final = Code("118586006", "SCT", "Ratio")
ABNORMAL: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
SPATIAL: Final = Code("309825002", "SCT", "Spatial and Relational Concept")
ANATOMY: Final = Code("123037004", "SCT", "Anatomical Structure")
BRAIN: Final = Code("12738006", "SCT", "Brain")
ARTERY: Final = Code("88556005", "SCT", "Cerebral artery")
VEIN: Final = Code("128320002", "SCT", "Cranial venous system")
HYPOPERFUSED: Final = Code("hypoperfused", PRIVATE, "Hypoperfused by Tmax")
CORE: Final = Code("flow_core", PRIVATE, "Core by relative blood flow")
MISMATCH: Final = Code("mismatch", PRIVATE, "Mismatch of hypoperfusion and core")
WIDTH: Final = Code("bolus_width", PRIVATE, "Full width of the bolus at half height")
HEAD_MOTION: Final = Code("head_motion", PRIVATE, "Largest motion of the head")
DECONVOLUTION: Final = Code("deconvolution", PRIVATE, "Deconvolution")
TECHNIQUE: Final = Code("perfusion_technique", PRIVATE, "Perfusion technique")
INPUT_BY: Final = Code("arterial_input_by", PRIVATE, "Arterial input chosen")
LEAKAGE: Final = Code("leakage_correction", PRIVATE, "Leakage correction")
AIF: Final = Code("aif", PRIVATE, "Arterial input function")
VOF: Final = Code("vof", PRIVATE, "Venous output function")
TISSUE_CURVE: Final = Code("tissue_curve", PRIVATE, "Mean curve of brain tissue")
WARNING: Final = Code("warning", PRIVATE, "Image quality warning")

METHODS: Final = {
    "sSVD": Code("ssvd", PRIVATE, "Truncated SVD (Oestergaard 1996)"),
    "cSVD": Code("csvd", PRIVATE, "Block-circulant truncated SVD (Wu 2003)"),
    "oSVD": Code("osvd", PRIVATE, "Block-circulant SVD by oscillation index (Wu 2003)"),
    "Lucy-Richardson": Code("lucy_richardson", PRIVATE, "Lucy-Richardson (Vonken 1999)"),
}
NO_LEAKAGE: Final = Code("leakage_none", PRIVATE, "Not corrected")
LEAKAGE_BSW: Final = Code("leakage_bsw", PRIVATE, "Boxerman-Schmainda-Weisskoff (2006)")

FLOW_UNIT: Final = Code("mL/(100.g.min)", "UCUM", "mL/(100.g.min)")
VOLUME_UNIT: Final = Code("mL/(100.g)", "UCUM", "mL/(100.g)")
SECOND: Final = Code("s", "UCUM", "second")
PER_SECOND: Final = Code("/s", "UCUM", "per second")
HOUNSFIELD: Final = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
MILLILITRE: Final = Code("mL", "UCUM", "milliliter")
MILLIMETRE: Final = Code("mm", "UCUM", "millimeter")
RATIO_UNIT: Final = Code("{ratio}", "UCUM", "ratio")

UNITS: Final = {
    "CBF": FLOW_UNIT,
    "CBV": VOLUME_UNIT,
    "MTT": SECOND,
    "TTP": SECOND,
    "Tmax": SECOND,
}
WINDOWS: Final = {"CBF": (0.0, 60.0), "CBV": (0.0, 8.0), "MTT": (0.0, 12.0), "Tmax": (0.0, 12.0)}
"""Grey matter has 60, 4 and 4; Tmax is read against 6 s."""

TTP_SPAN_S: Final = 25.0
"""Time to peak is shown from the arrival on, over what separates artery and slowest tissue."""

RISK_KEY: Final = "hypoperfusion"
CORE_KEY: Final = "core"
AIF_KEY: Final = "aif"
VOF_KEY: Final = "vof"
BRAIN_KEY: Final = "brain"
RISK_COLOR: Final = (80, 200, 90)
CORE_COLOR: Final = (235, 70, 160)
BRAIN_COLOR: Final = (120, 140, 255)
AIF_COLOR: Final = (255, 60, 60)
VOF_COLOR: Final = (70, 110, 255)


@dataclass(frozen=True, slots=True, eq=False)
class PerfusionResult:
    """Everything that was computed; maps are (k, j, i) by their label, NaN where undefined."""

    kind: Kind
    geometry: Geometry
    times_s: tuple[float, ...]
    maps: dict[str, NDArray[np.float32]]
    brain: Brain
    bolus: Bolus
    artery: ArterialInput
    vein: ArterialInput | None
    mean_curve: NDArray[np.float64]
    risk: Hypoperfusion
    thresholds: Thresholds
    motion: Motion
    method: str
    leakage: bool
    facts: dict[str, float]
    flags: tuple[str, ...] = ()

    @property
    def curve_unit(self) -> Code:
        """1/s of dR2*, or HU over the baseline."""
        return PER_SECOND if self.kind == "DSC" else HOUNSFIELD


def findings_of(result: PerfusionResult, warnings: Sequence[str]) -> tuple[Finding, ...]:
    """Volumes first, then maps, masks, curves, how it was done, and warnings."""
    return (
        *_volumes(result),
        *_maps(result),
        *_masks(result),
        *_curves(result),
        *_vessel_numbers(result),
        *_how(result),
        *(Observation(WARNING, warning(name)) for name in warnings),
    )


def headline(findings: Sequence[Finding]) -> str:
    """Volumes and the mismatch ratio, as lists and Orthanc Explorer show them."""
    parts = []
    for finding in findings:
        if not isinstance(finding, Measurement):
            continue
        if finding.what == VOLUME and finding.tracking in (RISK_KEY, CORE_KEY):
            name = finding.derivation.split(":")[0]
            parts.append(f"{name} {finding.value:.0f} ml")
        elif finding.what == RATIO:
            parts.append(f"mismatch {finding.value:.1f}")
    count = sum(isinstance(one, Observation) and one.what == WARNING for one in findings)
    if count:
        parts.append(f"{count} quality warning{'s' if count > 1 else ''}")
    return ", ".join(parts)


def _volumes(result: PerfusionResult) -> list[Finding]:
    risk, at = result.risk, result.thresholds
    part = f"{100.0 * at.core_part:g} %"
    slow = f"Tmax > {at.tmax_s:g} s: hypoperfused tissue with its core"
    found: list[Finding] = [
        Measurement(VOLUME, risk.hypoperfused_ml, MILLILITRE, BRAIN, None, RISK_KEY, slow),
        Measurement(
            VOLUME,
            risk.core_ml,
            MILLILITRE,
            BRAIN,
            None,
            CORE_KEY,
            f"core: flow below {part} of normal, within Tmax > {at.tmax_s:g} s",
        ),
        Measurement(
            MISMATCH,
            risk.mismatch_ml,
            MILLILITRE,
            BRAIN,
            None,
            RISK_KEY,
            "mismatch volume: hypoperfused, not core",
        ),
    ]
    ratio = risk.mismatch_ratio
    if ratio is not None:
        words = "mismatch ratio: hypoperfused over core"
        found.append(Measurement(RATIO, ratio, RATIO_UNIT, BRAIN, None, RISK_KEY, words))
    if risk.reference.any():
        words = f"mean flow of normal tissue: Tmax up to {at.normal_tmax_s:g} s, other half"
        found.append(
            # Not the core's: it would be read as the flow inside of that.
            Measurement(
                MAP_CODES["CBF"], risk.reference_cbf, FLOW_UNIT, BRAIN, None, BRAIN_KEY, words
            )
        )
    return found


def _maps(result: PerfusionResult) -> list[Finding]:
    arrival = result.times_s[result.bolus.arrival]
    svd = result.method != "Lucy-Richardson"
    return [
        ParametricMap(
            what=MAP_CODES[label],
            values=values,
            unit=UNITS[label],
            geometry=result.geometry,
            label=label,
            window=WINDOWS.get(label, (arrival, arrival + TTP_SPAN_S)),
            color_map="PET",
            method=None if label == "TTP" else SVD if svd else METHODS[result.method],
            site=BRAIN,
            tracking=f"map-{label.lower()}",
        )
        for label, values in result.maps.items()
    ]


def _masks(result: PerfusionResult) -> list[Finding]:
    at, geometry = result.thresholds, result.geometry

    def mask(
        what: Code,
        category: Code,
        label: str,
        values: NDArray[np.bool_],
        key: str,
        color: tuple[int, int, int],
        site: Code = BRAIN,
    ) -> Mask:
        told = key in (RISK_KEY, CORE_KEY)
        return Mask(what, category, label, values, geometry, site, key, color, in_report=told)

    slow = f"Hypoperfusion (Tmax > {at.tmax_s:g} s)"
    core = f"Core (rCBF < {100.0 * at.core_part:g} %)"
    found: list[Finding] = [
        mask(HYPOPERFUSED, ABNORMAL, slow, result.risk.hypoperfused, RISK_KEY, RISK_COLOR),
        mask(CORE, ABNORMAL, core, result.risk.core, CORE_KEY, CORE_COLOR),
        mask(BRAIN, ANATOMY, "Brain tissue", result.brain.tissue, BRAIN_KEY, BRAIN_COLOR),
    ]
    voxels = _voxels(result.artery, geometry)
    found.append(mask(AIF, SPATIAL, "AIF", voxels, AIF_KEY, AIF_COLOR, ARTERY))
    if result.vein is not None:
        voxels = _voxels(result.vein, geometry)
        found.append(mask(VOF, SPATIAL, "VOF", voxels, VOF_KEY, VOF_COLOR, VEIN))
    return found


def _voxels(vessel: ArterialInput, geometry: Geometry) -> NDArray[np.bool_]:
    values = np.zeros(geometry.shape, np.bool_)
    values[tuple(np.array(vessel.places).T)] = True
    return values


def _curves(result: PerfusionResult) -> list[Finding]:
    found: list[Finding] = []
    vessels = [("AIF", AIF, ARTERY, AIF_KEY, result.artery)]
    if result.vein is not None:
        vessels.append(("VOF", VOF, VEIN, VOF_KEY, result.vein))
    for label, what, site, key, vessel in vessels:
        by = GIVEN_AIF if vessel.method == "given" else AUTOMATIC_AIF
        found.append(
            Curve(
                what,
                tuple(float(value) for value in vessel.values),
                result.times_s,
                result.curve_unit,
                site,
                label,
                vessel.places,
                by,
                key,
            )
        )
    values = tuple(float(value) for value in result.mean_curve)
    found.append(
        Curve(
            TISSUE_CURVE,
            values,
            result.times_s,
            result.curve_unit,
            BRAIN,
            "Tissue",
            tracking=BRAIN_KEY,
        )
    )
    return found


def _vessel_numbers(result: PerfusionResult) -> list[Finding]:
    # Its peak and when that was stand with the curve.
    facts = result.artery.facts
    numbers = (
        (ARRIVAL, "arrival_s", SECOND, "AIF: reaches a tenth of its peak"),
        (WIDTH, "fwhm_s", SECOND, "AIF: full width at half its height"),
    )
    found: list[Finding] = [
        Measurement(what, facts[name], unit, ARTERY, None, AIF_KEY, words)
        for what, name, unit, words in numbers
        if math.isfinite(facts.get(name, math.nan))
    ]
    words = "head motion: most displaced image, root mean square"
    found.append(
        Measurement(HEAD_MOTION, result.motion.worst_mm, MILLIMETRE, BRAIN, None, BRAIN_KEY, words)
    )
    return found


def _how(result: PerfusionResult) -> list[Finding]:
    technique = BY_CT if result.kind == "CTP" else BY_SUSCEPTIBILITY
    found: list[Finding] = [
        Observation(TECHNIQUE, technique, BRAIN, tracking=BRAIN_KEY),
        Observation(DECONVOLUTION, METHODS[result.method], BRAIN, tracking=BRAIN_KEY),
        Observation(
            INPUT_BY,
            GIVEN_AIF if result.artery.method == "given" else AUTOMATIC_AIF,
            ARTERY,
            tracking=AIF_KEY,
        ),
    ]
    if result.kind == "DSC":
        leakage = LEAKAGE_BSW if result.leakage else NO_LEAKAGE
        found.append(Observation(LEAKAGE, leakage, BRAIN, tracking=BRAIN_KEY))
    return found
