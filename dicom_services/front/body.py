"""A data set as it arrives: in memory, or in a scratch file once it is large or memory short."""

from __future__ import annotations

import contextlib
import errno
import mmap
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

IN_MEMORY_BYTES: Final = 32 << 20
"""Of one data set; a CT slice has half a megabyte."""
_ALL_IN_MEMORY_BYTES: Final = 256 << 20
"""Of all at once, however many senders there are."""


class BodyTooLargeError(Exception):
    """More than one instance may have."""


class Room:
    """What all data sets that are under way share: a measure of memory, and a scratch folder.

    Parameters
    ----------
    scratch : Path
    has_disk : callable
        Whether the disk may be used further.
    """

    def __init__(self, scratch: Path, has_disk: Callable[[], bool]) -> None:
        self.scratch = scratch
        self.has_disk = has_disk
        self._left = _ALL_IN_MEMORY_BYTES
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Whether so many bytes more may be kept in memory."""
        with self._lock:
            if self._left < count:
                return False
            self._left -= count
            return True

    def give(self, count: int) -> None:
        """They are needed no more."""
        with self._lock:
            self._left += count


class Body:
    """The data set of one message; its file, if it has one, has no name and is 0600."""

    def __init__(self, room: Room, most_bytes: int) -> None:
        self._room = room
        self._most_bytes = most_bytes
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self.length = 0

    @property
    def in_memory(self) -> bool:
        """Whether it has no file yet."""
        return self._file is None

    def append(self, fragment: memoryview) -> None:
        """Add a fragment.

        Raises
        ------
        BodyTooLargeError
        OSError
            The disk is full, or nearly so.
        """
        self.length += len(fragment)
        if self.length > self._most_bytes:
            raise BodyTooLargeError
        if self._file is None:
            if self.length <= IN_MEMORY_BYTES and self._room.take(len(fragment)):
                self._memory += fragment
                return
            self._file = tempfile.TemporaryFile(dir=self._room.scratch)  # noqa: SIM115 - see close()
            self._write(self._memory)
            self._forget_memory()
        self._write(fragment)

    def _write(self, data: bytearray | memoryview) -> None:
        if not self._room.has_disk():
            raise OSError(errno.ENOSPC, "disk nearly full")
        if self._file is not None:
            self._file.write(data)

    def data(self) -> bytearray | mmap.mmap:
        """The whole of it, to look at."""
        if self._file is None:
            return self._memory
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def close(self) -> None:
        """Give the memory and the file back."""
        if self._map is not None:
            # A view may live a moment longer than its sender; the file goes with the last one.
            with contextlib.suppress(BufferError):
                self._map.close()
            self._map = None
        if self._file is not None:
            self._file.close()
            self._file = None
        self._forget_memory()

    def _forget_memory(self) -> None:
        self._room.give(len(self._memory))
        self._memory = bytearray()
