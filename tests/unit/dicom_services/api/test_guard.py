"""What passes the guard, what it refuses, and in which order it looks."""

from __future__ import annotations

import time

import pytest

from dicom_services.api.guard import Guard
from dicom_services.api.headers import inline_scripts, viewer_policy
from dicom_services.errors import UnavailableError
from tests.gateway import (
    HOST,
    ORIGIN,
    PASSWORD,
    PATIENT,
    STUDY,
    call,
    context_in,
    cookie_of,
    log_in,
    records_again,
    sessions_of,
)

RESULTS = f"/api/studies/{STUDY}/results"
CORRECTIONS = f"/api/studies/{STUDY}/corrections"


class Room:
    """Behind the guard: remembers what reached it, and reads the body."""

    def __init__(self) -> None:
        self.scopes = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def context(tmp_path):
    return context_in(tmp_path / "data")


@pytest.fixture
def room():
    return Room()


@pytest.fixture
def guard(room, context):
    return Guard(room, context, sessions_of(context))


@pytest.fixture
def reader(context):
    return cookie_of(log_in(context, "rita", "radiologist", PATIENT))


# What is plain.


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"],
)
def test_own_names_are_known(guard, host):
    assert call(guard, "GET", "/api/health", {"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "localhost:8000@evil",
        "",
        "127.0.0.2",
        "a b",
        "[::1",
    ],
)
def test_foreign_name_is_refused_before_anything_is_looked_at(guard, room, host):
    answer = call(guard, "GET", "/api/health", {"host": host})
    assert (answer.status, answer.code) == (421, "host_unknown")
    assert not room.scopes


def test_address_the_connection_came_to_and_named_hosts_are_own(room, tmp_path):
    context = context_in(tmp_path / "data", listen="0.0.0.0", names=("pacs.clinic",))
    guard = Guard(room, context, sessions_of(context))
    for host in ("10.1.2.3:8000", "pacs.clinic"):
        asked = call(guard, "GET", "/api/health", {"host": host}, server=("10.1.2.3", 8000))
        assert asked.status == 200
    other = call(guard, "GET", "/api/health", {"host": "10.9.9.9"}, server=("10.1.2.3", 8000))
    assert other.status == 421


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (RESULTS + "?_method=DELETE", {}),
        (RESULTS + "?a=1&_Method=PUT", {}),
        (RESULTS + "?%5Fmethod=DELETE", {}),
        ("/explorer/patients/x?_method=DELETE", {}),
        (RESULTS, {"X-HTTP-Method-Override": "DELETE"}),
        (RESULTS, {"X-Method-Override": "DELETE"}),
        (RESULTS, {"X-HTTP-Method": "DELETE"}),
    ],
)
def test_method_override_is_refused(guard, room, reader, path, headers):
    answer = call(guard, "GET", path, {**reader, **headers})
    assert (answer.status, answer.code) == (400, "method_override")
    assert not room.scopes


@pytest.mark.parametrize(
    "path",
    [
        *("/api", "/api/", "/api/none", "/dicom-web", "/dicom-web/", "/explorer2/../api/states"),
        *(f"/api/studies/{STUDY}", f"/api/studies/{STUDY}/", "/dicom-web/servers", "/login/x.py"),
        *("/api//states", "/api/./states", "/api/../api/states", "/\\evil", "/a\x00b", "/.env"),
        *(
            f"/dicom-web/studies/{STUDY}/delete",
            "/api/studies/1.2;x/results",
            "/a/../../etc/passwd",
        ),
        "/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/1/../2",
    ],
)
def test_unknown_path_is_unknown_to_everybody(guard, room, reader, path):
    for headers in ({}, reader):
        answer = call(guard, "GET", path, headers)
        assert (answer.status, answer.code) == (404, "path_unknown"), path
    assert not room.scopes


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", RESULTS, "GET, HEAD, OPTIONS"),
        ("DELETE", CORRECTIONS, "GET, HEAD, OPTIONS, POST"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("GET", "/api/login", "OPTIONS, POST"),
        ("HEAD", f"/dicom-web/studies/{STUDY}", "GET, OPTIONS"),
        ("DELETE", f"/dicom-web/studies/{STUDY}", "GET, OPTIONS, POST"),
    ],
)
def test_method_that_a_path_does_not_have_is_refused(guard, room, reader, method, path, allow):
    answer = call(guard, method, path, reader)
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    assert not room.scopes


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PATCH", "PROPFIND"])
def test_methods_nobody_has_are_refused(guard, room, method):
    assert call(guard, method, "/api/health").status == 405
    assert not room.scopes


