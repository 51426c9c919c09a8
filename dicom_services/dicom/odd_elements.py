"""Elements of a foreign dataset, whatever they hold: an answer always, never an error."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

from pydicom import Dataset

NAME_SIGNS: Final = 200
"""Of a name or meaning; the standard allows 64."""
BROKEN: Final = object()
"""Stands for a value that pydicom cannot read."""
# Line ends, tabs and the joiners of Persian and Indic writing stay; what turns writing round,
# hides or breaks it does not.
_UNFIT: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
    r"|[\ud800-\udfff]"
)
_SPACE: Final = re.compile(r"\s+")


def code_of(item: Dataset | None) -> dict[str, str] | None:
    """Value, scheme and meaning of a code; None where there is none."""
    if item is None:
        return None
    names = ("CodeValue", "LongCodeValue", "URNCodeValue")
    value = next((text for name in names if (text := text_of(item, name))), "")
    scheme, meaning = text_of(item, "CodingSchemeDesignator"), text_of(item, "CodeMeaning")
    if not value and not meaning:
        return None
    return {
        "value": value[:NAME_SIGNS],
        "scheme": scheme[:NAME_SIGNS],
        "meaning": meaning[:NAME_SIGNS],
    }


def first_of(item: Dataset, keyword: str, odd: Counter[str]) -> Dataset | None:
    """The first item of a sequence."""
    return next(iter(items_of(item, keyword, odd)), None)


def items_of(item: Dataset, keyword: str, odd: Counter[str]) -> list[Dataset]:
    """Items of a sequence; none where there is no sequence, or none that can be read.

    What cannot be read is counted in `odd` as "unreadable".
    """
    value = raw_of(item, keyword)
    if value is BROKEN:
        odd["unreadable"] += 1
        return []
    if value is None or isinstance(value, (str, bytes)):
        return []
    try:
        return [one for one in value if isinstance(one, Dataset)]
    except TypeError:
        return []


def values_of(item: Dataset, keyword: str) -> list[Any]:
    """Values of an element, however many; none of what cannot be read."""
    value = raw_of(item, keyword)
    if value is None or value is BROKEN or value == "":
        return []
    if isinstance(value, (str, bytes, int, float)):
        return [value]
    try:
        return list(value)
    except TypeError:
        return [value]


def text_of(item: Dataset, keyword: str, *, lines: bool = False) -> str:
    """An element as plain text in one line, or in its own lines."""
    value = raw_of(item, keyword)
    if value is None:
        return ""
    if value is BROKEN:
        return "(unreadable)" if lines else ""
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
    elif isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        text = "\\".join(str(part) for part in value)
    else:
        text = str(value)
    text = _UNFIT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text.strip() if lines else _SPACE.sub(" ", text).strip()


def raw_of(item: Dataset, keyword: str) -> Any:
    """The element's value; None where it is missing, `BROKEN` where pydicom cannot read it."""
    try:
        return item.get(keyword)
    except Exception:  # noqa: BLE001 - it is converted only now, and may hold anything
        return BROKEN


def moment(day: str, time: str) -> str:
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
