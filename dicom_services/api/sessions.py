"""Who asks: the cookie's or the token's owner, asked of the database at most once a second."""

from __future__ import annotations

import asyncio
import time
from http.cookies import CookieError, SimpleCookie
from typing import Final

from dicom_services.access.principal import Principal
from dicom_services.api.requests import Asked
from dicom_services.errors import AccessError
from dicom_services.store.accounts import Accounts

COOKIE: Final = "radloop"
# The prefix makes browsers refuse it from anything but this host, by https, for every path.
SECURE_COOKIE: Final = "__Host-radloop"
# As long as a session lives on after it was ended on another machine.
_TRUSTED_S: Final = 1.0
_MOST: Final = 10_000


def cookie_name(*, secure: bool) -> str:
    """What the session's cookie is called."""
    return SECURE_COOKIE if secure else COOKIE


class Sessions:
    """Principals by cookie or token, each remembered for a second."""

    def __init__(self, accounts: Accounts, *, secure: bool) -> None:
        self._accounts = accounts
        self._cookie = cookie_name(secure=secure)
        self._known: dict[tuple[str, str], tuple[float, Principal | None]] = {}

    async def caller(self, asked: Asked) -> Principal | None:
        """Who asks; None for nobody.

        Raises
        ------
        AccessError
            `token_refused`.
        UnavailableError
            `database_unavailable`.
        """
        shown = asked.get(b"authorization")
        if shown:
            scheme, _, token = shown.partition(" ")
            if scheme.lower() != "bearer":
                raise AccessError("token_refused")
            return await self._ask("token", token.strip())
        value = self.cookie(asked)
        return await self._ask("cookie", value) if value else None

    def cookie(self, asked: Asked) -> str:
        """The session's cookie, "" without one; two of that name are none."""
        text = asked.get(b"cookie")
        if self._cookie not in text or text.count(f"{self._cookie}=") != 1:
            return ""
        try:
            found = SimpleCookie(text).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def forget(self, cookie: str) -> None:
        """Ask the database next time, for the session ended here."""
        self._known.pop(("cookie", cookie), None)

    async def _ask(self, kind: str, value: str) -> Principal | None:
        now = time.monotonic()
        until, known = self._known.get((kind, value), (0.0, None))
        if now < until:
            return known
        ask = self._accounts.session if kind == "cookie" else self._accounts.bearer
        found = await asyncio.to_thread(ask, value)
        if found is not None:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[kind, value] = (now + _TRUSTED_S, found)
        return found
