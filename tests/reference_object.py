"""OSIPI's digital reference object for DSC-MRI, made a DICOM series: maps of known flow and volume.

The object gives CBF, CBV and MTT of 64 x 64 x 10 voxels, a mask of 6144 of them, and an arterial
input of 60 times. Within the mask its three maps agree: MTT = 60 CBV / CBF to 1e-6 s; outside of it
they hold noise about zero, which is no tissue. It has no images, so these are made here:

- tissue: dR2*(t) = density / kappa x CBF / 6000 x (AIF convolved with exp(-t / MTT)), the AIF taken
  as linear between its samples, the integral exact; density 1.04 g/ml and kappa 0.733 as in
  `dicom_services.perfusion_curves`, no delay;
- signal: S = S0 exp(-TE dR2*), TE 30 ms, S0 20000 in tissue and artery and 200 elsewhere, rounded
  to whole numbers, without noise;
- an artery of 6 x 6 x 2 voxels beside the tissue, which holds the AIF itself.

Its arrays are (row, column, slice); the grid keeps them. It names no spacing: 2 x 2 x 5 mm is ours.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_services.dicom.dynamic_writer import Described, write_dynamic_series
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume
from dicom_services.perfusion_curves import DENSITY_G_ML, KAPPA

PLACE = Path("dsc-perfusion", "tests", "fixtures", "osipi_dro", "dsc")
"""Of the object in the folder of test data."""
ECHO_TIME_MS = 30.0
TISSUE_SIGNAL, AIR_SIGNAL = 20_000.0, 200.0
ARTERY = (slice(3, 5), slice(10, 16), slice(29, 35))


@dataclass(frozen=True, eq=False)
class ReferenceObject:
    """The scan and its truth, all on (k, j, i)."""

    volume: Volume
    cbf: NDArray[np.float32]
    cbv: NDArray[np.float32]
    mtt: NDArray[np.float32]
    mask: NDArray[np.bool_]
    aif: NDArray[np.float64]

    @property
    def aif_places(self) -> list[str]:
        """Four voxels of the artery, as `radloop analyze --aif` takes them."""
        return ["3,12,31", "3,12,32", "4,13,31", "4,13,32"]


def reference_object(folder: Path) -> ReferenceObject:
    """Read the arrays and make the scan."""
    cbf, cbv, mtt, mask = (
        np.ascontiguousarray(np.moveaxis(np.load(folder / f"{name}.npy"), 2, 0))
        for name in ("cbf", "cbv", "mtt", "mask")
    )
    times = np.load(folder / "time.npy").astype(np.float64)
    aif = np.load(folder / "aif.npy").astype(np.float64)
    change = np.zeros((len(times), *mask.shape))
    held = exponential_residue(aif, times, mtt[mask].astype(np.float64))
    change[:, mask] = held * (DENSITY_G_ML / KAPPA / 6000.0 * cbf[mask])
    signal = np.where(mask, TISSUE_SIGNAL, AIR_SIGNAL)[None] * np.ones((len(times), 1, 1, 1))
    change[(slice(None), *ARTERY)] = aif[:, None, None, None]
    signal[(slice(None), *ARTERY)] = TISSUE_SIGNAL
    signal *= np.exp(-0.001 * ECHO_TIME_MS * change)
    volume = Volume(
        np.rint(signal).astype(np.float32),
        _geometry(mask.shape),
        "1",
        "2.25.9200001",
        Acquisition(
            "MR",
            slice_thickness_mm=5.0,
            contrast_agent=True,
            echo_time_ms=ECHO_TIME_MS,
            repetition_time_ms=1000.0 * float(times[1]),
        ),
        tuple(float(time) for time in times),
    )
    return ReferenceObject(volume, cbf, cbv, mtt, mask.astype(bool), aif)


def exponential_residue(
    aif: NDArray[np.float64], times_s: NDArray[np.float64], mtt_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(t, n): an artery, linear between its samples, convolved with exp(-t / mtt), exactly."""
    held = np.zeros((len(times_s), len(mtt_s)))
    for n in range(1, len(times_s)):
        step = times_s[n] - times_s[n - 1]
        slope = (aif[n] - aif[n - 1]) / step
        left = np.exp(-step / mtt_s)
        gone = mtt_s * (1.0 - left)
        held[n] = held[n - 1] * left + aif[n - 1] * gone + slope * mtt_s * (step - gone)
    return held


def _geometry(shape: tuple[int, ...]) -> Geometry:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (0, 0, 5.0), (0, 2.0, 0), (2.0, 0, 0)
    affine[:3, 3] = (-63.0, -63.0, -22.5)
    return Geometry(affine, (shape[0], shape[1], shape[2]), "2.25.9200009")


def write_reference_object(out: Path, arrays: Path) -> ReferenceObject:
    """Write the series into `out`."""
    made = reference_object(arrays)
    told = Described("osipi-dro", "OSIPI^DRO", "OSIPI-DRO", "DSC perfusion reference object")
    write_dynamic_series(made.volume, out, told)
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the series")
    data = Path(os.environ.get("RADLOOP_TEST_DATA", "../shared/data"))
    write_reference_object(parser.parse_args().out, data / PLACE)
