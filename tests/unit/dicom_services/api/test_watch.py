"""One look at the change log for everybody who listens, turned by a change log made by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from dicom_services.api import watch
from dicom_services.api.context import StudyAccess
from dicom_services.api.study_results import StudyResults
from dicom_services.api.watch import MOST_OF_ONE, Listener, Watch
from dicom_services.errors import UnavailableError

ONE, OTHER = (StudyAccess(f"1.{name}", name, "", "") for name in ("st1", "st2"))
READER = uuid4()


class Answer:
    def __init__(self, status: int, told: Any) -> None:
        self.status, self.told = status, told

    async def json(self, content_type: object = None) -> Any:
        return json.loads(json.dumps(self.told))


class Archive:
    """Orthanc's change log and two studies of one series each, as an HTTP client."""

    def __init__(self) -> None:
        self.changes: list[dict[str, Any]] = []
        self.views = {
            name: {"state": "done", "code": "", "arriving": False, "series": [], "n": 0}
            for name in ("st1", "st2")
        }
        self.status = 200
        self.asked: list[str] = []

    def change(self, study: str, **view: Any) -> None:
        self.views[study] |= {"n": self.views[study]["n"] + 1, **view}
        self.changes.append({"ID": f"se-{study}", "ResourceType": "Series"})

    @asynccontextmanager
    async def request(self, method: str, path: str, **_: Any) -> AsyncIterator[Answer]:
        self.asked.append(path)
        if self.status != 200:
            yield Answer(self.status, None)
        elif path == "/changes?last":
            yield Answer(200, {"Last": len(self.changes), "Changes": [], "Done": True})
        elif path.startswith("/changes?since="):
            since = int(path.split("=")[1].split("&")[0])
            page = self.changes[since : since + 2]
            last = since + len(page)
            done = last >= len(self.changes)
            yield Answer(200, {"Last": last, "Changes": page, "Done": done})
        elif path.startswith("/series/se-"):
            yield Answer(200, {"ParentStudy": path.removeprefix("/series/se-")})
        elif path.startswith("/radloop/studies/"):
            view = self.views.get(path.rsplit("/", 1)[1])
            yield Answer(200 if view else 404, view)
        elif path.startswith("/studies/"):
            known = path.split("/")[2] in self.views
            yield Answer(200 if known else 404, [])
        else:
            yield Answer(404, None)


class Rig:
    def __init__(self) -> None:
        self.archive = Archive()
        self.context = SimpleNamespace(http=self.archive, stopping=asyncio.Event())
        results = StudyResults(self.archive)  # type: ignore[arg-type] # as much as is needed
        self.watch = Watch(self.context, results)  # type: ignore[arg-type] # as above

    def looks(self) -> int:
        return sum(path.startswith("/changes") for path in self.archive.asked)


async def heard(listener: Listener) -> Listener:
    await asyncio.wait_for(listener.changed.wait(), 5.0)
    listener.changed.clear()
    return listener


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BUSY_S", 0.01)
    monkeypatch.setattr(watch, "IDLE_S", 0.02)


def run(story: Callable[[Rig], Awaitable[None]]) -> None:
    async def play() -> None:
        await story(Rig())

    asyncio.run(play())


def test_news_come_at_once_and_with_every_change_of_the_study() -> None:
    async def story(rig: Rig) -> None:
        with rig.watch.listen(ONE, READER) as listener:
            first = (await heard(listener)).news
            assert first is not None
            assert first.state == "done"
            rig.archive.change("st1", state="running")
            second = (await heard(listener)).news
            assert second is not None
            assert (second.number, second.state) == (2, "running")
            assert second.version != first.version

    run(story)


def test_changes_of_other_studies_disturb_nobody() -> None:
    async def story(rig: Rig) -> None:
        with rig.watch.listen(ONE, READER) as listener:
            await heard(listener)
            before = rig.archive.asked.count("/radloop/studies/st1")
            for _ in range(5):
                rig.archive.change("st2")
            await asyncio.sleep(0.2)
            assert not listener.changed.is_set()
            assert rig.archive.asked.count("/radloop/studies/st1") == before
            assert rig.archive.asked.count("/series/se-st2") == 1

    run(story)


def test_all_listeners_of_all_studies_share_one_look() -> None:
    async def story(rig: Rig) -> None:
        listen = rig.watch.listen
        with (
            listen(ONE, READER) as a,
            listen(ONE, uuid4()) as b,
            listen(OTHER, READER) as c,
        ):
            for one in (a, b, c):
                await heard(one)
            looks = rig.looks()
            await asyncio.sleep(0.2)
            # A look of its own for each would be thirty.
            assert rig.looks() - looks <= 11
            rig.archive.change("st1")
            await heard(a)
            await heard(b)
            assert not c.changed.is_set()

    run(story)


def test_nobody_looks_when_nobody_listens() -> None:
    async def story(rig: Rig) -> None:
        with rig.watch.listen(ONE, READER) as listener:
            await heard(listener)
        await asyncio.sleep(0.1)
        looks = rig.looks()
        await asyncio.sleep(0.1)
        assert rig.looks() == looks
        with rig.watch.listen(ONE, READER) as listener:
            assert (await heard(listener)).news is not None

    run(story)


def test_a_look_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "IDLE_S", 60.0)

    async def story(rig: Rig) -> None:
        with rig.watch.listen(ONE, READER) as listener:
            await heard(listener)
            rig.archive.change("st1")
            rig.watch.look_soon()
            assert (await heard(listener)).news is not None

    run(story)


def test_a_late_listener_hears_what_is_known_and_then_what_is_new() -> None:
    async def story(rig: Rig) -> None:
        with rig.watch.listen(ONE, READER) as early:
            await heard(early)
            rig.archive.change("st1")
            await heard(early)
            with rig.watch.listen(ONE, uuid4()) as late:
                assert (await heard(late)).news == early.news

    run(story)


def test_an_archive_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(watch, "event", lambda name, **_: told.append(name))

    async def story(rig: Rig) -> None:
        with rig.watch.listen(ONE, READER) as listener:
            await heard(listener)
            rig.archive.status = 500
            await asyncio.sleep(0.1)
            rig.archive.status = 200
            rig.archive.change("st1")
            assert (await heard(listener)).news is not None

    run(story)
    assert set(told) == {"events.unavailable"}


def test_lines_of_a_deleted_study_end() -> None:
    async def story(rig: Rig) -> None:
        with rig.watch.listen(ONE, READER) as listener:
            await heard(listener)
            rig.archive.change("st1")
            del rig.archive.views["st1"]
            assert (await heard(listener)).ended

    run(story)


def test_all_lines_end_when_the_gateway_stops() -> None:
    async def story(rig: Rig) -> None:
        with rig.watch.listen(ONE, READER) as a, rig.watch.listen(OTHER, READER) as b:
            await heard(a)
            await heard(b)
            rig.context.stopping.set()
            assert (await heard(a)).ended
            assert (await heard(b)).ended

    run(story)


def test_one_user_has_so_many_lines_and_gets_room_when_one_ends() -> None:
    async def story(rig: Rig) -> None:
        lines = [rig.watch.listen(ONE, READER) for _ in range(MOST_OF_ONE)]
        for one in lines:
            one.__enter__()
        with pytest.raises(UnavailableError, match="too_many_streams"):
            rig.watch.require_room(READER)
        rig.watch.require_room(UUID(int=1))
        lines.pop().__exit__(None, None, None)
        rig.watch.require_room(READER)
        for one in lines:
            one.__exit__(None, None, None)

    run(story)