def test_options_says_what_is_allowed_and_gives_no_origin_any_right(guard):
    answer = call(guard, "OPTIONS", RESULTS, {"origin": "https://evil.example"})
    assert (answer.status, answer.body) == (204, b"")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_head_is_a_get_without_a_body(guard, room, reader):
    assert call(guard, "HEAD", RESULTS, reader).status == 200
    assert room.scopes[0]["method"] == "GET"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("cookie", "a" * 40_000)], 431),
        ([(f"x-{number}", "v" * 100) for number in range(400)], 431),
        ([("host", HOST), ("host", "evil.example")], 400),
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], 400),
        ([("content-length", "5"), ("transfer-encoding", "chunked")], 400),
        ([("content-length", "-5")], 400),
        ([("content-encoding", "gzip")], 415),
        ([("content-length", str(10**9))], 413),
    ],
)
def test_headers_that_are_too_many_twice_or_odd_are_refused(guard, room, headers, status):
    assert call(guard, "POST", "/api/login", headers).status == status
    assert not room.scopes


def test_body_longer_than_allowed_ends_whatever_its_header_said(guard):
    answer = call(guard, "POST", "/api/login", pieces=[b"x" * 60_000] * 20)
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


# Other people's pages.


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": f"https://{HOST}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/api/login", CORRECTIONS, "/dicom-web/studies"])
def test_page_of_another_origin_may_change_nothing(guard, room, reader, path, headers):
    sent = {**reader, **headers}
    if "origin" not in headers:
        sent.pop("origin")
    answer = call(guard, "POST", path, sent)
    assert (answer.status, answer.code) == (403, "origin_foreign")
    assert not room.scopes


def test_page_of_another_port_may_not_even_read(guard, reader):
    asked = {**reader, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}
    assert call(guard, "GET", RESULTS, asked).status == 403


def test_link_from_another_site_may_lead_here(guard, room):
    asked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "accept": "text/html"}
    assert call(guard, "GET", "/viewer", asked).status == 303
    assert call(guard, "GET", "/app.js", {**asked, "accept": "*/*"}).status == 200


def test_upload_with_a_cookie_must_say_where_it_comes_from(guard, room, reader):
    sent = {"cookie": reader["cookie"]}
    answer = call(guard, "POST", "/dicom-web/studies", sent)
    assert (answer.status, answer.code) == (403, "csrf")
    for proof in ({"origin": ORIGIN}, {"sec-fetch-site": "same-origin"}):
        assert call(guard, "POST", "/dicom-web/studies", sent | proof).status == 200


@pytest.mark.parametrize("shown", [None, "", "wrong", "0" * 64])
def test_change_needs_what_only_our_page_knows(guard, room, reader, shown):
    sent = {name: value for name, value in reader.items() if name != "x-csrf-token"}
    if shown is not None:
        sent["x-csrf-token"] = shown
    answer = call(guard, "POST", CORRECTIONS, sent)
    assert (answer.status, answer.code) == (403, "csrf")
    assert not room.scopes
    assert call(guard, "POST", CORRECTIONS, reader).status == 200


# Who asks.


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cookie": "radloop=" + "A" * 43},
        {"cookie": "radloop="},
        {"authorization": "Basic cml0YTpydA=="},
        {"authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
        {"authorization": "Bearer"},
    ],
)
def test_nobody_is_told_to_log_in_by_a_problem_never_by_a_page(guard, room, headers):
    for path in (RESULTS, f"/dicom-web/studies/{STUDY}/metadata", "/dicom-web/studies"):
        answer = call(guard, "GET", path, {**headers, "accept": "text/html"})
        assert answer.status == 401
        assert answer.code in ("login_needed", "token_refused")
        assert answer.headers["content-type"] == "application/problem+json"
    assert not room.scopes


