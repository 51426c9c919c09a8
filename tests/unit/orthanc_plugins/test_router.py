"""From change log to ledger and queue, with an Orthanc in memory and a clock of our own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import fake_orthanc

SHIPPED = Path(__file__).resolve().parents[3] / "config" / "routing.toml"
CT = {
    "Modality": "CT",
    "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
    "PatientName": "DOE^JANE",
    "SliceThickness": "3",
}


class FakeQueue:
    """Redis as the router sees it; `down` makes every call fail."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self.messages: list[dict[str, Any]] = []
        self.down = False
        self.away: set[str] = set()

    def enqueue(self, message: dict[str, Any]) -> None:
        self._ask()
        if message["id"] not in self.jobs:
            self.jobs[message["id"]] = "queued"
            self.messages.append(message)

    def status(self, job: str) -> str:
        self._ask()
        return self.jobs.get(job, "")

    def again(self, job: str) -> bool:
        return job in self.away

    def forget(self, job: str) -> None:
        self._ask()
        self.jobs.pop(job, None)

    def _ask(self) -> None:
        if self.down:
            raise ConnectionError


class Clock:
    """`time.monotonic` of the router."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


class Rig:
    """A router whose threads are turned by hand."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.orthanc = fake_orthanc.install()
        from orthanc_plugins import archive, router

        monkeypatch.setattr(archive, "orthanc", self.orthanc)
        monkeypatch.setattr(router, "orthanc", self.orthanc)
        self.module = importlib.import_module("orthanc_plugins.router")
        self.queue = FakeQueue()
        self.clock = Clock()
        monkeypatch.setattr(router, "JobQueue", lambda _: self.queue)
        monkeypatch.setattr(router.time, "monotonic", self.clock.monotonic)
        self.settings = {
            "routing_file": str(SHIPPED),
            "quiet_s": 2.0,
            "quiet_per_source_s": {},
            "software_version": "1",
            "pipelines": {"calcium": "1.0.0"},
            "reconcile_s": 30,
            "object_scale": 1.0,
            "retry_s": [10, 60, 300],
            "job_timeout_s": 1800,
            "run": str(tmp_path),
            "storage": str(tmp_path / "orthanc"),
            "supervisor_log": str(tmp_path / "supervisord.log"),
            "quarantine": str(tmp_path / "quarantine"),
            "quarantine_bytes": 1_000_000,
            "quarantine_records": 100,
        }
        self.orthanc.storage = tmp_path / "orthanc"
        self.router = self.restart()

    def restart(self) -> Any:
        self.router = self.module.Router(self.settings, self.orthanc.LogWarning, "20260101T000000")
        self.router._arrivals.begin()
        return self.router

    def turn(self, seconds: float = 0.0) -> None:
        """One round of both threads, after `seconds`."""
        self.clock.now_s += seconds
        self.router.follow()
        self.router.decide_due()
        if not self.queue.down:
            self.router.enqueue_pending()

    def settle(self) -> None:
        self.turn()
        self.turn(2.1)

    def jobs(self, series: str) -> list[dict[str, Any]]:
        return list(self.router.series_view(series)["jobs"])


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    yield Rig(tmp_path, monkeypatch)


