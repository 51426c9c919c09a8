"""Free ports: the ones chosen before, else the preferred ones, else the next that nobody holds."""

from __future__ import annotations

import socket
from collections.abc import Collection

from dicom_services.errors import UnavailableError


def is_free(port: int) -> bool:
    """Whether nobody listens on it, on any address of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Closed connections that still linger do not count; a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - nothing listens on it, it is only tried
        except OSError:
            return False
    return True


def choose_port(wanted: int, taken: Collection[int] = ()) -> int:
    """`wanted`, or the first free one of the hundred after it, or any.

    Raises
    ------
    UnavailableError
        `no_free_port`.
    """
    for port in range(wanted, min(wanted + 100, 65536)):
        if port not in taken and is_free(port):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError:
            raise UnavailableError("no_free_port") from None
        return int(probe.getsockname()[1])


def answers(port: int, timeout_s: float = 0.5) -> bool:
    """Whether somebody accepts connections on this machine's `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout_s).close()
    except OSError:
        return False
    return True
