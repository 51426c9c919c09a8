"""The table of the gateway: every route stands in it, and a path means one thing or nothing."""

from __future__ import annotations

import re
import time
from typing import get_args

import pytest
from fastapi.routing import iter_route_contexts

from dicom_services.access.roles import ALLOWED
from dicom_services.api.app import build_api
from dicom_services.api.rules import RULES, Scope, match, room_of
from tests.gateway import STUDY, context_in, sessions_of

UID = "1.2.840.1"


def example(pattern: str) -> str:
    """A path that a route's pattern means."""
    names = {
        "frames": "1,2",
        "job": "a" * 40,
        "name": "login",
        "rest": "a/b",
        "path": "a/b",
    }
    return re.sub(r"\{([a-z_]+)(?::[a-z]+)?\}", lambda one: names.get(one[1], UID), pattern)


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    """Method and path of every route, in the description of the API or not."""
    context = context_in(tmp_path_factory.mktemp("gateway") / "data")
    api = build_api(context, sessions_of(context))
    return {
        (method, str(route.path))
        for route in iter_route_contexts(api.routes)
        for method in route.methods or {"GET"}
        if method != "HEAD"
    }


def test_every_route_of_the_application_stands_in_the_table(operations):
    assert len(operations) >= 7
    assert not [one for one in operations if match(one[0], example(one[1])).rule is None]


def test_every_operation_of_the_table_below_api_is_there(operations):
    def unnamed(pattern: str) -> str:
        return re.sub(r"\{[^}]*\}", "{}", pattern)

    known = {(method, unnamed(path)) for method, path in operations}
    wanted = {
        (rule.method, unnamed(rule.pattern)) for rule in RULES if rule.pattern.startswith("/api/")
    }
    assert wanted == known


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.method} {rule.pattern}")
def test_each_rule_is_found_by_its_own_path(rule):
    found = match(rule.method, example(rule.pattern))
    assert found.rule == rule
    assert found.study == (UID if "{study}" in rule.pattern else "")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.method} {rule.pattern}")
def test_each_rule_is_one_that_the_guard_can_apply(rule):
    assert rule.action in ALLOWED
    assert rule.scope in get_args(Scope)
    assert (rule.scope == "study") == ("{study}" in rule.pattern) or rule.body == "upload"
    # What shows or changes anything of a patient leaves an entry.
    concerns = rule.action in ("view", "report", "correct", "rerun", "store")
    assert bool(rule.audit) or not concerns
    assert not (rule.writes and rule.scope == "page")


@pytest.mark.parametrize(
    "path",
    [
        *(f"/api/studies/{STUDY}/results/..", f"/api/studies/{STUDY}/../x/results"),
        *("/api/studies//results", "/api/studies/%31/results", "/api/studies/1.2.3\n/results"),
        *(
            f"/api/studies/{'1' * 65}/results",
            "/api/studies/.1/results",
            "/api/studies/1\u0661/results",
        ),
        f"/api/studies/{STUDY}/results/{'A' * 40}/report.pdf",
        *(
            "/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/0x1",
            "/API/health",
            "/api/health ",
        ),
        *(
            "/dicom-web/studies/1.2/series/1.3/instances/1.4/bulk/../../x",
            "\\api\\health",
            "api/health",
        ),
    ],
)
def test_path_that_could_mean_two_things_has_no_rule(path):
    found = match("GET", path)
    assert found.rule is None or found.rule.scope == "page"
    if room_of(path):
        assert not found.methods


def test_study_is_the_first_uid_of_a_path():
    found = match("GET", "/dicom-web/studies/1.2/series/3.4/instances/5.6/frames/1,2,3")
    assert found.study == "1.2"
    assert match("GET", "/dicom-web/studies/1.2/").study == "1.2"


@pytest.mark.parametrize("start", ["/api/", "/dicom-web/studies/", "/"])
@pytest.mark.parametrize("text", ["a", "1.", "1,", "/a", "{", "%"])
def test_long_paths_cost_no_time(start, text):
    begun = time.perf_counter()
    for end in ("", "\x00", "/"):
        match("GET", start + text * 30_000 + end)
    assert time.perf_counter() - begun < 1.0
