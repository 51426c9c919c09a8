"""What is done to the stack: each fault hurts one place, lifts itself again, says what it hit."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import redis

from dicom_services.errors import RadloopError
from dicom_services.supervision import Supervisor
from tests.chaos.link import Mode
from tests.chaos.rig import Rig, children, gone, supervisorctl

Facts = dict[str, Any]
Fault = Callable[[Rig, random.Random], Facts | None]
"""What was hit, or None where there was nothing to hit."""

_TARGET_S: Final = 12.0
"""How long a job to hit is waited for."""
_STOP_S: Final = 30.0


def _kill(name: str, number: signal.Signals) -> Fault:
    def fault(rig: Rig, draw: random.Random) -> Facts | None:
        pid = rig.pid(name)
        if not pid:
            return None
        os.kill(pid, number)
        return {"gone": gone(pid, _STOP_S)}

    return fault


def _kill_worker(rig: Rig, draw: random.Random) -> Facts | None:
    workers = rig.workers()
    if not workers:
        return None
    pid = draw.choice(workers)
    os.kill(pid, signal.SIGKILL)
    return {"gone": gone(pid, _STOP_S)}


def _kill_horse(rig: Rig, draw: random.Random) -> Facts | None:
    for horses in _looking(rig.horses, every_s=0.02):
        time.sleep(draw.uniform(0.0, 0.4))
        return _killed(draw.choice(horses))
    return None


def _kill_worker_and_horse(rig: Rig, draw: random.Random) -> Facts | None:
    for horses in _looking(rig.horses, every_s=0.02):
        horse = draw.choice(horses)
        parents = [worker for worker in rig.workers() if horse in children(worker)]
        for pid in (*parents, horse):
            _killed(pid)
        return {"processes": len(parents) + 1}
    return None


def _kill_decoder(rig: Rig, draw: random.Random) -> Facts | None:
    def decoders() -> list[int]:
        horses = [child for worker in workers for child in children(worker)]
        return [child for horse in horses for child in children(horse)]

    workers = rig.workers()
    for found in _looking(decoders, every_s=0.002):
        return _killed(found[0])
    return None


def _kill_while_storing(victim: str) -> Fault:
    """Between the first byte of the results and the word that they are there."""

    def fault(rig: Rig, draw: random.Random) -> Facts | None:
        def storing() -> list[Any]:
            try:
                jobs = orthanc.get_json("/radloop/jobs", state="running", limit=5)
            except RadloopError:
                return []
            return [job for job in jobs if job["stage"] == "storing"]

        with rig.orthanc() as orthanc:
            for _ in _looking(storing, every_s=0.005):
                time.sleep(draw.uniform(0.0, 0.05))
                pids = rig.horses() if victim == "horse" else [rig.pid(victim)]
                return _killed(pids[0]) if pids and pids[0] else None
        return None

    return fault


def _restart(name: str) -> Fault:
    def fault(rig: Rig, draw: random.Random) -> Facts | None:
        if not any(known in (name, f"{name}_0") for known in rig.processes()):
            return None
        Supervisor(rig.folder).restart(name)
        return {}

    return fault


def _freeze(name: str, least_s: float, most_s: float) -> Fault:
    def fault(rig: Rig, draw: random.Random) -> Facts | None:
        pid = rig.pid(name)
        if not pid:
            return None
        os.kill(pid, signal.SIGSTOP)
        try:
            seconds = _pause(draw, least_s, most_s)
        finally:
            os.kill(pid, signal.SIGCONT)
        return {"held_s": seconds}

    return fault


def _stop_redis(rig: Rig, draw: random.Random) -> Facts | None:
    supervisorctl(rig.folder, "stop", "redis")
    try:
        seconds = _pause(draw, 5.0, 20.0)
    finally:
        supervisorctl(rig.folder, "start", "redis")
    return {"held_s": seconds}


def _delete_queue(rig: Rig, draw: random.Random) -> Facts | None:
    """Redis forgets every job; FLUSHALL itself is denied to everybody."""
    with rig.redis() as connection:
        try:
            keys = list(connection.scan_iter("rq:*", count=1000))
            return {"keys": connection.delete(*keys) if keys else 0}
        except redis.RedisError:
            return None


def _fill(disk: str) -> Fault:
    def fault(rig: Rig, draw: random.Random) -> Facts | None:
        held = rig.disks.get(disk)
        if held is None:
            return None
        try:
            megabytes = held.fill() >> 20
            seconds = _pause(draw, 3.0, 8.0)
        finally:
            held.free()
        return {"held_s": seconds, "megabytes": megabytes}

    return fault


def _hurt_link(name: str, mode: Mode, least_s: float, most_s: float) -> Fault:
    def fault(rig: Rig, draw: random.Random) -> Facts | None:
        link = rig.links[name]
        before = link.resets, link.passed_bytes
        link.set_mode(mode)
        try:
            seconds = _pause(draw, least_s, most_s)
        finally:
            if mode == "silent" and draw.random() < 0.5:
                # Whoever held the connection has forgotten it.
                link.reset_all()
            link.set_mode("open")
        resets, passed = link.resets - before[0], link.passed_bytes - before[1]
        return {"held_s": seconds, "resets": resets, "bytes": passed}

    return fault


def _killed(pid: int) -> Facts:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return {"gone": True, "late": True}
    return {"gone": gone(pid, _STOP_S)}


def _looking(look: Callable[[], list[Any]], every_s: float) -> Iterator[list[Any]]:
    """What `look` found first; nothing where it found nothing in time."""
    end = time.monotonic() + _TARGET_S
    while time.monotonic() < end:
        found = look()
        if found:
            yield found
            return
        time.sleep(every_s)


def _pause(draw: random.Random, least_s: float, most_s: float) -> float:
    seconds = round(draw.uniform(least_s, most_s), 2)
    time.sleep(seconds)
    return seconds


FAULTS: Final[dict[str, tuple[int, Fault]]] = {
    "orthanc_kill": (2, _kill("orthanc", signal.SIGKILL)),
    "orthanc_kill_storing": (2, _kill_while_storing("orthanc")),
    "orthanc_crash": (1, _kill("orthanc", signal.SIGSEGV)),
    "orthanc_term": (2, _kill("orthanc", signal.SIGTERM)),
    "orthanc_restart": (1, _restart("orthanc")),
    "orthanc_frozen": (1, _freeze("orthanc", 3.0, 8.0)),
    "front_kill": (2, _kill("front", signal.SIGKILL)),
    "front_term": (1, _kill("front", signal.SIGTERM)),
    "front_restart": (1, _restart("front")),
    "redis_kill": (2, _kill("redis", signal.SIGKILL)),
    "redis_restart": (1, _restart("redis")),
    "redis_frozen": (1, _freeze("redis", 5.0, 20.0)),
    "redis_stopped": (1, _stop_redis),
    "queue_deleted": (2, _delete_queue),
    "worker_kill": (2, _kill_worker),
    "worker_restart": (1, _restart("worker")),
    "worker_and_horse_kill": (1, _kill_worker_and_horse),
    "horse_kill": (2, _kill_horse),
    "horse_kill_storing": (2, _kill_while_storing("horse")),
    "decoder_kill": (2, _kill_decoder),
    "disk_full_home": (1, _fill("home")),
    "disk_full_orthanc": (2, _fill("orthanc")),
    "disk_full_redis": (1, _fill("redis")),
    "disk_full_scratch": (1, _fill("scratch")),
    "dicom_slow": (1, _hurt_link("dicom", "slow", 3.0, 8.0)),
    "dicom_cut": (2, _hurt_link("dicom", "cut", 2.0, 6.0)),
    "dicom_silent": (1, _hurt_link("dicom", "silent", 4.0, 12.0)),
    "http_slow": (1, _hurt_link("http", "slow", 3.0, 8.0)),
    "http_cut": (2, _hurt_link("http", "cut", 2.0, 6.0)),
    "http_silent": (1, _hurt_link("http", "silent", 4.0, 12.0)),
    "redis_slow": (1, _hurt_link("redis", "slow", 3.0, 8.0)),
    "redis_cut": (1, _hurt_link("redis", "cut", 2.0, 6.0)),
    "redis_silent": (1, _hurt_link("redis", "silent", 4.0, 12.0)),
}
"""Each fault by name, with how many of it lie in one deck."""
_SHARE: Final = {"dicom": 2.0, "front": 2.0, "orthanc": 1.5, "disk": 1.5}
_LEAST_SHARE: Final = 0.5


def share(name: str, names: tuple[str, ...] = ()) -> float:
    """How many studies come with a fault, 1 on average; more where it hits what is being sent."""
    cards = _cards(names)
    return _share(name) * len(cards) / sum(_share(card) for card in cards)


def _share(name: str) -> float:
    return _SHARE.get(name.partition("_")[0], _LEAST_SHARE)


def _cards(names: tuple[str, ...]) -> list[str]:
    if names:
        return list(names)
    return [name for name, (count, _) in FAULTS.items() for _ in range(count)]


def deck(draw: random.Random, names: tuple[str, ...] = ()) -> Iterator[str]:
    """Names of faults without end: whole decks, shuffled, so that each has its share."""
    cards = _cards(names)
    while True:
        draw.shuffle(cards)
        yield from cards
