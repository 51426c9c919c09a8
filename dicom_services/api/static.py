"""Files of the viewer and of the login: precompressed where they are, never outside a folder."""

from __future__ import annotations

import mimetypes
import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from dicom_services.api import problems
from dicom_services.api.headers import inline_scripts, viewer_policy
from dicom_services.api.requests import takes_encoding

_PIECE: Final = 256 << 10
_SCRIPTS: Final = frozenset({".js", ".mjs"})
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".jsonc": "application/json",
    ".map": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".woff": "font/woff",
    ".txt": "text/plain; charset=utf-8",
}
# A digest in the name: another content has another name.
_HASHED: Final = re.compile(r"[.-][0-9a-f]{8,64}\.[a-z0-9]+\Z")
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_ENCODINGS: Final = (("br", ".br"), ("gzip", ".gz"))
_PAGES: Final = Path(__file__).with_name("pages")


class Site:
    """An ASGI application that serves one folder.

    Parameters
    ----------
    home : Path
        May be made, replaced or removed while it is served.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._policies: dict[Path, tuple[int, str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a file, or with the viewer's page for a place within the viewer."""
        request = Request(scope, receive)
        await self._answer(request)(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        path = request.url.path
        file = self._file(path)
        if file is None and "." not in path.rpartition("/")[2]:
            file = self._file("/index.html")
            if file is None:
                return _no_viewer()
        if file is None:
            return problems.problem(404, "path_unknown", problems.correlation_of(request))
        return self.serve(request, file)

    def serve(self, request: Request, file: Path) -> Response:
        """One file, in the shortest form the browser takes; 304 where it has it already."""
        headers = {
            "Content-Type": _type_of(file),
            "Cache-Control": _IMMUTABLE if _HASHED.search(file.name) else "no-cache",
            "Vary": "Accept-Encoding",
        }
        if file.suffix == ".html":
            headers["Content-Security-Policy"] = self._policy(file)
        elif file.suffix in _SCRIPTS:
            # A worker goes by the policy of its own file, and some of them decode by WebAssembly.
            headers["Content-Security-Policy"] = viewer_policy()
        accepted = request.headers.get("accept-encoding", "")
        body = file
        for encoding, suffix in _ENCODINGS:
            beside = file.with_name(file.name + suffix)
            if takes_encoding(accepted, encoding) and _is_as_new(beside, file):
                body = beside
                headers["Content-Encoding"] = encoding
                break
        try:
            # Measured as it is sent: a new build may take its place at any moment.
            stream = body.open("rb")
        except FileNotFoundError:
            return problems.problem(404, "path_unknown", problems.correlation_of(request))
        found = os.fstat(stream.fileno())
        tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}{body.suffix}"'
        headers["ETag"] = tag
        known = request.headers.get("if-none-match", "")
        if tag in (one.strip().removeprefix("W/") for one in known.split(",")):
            stream.close()
            return Response(status_code=304, headers=headers)
        headers["Content-Length"] = str(found.st_size)
        return StreamingResponse(_pieces(stream, found.st_size), headers=headers)

    def _file(self, path: str) -> Path | None:
        """A plain file below the folder; nothing hidden, no way out of it."""
        if "\\" in path or "\0" in path or any(part.startswith(".") for part in path.split("/")):
            return None
        try:
            # Anew each time: a new build may take the place of the old one.
            home = self._home.resolve()
            real = (home / path.lstrip("/")).resolve()
            if real.is_relative_to(home) and stat.S_ISREG(real.stat().st_mode):
                return real
        except OSError:
            pass
        return None

    def _policy(self, page: Path) -> str:
        made = page.stat().st_mtime_ns
        known = self._policies.get(page)
        if known is None or known[0] != made:
            known = (made, viewer_policy(inline_scripts(page.read_text("utf-8", "replace"))))
            self._policies[page] = known
        return known[1]


class LoginPage:
    """The login: three small files of ours, there whether or not a viewer was built."""

    def __init__(self) -> None:
        self._site = Site(_PAGES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page, its styles or its script."""
        request = Request(scope, receive)
        name = request.url.path.removeprefix("/login").strip("/") or "login.html"
        file = _PAGES / name
        if "/" in name or not file.is_file():
            answer = problems.problem(404, "path_unknown", problems.correlation_of(request))
        else:
            answer = self._site.serve(request, file)
            # The guard's own policy, stricter than the viewer's.
            if "content-security-policy" in answer.headers:
                del answer.headers["content-security-policy"]
        await answer(scope, receive, send)


def _no_viewer() -> Response:
    return HTMLResponse((_PAGES / "no-viewer.html").read_text("utf-8"), 503)


def _is_as_new(beside: Path, file: Path) -> bool:
    """Whether the compressed form was made of the file as it is now."""
    try:
        return beside.stat().st_mtime_ns >= file.stat().st_mtime_ns
    except OSError:
        return False


def _type_of(file: Path) -> str:
    return (
        _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    )


async def _pieces(stream: BinaryIO, size: int) -> AsyncIterator[bytes]:
    """The file as it was measured; one that was cut meanwhile ends the answer early."""
    with stream:
        while size > 0:
            piece = stream.read(min(_PIECE, size))
            if not piece:
                return
            size -= len(piece)
            yield piece
