"""Networks: runtimes against torch eager, windows against the passes alone, a card's share."""

from __future__ import annotations

import copy
import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ai_nodes.networks import UNet, seeded
from ai_nodes.ops.deconvolution import Method
from ai_nodes.ops.device import CPU, Budget, Device, count_cards
from ai_nodes.ops.infer import Prediction, predict
from ai_nodes.ops.perfusion_maps import PerfusionSettings, perfusion_maps
from ai_nodes.ops.runtimes import Network, open_network
from ai_nodes.ops.windows import WindowSettings
from dicom_services.errors import RadloopError
from tests.bench.rig import emit
from tests.networks import as_onnx

SIDE = 96
ROUNDS = 4
STEPS = 40
FEATURES = {(4, 8, 16, 32, 64): True, (8, 16, 32, 64, 128): False}
"""Of the networks on the processor; the targets were stated for one of the first one's size."""
TARGETS = {"ONNX Runtime": 0.55, "bf16": 0.3}
CARD_SHAPE = (240, 240, 155)
CARD_WINDOW = (128, 128, 128)
CARD_FEATURES = (32, 64, 128, 256, 320)
CARD_BUDGET = Budget(6_000_000_000)


def _head(side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy ball with bright and dark balls in it, and which of the three a voxel is in."""
    random = np.random.default_rng(seed)
    at = np.indices((side, side, side), dtype=np.float32)
    labels = np.zeros((side,) * 3, np.int64)
    for label, count, radius in ((1, 6, 0.14), (2, 6, 0.10)):
        for _ in range(count):
            middle = random.uniform(0.2, 0.8, 3)[:, None, None, None] * side
            labels[((at - middle) ** 2).sum(0) < (radius * side) ** 2] = label
    image = np.array([0.0, 1.2, -1.2], np.float32)[labels]
    image += random.normal(0.0, 0.6, image.shape).astype(np.float32)
    return image, labels


def _trained(features: tuple[int, ...]) -> nn.Module:
    """After a little training: logits of a random network are ties and tell nothing."""
    network = seeded(UNet(features=features), 1)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(STEPS):
        image, labels = _head(48, step)
        logits = network(torch.from_numpy(image)[None, None])
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels)[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval().requires_grad_(False)


def _best(runs: dict[str, Callable[[], Any]], clock: Callable[[], float]) -> dict[str, float]:
    """Seconds, the best of rounds in which every run takes its turn."""
    best = dict.fromkeys(runs, np.inf)
    for run in runs.values():
        run()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            began = clock()
            run()
            best[name] = min(best[name], clock() - began)
    return best


def _gflop(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Of one pass; two for each multiplication that is added."""
    twin = copy.deepcopy(network).to("meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        twin(torch.empty(shape, device="meta"))
    return float(counter.get_total_flops()) / 1e9


def _on_processor(folder: Path) -> None:
    torch.set_num_threads(1)
    for features, stated in FEATURES.items():
        network = _trained(features)
        path = as_onnx(network, folder / "unet.onnx", (32, 32, 32))
        runtimes: dict[str, Network] = {
            "ONNX Runtime": open_network(path, device=CPU),
            "bf16": open_network(copy.deepcopy(network), device=CPU, precision="bf16"),
        }
        _ratios(network, runtimes, stated=stated)
        whole = {"torch f32": open_network(network, device=CPU), **runtimes}
        for name, one in whole.items():
            _overhead(f"{features[0]} to {features[-1]} features, {name}", one)


def _ratios(network: nn.Module, runtimes: dict[str, Network], *, stated: bool) -> None:
    """Each runtime's pass beside torch's own, and whether it says the same of every voxel."""
    image, labels = _head(SIDE, 1000)
    batch = image[None, None]

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()

    runs = {"eager": eager} | {
        name: (lambda one=one: one.run(batch)) for name, one in runtimes.items()
    }
    # The processor's own time: others may be at work on this machine.
    best = _best(runs, time.process_time)
    said = eager().argmax(1)
    gflop = round(_gflop(network, batch.shape), 2)
    for name, one in runtimes.items():
        equal = float((one.run(batch).argmax(1) == said).mean())
        emit(
            f"3D U-Net {SIDE}^3, {gflop} GFLOP, {name} against torch eager f32",
            ratio=round(best[name] / best["eager"], 3),
            **({"target": TARGETS[name]} if stated else {}),
            equal_labels=round(equal, 5),
            equal_labels_target=0.998,
            right_labels=round(float((said[0] == labels).mean()), 4),
        )


def _overhead(name: str, network: Network) -> None:
    """What windows cost beside the passes themselves, on a volume of 27 of them."""
    volume = np.random.default_rng(2).normal(size=(1, 192, 192, 192)).astype(np.float32)
    # What is compiled once in a process is no part of it.
    predict(network, volume[:, :SIDE, :SIDE, :SIDE], WindowSettings(window=(SIDE,) * 3))
    inside = 0.0
    run = network.run

    def timed(batch: Any) -> Any:
        nonlocal inside
        began = time.process_time()
        out = run(batch)
        inside += time.process_time() - began
        return out

    network.run = timed  # type: ignore[method-assign]
    began = time.process_time()
    prediction = predict(network, volume, WindowSettings(window=(SIDE,) * 3))
    whole = time.process_time() - began
    network.run = run  # type: ignore[method-assign]
    emit(
        f"sliding window over 192^3, {name}",
        overhead_percent=round(100.0 * (whole - inside) / inside, 2),
        target=2.0,
        windows=prediction.report.windows,
    )


def _gemm_tflops(kind: torch.dtype, side: int = 8192) -> float:
    """What the card reaches in one large matrix product."""
    left = torch.randn(side, side, device="cuda", dtype=kind)
    right = torch.randn(side, side, device="cuda", dtype=kind)
    out = torch.empty_like(left)
    return 2.0 * side**3 / _card_s(lambda: torch.matmul(left, right, out=out)) / 1e12


def _card_s(run: Callable[[], Any], rounds: int = 10) -> float:
    """Seconds of one run, the best of rounds after two to warm up."""
    best = np.inf
    for count in range(rounds + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if count >= 2:
            best = min(best, time.perf_counter() - began)
    return best


def _on_card(folder: Path) -> None:
    """240 x 240 x 155 with four channels: nnU-Net's shape of network, whole volumes a second."""
    card = Device("cuda")
    volume = np.random.default_rng(4).normal(size=(4, *CARD_SHAPE)).astype(np.float32)
    settings = WindowSettings(window=CARD_WINDOW)
    network = seeded(UNet(4, 4, CARD_FEATURES), 1).eval()
    window_gflop = _gflop(network, (1, 4, *CARD_WINDOW))
    kinds = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
    gemm = {name: _gemm_tflops(kind) for name, kind in kinds.items()}
    path = as_onnx(network, folder / "card.onnx", (32, 32, 32))
    opens: dict[str, Callable[[], Network]] = {
        "torch eager f32": lambda: _torch(network, card, "f32", compiled=False),
        "torch bf16": lambda: _torch(network, card, "bf16", compiled=False),
        "torch bf16 compiled": lambda: _torch(network, card, "bf16", compiled=True),
        "torch f16 compiled": lambda: _torch(network, card, "f16", compiled=True),
        "ONNX Runtime CUDA f32": lambda: open_network(path, device=card, budget=CARD_BUDGET),
        "ONNX Runtime TensorRT f16": lambda: open_network(
            path, device=card, budget=CARD_BUDGET, precision="f16", tensorrt=True
        ),
    }
    eager_s, labels = 0.0, None
    for name, open_one in opens.items():
        try:
            opened = open_one()
            torch.cuda.reset_peak_memory_stats()
            seconds, said = _volume_s(opened, volume, settings)
        except (RadloopError, RuntimeError, ImportError) as error:
            # What is not installed on this machine is said, and the rest measured.
            emit(f"card, {name}", absent=type(error).__name__, code=getattr(error, "code", ""))
            continue
        eager_s = eager_s or seconds
        labels = said.labels() if labels is None else labels
        tflops = window_gflop * said.report.windows / seconds / 1e3
        emit(
            f"card, 240 x 240 x 155, {name}",
            volumes_per_s=round(1.0 / seconds, 3),
            share_of_gemm=round(tflops / gemm[opened.precision], 3),
            ratio_to_eager_f32=round(eager_s / seconds, 2),
            target=3.25,
            gigabytes=round(torch.cuda.max_memory_allocated() / 1e9, 2),
            gigabytes_limit=6.0,
            equal_labels=round(float((said.labels() == labels).mean()), 5),
            codes=said.report.codes,
        )
        opened.close()
        torch.compiler.reset()


def _perfusion_on_card() -> None:
    """650 k voxels x 60 frames that lie on the card already, beside the bare product there."""
    try:
        xp: Any = importlib.import_module("cupy")
    except ImportError:
        emit("card, perfusion cSVD resident", absent="cupy")
        return
    times_s = np.arange(60) * 1.5
    away = np.maximum(times_s - 15.0, 0.0)
    aif = 3.0 * away**3 * np.exp(-away / 1.5)
    tissue = np.convolve(aif, np.exp(-times_s / 4.0))[:60] * 0.01
    random = np.random.default_rng(6)
    curves = tissue[:, None] + random.normal(0.0, 0.05, (60, 650_000))
    resident = xp.asarray(curves.astype(np.float32))
    matrix = xp.asarray(random.normal(size=(120, 60)).astype(np.float32))

    def seconds(run: Callable[[], Any]) -> float:
        best = np.inf
        for _ in range(7):
            xp.cuda.Device().synchronize()
            began = time.perf_counter()
            run()
            xp.cuda.Device().synchronize()
            best = min(best, time.perf_counter() - began)
        return best

    bare = seconds(lambda: xp.matmul(matrix, resident))
    methods: tuple[Method, ...] = ("cSVD", "oSVD")
    for method in methods:
        settings = PerfusionSettings(method=method)
        whole = seconds(
            lambda settings=settings: perfusion_maps(resident, aif, times_s, settings, xp=xp)
        )
        emit(
            f"card, five perfusion maps of resident curves, {method}, 650 k x 60",
            milliseconds=round(1000.0 * whole, 2),
            **({"limit_milliseconds": 10.0} if method == "cSVD" else {}),
            ratio_to_product=round(whole / bare, 2),
        )


def _torch(network: nn.Module, card: Device, precision: Any, *, compiled: bool) -> Network:
    return open_network(
        copy.deepcopy(network),
        device=card,
        precision=precision,
        budget=CARD_BUDGET,
        compiled=compiled,
    )


def _volume_s(
    network: Network, volume: np.ndarray, settings: WindowSettings
) -> tuple[float, Prediction]:
    predict(network, volume, settings)
    best, said = np.inf, None
    for _ in range(3):
        began = time.perf_counter()
        said = predict(network, volume, settings)
        best = min(best, time.perf_counter() - began)
    assert said is not None
    return best, said


def main() -> None:
    """Print ratios; lines of a card only where one is."""
    with tempfile.TemporaryDirectory() as folder:
        _on_processor(Path(folder))
        if count_cards():
            _on_card(Path(folder))
            _perfusion_on_card()


if __name__ == "__main__":
    main()
