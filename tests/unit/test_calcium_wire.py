"""Calcium on the wire: node, records and browser say the same of the same small volumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from dicom_services.api.correction_body import CorrectionBody, assessment_of
from dicom_services.domain.calcium import (
    VESSEL_ORDER,
    CountedVoxels,
    score_counted,
    voxels_of_runs,
)
from dicom_services.errors import InputError
from tests import calcium_cases
from tests.calcium_cases import ADDED, OUTSIDE, classes_of, geometry_of, values_of

WIRE = json.loads(calcium_cases.FILE.read_text())
CASES = WIRE["cases"]


def _named(case: Mapping[str, Any]) -> str:
    return str(case["name"])


def test_the_file_is_what_the_reference_says() -> None:
    assert calcium_cases.text() == calcium_cases.FILE.read_text()


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_the_reference_gives_what_was_worked_out_on_paper(case: dict[str, Any]) -> None:
    scores = case["expected"]["scores"]
    for name, value in case["paper"].items():
        found = scores[name]["value"] if isinstance(scores[name], dict) else scores[name]
        assert found == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_the_records_score_the_mask_as_the_reference_does(case: dict[str, Any]) -> None:
    expected = case["expected"]["scores"]
    runs = [(one["k"], one["vessel"], one["runs"]) for one in case["expected"]["mask"]]
    k, row, column, vessel = voxels_of_runs(runs, tuple(case["shape"]))
    values, classes = values_of(case), classes_of(case).copy()
    if case["classes"] is not None:
        classes[classes == OUTSIDE] = ADDED
    hu = np.minimum(values[k, row, column].astype(np.float64), 32767.0)
    scored = score_counted(
        CountedVoxels(k, row, column, hu, vessel, classes[k, row, column].astype(np.int64)),
        geometry_of(case),
        threshold_hu=case["threshold_hu"],
        min_area_mm2=case["min_area_mm2"],
    )
    assert (scored.lesion_of >= 0).all()
    assert scored.agatston == pytest.approx(expected["agatston"], rel=1e-12)
    assert scored.agatston_by_spacing == pytest.approx(expected["agatston_by_spacing"], rel=1e-12)
    assert scored.volume_mm3 == pytest.approx(expected["volume_mm3"], rel=1e-12)
    mass_mg = scored.mass_mg(case["mass_factor"])
    assert mass_mg == (mass_mg and pytest.approx(expected["mass_mg"], rel=1e-12))
    assert (mass_mg is None) == (expected["mass_mg"] is None)
    assert len(scored.lesions) == expected["lesions"]
    categories = scored.categories() or (None, None)
    for code, name in zip(categories, ("cac_drs", "rumberger"), strict=True):
        assert (code and code.value) == (expected[name] and expected[name]["value"])
    by_vessel = {
        name: {"agatston": own.agatston, "volume_mm3": own.volume_mm3, "lesions": own.lesions}
        for name, own in scored.by_vessel().items()
    }
    assert by_vessel.keys() == expected["vessels"].keys() <= set(VESSEL_ORDER)
    for name, own in by_vessel.items():
        assert own == pytest.approx(expected["vessels"][name], rel=1e-12)


def _correction() -> dict[str, Any]:
    return dict(json.loads((calcium_cases.FILE.with_name("correction-modify.json")).read_text()))


def _take(body: dict[str, Any], shape: tuple[int, int, int]) -> None:
    calcium = assessment_of(CorrectionBody.model_validate(body)).calcium
    assert calcium is not None
    voxels_of_runs([(0, one.vessel, one.runs) for one in calcium.mask], shape)


@pytest.mark.parametrize("bad", WIRE["bad_runs"]["runs"], ids=_named)
def test_runs_that_nobody_may_take_are_refused(bad: dict[str, Any]) -> None:
    body = _correction()
    shape = tuple(WIRE["bad_runs"]["shape"])
    body["calcium"]["mask"] = [body["calcium"]["mask"][0] | {"runs": [0, 1, 9, 7]}]
    _take(body, shape)
    body["calcium"]["mask"][0]["runs"] = bad["runs"]
    with pytest.raises((InputError, ValidationError)):
        _take(body, shape)


@pytest.mark.parametrize("low", WIRE["bad_thresholds_hu"])
def test_a_threshold_outside_of_the_slider_is_refused(low: float) -> None:
    body = _correction()
    body["calcium"]["threshold_hu"] = low
    with pytest.raises(ValidationError):
        CorrectionBody.model_validate(body)
