"""Reading 300 raw 512 x 512 CT slices: ours against a plain pydicom loop, and where time goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_services.dicom.decode_child import read_series_limited
from dicom_services.dicom.header import read_header
from dicom_services.dicom.pixels import fill_all
from dicom_services.dicom.read import plan_series, read_series
from dicom_services.dicom.slice_header import SLICE_TAGS, read_slice
from tests.bench.rig import emit
from tests.dicom_files import ct_slice, to_bytes

SLICES = 300
COMPRESSED = 40
ROUNDS = 4


def _write(folder: Path, count: int, syntax: str = ExplicitVRLittleEndian) -> list[Path]:
    """Slices like a chest: smooth tissue with noise, padding outside a circle."""
    rng = np.random.default_rng(0)
    j, i = np.mgrid[:512, :512]
    body = np.where((j - 256) ** 2 + (i - 256) ** 2 < 240**2, 1024 + (j + i) % 300, -2000)
    files = []
    for k in range(count):
        stored = (body + rng.normal(0, 20, body.shape)).astype(np.int16)
        file = folder / f"{k:03}.dcm"
        file.write_bytes(to_bytes(ct_slice(stored, k, 1.25 * k), syntax))
        files.append(file)
    return files


def _pydicom(files: list[Path]) -> NDArray[np.float64]:
    slices = []
    for file in files:
        ds = dcmread(file)
        slices.append(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept))
    return np.stack(slices)


def _simpleitk(files: list[Path]) -> NDArray[np.int16]:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    return SimpleITK.GetArrayFromImage(reader.Execute())


def _best(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds on the clock, the best of rounds in which every run takes its turn."""
    best = dict.fromkeys(runs, np.inf)
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            best[name] = min(best[name], (time.perf_counter() - started) * 1e3)
    return {name: round(value, 1) for name, value in best.items()}


def main() -> None:
    """Print one line for raw slices, one for each compressed syntax."""
    with tempfile.TemporaryDirectory() as folder:
        files = _write(Path(folder), SLICES)
        plan = plan_series(files)
        room = np.empty(plan.geometry.shape, np.int16)
        same = np.array_equal(np.maximum(_pydicom(files), -1024), read_series(files).volume.values)
        took = _best(
            {
                "pydicom": lambda: _pydicom(files),
                "simpleitk": lambda: _simpleitk(files),
                "ours": lambda: read_series(files),
                "ours_limited": lambda: read_series_limited(files),
                "file_read": lambda: [file.read_bytes() for file in files],
                "headers": lambda: [read_header(file, SLICE_TAGS) for file in files],
                "slices": lambda: [read_slice(file) for file in files],
                "plan": lambda: plan_series(files),
                "pixels": lambda: fill_all(plan.slices, room),
            }
        )
        few = _best({"ours": lambda: read_series(files[:50])})["ours"]
        few_limited = _best({"limited": lambda: read_series_limited(files[:50])})["limited"]
        emit(
            "read.raw",
            slices=SLICES,
            same_values=same,
            times_faster_than_pydicom=round(took["pydicom"] / took["ours"], 2),
            times_faster_in_child=round(took["pydicom"] / took["ours_limited"], 2),
            file_reads=round(took["ours"] / took["file_read"], 2),
            child_adds_ms_for_50=round(few_limited - few, 1),
            **{f"{name}_ms": value for name, value in took.items()},
        )
    for name, syntax in (
        ("rle", RLELossless),
        ("jpeg_ls", JPEGLSLossless),
        ("jpeg_2000", JPEG2000Lossless),
    ):
        with tempfile.TemporaryDirectory() as folder:
            packed = _write(Path(folder), COMPRESSED, syntax)
            took = _best(
                {
                    "pydicom": lambda packed=packed: _pydicom(packed),
                    "ours": lambda packed=packed: read_series(packed),
                    "ours_limited": lambda packed=packed: read_series_limited(packed),
                }
            )
            emit(
                f"read.{name}",
                slices=COMPRESSED,
                times_faster_in_child=round(took["pydicom"] / took["ours_limited"], 2),
                **{f"{name}_ms": value for name, value in took.items()},
            )


if __name__ == "__main__":
    main()
