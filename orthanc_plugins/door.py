"""Whether Orthanc still runs: a call into one that stops may never come back, nor let it stop.

Orthanc closes its HTTP port first, and a second later waits for Python's lock while it holds its
own; a thread of ours inside a call then holds the one and waits for the other. Its own event for
stopping would cost a Python call for every instance; a look at one of its descriptors costs 2 us.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Of /proc/net/tcp, include/net/tcp_states.h.
_LISTEN: Final = "0A"
_TABLES: Final = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_DESCRIPTORS: Final = Path("/proc/self/fd")


class ClosedError(BaseException):
    """Orthanc is stopping; the thread that meets this ends."""


class Door:
    """Orthanc's listening HTTP socket."""

    def __init__(self) -> None:
        self._link = ""
        self._socket = ""

    def watch(self, port: int) -> bool:
        """From now on the door is this port; False where this process does not listen there."""
        sockets = set()
        for table in _TABLES:
            for line in table.read_text().splitlines()[1:] if table.exists() else ():
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
        for link in _DESCRIPTORS.iterdir():
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target in sockets:
                self._link, self._socket = str(link), target
                return True
        return False

    @property
    def is_open(self) -> bool:
        """Whether the watched port is open; so is one that is not watched yet."""
        if not self._link:
            return True
        try:
            return os.readlink(self._link) == self._socket  # noqa: PTH115 - a look, often
        except OSError:
            return False

    def require(self) -> None:
        """Raise ClosedError once the watched port is closed."""
        if not self.is_open:
            raise ClosedError


DOOR: Final = Door()
"""Of this process: there is one Orthanc in it."""
