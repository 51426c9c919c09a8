"""Jobs that come after others: entered with them, held by the ledger, told how they ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.orthanc_plugins.test_router import CT, FakeQueue, Rig

STORED = {"results": [{"sop": "1", "series": "gone"}]}
PANEL = """version = 1
[[rule]]
name = "fusion"
pipeline = "fusion"
queue = "cpu"
after = ["expert-a", "expert-b"]
{how}
when = {{ Modality = ["CT", "MR"], InstanceCount = {{ min = 8 }} }}
select = {{ per = "study", prefer = [{{ fact = "InstanceCount", order = "most" }}] }}

[[rule]]
name = "expert-a"
pipeline = "calcium"
queue = "cpu"
when = {{ Modality = "CT" }}

[[rule]]
name = "expert-b"
pipeline = "calcium"
queue = "cpu"
when = {{ Modality = "MR" }}
"""


class DeferringQueue(FakeQueue):
    """As the router sees Redis, which holds jobs back."""

    def __init__(self) -> None:
        super().__init__()
        self.after: dict[str, list[str]] = {}

    def enqueue_after(self, message: dict[str, Any], jobs: list[str]) -> None:
        self._ask()
        if message["id"] not in self.jobs:
            # RQ asks for their state: it has to know them.
            assert set(jobs) <= self.jobs.keys()
            self.jobs[message["id"]] = "deferred"
            self.after[message["id"]] = jobs
            self.messages.append(message)


class PanelRig(Rig):
    """Two experts on series of their own, and what joins them."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str = "") -> None:
        super().__init__(tmp_path, monkeypatch)
        self.queue = self.deferring = DeferringQueue()
        rules = tmp_path / "routing.toml"
        rules.write_text(PANEL.format(how=how), "utf-8")
        self.settings["routing_file"] = str(rules)
        self.settings["pipelines"] = {"calcium": "1.0.0", "fusion": "1.0.0"}
        self.restart()

    def study(self) -> None:
        self.orthanc.receive("st", "ct", 20, **CT)
        self.orthanc.receive("st", "mr", 30, **{**CT, "Modality": "MR"})
        self.settle()

    def job(self, rule: str) -> dict[str, Any]:
        """The newest of a rule, with its series."""
        found = [j for s in self.orthanc.series for j in self.jobs(s) if j["rule"] == rule]
        standing = [j for j in found if j["state"] != "superseded"]
        return (standing or found)[0]

    def end(self, rule: str, state: str, **more: Any) -> None:
        job = self.job(rule)
        assert self.router.report(job["series"], job["job"], "running", {}) == "running"
        assert self.router.report(job["series"], job["job"], state, more) == state

    def begin_fusion(self) -> str:
        job = self.job("fusion")
        return str(self.router.report(job["series"], job["job"], "running", {}))

    def told(self) -> list[tuple[str, str, str]]:
        return [(one["rule"], one["state"], one["code"]) for one in self.job("fusion")["after"]]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PanelRig]:
    yield PanelRig(tmp_path, monkeypatch)


def test_a_join_is_entered_with_its_experts_and_queued_behind_them(rig: PanelRig) -> None:
    rig.study()
    experts = [rig.job("expert-a")["job"], rig.job("expert-b")["job"]]
    fusion = rig.job("fusion")
    assert [m["rule"] for m in rig.queue.messages] == ["expert-a", "expert-b", "fusion"]
    assert rig.queue.messages[-1]["after"] == experts
    assert rig.deferring.after[fusion["job"]] == experts
    assert (fusion["series"], fusion["state"], fusion["stage"]) == ("mr", "waiting", "after")
    assert rig.router.study_view("st")["state"] == "queued"


def test_the_ledger_lets_no_join_begin_before_the_last_expert_has_ended(rig: PanelRig) -> None:
    rig.study()
    assert rig.begin_fusion() == "waiting"
    rig.end("expert-a", "done", **STORED)
    assert rig.begin_fusion() == "waiting"
    assert rig.told() == [("expert-a", "done", ""), ("expert-b", "queued", "")]
    rig.end("expert-b", "done", **STORED)
    assert rig.begin_fusion() == "running"


def test_the_record_of_a_join_says_how_each_expert_ended(rig: PanelRig) -> None:
    rig.study()
    rig.end("expert-a", "refused", code="contrast")
    rig.end("expert-b", "failed", code="out_of_memory")
    assert rig.begin_fusion() == "running"
    rig.end("fusion", "done", **STORED)
    assert rig.told() == [
        ("expert-a", "refused", "contrast"),
        ("expert-b", "failed", "out_of_memory"),
    ]
    shown = rig.router.jobs_view("done", 10)[0]
    assert [one["state"] for one in shown["after"]] == ["refused", "failed"]
    assert shown["began"] <= shown["updated"]


