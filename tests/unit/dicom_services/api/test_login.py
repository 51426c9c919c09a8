"""Sessions from login to logout, as a browser and as an API client have them."""

from __future__ import annotations

import base64
import json

import pytest

from dicom_services.api.app import build_api
from dicom_services.api.guard import Guard
from dicom_services.errors import UnavailableError
from tests.gateway import (
    ORIGIN,
    PASSWORD,
    Answer,
    call,
    context_in,
    cookie_of,
    log_in,
    records_again,
    sessions_of,
)


def gateway(context) -> Guard:
    sessions = sessions_of(context)
    return Guard(build_api(context, sessions), context, sessions)


@pytest.fixture
def context(tmp_path):
    context = context_in(tmp_path / "data")
    context.accounts.add_user("rita", "radiologist", PASSWORD, display_name="Dr. Rita Röntgen")
    return context


@pytest.fixture
def app(context):
    return gateway(context)


def post(app, path: str, body: object = None, **headers: str) -> Answer:
    sent = {"content-type": "application/json", "origin": ORIGIN, **headers}
    return call(app, "POST", path, sent, json.dumps(body).encode() if body is not None else b"")


def notes(context) -> list[tuple[str, str, str, str]]:
    records = records_again(context)
    told = [(one.actor, one.action, one.outcome, one.facts) for one in records.audit.rows()]
    records.close()
    return told


def session_of(answer: Answer) -> dict[str, str]:
    return {
        "cookie": answer.cookies[0].partition(";")[0],
        "x-csrf-token": answer.json()["csrf"],
        "origin": ORIGIN,
    }


def test_password_begins_a_session(app, context):
    answer = post(app, "/api/login", {"name": "rita", "password": PASSWORD})
    assert answer.status == 200
    told = answer.json()
    assert told["user"]["display_name"] == "Dr. Rita Röntgen"
    assert told["user"]["role"] == "radiologist"
    assert told["expires_at"].endswith("+00:00")
    (cookie,) = answer.cookies
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    assert "secure" not in parts
    assert cookie.startswith("radloop=")
    assert told["csrf"] not in cookie
    asked = session_of(answer)
    assert call(app, "GET", "/api/session", asked).json() == told
    assert ("rita", "login", "done", '{"how":"password"}') in notes(context)


def test_by_https_the_cookie_is_bound_to_this_host(tmp_path):
    context = context_in(tmp_path / "data", behind_proxy=True)
    context.accounts.add_user("rita", "radiologist", PASSWORD)
    app = gateway(context)
    answer = post(app, "/api/login", {"name": "rita", "password": PASSWORD})
    assert answer.cookies[0].startswith("__Host-radloop=")
    assert "secure" in answer.cookies[0].lower()
    assert call(app, "GET", "/api/session", session_of(answer)).status == 200
    plain = {"cookie": answer.cookies[0].partition(";")[0].replace("__Host-", "")}
    assert call(app, "GET", "/api/session", plain).status == 401


def test_one_time_code_begins_one_session(app, context):
    code = context.accounts.login_code("rita")
    assert post(app, "/api/login", {"name": "rita", "code": code.lower()}).status == 200
    again = post(app, "/api/login", {"name": "rita", "code": code})
    assert (again.status, again.code) == (401, "login_refused")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "rita", "password": "wrong wrong wrong"},
        {"name": "nobody", "password": PASSWORD},
        {"name": "rita", "code": "AAAA-AAAA-AAAA-AAAA"},
        {"name": "nobody", "code": "AAAA-AAAA-AAAA-AAAA"},
        {"name": "rita"},
    ],
)
def test_whatever_is_wrong_gives_one_answer(app, context, body):
    answer = post(app, "/api/login", body)
    told = {**answer.json(), "correlation": ""}
    assert (answer.status, told["code"]) == (401, "login_refused")
    assert set(told) == {"type", "title", "status", "code", "correlation"}
    assert not answer.cookies
    assert [note[2] for note in notes(context) if note[1] == "login"] == ["refused"]
    # What was typed as a name may be a password.
    assert "nobody" not in str(notes(context))


def test_many_tries_are_slowed_down(app, context):
    for _ in range(8):
        answer = post(app, "/api/login", {"name": "rita", "password": "wrong wrong wrong"})
    assert (answer.status, answer.code) == (429, "too_many_tries")
    assert int(answer.headers["retry-after"]) > 0
    right = post(app, "/api/login", {"name": "rita", "password": PASSWORD})
    assert right.status == 429
    # Neither the tries nor their number fills the audit.
    codes = [json.loads(note[3])["code"] for note in notes(context) if note[2] == "refused"]
    assert codes.count("login_refused") == 5
    assert codes.count("too_many_tries") <= 2


