"""The value of one content item of a structured report, in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from pydicom import Dataset
from pydicom.uid import UID

from dicom_services.dicom.odd_elements import (
    code_of,
    first_of,
    items_of,
    moment,
    text_of,
    values_of,
)

REFERENCES: Final = frozenset({"IMAGE", "COMPOSITE", "WAVEFORM"})


def value_of(kind: str, item: Dataset, odd: Counter[str]) -> tuple[str, str, dict[str, str] | None]:
    """Value, unit and coded value of an item."""
    if kind == "NUM":
        return _number(item, odd)
    if kind == "CODE":
        code = code_of(first_of(item, "ConceptCodeSequence", odd))
        return (code["meaning"] or code["value"] if code else "(no value)"), "", code
    if kind in REFERENCES:
        return _reference(item, odd), "", None
    tell = _KINDS.get(kind)
    if tell is not None:
        return tell(item), "", None
    if kind not in _FIXED and "ReferencedContentItemIdentifier" not in item:
        odd["of an unknown kind"] += 1
    return _FIXED.get(kind, ""), "", None


def _number(item: Dataset, odd: Counter[str]) -> tuple[str, str, dict[str, str] | None]:
    measured = first_of(item, "MeasuredValueSequence", odd)
    if measured is None:
        why = code_of(first_of(item, "NumericValueQualifierCodeSequence", odd))
        return f"(no value: {why['meaning']})" if why else "(no value)", "", None
    number = text_of(measured, "NumericValue") or text_of(measured, "FloatingPointValue")
    unit = code_of(first_of(measured, "MeasurementUnitsCodeSequence", odd))
    shown = "" if unit is None else unit["meaning"] or unit["value"]
    if unit is not None and unit["scheme"] == "UCUM":
        shown = unit["value"]
    return _bearable(number) or "(no value)", shown, None


def _bearable(number: str) -> str:
    """A number as it is written; of a fraction longer than anybody reads, three digits."""
    if not re.fullmatch(r"[+-]?[0-9]{1,15}\.[0-9]{5,}", number):
        return number
    value = float(number)
    if 0.0 < abs(value) < 0.01:
        return f"{value:.3g}"
    return f"{value:.3f}".rstrip("0").removesuffix(".")


def person(item: Dataset) -> str:
    """Family name, then the others, in the first way of writing that is there."""
    text = next((part for part in text_of(item, "PersonName").split("=") if part.strip("^ ")), "")
    family, *others = (part.strip() for part in text.split("^"))
    rest = " ".join(part for part in others if part)
    return f"{family}, {rest}" if family and rest else family or rest


def _reference(item: Dataset, odd: Counter[str]) -> str:
    found = items_of(item, "ReferencedSOPSequence", odd)
    if not found:
        return "(refers to nothing)"
    frames = values_of(found[0], "ReferencedFrameNumber")
    parts = values_of(found[0], "ReferencedSegmentNumber")
    words = [UID(text_of(found[0], "ReferencedSOPClassUID")).name.removesuffix(" Storage")]
    if frames:
        words.append(f"frame {frames[0]}" if len(frames) == 1 else f"{len(frames)} frames")
    if parts:
        words.append(f"segment {parts[0]}" if len(parts) == 1 else f"{len(parts)} segments")
    return ", ".join(word for word in words if word)


def _shape(item: Dataset, per_point: int = 2) -> str:
    count = len(values_of(item, "GraphicData")) // per_point
    kind = text_of(item, "GraphicType").lower()
    return f"{kind}, {count} point{'' if count == 1 else 's'}".lstrip(", ")


def _times(item: Dataset) -> str:
    names = ("ReferencedSamplePositions", "ReferencedTimeOffsets", "ReferencedDateTime")
    count = sum(len(values_of(item, name)) for name in names)
    return f"{text_of(item, 'TemporalRangeType').lower()}, {count} positions".lstrip(", ")


def _when(item: Dataset) -> str:
    text = text_of(item, "DateTime")
    return moment(text[:8], text[8:]) or text


def _date(item: Dataset) -> str:
    text = text_of(item, "Date")
    return moment(text, "")[:10] or text


def _time(item: Dataset) -> str:
    text = text_of(item, "Time")
    return moment("20000101", text)[11:] if re.match(r"[0-9]{4}", text) else text


_FIXED: Final = {"CONTAINER": "", "TABLE": "a table, which is not shown"}
_KINDS: Final[Mapping[str, Callable[[Dataset], str]]] = {
    "TEXT": lambda item: text_of(item, "TextValue", lines=True),
    "DATE": _date,
    "TIME": _time,
    "DATETIME": _when,
    "UIDREF": lambda item: text_of(item, "UID"),
    "PNAME": person,
    "SCOORD": _shape,
    "SCOORD3D": lambda item: _shape(item, 3),
    "TCOORD": _times,
}
