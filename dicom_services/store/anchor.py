"""The anchor of the audit: how far it reached, in a file of its own, so that a cut tail shows."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LONGEST: Final = 4096
EMPTY_CHAIN: Final = "0" * 64
"""What the first row is chained to."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last row known to have been written; `count` rows come before its end."""

    count: int
    chain: str


class AnchorFile:
    """A small signed file, replaced as a whole; several processes may hold it."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._key = key

    def read(self) -> Anchor | None:
        """What it says; None where it is missing or not ours.

        Raises
        ------
        OSError
            When it cannot be read now.
        """
        try:
            with self._path.open("rb") as file:
                told = json.loads(file.read(_LONGEST))
            anchor = Anchor(int(told["count"]), str(told["chain"]))
            good = hmac.compare_digest(str(told["mac"]), self._mac(anchor))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None
        return anchor if good else None

    def write(self, anchor: Anchor) -> None:
        """Replace it; durable when this returns.

        Raises
        ------
        OSError
            When there is no room; then the old one stands.
        """
        told = {"count": anchor.count, "chain": anchor.chain, "mac": self._mac(anchor)}
        beside = self._path.with_name(f".{self._path.name}.new")
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, json.dumps(told).encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Only one process at a time reads and replaces it."""
        handle = os.open(
            self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600
        )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _mac(self, anchor: Anchor) -> str:
        said = f"radloop audit anchor\0{anchor.count}\0{anchor.chain}".encode()
        return hmac.new(self._key, said, hashlib.sha256).hexdigest()
