"""The jobs that one comes after, as the ledger has them: how they ended and what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dicom_services.dicom.findings_bytes import unpack
from dicom_services.domain.earlier import Earlier
from dicom_services.domain.job import Job
from dicom_services.errors import InputError, MissingError
from dicom_services.orthanc import FINDINGS, Orthanc

Entered = Mapping[str, Any]
"""A job as the ledger shows it; of one that has begun, with `after`."""


def told(orthanc: Orthanc, job: Job) -> Entered:
    """What the ledger holds of a job that comes after others; nothing of any other.

    Raises
    ------
    MissingError
        `job_unknown` when the ledger does not know it.
    """
    return _entered(orthanc, job.series, job.id) if job.after else {}


def refusal(entered: Entered) -> InputError | None:
    """Why a job must not run: its rule wants all of those before it, and not all succeeded."""
    after = entered.get("after", [])
    lost = sum(entry["state"] != "done" for entry in after)
    if not lost or not entered.get("refuse_after_failed"):
        return None
    return InputError("predecessor_failed", count=lost, limit=len(after))


def earlier(orthanc: Orthanc, entered: Entered) -> tuple[Earlier, ...]:
    """What they found, in the order of the rule."""
    return tuple(_earlier(orthanc, entry) for entry in entered.get("after", []))


def _earlier(orthanc: Orthanc, entry: Entered) -> Earlier:
    pipeline, document = "", None
    if entry["job"]:
        try:
            job = _entered(orthanc, str(entry["series"]), str(entry["job"]))
            pipeline = str(job["pipeline"])
            document = _document(orthanc, job["results"])
        except MissingError:
            # Deleted since it ended.
            document = None
    return Earlier(
        job=str(entry["job"]),
        rule=str(entry["rule"]),
        pipeline=pipeline,
        state=str(entry["state"]),
        code=str(entry["code"]),
        document=document or {},
    )


def _document(orthanc: Orthanc, results: Sequence[Mapping[str, str]]) -> dict[str, Any] | None:
    """The findings beside the report."""
    for result in results:
        if result["modality"] == "SR":
            for instance in orthanc.instances_of(result["series"]):
                data = orthanc.attachment("instances", instance, FINDINGS)
                return unpack(data) if data is not None else None
    return None


def _entered(orthanc: Orthanc, series: str, job: str) -> Entered:
    view = orthanc.get_json(f"/radloop/series/{series}")
    found = next((one for one in view["jobs"] if one["job"] == job), None)
    if found is None:
        raise MissingError("job_unknown")
    return dict(found)
