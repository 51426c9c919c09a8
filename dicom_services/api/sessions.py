"""Who asks: the cookie's or the token's owner, asked of the database at most once a second."""

from __future__ import annotations

import asyncio
import time
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
        self._asking: dict[tuple[str, str], asyncio.Task[Principal | None]] = {}
        self._ended: set[tuple[str, str]] = set()

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
        mine = [
            value.strip()
            for name, _, value in (one.partition("=") for one in asked.get(b"cookie").split(";"))
            if name.strip() == self._cookie
        ]
        return mine[0] if len(mine) == 1 else ""

    def forget(self, cookie: str) -> None:
        """Ask the database next time, for the session ended here."""
        key = ("cookie", cookie)
        if len(self._ended) >= _MOST:
            self._ended.clear()
        # For what is being asked at this moment.
        self._ended.add(key)
        self._known.pop(key, None)

    async def _ask(self, kind: str, value: str) -> Principal | None:
        now = time.monotonic()
        until, known = self._known.get((kind, value), (0.0, None))
        if now < until:
            return known
        asking = self._asking.get((kind, value))
        if asking is None:
            # A viewer asks for a hundred frames at once: one of them asks for all.
            asking = asyncio.create_task(self._look_up(kind, value))
            self._asking[kind, value] = asking
            asking.add_done_callback(lambda _: self._asking.pop((kind, value), None))
        return await asyncio.shield(asking)

    async def _look_up(self, kind: str, value: str) -> Principal | None:
        begun = time.monotonic()
        ask = self._accounts.session if kind == "cookie" else self._accounts.bearer
        found = await asyncio.to_thread(ask, value)
        if found is not None and (kind, value) not in self._ended:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[kind, value] = (begun + _TRUSTED_S, found)
        return found
