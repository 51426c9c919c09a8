"""How many associations Orthanc has at once: one for each of its DICOM threads."""

from __future__ import annotations

import threading


class Slots:
    """A counting semaphore that tells whether somebody waits."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self._lock = threading.Lock()
        self._waiting = 0

    @property
    def are_scarce(self) -> bool:
        """Whether somebody waits for one: who needs his not may give it back."""
        return self._waiting > 0

    def take(self, limit_s: float) -> bool:
        """Wait for one; False where none became free."""
        if self._free.acquire(blocking=False):
            return True
        with self._lock:
            self._waiting += 1
        try:
            return self._free.acquire(timeout=limit_s)
        finally:
            with self._lock:
                self._waiting -= 1

    def give(self) -> None:
        """Give one back."""
        self._free.release()
