"""What tests ask of a running stack: states, jobs, stored objects and the numbers in a report."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import pydicom

from dicom_services.errors import UnavailableError
from dicom_services.orthanc import Orthanc

FINAL = {"done", "refused", "failed"}


def until(condition: Callable[[], Any], limit_s: float = 90.0) -> Any:
    """The first true value of `condition`."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError("not in time")


def view_of(orthanc: Orthanc, uid: str) -> dict[str, Any]:
    """The router's view of a study, by Study Instance UID; empty while Orthanc starts."""
    nothing: dict[str, Any] = {"state": "", "series": [], "arriving": True}
    try:
        found = orthanc.find("studies", {"StudyInstanceUID": uid})
        return dict(orthanc.get_json(f"/radloop/studies/{found[0]}")) if found else nothing
    except UnavailableError:
        return nothing


def ended(orthanc: Orthanc, uid: str, limit_s: float = 90.0) -> dict[str, Any]:
    """The study's view once it is final and nothing more is arriving."""

    def look() -> dict[str, Any] | None:
        view = view_of(orthanc, uid)
        return view if view["state"] in FINAL and not view["arriving"] else None

    return dict(until(look, limit_s))


def image_series(view: dict[str, Any]) -> dict[str, Any]:
    """The series of a study that is no result."""
    return dict(next(s for s in view["series"] if s["excluded_by"] != "result"))


def jobs(view: dict[str, Any]) -> list[dict[str, Any]]:
    """Jobs of the image series, newest first; none while it is not there yet."""
    found = [s for s in view["series"] if s["excluded_by"] != "result"]
    return list(found[0]["jobs"]) if found else []


def objects(orthanc: Orthanc, job: dict[str, Any]) -> dict[str, pydicom.Dataset]:
    """The stored results of a job by modality."""
    found = {}
    for result in job["results"]:
        instance = orthanc.instances_of(result["series"])[0]
        found[result["modality"]] = pydicom.dcmread(
            io.BytesIO(orthanc.get_bytes(f"/instances/{instance}/file"))
        )
    return found


def numbers(report: pydicom.Dataset, code: str) -> list[float]:
    """Every numeric value of a concept anywhere in an SR."""
    found = []

    def walk(items: Any) -> None:
        for item in items:
            names = item.get("ConceptNameCodeSequence")
            if item.ValueType == "NUM" and names and names[0].get("CodeValue") == code:
                found.append(float(item.MeasuredValueSequence[0].NumericValue))
            walk(item.get("ContentSequence", []))

    walk(report.ContentSequence)
    return found


def text_of(dataset: pydicom.Dataset) -> str:
    """Everything an object says, as one string to search in."""
    return str(dataset.to_json())
