"""Agatston lesions of 512 x 512 x 512: ours as passes over the memory, and against plain scipy."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops.islands import find_islands, islands_mask, warm
from dicom_services.phantom import Scan, random_phantom
from tests.bench.rig import emit

SIDE = 512
ROUNDS = 9
LEAST_PX = 2


def _chest() -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """A noisy chest with its bones, repeated to 512 slices, and a ball for a heart."""
    scan = Scan(view="chest", matrix=SIDE, spacing_mm=3.0, top_mm=110.0, bottom_mm=-80.0)
    one = random_phantom(3, scan=scan).volume.values
    values = np.concatenate([one] * -(-SIDE // len(one)))[:SIDE].astype(np.int16)
    k, j, i = np.ogrid[:SIDE, :SIDE, :SIDE]
    heart = (k - 256) ** 2 + (j - 230) ** 2 + (i - 280) ** 2 < 110**2
    return values, heart


def _solid() -> NDArray[np.int16]:
    """Tissue without noise with a spine and twelve ribs, each an even column."""
    j, i = np.mgrid[:SIDE, :SIDE]
    plane = np.where((j - 256) ** 2 + (i - 256) ** 2 < 220**2, 40, -1000)
    plane[(j - 400) ** 2 + (i - 256) ** 2 < 40**2] = 600
    for angle in np.arange(12) * (2.0 * np.pi / 12):
        row, column = 256 + 190 * np.sin(angle), 256 + 190 * np.cos(angle)
        plane[(j - row) ** 2 + (i - column) ** 2 < 8**2] = 700
    return np.repeat(plane.astype(np.int16)[None], SIDE, axis=0)


def _plain(values: NDArray[np.int16]) -> int:
    """A loop over slices: threshold, 8-connected labels, area and peak of each."""
    found = 0
    for plane in values:
        labels, count = ndimage.label(plane >= 130, np.ones((3, 3)))
        index = np.arange(1, count + 1)
        area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        peaks = np.asarray(ndimage.maximum(plane, labels, index))
        found += int(((area >= LEAST_PX) & (peaks >= 130)).sum())
    return found


def _best(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds on the clock, the best of rounds in which every run takes its turn."""
    best = dict.fromkeys(runs, np.inf)
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], 1000.0 * (time.perf_counter() - start))
    return best


def main() -> None:
    """Print ratios; a pass is np.max over the same array in the same run."""
    warm()
    chest, heart = _chest()
    solid = _solid()
    part = np.ascontiguousarray(chest[:64])
    runs: dict[str, Callable[[], object]] = {
        "pass": chest.max,
        "within a region": lambda: find_islands(chest, 130.0, least_px=LEAST_PX, region=heart),
        "bone, no region": lambda: find_islands(solid, 130.0, least_px=LEAST_PX),
        "noisy chest, no region": lambda: find_islands(chest, 130.0, least_px=LEAST_PX),
        "mask within a region": lambda: islands_mask(chest, 130.0, least_px=LEAST_PX, region=heart),
        "64 slices": lambda: find_islands(part, 130.0, least_px=LEAST_PX),
        "64 slices, scipy": lambda: _plain(part),
    }
    best = _best(runs)
    assert find_islands(part, 130.0, least_px=LEAST_PX).count == _plain(part)
    targets = {"within a region": 2.0, "bone, no region": 4.0}
    for name in list(runs)[1:5]:
        extra = {"target": targets[name]} if name in targets else {}
        emit(
            f"agatston 512^3, {name}",
            ratio=round(best[name] / best["pass"], 2),
            unit="passes of np.max",
            **extra,
        )
    ratio = best["64 slices"] / best["64 slices, scipy"]
    emit("agatston 64 x 512 x 512 against scipy slice by slice", ratio=round(ratio, 3))


if __name__ == "__main__":
    main()
