"""Judges a correction before it is kept: does it fit the study, and what does it score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from dicom_services.api.context import StudyAccess
from dicom_services.api.study_objects import JobResult, instances_of, job_result, series_named
from dicom_services.dicom.counted_mask import CountedMask, score_mask_limited
from dicom_services.dicom.indexed_series import IndexedInstance
from dicom_services.domain.agatston import MIN_AREA_MM2
from dicom_services.domain.assessment import Assessment, BrowserScores, CalciumEdit
from dicom_services.errors import InputError, MissingError
from dicom_services.orthanc import Orthanc

_TOLERANCE: Final = 1e-6
"""Relative; both sides count in float64, sums may come in another order."""
_COMPARED: Final = ("agatston", "agatston_by_spacing", "volume_mm3", "mass_mg")


def assess(orthanc: Orthanc, study: StudyAccess, said: Assessment) -> dict[str, Any]:
    """What the server makes of a correction: result meant, own scores, and whether they agree.

    Returns
    -------
    dict
        Plain JSON: study, result, scores, lesions, score_check.

    Raises
    ------
    MissingError
        `result_unknown`, `series_unknown`.
    InputError
        `result_mismatch` when report or series are not those of the job, and as
        `score_mask_limited`.
    """
    meant = job_result(orthanc, study, said.job)
    if meant.result.report.sop_instance_uid != said.report_uid:
        raise InputError("result_mismatch")
    if series_named(orthanc, study.uid, said.source_series) != meant.series:
        raise InputError("result_mismatch")
    outcome: dict[str, Any] = {
        "study": study.uid,
        "result": asdict(meant.result),
        "scores": None,
        "lesions": [],
        "score_check": "none",
    }
    if said.calcium is not None:
        outcome |= _scored(orthanc, meant, said.calcium)
    return outcome


def _scored(orthanc: Orthanc, meant: JobResult, edit: CalciumEdit) -> dict[str, Any]:
    index = instances_of(orthanc, meant.series)
    files = orthanc.fetch(_needed(index, edit))
    scoring = (meant.findings or {}).get("scoring") or {}
    mask = CountedMask(
        runs=edit.mask,
        anchors={each.id: each.anchor for each in edit.lesions},
        threshold_hu=edit.threshold_hu,
        min_area_mm2=float(scoring.get("min_area_mm2", MIN_AREA_MM2)),
        mass_factor=scoring.get("mass_factor"),
    )
    found = score_mask_limited(files, index, mask)
    if not agree(found["scores"], edit.scores) and meant.segmentation:
        # Lesions of the algorithm's two regions may touch; the browser keeps them apart.
        regions = orthanc.fetch([meant.segmentation])[0]
        apart = score_mask_limited(files, index, mask, regions)
        found = apart if agree(apart["scores"], edit.scores) else found
    same = agree(found["scores"], edit.scores)
    counted = {each.id for each in edit.lesions if each.counted}
    for lesion in found["lesions"]:
        lesion["decided"] = [name for name in lesion["decided"] if name in counted]
    return {
        "scores": found["scores"],
        "lesions": found["lesions"],
        "score_check": "equal" if same else "differs",
    }


def _needed(index: Sequence[IndexedInstance], edit: CalciumEdit) -> list[str]:
    """The archive's names of the images to read; one where the mask names none."""
    names = {one.uid: one.name for one in index}
    wanted = list(dict.fromkeys(entry.sop_instance_uid for entry in edit.mask))
    if any(uid not in names for uid in wanted):
        raise InputError("mask_image_unknown")
    if not index:
        raise MissingError("series_unknown")
    return [names[uid] for uid in wanted] or [index[len(index) // 2].name]


def agree(ours: Mapping[str, Any], browser: BrowserScores) -> bool:
    """Whether the browser showed what the server scores; a mass only where both have one."""
    if ours["lesions"] != browser.lesions:
        return False
    for name in _COMPARED:
        one, other = ours[name], getattr(browser, name)
        if one is None or other is None:
            continue
        if not math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            return False
    return True
