"""A data set as it arrives: in memory, and in a scratch file once it is large."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import IO, Final

IN_MEMORY_BYTES: Final = 32 << 20
"""Sixteen associations at once stay below half a gigabyte."""


class BodyTooLargeError(Exception):
    """More than one instance may have."""


class Body:
    """The data set of one message; its file, if it has one, has no name and is 0600."""

    def __init__(self, scratch: Path, most_bytes: int) -> None:
        self._scratch = scratch
        self._most_bytes = most_bytes
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self.length = 0

    def append(self, fragment: memoryview) -> None:
        """Add a fragment.

        Raises
        ------
        BodyTooLargeError
        OSError
            The scratch folder is full.
        """
        self.length += len(fragment)
        if self.length > self._most_bytes:
            raise BodyTooLargeError
        if self._file is None and self.length > IN_MEMORY_BYTES:
            self._file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - close() closes it
            self._file.write(self._memory)
            self._memory = bytearray()
        if self._file is None:
            self._memory += fragment
        else:
            self._file.write(fragment)

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
            self._map.close()
        if self._file is not None:
            self._file.close()
        self._memory = bytearray()
