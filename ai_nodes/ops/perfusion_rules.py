"""What a rule or the command line may set of a perfusion analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ai_nodes.ops import hypoperfusion, perfusion_quality
from ai_nodes.ops.deconvolution import (
    LUCY_ITERATIONS,
    LUCY_SUPPORT_S,
    METHODS,
    OSCILLATION_INDEX,
)
from ai_nodes.ops.hypoperfusion import Thresholds
from ai_nodes.ops.perfusion_maps import (
    DENSITY_G_ML,
    HEMATOCRIT_LARGE,
    HEMATOCRIT_SMALL,
    PerfusionSettings,
)
from ai_nodes.pipeline import Settings
from dicom_services.errors import ConfigError

Place = tuple[int, int, int]

MOST_PLACES: Final = 64


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
