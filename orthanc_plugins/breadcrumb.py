"""Which stored instance is being read just now, kept so that it is known after a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

_LENGTH: Final = 128


class Crumb(NamedTuple):
    """An instance, by its Orthanc id and by its file in the storage folder."""

    instance: str
    file: str


class Breadcrumb:
    """One small file, rewritten in place: what was written outlives the process without a sync.

    Every read of Orthanc's holds Python's lock until it ends, so there is never more than one.
    """

    def __init__(self, path: Path) -> None:
        self.left = _read(path)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._write("")

    @contextmanager
    def at(self, crumb: Crumb) -> Iterator[None]:
        """While this instance is read; an exception ends the reading as well as success does."""
        self._write(json.dumps(crumb))
        try:
            yield
        finally:
            self._write("")

    def _write(self, text: str) -> None:
        os.pwrite(self._file, text.encode("ascii").ljust(_LENGTH), 0)


def _read(path: Path) -> Crumb | None:
    """What an earlier process left; None where it ended between two reads."""
    try:
        told: Any = json.loads(path.read_text("ascii"))
        instance, file = told
    except (OSError, ValueError, TypeError):
        return None
    return Crumb(str(instance), str(file))