@pytest.mark.parametrize(
    "body",
    [
        {"name": "rita", "password": PASSWORD, "role": "admin"},
        {"name": "rita", "password": [PASSWORD]},
        {"name": "", "password": PASSWORD},
        {"name": "a" * 65, "password": PASSWORD},
        {"name": "rita", "password": PASSWORD * 100},
        {},
        [],
        PASSWORD,
    ],
)
def test_body_that_does_not_fit_is_refused_and_not_repeated(app, body):
    answer = post(app, "/api/login", body)
    assert (answer.status, answer.code) == (422, "request")
    assert PASSWORD not in answer.body.decode()


def test_logout_ends_the_session_at_once(app, context):
    asked = session_of(post(app, "/api/login", {"name": "rita", "password": PASSWORD}))
    assert call(app, "GET", "/api/session", asked).status == 200
    ended = call(app, "POST", "/api/logout", asked)
    assert ended.status == 204
    assert "max-age=0" in ended.cookies[0].lower()
    assert call(app, "GET", "/api/session", asked).status == 401
    assert ("rita", "logout", "done", "{}") in notes(context)


def test_logout_needs_the_page_too(app):
    asked = session_of(post(app, "/api/login", {"name": "rita", "password": PASSWORD}))
    asked.pop("x-csrf-token")
    assert call(app, "POST", "/api/logout", asked).status == 403
    assert call(app, "GET", "/api/session", asked).status == 200


def test_nobody_is_logged_in_when_it_cannot_be_noted(app, context, monkeypatch):
    def full(*_, **__):
        raise UnavailableError("audit_unavailable")

    monkeypatch.setattr(context.audit, "write", full)
    answer = post(app, "/api/login", {"name": "rita", "password": PASSWORD})
    assert (answer.status, answer.code) == (503, "audit_unavailable")
    assert not answer.cookies
    assert not context.accounts.sessions("rita")


def test_token_of_an_api_client(app, context):
    answer = post(app, "/api/token", {"name": "rita", "password": PASSWORD})
    told = answer.json()
    assert (told["token_type"], told["expires_in"]) == ("bearer", 900)
    assert not answer.cookies
    asked = {"authorization": f"Bearer {told['access_token']}"}
    session = call(app, "GET", "/api/session", asked).json()
    assert (session["user"]["name"], session["csrf"], session["expires_at"]) == ("rita", "", "")
    assert post(app, "/api/token", {"name": "rita", "password": "no"}).status == 401
    assert ("rita", "login", "done", '{"how":"token"}') in notes(context)


def test_each_reader_has_one_key_for_what_was_not_sent(app, context):
    first = cookie_of(context.accounts.login("rita", PASSWORD))
    second = cookie_of(log_in(context, "rolf", "radiologist"))
    keys = [
        call(app, "GET", "/api/session/outbox-key", one).json() for one in (first, first, second)
    ]
    assert keys[0] == keys[1] != keys[2]
    assert len(base64.b64decode(keys[0]["key"])) == 32
    assert keys[0]["key_id"] == context.vault.key_id
    session = call(app, "GET", "/api/session", first).json()
    assert (keys[0]["user"], keys[0]["older"]) == (session["user"]["id"], [])


def test_what_an_earlier_key_sealed_can_still_be_opened(app, context):
    asked = cookie_of(context.accounts.login("rita", PASSWORD))
    before = call(app, "GET", "/api/session/outbox-key", asked).json()
    old = context.config.vault_key.read_text()
    context.config.vault_key.write_text(f"{'f' * 64}\n{old}")
    object.__setattr__(context, "vault", records_again(context).vault)
    after = call(app, "GET", "/api/session/outbox-key", asked).json()
    assert after["key_id"] != before["key_id"]
    assert after["older"] == [{"key_id": before["key_id"], "key": before["key"]}]


def test_health_says_no_more_than_that(app):
    assert call(app, "GET", "/api/health").json() == {"status": "ok", "version": "0.0.0"}


def test_description_of_the_api_is_for_who_is_logged_in(app, context):
    assert call(app, "GET", "/api/openapi.json").status == 401
    asked = cookie_of(context.accounts.login("rita", PASSWORD))
    told = call(app, "GET", "/api/openapi.json", asked).json()
    assert told["info"]["title"] == "radloop"
    assert "/api/login" in told["paths"]
