"""Goes through what is stored, little by little, for instances that may end a reader."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from dicom_services.gate import refusal_of_file
from orthanc_plugins import stored_files
from orthanc_plugins.door import ClosedError
from orthanc_plugins.poison import Poison, Removed
from orthanc_plugins.probe import probe

SHARE: Final = 0.2
"""Of one processor core, while others want Python's lock."""
PROBED: Final = 2_000
"""After a crash that nothing explains: so many of the files last touched are also read once."""
BATCH: Final = 20
PROBE_S: Final = 10.0
_SAVE_S: Final = 5.0
_PACKED: Final = b"\x1f\x8b\x08"


class Sweep:
    """One thread that works off the storage folder; where it stands outlives a restart.

    The gate judges every file. What it refuses is read once in a child process, and taken away if
    it is nested too deeply or kills that child; else it is only counted, for it was stored before.
    """

    def __init__(
        self, poison: Poison, path: Path, removed: Removed, log: Callable[[str], None]
    ) -> None:
        self._poison = poison
        self._path = path
        self._removed = removed
        self._log = log
        self._asked = threading.Event()
        # Folders of the storage are numbered; all of them means that nothing is left to do.
        self._next = stored_files.FOLDERS
        self._files = 0
        self._taken = 0
        self._suspect: Counter[str] = Counter()
        self._recall()

    def begin(self) -> None:
        """Start the thread; it goes on where it stood."""
        if self._poison.unexplained or self._next < stored_files.FOLDERS:
            self._asked.set()
        threading.Thread(target=self._serve, name="radloop-sweep", daemon=True).start()

    def ask(self) -> None:
        """Go through everything from the start."""
        self._next, self._files, self._taken = 0, 0, 0
        self._suspect.clear()
        self._asked.set()

    def view(self) -> dict[str, Any]:
        """How it stands: share of the storage that is done, files, what was found."""
        return {
            "running": self._asked.is_set(),
            "percent": round(100 * self._next / stored_files.FOLDERS),
            "files": self._files,
            "quarantined": self._taken,
            "suspect": dict(self._suspect),
        }

    def _serve(self) -> None:
        while True:
            self._asked.wait()
            try:
                if self._poison.unexplained:
                    self._poison.unexplained = False
                    self._try_the_last()
                    if self._next >= stored_files.FOLDERS:
                        self.ask()
                self.work()
            except ClosedError:
                return
            except BaseException as error:  # noqa: BLE001 - nothing may cross into Orthanc
                self._log(f"radloop: sweep {type(error).__name__}")
                time.sleep(5.0)
            if self._next >= stored_files.FOLDERS:
                self._asked.clear()

    def _try_the_last(self) -> None:
        names = self._poison.storage.last_touched(PROBED, PROBE_S)
        paths = [self._poison.storage.path(name) for name in names]
        for at in range(0, len(paths), BATCH):
            began_s = time.monotonic()
            for path in probe(paths[at : at + BATCH], PROBE_S).deadly:
                self._judge(path)
            _rest(began_s)

    def work(self) -> None:
        """Every folder that is left."""
        saved_s = time.monotonic()
        while self._next < stored_files.FOLDERS:
            number = self._next
            for name in self._poison.storage.in_folder(number):
                began_s = time.monotonic()
                self._look(self._poison.storage.path(name))
                _rest(began_s)
            # Unless it was asked to begin again meanwhile.
            if self._next == number:
                self._next += 1
            if number % 64 == 0:
                time.sleep(0.001)
            if time.monotonic() - saved_s > _SAVE_S:
                self._save()
                saved_s = time.monotonic()
        self._save()
        count = self._taken
        self._log(f"radloop: sweep ended: {count} instances into quarantine")

    def _look(self, path: Path) -> None:
        refusal = None
        with suppress(OSError), stored_files.raw(path) as data:
            self._files += 1
            refusal = refusal_of_file(data)
            if refusal is not None and refusal.reason == "not_dicom" and data[:3] == _PACKED:
                # Findings beside a report: Orthanc hands them out and parses nothing of them.
                return
        if refusal is not None and not self._judge(path):
            self._suspect[refusal.reason] += 1

    def _judge(self, path: Path) -> bool:
        """Whether it is dangerous; if so it is taken away."""
        danger = self._poison.danger(path, PROBE_S)
        if danger is not None:
            self._poison.convict(path, danger, self._removed)
            self._taken += 1
        return danger is not None

    def _save(self) -> None:
        told = {
            "next": self._next,
            "files": self._files,
            "taken": self._taken,
            "suspect": self._suspect,
        }
        beside = self._path.with_name(f".{self._path.name}.new")
        beside.write_text(json.dumps(told), "ascii")
        beside.replace(self._path)

    def _recall(self) -> None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            told: Any = json.loads(self._path.read_text("ascii"))
            numbers = (int(told["next"]), int(told["files"]), int(told["taken"]))
            self._suspect.update({str(name): int(n) for name, n in told["suspect"].items()})
            self._next, self._files, self._taken = numbers


def _rest(began_s: float) -> None:
    """Leave the others their share."""
    time.sleep(max(0.0005, (time.monotonic() - began_s) * (1 / SHARE - 1)))
