"""A real stack for a measurement: started in a temporary folder, stopped at the end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "config" / "environments" / "development.toml"


def emit(bench: str, **figures: Any) -> None:
    """One JSON line."""
    print(json.dumps({"bench": bench, **figures}), flush=True)


def radloop(data: Path, *words: str) -> str:
    """Run the command line on a data folder; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "dicom_services.cli", *words],
        env={**os.environ, "RADLOOP_DATA": str(data), "RADLOOP_CONFIG": str(PROFILE)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"radloop {words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def running_stack(*options: str) -> Iterator[Path]:
    """A stack with the demo profile; its data folder."""
    data = Path(tempfile.mkdtemp(prefix="radloop-bench-"))
    try:
        radloop(data, "up", *options)
        yield data
    finally:
        radloop(data, "down")
        shutil.rmtree(data, ignore_errors=True)


def state(data: Path) -> dict[str, Any]:
    """Ports of a stack."""
    return dict(json.loads((data / "state.json").read_text()))


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def orthanc(configuration: dict[str, Any], environment: dict[str, str]) -> Iterator[None]:
    """An Orthanc of its own, started from a configuration."""
    home = Path(tempfile.mkdtemp(prefix="radloop-bench-orthanc-"))
    configuration = {
        **configuration,
        "StorageDirectory": f"{home}/db",
        "IndexDirectory": f"{home}/db",
    }
    (home / "orthanc.json").write_text(json.dumps(configuration))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            ["/usr/sbin/Orthanc", str(home / "orthanc.json")],
            env={**os.environ, **environment, "TCP_NODELAY": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for_port(int(configuration["HttpPort"]))
        yield
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def wait_for_port(port: int, limit_s: float = 20.0) -> None:
    """Until something listens."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on {port}")


def store(
    folders: Sequence[Path], port: int, calling: str, called: str, *, delay: bool = False
) -> float:
    """Send each folder over an association of its own, at the same time; seconds in all.

    With `delay` the sender leaves Nagle's algorithm on, as many modalities do.
    """
    began = time.monotonic()
    senders = [
        subprocess.Popen(
            [
                "storescu",
                "-R",
                "-aet",
                calling,
                "-aec",
                called,
                "127.0.0.1",
                str(port),
                "+sd",
                str(f),
            ],
            env={**os.environ, **({} if delay else {"TCP_NODELAY": "1"})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for f in folders
    ]
    if any(sender.wait(300) for sender in senders):
        raise SystemExit("storescu failed")
    return time.monotonic() - began
