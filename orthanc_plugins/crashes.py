"""How the Orthanc before this one ended, as supervisord saw it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

FAULTS: Final = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE"})
"""What a fault inside the process ends it with. SIGKILL is not among them: a person or the kernel
in want of memory sends it from outside, and which of them cannot be told."""
_LINE: Final = re.compile(
    r"(?:(?P<started>supervisord started with pid)"
    r"|(?:spawned: 'orthanc' with pid \d+)"
    r"|(?P<stopped>stopped: orthanc )"
    r"|exited: orthanc \((?:terminated by (?P<signal>SIG[A-Z0-9]+))?)"
)
_TAIL_BYTES: Final = 1 << 20


def last_fault(log: Path) -> str:
    """The signal with which the Orthanc before this one crashed; "" where it did not."""
    text = _tail(log.with_name(f"{log.name}.1")) + _tail(log)
    fault = ""
    for line in text.splitlines():
        found = _LINE.search(line)
        # A start leaves what was before it as it is: it may be our own.
        if found is not None and "spawned" not in found[0]:
            fault = found["signal"] or ""
    return fault if fault in FAULTS else ""


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
