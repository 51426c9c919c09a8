"""The record of a series: what may follow what, and what a person sees."""

from __future__ import annotations

from typing import Any

from orthanc_plugins import ledger

ID = {
    "rule": "calcium",
    "pipeline": "calcium",
    "settings": {"a": 1},
    "versions": ["0.1", "1.0"],
    "series": "s",
    "instances": "d",
    "run": 0,
}


def record_with(*states: str) -> ledger.Record:
    record = ledger.new_record("study", "digest", 3)
    for at, state in enumerate(states):
        record["jobs"][f"{at}"] = {
            "rule": "calcium",
            "state": state,
            "code": "",
            "current": True,
            "created": f"{at:03d}",
            "updated": f"{at:03d}",
            "results": [{"sop": "1"}] if state in ("done", "refused") else [],
        }
    return record


def test_the_job_id_changes_with_everything_that_may_change_the_result() -> None:
    base = ledger.job_id(**ID)  # type: ignore[arg-type]
    changes: list[dict[str, Any]] = [
        {"rule": "x"},
        {"pipeline": "x"},
        {"settings": {"a": 2}},
        {"versions": ["0.1", "1.1"]},
        {"instances": "e"},
        {"run": 1},
    ]
    ids = {ledger.job_id(**{**ID, **change}) for change in changes}
    assert len(ids | {base}) == len(changes) + 1
    assert base == ledger.job_id(**ID)  # type: ignore[arg-type]


def test_the_digest_of_instances_does_not_depend_on_their_order() -> None:
    assert ledger.instances_digest(["b", "a"]) == ledger.instances_digest(["a", "b"])


def test_a_final_state_stays() -> None:
    assert ledger.may_follow("running", "done")
    assert ledger.may_follow("queued", "failed")
    assert not ledger.may_follow("done", "running")
    assert not ledger.may_follow("superseded", "done")
    assert not ledger.may_follow("running", "nonsense")


def test_a_record_survives_its_round_trip_and_foreign_text_is_none() -> None:
    record = record_with("done")
    assert ledger.read_record(ledger.write_record(record)) == record
    assert ledger.read_record("not json") is None
    assert ledger.read_record('{"v": 99}') is None
    assert ledger.read_record(None) is None


def test_only_the_newest_jobs_are_kept() -> None:
    record = record_with(*["superseded"] * 25)
    ledger.write_record(record)
    assert len(record["jobs"]) == ledger.MAX_JOBS
    assert "24" in record["jobs"]
    assert "0" not in record["jobs"]


def test_a_series_shows_its_unfinished_job_first() -> None:
    assert ledger.series_state(record_with("done", "running")) == ("running", "")
    assert ledger.series_state(record_with("superseded", "refused")) == ("refused", "")
    assert ledger.series_state(None) == ("received", "")


def test_a_series_without_a_job_says_why() -> None:
    record = ledger.new_record("study", "digest", 3)
    assert ledger.series_state(record) == ("done", "no_rule")
    record["why"] = [{"rule": "calcium", "matched": True, "selected": False, "why": ""}]
    assert ledger.series_state(record) == ("done", "not_selected")
    record["excluded_by"] = "phantom-by-name"
    assert ledger.series_state(record) == ("done", "phantom-by-name")


def test_a_study_shows_what_is_left_to_do_and_no_idle_series() -> None:
    idle = ("done", "no_rule")
    assert ledger.study_state([idle, ("refused", "contrast")]) == ("refused", "contrast")
    assert ledger.study_state([("done", ""), ("running", "")]) == ("running", "")
    assert ledger.study_state([idle, ("done", "")]) == ("done", "")
    assert ledger.study_state([idle]) == idle
    assert ledger.study_state([]) == ("received", "")


def test_a_new_run_names_the_newest_job_that_left_results() -> None:
    assert ledger.job_with_results(record_with("done", "superseded"), "calcium") == "0"
    assert ledger.job_with_results(record_with("failed"), "calcium") == ""
    latest = ledger.latest_job(record_with("done", "superseded"), "calcium")
    assert latest is not None
    assert latest[0] == "0"
