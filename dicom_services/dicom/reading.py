"""A reader's assessment on its way into the archive, and what its objects have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydicom import Dataset

from dicom_services.dicom import codes
from dicom_services.dicom.assessed_result import AssessedResult
from dicom_services.dicom.identity import CONTROL, copy_identity
from dicom_services.dicom.provenance import MANUFACTURER, NOTICE
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.uids import derived_uid
from dicom_services.domain.assessment import Assessment
from dicom_services.domain.findings import Code

PRODUCT: Final = "radloop reader"
# PS3.16 CID 7005.
PROCESSING: Final = Code("109102", "DCM", "Processing Equipment")


@dataclass(frozen=True, slots=True)
class Reading:
    """One stored correction, with what its objects say besides.

    Parameters
    ----------
    assessment : Assessment
    reader : str
        Display name.
    received : datetime
        By the server's clock, with its time zone; every date and time we write is this one.
    result : AssessedResult
    scores : dict or None
        The server's, as the API gives them.
    lesions : sequence of dict
        The server's, as `score_mask` gives them.
    software_version : str
    """

    assessment: Assessment
    reader: str
    received: datetime
    result: AssessedResult
    scores: Mapping[str, Any] | None
    lesions: Sequence[Mapping[str, Any]]
    software_version: str

    def uid(self, role: str) -> str:
        """The UID of this correction's `role`, such as "sr"; derived, so storing twice is once."""
        return derived_uid("radloop correction", self.assessment.id, role)

    @property
    def person_name(self) -> str:
        """The reader as a person name (PS3.5 6.2): one component, no delimiters, 64 characters."""
        plain = CONTROL.sub(" ", self.reader)
        for delimiter in "^=\\":
            plain = plain.replace(delimiter, " ")
        return " ".join(plain.split())[:64].strip() or "unnamed reader"


def stamp_reading(dataset: Dataset, source: SourceSeries, reading: Reading, what: str) -> Dataset:
    """Give a new object what all of a correction have in common."""
    received = reading.received
    dataset.InstanceCreationDate = received.strftime("%Y%m%d")
    dataset.InstanceCreationTime = received.strftime("%H%M%S.%f")
    for kind in ("Content", "Series"):
        setattr(dataset, f"{kind}Date", received.strftime("%Y%m%d"))
        setattr(dataset, f"{kind}Time", received.strftime("%H%M%S.%f"))
    dataset.SeriesDescription = f"{PRODUCT} {what}"[:64]
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = PRODUCT
    dataset.DeviceSerialNumber = device_uid(reading)
    dataset.SoftwareVersions = f"{MANUFACTURER} {reading.software_version}"[:64]
    dataset.ContentQualification = "RESEARCH"
    dataset.ContributingEquipmentSequence = [_equipment(reading)]
    dataset.CodingSchemeIdentificationSequence = [_private_scheme()]
    copy_identity(source.header, dataset)
    return dataset


def device_uid(reading: Reading) -> str:
    """The UID of this software as a device."""
    return derived_uid("radloop device", PRODUCT, reading.software_version)


def _equipment(reading: Reading) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.item(PROCESSING)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = PRODUCT
    item.SoftwareVersions = f"{MANUFACTURER} {reading.software_version}"[:64]
    item.ContributionDateTime = reading.received.strftime("%Y%m%d%H%M%S.%f%z")
    said = reading.assessment
    item.ContributionDescription = f"{NOTICE} Correction: {said.id}; assessed job: {said.job}"
    return item


def _private_scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = codes.PRIVATE
    item.CodingSchemeName = "radloop concepts that have no standard code"
    item.CodingSchemeResponsibleOrganization = "radloop"
    return item
