"""Coronary calcium in an unenhanced CT: Agatston, volume and mass scores, lesions, categories."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops import islands
from ai_nodes.ops.agatston import Calcium, calcium_mask, find_calcium, interpolated_volume_mm3
from ai_nodes.ops.ct_quality import (
    METAL_HU,
    NOISE_HU,
    STANDARD_KV,
    acquisition_warnings,
    cuts_heart,
    noise_hu,
    warning,
)
from ai_nodes.ops.heart import HeartRegion, heart_region
from ai_nodes.ops.set_aside import set_aside
from ai_nodes.pipeline import Pipeline, Settings
from dicom_services.domain.agatston import MASS_FACTOR, MIN_AREA_MM2, STEPS_HU, Steps
from dicom_services.domain.cac_category import CAC_DRS, RUMBERGER, cac_drs, rumberger
from dicom_services.domain.card import ModelCard
from dicom_services.domain.findings import (
    Code,
    Finding,
    Mask,
    Measurement,
    Observation,
    Scoring,
)
from dicom_services.domain.vessels import (
    CORONARY_ARTERIES,
    TOTAL,
    UNASSIGNED,
    VESSELS,
    rescore,
    vessels_with_calcium,
)
from dicom_services.domain.volume import Study, Volume
from dicom_services.errors import ConfigError, InputError

Bools = NDArray[np.bool_]

NAME: Final = "calcium"
VERSION: Final = "1.1.0"
PRIVATE: Final = "99RADLOOP"

MAX_INCREMENT_MM: Final = 5.0
"""Slices further apart miss whole lesions; no published score is defined for them."""

MIN_SLICES: Final = 3
MAX_OBLIQUE_DEGREES: Final = 30.0
"""No gantry tilts further; beyond it the slices are sagittal or coronal reformats."""

KV_TABLES: Final[dict[str, dict[int, Steps]]] = {
    # Graeni C et al. Eur Heart J Cardiovasc Imaging 2018, doi 10.1093/ehjci/jey019.
    "graeni2018": {80: (177.0, 271.0, 408.0, 544.0), 120: STEPS_HU},
}
"""Published tables disagree, so none is ever applied unless it is named in the settings."""

# PS3.16: CID 6140, 7150, 7151 and TID 300.
CALCIUM_SCORE: Final = Code("112058", "DCM", "Calcium score")
AGATSTON: Final = Code("112055", "DCM", "Agatston scoring method")
VOLUME_METHOD: Final = Code("112056", "DCM", "Volume scoring method")
MASS_METHOD: Final = Code("112057", "DCM", "Mass scoring method")
THRESHOLD: Final = Code("122657", "DCM", "Agatston Score Threshold")
COUNT: Final = Code("111038", "DCM", "Number of calcifications")
ATTENUATION: Final = Code("112031", "DCM", "Attenuation Coefficient")
CALCIFICATION: Final = Code("18115005", "SCT", "Pathologic calcification")
ABNORMAL: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ANATOMY: Final = Code("123037004", "SCT", "Anatomical Structure")
SPATIAL: Final = Code("309825002", "SCT", "Spatial and Relational Concept")
HEART: Final = Code("80891009", "SCT", "Heart")
BODY: Final = Code("38266002", "SCT", "Entire body")
GIVEN_REGION: Final = Code("given_region", PRIVATE, "Region given by hand")
SET_ASIDE: Final = Code("set_aside", PRIVATE, "Bright, in the heart's outline, not counted")
WARNING: Final = Code("warning", PRIVATE, "Image quality warning")

SCORE: Final = Code("{score}", "UCUM", "score")
CUBIC_MM: Final = Code("mm3", "UCUM", "cubic millimeter")
MILLIGRAM: Final = Code("mg", "UCUM", "milligram")
HOUNSFIELD: Final = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
NO_UNIT: Final = Code("1", "UCUM", "no units")

CALCIUM_KEY: Final = "calcium"
REGION_KEY: Final = "heart-region"
ASIDE_KEY: Final = "set-aside"
CALCIUM_COLOR: Final = (255, 80, 80)
REGION_COLOR: Final = (80, 170, 255)
ASIDE_COLOR: Final = (255, 200, 60)


@dataclass(frozen=True, slots=True)
class CalciumSettings:
    """What a rule in routing.toml or the command line may set.

    Parameters
    ----------
    region : "rule", "everything" or "given"
        The heart by rule, the whole volume with its bones, or a region given by hand.
    threshold_hu : float
        Other than 130 the score is named so and has no category.
    min_area_mm2 : float
        A lesion's least area in a slice.
    mass_factor : float
        mg per mm3 and HU from a calibration of this scanner; 0 when there is none.
    kv_table : str
        "none", or the name of a table in `KV_TABLES`.
    """

    region: str = "rule"
    threshold_hu: float = STEPS_HU[0]
    min_area_mm2: float = MIN_AREA_MM2
    mass_factor: float = 0.0
    kv_table: str = "none"

    def __post_init__(self) -> None:
        table = self.kv_table != "none"
        sound = (
            self.region in ("rule", "everything", "given")
            and _number_within(self.threshold_hu, 50.0, 1000.0)
            and _number_within(self.min_area_mm2, 0.0, 100.0)
            and _number_within(self.mass_factor, 0.0, 1.0)
            and (not table or self.kv_table in KV_TABLES)
            and not (table and self.threshold_hu != STEPS_HU[0])
        )
        if not sound:
            raise ConfigError("pipeline_settings")

    @classmethod
    def read(cls, settings: Settings) -> CalciumSettings:
        """From plain names and values; `ConfigError("pipeline_settings")` for any other."""
        try:
            return cls(**settings)  # type: ignore[arg-type] # __post_init__ checks the types
        except TypeError:
            raise ConfigError("pipeline_settings") from None

    def steps_hu(self, tube_voltage_kv: float | None) -> Steps:
        """Where the weights begin.

        Raises
        ------
        InputError
            `kv_not_in_table` when a table is named that lacks the tube voltage.
        """
        if self.kv_table == "none":
            return (float(self.threshold_hu), *STEPS_HU[1:])
        for voltage, steps in KV_TABLES[self.kv_table].items():
            if tube_voltage_kv is not None and abs(tube_voltage_kv - voltage) <= 1.0:
                return steps
        raise InputError("kv_not_in_table", tube_voltage_kv=round(tube_voltage_kv or 0.0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Region:
    """Where calcium is looked for: by rule with a heart, by hand, or (mask None) everywhere."""

    mask: Bools | None
    heart: HeartRegion | None = None

    @property
    def site(self) -> Code:
        return BODY if self.mask is None else CORONARY_ARTERIES


def run(study: Study, settings: Settings, region: Bools | None = None) -> tuple[Finding, ...]:
    """Score the only volume of a study."""
    return analyse_calcium(study.only(), settings, region)


def analyse_calcium(
    ct: Volume, settings: Settings, region: Bools | None = None
) -> tuple[Finding, ...]:
    """Lesions of `ct` with all their scores, the region they were looked for in, and warnings.

    Parameters
    ----------
    ct : Volume
        Unenhanced CT in HU.
    settings : dict
        As `CalciumSettings` names them.
    region : (k, j, i) bool or None
        Given by hand: then neither heart nor contrast is judged.

    Raises
    ------
    InputError
        `not_ct`, `not_hounsfield`, `time_series`, `slice_increment`, `too_few_slices`,
        `not_axial`, `no_heart`, `contrast`, `kv_not_in_table`, `region_grid`, `region_empty`.
    ConfigError
        `pipeline_settings`, `region_missing`.
    """
    chosen = CalciumSettings.read(settings)
    if region is not None and chosen.region == "rule":
        chosen = replace(chosen, region="given")
    if (chosen.region == "given") != (region is not None):
        raise ConfigError("region_missing" if region is None else "pipeline_settings")
    _refuse_unfit(ct, by_rule=chosen.region == "rule")
    steps = chosen.steps_hu(ct.acquisition.tube_voltage_kv)
    where = _region(ct, chosen, region)
    calcium = find_calcium(
        ct, where.site, steps_hu=steps, min_area_mm2=chosen.min_area_mm2, region=where.mask
    )
    mask = calcium_mask(ct, steps_hu=steps, min_area_mm2=chosen.min_area_mm2, region=where.mask)
    findings: list[Finding] = _scores(ct, calcium, mask, where, chosen, steps)
    if where.mask is not None and steps == STEPS_HU:
        findings += _categories(calcium)
    findings.append(
        Mask(
            what=CALCIFICATION,
            category=ABNORMAL,
            label="Calcium",
            values=mask,
            geometry=ct.geometry,
            site=where.site,
            tracking=CALCIUM_KEY,
            color=CALCIUM_COLOR,
            lesions=calcium.lesions,
            scoring=Scoring(
                chosen.region, steps, float(chosen.min_area_mm2), _mass_factor(ct, chosen)
            ),
        )
    )
    findings += _region_findings(ct, where)
    findings += _set_aside(ct, calcium, where, chosen, steps)
    names = _warnings(ct, calcium, where, chosen, steps)
    findings += [Observation(WARNING, warning(name)) for name in names]
    return tuple(findings)


def _number_within(value: object, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most  # type: ignore[operator]


def _refuse_unfit(ct: Volume, *, by_rule: bool) -> None:
    geometry = ct.geometry
    if ct.acquisition.modality != "CT":
        raise InputError("not_ct")
    if ct.unit != HOUNSFIELD.value:
        raise InputError("not_hounsfield")
    if ct.values.ndim != 3:
        raise InputError("time_series", frames=int(ct.values.shape[0]))
    if geometry.slice_spacing_mm > MAX_INCREMENT_MM + 0.01:
        raise InputError("slice_increment", millimetres=round(geometry.slice_spacing_mm, 2))
    if not by_rule:
        return
    if geometry.shape[0] < MIN_SLICES:
        raise InputError("too_few_slices", slices=geometry.shape[0])
    if _oblique_degrees(ct) > MAX_OBLIQUE_DEGREES:
        raise InputError("not_axial", degrees=round(_oblique_degrees(ct), 1))


def _oblique_degrees(ct: Volume) -> float:
    """Angle between the slices' normal and the patient's long axis."""
    return math.degrees(math.acos(min(1.0, abs(float(ct.geometry.normal[2])))))


def _region(ct: Volume, settings: CalciumSettings, given: Bools | None) -> _Region:
    if given is not None:
        if given.shape != ct.geometry.shape:
            raise InputError("region_grid")
        if not given.any():
            raise InputError("region_empty")
        return _Region(np.asarray(given, np.bool_))
    if settings.region == "everything":
        return _Region(None)
    heart = heart_region(ct)
    if not heart.found:
        raise InputError("no_heart", **_facts(heart))
    if heart.has_contrast:
        raise InputError("contrast", blood_pool_hu=round(heart.blood_pool_hu, 1))
    return _Region(heart.mask, heart)


def _facts(heart: HeartRegion) -> dict[str, float]:
    return {name: round(value, 1) for name, value in heart.steps if math.isfinite(value)}


def _scores(
    ct: Volume,
    calcium: Calcium,
    mask: Bools,
    where: _Region,
    settings: CalciumSettings,
    steps: Steps,
) -> list[Finding]:
    spacing = ct.geometry.slice_spacing_mm
    at = _threshold_words(settings, steps)
    plain = f"Agatston score{at}, plain, not corrected for slice spacing"
    corrected = f"Agatston score{at}, multiplied by slice spacing / 3 mm ({spacing:.3g} mm)"

    def score(value: float, site: Code, words: str) -> Measurement:
        return Measurement(CALCIUM_SCORE, value, SCORE, site, AGATSTON, CALCIUM_KEY, words)

    def other(value: float, unit: Code, method: Code, words: str) -> Measurement:
        return Measurement(CALCIUM_SCORE, value, unit, where.site, method, CALCIUM_KEY, words)

    found: list[Finding] = [
        score(calcium.agatston, where.site, plain),
        score(calcium.agatston_by_spacing, where.site, corrected),
    ]
    for vessel, own in rescore(calcium.lesions).items() if where.mask is not None else ():
        if vessel != TOTAL:
            name = "not assigned to a vessel" if vessel == UNASSIGNED else vessel
            site = VESSELS.get(vessel, where.site)
            found.append(score(own.agatston, site, f"{plain}; lesions {name}"))
            by_spacing = own.agatston * spacing / 3.0
            found.append(score(by_spacing, site, f"{corrected}; lesions {name}"))
    found.append(other(calcium.volume_mm3, CUBIC_MM, VOLUME_METHOD, f"Volume of voxels{at}"))
    if ct.geometry.shape[0] > 1:
        words = f"Volume{at}, interpolated between slices (Callister 1998)"
        volume = interpolated_volume_mm3(ct, mask, steps[0])
        found.append(other(volume, CUBIC_MM, VOLUME_METHOD, words))
    factor = _mass_factor(ct, settings)
    if factor is not None:
        words = f"Mass of hydroxyapatite{at}, {1000.0 * factor:.3f} mg/cm3 per HU"
        found.append(other(calcium.mass_mg(factor), MILLIGRAM, MASS_METHOD, words))
    count, low = float(len(calcium.lesions)), steps[0]
    found.append(Measurement(COUNT, count, NO_UNIT, where.site, None, CALCIUM_KEY))
    found.append(Measurement(THRESHOLD, low, HOUNSFIELD, where.site, None, CALCIUM_KEY))
    return found


def _threshold_words(settings: CalciumSettings, steps: Steps) -> str:
    """What a score of another threshold is called; nothing for the one everybody means."""
    if steps == STEPS_HU:
        return ""
    if settings.kv_table == "none":
        return f", threshold {steps[0]:g} HU"
    each = "/".join(f"{step:g}" for step in steps)
    return f", thresholds {each} HU of table {settings.kv_table}"


def _mass_factor(ct: Volume, settings: CalciumSettings) -> float | None:
    """The calibration; the documented default at 120 kV or where the voltage is not known."""
    if settings.mass_factor > 0.0:
        return float(settings.mass_factor)
    voltage = ct.acquisition.tube_voltage_kv
    standard = voltage is None or abs(voltage - STANDARD_KV) <= 1.0
    return MASS_FACTOR if standard else None


def _categories(calcium: Calcium) -> list[Finding]:
    """Both are made for 3 mm slices, so they follow the score corrected for slice spacing."""
    score = calcium.agatston_by_spacing
    vessels = vessels_with_calcium(rescore(calcium.lesions))
    return [
        Observation(CAC_DRS, cac_drs(score, vessels), CORONARY_ARTERIES, tracking=CALCIUM_KEY),
        Observation(RUMBERGER, rumberger(score), CORONARY_ARTERIES, tracking=CALCIUM_KEY),
    ]


def headline(findings: Sequence[Finding]) -> str:
    """Agatston score, the one corrected for spacing where it differs, and the category."""
    scores = [
        finding.value
        for finding in findings
        if isinstance(finding, Measurement)
        and finding.what == CALCIUM_SCORE
        and finding.method == AGATSTON
    ]
    categories = [
        finding.value.value
        for finding in findings
        if isinstance(finding, Observation) and finding.what == CAC_DRS
    ]
    parts = [f"Agatston {scores[0]:.0f} AU"] if scores else []
    if len(scores) > 1 and round(scores[1]) != round(scores[0]):
        parts.append(f"corrected for spacing {scores[1]:.0f} AU")
    parts += [f"CAC-DRS {category}" for category in categories]
    warnings = sum(isinstance(one, Observation) and one.what == WARNING for one in findings)
    if warnings:
        parts.append(f"{warnings} quality warning{'s' if warnings > 1 else ''}")
    return ", ".join(parts)


def _region_findings(ct: Volume, where: _Region) -> list[Finding]:
    if where.mask is None:
        return []
    by_rule = where.heart is not None
    found: list[Finding] = [
        Mask(
            what=HEART if by_rule else GIVEN_REGION,
            category=ANATOMY if by_rule else SPATIAL,
            label="Heart region" if by_rule else "Given region",
            values=where.mask,
            geometry=ct.geometry,
            site=HEART,
            tracking=REGION_KEY,
            color=REGION_COLOR,
        )
    ]
    if where.heart is not None:
        blood = where.heart.blood_pool_hu
        words = "Median of the blood pool; 90 HU and above is taken for contrast agent"
        found.append(Measurement(ATTENUATION, blood, HOUNSFIELD, HEART, None, REGION_KEY, words))
    return found


def _set_aside(
    ct: Volume, calcium: Calcium, where: _Region, settings: CalciumSettings, steps: Steps
) -> list[Finding]:
    """What the rule took out of the heart's outline; it adds to no number."""
    parts = where.heart.set_aside if where.heart is not None else ()
    if not any(voxels.size for _, voxels in parts):
        return []
    aside = set_aside(
        ct,
        parts,
        HEART,
        steps_hu=steps,
        min_area_mm2=settings.min_area_mm2,
        taken={lesion.tracking for lesion in calcium.lesions},
    )
    return [
        Mask(
            what=SET_ASIDE,
            category=SPATIAL,
            label="Set aside",
            values=aside.mask,
            geometry=ct.geometry,
            site=HEART,
            tracking=ASIDE_KEY,
            color=ASIDE_COLOR,
            lesions=aside.lesions,
            unlisted_lesions=aside.unlisted,
            in_report=False,
        )
    ]


