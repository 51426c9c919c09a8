"""The gateway's application: which part answers which path, all of it behind the guard."""

from __future__ import annotations

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from dicom_services.api import (
    corrections,
    documents,
    events,
    login,
    problems,
    reports,
    results,
)
from dicom_services.api.compression import Compression
from dicom_services.api.context import Context
from dicom_services.api.dicomweb.app import dicomweb_app
from dicom_services.api.explorer import Explorer
from dicom_services.api.guard import Guard
from dicom_services.api.login_refusals import LoginRefusals
from dicom_services.api.rules import room_of
from dicom_services.api.sessions import Sessions
from dicom_services.api.static import LoginPage, Site
from dicom_services.errors import RadloopError


class Rooms:
    """Hands a request to the part of the gateway that its path names."""

    def __init__(self, rooms: dict[str, ASGIApp]) -> None:
        self._rooms = rooms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from the room."""
        await self._rooms[room_of(scope["path"])](scope, receive, send)


def build_app(context: Context) -> Guard:
    """Everything the gateway serves."""
    sessions = Sessions(context.accounts, secure=context.config.secure)
    rooms: dict[str, ASGIApp] = {
        "": Site(context.config.viewer),
        "/login": LoginPage(),
        "/api": Compression(build_api(context, sessions)),
        "/dicom-web": Compression(dicomweb_app(context)),
        "/explorer": Explorer(context),
    }
    return Guard(Rooms(rooms), context, sessions)


def build_api(context: Context, sessions: Sessions) -> FastAPI:
    """What stands below /api."""
    api = FastAPI(
        title="radloop",
        version=context.version,
        description="Results, corrections and reports of radloop. Research use only.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": problems.ANSWER, "5XX": problems.ANSWER},
    )
    api.state.context = context
    api.state.sessions = sessions
    api.state.logins = CapacityLimiter(login.LOGINS_AT_ONCE)
    api.state.login_refusals = LoginRefusals()
    api.add_exception_handler(RadloopError, problems.on_error)
    api.add_exception_handler(RequestValidationError, problems.on_invalid_body)
    api.add_exception_handler(HTTPException, problems.on_http_error)
    api.add_exception_handler(Exception, problems.on_error)
    for part in (login, results, reports, events, corrections, documents):
        api.include_router(part.router)
    return api
