"""Routes of a caller's own session: login, logout, token, the key of unsent corrections."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from dicom_services.access.principal import Principal
from dicom_services.access.roles import Role
from dicom_services.access.tokens import LIFETIME
from dicom_services.api.context import Context, ContextDep, PrincipalDep
from dicom_services.api.login_refusals import LoginRefusals
from dicom_services.api.sessions import Sessions, cookie_name
from dicom_services.errors import AccessError, Fact, RadloopError

router = APIRouter(prefix="/api", tags=["session"])

T = TypeVar("T")
LOGINS_AT_ONCE: Final = 4
_MOST_WAITING: Final = 64
_LATER_S: Final = 10

Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class LoginIn(_Body):
    """A name with either a password or a one-time code."""

    name: Name
    password: Password | None = None
    code: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None


class TokenIn(_Body):
    """For API clients, which keep no cookie."""

    name: Name
    password: Password


class UserOut(_Body):
    """Who is logged in."""

    id: str
    name: str
    display_name: str
    role: Role


class SessionOut(_Body):
    """A session, and what its page must send back with whatever changes something."""

    user: UserOut
    csrf: str
    expires_at: str


class TokenOut(_Body):
    """A bearer token."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int


class KeyOut(_Body):
    """A key and its name; `key` is base64."""

    key_id: str
    key: str


class OutboxKeyOut(KeyOut):
    """What the browser of `user` seals unsent corrections with; `older` still open earlier ones."""

    user: str
    older: list[KeyOut]


class HealthOut(_Body):
    """Whether it answers."""

    status: Literal["ok"] = "ok"
    version: str


@router.get("/health")
def health(context: ContextDep) -> HealthOut:
    """Say that the gateway runs, and which one; nothing else."""
    return HealthOut(version=context.version)


@router.post("/login")
async def login(
    body: LoginIn, response: Response, request: Request, context: ContextDep
) -> SessionOut:
    """Begin a session by password or one-time code."""
    refusals: LoginRefusals = request.app.state.login_refusals
    principal = await _in_turn(request, lambda: _login(body, context, refusals))
    response.set_cookie(
        cookie_name(secure=context.config.secure),
        principal.session,
        httponly=True,
        samesite="strict",
        secure=context.config.secure,
        path="/",
    )
    return _session(principal)


@router.post("/logout", status_code=204)
def logout(
    request: Request, response: Response, context: ContextDep, principal: PrincipalDep
) -> None:
    """End this session."""
    if principal.session:
        context.accounts.logout(principal.session)
        sessions: Sessions = request.app.state.sessions
        sessions.forget(principal.session)
    context.audit.write(principal, "logout")
    response.delete_cookie(
        cookie_name(secure=context.config.secure),
        path="/",
        httponly=True,
        samesite="strict",
        secure=context.config.secure,
    )


@router.get("/session")
def session(principal: PrincipalDep) -> SessionOut:
    """Say who is logged in."""
    return _session(principal)


@router.post("/token")
async def token(body: TokenIn, request: Request, context: ContextDep) -> TokenOut:
    """Give an API client a token for a quarter of an hour."""
    refusals: LoginRefusals = request.app.state.login_refusals
    issued = await _in_turn(request, lambda: _token(body, context, refusals))
    return TokenOut(access_token=issued, expires_in=int(LIFETIME.total_seconds()))


@router.get("/session/outbox-key")
def outbox_key(context: ContextDep, principal: PrincipalDep) -> OutboxKeyOut:
    """Give a reader's browser the keys of what it could not send yet."""
    keys = [
        KeyOut(key_id=name, key=base64.b64encode(key).decode())
        for name, key in context.vault.reader_keys(principal.user).items()
    ]
    newest, *older = keys
    # Another page of this browser may have logged in as somebody else meanwhile: whose it is.
    user = str(principal.user)
    return OutboxKeyOut(user=user, key_id=newest.key_id, key=newest.key, older=older)


async def _in_turn(request: Request, prove: Callable[[], T]) -> T:
    """Few at once, for each takes a processor and memory; the rest wait, but not without end."""
    turns: CapacityLimiter = request.app.state.logins
    if turns.statistics().tasks_waiting >= _MOST_WAITING:
        raise AccessError("too_many_tries", seconds=_LATER_S)
    return await to_thread.run_sync(prove, limiter=turns)


def _login(body: LoginIn, context: Context, refusals: LoginRefusals) -> Principal:
    how = "code" if body.code is not None else "password"
    try:
        if body.code is not None:
            principal = context.accounts.login_with_code(body.name, body.code)
        else:
            principal = context.accounts.login(body.name, body.password or "")
    except RadloopError as error:
        _note_failure(context, refusals, how, error)
        raise
    try:
        context.audit.write(principal, "login", facts={"how": how})
    except RadloopError:
        context.accounts.logout(principal.session)
        raise
    return principal


def _token(body: TokenIn, context: Context, refusals: LoginRefusals) -> str:
    try:
        issued = context.accounts.issue_bearer(body.name, body.password)
    except RadloopError as error:
        _note_failure(context, refusals, "token", error)
        raise
    context.audit.write(context.accounts.bearer(issued), "login", facts={"how": "token"})
    return issued


def _note_failure(context: Context, refusals: LoginRefusals, how: str, error: RadloopError) -> None:
    """A name that nobody has may be a password typed into the wrong field: it is not kept."""
    if not isinstance(error, AccessError):
        return
    more = refusals.unnoted(how, error.code)
    if more is None:
        return
    facts: dict[str, Fact] = {"how": how, "code": error.code}
    if more:
        facts["more"] = more
    try:
        context.audit.write(None, "login", outcome="refused", facts=facts)
    except RadloopError:
        refusals.put_back(how, error.code, more + 1)
        raise


def _session(principal: Principal) -> SessionOut:
    ends = principal.expires_at
    return SessionOut(
        user=UserOut(
            id=str(principal.user),
            name=principal.name,
            display_name=principal.display_name or principal.name,
            role=principal.role,
        ),
        csrf=principal.csrf,
        expires_at=ends.isoformat() if ends else "",
    )
