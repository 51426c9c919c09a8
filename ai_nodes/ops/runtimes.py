"""Networks of torch and of ONNX Runtime, opened and asked by one function."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.blending import Blend
from ai_nodes.ops.device import Budget, Device, choose_device, measure_budget
from ai_nodes.ops.windows import WindowSettings
from dicom_services.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

Precision = Literal["f32", "bf16", "f16"]
THREADS: Final = 1
"""One thread for each worker: parallel work means more workers."""


class Network(Protocol):
    """A network that is open on one device: batches in, batches out.

    Arrays are numpy's on a processor and torch's on a card: (n, channels, k, j, i) float32 in,
    (n, classes, k, j, i) float32 out. What `run` returns is overwritten by the next call.
    """

    device: Device
    precision: Precision
    budget: Budget
    runtime: str
    window: tuple[int, int, int] | None
    """Its only window, where it was exported for one."""
    batch: int | None
    """Its only batch size, where it was exported for one."""
    whole_batches: bool
    """Whether a batch of another size would cost it a compilation, or is refused."""

    def run(self, batch: Any) -> Any:
        """One pass."""

    def blend(self, volume: NDArray[np.float32], settings: WindowSettings, budget: Budget) -> Blend:
        """What batches for this network are cut from and its answers are folded into."""

    def on_cpu(self) -> AbstractContextManager[Network]:
        """The same network on the processor for as long as the block lasts."""

    def close(self) -> None:
        """Let its memory go."""


def open_network(
    source: Path | nn.Module | Callable[[], nn.Module],
    *,
    weights: Path | None = None,
    device: Device | None = None,
    precision: Precision = "f32",
    budget: Budget | None = None,
    threads: int = THREADS,
    tensorrt: bool = False,
    compiled: bool = False,
) -> Network:
    """Open a network on a device.

    Parameters
    ----------
    source : Path, Module or callable
        An .onnx file, or a torch network, or what builds one.
    weights : Path or None
        Of a torch network: safetensors, every tensor by its name. Pickles are not read.
    device : Device or None
        None: as the machine's settings say.
    precision : str
        "bf16" and "f16" compute in half the bits; weights and results stay float32.
    budget : Budget or None
        None: what is free on the device now.
    threads : int
        Of one pass on a processor.
    tensorrt : bool
        An .onnx file on a card: let TensorRT run what it can, CUDA the rest.
    compiled : bool
        A torch network on a card: compile it for the window's shape on the first pass.

    Raises
    ------
    ConfigError
        `runtime_absent` when torch or ONNX Runtime is not installed, `precision_unsupported`.
    CorruptError
        `model_unreadable`, `model_weights`, `model_external_data`, `model_operator`,
        `model_too_large`: the file is not what a model may be.
    """
    device = device or choose_device()
    budget = budget or measure_budget(device)
    try:
        if isinstance(source, Path):
            from ai_nodes.ops.onnx_runtime import OnnxNetwork

            return OnnxNetwork(
                source, device, precision, budget, threads=threads, tensorrt=tensorrt
            )
        from ai_nodes.ops.torch_runtime import TorchNetwork

        return TorchNetwork(
            source, weights, device, precision, budget, threads=threads, compiled=compiled
        )
    except ImportError as error:
        raise ConfigError("runtime_absent") from error
