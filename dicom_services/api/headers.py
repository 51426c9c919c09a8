"""Security headers of every answer, by what the answer is."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Final

Headers = list[tuple[bytes, bytes]]

# One year, RFC 6797; subdomains may serve other things.
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
_FIXED: Final[Headers] = [
    # Together these give the viewer's workers shared memory and keep other origins' windows out.
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(), geolocation=(), microphone=(), payment=(), usb=(), interest-cohort=()",
    ),
]
_DATA: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Browsers show PDF by a page of their own, which needs its styles.
_DOCUMENT: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data: blob:; object-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Its pages show names out of images, so nothing written into a page may run there: its own files
# alone, and the one handler that opens the file dialogue.
_FILE_DIALOGUE: Final = "$('#fileupload').click()"


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


EXPLORER_PAGE: Final = (
    f"default-src 'self'; script-src 'self' 'unsafe-hashes' {_hash(_FILE_DIALOGUE)}; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_LOGIN: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
NO_STORE: Final = (b"cache-control", b"no-store")
_SCRIPT: Final = re.compile(r"<script\b([^>]*)>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)
_SOURCE: Final = re.compile(r"\bsrc\s*=", re.IGNORECASE)


def inline_scripts(page: str) -> list[str]:
    """The CSP sources of a page's inline scripts, so that these run and no other."""
    return [
        _hash(text)
        for attributes, text in _SCRIPT.findall(page)
        if not _SOURCE.search(attributes) and text
    ]


def viewer_policy(hashes: Iterable[str] = ()) -> str:
    """What the viewer's page may load: its own files, WebAssembly, workers made from blobs."""
    scripts = " ".join(("'self'", "'wasm-unsafe-eval'", *hashes))
    return (
        f"default-src 'self'; script-src {scripts}; worker-src 'self' blob:; "
        "connect-src 'self' blob: data:; img-src 'self' data: blob:; font-src 'self' data:; "
        # Its components set styles on elements at run time.
        "style-src 'self' 'unsafe-inline'; media-src 'self' blob:; object-src 'self' blob:; "
        "frame-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


class SecurityHeaders:
    """The headers to add, made once; what an answer says itself stands."""

    def __init__(self, *, secure: bool) -> None:
        fixed = [*_FIXED, _HSTS] if secure else [*_FIXED]
        self._data = [*fixed, NO_STORE, _policy(_DATA)]
        self._document = [*fixed, NO_STORE, _policy(_DOCUMENT)]
        self._login = [*fixed, (b"cache-control", b"no-cache"), _policy(_LOGIN)]

    def added(self, room: str, headers: Headers) -> Headers:
        """`headers` of an answer from a room of the gateway, and what they lack."""
        if room in ("/login", ""):
            more = self._login
        elif (b"content-type", b"application/pdf") in headers:
            more = self._document
        else:
            more = self._data
        said = {name.lower() for name, _ in headers}
        return [*headers, *(one for one in more if one[0] not in said)]


def _policy(text: str) -> tuple[bytes, bytes]:
    return (b"content-security-policy", text.encode())