def test_a_quiet_study_is_decided_on_and_queued_once(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.turn()
    assert rig.router.study_view("st")["state"] == "received"
    rig.turn(1.9)
    assert rig.queue.messages == []
    rig.turn(0.2)
    assert [m["series"] for m in rig.queue.messages] == ["se"]
    assert rig.router.study_view("st")["state"] == "queued"
    rig.settle()
    assert len(rig.queue.messages) == 1


def test_the_message_holds_no_patient(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    assert "DOE" not in str(rig.queue.messages)
    assert "DOE" not in str(rig.orthanc.metadata)


def test_a_late_slice_supersedes_the_unfinished_job(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    rig.orthanc.receive("st", "se", 1)
    rig.settle()
    new, old = rig.jobs("se")
    assert (old["state"], old["code"], old["superseded_by"]) == (
        "superseded",
        "incomplete",
        new["job"],
    )
    assert (new["count"], new["supersedes"]) == (21, "")
    assert rig.router.report("se", old["job"], "running", {}) == "superseded"


def test_a_late_slice_after_the_result_names_the_earlier_job(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    first = rig.jobs("se")[0]["job"]
    rig.router.report(
        "se", first, "done", {"results": [{"sop": "1", "series": "gone"}], "summary": "score 3"}
    )
    rig.orthanc.receive("st", "se", 1)
    rig.settle()
    rig.orthanc.receive("st", "se", 1)
    rig.settle()
    assert [job["supersedes"] for job in rig.jobs("se")] == [first, first, ""]
    assert [job["state"] for job in rig.jobs("se")] == ["queued", "superseded", "superseded"]


def test_states_only_go_forwards(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    job = rig.jobs("se")[0]["job"]
    for state in ("running", "stored", "done"):
        assert rig.router.report("se", job, state, {}) == state
    assert rig.router.report("se", job, "running", {}) == "done"
    assert rig.router.report("se", "0" * 40, "done", {}) == ""


def test_while_the_queue_is_down_jobs_wait_in_the_ledger(rig: Rig) -> None:
    rig.queue.down = True
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    assert rig.jobs("se")[0]["state"] == "waiting"
    rig.queue.down = False
    rig.turn()
    assert rig.jobs("se")[0]["state"] == "queued"


def test_a_flushed_queue_is_filled_again(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    rig.queue.jobs.clear()
    assert rig.router.reconcile() == 1
    rig.turn()
    assert len(rig.queue.messages) == 2
    assert rig.queue.messages[0] == rig.queue.messages[1]


def test_a_job_that_the_queue_gave_up_is_a_dead_letter_with_a_reason(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    job = rig.jobs("se")[0]["job"]
    rig.queue.jobs[job] = "failed"
    rig.router.reconcile()
    assert [(j["job"], j["code"]) for j in rig.router.jobs_view("failed", 10)] == [
        (job, "job_died")
    ]


def test_a_job_that_ended_without_its_report_runs_again(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    rig.queue.jobs[rig.jobs("se")[0]["job"]] = "finished"
    assert rig.router.reconcile() == 1


def test_a_restart_before_the_decision_loses_nothing(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.turn()
    rig.restart()
    rig.settle()
    assert len(rig.queue.messages) == 1


def test_a_restart_after_the_decision_decides_nothing_anew(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    rig.restart()
    rig.router.recall()
    rig.settle()
    assert len(rig.jobs("se")) == 1
    assert rig.router.status_view()["jobs"] == {"queued": 1}


def test_what_was_in_the_archive_before_us_is_left_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.orthanc.receive("old", "so", 20, **CT)
    rig.settings = {**rig.settings}
    rig.orthanc.properties.clear()
    rig.router = rig.module.Router(rig.settings, rig.orthanc.LogWarning, "20270101T000000")
    rig.router._arrivals.begin()
    rig.settle()
    assert rig.queue.messages == []


def test_the_cursor_never_passes_an_undecided_study(rig: Rig) -> None:
    rig.orthanc.receive("a", "sa", 20, **CT)
    rig.turn()
    rig.orthanc.receive("b", "sb", 20, **CT)
    rig.turn(1.0)
    from orthanc_plugins import archive

    assert archive.read_cursor() == 0
    rig.turn(1.2)
    assert archive.read_cursor() == 20
    rig.turn(1.0)
    assert archive.read_cursor() == 40


def test_our_own_results_start_nothing_and_hold_up_nothing(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    rig.router.report(
        "se", rig.jobs("se")[0]["job"], "done", {"results": [{"sop": "1", "series": "gone"}]}
    )
    rig.orthanc.receive("st", "sr", 1, Modality="SR")
    rig.turn()
    view = rig.router.study_view("st")
    assert view["state"] == "done"
    assert not view["arriving"]
    assert rig.router.series_view("sr")["excluded_by"] == "result"
    assert len(rig.queue.messages) == 1


def test_run_again_makes_a_new_run_of_the_same_rule(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    first = rig.jobs("se")[0]["job"]
    rig.router.report("se", first, "done", {"results": [{"sop": "1", "series": "gone"}]})
    second = rig.router.run_again("se", "")
    rig.turn()
    assert rig.jobs("se")[0]["job"] == second
    assert (rig.jobs("se")[0]["run"], rig.jobs("se")[0]["supersedes"]) == (1, first)
    assert rig.router.run_again("unknown", "") == ""


def test_run_again_on_a_series_no_rule_wants_needs_the_rule_by_name(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 3, **CT)
    rig.settle()
    assert rig.router.study_view("st")["code"] == "no_rule"
    assert rig.router.run_again("se", "") == ""
    assert rig.router.run_again("se", "calcium")
    rig.turn()
    assert rig.router.study_view("st")["state"] == "queued"
    rig.orthanc.receive("st", "other", 3, **CT)
    rig.settle()
    assert rig.router.series_view("se")["state"] == "queued"


def test_a_better_series_that_comes_later_takes_over(rig: Rig) -> None:
    rig.orthanc.receive("st", "thin", 60, **{**CT, "SliceThickness": "1"})
    rig.settle()
    rig.orthanc.receive("st", "thick", 20, **CT)
    rig.settle()
    assert rig.router.series_view("thin")["code"] == "not_selected"
    assert [m["series"] for m in rig.queue.messages] == ["thin", "thick"]


def test_a_failed_decision_is_taken_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.turn()
    with monkeypatch.context() as broken:
        broken.setattr(rig.router, "_apply", lambda *_: 1 / 0)
        rig.turn(2.1)
        assert rig.queue.messages == []
    rig.turn()
    assert len(rig.queue.messages) == 1


def test_a_study_that_cannot_be_decided_on_fails_and_holds_up_no_other(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = rig.router._decide
    monkeypatch.setattr(
        rig.router, "_decide", lambda study: 1 / 0 if study == "bad" else decide(study)
    )
    rig.orthanc.receive("bad", "sb", 20, **CT)
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    assert [m["series"] for m in rig.queue.messages] == ["se"]
    rig.turn()
    rig.turn()
    view = rig.router.study_view("bad")
    assert (view["state"], view["code"]) == ("failed", "routing_failed")


@pytest.mark.parametrize("count", ["\u00b2\u00b2", "9" * 5000, "-1", "1e9"])
def test_a_count_that_is_no_number_holds_up_nobody(rig: Rig, count: str) -> None:
    rig.orthanc.receive("odd", "so", 20, **CT, ImagesInAcquisition=count)
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    assert {m["series"] for m in rig.queue.messages} == {"so", "se"}


def test_headers_that_cannot_be_read_fail_their_series_only(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orthanc_plugins import archive

    facts = archive.facts

    def deep(instance: str) -> dict[str, Any]:
        if instance.startswith("sb"):
            raise RecursionError
        return facts(instance)

    monkeypatch.setattr(archive, "facts", deep)
    rig.orthanc.receive("bad", "sb", 20, **CT)
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    assert [m["series"] for m in rig.queue.messages] == ["se"]
    assert rig.router.series_view("sb")["code"] == "unreadable_headers"


def test_a_passing_fault_of_orthanc_loses_nothing(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.turn()
    rig.orthanc.broken = True
    with pytest.raises(fake_orthanc.OrthancException):
        rig.turn(2.1)
    rig.orthanc.broken = False
    rig.turn()
    assert len(rig.queue.messages) == 1
    assert len(rig.jobs("se")) == 1


def test_a_job_whose_service_was_away_is_queued_again(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    job = rig.jobs("se")[0]["job"]
    rig.queue.jobs[job] = "failed"
    rig.queue.away.add(job)
    assert rig.router.reconcile() == 1
    rig.turn()
    assert rig.jobs("se")[0]["state"] == "queued"


def test_a_job_that_ended_before_the_reconciler_looked_is_left_alone(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    job = rig.jobs("se")[0]["job"]
    status = rig.queue.status

    def finishes_meanwhile(name: str) -> str:
        rig.router.report("se", job, "done", {"results": []})
        return "finished" if status(name) else ""

    rig.queue.status = finishes_meanwhile  # type: ignore[method-assign]
    assert rig.router.reconcile() == 0
    assert [one["job"] for one in rig.router.jobs_view("done", 10)] == [job]


def test_a_job_that_never_reports_fails_in_the_end(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    job = rig.jobs("se")[0]["job"]
    for _ in range(6):
        rig.queue.jobs[job] = "finished"
        rig.router.reconcile()
        rig.turn()
    assert (rig.jobs("se")[0]["state"], rig.jobs("se")[0]["code"]) == ("failed", "report_lost")


def test_an_unfinished_job_of_a_series_given_up_does_not_store(rig: Rig) -> None:
    rig.orthanc.receive("st", "thin", 60, **{**CT, "SliceThickness": "1"})
    rig.settle()
    job = rig.jobs("thin")[0]["job"]
    assert rig.router.report("thin", job, "running", {}) == "running"
    rig.orthanc.receive("st", "thick", 20, **CT)
    rig.settle()
    assert rig.router.report("thin", job, "running", {}) == "superseded"


def test_results_stored_while_being_superseded_are_named_by_the_next_report(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    first = rig.jobs("se")[0]["job"]
    rig.router.run_again("se", "")
    rig.orthanc.receive("st", "sr", 1, Modality="SR")
    rig.router.report("se", first, "done", {"results": [{"sop": "1", "series": "sr"}]})
    rig.turn()
    message = rig.queue.messages[-1]
    assert (message["supersedes"], message["supersedes_version"]) == (first, "1.0.0")
    second = rig.jobs("se")[0]["job"]
    rig.router.report("se", second, "done", {"results": [{"sop": "2", "series": "gone"}]})
    assert rig.router.series_view("sr")["state"] == "superseded"


def test_results_of_a_job_that_died_while_storing_are_superseded_with_it(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    first = rig.jobs("se")[0]["job"]
    announced = [{"sop": name, "series": name} for name in ("seg", "sr", "never")]
    rig.router.report("se", first, "running", {"stage": "storing", "announced": announced})
    rig.orthanc.receive("st", "seg", 1, Modality="SEG")
    rig.orthanc.receive("st", "se", 1)
    rig.settle()
    second = rig.jobs("se")[0]["job"]
    rig.router.report("se", second, "done", {"results": [{"sop": "2", "series": "new"}]})
    rig.orthanc.receive("st", "sr", 1, Modality="SR")
    rig.turn()
    assert [rig.router.series_view(name)["state"] for name in ("seg", "sr")] == ["superseded"] * 2
    assert [one["sop"] for one in rig.jobs("se")[1]["results"]] == ["seg", "sr"]
    assert rig.router.study_view("st")["state"] == "done"


def test_the_same_instances_after_others_came_and_went_are_analysed_anew(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    rig.orthanc.receive("st", "se", 1)
    rig.settle()
    rig.orthanc.series["se"]["instances"].pop()
    rig.orthanc.receive("st", "other", 3, **CT)
    rig.settle()
    newest = rig.jobs("se")[0]
    assert (newest["count"], newest["run"], newest["state"]) == (20, 1, "queued")


def test_what_was_there_before_us_says_so(rig: Rig) -> None:
    rig.orthanc.receive("old", "so", 20, **CT)
    rig.turn()
    rig.settle()
    rig.orthanc.metadata["so"].pop("radloop")
    assert rig.router.series_view("so")["code"] == "before_radloop"


def test_a_quiet_time_set_later_counts(rig: Rig, tmp_path: Path) -> None:
    import json

    path = tmp_path / "plugin.json"
    path.write_text(json.dumps({"quiet_s": 9.0, "quiet_per_source_s": {"CT1": 5.0}}))
    rig.settings = {**rig.settings, "settings_file": str(path)}
    rig.restart()
    rig.router.reload_quiet()
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.turn()
    rig.turn(4.9)
    assert rig.queue.messages == []
    rig.turn(0.2)
    assert len(rig.queue.messages) == 1


def test_a_series_that_was_deleted_is_forgotten(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    rig.orthanc.series.clear()
    rig.orthanc.metadata.clear()
    assert rig.router.series_view("se") is None
    rig.queue.jobs = dict.fromkeys(rig.queue.jobs, "finished")
    assert rig.router.reconcile() == 0
    assert rig.router.status_view()["jobs"] == {}


def test_instance_in_quarantine_is_counted_and_the_rest_of_the_series_goes_on(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.orthanc.receive("st", "se", 1, origin="RestApi", body=b"no DICOM at all")
    rig.settle()
    view = rig.router.study_view("st")
    assert (view["state"], view["quarantined"]) == ("queued", 1)
    assert (view["series"][0]["quarantined"], view["series"][0]["instances"]) == (1, 20)
    assert [job["quarantined"] for job in rig.router.jobs_view("", 10)] == [1]
    assert rig.queue.messages[0]["count"] == 20
    assert "se-20" not in rig.orthanc.read


def test_study_names_what_was_taken_with_its_whole_series(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.orthanc.receive("st", "gone", 2, origin="Plugins", body=b"no DICOM at all")
    rig.settle()
    view = rig.router.study_view("st")
    assert view["quarantined"] == 2
    assert [one["quarantined"] for one in view["series"]] == [0]


def test_decided_series_that_loses_an_instance_is_decided_on_anew(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    (old,) = rig.jobs("se")
    rig.orthanc.RestApiDelete("/instances/se-7")
    rig.router._removed("st", "se")
    rig.turn(2.1)
    new, superseded = rig.jobs("se")
    assert (superseded["job"], superseded["superseded_by"]) == (old["job"], new["job"])
    assert rig.queue.messages[-1]["count"] == 19


def test_job_that_found_its_series_changed_by_a_deletion_gets_a_successor(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    (old,) = rig.jobs("se")
    # By a person: nothing in the change log speaks of the series.
    rig.orthanc.RestApiDelete("/instances/se-7")
    assert rig.router.report("se", old["job"], "superseded", {"code": "incomplete"}) == "superseded"
    assert rig.router.study_view("st")["arriving"]
    rig.turn(2.1)
    assert rig.queue.messages[-1]["count"] == 19
    assert rig.router.study_view("st")["state"] == "queued"


def in_a_list(rig: Rig, study: str) -> tuple[str, str]:
    told = rig.router.states_view([study])[study]
    return told["state"], told["code"]


def on_its_page(rig: Rig, study: str) -> tuple[str, str]:
    told = rig.router.study_view(study)
    return told["state"], told["code"]


def test_a_list_and_the_studys_own_page_tell_the_same_at_every_step(rig: Rig) -> None:
    rig.orthanc.receive("old", "before", 5, **CT)
    rig.router.follow()
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.orthanc.receive("st", "other", 3, Modality="US")
    for _ in range(3):
        rig.turn(1.1)
        assert in_a_list(rig, "st") == on_its_page(rig, "st")
    job = rig.jobs("se")[0]["job"]
    for state, more in (
        ("running", {"stage": "analysing"}),
        ("refused", {"code": "contrast"}),
    ):
        rig.router.report("se", job, state, more)
        assert in_a_list(rig, "st") == on_its_page(rig, "st")
    assert in_a_list(rig, "st") == ("refused", "contrast")


def test_a_list_shows_what_the_standing_job_found(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 20, **CT)
    rig.settle()
    rig.router.report("se", rig.jobs("se")[0]["job"], "done", {"summary": "Agatston 16"})
    assert rig.router.states_view(["st", "absent"]) == {
        "st": {"state": "done", "code": "", "summary": "Agatston 16"}
    }
    rig.router.run_again("se", "")
    assert rig.router.states_view(["st"])["st"]["summary"] == ""
    rig.turn()
    newest = rig.jobs("se")[0]["job"]
    rig.router.report("se", newest, "done", {"summary": "Agatston 17"})
    assert rig.router.states_view(["st"])["st"]["summary"] == "Agatston 17"


def test_a_list_names_what_was_there_before_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    rig.orthanc.series["se"] = {"study": "st", "instances": ["se-0"], "ever": 1, "facts": CT}
    assert in_a_list(rig, "st") == on_its_page(rig, "st") == ("done", "before_radloop")