def test_cookie_given_twice_is_none(guard, reader):
    twice = {"cookie": f"{reader['cookie']}; {reader['cookie']}"}
    assert call(guard, "GET", RESULTS, twice).status == 401


def test_bearer_needs_no_csrf_token_and_beats_no_cookie(guard, context, reader):
    context.accounts.add_user("rolf", "radiologist", PASSWORD, all_patients=True)
    token = context.accounts.issue_bearer("rolf", PASSWORD)
    asked = {"authorization": f"Bearer {token}"}
    assert call(guard, "POST", CORRECTIONS, asked).status == 200
    spoiled = {"authorization": "Bearer no", "cookie": reader["cookie"]}
    assert call(guard, "GET", RESULTS, spoiled).status == 401


def test_logged_out_session_is_refused_within_a_second(guard, context, reader):
    assert call(guard, "GET", RESULTS, reader).status == 200
    context.accounts.logout(reader["cookie"].partition("=")[2])
    time.sleep(1.05)
    assert call(guard, "GET", RESULTS, reader).status == 401


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ("/", "/login"),
        ("/viewer?StudyInstanceUIDs=1.2", "/login?next=/viewer%3FStudyInstanceUIDs%3D1.2"),
        ("/explorer/app/explorer.html", "/login?next=/explorer/app/explorer.html"),
    ],
)
def test_browser_without_a_session_is_shown_the_login(guard, asked, where):
    answer = call(guard, "GET", asked, {"accept": "text/html,*/*"})
    assert (answer.status, answer.headers["location"]) == (303, where)


def test_files_of_the_viewer_are_nobodys_secret(guard):
    assert call(guard, "GET", "/app.bundle.js", {"accept": "*/*"}).status == 200


# Who may.


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        ("clinician", "GET", RESULTS, 200),
        ("clinician", "POST", CORRECTIONS, 403),
        ("doctor", "POST", f"/api/studies/{STUDY}/series/1.2/rerun", 403),
        ("radiologist", "POST", f"/api/studies/{STUDY}/series/1.2/rerun", 200),
        ("radiologist", "POST", CORRECTIONS, 200),
        ("admin", "POST", CORRECTIONS, 403),
        ("doctor", "POST", "/dicom-web/studies", 403),
        ("radiologist", "GET", "/explorer/app/explorer.html", 403),
        ("admin", "GET", "/explorer/app/explorer.html", 200),
        ("admin", "GET", RESULTS, 200),
    ],
)
def test_role_decides_what_may_be_done(guard, context, role, method, path, status):
    asked = cookie_of(log_in(context, "someone", role, PATIENT))
    assert call(guard, method, path, asked).status == status


def test_foreign_study_and_absent_one_are_the_same(guard, room, context):
    stranger = cookie_of(log_in(context, "carl", "clinician", "PAT-2"))
    answers, seconds = [], []
    for uid in (STUDY, "1.2.3"):
        for below in ("results", "events", "corrections"):
            begun = time.monotonic()
            answers.append(call(guard, "GET", f"/api/studies/{uid}/{below}", stranger))
            seconds.append(time.monotonic() - begun)
    told = [{**one.json(), "correlation": ""} for one in answers]
    assert all(one == told[0] for one in told)
    assert told[0]["status"] == 404
    assert told[0]["code"] == "study_unknown"
    assert not room.scopes
    assert min(seconds) >= 0.05


def test_study_in_the_path_is_handed_on(guard, room, reader, context):
    assert call(guard, "GET", f"/dicom-web/studies/{STUDY}/metadata", reader).status == 200
    state = room.scopes[0]["state"]
    assert state["principal"].name == "rita"
    assert (state["study"].uid, state["study"].patient_key) == (
        STUDY,
        context.patient_keys.patient(PATIENT),
    )


def test_role_is_judged_before_any_study_is_looked_for(guard, context):
    asked = cookie_of(log_in(context, "carl", "clinician"))
    assert call(guard, "POST", "/api/studies/1.2.3/corrections", asked).status == 403
    assert not context.studies.asked


# What is noted.


