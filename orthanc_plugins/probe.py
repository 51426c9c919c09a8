"""Reads stored files in a child process, as one of Orthanc's HTTP threads would, to see it die."""

from __future__ import annotations

import os
import resource
import select
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import orthanc

from orthanc_plugins import stored_files

STACK_BYTES: Final = 80 << 10
"""Orthanc's HTTP threads have 100 kB, of which their own calls take twenty: nested sequences end
this thread at 49 levels, those at 47 to 50."""
FILE_S: Final = 3.0
"""Longer than any decoding of a frame; a reader that hangs is no crash."""
LARGEST_BYTES: Final = 128 << 20
MEMORY_BYTES: Final = 4 << 30
"""More than the copy has at its start; want of memory shall not look like a fault."""
_FAULTS: Final = frozenset(
    (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
)


class Probed(NamedTuple):
    """Which of the files kill a reader, and how many of them were tried in time."""

    deadly: list[Path]
    tried: int


def probe(files: Sequence[Path], within_s: float) -> Probed:
    """Try every file, one child after another death.

    The child is a copy of this Orthanc, with the same libraries and settings, but without its
    network and database; nothing that happens to it happens to the archive.
    """
    until_s = time.monotonic() + within_s
    deadly: list[Path] = []
    at = 0
    while at < len(files) and time.monotonic() < until_s:
        passed, died = _child(files[at:], until_s)
        at += passed
        if died is not None and at < len(files):
            if died:
                deadly.append(files[at])
            at += 1
    return Probed(deadly, at)


def _child(files: Sequence[Path], until_s: float) -> tuple[int, bool | None]:
    """How many passed, and whether the next one was deadly; None where none was tried on."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing of the parent's may run here, whatever happens.
        try:
            _as_child(files, writing)
        finally:
            os._exit(1)
    os.close(writing)
    passed, in_time = 0, True
    try:
        while in_time:
            patience_s = min(FILE_S, until_s - time.monotonic())
            in_time = bool(select.select([reading], [], [], max(patience_s, 0.0))[0])
            if in_time:
                done = os.read(reading, 4096)
                if not done:
                    break
                passed += len(done)
    finally:
        os.close(reading)
        if not in_time:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if not in_time:
        # It may have been in the middle of a good file when the time was over.
        return passed, False if time.monotonic() < until_s else None
    if os.WIFSIGNALED(status):
        return passed, os.WTERMSIG(status) in _FAULTS
    return passed, None if passed >= len(files) else False


def _as_child(files: Sequence[Path], writing: int) -> None:
    # The ports must be free for the next Orthanc even while this one's child still runs.
    kept = 198
    os.dup2(writing, kept)
    os.closerange(3, kept)
    os.closerange(kept + 1, 65_536)
    # A core of this process would hold images.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # If the machine itself runs short, this process goes first.
    Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    threading.stack_size(STACK_BYTES)

    def read_all() -> None:
        for file in files:
            with suppress(Exception):
                _read(file)
            os.write(kept, b".")

    thread = threading.Thread(target=read_all)
    thread.start()
    thread.join()
    os._exit(0)


def _read(file: Path) -> None:
    """What the routes do that parse: tags, and one frame as a preview shows it."""
    with stored_files.raw(file) as mapped:
        if len(mapped) > LARGEST_BYTES:
            return
        data = bytes(mapped)
    instance = orthanc.CreateDicomInstance(data)
    instance.GetInstanceSimplifiedJson()
    instance.GetInstanceJson()
    if instance.HasInstancePixelData():
        instance.GetInstanceDecodedFrame(0)
