"""The guard: everything that reaches the gateway passes it, and what it cannot place is refused."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_services.access.principal import Principal, may, may_see
from dicom_services.api import problems
from dicom_services.api.context import Context, StudyAccess
from dicom_services.api.headers import SecurityHeaders
from dicom_services.api.notes import Notes
from dicom_services.api.requests import (
    METHODS,
    Asked,
    Origins,
    correlation,
    read_headers,
    refuse_address,
    require_same_origin,
)
from dicom_services.api.rules import Match, Rule, match, room_of
from dicom_services.api.sessions import Sessions
from dicom_services.errors import AccessError, Fact, InputError, MissingError, RadloopError
from dicom_services.log import event

# A foreign study and an absent one are told apart by nothing, time included.
_ABSENT_S: Final = 0.05
_BODIES: Final = {"none": 64 << 10, "small": 64 << 10, "document": 16 << 20}


@dataclass(slots=True)
class _Request:
    """One request on its way through the guard."""

    scope: Scope
    method: str
    path: str
    room: str
    name: str
    asked: Asked
    started: bool = False


class _NotLoggedInError(Exception):
    """A person's browser that should be shown the login."""


class Guard:
    """Wraps the gateway's application; see rules.py for what is allowed.

    The order matters: nothing of a request is acted upon before the host it names, its headers and
    its path are known to be plain; nobody's login is looked up for a path that does not exist; no
    study is looked up for who may not look at any.
    """

    def __init__(self, app: ASGIApp, context: Context, sessions: Sessions) -> None:
        self._app = app
        self._context = context
        self._sessions = sessions
        self._headers = SecurityHeaders(secure=context.config.secure)
        self._origins = Origins(context.config)
        self._notes = Notes(context.audit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        request = _Request(
            scope,
            scope["method"],
            path,
            room_of(path),
            correlation(scope["headers"]),
            Asked({}, ""),
        )
        state = scope.setdefault("state", {})
        state["correlation"] = request.name
        guarded = self._sending(request, send)
        try:
            await self._judge(request, receive, guarded)
        except _NotLoggedInError:
            await self._to_login(request, guarded)
        except RadloopError as error:
            if request.started:
                # Half an answer must not look like a whole one: the server breaks off.
                raise
            status = problems.status_of(error)
            await self._refuse(guarded, request, status, error.code, error.facts)

    async def _judge(self, request: _Request, receive: Receive, send: Send) -> None:
        scope = request.scope
        request.asked = asked = read_headers(scope["headers"])
        self._origins.require_host(asked, scope.get("server"))
        refuse_address(scope["raw_path"], scope["query_string"])
        if request.method not in METHODS:
            raise InputError("method")
        looked = "GET" if request.method == "HEAD" else request.method
        found = match(looked, request.path)
        rule = found.rule
        if rule is None or (request.method == "HEAD" and request.room == "/dicom-web"):
            await self._unmatched(request, found, send)
            return
        cookie = bool(self._sessions.cookie(asked)) and not asked.get(b"authorization")
        if request.room not in ("", "/login"):
            require_same_origin(asked, self._origins, unsafe=rule.writes, cookie=cookie)
        limit = self._context.config.upload_bytes if rule.body == "upload" else _BODIES[rule.body]
        self._require_length(asked, limit)
        if rule.scope != "public":
            await self._admit(request, rule, found.study)
        if request.method == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, _limited(receive, limit), send)

    async def _admit(self, request: _Request, rule: Rule, uid: str) -> None:
        """Whether the caller may; the audit is written before anything else happens."""
        if rule.scope == "page":
            if request.asked.wants_page and await self._caller(request) is None:
                raise _NotLoggedInError
            return
        principal = await self._caller(request)
        if principal is None:
            if rule.scope == "explorer" and request.asked.wants_page and not rule.writes:
                raise _NotLoggedInError
            raise AccessError("login_needed")
        request.scope["state"]["principal"] = principal
        self._require_csrf(request, rule, principal)
        if not may(principal, rule.action):
            await self._notes.refusal(principal, rule, "", "role")
            raise AccessError("role_forbidden")
        study_keys: tuple[str, ...] = ()
        if rule.scope == "study":
            study = await self._study(principal, rule, uid)
            request.scope["state"]["study"] = study
            study_keys = (study.study_key,)
        elif rule.scope == "explorer":
            study_keys = await self._context.studies.keys_of(request.path)
        for study_key in (study_keys or ("",)) if rule.audit else ():
            await self._notes.granted(principal, rule, study_key, request.path)

    async def _caller(self, request: _Request) -> Principal | None:
        return await self._sessions.caller(request.asked)

    def _require_csrf(self, request: _Request, rule: Rule, principal: Principal) -> None:
        """What another site's page cannot know; elsewhere than below /api its origin is enough."""
        if not (rule.writes and principal.session and request.room == "/api"):
            return
        shown = request.asked.get(b"x-csrf-token").encode()
        if not hmac.compare_digest(shown, principal.csrf.encode()):
            raise AccessError("csrf")

    async def _study(self, principal: Principal, rule: Rule, uid: str) -> StudyAccess:
        begun = time.monotonic()
        study = await self._context.studies.find(uid)
        if study and may_see(principal, study.patient_key):
            return study
        await self._notes.refusal(principal, rule, self._context.patient_keys.study(uid), "study")
        await asyncio.sleep(max(0.0, begun + _ABSENT_S - time.monotonic()))
        raise MissingError("study_unknown")

    @staticmethod
    def _require_length(asked: Asked, limit: int) -> None:
        length = asked.get(b"content-length")
        if length and (not length.isdigit() or len(length) > 15):
            raise InputError("header_repeated")
        if length and int(length) > limit:
            raise InputError("body_too_large", most=limit)

    async def _unmatched(self, request: _Request, found: Match, send: Send) -> None:
        """A path nobody knows, or a method it does not have."""
        if not found.methods:
            raise MissingError("path_unknown")
        allowed = [*found.methods]
        if "GET" in allowed and request.room != "/dicom-web":
            allowed.append("HEAD")
        more = {"Allow": ", ".join(sorted({*allowed, "OPTIONS"}))}
        if request.method == "OPTIONS":
            await _answer(send, 204, b"", more)
        else:
            await self._refuse(send, request, 405, "method", {}, more)

    async def _to_login(self, request: _Request, send: Send) -> None:
        came_from = request.path
        if request.scope["query_string"]:
            came_from += "?" + request.scope["query_string"].decode("latin-1")
        address = "/login" if came_from == "/" else f"/login?next={quote(came_from, safe='/')}"
        await _answer(send, 303, b"", {"Location": address, "Cache-Control": "no-store"})

    async def _refuse(
        self,
        send: Send,
        request: _Request,
        status: int,
        code: str,
        facts: Mapping[str, Fact],
        more: Mapping[str, str] | None = None,
    ) -> None:
        body = problems.document(status, code, request.name, facts)
        headers = {
            "Content-Type": problems.MEDIA_TYPE,
            **problems.headers_of(status, facts),
            **(more or {}),
            "Cache-Control": "no-store",
        }
        if status in (408, 413, 431):
            # The rest of the body is nobody's to read.
            headers["Connection"] = "close"
        await _answer(send, status, body, headers)

    def _sending(self, request: _Request, send: Send) -> Send:
        """Adds to every answer what protects it."""
        name = (b"x-correlation-id", request.name.encode())

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.started = True
                status = message["status"]
                if status >= 500:
                    kind = request.room.strip("/") or "viewer"
                    event(
                        "gateway.failed",
                        level=logging.WARNING,
                        status=status,
                        correlation=request.name,
                        stage=kind,
                    )
                headers = self._headers.added(request.room, list(message.get("headers", ())))
                message = {**message, "headers": [*headers, name]}
            await send(message)

        return guarded


def _limited(receive: Receive, limit: int) -> Receive:
    """A body that is longer than allowed ends in an error, whatever its headers promised."""
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        if message["type"] == "http.request":
            got += len(message.get("body", b""))
            if got > limit:
                raise InputError("body_too_large", most=limit)
        return message

    return limited


async def _answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    told: list[Any] = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
    if status != 204:
        told.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
