"""Any structured report as lines of text: bounded, plain, and never an error for odd content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom import Dataset

from dicom_services.dicom.odd_elements import (
    NAME_SIGNS,
    code_of,
    first_of,
    items_of,
    moment,
    raw_of,
    text_of,
    values_of,
)
from dicom_services.dicom.sr_values import REFERENCES, person, value_of

MOST_ITEMS: Final = 2_000
MOST_DEPTH: Final = 32
MOST_SIGNS: Final = 4_000
"""Of one text."""
MOST_SIGNS_IN_ALL: Final = 400_000
_KIND_SIGNS: Final = 16
"""A code string's (PS3.5 6.2)."""


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
        created=moment(text_of(dataset, "ContentDate"), text_of(dataset, "ContentTime")),
        maker=_maker(dataset),
        complete=text_of(dataset, "CompletionFlag") == "COMPLETE",
        items=tuple(pages.lines),
        warnings=tuple(_warnings(dataset, pages)),
    )


def _walk(dataset: Dataset, pages: _Pages) -> None:
    """Depth first, without recursion: a tree may be deeper than Python's stack."""
    waiting = [(0, item) for item in reversed(items_of(dataset, "ContentSequence", pages.odd))]
    while waiting:
        level, item = waiting.pop()
        if pages.is_full:
            pages.left_out += 1 + len(waiting)
            return
        children = items_of(item, "ContentSequence", pages.odd)
        _write(level, item, bool(children), pages)
        if children and level + 1 >= MOST_DEPTH:
            pages.deep += len(children)
        else:
            waiting += [(level + 1, child) for child in reversed(children)]


def _write(level: int, item: Dataset, has_children: bool, pages: _Pages) -> None:
    kind = text_of(item, "ValueType")[:_KIND_SIGNS]
    code = code_of(first_of(item, "ConceptNameCodeSequence", pages.odd))
    value, unit, value_code = value_of(kind, item, pages.odd)
    name = code["meaning"] or code["value"] if code else ""
    if not name and "ReferencedContentItemIdentifier" in item:
        kind, name = "REFERENCE", "See"
        where = values_of(item, "ReferencedContentItemIdentifier")
        value = "item " + ".".join(str(part) for part in where[:20])
    if not name:
        pages.odd["without a name"] += kind not in REFERENCES
        name = _UNNAMED.get(kind, "")
    if len(value) > MOST_SIGNS:
        pages.cut += 1
        value = value[: MOST_SIGNS - 1] + "…"
    line = Line(level, name[:NAME_SIGNS], kind, value, unit[:NAME_SIGNS], code, value_code)
    if not has_children and _joins(pages.lines[-1:], line):
        before = pages.lines.pop()
        pages.write(_joined(before, line))
    else:
        pages.write(line)


_UNNAMED: Final = {"IMAGE": "Image", "COMPOSITE": "Object", "WAVEFORM": "Waveform"}
_COUNTED: Final = re.compile(r"([0-9]+) references?\Z")


def _joins(last: Sequence[Line], line: Line) -> bool:
    """Whether a reference is one more of a row of the same, as in a library of images."""
    if not last or line.kind not in REFERENCES:
        return False
    before = last[0]
    same = (before.level, before.kind, before.name) == (line.level, line.kind, line.name)
    return same and (before.value == line.value or _COUNTED.match(before.value) is not None)


def _joined(before: Line, line: Line) -> Line:
    counted = _COUNTED.match(before.value)
    count = int(counted[1]) + 1 if counted else 2
    return Line(line.level, line.name, line.kind, f"{count} references", "", line.code)


def _status(dataset: Dataset) -> list[Line]:
    """What the header says of who stands for the document."""
    lines = []
    odd: Counter[str] = Counter()
    if text_of(dataset, "VerificationFlag") == "VERIFIED":
        for observer in items_of(dataset, "VerifyingObserverSequence", odd)[:10]:
            named = Dataset()
            named.PersonName = raw_of(observer, "VerifyingObserverName") or ""
            day = text_of(observer, "VerificationDateTime")
            said = [person(named), moment(day[:8], day[8:])]
            lines.append(Line(0, "Verified by", "STATUS", ", ".join(part for part in said if part)))
    before = items_of(dataset, "PredecessorDocumentsSequence", odd)
    if before:
        lines.append(Line(0, "Takes the place of", "STATUS", f"{len(before)} earlier document(s)"))
    return lines


def _title(dataset: Dataset) -> str:
    code = code_of(first_of(dataset, "ConceptNameCodeSequence", Counter()))
    return (code["meaning"] or code["value"] if code else "")[:NAME_SIGNS]


def _maker(dataset: Dataset) -> str:
    names = (text_of(dataset, "Manufacturer"), text_of(dataset, "ManufacturerModelName"))
    return " ".join(dict.fromkeys(name[:NAME_SIGNS] for name in names if name))


def _warnings(dataset: Dataset, pages: _Pages) -> list[str]:
    said = []
    if text_of(dataset, "CompletionFlag") == "PARTIAL":
        said.append("The document says of itself that it is partial.")
    if text_of(dataset, "VerificationFlag") != "VERIFIED":
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
