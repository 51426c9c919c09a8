"""Any structured report as lines of text: bounded, plain, and never an error for odd content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import UID

MOST_ITEMS: Final = 2_000
MOST_DEPTH: Final = 32
MOST_SIGNS: Final = 4_000
"""Of one text."""
MOST_SIGNS_IN_ALL: Final = 400_000
_NAME_SIGNS: Final = 200
_REFERENCES: Final = frozenset({"IMAGE", "COMPOSITE", "WAVEFORM"})
# Line ends and tabs stay; what turns writing round, hides or breaks it does not.
_UNFIT: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
    r"|[\ud800-\udfff]"
)
_SPACE: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Line:
    """One content item.

    Parameters
    ----------
    level : int
        0 for what stands directly in the document.
    name : str
        Meaning of the concept name.
    kind : str
        DICOM value type (PS3.3 table C.17.3-7), or "STATUS" for what the header says.
    value, unit : str
        `unit` is a UCUM code, else the unit's meaning.
    code, value_code : dict or None
        Value, scheme and meaning of the name, and of a coded value.
    """

    level: int
    name: str
    kind: str
    value: str
    unit: str = ""
    code: dict[str, str] | None = None
    value_code: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ReadableReport:
    """A report as text; `warnings` say what of it is not there, or is not sure."""

    title: str
    created: str
    maker: str
    complete: bool
    items: tuple[Line, ...]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Pages:
    """What was written so far, and what had to be left out."""

    lines: list[Line] = field(default_factory=list)
    signs: int = 0
    cut: int = 0
    deep: int = 0
    left_out: int = 0
    odd: Counter[str] = field(default_factory=Counter)

    @property
    def is_full(self) -> bool:
        return len(self.lines) >= MOST_ITEMS or self.signs >= MOST_SIGNS_IN_ALL

    def write(self, line: Line) -> None:
        self.lines.append(line)
        self.signs += len(line.name) + len(line.value)


def readable(dataset: Dataset) -> ReadableReport:
    """The document's tree in its order; whatever cannot be read is counted in a warning."""
    pages = _Pages()
    for line in _status(dataset):
        pages.write(line)
    _walk(dataset, pages)
    return ReadableReport(
        title=_title(dataset) or "Structured report",
        created=_moment(_text(dataset, "ContentDate"), _text(dataset, "ContentTime")),
        maker=_maker(dataset),
        complete=_text(dataset, "CompletionFlag") == "COMPLETE",
        items=tuple(pages.lines),
        warnings=tuple(_warnings(dataset, pages)),
    )


def _walk(dataset: Dataset, pages: _Pages) -> None:
    """Depth first, without recursion: a tree may be deeper than Python's stack."""
    waiting = [(0, item) for item in reversed(_items(dataset, "ContentSequence", pages))]
    while waiting:
        level, item = waiting.pop()
        if pages.is_full:
            pages.left_out += 1 + len(waiting)
            return
        children = _items(item, "ContentSequence", pages)
        _write(level, item, bool(children), pages)
        if children and level + 1 >= MOST_DEPTH:
            pages.deep += len(children)
        else:
            waiting += [(level + 1, child) for child in reversed(children)]


def _write(level: int, item: Dataset, has_children: bool, pages: _Pages) -> None:
    kind = _text(item, "ValueType")
    code = _code(_first(item, "ConceptNameCodeSequence", pages))
    value, unit, value_code = _said(kind, item, pages)
    name = code["meaning"] or code["value"] if code else ""
    if not name and "ReferencedContentItemIdentifier" in item:
        kind, name = "REFERENCE", "See"
        where = _values(item, "ReferencedContentItemIdentifier")
        value = "item " + ".".join(str(part) for part in where[:20])
    if not name:
        pages.odd["without a name"] += kind not in _REFERENCES
        name = _UNNAMED.get(kind, "")
    if len(value) > MOST_SIGNS:
        pages.cut += 1
        value = value[: MOST_SIGNS - 1] + "…"
    line = Line(level, name[:_NAME_SIGNS], kind, value, unit[:_NAME_SIGNS], code, value_code)
    if not has_children and _joins(pages.lines[-1:], line):
        before = pages.lines.pop()
        pages.write(_joined(before, line))
    else:
        pages.write(line)


_UNNAMED: Final = {"IMAGE": "Image", "COMPOSITE": "Object", "WAVEFORM": "Waveform"}
_COUNTED: Final = re.compile(r"([0-9]+) references?\Z")


def _joins(last: Sequence[Line], line: Line) -> bool:
    """Whether a reference is one more of a row of the same, as in a library of images."""
    if not last or line.kind not in _REFERENCES:
        return False
    before = last[0]
    same = (before.level, before.kind, before.name) == (line.level, line.kind, line.name)
    return same and (before.value == line.value or _COUNTED.match(before.value) is not None)


