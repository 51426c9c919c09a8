"""What the guard reads from a request's headers; anything said twice or oddly is refused."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from dicom_services.api.config import GatewayConfig
from dicom_services.errors import AccessError, InputError

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
MOST_HEADER_BYTES: Final = 32 << 10
MOST_ADDRESS_BYTES: Final = 32 << 10
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?\Z")
# Digits alone: it is logged, and no name may get there.
_CORRELATION: Final = re.compile(r"[0-9A-Fa-f-]{8,64}\Z")
_OVERRIDES: Final = frozenset(
    (b"x-http-method-override", b"x-http-method", b"x-method-override", b"_method")
)
# Said twice they would mean one thing here and another to whoever reads the other one.
_ONCE: Final = frozenset(
    (b"host", b"authorization", b"content-length", b"content-type", b"origin", b"x-csrf-token")
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's headers, read once."""

    values: dict[bytes, str]
    host: str

    def get(self, name: bytes) -> str:
        """The value of a header, "" without one."""
        return self.values.get(name, "")

    @property
    def wants_page(self) -> bool:
        """Whether a person's browser navigates, rather than a script fetches."""
        return "text/html" in self.get(b"accept")


def correlation(headers: list[tuple[bytes, bytes]]) -> str:
    """What the caller named the request, where that is plain; else a name of ours."""
    for name, value in headers:
        if name == b"x-correlation-id":
            text = value.decode("latin-1")
            if _CORRELATION.match(text):
                return text
    return secrets.token_hex(8)


def read_headers(headers: list[tuple[bytes, bytes]]) -> Asked:
    """The headers as text.

    Raises
    ------
    InputError
        `header_too_large`, `header_repeated`, `method_override`, `content_encoding`.
    """
    size = 0
    values: dict[bytes, str] = {}
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name in _OVERRIDES:
            raise InputError("method_override")
        if name in values:
            if name in _ONCE:
                raise InputError("header_repeated")
            # RFC 9110 5.3; cookies are the exception, RFC 9113 8.2.3.
            separator = "; " if name == b"cookie" else ", "
            values[name] += separator + value.decode("latin-1")
        else:
            values[name] = value.decode("latin-1")
    if size > MOST_HEADER_BYTES:
        raise InputError("header_too_large", most=MOST_HEADER_BYTES)
    if values.get(b"content-encoding", "identity").lower() not in ("", "identity"):
        # A small body that unpacks to a large one is judged by nobody's limit.
        raise InputError("content_encoding")
    if b"content-length" in values and b"transfer-encoding" in values:
        raise InputError("header_repeated")
    return Asked(values, values.get(b"host", "").lower())


def refuse_address(path: bytes, query: bytes) -> None:
    """Longer than a list of studies is; or with `_method=DELETE`, which Orthanc takes for a DELETE.

    Raises
    ------
    InputError
        `address_too_long`, `method_override`.
    """
    if len(path) + len(query) > MOST_ADDRESS_BYTES:
        raise InputError("address_too_long", most=MOST_ADDRESS_BYTES)
    if b"method" not in query.lower() and b"%" not in query:
        return
    text = query.decode("latin-1")
    if any(name.lower() == "_method" for name, _ in parse_qsl(text, keep_blank_values=True)):
        raise InputError("method_override")


class Origins:
    """Which hosts and origins are this gateway's own."""

    def __init__(self, config: GatewayConfig) -> None:
        self._names = frozenset((*_LOOPBACK, *config.names, _literal(config.listen)))
        self._schemes = {"https"} if config.tls else {"http"}
        if config.behind_proxy:
            self._schemes = {"http", "https"}

    def require_host(self, asked: Asked, server: tuple[str, int | None] | None) -> None:
        """A foreign name that points at this machine is some other page's.

        Raises
        ------
        AccessError
            `host_unknown`.
        """
        found = _HOST.match(asked.host)
        if found:
            name = found[1]
            # The address the connection came to is nobody's name.
            if name in self._names or (server and name == _literal(server[0])):
                return
        raise AccessError("host_unknown")

    def is_own(self, origin: str, host: str) -> bool:
        """Whether an Origin header names this gateway as it was called."""
        scheme, _, rest = origin.lower().partition("://")
        return scheme in self._schemes and rest == host


def require_same_origin(asked: Asked, origins: Origins, *, unsafe: bool, cookie: bool) -> None:
    """Only pages of this gateway may use a browser's session here.

    Raises
    ------
    AccessError
        `origin_foreign`; `csrf` where nothing tells that it was one of them.
    """
    site = asked.get(b"sec-fetch-site")
    navigates = asked.get(b"sec-fetch-mode") == "navigate" and not unsafe
    if site not in ("", "same-origin", "none") and not navigates:
        raise AccessError("origin_foreign")
    origin = asked.get(b"origin")
    if origin and not origins.is_own(origin, asked.host):
        raise AccessError("origin_foreign")
    if unsafe and cookie and not origin and site != "same-origin":
        raise AccessError("csrf")


def takes_encoding(accepted: str, encoding: str) -> bool:
    """Whether an Accept-Encoding names it, and not with a weight of zero."""
    for one in accepted.split(","):
        name, _, weight = one.partition(";")
        if name.strip().lower() == encoding:
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _literal(address: str) -> str:
    return f"[{address.lower()}]" if ":" in address else address
