"""The stack under test: its disks, its links, its processes, and whether it answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dicom_services.data_folder import DataFolder, State
from dicom_services.errors import RadloopError
from dicom_services.orthanc import Orthanc
from dicom_services.stack import connect
from dicom_services.supervision import ProcessState, Supervisor, end_processes, stack_processes
from tests.chaos.disks import Disk, mount
from tests.chaos.link import Link
from tests.chaos.modality import Account, Modality

ROOT: Final = Path(__file__).resolve().parents[2]
PROFILE: Final = ROOT / "config" / "environments" / "development.toml"
SENDER: Final = "CHAOS"
WORKERS: Final = 2
_MEGABYTES: Final = {"": 192, "redis": 48, "scratch": 48}
_MEGABYTES_OF_A_STUDY: Final = 3
_RESERVE_GB: Final = 0.02


@dataclass(slots=True)
class Rig:
    """A running stack and every place where it can be hurt.

    Parameters
    ----------
    folder : DataFolder
    state : State
    profile : Path
    disks : dict
        "home", "orthanc", "redis" and "scratch"; none where mounting is impossible.
    links : dict
        "dicom" before the DICOM port, "http" between workers and Orthanc, "redis" before Redis.
    """

    folder: DataFolder
    state: State
    profile: Path
    disks: dict[str, Disk]
    links: dict[str, Link] = field(default_factory=dict)

    def processes(self) -> dict[str, ProcessState]:
        """The supervised processes by name."""
        return {one.name: one for one in Supervisor(self.folder).processes()}

    def pid(self, name: str) -> int:
        """Of a running program; 0 where there is none of that name."""
        found = self.processes().get(name)
        return found.pid if found is not None and found.state in ("RUNNING", "STARTING") else 0

    def workers(self) -> list[int]:
        """Pids of the workers that run."""
        return [
            p.pid for name, p in self.processes().items() if name.startswith("worker") and p.pid
        ]

    def horses(self) -> list[int]:
        """Children of the workers that work on a job; each leads a process group of its own."""
        found = [child for worker in self.workers() for child in children(worker)]
        return [pid for pid in found if _group(pid) == pid]

    def orthanc(self, timeout_s: float = 10.0) -> Orthanc:
        """A connection to Orthanc that no link disturbs."""
        return connect(self.folder, self.state, timeout_s=timeout_s)

    def redis(self) -> redis.Redis:
        """A connection to Redis that no link disturbs."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.state.redis_port,
            password=self.folder.secret("redis").read_text().strip(),
            socket_timeout=5.0,
            retry=Retry(NoBackoff(), 0),
        )

    def modality(self, account: Account, stop: Any, *, direct: bool = False) -> Modality:
        """The registered sender, through the link unless `direct`."""
        port = self.state.dicom_port if direct else self.links["dicom"].port
        return Modality(SENDER, "RADLOOP", port, account, stop)

    def answers(self, modality: Modality) -> bool:
        """Whether the DICOM port, our routes in Orthanc and Redis all answer."""
        try:
            with self.orthanc(5.0) as orthanc:
                orthanc.status()
            with self.redis() as connection:
                connection.ping()
        except (RadloopError, redis.RedisError):
            return False
        return modality.echo()

    def radloop(self, *words: str) -> str:
        """A command of the command line on this stack."""
        done = subprocess.run(
            [sys.executable, "-m", "dicom_services.cli", *words],
            env={
                **os.environ,
                "RADLOOP_DATA": str(self.folder.home),
                "RADLOOP_CONFIG": str(self.profile),
            },
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"radloop {words[0]} ended with {done.returncode}: {done.stdout}")
        return done.stdout


