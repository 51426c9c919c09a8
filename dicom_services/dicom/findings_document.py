"""Findings as one JSON document, for programs that speak no DICOM; a JSON Schema pins it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from pydicom import Dataset

from dicom_services.dicom import codes, uids
from dicom_services.dicom.curves import MOST_PLACES, curve_key
from dicom_services.dicom.parametric_map import map_key, map_label, stored_maps
from dicom_services.dicom.provenance import NOTICE, Provenance
from dicom_services.dicom.seg import segments, tracking_key
from dicom_services.dicom.source import SourceSeries
from dicom_services.domain.findings import (
    Code,
    Curve,
    Finding,
    Lesion,
    Mask,
    Measurement,
    Observation,
    ParametricMap,
    Scoring,
)
from dicom_services.errors import Fact

SCHEMA: Final = 3
_KINDS: Final = {"OT": "map", "SEG": "segmentation", "SR": "report", "KO": "key_objects"}


def findings_document(
    findings: Sequence[Finding],
    source: SourceSeries,
    provenance: Provenance,
    results: Sequence[Dataset] = (),
    files: Sequence[str] = (),
) -> dict[str, Any]:
    """What a run found; the same numbers as its SR, never rounded.

    Parameters
    ----------
    findings : sequence of Finding
    source : SourceSeries
    provenance : Provenance
    results : sequence of Dataset
        The objects `encode` made.
    files : sequence of str
        Names they were written under, in the same order; empty where they were not.

    Returns
    -------
    dict
        Plain JSON, as `tests/wire/findings.schema.json` pins it. `lesions` has a row for each
        lesion in each slice, `lesion_totals` one for each lesion. `slice` counts from 0 in the
        order of the volume (a mask's `affine` says which way), `row` and `column` from 0 at the
        centre of the first pixel. Lesions that are not `counted` are in no number of `findings`.
    """
    masks = [finding for finding in findings if isinstance(finding, Mask)]
    maps = [finding for finding in findings if isinstance(finding, ParametricMap)]
    curves = [finding for finding in findings if isinstance(finding, Curve)]
    plain = [each for each in findings if isinstance(each, (Measurement, Observation))]
    warnings = [each for each in plain if isinstance(each, Observation) and not each.tracking]
    lesions = [lesion for mask in masks for lesion in mask.lesions]
    return _frame("done", source, provenance) | {
        "scoring": next((_scoring(mask.scoring) for mask in masks if mask.scoring), None),
        "findings": [_finding(each, source, provenance) for each in plain if each not in warnings],
        "masks": [_mask(mask, masks, source, provenance) for mask in masks],
        "maps": _maps(maps, source, provenance),
        "curves": [_curve(each, source, provenance) for each in curves],
        "lesions": [row for each in lesions for row in _rows(each, source)],
        "lesion_totals": [_lesion(each, source, provenance) for each in lesions],
        "warnings": [_statement(each) for each in warnings],
        "results": _results(results, files),
    }


def refusal_document(
    code: str,
    facts: Mapping[str, Fact],
    source: SourceSeries | None,
    provenance: Provenance,
    results: Sequence[Dataset] = (),
    files: Sequence[str] = (),
) -> dict[str, Any]:
    """Why a run has no findings; `source` is None where not even headers could be read."""
    return _frame("refused", source, provenance) | {
        "code": code,
        "meaning": codes.reason(code).meaning,
        "facts": dict(facts),
        "scoring": None,
        "findings": [],
        "masks": [],
        "maps": [],
        "curves": [],
        "lesions": [],
        "lesion_totals": [],
        "warnings": [],
        "results": _results(results, files),
    }


def _frame(state: str, source: SourceSeries | None, provenance: Provenance) -> dict[str, Any]:
    card = provenance.card
    header = source.header if source is not None else Dataset()
    return {
        "schema": SCHEMA,
        "state": state,
        "code": "",
        "notice": NOTICE,
        "job": provenance.job,
        "pipeline": provenance.pipeline,
        "title": provenance.title,
        "versions": {
            "pipeline": provenance.version,
            "software": provenance.software_version,
            "model": {
                "name": card.name,
                "version": card.version,
                "sha256": card.sha256,
                "family": card.family,
            },
            "container": provenance.container,
        },
        "intended_use": card.intended_use,
        "started": provenance.started.isoformat(),
        "study": str(header.get("StudyInstanceUID", "")),
        "source_series": str(header.get("SeriesInstanceUID", "")),
        "source_instances": _images(source) if source is not None else 0,
        "inputs_sha256": provenance.inputs_sha256,
        "settings": json.loads(provenance.settings or "{}"),
    }


def _finding(
    finding: Measurement | Observation, source: SourceSeries, provenance: Provenance
) -> dict[str, Any]:
    if isinstance(finding, Measurement):
        key = finding.tracking or f"measurement {finding.what.value}"
        return {
            "kind": "measurement",
            "code": _code(finding.what),
            "method": _code(finding.method),
            "value": finding.value,
            "unit": finding.unit.value,
            "site": _code(finding.site),
            "tracking": key,
            "tracking_uid": uids.tracking_uid(source.header, provenance.pipeline, key),
            "derivation": finding.derivation,
            "probability": None,
        }
    return {
        "kind": "observation",
        "code": _code(finding.what),
        "method": None,
        "value": _code(finding.value),
        "unit": None,
        "site": _code(finding.site),
        "tracking": finding.tracking,
        "tracking_uid": uids.tracking_uid(source.header, provenance.pipeline, finding.tracking),
        "derivation": "",
        "probability": finding.probability,
    }


def _mask(
    mask: Mask, masks: Sequence[Mask], source: SourceSeries, provenance: Provenance
) -> dict[str, Any]:
    key = tracking_key(mask)
    shown = segments(masks)
    number = next((index for index, each in enumerate(shown, 1) if each is mask), None)
    return {
        "segment": number,
        "label": mask.label,
        "code": _code(mask.what),
        "site": _code(mask.site),
        "voxels": int(mask.values.sum()),
        "voxel_volume_mm3": mask.geometry.voxel_volume_mm3,
        "slices": mask.geometry.shape[0],
        "slice_spacing_mm": mask.geometry.slice_spacing_mm,
        "affine": mask.geometry.affine.tolist(),
        "fullest_slice": _fullest_slice(mask),
        "unlisted_lesions": mask.unlisted_lesions,
        "tracking": key,
        "tracking_uid": uids.tracking_uid(source.header, provenance.pipeline, key),
    }


def _maps(
    maps: Sequence[ParametricMap], source: SourceSeries, provenance: Provenance
) -> list[dict[str, Any]]:
    """Maps with the place and range of their voxels; the values are in their objects."""
    return [_map(each.values, each.role, source, provenance) for each in stored_maps(maps)]


def _map(
    finding: ParametricMap, role: str, source: SourceSeries, provenance: Provenance
) -> dict[str, Any]:
    key = map_key(finding)
    defined = finding.values[~np.isnan(finding.values)]
    return {
        "label": map_label(finding),
        "code": _code(finding.what),
        "method": _code(finding.method),
        "site": _code(finding.site),
        "unit": finding.unit.value,
        "window": list(finding.window) if finding.window is not None else None,
        "color_map": finding.color_map,
        "slices": finding.geometry.shape[0],
        "affine": finding.geometry.affine.tolist(),
        "defined_voxels": int(defined.size),
        "minimum": float(defined.min()) if defined.size else None,
        "median": float(np.median(defined)) if defined.size else None,
        "maximum": float(defined.max()) if defined.size else None,
        "sop_instance_uid": provenance.uid(role),
        "tracking": key,
        "tracking_uid": uids.tracking_uid(source.header, provenance.pipeline, key),
    }


def _curve(curve: Curve, source: SourceSeries, provenance: Provenance) -> dict[str, Any]:
    key = curve_key(curve)
    return {
        "label": curve.label,
        "code": _code(curve.what),
        "method": _code(curve.method),
        "site": _code(curve.site),
        "unit": curve.unit.value,
        "times_s": list(curve.times_s),
        "values": list(curve.values),
        "places": [list(place) for place in curve.places[:MOST_PLACES]],
        "unlisted_places": max(0, len(curve.places) - MOST_PLACES),
        "tracking": key,
        "tracking_uid": uids.tracking_uid(source.header, provenance.pipeline, key),
    }


def _fullest_slice(mask: Mask) -> int | None:
    """Where to open the images for it; the first of equal ones."""
    voxels = mask.values.sum(axis=(1, 2))
    return int(voxels.argmax()) if voxels.any() else None


def _lesion(lesion: Lesion, source: SourceSeries, provenance: Provenance) -> dict[str, Any]:
    key = lesion.tracking or lesion.id
    return {
        "id": lesion.id,
        "vessel": _code(lesion.site),
        "center_mm": list(lesion.center_mm),
        "volume_mm3": lesion.volume_mm3,
        "peak_hu": lesion.peak_hu,
        "score": lesion.score,
        "slices": [part.k for part in lesion.slices],
        "counted": lesion.counted,
        "reason": _code(lesion.reason),
        "tracking": key,
        "tracking_uid": uids.tracking_uid(source.header, provenance.pipeline, key),
    }


def _rows(lesion: Lesion, source: SourceSeries) -> list[dict[str, Any]]:
    rows = []
    for part in lesion.slices:
        image = source.instances[part.k]
        rows.append(
            {
                "id": lesion.id,
                "slice": part.k,
                "sop_instance_uid": image.sop_instance_uid,
                "instance_number": image.number,
                "row": part.row,
                "column": part.column,
                "area_mm2": part.area_mm2,
                "peak_hu": part.peak_hu,
                "weight": part.weight,
                "score": part.score,
                "counted": lesion.counted,
                "vessel": _code(lesion.site),
            }
        )
    return rows


def _scoring(rule: Scoring) -> dict[str, Any]:
    return {
        "region": rule.region,
        "threshold_hu": rule.steps_hu[0],
        "steps_hu": list(rule.steps_hu),
        "min_area_mm2": rule.min_area_mm2,
        "mass_factor": rule.mass_factor,
    }


def _statement(finding: Observation) -> dict[str, Any]:
    return {"code": _code(finding.what), "value": _code(finding.value)}


def _results(results: Sequence[Dataset], files: Sequence[str]) -> list[dict[str, Any]]:
    names = list(files) or [""] * len(results)
    return [
        {
            "kind": _KINDS[str(each.Modality)],
            "modality": str(each.Modality),
            "sop_class_uid": str(each.SOPClassUID),
            "sop_instance_uid": str(each.SOPInstanceUID),
            "series_instance_uid": str(each.SeriesInstanceUID),
            "file": name,
        }
        for each, name in zip(results, names, strict=True)
    ]


def _code(code: Code | None) -> dict[str, str] | None:
    if code is None:
        return None
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _images(source: SourceSeries) -> int:
    """How many there are: a slice of every time, and one object however many frames it has."""
    return len({one.sop_instance_uid for one in (*source.instances, *source.later)})
