"""findings.json: what its schema takes and refuses, and that it says what the SR says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from dicom_services.dicom.findings_document import findings_document, refusal_document
from dicom_services.dicom.uids import tracking_uid
from dicom_services.dicom.write import encode, encode_refusal, to_bytes
from dicom_services.domain.findings import (
    Curve,
    Finding,
    Mask,
    Observation,
    ParametricMap,
    Scoring,
)
from tests import sources
from tests.validators import content, read_back

WIRE = Path(__file__).resolve().parents[3] / "wire"
SCHEMA = json.loads((WIRE / "findings.schema.json").read_text())
GOOD = sorted(WIRE.glob("findings-*.json"))
BAD = sorted((WIRE / "bad").glob("findings-*.json"))


def document(findings: tuple[Finding, ...] | None = None) -> dict[str, Any]:
    """As it comes back from its file."""
    found = sources.findings() if findings is None else findings
    source, provenance = sources.source(), sources.provenance()
    results = encode(found, source, provenance)
    files = [f"{each.Modality.lower()}.dcm" for each in results]
    made = findings_document(found, source, provenance, results, files)
    back: dict[str, Any] = json.loads(json.dumps(made, allow_nan=False))
    return back


def valid(value: object) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(value))


def test_the_schema_is_itself_sound() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_examples_are_accepted(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_examples_are_refused(path: Path) -> None:
    assert not valid(json.loads(path.read_text()))


def test_there_are_examples() -> None:
    assert len(GOOD) == 4
    assert len(BAD) > 10


@pytest.mark.parametrize(
    "findings",
    [
        sources.findings(),
        sources.nothing(),
        (),
        sources.with_set_aside(),
        sources.with_set_aside(calcium=False),
        sources.perfusion(),
    ],
)
def test_what_a_run_found_fits_the_schema(findings: tuple[Finding, ...]) -> None:
    assert valid(document(findings))


def test_a_probability_fits_the_schema() -> None:
    sure = replace(sources.findings()[6], probability=0.75)
    found = document((sure,))
    assert valid(found)
    assert found["findings"][0]["probability"] == 0.75


def test_a_refusal_fits_the_schema_even_where_no_header_could_be_read() -> None:
    provenance = sources.provenance(inputs_sha256="")
    facts = {"count": 3, "reason": "time", "whole": True}
    made = refusal_document("decoder_died", facts, None, provenance)
    assert valid(json.loads(json.dumps(made)))
    assert (made["state"], made["code"]) == ("refused", "decoder_died")
    assert made["meaning"] == "The decoder died while reading the images"
    assert made["facts"] == facts
    assert (made["study"], made["source_instances"]) == ("", 0)


def test_a_refusal_names_its_report() -> None:
    source, provenance = sources.source(), sources.provenance()
    results = encode_refusal("no_heart", {}, source, provenance)
    made = refusal_document("no_heart", {}, source, provenance, results, ["sr.dcm"])
    assert valid(json.loads(json.dumps(made)))
    assert [each["file"] for each in made["results"]] == ["sr.dcm"]


def test_a_measurement_says_what_how_where_and_in_which_unit() -> None:
    first = document()["findings"][0]
    assert first["code"] == {"value": "112058", "scheme": "DCM", "meaning": "Calcium score"}
    assert first["method"]["value"] == "112055"
    # Pixels of 0.35 mm2: 6 in two slices with weights 4 and 3, 2 with weight 1.
    assert first["value"] == pytest.approx(6 * 0.35 * 7 + 2 * 0.35)
    assert first["unit"] == "{score}"
    assert first["site"]["value"] == "41801008"
    assert first["tracking_uid"] == tracking_uid(sources.source().header, "calcium", "total")


def test_each_lesion_has_a_row_for_each_of_its_slices() -> None:
    rows = document()["lesions"]
    assert [(row["id"], row["slice"]) for row in rows] == [("L1", 4), ("L1", 5), ("L2", 8)]
    assert rows[1]["area_mm2"] == pytest.approx(6 * 0.35)
    assert (rows[1]["peak_hu"], rows[1]["weight"]) == (310.0, 3)
    assert rows[1]["score"] == pytest.approx(6 * 0.35 * 3)
    image = sources.source().instances[5]
    assert rows[1]["sop_instance_uid"] == image.sop_instance_uid
    assert rows[1]["instance_number"] == 6


def test_rows_of_a_lesion_add_up_to_its_total() -> None:
    found = document()
    for total in found["lesion_totals"]:
        scores = [row["score"] for row in found["lesions"] if row["id"] == total["id"]]
        assert sum(scores) == pytest.approx(total["score"])


def test_masks_tell_their_segment_and_voxels() -> None:
    masks = document()["masks"]
    assert [(each["segment"], each["voxels"]) for each in masks] == [(1, 14), (2, 9 * 30 * 36)]
    assert masks[0]["affine"][3] == [0.0, 0.0, 0.0, 1.0]
    assert document(sources.nothing())["masks"][0]["segment"] is None


def test_warnings_stand_apart_from_findings() -> None:
    found = document()
    assert [each["value"]["value"] for each in found["warnings"]] == [
        "tube_voltage",
        "slice_thickness",
    ]
    assert "warning" not in [each["code"]["value"] for each in found["findings"]]


def test_results_are_named_with_their_files() -> None:
    assert [(each["modality"], each["file"]) for each in document()["results"]] == [
        ("SEG", "seg.dcm"),
        ("SR", "sr.dcm"),
        ("KO", "ko.dcm"),
    ]


def test_results_that_were_not_written_have_no_file() -> None:
    source, provenance = sources.source(), sources.provenance()
    results = encode(sources.nothing(), source, provenance)
    made = findings_document(sources.nothing(), source, provenance, results)
    assert [each["file"] for each in made["results"]] == [""]


def test_the_document_and_the_report_track_the_same_things() -> None:
    source, provenance = sources.source(), sources.provenance()
    results = encode(sources.findings(), source, provenance)
    report = read_back(to_bytes(results[1]))
    in_report = {item.UID for item in content(report, "112040")}
    found = document()
    named = {
        each["tracking_uid"]
        for part in ("findings", "masks", "lesion_totals")
        for each in found[part]
    }
    assert named == in_report


def test_nobody_is_named() -> None:
    text = json.dumps(document())
    for secret in ("Doe", "Jane", "P-17", "19510203", "Roe", "HOSPITAL"):
        assert secret not in text


def test_an_observation_has_a_coded_answer_and_no_unit() -> None:
    found = [each for each in document()["findings"] if each["kind"] == "observation"]
    assert isinstance(sources.findings()[6], Observation)
    assert found[0]["value"]["value"] == "rumberger_11_100"
    assert found[0]["unit"] is None


def test_a_lesion_that_is_set_aside_says_why_and_is_not_counted() -> None:
    found = document(sources.with_set_aside())
    assert [(one["id"], one["counted"]) for one in found["lesion_totals"]] == [
        ("L1", True),
        ("L2", True),
        ("S1", False),
    ]
    assert [one["reason"] and one["reason"]["value"] for one in found["lesion_totals"]] == [
        None,
        None,
        "bone",
    ]
    assert [row["counted"] for row in found["lesions"]] == [True, True, True, False]
    assert [(one["segment"], one["unlisted_lesions"]) for one in found["masks"]] == [
        (1, 0),
        (2, 0),
        (3, 2),
    ]


def test_what_is_set_aside_changes_no_finding() -> None:
    plain, more = document(), document(sources.with_set_aside())
    assert more["findings"] == plain["findings"]


def test_the_document_says_by_which_rule_lesions_were_scored() -> None:
    rule = Scoring("rule", (130.0, 200.0, 300.0, 400.0), 1.0, 0.0007)
    first, *rest = sources.findings()
    assert isinstance(first, Mask)
    made = document((replace(first, scoring=rule), *rest))
    assert valid(made)
    assert made["scoring"] == {
        "region": "rule",
        "threshold_hu": 130.0,
        "steps_hu": [130.0, 200.0, 300.0, 400.0],
        "min_area_mm2": 1.0,
        "mass_factor": 0.0007,
    }
    assert document()["scoring"] is None


def test_a_map_tells_its_range_its_window_and_its_object() -> None:
    found = document(sources.perfusion())
    flow, delay = found["maps"]
    assert (flow["label"], flow["unit"], flow["color_map"]) == ("CBF", "mL/(100.g.min)", "PET")
    assert (flow["window"], delay["window"]) == ([0.0, 100.0], None)
    # Two rows and three columns less on every side.
    assert flow["defined_voxels"] == 12 * 36 * 42
    assert flow["minimum"] == pytest.approx(20.0, abs=0.01)
    assert flow["maximum"] == pytest.approx(100.0, abs=0.01)
    assert flow["method"]["value"] == "126311"
    stored = [each for each in found["results"] if each["kind"] == "map"]
    assert [each["sop_instance_uid"] for each in stored] == [
        flow["sop_instance_uid"],
        delay["sop_instance_uid"],
    ]
    assert [each["kind"] for each in found["results"]] == ["map", "map", "segmentation", "report"]


def test_a_map_of_nothing_has_no_range() -> None:
    flow = sources.perfusion()[0]
    assert isinstance(flow, ParametricMap)
    empty = replace(flow, values=np.full_like(flow.values, np.nan))
    found = document((empty,))
    assert valid(found)
    told = found["maps"][0]
    assert (told["defined_voxels"], told["minimum"], told["median"]) == (0, None, None)


def test_a_curve_is_told_whole() -> None:
    (curve,) = document(sources.perfusion())["curves"]
    assert curve["times_s"] == [0.0, 1.5, 3.0, 4.5, 6.5]
    assert curve["values"] == [0.0, 1.25, 8.5, 8.5, 3.0]
    assert curve["places"] == [[2, 10, 11], [2, 10, 12]]
    assert (curve["unit"], curve["site"]["value"]) == ("/s", "17232002")


def test_more_places_than_anyone_marks_are_counted() -> None:
    curve = sources.perfusion()[-1]
    assert isinstance(curve, Curve)
    many = replace(curve, places=tuple((0, 1, i % 48) for i in range(250)))
    (told,) = document((many,))["curves"]
    assert (len(told["places"]), told["unlisted_places"]) == (100, 150)


def test_settings_are_what_the_rule_said() -> None:
    source = sources.source()
    said = sources.provenance(settings='{"method": "oSVD", "voxels": 5}')
    assert findings_document((), source, said)["settings"] == {"method": "oSVD", "voxels": 5}
    assert findings_document((), source, sources.provenance())["settings"] == {}


def test_maps_and_curves_are_tracked_as_in_the_report() -> None:
    source, provenance = sources.source(), sources.provenance()
    report = read_back(to_bytes(encode(sources.perfusion(), source, provenance)[-1]))
    in_report = {item.UID for item in content(report, "112040")}
    found = document(sources.perfusion())
    named = {
        each["tracking_uid"]
        for part in ("findings", "masks", "maps", "curves")
        for each in found[part]
    }
    assert named == in_report
