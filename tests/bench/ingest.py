"""C-STORE ingest with the plugin against the same Orthanc without it, one and four associations."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import numpy as np

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume
from tests.bench.rig import emit, free_port, orthanc, radloop, running_stack, store

IMAGES, ROUNDS = 200, 5


def main() -> None:
    """Alternates the two servers, so that a busy machine is unkind to both alike."""
    with tempfile.TemporaryDirectory() as made, running_stack("--workers", "0") as data:
        configuration = json.loads((data / "orthanc.json").read_text())
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
        for associations in (1, 4):
            rates: dict[str, list[float]] = {"with": [], "without": []}
            for turn in range(ROUNDS):
                for kind, base in (("without", bare), ("with", configuration)):
                    folders = _folders(Path(made) / f"{associations}-{turn}-{kind}", associations)
                    ports = {"HttpPort": free_port(), "DicomPort": free_port()}
                    with orthanc({**base, **ports}, environment):
                        seconds = store(folders, ports["DicomPort"], "BENCH", "RADLOOP")
                    rates[kind].append(IMAGES / seconds)
            ours, peer = (statistics.median(rates[kind]) for kind in ("with", "without"))
            emit(
                "ingest",
                associations=associations,
                images=IMAGES,
                ratio=round(ours / peer, 3),
                target={1: 0.85, 4: 0.6}[associations],
                images_per_s=round(ours),
                without_plugin_per_s=round(peer),
                time_goes="parsing and writing by Orthanc itself",
            )


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
