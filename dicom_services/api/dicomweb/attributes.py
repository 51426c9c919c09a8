"""Attributes of a search: which may be asked for, and Orthanc's texts of them as DICOM JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

Element = dict[str, Any]
Item = dict[str, Element]

# What this Orthanc keeps in its index of each level: asked for and answered without a file.
PATIENT: Final = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY: Final = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "RequestedProcedureDescription",
    "InstitutionName",
    "RequestingPhysician",
)
SERIES: Final = (
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "SeriesDate",
    "SeriesTime",
    "BodyPartExamined",
    "ProtocolName",
    "Manufacturer",
    "StationName",
    "OperatorsName",
    "PerformedProcedureStepDescription",
)
INSTANCE: Final = ("SOPInstanceUID", "InstanceNumber", "NumberOfFrames")
MODALITIES: Final = "ModalitiesInStudy"
CLASS: Final = "SOPClassUID"
# What is shown of all that the index has.
_KEPT: Final = frozenset(
    (*PATIENT, *STUDY, *SERIES, *INSTANCE, "OtherPatientIDs", "AcquisitionNumber", "ImageComments")
)
_EMPTY: Final = ("PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber")


def _known(keywords: Iterable[str]) -> dict[str, str]:
    found = {}
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError("not a DICOM keyword: " + keyword)
        found[keyword] = f"{tag:08X}"
    return found


_COUNTS: Final = (
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances",
)
_MADE: Final = ("SpecificCharacterSet", "InstanceAvailability", "RetrieveURL", MODALITIES, CLASS)
TAGS: Final = _known((*sorted(_KEPT), *_COUNTS, *_MADE))
"""Eight hexadecimal digits of each keyword."""
KEYWORDS: Final = {tag: keyword for keyword, tag in TAGS.items()}
VRS: Final = {keyword: dictionary_VR(int(tag, 16)) for keyword, tag in TAGS.items()}


def element(keyword: str, *values: str | int) -> Element:
    """An attribute with values of ours."""
    vr = VRS[keyword]
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def add_texts(item: Item, texts: Mapping[str, Any]) -> None:
    """Put what Orthanc's index says of a resource into `item`."""
    for keyword in texts.keys() & _KEPT:
        text = texts[keyword]
        if isinstance(text, str):
            item[TAGS[keyword]] = _element_of_text(VRS[keyword], text)


def add_counts(item: Item, **counts: int) -> None:
    """Numbers of what lies below."""
    for keyword, count in counts.items():
        item[TAGS[keyword]] = element(keyword, count)


def new_item(url: str) -> Item:
    """What every answer begins with: the character set is that of JSON, whatever the files'."""
    item = {
        TAGS["SpecificCharacterSet"]: element("SpecificCharacterSet", "ISO_IR 192"),
        TAGS["InstanceAvailability"]: element("InstanceAvailability", "ONLINE"),
        TAGS["RetrieveURL"]: element("RetrieveURL", url),
    }
    for keyword in _EMPTY:
        item[TAGS[keyword]] = element(keyword)
    return item


def ordered(item: Item) -> Item:
    """By tag, PS3.18 F.2.2."""
    return dict(sorted(item.items()))


def _element_of_text(vr: str, text: str) -> Element:
    values = [_value(vr, one) for one in text.split("\\")]
    return {"vr": vr, "Value": values} if any(value is not None for value in values) else {"vr": vr}


def _value(vr: str, text: str) -> Any:
    """One value; None where it is empty or no number."""
    text = text.strip(" \0")
    if not text:
        return None
    if vr == "PN":
        # PS3.18 F.2.2: the component groups by name.
        groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
        return {name: group for name, group in groups if group} or None
    try:
        if vr == "IS":
            return int(text)
        if vr == "DS":
            return float(text)
    except ValueError:
        return None
    return text