def _joined(before: Line, line: Line) -> Line:
    counted = _COUNTED.match(before.value)
    count = int(counted[1]) + 1 if counted else 2
    return Line(line.level, line.name, line.kind, f"{count} references", "", line.code)


def _said(kind: str, item: Dataset, pages: _Pages) -> tuple[str, str, dict[str, str] | None]:
    """Value, unit and coded value of an item."""
    if kind == "NUM":
        return _number(item, pages)
    if kind == "CODE":
        code = _code(_first(item, "ConceptCodeSequence", pages))
        return (code["meaning"] or code["value"] if code else "(no value)"), "", code
    if kind in _REFERENCES:
        return _reference(item, pages), "", None
    tell = _KINDS.get(kind)
    if tell is not None:
        return tell(item), "", None
    if kind not in _FIXED and "ReferencedContentItemIdentifier" not in item:
        pages.odd["of an unknown kind"] += 1
    return _FIXED.get(kind, ""), "", None


def _number(item: Dataset, pages: _Pages) -> tuple[str, str, dict[str, str] | None]:
    measured = _first(item, "MeasuredValueSequence", pages)
    if measured is None:
        why = _code(_first(item, "NumericValueQualifierCodeSequence", pages))
        return f"(no value: {why['meaning']})" if why else "(no value)", "", None
    number = _text(measured, "NumericValue") or _text(measured, "FloatingPointValue")
    unit = _code(_first(measured, "MeasurementUnitsCodeSequence", pages))
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


def _person(item: Dataset) -> str:
    """Family name, then the others, in the first way of writing that is there."""
    text = next((part for part in _text(item, "PersonName").split("=") if part.strip("^ ")), "")
    family, *others = (part.strip() for part in text.split("^"))
    rest = " ".join(part for part in others if part)
    return f"{family}, {rest}" if family and rest else family or rest


def _reference(item: Dataset, pages: _Pages) -> str:
    found = _items(item, "ReferencedSOPSequence", pages)
    if not found:
        return "(refers to nothing)"
    frames = _values(found[0], "ReferencedFrameNumber")
    parts = _values(found[0], "ReferencedSegmentNumber")
    words = [UID(_text(found[0], "ReferencedSOPClassUID")).name.removesuffix(" Storage")]
    if frames:
        words.append(f"frame {frames[0]}" if len(frames) == 1 else f"{len(frames)} frames")
    if parts:
        words.append(f"segment {parts[0]}" if len(parts) == 1 else f"{len(parts)} segments")
    return ", ".join(word for word in words if word)


def _shape(item: Dataset, per_point: int = 2) -> str:
    count = len(_values(item, "GraphicData")) // per_point
    kind = _text(item, "GraphicType").lower()
    return f"{kind}, {count} point{'' if count == 1 else 's'}".lstrip(", ")


def _times(item: Dataset) -> str:
    names = ("ReferencedSamplePositions", "ReferencedTimeOffsets", "ReferencedDateTime")
    count = sum(len(_values(item, name)) for name in names)
    return f"{_text(item, 'TemporalRangeType').lower()}, {count} positions".lstrip(", ")


def _when(item: Dataset) -> str:
    text = _text(item, "DateTime")
    return _moment(text[:8], text[8:]) or text


def _date(item: Dataset) -> str:
    text = _text(item, "Date")
    return _moment(text, "")[:10] or text


def _time(item: Dataset) -> str:
    text = _text(item, "Time")
    return _moment("20000101", text)[11:] if re.match(r"[0-9]{4}", text) else text


_FIXED: Final = {"CONTAINER": "", "TABLE": "a table, which is not shown"}
_KINDS: Final[Mapping[str, Callable[[Dataset], str]]] = {
    "TEXT": lambda item: _text(item, "TextValue", lines=True),
    "DATE": _date,
    "TIME": _time,
    "DATETIME": _when,
    "UIDREF": lambda item: _text(item, "UID"),
    "PNAME": _person,
    "SCOORD": _shape,
    "SCOORD3D": lambda item: _shape(item, 3),
    "TCOORD": _times,
}


def _status(dataset: Dataset) -> list[Line]:
    """What the header says of who stands for the document."""
    lines = []
    pages = _Pages()
    if _text(dataset, "VerificationFlag") == "VERIFIED":
        for observer in _items(dataset, "VerifyingObserverSequence", pages)[:10]:
            named = Dataset()
            named.PersonName = _raw(observer, "VerifyingObserverName") or ""
            day = _text(observer, "VerificationDateTime")
            said = [_person(named), _moment(day[:8], day[8:])]
            lines.append(Line(0, "Verified by", "STATUS", ", ".join(part for part in said if part)))
    before = _items(dataset, "PredecessorDocumentsSequence", pages)
    if before:
        lines.append(Line(0, "Takes the place of", "STATUS", f"{len(before)} earlier document(s)"))
    return lines


