"""What every pipeline owes, whichever it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ai_nodes.pipeline import Pipeline
from ai_nodes.registry import PIPELINES
from dicom_services.domain.findings import Mask
from dicom_services.domain.volume import Study, Volume
from dicom_services.errors import ConfigError, InputError
from tests.phantoms import volume

EVERY = pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=lambda each: str(each.name))


@EVERY
def test_it_is_registered_under_its_own_name(pipeline: Pipeline) -> None:
    assert PIPELINES[pipeline.name] is pipeline
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", pipeline.name)
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", pipeline.version)
    assert 0 < len(pipeline.title) <= 40


@EVERY
def test_its_card_tells_what_it_is_and_where_it_comes_from(pipeline: Pipeline) -> None:
    card = pipeline.card
    assert card.version == pipeline.version
    assert card.name
    assert card.family in ("rule", "model")
    assert re.fullmatch(r"[0-9a-f]{64}", card.sha256)
    assert card.intended_use.endswith(".")
    assert card.trained_on.endswith(".")


@EVERY
def test_its_procedure_is_coded(pipeline: Pipeline) -> None:
    assert pipeline.procedure.scheme in ("SCT", "LN", "RADLEX", "DCM")
    assert pipeline.procedure.meaning


@EVERY
def test_a_study_without_volumes_is_refused_with_a_code(pipeline: Pipeline) -> None:
    with pytest.raises(InputError) as error:
        pipeline.run(Study("1.2", ()), {}, None)
    assert (error.value.code, error.value.facts) == ("volumes", {"count": 0})


@EVERY
def test_unknown_settings_are_refused(pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError):
        pipeline.run(Study("1.2", (volume([]),)), {"no_such_setting": 1}, None)


@EVERY
def test_it_says_the_same_twice_and_writes_nothing(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline.warm()
    ct = volume([])
    before = ct.values.copy()
    assert _said(pipeline, ct) == _said(pipeline, ct)
    assert (ct.values == before).all()
    assert list(tmp_path.iterdir()) == []


def _said(pipeline: Pipeline, ct: Volume) -> object:
    """Findings, with masks as bytes, or the refusal."""
    try:
        found = pipeline.run(Study("1.2", (ct,)), {}, None)
    except InputError as error:
        return error.code, error.facts
    return [each.values.tobytes() if isinstance(each, Mask) else each for each in found]