def _warnings(
    ct: Volume, calcium: Calcium, where: _Region, settings: CalciumSettings, steps: Steps
) -> list[str]:
    found = acquisition_warnings(ct)
    if _oblique_degrees(ct) > MAX_OBLIQUE_DEGREES:
        found.append("not_axial")
    taken_out = where.heart is not None and where.heart.metal_mm3 > 0.0
    if taken_out or any(lesion.peak_hu >= METAL_HU for lesion in calcium.lesions):
        found.append("metal")
    if where.mask is None:
        found.append("no_region")
    else:
        if noise_hu(ct, where.mask) > NOISE_HU:
            found.append("image_noise")
        if cuts_heart(where.mask, ct.geometry):
            found.append("heart_cut_off")
    if steps != STEPS_HU:
        found.append("other_threshold" if settings.kv_table == "none" else "kv_table")
    if settings.mass_factor == 0.0 and _mass_factor(ct, settings) is not None:
        found.append("mass_factor")
    return found


PIPELINE: Final = Pipeline(
    name=NAME,
    version=VERSION,
    title="Coronary calcium score",
    # CID 100: an abdominal or chest CT may be analysed as well as a cardiac one.
    procedure=Code("25045-6", "LN", "CT unspecified body region"),
    card=ModelCard(
        name="radloop calcium",
        version=VERSION,
        # A rule has no weights: its digest names it, so that two versions never look alike.
        sha256=hashlib.sha256(f"{NAME} {VERSION}".encode()).hexdigest(),
        family="rule",
        intended_use=(
            "Proposes coronary calcium in unenhanced CT of the heart or chest for a reader to "
            "check. Calcium of valves and of the mitral ring within the heart is not told apart."
        ),
        trained_on="Not trained: explicit rules, published thresholds.",
    ),
    run=run,
    headline=headline,
    warm=islands.warm,
)
