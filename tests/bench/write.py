"""Segmentation, map, report, key objects: our whole way against highdicom alone on the same."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from dicom_services.dicom import codes
from dicom_services.dicom.checks import check_results
from dicom_services.dicom.evidence import placed
from dicom_services.dicom.key_objects import key_objects
from dicom_services.dicom.parametric_map import parametric_maps
from dicom_services.dicom.report import report
from dicom_services.dicom.seg import segmentation
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.write import to_bytes
from dicom_services.domain.findings import Finding, Lesion, LesionSlice, Mask
from dicom_services.domain.geometry import Geometry
from tests import sources
from tests.bench.rig import emit

ROUNDS = 5
CASES = ((50, 10), (109, 10), (109, 60))


def main() -> None:
    """Medians of five rounds; both ways take turns, so that a busy machine is unkind to both."""
    for slices, lesions in CASES:
        grid = sources.geometry((slices, 512, 512), (0.7, 0.7), (0.0, 0.0, 2.5))
        source, provenance = sources.source(grid), sources.provenance()
        findings = _findings(grid, lesions)
        masks = [each for each in findings if isinstance(each, Mask)]
        times: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            _timed(times, "highdicom", lambda: _highdicom(masks, source))  # noqa: B023
            seg = _timed(times, "seg", lambda: segmentation(masks, source, provenance))  # noqa: B023
            sr = _timed(times, "sr", lambda: report(findings, [seg], source, provenance))  # noqa: B023
            ko = _timed(times, "ko", lambda: key_objects(masks, source, provenance))  # noqa: B023
            results = [each for each in (seg, sr, ko) if each is not None]
            _timed(times, "checks", lambda: check_results(results, source))  # noqa: B023
            files = _timed(times, "bytes", lambda: [to_bytes(each) for each in results])  # noqa: B023
        medians = {name: statistics.median(values) for name, values in times.items()}
        alone = medians.pop("highdicom")
        emit(
            "write",
            slices=slices,
            lesions=lesions,
            frames=int(results[0].NumberOfFrames),
            kilobytes=sum(len(file) for file in files) >> 10,
            seg_ratio_to_highdicom=round(medians["seg"] / alone, 2),
            highdicom_seg_ms=round(1e3 * alone),
            **{f"{name}_ms": round(1e3 * value) for name, value in medians.items()},
        )
    _map_case()


def _map_case() -> None:
    """A map of 60 x 512 x 512, half of it undefined: against highdicom, its bytes and the disk."""
    grid = sources.geometry((60, 512, 512), (0.43, 0.43), (0.0, 0.0, 5.0))
    values = np.random.default_rng(7).normal(50.0, 20.0, grid.shape).astype(np.float32)
    values[:, :, :256] = np.nan
    finding = replace(sources.perfusion(sources.geometry())[0], values=values, geometry=grid)
    source, provenance = sources.source(grid), sources.provenance()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            _timed(times, "highdicom", lambda: _highdicom_map(values, grid, source))
            made = _timed(times, "map", lambda: parametric_maps([finding], source, provenance))
            _timed(times, "checks", lambda: check_results(made, source))  # noqa: B023
            file = _timed(times, "bytes", lambda: to_bytes(made[0]))  # noqa: B023
            path = Path(folder) / str(number)
            _timed(times, "disk", lambda: _to_disk(path, file))  # noqa: B023
    medians = {name: statistics.median(each) for name, each in times.items()}
    ours = medians["map"] + medians["checks"] + medians["bytes"]
    emit(
        "write_map",
        slices=60,
        megabytes=len(file) >> 20,
        map_ratio_to_highdicom=round(medians["map"] / medians["highdicom"], 2),
        whole_ratio_to_disk=round(ours / medians["disk"], 2),
        **{f"{name}_ms": round(1e3 * value) for name, value in medians.items()},
    )


def _highdicom_map(values: NDArray[np.float32], grid: Geometry, source: SourceSeries) -> None:
    """The map as a user of highdicom hands it over, who leaves undefined voxels as they are."""
    hd.pm.ParametricMap(
        source_images=placed(source, grid),
        pixel_array=values,
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.3.4",
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            hd.pm.RealWorldValueMapping(
                lut_label="CBF",
                lut_explanation="CBF",
                unit=codes.concept(sources.FLOW_UNIT),
                value_range=(-1e3, 1e3),
            )
        ],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=50.0, window_width=100.0)],
    )


def _to_disk(path: Path, file: bytes) -> None:
    with path.open("wb") as out:
        out.write(file)
        out.flush()
        os.fsync(out.fileno())


def _timed(times: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    made = work()
    times.setdefault(name, []).append(time.perf_counter() - start)
    return made


def _highdicom(masks: list[Mask], source: SourceSeries) -> None:
    """The masks as a user of highdicom hands them over: whole, the segment as the last axis."""
    algorithm = hd.AlgorithmIdentificationSequence("rule", codes.concept(codes.RULE_BASED), "1")
    hd.seg.Segmentation(
        source_images=placed(source, masks[0].geometry),
        pixel_array=np.stack([mask.values for mask in masks], axis=-1).astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=mask.label,
                segmented_property_category=codes.concept(mask.category),
                segmented_property_type=codes.concept(mask.what),
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
            )
            for number, mask in enumerate(masks, 1)
        ],
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.3.4",
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
    )


def _findings(grid: Geometry, count: int) -> list[Finding]:
    """Lesions of 3 x 4 pixels in three slices each, inside a heart of two thirds of the slices."""
    slices = grid.shape[0]
    calcium, heart = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    heart[slices // 6 : 5 * slices // 6, 80:420, 90:400] = True
    area = 12 * grid.pixel_area_mm2
    lesions = []
    for number in range(count):
        k = slices // 4 + (number * 3) % (slices // 2)
        row, column = 100 + (number // 8) * 25, 100 + (number % 8) * 30
        calcium[k : k + 3, row : row + 3, column : column + 4] = True
        parts = tuple(
            LesionSlice(each, row + 1.0, column + 1.5, area, 300.0, 3, 3 * area)
            for each in range(k, k + 3)
        )
        lesions.append(
            Lesion(
                id=f"L{number + 1}",
                tracking=f"lesion {number + 1}",
                site=sources.CORONARY,
                center_mm=(0.0, 0.0, 0.0),
                volume_mm3=36 * grid.voxel_volume_mm3,
                peak_hu=300.0,
                score=9 * area,
                slices=parts,
            )
        )
    return [
        Mask(
            sources.CALCIFICATION,
            sources.ABNORMAL,
            "Coronary calcium",
            calcium,
            grid,
            sources.CORONARY,
            "total",
            lesions=tuple(lesions),
        ),
        Mask(sources.HEART, sources.ANATOMY, "Heart", heart, grid, None, "heart"),
        *sources.findings()[2:],
    ]


if __name__ == "__main__":
    main()
