"""DICOMweb of the gateway: a raw ASGI application behind the guard, which has judged the caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from dicom_services.api.dicomweb.answers import ProblemError, Receive, Scope, Send, send_problem
from dicom_services.api.dicomweb.paths import resource_of
from dicom_services.api.dicomweb.retrieve import retrieve
from dicom_services.api.dicomweb.upstream import Upstream
from dicom_services.api.problems import status_of
from dicom_services.errors import RadloopError
from dicom_services.settings import read_secret

if TYPE_CHECKING:
    from dicom_services.api.context import Context

App = Callable[[Scope, Receive, Send], Awaitable[None]]


def dicomweb_app(context: Context) -> App:
    """The application to mount at `/dicom-web`."""
    config = context.config
    upstream = Upstream(
        config.orthanc_url, config.orthanc_user, read_secret(config.orthanc_password)
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun = False

        async def noting(message: dict[str, object]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await _dispatch(context, upstream, scope, receive, noting)
        except ProblemError as error:
            await send_problem(scope, send, error.status, error.code, error.facts)
        except RadloopError as error:
            if begun:
                # The server breaks the connection, so that nobody takes a part for the whole.
                raise
            await send_problem(scope, send, status_of(error), error.code, error.facts)

    return app


async def _dispatch(
    context: Context, upstream: Upstream, scope: Scope, receive: Receive, send: Send
) -> None:
    resource = resource_of(scope["path"])
    if resource is None:
        raise ProblemError(404, "path_unknown")
    method = scope["method"]
    if method != "GET":
        raise ProblemError(405, "method")
    await retrieve(upstream, resource, scope, receive, send)
