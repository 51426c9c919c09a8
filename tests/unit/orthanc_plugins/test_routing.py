"""Rules as data: what is ruled out, what is chosen, and why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugins.routing import RuleError, decide, is_result, read_rules

SHIPPED = Path(__file__).resolve().parents[3] / "config" / "routing.toml"


def ct(**changes: Any) -> dict[str, Any]:
    facts = {
        "Modality": "CT",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PatientName": "DOE^JANE",
        "PatientID": "4711",
        "BodyPartExamined": "CHEST",
        "SliceThickness": "3.0",
        "ConvolutionKernel": "B35f",
        "InstanceCount": 50,
    }
    return {**facts, **changes}


def rules_of(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "routing.toml"
    path.write_text("version = 1\n" + text, "utf-8")
    return read_rules(path)


def chosen(**changes: Any) -> tuple[str, ...]:
    return decide(read_rules(SHIPPED), {"s": ct(**changes)})["s"].chosen


def test_a_native_chest_ct_goes_to_calcium() -> None:
    assert chosen() == ("calcium",)


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"Modality": "MR"},
        {"InstanceCount": 3},
        {"BodyPartExamined": "HEAD"},
        {"SliceThickness": "8"},
        {"NumberOfFrames": "120"},
    ],
)
def test_a_series_that_fails_one_clause_is_not_chosen(changes: dict[str, Any]) -> None:
    assert chosen(**changes) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientName": "PHANTOM^CATPHAN"},
        {"PatientName": "Daily Phantom"},
        {"PatientName": "QA^CT1"},
        {"PatientID": "QA_0815"},
        {"StudyDescription": "Daily QC water"},
        {"QualityControlImage": "YES"},
    ],
)
def test_quality_assurance_is_ruled_out_before_any_rule(changes: dict[str, Any]) -> None:
    decision = decide(read_rules(SHIPPED), {"s": ct(**changes)})["s"]
    assert decision.excluded_by
    assert decision.chosen == ()


def test_a_patient_whose_name_only_resembles_a_phantom_is_kept() -> None:
    assert chosen(PatientName="QADIR^AMNA") == ("calcium",)


@pytest.mark.parametrize("modality", ["SEG", "SR", "KO", "PR", "RTSTRUCT"])
def test_results_never_trigger_a_rule(tmp_path: Path, modality: str) -> None:
    rules = rules_of(
        tmp_path,
        '[[rule]]\nname = "all"\npipeline = "p"\nqueue = "cpu"\nwhen = { Modality = "*" }\n',
    )
    facts = ct(Modality=modality)
    assert is_result(facts)
    assert decide(rules, {"s": facts})["s"].excluded_by == "result"


def test_a_parametric_map_is_a_result_though_its_modality_is_an_image_modality() -> None:
    assert is_result(ct(Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.30"))


def test_of_a_study_the_native_soft_three_millimetre_series_is_taken() -> None:
    study = {
        "contrast": ct(ContrastBolusAgent="IOMERON"),
        "sharp": ct(ConvolutionKernel="B70f"),
        "thin": ct(SliceThickness="1.0", InstanceCount=150),
        "right": ct(),
    }
    decisions = decide(read_rules(SHIPPED), study)
    assert [s for s, d in decisions.items() if d.chosen] == ["right"]
    assert "ContrastBolusAgent" in decisions["contrast"].verdicts[0].why
    assert "ConvolutionKernel" in decisions["sharp"].verdicts[0].why
    assert "SliceThickness nearest to 3" in decisions["thin"].verdicts[0].why


def test_the_choice_does_not_depend_on_the_order_of_arrival() -> None:
    one = decide(read_rules(SHIPPED), {"a": ct(), "b": ct()})
    two = decide(read_rules(SHIPPED), {"b": ct(), "a": ct()})
    assert {s: d.chosen for s, d in one.items()} == {s: d.chosen for s, d in two.items()}


def test_each_clause_says_whether_it_held() -> None:
    verdict = decide(read_rules(SHIPPED), {"s": ct(InstanceCount=3)})["s"].verdicts[0]
    assert dict(verdict.clauses)["InstanceCount >= 8"] is False
    assert dict(verdict.clauses)["Modality is 'CT'"] is True
    assert verdict.why == "not so: InstanceCount >= 8"


def test_a_number_that_is_absent_fails_unless_the_rule_says_otherwise(tmp_path: Path) -> None:
    text = (
        '[[rule]]\nname = "r"\npipeline = "p"\nqueue = "cpu"\nwhen = {{ KVP = {{ min = 1{} }} }}\n'
    )
    strict = rules_of(tmp_path, text.format(""))
    lenient = rules_of(tmp_path, text.format(", absent = true"))
    assert decide(strict, {"s": ct()})["s"].chosen == ()
    assert decide(lenient, {"s": ct()})["s"].chosen == ("r",)
    assert decide(strict, {"s": ct(KVP="no number")})["s"].chosen == ()


@pytest.mark.parametrize(
    "text",
    [
        "surprise = 1",
        '[[rule]]\nname = "a"\npipeline = "p"\nqueue = "q"\n',
        '[[rule]]\nname = "a"\npipeline = "p"\nqueue = "q"\nwhen = { X = 3 }\n',
        '[[rule]]\nname = "a"\npipeline = "p"\nqueue = "q"\nwhen = { X = { like = "a" } }\n',
        '[[rule]]\nname = "a"\npipeline = "p"\nqueue = "q"\nwhen = { X = { min = "a" } }\n',
        '[[rule]]\nname = "a"\npipeline = "p"\nwhen = { X = "a" }\n',
        '[[rule]]\nname = "a b!"\npipeline = "p"\nqueue = "q"\nwhen = { X = "a" }\n',
        '[[rule]]\nname = "a"\npipeline = "p"\nqueue = "q"\nwhen = { X = "a" }\neval = "1"\n',
        '[[rule]]\nname = "a"\npipeline = "p"\nqueue = "q"\nwhen = { X = "a" }\n'
        'select = { per = "day" }\n',
        '[[exclude]]\nname = "a"\nwhen = { X = ["a", 3] }\n',
    ],
)
def test_a_wrong_rule_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RuleError):
        rules_of(tmp_path, text)


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    rule = '[[rule]]\nname = "a"\npipeline = "p"\nqueue = "q"\nwhen = { X = "a" }\n'
    with pytest.raises(RuleError):
        rules_of(tmp_path, rule + rule)


def test_the_dry_run_answers_without_repeating_any_fact() -> None:
    request = {"series": [{"id": "1", "study": "x", "facts": ct(PatientName="ZZTOP^PLANTED")}]}
    answer = subprocess.run(
        [sys.executable, "-m", "orthanc_plugins.routing", "explain", "--rules", str(SHIPPED)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert json.loads(answer.stdout)["series"][0]["chosen"] == ["calcium"]
    assert "PLANTED" not in answer.stdout + answer.stderr
