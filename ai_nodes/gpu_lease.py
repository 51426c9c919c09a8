"""Memory of a card, leased: jobs of this machine together never take more than a card's budget.

A card's budget is so many files of `UNIT_BYTES` each; who holds the lock of a file holds that much
memory. Locks are the kernel's (flock): they end with the process, however it ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UNIT_BYTES: Final = 256 << 20
"""A card of 80 GB is 320 locks; half of this is lost to rounding on average."""
_POLL_S: Final = 0.05
_held: set[int] = set()
"""Descriptors of this process's locks; a forked child must not keep its parent's lease alive."""
_told_fork = False


@dataclass(frozen=True, slots=True)
class Lease:
    """So many bytes of one card, until `release` or the end of the process."""

    card: str
    bytes: int
    locks: tuple[int, ...]

    def release(self) -> None:
        """Give it back; safe to call twice."""
        for handle in self.locks:
            if handle in _held:
                _held.discard(handle)
                os.close(handle)


def take_lease(
    wanted_bytes: int, cards: Mapping[str, int], folder: Path, *, wait_s: float
) -> Lease | None:
    """Lease memory on the first card that has it free.

    Who came first is served first: while one waits, all who come later wait behind it, so that
    small leases do not keep a large one waiting for ever.

    Parameters
    ----------
    wanted_bytes : int
        Rounded up to whole units.
    cards : mapping of str to int
        Name of each card, the same in every process, to its budget in bytes.
    folder : Path
        On this machine's own disk, the same for all who share its cards.
    wait_s : float
        How long to wait for others to finish.

    Returns
    -------
    Lease or None
        None when no card ever can, or none had it within `wait_s`: compute on the processor.
    """
    units = max(1, math.ceil(wanted_bytes / UNIT_BYTES))
    able = {card: budget // UNIT_BYTES for card, budget in cards.items()}
    able = {card: whole for card, whole in able.items() if whole >= units}
    if not able:
        return None
    _forget_in_children()
    deadline = time.monotonic() + wait_s
    with _head_of_queue(folder, deadline) as first:
        while first:
            for card, whole in able.items():
                locks = _take(folder / card, whole, units)
                if locks:
                    return Lease(card, units * UNIT_BYTES, locks)
            if time.monotonic() >= deadline:
                break
            time.sleep(_POLL_S)
    return None


def leased_bytes(card: str, budget: int, folder: Path) -> int:
    """What of a card's budget is leased at this moment."""
    taken = 0
    for number in range(budget // UNIT_BYTES):
        handle = _locked(folder / card / f"{number:04}")
        if handle is None:
            taken += UNIT_BYTES
        else:
            _close(handle)
    return taken


@contextmanager
def _head_of_queue(folder: Path, deadline: float) -> Iterator[bool]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while (handle := _locked(folder / "queue")) is None:
        if time.monotonic() >= deadline:
            yield False
            return
        time.sleep(_POLL_S)
    try:
        yield True
    finally:
        _close(handle)


def _take(folder: Path, whole: int, units: int) -> tuple[int, ...]:
    """Locks of `units` files of a card, or none at all."""
    folder.mkdir(mode=0o700, exist_ok=True)
    locks: list[int] = []
    for number in range(whole):
        handle = _locked(folder / f"{number:04}")
        if handle is not None:
            locks.append(handle)
        if len(locks) == units:
            return tuple(locks)
    for handle in locks:
        _close(handle)
    return ()


def _locked(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    _held.add(handle)
    return handle


def _close(handle: int) -> None:
    _held.discard(handle)
    os.close(handle)


def _forget_in_children() -> None:
    global _told_fork
    if not _told_fork:
        os.register_at_fork(after_in_child=_forget)
        _told_fork = True


def _forget() -> None:
    # Closing a copy unlocks nothing while the parent has its own.
    for handle in _held:
        os.close(handle)
    _held.clear()


def cards_of_machine(share: float) -> dict[str, int]:
    """Each card that CUDA may use here, by its UUID in CUDA's order, and `share` of its memory.

    Asked of the driver's management library, which makes no CUDA context. Where a machine's cards
    differ, CUDA_DEVICE_ORDER=PCI_BUS_ID makes CUDA count as this library does.
    """
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        if library.nvmlInit_v2() != 0:
            return {}
        try:
            return {
                card: int(total * share)
                for card, total in (_card(library, one) for one in _visible(library))
                if total
            }
        finally:
            library.nvmlShutdown()
    except (OSError, AttributeError):
        return {}


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def _visible(library: ctypes.CDLL) -> list[str]:
    """Numbers or UUIDs of the cards CUDA may use."""
    count = ctypes.c_uint(0)
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(count.value)]
    chosen = []
    for name in (one.strip() for one in named.split(",")):
        # CUDA ignores everything from the first entry that names no card.
        if not ((name.isdigit() and int(name) < count.value) or name.startswith(("GPU-", "MIG-"))):
            break
        chosen.append(name)
    return chosen


def _card(library: ctypes.CDLL, name: str) -> tuple[str, int]:
    handle, memory = ctypes.c_void_p(), _Memory()
    if name.isdigit():
        failed = library.nvmlDeviceGetHandleByIndex_v2(int(name), ctypes.byref(handle))
    else:
        failed = library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle))
    text = ctypes.create_string_buffer(96)
    failed = failed or library.nvmlDeviceGetUUID(handle, text, 96)
    failed = failed or library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return ("", 0) if failed else (text.value.decode("ascii"), int(memory.total))
