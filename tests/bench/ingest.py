"""C-STORE ingest through front, gate and plugin against bare Orthanc, one and four associations."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume
from dicom_services.gate import refusal_of_file
from tests.bench.rig import (
    emit,
    free_port,
    orthanc,
    radloop,
    running_stack,
    store,
    wait_for_port,
)

IMAGES, ROUNDS = 200, 5


def main() -> None:
    """Alternates the two servers, so that a busy machine is unkind to both alike."""
    with tempfile.TemporaryDirectory() as made, running_stack("--workers", "0") as data:
        configuration = json.loads((data / "orthanc.json").read_text())
        door = json.loads((data / "front.json").read_text())
        radloop(data, "down")
        environment = plugin_environment(data)
        configuration.update(
            DicomAlwaysAllowStore=True, DicomCheckCalledAet=False, DicomCheckModalityHost=False
        )
        bare = {
            **configuration,
            "Plugins": [p for p in configuration["Plugins"] if "Python" not in p],
        }
        for name in ("PythonScript", "PythonVerbose"):
            bare.pop(name, None)
        for associations, delay in ((1, False), (4, False), (1, True)):
            rates: dict[str, list[float]] = {"with": [], "without": []}
            cpu_ms: list[float] = []
            for turn in range(ROUNDS):
                for kind, base in (("without", bare), ("with", configuration)):
                    home = Path(made) / f"{associations}-{delay}-{turn}-{kind}"
                    folders = _folders(home, associations)
                    ports = {"HttpPort": free_port(), "DicomPort": free_port()}
                    with orthanc({**base, **ports}, environment):
                        if kind == "with":
                            with front(door, ports["DicomPort"], Path(made)) as (port, pid):
                                before = _cpu_s(pid)
                                seconds = store(folders, port, "BENCH", "RADLOOP", delay=delay)
                                cpu_ms.append((_cpu_s(pid) - before) * 1e3 / IMAGES)
                        else:
                            seconds = store(
                                folders, ports["DicomPort"], "BENCH", "RADLOOP", delay=delay
                            )
                    rates[kind].append(IMAGES / seconds)
            ours, peer = (statistics.median(rates[kind]) for kind in ("with", "without"))
            emit(
                "ingest",
                associations=associations,
                sender="with Nagle's delay" if delay else "without delay",
                images=IMAGES,
                ratio=round(ours / peer, 3),
                target=None if delay else {1: 0.85, 4: 0.6}[associations],
                images_per_s=round(ours),
                bare_orthanc_per_s=round(peer),
                front_cpu_ms_per_image=round(statistics.median(cpu_ms), 2),
                gate_ms_per_image=round(gate_ms(folders[0]), 3),
                time_goes="parsing and writing by Orthanc itself",
            )


@contextmanager
def front(door: dict[str, Any], orthanc_port: int, home: Path) -> Iterator[tuple[int, int]]:
    """The front before an Orthanc; its port and process."""
    port = free_port()
    caller = {"aet": "BENCH", "address": "127.0.0.1", "port": free_port()}
    door = {
        **door,
        "port": port,
        "orthanc_port": orthanc_port,
        "callers": [{**caller, "alias": "127.0.9.1", "alias_port": caller["port"]}],
        **{name: str(home) for name in ("quarantine", "store", "scratch")},
    }
    (home / "front.json").write_text(json.dumps(door))
    process = subprocess.Popen(
        [sys.executable, "-m", "dicom_services.front"],
        env={**os.environ, "RADLOOP_FRONT_CONFIG": str(home / "front.json")},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)


def gate_ms(folder: Path) -> float:
    """The gate alone, for one image."""
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    began = time.process_time()
    for file in files:
        if refusal_of_file(file) is not None:
            raise SystemExit("the gate refuses a sound image")
    return (time.process_time() - began) * 1e3 / len(files)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plugin_environment(data: Path) -> dict[str, str]:
    """What the supervisor gives Orthanc."""
    from dicom_services.plugin_site import plugin_site

    return {
        "RADLOOP_PLUGIN_CONFIG": str(data / "plugin.json"),
        "PYTHONPATH": f"{plugin_site()}:{data / 'plugin'}",
    }


def _folders(home: Path, parts: int) -> list[Path]:
    noise = np.random.default_rng(1).integers(-1000, 1000, (IMAGES // parts, 512, 512), np.int16)
    folders = []
    for part in range(parts):
        affine = np.diag([3.0, 0.7, 0.7, 1.0])[[2, 1, 0, 3]]
        volume = Volume(
            noise, Geometry(affine, noise.shape, "2.25.1"), "[hnsf'U]", "2.25.2", Acquisition("CT")
        )
        write_ct_series(volume, home / str(part), seed=f"{home.name}-{part}")
        folders.append(home / str(part))
    return folders


if __name__ == "__main__":
    main()
