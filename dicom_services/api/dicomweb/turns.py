"""Retrievals of one user at a time: nobody who takes slowly takes the archive from the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from dicom_services.errors import UnavailableError

OF_ONE_USER: Final = 12
"""Browsers open six connections to one server."""
OF_ALL: Final = 28
"""Of the connections of `upstream`: searches and storing need some."""
_WAIT_S: Final = 20.0


class Turns:
    """Who retrieves now; belongs to one event loop."""

    def __init__(self, of_one: int = OF_ONE_USER, of_all: int = OF_ALL) -> None:
        self._of_one = of_one
        self._all = asyncio.Semaphore(of_all)
        self._users: dict[UUID, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def of(self, user: UUID) -> AsyncIterator[None]:
        """Wait for a turn of this user and have it.

        Raises
        ------
        UnavailableError
            `orthanc_busy` when none comes.
        """
        mine, waiting = self._users.get(user, (asyncio.Semaphore(self._of_one), 0))
        self._users[user] = (mine, waiting + 1)
        try:
            await _acquired(mine)
            try:
                await _acquired(self._all)
                try:
                    yield
                finally:
                    self._all.release()
            finally:
                mine.release()
        finally:
            left = self._users[user][1] - 1
            if left:
                self._users[user] = (mine, left)
            else:
                del self._users[user]


async def _acquired(turn: asyncio.Semaphore) -> None:
    if not turn.locked():
        await turn.acquire()
        return
    try:
        async with asyncio.timeout(_WAIT_S):
            await turn.acquire()
    except TimeoutError:
        raise UnavailableError("orthanc_busy") from None
