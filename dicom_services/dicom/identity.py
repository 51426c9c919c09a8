"""The patient and study a result joins, repeated as the source has them where they can be."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue

from dicom_services.errors import InputError

# Type 2 of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): always there.
_ALWAYS: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
_WHERE_PRESENT: Final = (
    "IssuerOfPatientID",
    "PatientAge",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyDescription",
)
_PATTERNS: Final = {
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?\Z"),
    "AS": re.compile(r"\d{3}[DWMY]\Z"),
}
_CHOICES: Final = {"PatientSex": ("M", "F", "O"), "PatientIdentityRemoved": ("YES", "NO")}
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def copy_identity(header: Dataset, result: Dataset) -> None:
    """Write the patient and study of `header` into `result`, in the source's character set.

    What an anonymiser left in an illegal form (a date of zeros, a sex of "ANON") becomes empty,
    as the modules allow. A Patient ID is never changed: the archive would file the result under
    another patient.

    Raises
    ------
    InputError
        `control_character` when the Patient ID holds one.
    """
    own_text = _own_text(result)
    for keyword in _ALWAYS:
        put(result, keyword, _clean(header, keyword))
    for keyword in _WHERE_PRESENT:
        value = _clean(header, keyword)
        if value:
            put(result, keyword, value)
    put(result, "StudyInstanceUID", str(header.get("StudyInstanceUID", "")))
    sets = _character_sets(header, own_text, result)
    if sets:
        result.SpecificCharacterSet = sets
    elif "SpecificCharacterSet" in result:
        del result.SpecificCharacterSet


def texts(dataset: Dataset) -> list[str]:
    """Every text value in `dataset`, sequences included, frames of an image left out."""
    found: list[str] = []
    for element in dataset:
        if element.keyword in ("PerFrameFunctionalGroupsSequence", "PixelData"):
            continue
        if element.VR == "SQ":
            for item in element.value:
                found.extend(texts(item))
        elif element.VR in ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "CS", "UI", "AE"):
            values = element.value if isinstance(element.value, MultiValue) else [element.value]
            found.extend(str(value) for value in values if value is not None)
    return found


def _own_text(result: Dataset) -> list[str]:
    return [text for text in texts(result) if not text.isascii()]


def put(result: Dataset, keyword: str, value: Any) -> None:
    """Set an attribute to what a source has, even where the standard forbids it."""
    result.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=IGNORE))


def _clean(header: Dataset, keyword: str) -> Any:
    value = header.get(keyword)
    if value is None:
        return ""
    several = isinstance(value, (MultiValue, list, tuple))
    parts = [str(each) for each in value] if several else [str(value)]
    if keyword == "PatientID" and any(CONTROL.search(part) for part in parts):
        raise InputError("control_character")
    parts = [_legal(keyword, CONTROL.sub("", part)) for part in parts]
    return parts if several else parts[0]


def _legal(keyword: str, text: str) -> str:
    vr = dictionary_VR(keyword)
    if keyword in _CHOICES:
        return text if text in _CHOICES[keyword] else ""
    if vr == "DA":
        return text if _is_date(text) else ""
    if vr in _PATTERNS:
        return text if _PATTERNS[vr].match(text) else ""
    return text


def _is_date(text: str) -> bool:
    """Whether `text` is a DA value of the last thousand years; year 0001 is a placeholder."""
    if not re.match(r"[12]\d{7}\Z", text):
        return False
    try:
        datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007 (only whether it is one)
    except ValueError:
        return False
    return True


def _character_sets(header: Dataset, own_text: list[str], result: Dataset) -> list[str] | str:
    """The source's character sets, so that names keep their bytes; else UTF-8.

    A source that declares none and yet holds more than ASCII was read as ISO 8859-1.
    """
    value = header.get("SpecificCharacterSet") or []
    declared = [str(each) for each in ([value] if isinstance(value, str) else value)]
    known = all(name in python_encoding or name == "" for name in declared)
    if own_text or not known:
        return "ISO_IR 192"
    if any(declared):
        return declared if len(declared) > 1 else declared[0]
    copied = [
        str(result[keyword].value) for keyword in (*_ALWAYS, *_WHERE_PRESENT) if keyword in result
    ]
    return "" if all(text.isascii() for text in copied) else "ISO_IR 100"
