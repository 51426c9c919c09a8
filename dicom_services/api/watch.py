"""Who listens for changes of a study, and the one look at Orthanc's change log for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from dicom_services.api.context import Context, StudyAccess, orthanc_json
from dicom_services.api.study_results import StudyResults
from dicom_services.errors import MissingError, RadloopError, UnavailableError
from dicom_services.log import event

BUSY_S: Final = 0.25
"""Between two looks while something is analysed or arrives."""
IDLE_S: Final = 1.0
_AGAIN_S: Final = 1.0
"""So long after the last look at a study under way it is looked at without a reason: that images
stopped coming, and other things that stand in no log, are seen then."""
_PAGE: Final = 1_000
_FINAL: Final = frozenset({"done", "refused", "failed", "superseded"})
_MOST_KNOWN: Final = 10_000
MOST_STREAMS: Final = 500
MOST_OF_ONE: Final = 30
"""Of one user: more tabs than anybody looks at."""


@dataclass(frozen=True, slots=True)
class News:
    """How a study stands; `number` counts what was told of it since somebody listens."""

    number: int
    version: int
    state: str
    code: str


@dataclass(slots=True, eq=False)
class Listener:
    """One stream: `changed` is set whenever `news` are others, or there will be no more."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    news: News | None = None
    ended: bool = False


@dataclass(slots=True, eq=False)
class _Watched:
    study: StudyAccess
    listeners: set[Listener] = field(default_factory=set)
    news: News | None = None
    busy: bool = True
    due_s: float = 0.0


class Watch:
    """Looks while somebody listens: once a second, four times while something is under way."""

    def __init__(self, context: Context, results: StudyResults) -> None:
        self._context = context
        self._results = results
        self._watched: dict[str, _Watched] = {}
        self._streams: Counter[UUID] = Counter()
        self._study_of: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def require_room(self, user: UUID) -> None:
        """Refuse one stream too many.

        Raises
        ------
        UnavailableError
            `too_many_streams`.
        """
        if self._streams.total() >= MOST_STREAMS or self._streams[user] >= MOST_OF_ONE:
            raise UnavailableError("too_many_streams")

    @contextmanager
    def listen(self, study: StudyAccess, user: UUID) -> Iterator[Listener]:
        """Hear of a study; the first news come at once."""
        self._streams[user] += 1
        watched = self._watched.setdefault(study.orthanc_id, _Watched(study))
        listener = Listener(news=watched.news)
        if listener.news is not None:
            listener.changed.set()
        watched.listeners.add(listener)
        # Whatever is known may be old: nobody may have looked since.
        watched.due_s = 0.0
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_on())
        try:
            yield listener
        finally:
            self._streams[user] -= 1
            # Nobody's zero is kept.
            self._streams += Counter()
            watched.listeners.discard(listener)
            if not watched.listeners and self._watched.get(study.orthanc_id) is watched:
                del self._watched[study.orthanc_id]

    def look_soon(self) -> None:
        """Look now rather than at the end of the pause, for something is about to change."""
        self._wake.set()

    async def _look_on(self) -> None:
        stopping = asyncio.create_task(self._context.stopping.wait())
        try:
            position: int | None = None
            while self._watched and not stopping.done():
                pause_s = IDLE_S
                try:
                    position = await self._look(position)
                    if any(one.busy for one in self._watched.values()):
                        pause_s = BUSY_S
                except RadloopError as error:
                    # Orthanc may be starting again; what changed meanwhile stands in its log.
                    event("events.unavailable", level=logging.WARNING, code=error.code)
                except Exception as error:  # noqa: BLE001 - one odd answer must not end all streams
                    event("events.failed", level=logging.ERROR, error=error)
                await self._pause(stopping, pause_s)
        finally:
            stopping.cancel()
            for watched in [*self._watched.values()]:
                _end(watched)

    async def _pause(self, stopping: asyncio.Task[bool], pause_s: float) -> None:
        waking = asyncio.create_task(self._wake.wait())
        await asyncio.wait((stopping, waking), timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        waking.cancel()
        self._wake.clear()

    async def _look(self, position: int | None) -> int:
        """See what changed since `position`, and look at the studies which that concerns."""
        touched: set[str] = set()
        if position is None:
            # Whoever listens already has the study looked at anyway.
            position = int((await self._changes("last"))["Last"])
        else:
            done = False
            while not done:
                page = await self._changes(f"since={position}&limit={_PAGE}")
                for change in page["Changes"]:
                    touched.add(await self._study(change))
                position, done = max(position, int(page["Last"])), bool(page["Done"])
        now_s = asyncio.get_running_loop().time()
        due = [
            one
            for name, one in self._watched.items()
            if name in touched or (one.due_s <= now_s and (one.busy or one.due_s == 0.0))
        ]
        await asyncio.gather(*(self._refresh(one) for one in due))
        return position

    async def _changes(self, query: str) -> dict[str, Any]:
        page = await orthanc_json(self._context.http, "GET", f"/changes?{query}")
        if not isinstance(page, dict) or "Last" not in page:
            raise UnavailableError("orthanc_broken_answer")
        return page

    async def _study(self, change: dict[str, Any]) -> str:
        """Orthanc's id of the study of a change of a study or series; "" for any other."""
        name, kind = str(change["ID"]), change["ResourceType"]
        if kind == "Study":
            return name
        if kind != "Series":
            return ""
        if name not in self._study_of:
            try:
                series = await orthanc_json(self._context.http, "GET", f"/series/{name}")
            except MissingError:
                # Deleted; whether it was of a watched study, the study itself tells.
                for one in self._watched.values():
                    one.due_s = 0.0
                return ""
            if len(self._study_of) >= _MOST_KNOWN:
                self._study_of.clear()
            self._study_of[name] = str(series["ParentStudy"])
        return self._study_of[name]

    async def _refresh(self, watched: _Watched) -> None:
        try:
            now = await self._results.overview(watched.study)
        except MissingError:
            self._watched.pop(watched.study.orthanc_id, None)
            _end(watched)
            return
        state, code = now.state
        watched.busy = bool(now.view["arriving"]) or state not in _FINAL
        watched.due_s = asyncio.get_running_loop().time() + _AGAIN_S
        old = watched.news
        if old is None or old.version != now.version:
            _tell(watched, News(old.number + 1 if old else 1, now.version, state, code))


def _tell(watched: _Watched, news: News) -> None:
    watched.news = news
    for listener in watched.listeners:
        listener.news = news
        listener.changed.set()


def _end(watched: _Watched) -> None:
    for listener in watched.listeners:
        listener.ended = True
        listener.changed.set()
