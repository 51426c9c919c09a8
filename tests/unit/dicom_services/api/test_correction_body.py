"""What is no correction is refused as the wire files say, by schema and body alike."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dicom_services.api.correction_body import CorrectionBody, assessment_of
from dicom_services.domain.assessment import REASONS
from dicom_services.errors import InputError

WIRE = Path(__file__).resolve().parents[3] / "wire"
SCHEMA = json.loads((WIRE / "correction.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
GOOD = sorted(WIRE.glob("correction-*.json"))
BAD = sorted((WIRE / "bad").glob("correction-*.json"))
BEYOND = [path for path in BAD if path.stem.startswith("correction-beyond")]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def taken(value: Any) -> bool:
    try:
        CorrectionBody.model_validate(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_correction_is_read(path: Path) -> None:
    value = read(path)
    VALIDATOR.validate(value)
    said = assessment_of(CorrectionBody.model_validate(value))
    assert (said.id, said.note, said.verdict) == (value["id"], value["note"], value["verdict"])
    if value["calcium"] is not None:
        assert said.calcium is not None
        assert [each.id for each in said.calcium.lesions] == [
            each["id"] for each in value["calcium"]["lesions"]
        ]
        assert [list(each.runs) for each in said.calcium.mask] == [
            each["runs"] for each in value["calcium"]["mask"]
        ]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_what_is_no_correction_is_refused(path: Path) -> None:
    value = read(path)
    if path in BEYOND:
        VALIDATOR.validate(value)
        with pytest.raises(InputError):
            assessment_of(CorrectionBody.model_validate(value))
    else:
        assert not VALIDATOR.is_valid(value)
        assert not taken(value)


def test_the_reasons_are_those_of_the_wire() -> None:
    assert SCHEMA["$defs"]["reason"]["enum"] == ["", *REASONS]
    assert all(reason.code.value == value for value, reason in REASONS.items())


def test_a_body_goes_out_as_it_came_in() -> None:
    for path in GOOD:
        value = read(path)
        assert CorrectionBody.model_validate(value).model_dump(by_alias=True) == value


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        return found + [p for key, each in value.items() for p in places(each, (*path, key))]
    if isinstance(value, list):
        return found + [p for n, each in enumerate(value) for p in places(each, (*path, n))]
    return found


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([1e13, 268435456, 16384, 300, 301, 49, 1.0, 1.5, -0.0, 2001, 1000000]),
    st.sampled_from(["", "accept", "reject", "modify", "other", "bone", "LAD", "LCX", "1", "1.2"]),
    st.sampled_from(["2026-03-14T09:26:53Z", "2026-13-14T09:26:53Z", "0.0.0", "\u2028", "\x7f"]),
    st.text(max_size=8).filter(lambda text: not text.endswith("\n")),
    st.just([]),
    st.just({}),
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_schema_and_body_refuse_the_same(data: st.DataObject) -> None:
    value = read(data.draw(st.sampled_from([path for path in GOOD if path.stat().st_size < 9000])))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(value)))
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        kind = data.draw(st.sampled_from(["set", "drop", "add"]))
        if kind == "drop":
            del holder[path[-1]]
        elif kind == "add" and isinstance(holder, dict):
            holder[data.draw(st.sampled_from(["extra", "patient"]))] = 1
        else:
            holder[path[-1]] = copy.deepcopy(data.draw(ODD))
        if not places(value):
            break
    assert taken(value) == VALIDATOR.is_valid(value), json.dumps(value)


@pytest.mark.parametrize(
    "body",
    [
        {str(number): number for number in range(100_000)},
        {"calcium": {"mask": [{"runs": [-1] * 400_000}] * 100}},
        {"calcium": {"mask": [1] * 20_000}},
        {"calcium": {"lesions": [{"note": number} for number in range(20_000)]}},
    ],
)
def test_a_million_mistakes_are_not_all_told(body: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        CorrectionBody.model_validate(body)
    assert refused.value.error_count() < 50
