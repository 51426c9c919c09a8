"""Errors as problem details (RFC 9457): a status, a stable code, PHI-free facts, never a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dicom_services.errors import (
    AccessError,
    CorruptError,
    Fact,
    InputError,
    MissingError,
    RadloopError,
    UnavailableError,
)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5
_OWN: Final = frozenset({"type", "title", "status", "code", "correlation"})
# Codes whose status is another than their kind's.
_STATUS: Final = {
    "csrf": 403,
    "login_needed": 401,
    "login_refused": 401,
    "token_refused": 401,
    "too_many_tries": 429,
    "body_too_large": 413,
    "header_too_large": 431,
    "host_unknown": 421,
    "method": 405,
    "method_override": 400,
    "content_encoding": 415,
    "header_repeated": 400,
    "address_too_long": 414,
    "disk_full": 507,
}
ANSWER: Final[dict[str, Any]] = {
    "description": "A problem (RFC 9457); `code` is stable, further members are its facts.",
    "content": {
        MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "code", "correlation"],
                "properties": {
                    "type": {"const": "about:blank"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "code": {"type": "string", "pattern": "^[a-z][a-z0-9_]+$"},
                    "correlation": {"type": "string"},
                },
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            }
        }
    },
}
"""How the API's document describes every refusal."""
_BY_STATUS: Final = {404: "path_unknown", 405: "method", 413: "body_too_large"}


def status_of(error: RadloopError) -> int:
    """The HTTP status of one of the six errors."""
    if error.code in _STATUS:
        return _STATUS[error.code]
    kinds: tuple[tuple[type[RadloopError], int], ...] = (
        (InputError, 422),
        (AccessError, 403),
        (MissingError, 404),
        (UnavailableError, 503),
        (CorruptError, 500),
    )
    return next((status for kind, status in kinds if isinstance(error, kind)), 500)


def document(
    status: int, code: str, correlation: str, facts: Mapping[str, Fact] | None = None
) -> bytes:
    """The body of a problem."""
    told: dict[str, Fact] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "correlation": correlation,
    }
    told |= {name: value for name, value in (facts or {}).items() if name not in _OWN}
    return json.dumps(told).encode()


def headers_of(status: int, facts: Mapping[str, Fact] | None = None) -> dict[str, str]:
    """What a client should know beside the body."""
    if status == 401:
        # RFC 9110 11.6.1 asks for a scheme; Basic would make browsers ask by themselves.
        return {"WWW-Authenticate": 'Bearer realm="radloop"'}
    if status in (429, 503):
        return {"Retry-After": str((facts or {}).get("seconds", RETRY_AFTER_S))}
    return {}


def problem(
    status: int, code: str, correlation: str, facts: Mapping[str, Fact] | None = None
) -> Response:
    """A problem as an answer."""
    return Response(
        document(status, code, correlation, facts),
        status,
        headers=headers_of(status, facts),
        media_type=MEDIA_TYPE,
    )


def correlation_of(request: Request) -> str:
    """What the guard named this request."""
    return str(getattr(request.state, "correlation", ""))


async def on_error(request: Request, error: Exception) -> Response:
    """One of ours, with its facts; anything else tells nothing but that it happened."""
    if not isinstance(error, RadloopError):
        return problem(500, "internal_error", correlation_of(request))
    return problem(status_of(error), error.code, correlation_of(request), error.facts)


async def on_invalid_body(request: Request, error: Exception) -> Response:
    """A body or argument that does not fit: where, never what it held."""
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    where = ".".join(str(part) for part in errors[0]["loc"]) if errors else ""
    plain = where if where.isascii() and where.isprintable() and len(where) <= 120 else ""
    facts: dict[str, Fact] = {"where": plain, "wrong": len(errors)}
    return problem(422, "request", correlation_of(request), facts)


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the framework itself refuses."""
    if isinstance(error.__cause__, RadloopError):
        # Of ours, raised while the framework read the body.
        return await on_error(request, error.__cause__)
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = _BY_STATUS.get(status, "request" if status < 500 else "internal_error")
    return problem(status, code, correlation_of(request))
