"""Motion of a head: known shifts and turns are found, a bolus is none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops.motion import Motion, measure_motion
from dicom_services.perfusion_phantom import PerfusionPhantom, PerfusionScan, perfusion_phantom

MODALITY = {"DSC": "MR", "CTP": "CT"}


@pytest.fixture(scope="module", params=["DSC", "CTP"])
def still(request: pytest.FixtureRequest) -> PerfusionPhantom:
    return perfusion_phantom(PerfusionScan(request.param, times=24))


def motion_of(still: PerfusionPhantom, frames: NDArray[np.float32]) -> Motion:
    return measure_motion(frames, still.volume.geometry, MODALITY[still.scan.kind])


def moved(still: PerfusionPhantom, t: int, shift_mm: tuple[float, float, float]) -> Motion:
    """The scan with frame `t` shifted by (x, y, z) mm."""
    frames = still.volume.values.astype(np.float32)
    x, y, z = shift_mm
    pixel, spacing = still.scan.pixel_mm, still.scan.spacing_mm
    frames[t] = ndimage.shift(
        frames[t], (z / spacing, y / pixel, x / pixel), order=1, mode="nearest"
    )
    return motion_of(still, frames)


def test_the_bolus_is_not_taken_for_motion(still: PerfusionPhantom) -> None:
    assert motion_of(still, still.volume.values.astype(np.float32)).worst_mm < 0.2


@pytest.mark.parametrize("shift_mm", [(4.0, 0.0, 0.0), (-1.0, 2.0, 0.0), (0.0, -6.0, 0.0)])
def test_a_shift_within_the_slice_is_found_to_less_than_a_fifth_of_a_millimetre(
    still: PerfusionPhantom, shift_mm: tuple[float, float, float]
) -> None:
    found = moved(still, 12, shift_mm)
    assert found.worst_frame == 12
    assert found.shift_mm[12] == pytest.approx(shift_mm, abs=0.15)
    assert found.worst_mm == pytest.approx(float(np.linalg.norm(shift_mm)), abs=0.25)


def test_a_shift_across_the_slices_is_found_to_a_quarter_of_a_slice(
    still: PerfusionPhantom,
) -> None:
    found = moved(still, 20, (0.0, 0.0, 3.0))
    assert found.shift_mm[20, 2] == pytest.approx(3.0, abs=1.5)


def test_a_turn_of_the_head_is_found(still: PerfusionPhantom) -> None:
    frames = still.volume.values.astype(np.float32)
    frames[15] = ndimage.rotate(
        frames[15], 4.0, axes=(1, 2), reshape=False, order=1, mode="nearest"
    )
    found = motion_of(still, frames)
    assert abs(found.turn_degrees[15, 2]) == pytest.approx(4.0, abs=0.8)
    assert found.worst_frame == 15


@pytest.mark.parametrize("slices", [1, 2])
def test_few_slices_of_coarse_noisy_pixels_do_not_move(slices: int) -> None:
    scan = PerfusionScan("DSC", 24, 2.5, (slices, 48, 48), 4.4, 12.0, noise=2.0)
    phantom = perfusion_phantom(scan)
    assert motion_of(phantom, phantom.volume.values.astype(np.float32)).worst_mm < 1.0


def test_an_empty_image_has_no_motion(still: PerfusionPhantom) -> None:
    frames = np.zeros((12, *still.scan.shape), np.float32)
    assert motion_of(still, frames).worst_mm == 0.0
