"""What has to be remembered of crashes from one Orthanc to the next, in one small file."""

from __future__ import annotations

import json
import os
import secrets
import threading
from pathlib import Path
from typing import Any, Final, NamedTuple

MOST_STRIKES: Final = 1_000


class Removal(NamedTuple):
    """An instance whose body is in quarantine and which the index still has to forget.

    `file` is the name of the body, `instance` the Orthanc id; "" where it is not known yet.
    """

    file: str
    instance: str
    is_poison: bool


class Notes:
    """Strikes by instance, unfinished removals, and how far the last search came.

    Every change is on the disk before the method returns; threads may share it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._strikes: dict[str, int] = {}
        self._removals: list[Removal] = []
        self._searched = 0
        self._recall()

    @property
    def removals(self) -> tuple[Removal, ...]:
        """Those that are not finished."""
        return tuple(self._removals)

    @property
    def searched(self) -> int:
        """How many of the files last touched were tried since a cause was last found."""
        return self._searched

    def strikes(self, instance: str) -> int:
        """Crashes in a row while this instance was read."""
        return self._strikes.get(instance, 0)

    def strike(self, instance: str, times: int = 1) -> int:
        """Count it again; how often by now."""
        with self._lock:
            # At the end, because the first are forgotten first.
            self._strikes[instance] = self._strikes.pop(instance, 0) + times
            for forgotten in list(self._strikes)[:-MOST_STRIKES]:
                del self._strikes[forgotten]
            self._save()
            return self._strikes[instance]

    def acquit(self, instance: str) -> None:
        """A reading of this instance ended well, or it is gone."""
        if instance in self._strikes:
            with self._lock:
                self._strikes.pop(instance, None)
                self._save()

    def remove_later(self, removal: Removal) -> None:
        """Remember an unfinished removal."""
        with self._lock:
            if removal not in self._removals:
                self._removals.append(removal)
                self._save()

    def removed(self, removal: Removal) -> None:
        """Forget a finished one."""
        with self._lock:
            if removal in self._removals:
                self._removals.remove(removal)
                self._save()

    def search_from(self, searched: int) -> None:
        """Remember how far a search came."""
        with self._lock:
            if searched != self._searched:
                self._searched = searched
                self._save()

    def _save(self) -> None:
        told = {
            "version": 1,
            "strikes": self._strikes,
            "removals": self._removals,
            "searched": self._searched,
        }
        beside = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, 0o600), "w", encoding="ascii") as file:
            json.dump(told, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)

    def _recall(self) -> None:
        try:
            told: Any = json.loads(self._path.read_text("ascii"))
            strikes = {str(name): int(count) for name, count in told["strikes"].items()}
            removals = [
                Removal(str(file), str(instance), bool(is_poison))
                for file, instance, is_poison in told["removals"]
            ]
            searched = int(told["searched"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return
        self._strikes, self._removals, self._searched = strikes, removals, searched
