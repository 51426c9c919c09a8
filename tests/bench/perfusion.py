"""Perfusion of 650,000 voxels and 60 frames: each method against the product it cannot do without.

One thread (OMP_NUM_THREADS=1), processor seconds, the best of rounds in which every run takes its
turn: what else a machine does then matters little.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.arterial_input import find_aif, find_vof
from ai_nodes.ops.concentration import Bolus, to_concentration
from ai_nodes.ops.deconvolution import METHODS, deconvolve
from ai_nodes.ops.inverses import circulant_inverse
from ai_nodes.ops.leakage import correct_leakage
from ai_nodes.ops.perfusion_maps import PerfusionSettings, perfusion_maps
from dicom_services.perfusion_curves import Arterial, tissue_curves
from tests.bench.rig import emit

VOXELS, FRAMES = 650_000, 60
ROUNDS = 5
SLOW = ("Lucy-Richardson",)
TARGETS = {"cSVD": 2.0}
ARTERY = Arterial(recirculation=0.1)
BOLUS = Bolus(9, (0, 9))
TIMES = np.arange(float(FRAMES))


def _curves() -> NDArray[np.float32]:
    """Tissue of every flow and delay with noise of SNR 15, some artery and some vein."""
    draw = np.random.default_rng(1)
    kinds = tissue_curves(
        TIMES,
        ARTERY,
        draw.uniform(8.0, 70.0, 400),
        draw.choice([3.5, 4.5, 6.0, 9.0], 400),
        draw.uniform(0.0, 3.0, 400),
    ).astype(np.float32)
    normal = float(np.median(kinds.max(axis=0)))
    curves = kinds[:, draw.integers(0, 400, VOXELS)]
    curves[:, :200] = ARTERY(TIMES)[:, None]
    curves[:, 200:700] = ARTERY(TIMES - 6.0)[:, None]
    for frame in curves:
        frame += (normal / 15.0) * draw.standard_normal(VOXELS, np.float32)
    return curves


def _best(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Processor seconds; a slow run takes part in the first round only."""
    best = dict.fromkeys(runs, np.inf)
    for turn in range(ROUNDS):
        for name, run in runs.items():
            if turn and name in SLOW:
                continue
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return best


def _card(curves: NDArray[np.float32], aif: NDArray[np.float64]) -> None:
    """The same with the curves on a CUDA card, where cupy and one are there."""
    try:
        import cupy  # type: ignore[import-not-found]  # the `gpu` extra alone

        cupy.cuda.runtime.getDeviceCount()
    except (ImportError, RuntimeError):  # cupy's errors of the driver are RuntimeErrors
        emit("perfusion on a card", skipped="no cupy, or no CUDA card")
        return
    there = cupy.asarray(curves)
    for method in METHODS[:3]:
        best = np.inf
        for _ in range(ROUNDS):
            cupy.cuda.Device().synchronize()
            start = time.perf_counter()
            deconvolve(method, there, aif, TIMES, xp=cupy)
            cupy.cuda.Device().synchronize()
            best = min(best, time.perf_counter() - start)
        emit(f"perfusion {method} resident on a card", millis=round(1e3 * best, 1), target=10.0)


def main() -> None:
    """Print ratios to the bare product, and where the time of a study goes."""
    curves, aif = _curves(), ARTERY(TIMES)
    inverse = circulant_inverse(aif, 1.0, 0.1).astype(np.float32)
    signal = np.exp(np.float32(-0.75) * curves)
    signal *= np.float32(900.0)
    mask = np.ones((1, 1, VOXELS), np.bool_)
    volume = curves.reshape(FRAMES, *mask.shape)
    artery = find_aif(volume, TIMES, mask)
    runs: dict[str, Callable[[], object]] = {
        "product": lambda: inverse @ curves,
        **{name: partial(deconvolve, name, curves, aif, TIMES) for name in METHODS},
        "maps by oSVD": lambda: perfusion_maps(curves, aif, TIMES, bolus=BOLUS),
        "maps by cSVD": lambda: perfusion_maps(
            curves, aif, TIMES, PerfusionSettings("cSVD"), bolus=BOLUS
        ),
        "concentration": lambda: to_concentration(
            signal, TIMES, BOLUS, kind="DSC", echo_time_ms=30.0
        ),
        "artery": lambda: find_aif(volume, TIMES, mask),
        "vein": lambda: find_vof(volume, TIMES, mask, artery),
        "leakage": lambda: correct_leakage(curves, TIMES, BOLUS),
    }
    best = _best(runs)
    unit = f"products of ({2 * FRAMES} x {FRAMES}) by ({FRAMES} x {VOXELS}), float32, one thread"
    emit("perfusion product", millis=round(1e3 * best["product"]), gflops=_gflops(best["product"]))
    for name in list(runs)[1:]:
        target = {"target": TARGETS[name]} if name in TARGETS else {}
        emit(f"perfusion {name}", ratio=round(best[name] / best["product"], 2), unit=unit, **target)
    emit("perfusion oSVD", ratio=round(best["oSVD"] / best["cSVD"], 2), unit="cSVD", target=8.0)
    _card(curves, aif)


def _gflops(seconds: float) -> float:
    return round(2.0 * 2 * FRAMES * FRAMES * VOXELS / seconds / 1e9, 1)


if __name__ == "__main__":
    main()