def test_a_rule_that_took_no_series_is_told_as_absent(rig: PanelRig) -> None:
    rig.orthanc.receive("st", "ct", 20, **CT)
    rig.settle()
    assert rig.told() == [("expert-a", "queued", ""), ("expert-b", "absent", "")]
    rig.end("expert-a", "done", **STORED)
    assert rig.begin_fusion() == "running"
    assert rig.told() == [("expert-a", "done", ""), ("expert-b", "absent", "")]


def test_a_join_whose_experts_took_nothing_is_not_entered(rig: PanelRig) -> None:
    text = Path(rig.settings["routing_file"]).read_text()
    changed = text.replace('when = { Modality = "CT" }', 'when = { Modality = "US" }')
    changed = changed.replace('when = { Modality = "MR" }', 'when = { Modality = "US" }')
    Path(rig.settings["routing_file"]).write_text(changed)
    rig.restart()
    rig.study()
    assert rig.queue.messages == []
    view = rig.router.series_view("ct")
    assert (view["state"], view["code"]) == ("done", "not_selected")
    assert view["why"][0]["why"] == (
        "no rule that it comes after took a series: expert-a, expert-b"
    )


def test_the_wish_to_refuse_is_kept_with_the_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = PanelRig(tmp_path, monkeypatch, 'after_failed = "refuse"')
    rig.study()
    assert rig.job("fusion")["refuse_after_failed"]


def test_while_redis_is_away_all_wait_and_are_queued_in_their_order(rig: PanelRig) -> None:
    rig.queue.down = True
    rig.study()
    assert {rig.job(rule)["state"] for rule in ("expert-a", "expert-b", "fusion")} == {"waiting"}
    rig.queue.down = False
    rig.turn()
    assert [m["rule"] for m in rig.queue.messages] == ["expert-a", "expert-b", "fusion"]
    assert rig.job("fusion")["stage"] == "after"


def test_a_flushed_queue_is_filled_with_all_of_them_in_their_order(rig: PanelRig) -> None:
    rig.study()
    rig.end("expert-a", "done", **STORED)
    rig.queue.jobs.clear()
    rig.queue.messages.clear()
    assert rig.router.reconcile() == 2
    rig.turn()
    assert [m["rule"] for m in rig.queue.messages] == ["expert-b", "fusion"]
    assert rig.deferring.after[rig.job("fusion")["job"]] == [rig.job("expert-b")["job"]]


def test_a_held_join_is_not_taken_for_lost_however_long_its_experts_run(rig: PanelRig) -> None:
    rig.study()
    for _ in range(5):
        assert rig.router.reconcile() == 0
        rig.clock.now_s += 600.0
    assert rig.queue.jobs[rig.job("fusion")["job"]] == "deferred"


def test_a_join_that_the_queue_holds_back_without_reason_is_queued_anew(rig: PanelRig) -> None:
    rig.study()
    rig.end("expert-a", "done", **STORED)
    rig.end("expert-b", "done", **STORED)
    assert rig.router.reconcile() == 0
    rig.clock.now_s += 16.0
    assert rig.router.reconcile() == 1
    rig.turn()
    assert rig.queue.jobs[rig.job("fusion")["job"]] == "queued"
    assert rig.job("fusion")["state"] == "queued"


def test_an_expert_that_is_queued_anew_takes_its_join_along(rig: PanelRig) -> None:
    rig.study()
    # RQ keeps with a job who waits for it, and forgets both together.
    rig.queue.jobs.pop(rig.job("expert-a")["job"])
    forgotten: list[str] = []
    forget = rig.queue.forget
    rig.queue.forget = lambda job: (forgotten.append(job), forget(job))[1]  # type: ignore[method-assign]
    assert rig.router.reconcile() == 1
    assert forgotten == [rig.job("expert-a")["job"], rig.job("fusion")["job"]]
    rig.turn()
    assert rig.queue.jobs[rig.job("fusion")["job"]] == "deferred"


