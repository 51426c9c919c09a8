"""Free ports: the ones chosen before, else the preferred ones, else the next that nobody holds."""

from __future__ import annotations

import socket
from collections.abc import Collection
from pathlib import Path
from typing import Final

from dicom_services.errors import UnavailableError

# Of /proc/net/tcp, include/net/tcp_states.h.
_LISTEN: Final = "0A"
_RESERVED: Final[dict[int, socket.socket]] = {}


def is_free(port: int) -> bool:
    """Whether nobody listens on it, on any address of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Closed connections that still linger do not count; a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Nothing listens on it, it is only tried.
            probe.bind(("0.0.0.0", port))  # noqa: S104  # nosec B104
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    """Whether no other program of radloop is about to use it; ours until this process ends.

    The name is one of Linux's abstract sockets: the kernel gives it to one, and takes it back.
    """
    if port in _RESERVED:
        return True
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        mark.bind(f"\0radloop-port-{port}")
    except OSError:
        mark.close()
        return False
    _RESERVED[port] = mark
    return True


def choose_port(wanted: int, taken: Collection[int] = ()) -> int:
    """`wanted`, or the first free one of the hundred after it, or any.

    Raises
    ------
    UnavailableError
        `no_free_port`.
    """
    for port in range(wanted, min(wanted + 100, 65536)):
        # Between choosing and listening seconds pass, in which another stack may choose as well.
        if port not in taken and is_free(port) and _reserve(port):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError:
            raise UnavailableError("no_free_port") from None
        return int(probe.getsockname()[1])


def listeners(port: int) -> set[int]:
    """Pids that listen on a TCP port, as far as this user may see; 0 stands for anybody else."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    if not sockets:
        return set()
    return _holders(sockets) or {0}


def _holders(sockets: Collection[str]) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            held = any(str(link.readlink()) in sockets for link in (entry / "fd").iterdir())
        except OSError:
            continue
        if held:
            found.add(int(entry.name))
    return found
