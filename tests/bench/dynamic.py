"""Reading dynamics: 60 x 20 classic slices and 4,800 frames of one file; time and peak memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_services.dicom.decode_child import read_dynamic_limited
from dicom_services.dicom.frames import read_images
from dicom_services.dicom.read import plan_dynamic, read_dynamic
from dicom_services.gate import refusal_of_file
from tests.bench.rig import emit
from tests.dicom_files import to_bytes
from tests.dynamic_files import enhanced, mr_slice, timed

TIMES, PLACES, SIDE = 60, 20, 256
FRAMES_TIMES, FRAMES_PLACES, FRAMES_SIDE = 240, 20, 128
ROUNDS = 3
_READ = """
import json, os, sys, threading, time
from pathlib import Path
from dicom_services.dicom.decode_child import read_dynamic_limited

def children():
    me = os.getpid()
    with open(f"/proc/{me}/task/{me}/children") as told:
        return told.read().split()
def family():
    # Proportional set size counts a page that parent and child share once.
    total = 0
    for pid in [str(os.getpid()), *children()]:
        try:
            for line in open(f"/proc/{pid}/smaps_rollup"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total
base, peak, going = family(), [0], [True]
def watch():
    while going[0]:
        peak[0] = max(peak[0], family())
        time.sleep(0.01)
thread = threading.Thread(target=watch)
thread.start()
files = sorted(Path(sys.argv[1]).iterdir())
volume = read_dynamic_limited(files).volume
assert volume.values.max() > 0
peak[0] = max(peak[0], family())
going[0] = False
thread.join()
print(json.dumps([base, peak[0], volume.values.nbytes]))
"""


def _stored(shape: tuple[int, int, int, int]) -> NDArray[np.uint16]:
    """Smooth tissue with noise: random bits would not compress."""
    rng = np.random.default_rng(0)
    j, i = np.mgrid[: shape[2], : shape[3]]
    noise = rng.normal(0, 8, (1, *shape[1:])) + rng.normal(0, 30, (shape[0], 1, 1, 1))
    return (400 + (i + j) % 200 + noise).astype(np.uint16)


def _classic(folder: Path) -> list[Path]:
    stored = _stored((TIMES, PLACES, SIDE, SIDE))
    files = []
    for t, slices in enumerate(stored):
        for k, pixels in enumerate(slices):
            ds = mr_slice(pixels, t, k, PLACES)
            timed()(t, k, ds)
            file = folder / f"{t:03}-{k:03}.dcm"
            file.write_bytes(to_bytes(ds))
            files.append(file)
    return files


def _one_file(folder: Path, syntax: str) -> list[Path]:
    ds = enhanced(_stored((FRAMES_TIMES, FRAMES_PLACES, FRAMES_SIDE, FRAMES_SIDE)))
    shared = ds.SharedFunctionalGroupsSequence[0]
    # Scanners repeat most groups in every frame.
    for item in ds.PerFrameFunctionalGroupsSequence:
        item.update(shared)
    file = folder / "one.dcm"
    file.write_bytes(to_bytes(ds, syntax))
    return [file]


def _pydicom_slices(files: list[Path]) -> NDArray[np.float64]:
    """What a plain loop does: times, places, values in order."""
    found = []
    for file in files:
        ds = dcmread(file)
        found.append((int(ds.TemporalPositionIdentifier), float(ds.ImagePositionPatient[2]), ds))
    found.sort(key=lambda one: one[:2])
    return np.stack([one.pixel_array for _, _, one in found])


def _pydicom_frames(files: list[Path]) -> NDArray[np.uint16]:
    ds = dcmread(files[0])
    order = []
    for n, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        content = item.FrameContentSequence[0]
        place = item.PlanePositionSequence[0].ImagePositionPatient[2]
        order.append((int(content.TemporalPositionIndex), float(place), n))
    return np.asarray(ds.pixel_array[[n for _, _, n in sorted(order)]])


def _best(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    best = dict.fromkeys(runs, np.inf)
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            best[name] = min(best[name], (time.perf_counter() - started) * 1e3)
    return {name: round(value, 1) for name, value in best.items()}


def _memory(folder: Path) -> dict[str, float]:
    """Peak memory over that of the libraries, in volumes."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(folder)], capture_output=True, text=True, check=True
    )
    base, peak, volume = json.load(io.StringIO(done.stdout))
    return {"volumes": round((peak - base) / volume, 2), "volume_mb": round(volume / 1e6)}


def _measure(name: str, files: list[Path], peer: Callable[[list[Path]], NDArray]) -> None:
    values = read_dynamic(files).volume.values
    same = np.array_equal(peer(files).reshape(values.shape), values)
    took = _best(
        {
            "pydicom": lambda: peer(files),
            "ours": lambda: read_dynamic(files),
            "ours_limited": lambda: read_dynamic_limited(files),
            "file_read": lambda: [file.read_bytes() for file in files],
            "headers": lambda: [read_images(file, timed=True) for file in files],
            "plan": lambda: plan_dynamic(files),
            "gate": lambda: [refusal_of_file(file.read_bytes()) for file in files],
        }
    )
    emit(
        name,
        images=int(np.prod(values.shape[:2])),
        same_values=same,
        times_faster_than_pydicom=round(took["pydicom"] / took["ours"], 2),
        times_faster_in_child=round(took["pydicom"] / took["ours_limited"], 2),
        file_reads=round(took["ours"] / took["file_read"], 2),
        **_memory(files[0].parent),
        **{f"{run}_ms": value for run, value in took.items()},
    )


def main() -> None:
    """One line for classic slices, one for an enhanced file, one for a compressed one."""
    with tempfile.TemporaryDirectory() as folder:
        _measure("dynamic.classic", _classic(Path(folder)), _pydicom_slices)
    for name, syntax in (("enhanced", ExplicitVRLittleEndian), ("enhanced_rle", RLELossless)):
        with tempfile.TemporaryDirectory() as folder:
            _measure(f"dynamic.{name}", _one_file(Path(folder), syntax), _pydicom_frames)


if __name__ == "__main__":
    main()