@contextmanager
def running_rig(work: Path, studies: int, seed: int) -> Iterator[Rig]:
    """A stack on small disks of its own, with its links in place; nothing of it is left behind."""
    disks = _disks(work / "data", studies)
    rig = Rig(DataFolder(work / "data"), State(0, 0, 0), small_profile(work), disks)
    try:
        rig.radloop("up", "--workers", str(WORKERS))
        rig.state = rig.folder.state()
        rig.radloop("modality", "add", SENDER, "127.0.0.1", "11112")
        _put_links(rig, seed)
        yield rig
    finally:
        for disk in disks.values():
            disk.free()
        for pid in stack_processes(rig.folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        with suppress(Exception):
            rig.radloop("down")
        end_processes(rig.folder, grace_s=3.0)
        shutil.copytree(rig.folder.logs, work / "logs", dirs_exist_ok=True)
        for link in rig.links.values():
            link.close()
        for disk in reversed(disks.values()):
            disk.unmount()


@contextmanager
def work_folder(keep: bool) -> Iterator[Path]:
    """A folder that is gone afterwards, unless it shall be kept."""
    work = Path(tempfile.mkdtemp(prefix="radloop-chaos-"))
    try:
        yield work
    finally:
        if not keep:
            shutil.rmtree(work, ignore_errors=True)


def _disks(home: Path, studies: int) -> dict[str, Disk]:
    sizes = {**_MEGABYTES, "orthanc": 64 + _MEGABYTES_OF_A_STUDY * studies}
    disks = {}
    for name, megabytes in sizes.items():
        disk = mount(home / name, megabytes)
        if disk is None:
            return {}
        disks[name or "home"] = disk
    return disks


def small_profile(work: Path) -> Path:
    """The development profile for small disks, on ports that no other stack here prefers."""
    ports = [free_port() for _ in range(3)]
    lines = [
        f"{name} = {port}" for name, port in zip(("http", "dicom", "redis"), ports, strict=True)
    ]
    path = work / "profile.toml"
    # The disks are small, and so must be what is kept free on them.
    more = ["[ports]", *lines, "[front]", f"disk_reserve_gb = {_RESERVE_GB}"]
    path.write_text(PROFILE.read_text() + "\n" + "\n".join(more) + "\n")
    return path


def _put_links(rig: Rig, seed: int) -> None:
    """Point workers and plugin at links instead of the ports themselves."""
    state = rig.state
    ports: dict[str, Callable[[], int]] = {
        "dicom": lambda: state.dicom_port,
        "http": lambda: state.http_port,
        "redis": lambda: state.redis_port,
    }
    for number, (name, port) in enumerate(ports.items()):
        rig.links[name] = Link(port, seed + number)
    for path in (rig.folder.node_json, rig.folder.plugin_json):
        told = json.loads(path.read_text())
        told["redis"]["port"] = rig.links["redis"].port
        if "orthanc" in told:
            told["orthanc"]["url"] = f"http://127.0.0.1:{rig.links['http'].port}"
        path.write_text(json.dumps(told, indent=2))
    for program in ("orthanc", "worker"):
        Supervisor(rig.folder).restart(program)


def free_port() -> int:
    """A TCP port nobody listens on, below those the kernel hands out for connections."""
    while True:
        port = 20_000 + int.from_bytes(os.urandom(2), "big") % 10_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def supervisorctl(folder: DataFolder, *words: str) -> None:
    """What an administrator would tell the stack's supervisor."""
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-s", f"unix://{folder.socket}"]
    subprocess.run([*command, *words], capture_output=True, timeout=60, check=False)


# Processes, as the kernel knows them.


def orphans(folder: DataFolder) -> list[int]:
    """Processes of a stack that nobody supervises any more."""
    keeper = int(folder.supervisord_pid.read_text())
    return [pid for pid in stack_processes(folder) if keeper not in _ancestors(pid)]


def children(pid: int) -> list[int]:
    """Pids of the children of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def lives(pid: int) -> bool:
    """Whether a process runs; a dead one that waits to be reaped does not."""
    return _stat(pid)[:1] not in (["Z"], ["X"], [])


def gone(pid: int, limit_s: float) -> bool:
    """Whether a process has ended within `limit_s`."""
    end = time.monotonic() + limit_s
    while lives(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _group(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[2]) if fields else 0


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1 and pid not in found:
        found.add(pid)
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0
    return found


def _stat(pid: int) -> list[str]:
    """State, parent, group and more of a process; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
