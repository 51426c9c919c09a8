"""One series through one pipeline: the same way for the worker and for the command line."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ai_nodes.pipeline import Pipeline, Settings
from dicom_services.dicom.decode_child import (
    read_dynamic_limited,
    read_headers_limited,
    read_series_limited,
)
from dicom_services.dicom.findings_document import findings_document, refusal_document
from dicom_services.dicom.parametric_map import SOP_CLASS as PARAMETRIC_MAP
from dicom_services.dicom.seg import Kind
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.write import Provenance, encode, encode_refusal
from dicom_services.domain.earlier import Earlier
from dicom_services.domain.findings import Finding
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Study
from dicom_services.errors import Fact, InputError

Files = Sequence[bytes | Path]
Read = TypeVar("Read")
Stage = Callable[[str], None]
Region = Callable[[Geometry], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an analysis.

    Parameters
    ----------
    state : str
        "done" or "refused".
    code : str
        Why it was refused; "" when done.
    facts : dict
        Numbers that belong to the code.
    findings : tuple of Finding
    objects : tuple of Dataset
        SEG, SR and KO, or the SR that says why there is nothing; empty where not even that could
        be written because the headers name no study.
    document : dict
        The content of findings.json.
    headline : str
        One line of numbers and categories; no patient data.
    """

    state: str
    code: str
    facts: dict[str, Fact]
    findings: tuple[Finding, ...]
    objects: tuple[Dataset, ...]
    document: dict[str, Any]
    headline: str


def analyse(
    files: Files,
    pipeline: Pipeline,
    settings: Settings,
    *,
    job: str = "",
    rule: str = "",
    predecessor: str = "",
    predecessor_version: str = "",
    region: Region | None = None,
    notes: tuple[str, ...] = (),
    earlier: tuple[Earlier, ...] = (),
    segmentation: Kind = "binary",
    stage: Stage = lambda _: None,
) -> Outcome:
    """Read a series, run a pipeline on it and encode what it found.

    Parameters
    ----------
    files : sequence of bytes or Path
        The series; bytes are let go of as soon as they are decoded if the caller does the same.
    job : str
        40 hex digits; derived from pipeline, settings and inputs where there is no queue.
    predecessor, predecessor_version : str
        Job id and pipeline version of the run whose results this one replaces.
    region : callable or None
        Gives the region to score inside for the geometry of the volume.
    notes : tuple of str
        What the results must say of the input beside what reading it tells, as
        `Acquisition.notes`: "files_refused".
    earlier : tuple of Earlier
        What the jobs before this one brought.
    segmentation : "binary" or "labelmap"
        How masks are written: what the archive they go to, and its viewers, can show.
    stage : callable
        Told the name of each stage as it begins.

    Returns
    -------
    Outcome
        A series that does not fit is an outcome too, not an error.
    """
    started = datetime.now(UTC).replace(microsecond=0)

    def provenance_of(source: SourceSeries | None) -> Provenance:
        made = _provenance(pipeline, settings, source, job, rule, started)
        return replace(made, predecessor=predecessor, predecessor_version=predecessor_version)

    stage("decoding")
    try:
        series = _again(read_dynamic_limited if pipeline.dynamic else read_series_limited, files)
    except InputError as error:
        headers = _headers(files)
        return _refused(error, headers, provenance_of(headers))
    source, volume = series.source, series.volume
    if notes:
        acquisition = replace(volume.acquisition, notes=(*volume.acquisition.notes, *notes))
        volume = replace(volume, acquisition=acquisition)
    provenance = provenance_of(source)
    # A 600-slice CT is 300 MB: files make room for the volume, the volume for the results.
    del series
    if isinstance(files, list):
        files.clear()
    try:
        stage("analysing")
        mask = region(volume.geometry) if region else None
        study = Study(str(source.header.StudyInstanceUID), (volume,), earlier)
        findings = pipeline.run(study, settings, mask)
        del study, volume
        stage("writing")
        objects = encode(findings, source, provenance, segmentation=segmentation)
    except InputError as error:
        return _refused(error, source, provenance)
    names = file_names(objects, pipeline.name)
    return Outcome(
        state="done",
        code="",
        facts={},
        findings=findings,
        objects=objects,
        document=findings_document(findings, source, provenance, objects, names),
        headline=pipeline.headline(findings),
    )


def refuse(
    files: Files,
    pipeline: Pipeline,
    settings: Settings,
    error: InputError,
    *,
    job: str,
    rule: str,
    predecessor: str,
    predecessor_version: str,
) -> Outcome:
    """Refuse a series, as `analyse` would, for a reason that does not lie in its images."""
    started = datetime.now(UTC).replace(microsecond=0)
    headers = _headers(files)
    made = _provenance(pipeline, settings, headers, job, rule, started)
    made = replace(made, predecessor=predecessor, predecessor_version=predecessor_version)
    return _refused(error, headers, made)


def file_names(objects: Sequence[Dataset], pipeline: str) -> list[str]:
    """Names for results on a disk, each another; nothing of the patient is in them.

    A map is named by its label: "perfusion-map-cbf.dcm".
    """
    names: list[str] = []
    for one in objects:
        kind = str(one.Modality).lower()
        if one.SOPClassUID == PARAMETRIC_MAP:
            kind = f"map-{str(one.ContentLabel).lower()}"
        name, again = f"{pipeline}-{kind}.dcm", 1
        while name in names:
            again += 1
            name = f"{pipeline}-{kind}-{again}.dcm"
        names.append(name)
    return names


def software_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("radloop")
    except PackageNotFoundError:
        return "0+source"


def _again(read: Callable[[Files], Read], files: Files) -> Read:
    """What `read` gives, asked once more where something from outside killed its process.

    Its own limits end it by other means than SIGKILL. The kernel that lacks memory, or a person,
    may hit any series by chance; one that is hit twice is taken for the cause.
    """
    try:
        return read(files)
    except InputError as error:
        if error.facts.get("signal") != signal.SIGKILL:
            raise
    return read(files)


def _headers(files: Files) -> SourceSeries | None:
    try:
        return _again(read_headers_limited, files)
    except InputError:
        return None


def _refused(error: InputError, source: SourceSeries | None, provenance: Provenance) -> Outcome:
    try:
        objects = encode_refusal(error.code, error.facts, source, provenance) if source else ()
    except InputError:
        # Headers that name no study cannot be answered in DICOM.
        objects = ()
    names = file_names(objects, provenance.pipeline)
    return Outcome(
        state="refused",
        code=error.code,
        facts=dict(error.facts),
        findings=(),
        objects=objects,
        document=refusal_document(error.code, error.facts, source, provenance, objects, names),
        headline="",
    )


def _provenance(
    pipeline: Pipeline,
    settings: Settings,
    source: SourceSeries | None,
    job: str,
    rule: str,
    started: datetime,
) -> Provenance:
    images = (*source.instances, *source.later) if source else ()
    uids = sorted({instance.sop_instance_uid for instance in images})
    inputs = hashlib.sha256("\n".join(uids).encode("utf-8", "replace")).hexdigest()
    own = f"{pipeline.name} {pipeline.version} {sorted(settings.items())} {inputs}"
    return Provenance(
        job=job or hashlib.sha256(own.encode("utf-8")).hexdigest()[:40],
        pipeline=pipeline.name,
        version=pipeline.version,
        title=pipeline.title,
        procedure=pipeline.procedure,
        card=pipeline.card,
        software_version=software_version(),
        started=started,
        inputs_sha256=inputs,
        rule=rule,
        settings=json.dumps(settings, sort_keys=True) if settings else "",
    )
