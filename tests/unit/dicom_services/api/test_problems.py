"""Problems name a status and a code and never repeat what anybody sent."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from fastapi import Body, FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException as AnyHTTPException

from dicom_services.api import problems
from dicom_services.errors import (
    AccessError,
    ConfigError,
    CorruptError,
    InputError,
    MissingError,
    RadloopError,
    UnavailableError,
)
from tests.gateway import call

SECRET = "DOE^JANE"


class Posted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    age: int


def application(error: Exception | None = None) -> FastAPI:
    api = FastAPI()
    for kind, handler in (
        (RadloopError, problems.on_error),
        (RequestValidationError, problems.on_invalid_body),
        (AnyHTTPException, problems.on_http_error),
        (Exception, problems.on_error),
    ):
        api.add_exception_handler(kind, handler)

    @api.get("/raise")
    def fail() -> None:
        assert error is not None
        raise error

    @api.post("/posted")
    def posted(body: Annotated[Posted, Body()]) -> int:
        return body.age

    return api


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("slice_increment", millimetres=7.5), 422),
        (AccessError("role_forbidden"), 403),
        (AccessError("login_refused"), 401),
        (AccessError("token_refused"), 401),
        (AccessError("too_many_tries", seconds=40), 429),
        (MissingError("study_unknown"), 404),
        (UnavailableError("orthanc_unreachable"), 503),
        (UnavailableError("disk_full"), 507),
        (CorruptError("sealed_altered"), 500),
        (ConfigError("settings"), 500),
        (HTTPException(404, SECRET), 404),
        (HTTPException(418, SECRET), 418),
    ],
)
def test_error_becomes_its_status_and_code(error, status):
    answer = call(application(error), "GET", "/raise")
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status == told["status"] == status
    assert told["type"] == "about:blank"
    assert told["code"] == getattr(error, "code", told["code"])
    assert told["title"]
    assert SECRET not in answer.body.decode()


def test_facts_are_told_and_cannot_replace_what_a_problem_is():
    body = problems.document(422, "x_code", "c", {"millimetres": 7.5, "status": 200, "code": "y"})
    told = json.loads(body)
    assert (told["status"], told["code"], told["millimetres"]) == (422, "x_code", 7.5)


def test_clients_are_told_how_long_to_wait_and_how_to_prove_themselves():
    assert problems.headers_of(429, {"seconds": 40})["Retry-After"] == "40"
    assert int(problems.headers_of(503)["Retry-After"]) > 0
    assert "Basic" not in problems.headers_of(401)["WWW-Authenticate"]


def test_unforeseen_error_tells_nothing_but_that_it_happened():
    api = application(ValueError(SECRET))
    told = []

    async def send(message):
        told.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    import asyncio

    scope = {"type": "http", "method": "GET", "path": "/raise", "headers": [], "query_string": b""}
    # The server logs it too, by place alone.
    with pytest.raises(ValueError, match="DOE"):
        asyncio.run(api(scope, receive, send))
    assert told[0]["status"] == 500
    answered = json.loads(told[1]["body"])
    assert answered["code"] == "internal_error"
    assert SECRET not in told[1]["body"].decode()


@pytest.mark.parametrize(
    "body",
    [
        {"age": SECRET},
        {"age": 1, SECRET + "\u0660": 1},
        {SECRET: 1},
        [SECRET],
        SECRET,
    ],
)
def test_body_that_does_not_fit_is_not_repeated(body):
    answer = call(
        application(),
        "POST",
        "/posted",
        {"content-type": "application/json"},
        json.dumps(body).encode(),
    )
    assert answer.status == 422
    told = answer.json()
    assert told["code"] == "request"
    assert SECRET not in answer.body.decode().replace(f"body.{SECRET}", "")


def test_body_that_is_no_json_is_a_problem_too():
    answer = call(application(), "POST", "/posted", {"content-type": "application/json"}, b"{")
    assert (answer.status, answer.json()["code"]) == (422, "request")
