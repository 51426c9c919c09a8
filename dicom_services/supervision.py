"""Talks to supervisord over its socket, and knows every process that belongs to a stack."""

from __future__ import annotations

import http.client
import os
import re
import resource
import signal
import subprocess
import sys
import time

# Of our own supervisord only, over a socket of mode 0600.
import xmlrpc.client  # nosec B411
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_services.data_folder import DataFolder
from dicom_services.errors import UnavailableError
from dicom_services.supervisor_config import STACK_VARIABLE, supervisor_environment

_SPAWNED: Final = re.compile(r"spawned: '([a-z0-9_]+)' with pid")
_STARTED: Final = "supervisord started with pid"


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One supervised process.

    `state` is supervisord's: RUNNING, STARTING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL or
    UNKNOWN. `uptime_s` is 0 unless it runs; `restarts` counts since the stack was started.
    """

    name: str
    state: str
    pid: int
    uptime_s: int
    restarts: int


class Supervisor:
    """One stack's supervisord, whether it runs or not."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder

    def answers(self) -> bool:
        """Whether it runs."""
        try:
            self._call("getState")
        except UnavailableError:
            return False
        return True

    def start(self, timeout_s: float) -> None:
        """Start it in the background.

        Raises
        ------
        UnavailableError
            `supervisor_missing` where it is not installed, `supervisor_start` where it ended.
        """
        command = [sys.executable, "-m", "supervisor.supervisord"]
        # A dump of a process that died would hold images; children inherit the limit.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            done = subprocess.run(
                [*command, "-c", str(self._folder.supervisord_conf)],
                env={**supervisor_environment(), STACK_VARIABLE: str(self._folder.home)},
                cwd=self._folder.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError("supervisor_start") from None
        if done.returncode:
            missing = b"No module named" in done.stderr
            raise UnavailableError("supervisor_missing" if missing else "supervisor_start")
        until = time.monotonic() + timeout_s
        while not self.answers():
            if time.monotonic() > until:
                raise UnavailableError("supervisor_start")
            time.sleep(0.05)

    def apply(self) -> tuple[str, ...]:
        """Read its configuration again and restart what changed; the names of the programs."""
        added, changed, removed = self._call("reloadConfig")[0]
        for name in (*removed, *changed):
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in (*changed, *added):
            self._call("addProcessGroup", name)
        return (*changed, *added, *removed)

    def restart(self, name: str) -> None:
        """Stop a program's processes and start them again."""
        self._call("stopProcessGroup", name)
        self._call("startProcessGroup", name)

    def processes(self) -> tuple[ProcessState, ...]:
        """Every supervised process; none where supervisord does not run."""
        try:
            told = self._call("getAllProcessInfo")
        except UnavailableError:
            return ()
        restarts = self._restarts()
        return tuple(
            ProcessState(
                name=str(one["name"]),
                state=str(one["statename"]),
                pid=int(one["pid"]),
                uptime_s=max(0, int(one["now"]) - int(one["start"])) if one["pid"] else 0,
                restarts=restarts.get(str(one["name"]), 0),
            )
            for one in told
        )

    def shutdown(self) -> None:
        """Ask it to stop everything and end; it answers before it has."""
        self._call("shutdown")

    def _restarts(self) -> dict[str, int]:
        """Counted in supervisord's own log since its last start."""
        try:
            text = (self._folder.logs / "supervisord.log").read_text("utf-8", "replace")
        except OSError:
            return {}
        counts: dict[str, int] = {}
        for name in _SPAWNED.findall(text.rpartition(_STARTED)[2]):
            counts[name] = counts.get(name, -1) + 1
        return counts

    def _call(self, method: str, *arguments: object) -> Any:
        if not self._folder.socket.exists():
            raise UnavailableError("stack_not_running")
        try:
            # Not installed on a machine that only computes.
            from supervisor.xmlrpc import SupervisorTransport
        except ImportError:
            raise UnavailableError("supervisor_missing") from None
        transport = SupervisorTransport(None, None, f"unix://{self._folder.socket}")
        try:
            server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as error:
            raise UnavailableError("supervisor_refused", status=error.faultCode) from None
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            raise UnavailableError("stack_not_running") from None
        finally:
            transport.close()


def stack_processes(folder: DataFolder) -> tuple[int, ...]:
    """Pids of every process of this user that carries the stack's mark, whoever its parent is."""
    mark = f"{STACK_VARIABLE}={folder.home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return tuple(sorted(found))


def end_processes(folder: DataFolder, grace_s: float) -> int:
    """End whatever carries the stack's mark, first politely; how many there were."""
    found = stack_processes(folder)
    _signal(found, signal.SIGTERM)
    if not wait_for_end(folder, grace_s):
        _signal(stack_processes(folder), signal.SIGKILL)
        wait_for_end(folder, 5.0)
    return len(found)


def wait_for_end(folder: DataFolder, timeout_s: float) -> bool:
    """Whether no process of the stack is left within `timeout_s`, and its ports are free."""
    until = time.monotonic() + timeout_s
    # An ending process loses its environment before its sockets, so known ones are followed.
    left = set(stack_processes(folder))
    while left := {pid for pid in left | set(stack_processes(folder)) if _lives(pid)}:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
