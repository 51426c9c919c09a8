"""The route of events: a line that tells whenever the results of a study have changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from dicom_services.access.principal import Principal, may, may_see
from dicom_services.api.context import (
    Context,
    ContextDep,
    PrincipalDep,
    StudyAccess,
    StudyDep,
    context_of,
)
from dicom_services.api.corrections import study_uid
from dicom_services.api.results import study_results_of
from dicom_services.api.watch import News, Watch
from dicom_services.errors import AccessError

router = APIRouter(
    prefix="/api/studies/{study}", tags=["results"], dependencies=[Depends(study_uid)]
)

HEARTBEAT_S: Final = 15.0
"""Below the half minute after which the first proxies take a silent line for dead."""
RECHECK_S: Final = 30.0
_RETRY_MS: Final = 2_000
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def watch_of(request: Request) -> Watch:
    """The application's watch over the studies that somebody listens to."""
    state = request.app.state
    if not hasattr(state, "watch"):
        state.watch = Watch(context_of(request), study_results_of(request))
    found: Watch = state.watch
    return found


WatchDep = Annotated[Watch, Depends(watch_of)]


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(
    request: Request,
    context: ContextDep,
    principal: PrincipalDep,
    study: StudyDep,
    watch: WatchDep,
) -> StreamingResponse:
    """Send the event "results" at once and whenever they change, with version, state and code."""
    watch.require_room(principal.user)
    token = request.headers.get("authorization", "").partition(" ")[2].strip()

    async def lines() -> AsyncIterator[bytes]:
        check_s = time.monotonic() + RECHECK_S
        with watch.listen(study, principal.user) as listener:
            yield f"retry: {_RETRY_MS}\n\n".encode()
            while not (listener.ended or context.stopping.is_set()):
                if time.monotonic() >= check_s:
                    if not await _may_still(context, principal, token, study):
                        return
                    check_s = time.monotonic() + RECHECK_S
                try:
                    await asyncio.wait_for(listener.changed.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                listener.changed.clear()
                if listener.news is not None and not listener.ended:
                    yield _event(listener.news)

    return StreamingResponse(lines(), media_type="text/event-stream", headers=_HEADERS)


def _event(news: News) -> bytes:
    data = json.dumps({"version": news.version, "state": news.state, "code": news.code})
    return f"event: results\nid: {news.number}\ndata: {data}\n\n".encode()


async def _may_still(
    context: Context, principal: Principal, token: str, study: StudyAccess
) -> bool:
    """Whether the caller may look on: a line that stays open must not outlive a right.

    Looking does not keep a session alive: an unattended page is logged out like any other.
    """

    def ask() -> Principal | None:
        if principal.session:
            return context.accounts.session(principal.session, in_use=False)
        return context.accounts.bearer(token)

    try:
        now = await asyncio.to_thread(ask)
    except AccessError:
        return False
    return now is not None and may(now, "view") and may_see(now, study.patient_key)
