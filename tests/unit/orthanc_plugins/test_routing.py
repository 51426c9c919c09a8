"""Rules as data: what is ruled out, what is chosen, and why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugins.routing import decide, is_result, taken_by
from orthanc_plugins.rule_file import read_rules
from orthanc_plugins.rules import RuleError

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


def rule(name: str, more: str = "", modality: str = "CT") -> str:
    return (
        f'[[rule]]\nname = "{name}"\npipeline = "p"\nqueue = "q"\n{more}\n'
        f'when = {{ Modality = "{modality}" }}\n'
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (rule("a", 'after = ["b"]'), "a: after names b, which is no rule"),
        (rule("a", 'after = ["a"]'), "rules wait for each other: a"),
        (
            rule("a", 'after = ["b"]') + rule("b", 'after = ["c"]') + rule("c", 'after = ["a"]'),
            "rules wait for each other: a, b, c",
        ),
        (rule("a") + rule("b", 'after = ["a", "a"]'), "b: after names at most 32 rules, each once"),
        (rule("a") + rule("b", "after = 3"), "b: after: patterns are strings"),
        (
            rule("a") + rule("b", 'after = ["a"]\nafter_failed = "ignore"'),
            "b: after_failed is 'run' or 'refuse'",
        ),
        (rule("a", 'after_failed = "refuse"'), "a: after_failed needs after"),
        (rule("a", 'select = { per = "study", take = "some" }'), "a: select.take is"),
        (rule("a", 'select = { per = "series", take = "all" }'), "a: select.take needs"),
    ],
)
def test_a_rule_that_could_never_run_is_refused_by_name(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(RuleError, match="^" + re.escape(told)):
        rules_of(tmp_path, text)


def test_rules_may_stand_in_any_order_in_the_file(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, rule("c", 'after = ["b"]') + rule("b", 'after = ["a"]') + rule("a"))
    assert [one.name for one in rules.in_order()] == ["a", "b", "c"]
    decision = decide(rules, {"s": ct()})["s"]
    assert decision.chosen == ("c", "b", "a")


def test_what_comes_after_a_rule_that_took_nothing_takes_nothing_either(tmp_path: Path) -> None:
    rules = rules_of(
        tmp_path, rule("a", modality="MR") + rule("b", 'after = ["a"]') + rule("c", 'after = ["b"]')
    )
    verdicts = decide(rules, {"s": ct()})["s"].verdicts
    assert [one.selected for one in verdicts] == [False, False, False]
    assert verdicts[1].why == "no rule that it comes after took a series: a"


def test_one_job_may_take_all_series_of_a_study_the_preferred_first(tmp_path: Path) -> None:
    rules = rules_of(
        tmp_path,
        rule(
            "a",
            'select = { per = "study", take = "all", prefer = '
            '[{ fact = "InstanceCount", order = "most" }] }',
        ),
    )
    study = {"x": ct(InstanceCount=10), "y": ct(InstanceCount=30), "z": ct(Modality="MR")}
    decisions = decide(rules, study)
    assert taken_by(rules.rules[0], study, decisions) == ["y", "x"]
    assert decisions["x"].verdicts[0].why == "every clause holds; one job of 2 series"


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


def dsc(**changes: Any) -> dict[str, Any]:
    facts = {
        "Modality": "MR",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "PatientName": "DOE^JANE",
        "SeriesDescription": "ep2d_perf_p2",
        "ScanningSequence": ["GR", "EP"],
        "InstanceCount": 1000,
    }
    return {**facts, **changes}


def test_a_dsc_scan_of_one_series_a_time_goes_to_perfusion_whole() -> None:
    study = {
        str(n): dsc(InstanceCount=20, NumberOfTemporalPositions="60", SeriesDescription="perf")
        for n in range(60)
    }
    study["t1"] = dsc(SeriesDescription="t1_mprage", ScanningSequence="GR", InstanceCount=176)
    decisions = decide(read_rules(SHIPPED), study)
    assert decisions.pop("t1").chosen == ()
    assert {one.chosen for one in decisions.values()} == {("perfusion-dsc-apart",)}


def ctp(**changes: Any) -> dict[str, Any]:
    head = {
        "BodyPartExamined": "HEAD",
        "SeriesDescription": "VPCT 5.0 H20f",
        "InstanceCount": 480,
        "SliceThickness": "5",
    }
    return ct(**{**head, **changes})


def taken(facts: dict[str, Any]) -> tuple[str, ...]:
    return decide(read_rules(SHIPPED), {"s": facts})["s"].chosen


@pytest.mark.parametrize(
    "description", ["ep2d_perf_p2", "DSC perfusion", "Ax PWI", "BOLUS TRACK", "PERFUSION 60 phases"]
)
def test_a_dsc_series_goes_to_perfusion(description: str) -> None:
    assert taken(dsc(SeriesDescription=description)) == ("perfusion-dsc",)


@pytest.mark.parametrize(
    "changes",
    [
        {"SeriesDescription": "ep2d_diff_4scan_trace"},
        {"SeriesDescription": "fMRI BOLD motor"},
        {"SeriesDescription": "pCASL perfusion"},
        {"SeriesDescription": "ep2d_perf_p2 rCBF"},
        {"SeriesDescription": "DCE perf"},
        {"SeriesDescription": "t1_mprage"},
        {"SeriesDescription": "cardiac perfusion"},
        {"ImageType": ["DERIVED", "SECONDARY", "PERFUSION", "TTP"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]},
        {"ScanningSequence": "SE"},
        {"ScanningSequence": ""},
        {"InstanceCount": 20},
        {"NumberOfTemporalPositions": "3"},
    ],
)
def test_neighbours_of_dsc_do_not(changes: dict[str, Any]) -> None:
    assert taken(dsc(**changes)) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"SeriesDescription": "CT Perfusion 5mm", "BodyPartExamined": ""},
        {"SeriesDescription": "Head dynamic 4D", "BodyPartExamined": "BRAIN"},
    ],
)
def test_a_ct_perfusion_goes_to_perfusion_and_not_to_calcium(changes: dict[str, Any]) -> None:
    assert taken(ctp(**changes)) == ("perfusion-ctp",)


@pytest.mark.parametrize(
    "changes",
    [
        {"SeriesDescription": "Head native"},
        {"SeriesDescription": "CTP Tmax"},
        {"SeriesDescription": "CTP TMIP 10mm"},
        {"SeriesDescription": "Heart perfusion"},
        {"SeriesDescription": "Liver perfusion", "BodyPartExamined": "ABDOMEN"},
        {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_PERFUSION"]},
        {"InstanceCount": 40},
    ],
)
def test_plain_heads_and_perfusion_of_others_do_not(changes: dict[str, Any]) -> None:
    assert taken(ctp(**changes)) == ()


@pytest.mark.parametrize(
    ("modality", "sop_class"),
    [("MR", "1.2.840.10008.5.1.4.1.1.4.1"), ("CT", "1.2.840.10008.5.1.4.1.1.2.1")],
)
def test_one_multi_frame_object_goes_to_perfusion_once(modality: str, sop_class: str) -> None:
    facts = dsc(
        Modality=modality,
        SOPClassUID=sop_class,
        NumberOfFrames="480",
        InstanceCount=1,
        ScanningSequence="",
    )
    assert taken(facts) == ("perfusion-enhanced",)
    assert taken({**facts, "NumberOfFrames": "20"}) == ()
