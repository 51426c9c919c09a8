"""A forked process with limits: whatever hostile bytes do in it, only it dies."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from dicom_services.errors import InputError
from dicom_services.log import place

Send = Callable[[Any], None]
"""Hands one JSON value to the parent."""

_LARGEST_MESSAGE: Final = 64 << 20
_OPEN_FILES: Final = 64
_PR_SET_PDEATHSIG: Final = 1
_GRACE_S: Final = 2.0
_IMPORTS_S: Final = 10.0
"""No import takes longer, but for one that itself waits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use; it can raise its first limits to the last ones with `allow`.

    Parameters
    ----------
    memory_bytes, last_memory_bytes : int
        Address space beyond what the parent maps at the fork: numba and others reserve much.
    cpu_s, last_cpu_s : int
        Processor time.
    wall_s : float
        Time on the clock, after which the parent ends it.
    """

    memory_bytes: int
    last_memory_bytes: int
    cpu_s: int
    last_cpu_s: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class Child:
    """A running child: `messages` must be read to their end, or `end` called."""

    pid: int
    reader: int
    deadline: float
    own_group: bool

    def messages(self) -> Iterator[Any]:
        """Yield the JSON values the child sends, until it is done.

        Raises
        ------
        InputError
            As raised in the child, by code and facts. `decoder_died` when it was ended: by a
            signal (fact `signal`), or for want of memory or time or by an exception that is not
            ours (fact `reason`).
        """
        last: dict[str, Any] | None = None
        late = ended = False
        try:
            for message in self._lines():
                if "value" in message:
                    yield message["value"]
                else:
                    last = message
            ended = True
        except TimeoutError:
            late = True
        finally:
            status = self.end(patient=ended)
        if late:
            raise InputError("decoder_died", reason="time")
        if last is None:
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            raise InputError("decoder_died", signal=number)
        if "code" in last:
            raise InputError(last["code"], **last["facts"])

    def _lines(self) -> Iterator[dict[str, Any]]:
        pending = bytearray()
        while True:
            left = self.deadline - time.monotonic()
            ready, _, _ = select.select([self.reader], [], [], max(0.0, left))
            if not ready:
                raise TimeoutError
            piece = os.read(self.reader, 1 << 16)
            if not piece:
                return
            # JSON escapes line ends, so each line is one message.
            start = len(pending)
            pending += piece
            while (cut := pending.find(b"\n", start)) >= 0:
                yield json.loads(pending[:cut])
                del pending[: cut + 1]
                start = 0
            if len(pending) > _LARGEST_MESSAGE:
                raise InputError("decoder_died", reason="message")

    def end(self, *, patient: bool = False) -> int:
        """End the child and its own children; the status it left. Safe to call twice."""
        with contextlib.suppress(OSError):
            os.close(self.reader)
        with contextlib.suppress(ChildProcessError):
            deadline = time.monotonic() + (_GRACE_S if patient else 0.0)
            # Not reaped yet, so that its number cannot be another process's when it is killed.
            look = os.WEXITED | os.WNOWAIT | os.WNOHANG
            while os.waitid(os.P_PID, self.pid, look) is None and time.monotonic() < deadline:
                time.sleep(0.0005)
            with contextlib.suppress(ProcessLookupError):
                if self.own_group:
                    os.killpg(self.pid, signal.SIGKILL)
                else:
                    os.kill(self.pid, signal.SIGKILL)
            return os.waitpid(self.pid, 0)[1]
        return 0


def start_child(
    work: Callable[[Send], None],
    limits: Limits,
    *,
    keep: Sequence[int] = (),
    own_group: bool = True,
) -> Child:
    """Run `work` in a forked process.

    Parameters
    ----------
    work : callable
        Has everything the parent has in memory; is given a function that sends to the parent.
    limits : Limits
    keep : sequence of int
        File descriptors the child keeps. All others are closed: no socket or database of the
        parent is within reach of what is decoded.
    own_group : bool
        False for a child of a child, which is then ended together with it.
    """
    reader, writer = os.pipe()
    _await_imports()
    pid = os.fork()
    if pid == 0:
        _be_child(work, limits, writer, keep, own_group)
    os.close(writer)
    if own_group:
        # Here and in the child: whoever comes first, it holds before either goes on.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
    return Child(pid, reader, time.monotonic() + limits.wall_s, own_group)


def _await_imports() -> None:
    """Wait while other threads import: what they hold would be held in the child for ever."""
    locks = getattr(importlib._bootstrap, "_module_locks", {})
    deadline = time.monotonic() + _IMPORTS_S
    while time.monotonic() < deadline:
        held = [lock() for lock in list(locks.values())]
        owners = {getattr(lock, "owner", None) for lock in held if lock is not None}
        if owners <= {None, threading.get_ident()}:
            return
        time.sleep(0.002)


def _be_child(
    work: Callable[[Send], None],
    limits: Limits,
    writer: int,
    keep: Sequence[int],
    own_group: bool,
) -> NoReturn:
    try:
        _die_with_parent()
        if own_group:
            os.setpgid(0, 0)
        _close_all_but({writer, *keep})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)
        gc.freeze()
        _limit(limits)
        _report(work, writer)
    finally:
        # Never back into the parent's code, its exit handlers or its buffers.
        os._exit(1)


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, for then nobody keeps its time."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _report(work: Callable[[Send], None], writer: int) -> None:
    def send(message: dict[str, Any]) -> None:
        line = memoryview(json.dumps(message).encode() + b"\n")
        while line:
            line = line[os.write(writer, line) :]

    try:
        work(lambda value: send({"value": value}))
        send({"done": True})
    except InputError as error:
        send({"code": error.code, "facts": error.facts})
    except MemoryError:
        _raise_all()
        send({"code": "decoder_died", "facts": {"reason": "memory"}})
    except BaseException as error:  # noqa: BLE001 - a decoder's Rust panic is no Exception
        where = place(error)
        send({"code": "decoder_died", "facts": {"reason": "exception", "where": where}})
    os._exit(0)


def _close_all_but(kept: set[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        # Decoders print to standard error, and may quote what they read.
        os.dup2(nothing, standard)
    start = 3
    for fd in sorted(kept):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, max(start, os.sysconf("SC_OPEN_MAX")))


def _limit(limits: Limits) -> None:
    mapped = _mapped_bytes()
    _set(resource.RLIMIT_AS, mapped + limits.memory_bytes, mapped + limits.last_memory_bytes)
    spent = int(time.process_time()) + 1
    # The last limit kills without a name; a second earlier, SIGXCPU says what it was.
    _set(resource.RLIMIT_CPU, spent + limits.cpu_s, spent + limits.last_cpu_s + 1)
    _set(resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES)
    _set(resource.RLIMIT_CORE, 0, 0)


def allow(*, memory_bytes: int, cpu_s: int) -> None:
    """Raise the limits of this child to what it uses now and this much more.

    It stays within the last limits it was started with.
    """
    _set(resource.RLIMIT_AS, _mapped_bytes() + memory_bytes)
    _set(resource.RLIMIT_CPU, int(time.process_time()) + 1 + cpu_s)


def _raise_all() -> None:
    _set(resource.RLIMIT_AS, resource.getrlimit(resource.RLIMIT_AS)[1])


def _set(kind: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(kind)[1]
    hard = ceiling if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        hard = ceiling if hard == resource.RLIM_INFINITY else min(hard, ceiling)
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(kind, (soft, hard))


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