def test_a_late_slice_for_an_expert_makes_expert_and_join_anew(rig: PanelRig) -> None:
    rig.study()
    old = rig.job("fusion")["job"]
    other = rig.job("expert-b")["job"]
    rig.orthanc.receive("st", "ct", 1)
    rig.settle()
    fusion = rig.job("fusion")
    assert fusion["job"] != old
    assert rig.job("expert-b")["job"] == other
    assert [m["after"] for m in rig.queue.messages if m["id"] == fusion["job"]] == [
        [rig.job("expert-a")["job"], other]
    ]
    superseded = [one for one in rig.jobs("mr") if one["job"] == old]
    assert [(one["state"], one["superseded_by"]) for one in superseded] == [
        ("superseded", fusion["job"])
    ]


def test_an_expert_run_again_runs_its_join_again_and_supersedes_it(rig: PanelRig) -> None:
    rig.study()
    for rule in ("expert-a", "expert-b", "fusion"):
        rig.end(rule, "done", **STORED)
    before = rig.job("fusion")["job"]
    again = rig.router.run_again("ct", "expert-a")
    rig.turn()
    fusion = rig.job("fusion")
    assert rig.job("expert-a")["job"] == again
    assert fusion["job"] != before
    assert (fusion["supersedes"], fusion["state"]) == (before, "waiting")
    assert rig.told()[0][1] == "queued"
    rig.settle()
    assert rig.job("fusion")["job"] == fusion["job"]


def test_a_join_run_again_leaves_its_experts_alone(rig: PanelRig) -> None:
    rig.study()
    for rule in ("expert-a", "expert-b", "fusion"):
        rig.end(rule, "done", **STORED)
    experts = [rig.job("expert-a")["job"], rig.job("expert-b")["job"]]
    again = rig.router.run_again("mr", "fusion")
    rig.turn()
    assert [rig.job("expert-a")["job"], rig.job("expert-b")["job"]] == experts
    assert (rig.job("fusion")["job"], rig.job("fusion")["run"]) == (again, 1)
    assert rig.queue.messages[-1]["after"] == experts
    assert rig.queue.jobs[again] == "queued"


def test_a_join_waits_while_its_expert_lost_an_image_and_is_decided_on_anew(rig: PanelRig) -> None:
    rig.study()
    rig.end("expert-b", "done", **STORED)
    rig.orthanc.RestApiDelete("/instances/ct-7")
    expert = rig.job("expert-a")
    rig.router.report("ct", expert["job"], "superseded", {"code": "incomplete"})
    assert rig.begin_fusion() == "waiting"
    rig.turn(2.1)
    assert rig.job("expert-a")["job"] != expert["job"]
    assert rig.told()[0][1] == "queued"


def test_an_expert_whose_series_was_deleted_holds_nothing_back(rig: PanelRig) -> None:
    rig.study()
    rig.end("expert-b", "done", **STORED)
    del rig.orthanc.series["ct"], rig.orthanc.metadata["ct"]
    assert rig.begin_fusion() == "running"
    assert [state for _, state, _ in rig.told()] == ["gone", "done"]


def test_a_restart_in_the_middle_forgets_nothing(rig: PanelRig) -> None:
    rig.study()
    rig.end("expert-a", "refused", code="contrast")
    rig.restart()
    rig.router.recall()
    rig.settle()
    assert len(rig.queue.messages) == 3
    assert rig.begin_fusion() == "waiting"
    rig.end("expert-b", "done", **STORED)
    assert rig.begin_fusion() == "running"
    assert rig.told() == [("expert-a", "refused", "contrast"), ("expert-b", "done", "")]


def test_the_message_has_the_fields_that_the_node_reads(rig: PanelRig) -> None:
    wire = json.loads((Path(__file__).parents[2] / "wire" / "job.json").read_text())
    rig.study()
    for message in rig.queue.messages:
        assert message.keys() == wire.keys()
        assert message["version"] == wire["version"]


def test_jobs_that_were_entered_before_an_update_go_on(rig: PanelRig) -> None:
    rig.study()
    record = json.loads(rig.orthanc.metadata["ct"]["radloop"])
    for job in record["jobs"].values():
        del job["others"], job["after"], job["refuse_after_failed"]
    del record["part_of"]
    rig.orthanc.metadata["ct"]["radloop"] = json.dumps(record)
    expert = rig.job("expert-a")["job"]
    rig.restart()
    rig.router.recall()
    rig.queue.jobs.clear()
    assert rig.router.reconcile() == 3
    rig.turn()
    assert rig.job("expert-a")["job"] == expert
    rig.orthanc.receive("st", "ct", 1)
    rig.settle()
    assert rig.job("expert-a")["job"] != expert
