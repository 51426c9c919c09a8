"""Who made a result, from what and when: the part that every object we write has in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydicom import Dataset
from pydicom.uid import UID

from dicom_services.dicom import codes, uids
from dicom_services.dicom.identity import copy_identity
from dicom_services.dicom.source import SourceSeries
from dicom_services.domain.card import ModelCard
from dicom_services.domain.findings import Code
from dicom_services.errors import CorruptError

MANUFACTURER: Final = "radloop"
NOTICE: Final = "Research use only. Not a medical device."
PURPOSE: Final = Code("Newcode1", "99IHE", "Processing Algorithm")
"""IHE AIR 6.5.3.2 has a provisional code here until DICOM assigns one; then this line changes."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a result says of its run.

    Parameters
    ----------
    job : str
        40 hex digits.
    pipeline, version, title : str
        Of the pipeline.
    procedure : Code
        The imaging procedure the report speaks of, not the algorithm.
    card : ModelCard
    software_version : str
        Of radloop.
    started : datetime
        Start of the analysis, with its time zone; every date and time we write is this one.
    inputs_sha256 : str
        Digest of the instances that were read.
    predecessor : str
        Job id of the run this one supersedes; "" when there is none.
    predecessor_version : str
        Version of the pipeline in that run; "" when it was the same.
    rule : str
        Routing rule that asked for the run; "" on the command line.
    container : str
        Digest of the container image; "" outside one.
    settings : str
        What the rule or the command line set, as JSON; "" for what the pipeline does unasked.
    """

    job: str
    pipeline: str
    version: str
    title: str
    procedure: Code
    card: ModelCard
    software_version: str
    started: datetime
    inputs_sha256: str
    predecessor: str = ""
    predecessor_version: str = ""
    rule: str = ""
    container: str = ""
    settings: str = ""

    def __post_init__(self) -> None:
        if self.started.tzinfo is None:
            raise CorruptError("time_without_zone")

    def uid(self, role: str) -> str:
        """The UID of this run's `role`, such as "seg" or "seg-series"."""
        return uids.result_uid(self.job, self.version, role)

    def predecessor_uid(self, role: str) -> str:
        """The UID of the superseded run's `role`."""
        version = self.predecessor_version or self.version
        return uids.result_uid(self.predecessor, version, role)

    @property
    def device_uid(self) -> str:
        """The UID of the algorithm."""
        return uids.device_uid(self.card.name, self.card.version, self.card.sha256)

    def trace(self) -> tuple[tuple[Code, str], ...]:
        """What ties the result to its making: name and text, empty ones left out."""
        texts = (
            (codes.JOB, self.job),
            (codes.PIPELINE, f"{self.pipeline} {self.version}"),
            (codes.SOFTWARE_VERSION, f"{MANUFACTURER} {self.software_version}"),
            (codes.MODEL_SHA256, self.card.sha256),
            (codes.INPUTS_SHA256, self.inputs_sha256),
            (codes.CONTAINER_DIGEST, self.container),
            (codes.ROUTING_RULE, self.rule),
            (codes.SETTINGS, self.settings),
        )
        return tuple((name, text) for name, text in texts if text)


def stamp(dataset: Dataset, source: SourceSeries, provenance: Provenance, what: str) -> Dataset:
    """Give a new object what all have in common; nothing in it is taken from the clock.

    Parameters
    ----------
    dataset : Dataset
        Of highdicom, built on evidence without a patient.
    source : SourceSeries
        Whose patient and study the object joins.
    provenance : Provenance
    what : str
        Our own words for the kind of result, for example "segmentation".
    """
    started = provenance.started
    dataset.InstanceCreationDate = started.strftime("%Y%m%d")
    dataset.InstanceCreationTime = started.strftime("%H%M%S.%f")
    for kind in ("Content", "Series"):
        setattr(dataset, f"{kind}Date", started.strftime("%Y%m%d"))
        setattr(dataset, f"{kind}Time", started.strftime("%H%M%S.%f"))
    dataset.SeriesDescription = f"{MANUFACTURER} {provenance.pipeline} {what}"[:64]
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = provenance.title[:64]
    dataset.DeviceSerialNumber = provenance.device_uid
    dataset.SoftwareVersions = list(_versions(provenance))
    dataset.ContentQualification = "RESEARCH"
    dataset.ContributingEquipmentSequence = [_equipment(provenance)]
    dataset.CodingSchemeIdentificationSequence = [_scheme(*each) for each in codes.SCHEMES]
    copy_identity(source.header, dataset)
    return dataset


def _versions(provenance: Provenance) -> tuple[str, ...]:
    card = provenance.card
    return (
        f"{provenance.pipeline} {provenance.version}"[:64],
        f"{MANUFACTURER} {provenance.software_version}"[:64],
        f"{card.name} {card.version}"[:64],
    )


def _equipment(provenance: Provenance) -> Dataset:
    """The algorithm as Contributing Equipment (PS3.3 C.12.1; IHE AIR 6.5.3.2)."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.item(PURPOSE)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = provenance.card.name[:64]
    item.SoftwareVersions = list(_versions(provenance))
    item.DeviceUID = UID(provenance.device_uid)
    item.ContributionDateTime = provenance.started.strftime("%Y%m%d%H%M%S.%f%z")
    trace = "; ".join(f"{name.meaning}: {text}" for name, text in provenance.trace())
    item.ContributionDescription = f"{NOTICE} {trace}"[:1024]
    return item


def _scheme(designator: str, name: str, organisation: str) -> Dataset:
    """A coding scheme that PS3.16 section 8 does not list and an object therefore declares."""
    item = Dataset()
    item.CodingSchemeDesignator = designator
    item.CodingSchemeName = name
    item.CodingSchemeResponsibleOrganization = organisation
    return item
