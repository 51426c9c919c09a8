"""Who retrieves much waits for their own turns, and keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from dicom_services.api.dicomweb import turns
from dicom_services.api.dicomweb.turns import Turns
from dicom_services.errors import UnavailableError

ANN, BOB = uuid.uuid4(), uuid.uuid4()


def test_one_who_takes_slowly_keeps_nobody_else_waiting():
    async def run() -> list[str]:
        room = Turns(of_one=2, of_all=3)
        done: list[str] = []
        hold = asyncio.Event()

        async def take(user, name, until):
            async with room.of(user):
                done.append(name)
                await until.wait()

        slow = [asyncio.create_task(take(ANN, "slow", hold)) for _ in range(5)]
        await asyncio.sleep(0)
        free = asyncio.Event()
        free.set()
        await asyncio.wait_for(take(BOB, "quick", free), 1.0)
        before = list(done)
        hold.set()
        await asyncio.gather(*slow)
        assert len(done) == 6
        assert not room._users
        return before

    assert sorted(asyncio.run(run())) == ["quick", "slow", "slow"]


def test_a_turn_that_never_comes_is_an_answer(monkeypatch):
    monkeypatch.setattr(turns, "_WAIT_S", 0.01)

    async def run() -> None:
        room = Turns(of_one=1)
        async with room.of(ANN):
            with pytest.raises(UnavailableError, match="orthanc_busy"):
                async with room.of(ANN):
                    pass
            async with room.of(BOB):
                pass
        assert not room._users
        async with room.of(ANN):
            pass

    asyncio.run(run())
