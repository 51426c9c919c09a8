"""Every route of the gateway by every role, for an own, a foreign and an absent study.

What is expected stands here a second time, by hand, so that a change of the table shows.
"""

from __future__ import annotations

import re

import pytest

from dicom_services.api.guard import Guard
from dicom_services.api.rules import RULES
from tests.gateway import (
    ORIGIN,
    PASSWORD,
    PATIENT,
    STUDY,
    call,
    context_in,
    cookie_of,
    log_in,
    sessions_of,
)

EVERYBODY = "admin radiologist doctor clinician"
OPEN = "public"
EXPECTED = {
    "GET /api/health": OPEN,
    "POST /api/login": OPEN,
    "POST /api/token": OPEN,
    "GET /login": OPEN,
    "GET /login/{name}.css": OPEN,
    "GET /login/{name}.js": OPEN,
    "POST /api/logout": EVERYBODY,
    "GET /api/session": EVERYBODY,
    "GET /api/session/outbox-key": EVERYBODY,
    "GET /api/openapi.json": EVERYBODY,
    "GET /api/states": EVERYBODY,
    "GET /api/studies/{study}/results": EVERYBODY,
    "GET /api/studies/{study}/events": EVERYBODY,
    "POST /api/studies/{study}/series/{series}/rerun": "radiologist admin",
    "GET /api/studies/{study}/reports/{sop}": EVERYBODY,
    "GET /api/studies/{study}/corrections": EVERYBODY,
    "POST /api/studies/{study}/corrections": "radiologist",
    "GET /api/studies/{study}/results/{job}/report.pdf": EVERYBODY,
    "GET /dicom-web/studies": EVERYBODY,
    "GET /dicom-web/series": EVERYBODY,
    "GET /dicom-web/instances": EVERYBODY,
    "POST /dicom-web/studies": "radiologist admin",
    "POST /dicom-web/studies/{study}": "radiologist admin",
    "GET /explorer": "admin",
    "GET /explorer/{rest}": "admin",
    "POST /explorer/{rest}": "admin",
    "PUT /explorer/{rest}": "admin",
    "DELETE /explorer/{rest}": "admin",
    **{
        f"GET /dicom-web/studies/{{study}}{below}": EVERYBODY
        for below in (
            "",
            "/metadata",
            "/series",
            "/instances",
            *(
                f"/series/{{series}}{deeper}"
                for deeper in (
                    "",
                    "/metadata",
                    "/instances",
                    "/rendered",
                    "/thumbnail",
                    *(
                        f"/instances/{{instance}}{last}"
                        for last in (
                            "",
                            "/metadata",
                            "/rendered",
                            "/thumbnail",
                            "/frames/{frames}",
                            "/frames/{frames}/rendered",
                            "/frames/{frames}/thumbnail",
                            "/bulk/{rest}",
                        )
                    ),
                )
            ),
        )
    },
}
ROLES = EVERYBODY.split()
ABSENT = "1.2.3.4.5"
PLACES = {"frames": "1,2", "job": "a" * 40, "name": "login", "rest": "a/b"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The guard before a room that lets everything happen, and everybody who may come."""
    context = context_in(tmp_path_factory.mktemp("matrix") / "data")

    async def room(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    callers = {"nobody": {"origin": ORIGIN}}
    for role in ROLES:
        callers[f"{role}, theirs"] = cookie_of(log_in(context, f"{role}-own", role, PATIENT))
        callers[f"{role}, not theirs"] = cookie_of(log_in(context, f"{role}-other", role, "PAT-9"))
        context.accounts.add_user(f"{role}-bearer", role, PASSWORD)
        context.accounts.assign(f"{role}-bearer", context.patient_keys.patient(PATIENT))
        token = context.accounts.issue_bearer(f"{role}-bearer", PASSWORD)
        callers[f"{role}, bearer"] = {"authorization": f"Bearer {token}"}
        spoiled = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
        callers[f"{role}, forged bearer"] = {"authorization": f"Bearer {spoiled}"}
        ended = log_in(context, f"{role}-ended", role, PATIENT)
        context.accounts.logout(ended.session)
        callers[f"{role}, logged out"] = cookie_of(ended)
        disabled = log_in(context, f"{role}-disabled", role, PATIENT)
        context.accounts.disable(f"{role}-disabled")
        callers[f"{role}, disabled"] = cookie_of(disabled)
    return Guard(room, context, sessions_of(context)), callers


def test_table_and_expectation_name_the_same_routes():
    assert {f"{rule.method} {rule.pattern}" for rule in RULES} == set(EXPECTED)


@pytest.mark.parametrize("route", EXPECTED)
def test_every_caller_gets_what_their_role_and_patients_allow(world, route):
    guard, callers = world
    method, pattern = route.split(" ")
    allowed = EXPECTED[route]
    # Whether an upload into a study is its reader's is judged where its files are read.
    of_study = "{study}" in pattern and not route.startswith("POST /dicom-web")
    wrong = []
    for who, headers in callers.items():
        role, _, kind = who.partition(", ")
        for study in (STUDY, ABSENT) if "{study}" in pattern else (STUDY,):
            places = {**PLACES, "study": study}
            path = re.sub(r"\{([a-z]+)\}", lambda one: places.get(one[1], "1.2.3"), pattern)  # noqa: B023
            answer = call(guard, method, path, headers)
            if allowed == OPEN:
                expected = 200
            elif kind not in ("theirs", "not theirs", "bearer"):
                expected = 401
            elif role not in allowed.split():
                expected = 403
            elif of_study and (study == ABSENT or (kind == "not theirs" and role != "admin")):
                expected = 404
            else:
                expected = 200
            if answer.status != expected:
                wrong.append((who, study, answer.status, expected))
    assert not wrong
