"""The allow-listed header of a source series: what a result repeats, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydicom import DataElement, Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag
from pydicom.valuerep import validate_value

from dicom_services.dicom.header import IMPLICIT_LITTLE, Header, read_header, tags
from dicom_services.dicom.quiet import quiet

# Who and what the result belongs to: kept to the letter even where it breaks the standard,
# because a result filed under a mended identity is filed wrongly.
_IDENTITY: Final = (
    "PatientID",
    "PatientName",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "StudyID",
    "AccessionNumber",
    "SOPClassUID",
    "SOPInstanceUID",
)
# Type 2 in the modules that results share with their source (PS3.3 C.7.1.1, C.7.2.1, C.7.4.1):
# there, empty where unknown.
_TYPE_2: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
_DESCRIPTION: Final = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "TypeOfPatientID",
    "PatientBirthTime",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "QualityControlSubject",
    "PatientSpeciesDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PregnancyStatus",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "StudyDescription",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "Modality",
    "SeriesNumber",
    "SeriesDate",
    "SeriesTime",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "Laterality",
    "ImageLaterality",
    "PatientPosition",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionNumber",
    "ContentDate",
    "ContentTime",
    "ImageType",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "StationName",
    "KVP",
    "ConvolutionKernel",
    "ScanOptions",
    "ContrastBolusAgent",
    "ReconstructionDiameter",
    "SliceThickness",
    "SpacingBetweenSlices",
    "GantryDetectorTilt",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_SEQUENCES: Final = (
    "ProcedureCodeSequence",
    "ReferencedStudySequence",
    "RequestAttributesSequence",
    "AnatomicRegionSequence",
    "DeidentificationMethodCodeSequence",
)
# What items of those sequences may hold: codes and references.
_ITEM: Final = (
    "CodeValue",
    "LongCodeValue",
    "URNCodeValue",
    "CodingSchemeDesignator",
    "CodingSchemeVersion",
    "CodeMeaning",
    "ReferencedSOPClassUID",
    "ReferencedSOPInstanceUID",
    "AccessionNumber",
    "StudyInstanceUID",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "ScheduledProcedureStepID",
    "ScheduledProcedureStepDescription",
)
_VALUE_BYTES: Final = 4096
_ITEMS: Final = 16

HEADER_TAGS: Final = tags(*_IDENTITY, *_TYPE_2, *_DESCRIPTION, *_SEQUENCES)
_KEPT_TO_THE_LETTER: Final = frozenset(tags(*_IDENTITY))
_SEQUENCE_TAGS: Final = frozenset(tags(*_SEQUENCES))
_ITEM_TAGS: Final = frozenset(tags(*_ITEM))
_EMPTY_TAGS: Final = tags(*_TYPE_2)
_CHARACTER_SET: Final = BaseTag(0x00080005)


def read_source_header(file: bytes | Path, frame: Mapping[int, bytes] | None = None) -> Dataset:
    """The header a result repeats, from one file of the series.

    Of a multi-frame file it is that of one frame: `frame` is what the file says of it, by tag.

    Values that break their own VR are left out, but for identities; attributes that results must
    have are there at least empty. An empty Specific Character Set is left out: it says nothing,
    and highdicom refuses it.
    """
    header = read_header(file, HEADER_TAGS)
    implicit = header.syntax == IMPLICIT_LITTLE
    for tag in HEADER_TAGS:
        if frame and frame.get(tag):
            value = frame[tag]
            header.dataset[tag] = RawDataElement(
                tag, dictionary_VR(tag), len(value), value, 0, implicit, header.little
            )
    return source_header(header)


def source_header(header: Header) -> Dataset:
    """As `read_source_header`, from a header read with `HEADER_TAGS`."""
    found = header.dataset
    kept = Dataset()
    with quiet():
        for tag in sorted(set(HEADER_TAGS)):
            if tag in found:
                # Whatever pydicom cannot convert is left out, which is the purpose.
                with contextlib.suppress(Exception):
                    _keep(kept, found, tag)
    for tag in _EMPTY_TAGS:
        if tag not in kept:
            kept.add(DataElement(tag, dictionary_VR(tag), ""))
    kept.set_original_encoding(False, True, found._character_set)
    return kept


def _keep(kept: Dataset, found: Dataset, tag: BaseTag) -> None:
    raw = found.get_item(tag)
    if tag in _SEQUENCE_TAGS:
        items = [_plain_item(item) for item in found[tag].value[:_ITEMS]]
        whole = [item for item in items if _says_something(item)]
        if whole:
            kept.add(DataElement(tag, "SQ", whole))
        return
    overlong = isinstance(raw, RawDataElement) and len(raw.value or b"") > _VALUE_BYTES
    if overlong and tag not in _KEPT_TO_THE_LETTER:
        return
    element = found[tag]
    if tag == _CHARACTER_SET and not element.value:
        return
    if element.VR not in (dictionary_VR(tag), "US", "SS"):
        return
    if tag not in _KEPT_TO_THE_LETTER and not _valid(element):
        return
    _require_writable(element, found)
    kept.add(element)


def _require_writable(element: DataElement, found: Dataset) -> None:
    """Raise whatever pydicom raises when it cannot write what it read."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    encodings = found._character_set
    write_data_element(stream, element, [encodings] if isinstance(encodings, str) else encodings)


def _valid(element: DataElement) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    if element.VM == 0:
        return True
    try:
        for value in values:
            text = value.original_string if hasattr(value, "original_string") else value
            validate_value(element.VR, text, RAISE)
    except ValueError:
        return False
    return True


def _plain_item(item: Dataset) -> Dataset:
    plain = Dataset()
    for tag in sorted(item.keys()):
        if tag in _ITEM_TAGS and _valid(item[tag]):
            plain.add(item[tag])
    return plain


def _says_something(item: Dataset) -> bool:
    """Whether an item is a whole code, a whole reference or a request."""
    if "ReferencedSOPInstanceUID" in item or "ReferencedSOPClassUID" in item:
        return "ReferencedSOPInstanceUID" in item and "ReferencedSOPClassUID" in item
    if "CodeMeaning" in item or "CodeValue" in item:
        coded = any(key in item for key in ("CodeValue", "LongCodeValue", "URNCodeValue"))
        return "CodeMeaning" in item and coded
    return len(item) > 0
