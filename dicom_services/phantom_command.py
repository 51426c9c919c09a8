"""`radloop phantom`: made-up scans whose answer is known, as DICOM and as truth.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.dicom.dynamic_writer import Described, write_dynamic_series
from dicom_services.perfusion_phantom import Kind, PerfusionScan, perfusion_phantom
from dicom_services.phantom import Phantom, Scan, random_phantom

SLICES: Final = 50
SPACING_MM: Final = 3.0
# Calcium that is not coronary and lies where the heart region must end. What lies inside the heart
# (mitral annulus, pacemaker lead), or beside it where the scan begins too low to show the windpipe
# (lymph node), needs a reader and would hide whether the rest is right.
DECOYS: Final = (
    "aorta_descending_calcium",
    "aorta_arch_calcium",
    "rib_cartilage_calcium",
    "lung_granuloma",
)


def demo_phantom(seed: int = 7, slices: int = SLICES, matrix: int = 512) -> Phantom:
    """A cardiac scan with a 220 mm field of view, 3 mm slices, six lesions and four decoys."""
    scan = Scan(
        view="cardiac",
        matrix=matrix,
        fov_mm=220.0,
        spacing_mm=SPACING_MM,
        top_mm=65.0,
        bottom_mm=65.0 - (slices - 0.5) * SPACING_MM,
    )
    return random_phantom(seed, "cardiac", lesions=6, decoys=DECOYS, scan=scan)


def write_phantom(folder: Path, seed: int = 7, slices: int = SLICES) -> dict[str, object]:
    """Write the phantom's slices and truth.json into `folder`; the truth."""
    phantom = demo_phantom(seed, slices)
    write_ct_series(phantom.volume, folder, seed=f"phantom-{seed}-{slices}")
    truth = phantom.truth()
    (folder / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", "utf-8")
    return truth


def write_perfusion_phantom(folder: Path, kind: Kind, seed: int = 7) -> dict[str, object]:
    """Write a perfusion phantom's images and truth.json into `folder`; the truth."""
    phantom = perfusion_phantom(PerfusionScan(kind), seed=seed)
    described = Described(seed=f"perfusion-{kind}-{seed}")
    write_dynamic_series(phantom.volume, folder, described)
    truth = phantom.truth()
    (folder / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", "utf-8")
    return truth


def sentence(folder: Path, truth: dict[str, object]) -> str:
    """What a perfusion phantom holds, for whoever made it."""
    return (
        f"{truth['times']} times of {truth['slices']} slices in {folder}; on paper "
        f"hypoperfused {truth['hypoperfused_ml']} ml, core {truth['core_ml']} ml, "
        f"mismatch {truth['mismatch_ratio']}"
    )
