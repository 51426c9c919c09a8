"""How a series was acquired, as its header tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydicom.tag import BaseTag

from dicom_services.dicom.header import (
    Header,
    doubles,
    has,
    numbers,
    read_header,
    tags,
    text,
    words,
)
from dicom_services.domain.volume import Acquisition

(
    _MODALITY,
    _KVP,
    _THICKNESS,
    _BETWEEN,
    _KERNEL,
    _AGENT,
    _AGENT_CODES,
    _INGREDIENT,
    _INGREDIENT_CODES,
    _SYNCHRONISATION,
    _SCAN_OPTIONS,
    _TRIGGER_TIME,
    _TRIGGER_DELAY,
    _PHASE,
    _LOW_RR,
    _HIGH_RR,
    _HEART_RATE,
    _ECHO,
    _EFFECTIVE_ECHO,
    _REPETITION,
    _FLIP,
    _FIELD,
    _CURRENT,
    _FRAME_CURRENT,
) = ACQUISITION_TAGS = tags(
    "Modality",
    "KVP",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ContrastBolusIngredient",
    "ContrastBolusIngredientCodeSequence",
    "CardiacSynchronizationTechnique",
    "ScanOptions",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "LowRRValue",
    "HighRRValue",
    "HeartRate",
    "EchoTime",
    "EffectiveEchoTime",
    "RepetitionTime",
    "FlipAngle",
    "MagneticFieldStrength",
    "XRayTubeCurrent",
    "XRayTubeCurrentInmA",
)
# Words people type where no contrast was given; anything else names an agent.
_NO_AGENT: Final = frozenset(
    {"", "NONE", "NO", "N", "NON", "NA", "N/A", "NO CONTRAST", "WITHOUT", "W/O", "NATIVE", "-", "0"}
)
# Defined terms of Scan Options that mean gating (PS3.3 C.8.3.1.1.1 for MR; makers' for CT).
_GATED_OPTIONS: Final = frozenset(
    {"CG", "PPG", "ECG", "CARDIAC", "TRIGGER", "TRIGGERED", "GATED", "GATING", "SNAPSHOT"}
)
_WIDEST_MM: Final = 100.0


def read_acquisition(
    file: bytes | Path, frame: Mapping[int, bytes] | None = None
) -> tuple[Acquisition, float]:
    """How one slice was acquired, and the thickness a slice has that stands alone.

    Parameters
    ----------
    file : bytes or Path
    frame : mapping or None
        What a multi-frame file says of the frame, by tag.

    Returns
    -------
    Acquisition, float
        The latter in mm: the distance between slices as declared, else the nominal thickness,
        else 1.
    """
    header = replace(read_header(file, ACQUISITION_TAGS), frame=frame or {})
    thickness = _positive(header, _THICKNESS)
    between = _positive(header, _BETWEEN)
    kernel = words(header, _KERNEL)
    acquisition = Acquisition(
        modality=text(header, _MODALITY),
        tube_voltage_kv=_positive(header, _KVP),
        slice_thickness_mm=thickness,
        kernel=(kernel[0] or None) if kernel else None,
        contrast_agent=_contrast(header),
        gated=_gated(header),
        echo_time_ms=_positive_double(header, _EFFECTIVE_ECHO) or _positive(header, _ECHO),
        repetition_time_ms=_positive(header, _REPETITION),
        flip_angle_degrees=_positive(header, _FLIP),
        field_strength_t=_positive(header, _FIELD),
        tube_current_ma=_positive_double(header, _FRAME_CURRENT) or _positive(header, _CURRENT),
    )
    alone = between or thickness or 1.0
    return acquisition, alone if alone <= _WIDEST_MM else 1.0


def _positive(header: Header, tag: BaseTag) -> float | None:
    values = numbers(header, tag)
    return values[0] if values and values[0] > 0.0 else None


def _positive_double(header: Header, tag: BaseTag) -> float | None:
    values = doubles(header, tag)
    return values[0] if values and values[0] > 0.0 else None


def _contrast(header: Header) -> bool:
    named = text(header, _AGENT).upper()
    ingredient = text(header, _INGREDIENT).upper()
    coded = has(header, _AGENT_CODES) or has(header, _INGREDIENT_CODES)
    return coded or named not in _NO_AGENT or ingredient not in _NO_AGENT


def _gated(header: Header) -> bool:
    technique = text(header, _SYNCHRONISATION).upper()
    options = [word.upper() for word in words(header, _SCAN_OPTIONS)]
    timed = (_TRIGGER_TIME, _TRIGGER_DELAY, _PHASE, _LOW_RR, _HIGH_RR, _HEART_RATE)
    return (
        technique not in ("", "NONE")
        or any(word in _GATED_OPTIONS for option in options for word in option.split())
        or any(_positive(header, tag) for tag in timed)
    )
