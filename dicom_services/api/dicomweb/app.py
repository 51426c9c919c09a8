"""DICOMweb of the gateway: a raw ASGI application behind the guard, which has judged the caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from dicom_services.api.dicomweb.accept import JSON, choose
from dicom_services.api.dicomweb.answers import (
    Message,
    ProblemError,
    Receive,
    Scope,
    Send,
    header,
    json_of,
    send_problem,
    send_whole,
)
from dicom_services.api.dicomweb.compressed import HEADERS, SMALLEST, accepts_gzip, compressed
from dicom_services.api.dicomweb.origin import base_url
from dicom_services.api.dicomweb.paths import Resource, resource_of
from dicom_services.api.dicomweb.pump import Pumps
from dicom_services.api.dicomweb.query import query_of
from dicom_services.api.dicomweb.retrieve import retrieve
from dicom_services.api.dicomweb.search import Search
from dicom_services.api.dicomweb.store import Store
from dicom_services.api.dicomweb.turns import Turns
from dicom_services.api.dicomweb.upstream import Upstream
from dicom_services.api.problems import status_of
from dicom_services.errors import RadloopError
from dicom_services.settings import read_secret

if TYPE_CHECKING:
    from dicom_services.api.context import Context

App = Callable[[Scope, Receive, Send], Awaitable[None]]


_FUZZY: Final = '299 radloop "fuzzymatching is not supported; only literal matching was performed"'
_CUT: Final = '299 radloop "the archive holds more than it tells at once; narrow the search"'
_MORE: Final = '299 radloop "there are more results; ask for them with offset"'


def dicomweb_app(context: Context) -> App:
    """The application to mount at `/dicom-web`."""
    app = _DicomWeb(context)
    secure = context.config.secure

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        if secure:
            # Another server may speak TLS in front of this one: URLs in answers are the browser's.
            scope = {**scope, "scheme": "https"}
        try:
            await app.answer(scope, receive, noting)
        except ProblemError as error:
            await send_problem(scope, send, error.status, error.code, error.facts)
        except RadloopError as error:
            if begun:
                # The server breaks the connection, so that nobody takes a part for the whole.
                raise
            await send_problem(scope, send, status_of(error), error.code, error.facts)

    return handle


class _DicomWeb:
    """What the requests of one gateway share."""

    def __init__(self, context: Context) -> None:
        config = context.config
        self._upstream = Upstream(
            config.orthanc_url, config.orthanc_user, read_secret(config.orthanc_password)
        )
        self._search = Search(self._upstream, context.patient_keys)
        self._store = Store(context, self._upstream)
        self._pumps = Pumps()
        self._turns = Turns()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        resource = resource_of(scope["path"])
        if resource is None:
            raise ProblemError(404, "path_unknown")
        is_store = resource.path == "/studies" or (
            resource.form == "objects" and resource.level == "studies"
        )
        if scope["method"] == "POST" and is_store:
            await self._store.store(resource, scope, receive, send)
        elif scope["method"] != "GET":
            raise ProblemError(405, "method")
        elif resource.form == "search":
            await self._answer_search(resource, scope, send)
        else:
            async with self._turns.of(scope["state"]["principal"].user):
                await retrieve(self._upstream, self._pumps, resource, scope, receive, send)

    async def _answer_search(self, resource: Resource, scope: Scope, send: Send) -> None:
        if not choose("search", resource.level, 0, header(scope, b"accept")):
            raise ProblemError(406, "not_acceptable")
        query = query_of(resource, scope.get("query_string", b""))
        page = await self._search.page(
            resource.level, query, scope["state"]["principal"], base_url(scope)
        )
        warnings = [_FUZZY] * query.is_fuzzy + [_MORE] * page.more + [_CUT] * page.is_cut
        extra = [("warning", text) for text in warnings]
        body = json_of(page.items)
        if len(body) >= SMALLEST and accepts_gzip(scope):
            body = compressed(body)
            extra += HEADERS
        await send_whole(send, 200, JSON, body, extra)