def _title(dataset: Dataset) -> str:
    code = _code(_first(dataset, "ConceptNameCodeSequence", _Pages()))
    return (code["meaning"] or code["value"] if code else "")[:_NAME_SIGNS]


def _maker(dataset: Dataset) -> str:
    names = (_text(dataset, "Manufacturer"), _text(dataset, "ManufacturerModelName"))
    return " ".join(dict.fromkeys(name[:_NAME_SIGNS] for name in names if name))


def _warnings(dataset: Dataset, pages: _Pages) -> list[str]:
    said = []
    if _text(dataset, "CompletionFlag") == "PARTIAL":
        said.append("The document says of itself that it is partial.")
    if _text(dataset, "VerificationFlag") != "VERIFIED":
        said.append("No person has verified the document.")
    if "ContentSequence" not in dataset:
        said.append("The document has no content.")
    if pages.left_out:
        said.append(f"{pages.left_out} items or more are not shown: the document is too long.")
    counted = (
        (pages.deep, "items and what is below them are not shown: they are nested too deeply."),
        (pages.cut, "texts are cut."),
        (pages.odd.pop("unreadable", 0), "values could not be read."),
    )
    said += [f"{count} {words}" for count, words in counted if count]
    said += [f"{count} items are {words}." for words, count in sorted(pages.odd.items()) if count]
    return said


def _code(item: Dataset | None) -> dict[str, str] | None:
    """Value, scheme and meaning of a code; None where there is none."""
    if item is None:
        return None
    names = ("CodeValue", "LongCodeValue", "URNCodeValue")
    value = next((text for name in names if (text := _text(item, name))), "")
    scheme, meaning = _text(item, "CodingSchemeDesignator"), _text(item, "CodeMeaning")
    if not value and not meaning:
        return None
    return {
        "value": value[:_NAME_SIGNS],
        "scheme": scheme[:_NAME_SIGNS],
        "meaning": meaning[:_NAME_SIGNS],
    }


def _first(item: Dataset, keyword: str, pages: _Pages) -> Dataset | None:
    return next(iter(_items(item, keyword, pages)), None)


def _items(item: Dataset, keyword: str, pages: _Pages) -> list[Dataset]:
    """Items of a sequence; none where there is no sequence or it cannot be read."""
    value = _raw(item, keyword)
    if value is _BROKEN:
        pages.odd["unreadable"] += 1
        return []
    if value is None or isinstance(value, (str, bytes)):
        return []
    try:
        return [one for one in value if isinstance(one, Dataset)]
    except TypeError:
        return []


def _values(item: Dataset, keyword: str) -> list[Any]:
    """Values of an element, however many; none of what cannot be read."""
    value = _raw(item, keyword)
    if value is None or value is _BROKEN or value == "":
        return []
    if isinstance(value, (str, bytes, int, float)):
        return [value]
    try:
        return list(value)
    except TypeError:
        return [value]


def _text(item: Dataset, keyword: str, *, lines: bool = False) -> str:
    """An element as plain text in one line, or in its own lines."""
    value = _raw(item, keyword)
    if value is None:
        return ""
    if value is _BROKEN:
        return "(unreadable)" if lines else ""
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
    elif isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        text = "\\".join(str(part) for part in value)
    else:
        text = str(value)
    text = _UNFIT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text.strip() if lines else _SPACE.sub(" ", text).strip()


_BROKEN: Final = object()


def _raw(item: Dataset, keyword: str) -> Any:
    """The element's value; None where it is missing, `_BROKEN` where pydicom cannot read it."""
    try:
        return item.get(keyword)
    except Exception:  # noqa: BLE001 - it is converted only now, and may hold anything
        return _BROKEN


def _moment(day: str, time: str) -> str:
    """ISO 8601 of DICOM's date and time, with the offset if there is one; "" without a date."""
    date = re.match(r"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})", day)
    if date is None:
        return ""
    hours = re.match(r"([0-9]{2}):?([0-9]{2})?:?([0-9]{2})?(?:\.[0-9]*)?([+-][0-9]{4})?", time)
    if hours is None:
        return f"{date[1]}-{date[2]}-{date[3]}T00:00:00"
    parts = ":".join(part or "00" for part in hours.groups()[:3])
    offset = f"{hours[4][:3]}:{hours[4][3:]}" if hours[4] else ""
    return f"{date[1]}-{date[2]}-{date[3]}T{parts}{offset}"
