"""The verdict, by set equality only: what was acknowledged, what became of it, what else is."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pydicom

from dicom_services.errors import MissingError
from dicom_services.orthanc import Orthanc
from tests.chaos.corpus import SCORE, ChaosStudy, pixel_hash
from tests.pacs import numbers, view_of

_AT_ONCE: Final = 200


@dataclass(slots=True)
class Verdict:
    """Violations by kind, each with what it is about."""

    violations: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: str, about: str) -> None:
        """One more violation."""
        self.violations.setdefault(kind, []).append(about)


def judge(
    orthanc: Orthanc, studies: Sequence[ChaosStudy], acknowledged: set[str], verdict: Verdict
) -> None:
    """Compare the archive and the ledger with the manifest.

    Everything that was sent must have been acknowledged in the end, for the sender does not give
    up; so the three sets sent, acknowledged and stored have to be one.
    """
    sent = {image.sop: image.pixels for study in studies for image in study.images}
    there, segmentations = _archive(orthanc, set(sent))
    named: set[str] = set()
    for study in studies:
        named |= _judge_study(orthanc, study, segmentations, verdict)
    for kind, wrong in {
        "not_acknowledged": sent.keys() - acknowledged,
        "lost": acknowledged - there.keys(),
        "changed": {sop for sop in sent.keys() & there.keys() if there[sop] != sent[sop]},
        "stranger": there.keys() - sent.keys() - named,
        "result_named_but_missing": named - there.keys(),
    }.items():
        for sop in sorted(wrong):
            verdict.add(kind, sop)
    verdict.figures |= {
        "sent": len(sent),
        "acknowledged": len(acknowledged),
        "stored": len(sent.keys() & there.keys()),
        "result_objects": len(there.keys() - sent.keys()),
    }


def _archive(orthanc: Orthanc, sent: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Pixel hash by SOP Instance UID of everything; that of segmentations once more."""
    found: dict[str, str] = {}
    segmentations: dict[str, str] = {}
    names = list(orthanc.get_json("/instances"))
    for start in range(0, len(names), _AT_ONCE):
        for content in orthanc.fetch(names[start : start + _AT_ONCE]):
            data = pydicom.dcmread(io.BytesIO(content))
            sop = str(data.SOPInstanceUID)
            found[sop] = pixel_hash(data) if "PixelData" in data else ""
            if sop not in sent and data.Modality == "SEG":
                segmentations[sop] = found[sop]
    return found, segmentations


def _judge_study(
    orthanc: Orthanc, study: ChaosStudy, segmentations: dict[str, str], verdict: Verdict
) -> set[str]:
    """SOP Instance UIDs of every result that the ledger names for this study."""
    expected, view = study.expected, view_of(orthanc, study.uid)
    about = f"{study.number} {study.kind}"
    if (view["state"], view["code"] if view["series"] else "") != (expected.state, expected.code):
        verdict.add("state", f"{about}: {view['state']} {view.get('code')}")
    jobs = [job for series in view["series"] for job in series["jobs"]]
    current = [job for job in jobs if job["current"] and job["state"] != "superseded"]
    if len(current) != (1 if expected.results else 0):
        verdict.add("current_jobs", f"{about}: {len(current)}")
    shown = [result for job in current for result in job["results"]]
    if Counter(result["modality"] for result in shown) != Counter(expected.results):
        verdict.add("result_set", f"{about}: {sorted(one['modality'] for one in shown)}")
    _judge_series(view, study, {str(result["series"]) for result in shown}, verdict, about)
    for result in shown:
        _judge_result(orthanc, study, result, segmentations, verdict, about)
    return {str(result["sop"]) for job in jobs for result in job["results"]}


def _judge_series(
    view: dict[str, Any], study: ChaosStudy, shown: set[str], verdict: Verdict, about: str
) -> None:
    """Whatever series there is, is one that was sent, a result of now, or marked as replaced."""
    images = len({image.series for image in study.images})
    results = [one for one in view["series"] if one["excluded_by"] == "result"]
    if len(view["series"]) - len(results) != images:
        verdict.add("image_series", f"{about}: {len(view['series']) - len(results)}")
    standing = {str(one["series"]) for one in results if one["state"] != "superseded"}
    for series in sorted(standing - shown):
        verdict.add("result_series_not_current", f"{about}: {series}")
    for series in sorted(shown - standing):
        verdict.add("result_series_missing", f"{about}: {series}")


def _judge_result(
    orthanc: Orthanc,
    study: ChaosStudy,
    result: dict[str, Any],
    segmentations: dict[str, str],
    verdict: Verdict,
    about: str,
) -> None:
    expected = study.expected
    if result["modality"] == "SEG" and segmentations.get(result["sop"]) != expected.segmentation:
        verdict.add("segmentation", about)
    if result["modality"] == "SR" and expected.state == "done":
        scores = tuple(score for report in _reports(orthanc, result) for score in report)
        if scores != expected.scores:
            verdict.add("score", f"{about}: {scores} instead of {expected.scores}")


def _reports(orthanc: Orthanc, result: dict[str, Any]) -> Iterator[list[float]]:
    try:
        instances = orthanc.instances_of(result["series"])
    except MissingError:
        # Counted already, as a series that is missing.
        return
    for content in orthanc.fetch(instances):
        yield numbers(pydicom.dcmread(io.BytesIO(content)), SCORE)