def rows(context):
    records = records_again(context)
    told = [
        (one.actor, one.action, one.outcome, bool(one.study_key)) for one in records.audit.rows()
    ]
    records.close()
    return told


def test_reads_are_noted_once_a_minute_and_writes_each_time(guard, context, reader):
    for _ in range(3):
        call(guard, "GET", f"/dicom-web/studies/{STUDY}/metadata", reader)
        call(guard, "GET", f"/dicom-web/studies/{STUDY}/series", reader)
        call(guard, "POST", CORRECTIONS, reader)
    noted = rows(context)
    assert noted.count(("rita", "images", "done", True)) in (1, 2)
    assert noted.count(("rita", "correct", "begun", True)) == 3


def test_what_explorer_is_asked_is_noted_with_its_study(guard, context):
    admin = cookie_of(log_in(context, "ada", "admin"))
    study = "-".join(["0" * 8] * 5)
    for method in ("GET", "DELETE"):
        call(guard, method, f"/explorer/studies/{study}", {**admin, "origin": ORIGIN})
    call(guard, "GET", "/explorer/system", admin)
    noted = rows(context)
    assert ("ada", "explorer", "done", True) in noted
    assert ("ada", "explorer-write", "begun", True) in noted
    assert ("ada", "explorer", "done", False) in noted


def test_tries_at_a_foreign_study_are_noted_without_its_uid(guard, context):
    stranger = cookie_of(log_in(context, "carl", "clinician"))
    for _ in range(3):
        call(guard, "GET", RESULTS, stranger)
    assert 1 <= rows(context).count(("carl", "results", "refused", True)) <= 2
    kept = b"".join(path.read_bytes() for path in context.config.audit_anchor.parent.glob("*.db*"))
    assert STUDY.encode() not in kept


@pytest.mark.parametrize(("method", "path"), [("GET", RESULTS), ("POST", CORRECTIONS)])
def test_nothing_is_shown_or_changed_when_it_cannot_be_noted(
    guard, room, context, reader, monkeypatch, method, path
):
    def full(*_, **__):
        raise UnavailableError("audit_unavailable")

    monkeypatch.setattr(context.audit, "view", full)
    monkeypatch.setattr(context.audit, "write", full)
    answer = call(guard, method, path, reader)
    assert (answer.status, answer.code) == (503, "audit_unavailable")
    assert answer.headers["retry-after"]
    assert not room.scopes


# What every answer carries.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/api/health"), ("GET", "/api/none"), ("GET", "/api/session"), ("GET", "/x.js")),
        *(("GET", "/login"), ("PUT", "/api/login"), ("POST", "/api/login"), ("GET", RESULTS)),
    ],
)
def test_every_answer_carries_what_protects_it(guard, method, path):
    headers = call(guard, method, path).headers
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["permissions-policy"]
    assert len(headers["x-correlation-id"]) >= 8
    assert "strict-transport-security" not in headers
    assert "server" not in headers


def test_data_are_never_kept_by_a_browser(guard, reader):
    for path in (RESULTS, f"/dicom-web/studies/{STUDY}", "/api/session"):
        assert call(guard, "GET", path, reader).headers["cache-control"] == "no-store"


def test_https_is_remembered(room, tmp_path):
    context = context_in(tmp_path / "data", behind_proxy=True)
    answer = call(Guard(room, context, sessions_of(context)), "GET", "/api/health")
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


def test_callers_name_of_a_request_comes_back_where_it_is_plain(guard):
    named = call(guard, "GET", "/api/health", {"x-correlation-id": "abcdef-1234"})
    assert named.headers["x-correlation-id"] == "abcdef-1234"
    odd = call(guard, "GET", "/api/health", {"x-correlation-id": "<script>alert(1)"})
    assert "<" not in odd.headers["x-correlation-id"]


def test_inline_scripts_of_the_viewers_page_may_run_and_no_others():
    page = '<script>one()</script><script src="a.js"></script><SCRIPT type="module">two()</SCRIPT >'
    hashes = inline_scripts(page)
    assert len(hashes) == 2
    policy = viewer_policy(hashes)
    script = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "'unsafe-inline'" not in script
    assert "'unsafe-eval'" not in script
    assert all(one in script for one in hashes)
