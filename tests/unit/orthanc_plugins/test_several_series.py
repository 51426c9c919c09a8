"""One job of several series: entered once, named by all of them, superseded by any of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugins import ledger
from tests.unit.orthanc_plugins.test_router import CT, Rig, in_a_list, on_its_page

RULES = """version = 1
[[rule]]
name = "times"
pipeline = "perfusion"
queue = "cpu"
when = { Modality = "CT", InstanceCount = { min = 8 } }
select = { per = "study", take = "all", prefer = [{ fact = "InstanceCount", order = "most" }] }
"""


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig(tmp_path, monkeypatch)
    rules = tmp_path / "routing.toml"
    rules.write_text(RULES, "utf-8")
    made.settings["routing_file"] = str(rules)
    made.restart()
    yield made


def receive(rig: Rig, **counts: int) -> None:
    for series, count in counts.items():
        rig.orthanc.receive("st", series, count, **CT)


def digest(rig: Rig, series: str) -> str:
    return ledger.instances_digest(rig.orthanc.series[series]["instances"])


def parts(rig: Rig, series: str) -> list[dict[str, Any]]:
    return list(rig.router.series_view(series)["part_of"])


def test_all_series_that_match_make_one_job_in_the_first_one(rig: Rig) -> None:
    receive(rig, a=20, b=30, c=10, few=3)
    rig.settle()
    (message,) = rig.queue.messages
    assert (message["series"], message["count"]) == ("b", 30)
    assert message["others"] == [
        {"series": "a", "instances": digest(rig, "a"), "count": 20},
        {"series": "c", "instances": digest(rig, "c"), "count": 10},
    ]
    assert [len(rig.jobs(one)) for one in ("a", "b", "c", "few")] == [0, 1, 0, 0]
    assert rig.jobs("b")[0]["others"] == ["a", "c"]
    part = [{"rule": "times", "job": message["id"], "series": "b"}]
    assert (parts(rig, "a"), parts(rig, "c"), parts(rig, "b"), parts(rig, "few")) == (
        part,
        part,
        [],
        [],
    )


def test_every_part_shows_the_state_of_the_job(rig: Rig) -> None:
    receive(rig, a=20, b=30, few=3)
    rig.settle()
    job = rig.jobs("b")[0]["job"]
    assert rig.router.series_view("a")["state"] == "queued"
    rig.router.report("b", job, "refused", {"code": "no_bolus"})
    for series, state in (("a", "refused"), ("b", "refused"), ("few", "done")):
        assert rig.router.series_view(series)["state"] == state
    assert on_its_page(rig, "st") == in_a_list(rig, "st") == ("refused", "no_bolus")


@pytest.mark.parametrize("series", ["a", "b"])
def test_a_late_instance_of_any_series_supersedes_the_job(rig: Rig, series: str) -> None:
    receive(rig, a=20, b=30)
    rig.settle()
    receive(rig, **{series: 1})
    rig.settle()
    new, old = rig.jobs("b")
    assert (old["state"], old["code"], old["superseded_by"]) == (
        "superseded",
        "incomplete",
        new["job"],
    )
    assert parts(rig, "a")[0]["job"] == new["job"]


def test_a_late_series_joins_the_job_where_it_stands_even_if_it_is_preferred(rig: Rig) -> None:
    receive(rig, a=20, b=30)
    rig.settle()
    first = rig.jobs("b")[0]["job"]
    rig.router.report("b", first, "done", {"results": [{"sop": "1", "series": "gone"}]})
    receive(rig, c=40)
    rig.settle()
    (message,) = rig.queue.messages[1:]
    assert (message["series"], message["supersedes"]) == ("b", first)
    assert [one["series"] for one in message["others"]] == ["a", "c"]


def test_a_series_that_is_deleted_leaves_a_job_of_the_rest(rig: Rig) -> None:
    receive(rig, a=20, b=30, c=10)
    rig.settle()
    job = rig.jobs("b")[0]["job"]
    del rig.orthanc.series["a"], rig.orthanc.metadata["a"]
    # What the node says that misses it.
    rig.router.report("b", job, "superseded", {"code": "incomplete"})
    rig.turn(2.1)
    assert [one["series"] for one in rig.queue.messages[-1]["others"]] == ["c"]


def test_a_deleted_first_series_passes_the_job_on(rig: Rig) -> None:
    receive(rig, a=20, b=30, c=10)
    rig.settle()
    del rig.orthanc.series["b"], rig.orthanc.metadata["b"]
    receive(rig, c=1)
    rig.settle()
    assert (rig.queue.messages[-1]["series"], rig.queue.messages[-1]["count"]) == ("a", 20)
    assert parts(rig, "a") == []


@pytest.mark.parametrize("series", ["a", "b"])
def test_run_again_from_any_part_runs_the_one_job(rig: Rig, series: str) -> None:
    receive(rig, a=20, b=30)
    rig.settle()
    first = rig.jobs("b")[0]["job"]
    again = rig.router.run_again(series, "")
    rig.turn()
    new, old = rig.jobs("b")
    assert (new["job"], new["run"], old["job"]) == (again, 1, first)
    assert [one["series"] for one in rig.queue.messages[-1]["others"]] == ["a"]
    assert rig.jobs("a") == []
    assert parts(rig, "a")[0]["job"] == again


def test_an_instance_taken_from_a_part_has_the_study_decided_on_anew(rig: Rig) -> None:
    receive(rig, a=20, b=30)
    rig.settle()
    rig.orthanc.RestApiDelete("/instances/a-7")
    rig.router._removed("st", "a")
    rig.turn(2.1)
    assert rig.queue.messages[-1]["others"][0]["count"] == 19


def test_the_same_study_is_decided_on_once_whatever_else_arrives(rig: Rig) -> None:
    receive(rig, a=20, b=30)
    rig.settle()
    receive(rig, few=3)
    rig.settle()
    assert len(rig.queue.messages) == 1


def test_more_series_than_a_message_may_name_fail_with_a_code(rig: Rig) -> None:
    receive(rig, **{f"s{n:03d}": 8 for n in range(258)})
    rig.settle()
    assert rig.queue.messages == []
    assert rig.router.jobs_view("failed", 5)[0]["code"] == "too_many_series"
    assert on_its_page(rig, "st") == ("failed", "too_many_series")
