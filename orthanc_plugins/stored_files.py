"""Files in Orthanc's storage folder, read from the disk as they lie, parsed by nothing."""

from __future__ import annotations

import heapq
import mmap
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
FOLDERS: Final = 65_536
"""Orthanc files a body under the first two bytes of its name."""


class Storage:
    """The folder in which Orthanc keeps one file an attachment, named by a random UUID."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, uuid: str) -> Path:
        """Where a file lies.

        Raises
        ------
        ValueError
            When that is no name of a file here.
        """
        if not UUID.match(uuid):
            raise ValueError("no UUID")
        return self.folder / uuid[:2] / uuid[2:4] / uuid

    def in_folder(self, number: int) -> list[str]:
        """Names of the files in one of FOLDERS."""
        name = f"{number:04x}"
        try:
            with os.scandir(self.folder / name[:2] / name[2:]) as entries:
                return [entry.name for entry in entries if UUID.match(entry.name)]
        except OSError:
            return []

    def last_touched(self, count: int, within_s: float) -> list[str]:
        """The files last written or read, newest first, as far as they are seen in that time.

        Most file systems note the first reading after a writing, and one a day: whatever was read
        when Orthanc crashed is among the first. A day's newer files come before it otherwise.
        """
        until_s = time.monotonic() + within_s
        newest = heapq.nlargest(count, self._dated(until_s))
        return [name for _, name in newest]

    def _dated(self, until_s: float) -> Iterator[tuple[float, str]]:
        for number in self._folders(until_s):
            if time.monotonic() > until_s:
                return
            name = f"{number:04x}"
            # A folder that is not there, or a file that has gone meanwhile.
            with suppress(OSError), os.scandir(self.folder / name[:2] / name[2:]) as entries:
                for entry in entries:
                    if UUID.match(entry.name):
                        found = entry.stat(follow_symlinks=False)
                        yield max(found.st_atime, found.st_mtime), entry.name

    def _folders(self, until_s: float) -> list[int]:
        """Those that are seen in half of the time, the last changed first."""
        half_s = (until_s - time.monotonic()) / 2
        dated: list[tuple[float, int]] = []
        with suppress(OSError), os.scandir(self.folder) as outer:
            for one in outer:
                if time.monotonic() > until_s - half_s:
                    break
                if not re.fullmatch("[0-9a-f]{2}", one.name):
                    continue
                with suppress(OSError), os.scandir(one.path) as inner:
                    for two in inner:
                        if re.fullmatch("[0-9a-f]{2}", two.name):
                            changed = two.stat(follow_symlinks=False).st_mtime
                            dated.append((changed, int(one.name + two.name, 16)))
        return [number for _, number in sorted(dated, reverse=True)]


@contextmanager
def raw(path: Path) -> Iterator[mmap.mmap | bytes]:
    """The bytes of a file; of a large one only what is looked at is read.

    Raises
    ------
    OSError
        When it is not there.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        # Our looking must not count as the reading at which Orthanc crashed.
        file = os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        file = os.open(path, flags)
    try:
        if os.fstat(file).st_size == 0:
            yield b""
            return
        with mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapped:
            yield mapped
    finally:
        os.close(file)


def sop_instance_uid(data: mmap.mmap | bytes) -> bytes:
    """What the file meta information names (PS3.10 7.1); b"" where it names none."""
    position = 132
    for _ in range(16):
        head = bytes(data[position : position + 12])
        if len(head) < 12 or head[:2] != b"\2\0":
            break
        is_long = head[4:6] in (b"OB", b"UN")
        length = int.from_bytes(head[8:12] if is_long else head[6:8], "little")
        body = position + (12 if is_long else 8)
        if head[2:4] == b"\3\0":
            return bytes(data[body : body + min(length, 64)])
        position = body + length
    return b""
