"""A whole perfusion study of 655,360 voxels and 60 times: read, compute, write and store."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pydicom

from ai_nodes.analysis import software_version
from ai_nodes.pipelines.perfusion import PIPELINE, analyse_perfusion
from dicom_services.data_folder import DataFolder
from dicom_services.dicom.decode_child import read_dynamic_limited
from dicom_services.dicom.dynamic_writer import Described, write_dynamic_series
from dicom_services.dicom.write import encode, to_bytes
from dicom_services.perfusion_phantom import PerfusionScan, perfusion_phantom
from dicom_services.stack import connect
from tests.bench.rig import emit, running_stack
from tests.sources import provenance

SCAN = PerfusionScan("DSC", times=60, shape=(40, 128, 128), pixel_mm=1.75, spacing_mm=3.0)
Made = TypeVar("Made")


def main() -> None:
    """Print what each part takes beside a plain pydicom loop over the same files."""
    folder = Path(tempfile.mkdtemp(prefix="radloop-perfusion-"))
    try:
        paths = write_dynamic_series(
            perfusion_phantom(SCAN).volume, folder, Described("bench-perfusion")
        )
        _measure(list(paths))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(paths: list[Path]) -> None:
    took: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Made]) -> Made:
        start = time.perf_counter()
        made = work()
        took[name] = time.perf_counter() - start
        return made

    timed("pydicom", lambda: [pydicom.dcmread(path).pixel_array for path in paths])
    series = timed("read", lambda: read_dynamic_limited(paths))
    found = timed("compute", lambda: analyse_perfusion(series.volume, {}))
    told = provenance(
        pipeline=PIPELINE.name, version=PIPELINE.version, software_version=software_version()
    )
    objects = timed("write", lambda: encode(found, series.source, told))
    files = timed("bytes", lambda: [to_bytes(one) for one in objects])
    with running_stack() as data:
        home = DataFolder(data)
        with connect(home, home.state()) as orthanc:
            timed("store", lambda: orthanc.stow(files))
    plain = took.pop("pydicom")
    took["write"] += took.pop("bytes")
    whole = sum(took.values())
    emit(
        "perfusion study 60 x 40 x 128 x 128, against a pydicom loop over its 2,400 files",
        ratio=round(whole / plain, 2),
        shares={name: round(each / whole, 3) for name, each in took.items()},
        headline=PIPELINE.headline(found),
        result_megabytes=round(sum(map(len, files)) / 1e6, 1),
    )


if __name__ == "__main__":
    main()
