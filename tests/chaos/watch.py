"""Looks on while things break: nothing may be shown as done while one of its results is missing."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from dicom_services.errors import MissingError, RadloopError
from dicom_services.orthanc import Orthanc
from tests.chaos.rig import Rig

EVERY_S: Final = 0.5
WHOLE: Final = ({"SEG": 1, "SR": 1, "KO": 1}, {"SEG": 1, "SR": 1})
"""What a done job leaves; a key object only where there is something to point at."""


@dataclass(slots=True)
class Watch:
    """A thread that samples; `violations` are sentences with ids, `samples` how often it looked."""

    rig: Rig
    violations: list[str] = field(default_factory=list)
    samples: int = 0
    unanswered: int = 0
    checked: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(15.0)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                with self.rig.orthanc(5.0) as orthanc:
                    self.sample(orthanc)
                self.samples += 1
            except RadloopError:
                self.unanswered += 1

    def sample(self, orthanc: Orthanc) -> None:
        """Check every job that has newly ended with results."""
        for state in ("stored", "done", "refused"):
            for job in orthanc.get_json("/radloop/jobs", state=state, limit=40):
                if job["job"] not in self.checked:
                    self._check(orthanc, job)
                    self.checked.add(job["job"])

    def _check(self, orthanc: Orthanc, job: dict[str, Any]) -> None:
        kinds = dict(Counter(str(result["modality"]) for result in job["results"]))
        whole = kinds in WHOLE if job["state"] != "refused" else kinds == {"SR": 1}
        if not whole:
            self.violations.append(f"job {job['job']} is {job['state']} with results {kinds}")
        for result in job["results"]:
            try:
                found = orthanc.instances_of(result["series"])
            except MissingError:
                found = []
            if len(found) != 1:
                self.violations.append(
                    f"job {job['job']} is {job['state']} with {len(found)} {result['modality']}"
                )
