"""Two jobs never hold more of a card than its budget, and the dead hold nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ai_nodes.gpu_lease import UNIT_BYTES, cards_of_machine, leased_bytes, take_lease

FORKS = multiprocessing.get_context("fork")
BUDGET = 10 * UNIT_BYTES
CARDS = {"GPU-a": BUDGET}


def take(folder: Path, units: float, wait_s: float = 0.0, cards: dict[str, int] = CARDS) -> Any:
    return take_lease(int(units * UNIT_BYTES), cards, folder, wait_s=wait_s)


def test_a_lease_is_rounded_up_and_given_back(tmp_path: Path) -> None:
    lease = take(tmp_path, 2.5)
    assert (lease.card, lease.bytes) == ("GPU-a", 3 * UNIT_BYTES)
    assert leased_bytes("GPU-a", BUDGET, tmp_path) == 3 * UNIT_BYTES
    lease.release()
    lease.release()
    assert leased_bytes("GPU-a", BUDGET, tmp_path) == 0


def test_what_no_card_has_is_not_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    assert take(tmp_path, 11, wait_s=60.0) is None
    assert take(tmp_path, 1, wait_s=60.0, cards={}) is None
    assert time.monotonic() - started < 30.0


def test_a_full_card_sends_to_the_next_one_and_then_to_the_processor(tmp_path: Path) -> None:
    cards = {"GPU-a": BUDGET, "GPU-b": BUDGET}
    leases = [take(tmp_path, 6, cards=cards) for _ in range(3)]
    assert [one and one.card for one in leases] == ["GPU-a", "GPU-b", None]
    for one in leases[:2]:
        one.release()


def test_one_process_cannot_take_twice_what_it_has(tmp_path: Path) -> None:
    first = take(tmp_path, 7)
    assert take(tmp_path, 4) is None
    second = take(tmp_path, 3)
    assert leased_bytes("GPU-a", BUDGET, tmp_path) == BUDGET
    first.release()
    second.release()


def _hold(folder: Path, units: int, ready: Any) -> None:
    lease = take(folder, units, wait_s=20.0)
    ready.put(lease is not None)
    time.sleep(60.0)


def held_by_another(folder: Path, units: int) -> Any:
    ready = FORKS.SimpleQueue()
    process = FORKS.Process(target=_hold, args=(folder, units, ready))
    process.start()
    assert ready.get()
    return process


def test_a_lease_dies_with_its_process_however_that_ends(tmp_path: Path) -> None:
    process = held_by_another(tmp_path, 8)
    assert take(tmp_path, 3) is None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    lease = take(tmp_path, 10)
    assert lease is not None
    lease.release()


def test_a_child_that_outlives_its_parent_keeps_nothing_of_its_lease(tmp_path: Path) -> None:
    lease = take(tmp_path, 8)
    child = FORKS.Process(target=time.sleep, args=(60.0,))
    child.start()
    lease.release()
    try:
        again = take(tmp_path, 10, wait_s=10.0)
        assert again is not None
        again.release()
    finally:
        child.kill()
        child.join()


def test_a_child_that_ends_frees_nothing_of_its_parent(tmp_path: Path) -> None:
    lease = take(tmp_path, 8)
    child = FORKS.Process(target=int)
    child.start()
    child.join()
    assert take(tmp_path, 3) is None
    lease.release()


def _work(folder: Path, seed: int, told: Any) -> None:
    """Lease again and again; note in a shared file what is held at every moment."""
    most, fell_back = 0, 0
    for turn in range(12):
        units = 1 + (seed * 7 + turn * 3) % 6
        lease = take(folder, units, wait_s=0.5)
        if lease is None:
            fell_back += 1
            continue
        log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND)
        os.write(log, f"+{units}\n".encode())
        time.sleep(0.01)
        most = max(most, leased_bytes("GPU-a", BUDGET, folder))
        os.write(log, f"-{units}\n".encode())
        os.close(log)
        lease.release()
    told.put((most, fell_back))


def test_of_eight_processes_that_lease_at_once_the_sum_never_exceeds_the_budget(
    tmp_path: Path,
) -> None:
    (tmp_path / "log").touch()
    told = FORKS.SimpleQueue()
    many = [FORKS.Process(target=_work, args=(tmp_path, seed, told)) for seed in range(8)]
    for one in many:
        one.start()
    answers = [told.get() for _ in many]
    for one in many:
        one.join()
        assert one.exitcode == 0
    held = highest = 0
    for line in (tmp_path / "log").read_text().split():
        held += int(line)
        highest = max(highest, held)
    assert held == 0
    assert 6 < highest <= 10
    assert all(most <= BUDGET for most, _ in answers)
    assert leased_bytes("GPU-a", BUDGET, tmp_path) == 0


def _large(folder: Path, told: Any) -> None:
    lease = take(folder, 10, wait_s=30.0)
    told.put(lease is not None)


def test_a_large_lease_is_not_kept_waiting_by_small_ones_that_came_later(tmp_path: Path) -> None:
    first = take(tmp_path, 2)
    told = FORKS.SimpleQueue()
    large = FORKS.Process(target=_large, args=(tmp_path, told))
    large.start()
    deadline = time.monotonic() + 20.0
    # Once it stands at the head of the queue, one who would fit has to wait behind it.
    while (small := take(tmp_path, 1)) is not None:
        small.release()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.release()
    assert told.get()
    large.join()


def test_a_machine_without_a_driver_has_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cards_of_machine(0.85) == {}
