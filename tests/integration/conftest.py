"""The real stack, once a module: `radloop up` in a temporary folder, `radloop down` at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicom_services.data_folder import DataFolder, State
from dicom_services.orthanc import Orthanc
from dicom_services.stack import connect
from dicom_services.supervision import ProcessState, Supervisor

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "config" / "environments" / "development.toml"
SENDER = "RADLOOP"


@dataclass(frozen=True)
class Stack:
    """A running stack, driven by its own command line."""

    folder: DataFolder
    orthanc: Orthanc
    profile: Path = PROFILE

    @property
    def data(self) -> Path:
        return self.folder.home

    @property
    def state(self) -> State:
        return self.folder.state()

    @property
    def http_port(self) -> int:
        return self.state.http_port

    @property
    def dicom_port(self) -> int:
        return self.state.dicom_port

    @property
    def redis_port(self) -> int:
        return self.state.redis_port

    def radloop(self, *words: str, code: int = 0, **environment: str) -> str:
        """Run a command that must end with `code`; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "dicom_services.cli", *words],
            env={
                **os.environ,
                "RADLOOP_DATA": str(self.data),
                "RADLOOP_CONFIG": str(self.profile),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == code, done.stdout + self.tails()
        assert "Traceback" not in done.stdout
        return done.stdout

    def status(self, code: int = 0) -> dict[str, Any]:
        return dict(json.loads(self.radloop("status", "--json", code=code).split("\nstack_not")[0]))

    def process(self, name: str) -> ProcessState:
        """The first process of a program: "orthanc", "redis" or "worker"."""
        told = Supervisor(self.folder).processes()
        return next(one for one in told if one.name in (name, f"{name}_0"))

    def pid(self, name: str) -> int:
        return self.process(name).pid

    def pids(self) -> dict[str, int]:
        """Of every process, by the name of its program."""
        told = Supervisor(self.folder).processes()
        return {one.name.removesuffix("_0"): one.pid for one in told}

    def log(self, name: str) -> str:
        """What a program has written so far."""
        return "".join(path.read_text() for path in sorted(self.folder.logs.glob(f"{name}*.log")))

    def tails(self) -> str:
        logs = sorted(self.folder.logs.glob("*.log"))
        return "".join(f"\n== {log.name}\n{log.read_text()[-1500:]}" for log in logs)

    def send(self, path: Path) -> str:
        """C-STORE from the registered sender."""
        return self.radloop("send", str(path), "--aet", SENDER)


@contextmanager
def running_stack(folder: DataFolder, profile: Path = PROFILE) -> Iterator[Stack]:
    """A stack with one registered sender on this machine, stopped at the end."""
    # Ports are known only when it runs.
    command = Stack(folder, Orthanc("http://127.0.0.1:1", "", ""), profile)
    try:
        command.radloop("up")
        command.radloop("modality", "add", SENDER, "127.0.0.1", "11112")
        with connect(folder, folder.state()) as orthanc:
            yield Stack(folder, orthanc, profile)
    finally:
        command.orthanc.close()
        command.radloop("down")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with the development profile."""
    with running_stack(DataFolder(tmp_path_factory.mktemp("stack") / "data")) as running:
        yield running
