"""What a study holds that a correction or a report speaks of: jobs, their objects, images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dicom_services.api.context import StudyAccess
from dicom_services.dicom.assessed_result import (
    AssessedResult,
    ObjectReference,
    algorithm_scores,
)
from dicom_services.dicom.findings_bytes import unpack
from dicom_services.dicom.indexed_series import IndexedInstance, indexed_instances
from dicom_services.errors import MissingError
from dicom_services.orthanc import FINDINGS, Orthanc


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job of a study, its result and what it found.

    Parameters
    ----------
    job : dict
        As the plugin shows it.
    series : str
        Source series: the archive's name of it.
    result : AssessedResult
    findings : dict or None
        None where only the report is left.
    segmentation : str
        The archive's name of the segmentation; "" where there is none.
    maps : dict
        The archive's name of each parametric map that is still there, by SOP Instance UID.
    """

    job: Mapping[str, Any]
    series: str
    result: AssessedResult
    findings: Mapping[str, Any] | None
    segmentation: str
    maps: Mapping[str, str] = field(default_factory=dict)


def job_result(orthanc: Orthanc, study: StudyAccess, job_id: str) -> JobResult:
    """The job of a study and its result; also of a superseded one.

    Raises
    ------
    MissingError
        `result_unknown` when the study has no such job, or it has no report.
    """
    view = orthanc.get_json(f"/radloop/studies/{study.orthanc_id}")
    jobs = [job for series in view.get("series", []) for job in series.get("jobs", [])]
    job = next((one for one in jobs if one.get("job") == job_id), None)
    if job is None:
        raise MissingError("result_unknown")
    stored = {str(one["modality"]): one for one in job.get("results", [])}
    if "SR" not in stored:
        raise MissingError("result_unknown")
    report_name, report = _object(orthanc, stored["SR"])
    name, segmentation = _object(orthanc, stored["SEG"]) if "SEG" in stored else ("", None)
    packed = orthanc.attachment("instances", report_name, FINDINGS)
    findings = unpack(packed) if packed is not None else None
    model = (findings or {}).get("versions", {}).get("model", {})
    result = AssessedResult(
        job=job_id,
        pipeline=str(job.get("pipeline", "")),
        version=str(job.get("version", "")),
        model=str(model.get("name", "")),
        model_version=str(model.get("version", "")),
        report=report,
        segmentation=segmentation,
        scores=algorithm_scores(findings),
    )
    maps = _maps(orthanc, study, findings)
    return JobResult(job, str(job["series"]), result, findings, name, maps)


def _maps(
    orthanc: Orthanc, study: StudyAccess, findings: Mapping[str, Any] | None
) -> dict[str, str]:
    found = {}
    for one in (findings or {}).get("maps", ()):
        uid = str(one["sop_instance_uid"])
        query = {"StudyInstanceUID": study.uid, "SOPInstanceUID": uid}
        listed = orthanc.find("instances", query)
        if len(listed) == 1:
            found[uid] = listed[0]
    return found


def _object(orthanc: Orthanc, stored: Mapping[str, Any]) -> tuple[str, ObjectReference]:
    """A stored object, by the archive's name and by its own."""
    series = str(stored["series"])
    uid = str(stored["sop"])
    listed = instances_of(orthanc, series)
    found = next((one for one in listed if one.uid == uid), None)
    if found is None:
        raise MissingError("result_unknown")
    described = orthanc.get_json(f"/series/{series}")
    sop_class = orthanc.metadata("instances", found.name, "SopClassUid") or ""
    series_uid = str(described["MainDicomTags"]["SeriesInstanceUID"])
    return found.name, ObjectReference(sop_class.strip(), uid, series_uid)


def series_named(orthanc: Orthanc, study_uid: str, series_uid: str) -> str:
    """The archive's name of a series of a study.

    Raises
    ------
    MissingError
        `series_unknown`.
    """
    query = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    found = orthanc.find("series", query)
    if len(found) != 1:
        raise MissingError("series_unknown")
    return found[0]


def instances_of(orthanc: Orthanc, series: str) -> tuple[IndexedInstance, ...]:
    """The images of a series as the archive lists them, without reading one."""
    return indexed_instances(orthanc.get_json(f"/series/{series}/instances", expand=""))
