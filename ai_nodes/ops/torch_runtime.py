"""A torch network that is open: on the processor with numpy arrays, on a card with torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ai_nodes.ops.blending import Blend, blend_on
from ai_nodes.ops.device import CPU, Budget, Device, measure_budget, release_memory
from ai_nodes.ops.windows import WindowSettings
from dicom_services.errors import ConfigError, CorruptError

_TYPES: Final = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
_LANES: Final = 16
"""Channels from which on torch's group norm has vectors for channels-last memory."""


class TorchNetwork:
    """See `runtimes.Network`."""

    runtime = "torch"
    window: tuple[int, int, int] | None = None
    batch: int | None = None

    def __init__(
        self,
        source: nn.Module | Callable[[], nn.Module],
        weights: Path | None,
        device: Device,
        precision: Any,
        budget: Budget,
        *,
        threads: int,
        compiled: bool,
    ) -> None:
        if device.kind == "cpu" and precision == "f16":
            # Processors without AMX have no half-precision convolution worth its name.
            raise ConfigError("precision_unsupported")
        module = source if isinstance(source, nn.Module) else source()
        if weights is not None:
            _load(module, weights)
        # Before any pass: a pool that is never started is none that a fork could lose.
        torch.set_num_threads(threads)
        self.device, self.precision, self.budget = device, precision, budget
        self._threads = threads
        if device.kind == "cuda":
            _limit(device, budget)
        self._module = module.eval().requires_grad_(False)
        if device.kind == "cpu" and precision == "bf16":
            _use_group_norm(self._module)
        self._place(device)
        self._call: Callable[[Any], Any] = self._module
        if compiled and device.kind == "cuda":
            self._call = torch.compile(self._module, dynamic=False)
        self.whole_batches = self._call is not self._module

    def run(self, batch: Any) -> Any:
        """One pass; a network that returns several outputs gives its first."""
        tensor = torch.from_numpy(batch) if self.device.kind == "cpu" else batch
        # f32 is f32: no convolution in TF32's ten bits.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            if self.precision == "f32":
                out = self._call(tensor)
            else:
                tensor = tensor.to(memory_format=torch.channels_last_3d)
                with torch.autocast(self.device.kind, dtype=_TYPES[self.precision]):
                    out = self._call(tensor)
            out = out[0] if isinstance(out, list | tuple) else out
            out = out.to(torch.float32).contiguous()
        return out.numpy() if self.device.kind == "cpu" else out

    def blend(self, volume: NDArray[np.float32], settings: WindowSettings, budget: Budget) -> Blend:
        """What batches for this network are cut from and its answers are folded into."""
        return blend_on(self.device, volume, settings, budget)

    @contextmanager
    def on_cpu(self) -> Iterator[TorchNetwork]:
        """The module moves to the processor and comes back at the end."""
        self._place(CPU)
        release_memory(self.device)
        precision = "f32" if self.precision == "f16" else self.precision
        try:
            yield TorchNetwork(
                self._module,
                None,
                CPU,
                precision,
                measure_budget(CPU),
                threads=self._threads,
                compiled=False,
            )
        finally:
            self._place(self.device)

    def close(self) -> None:
        """Let the weights go."""
        self._module = nn.Identity()
        self._call = self._module
        release_memory(self.device)

    def _place(self, device: Device) -> None:
        form = torch.contiguous_format if self.precision == "f32" else torch.channels_last_3d
        self._module.to(device.name)
        for parameter in self._module.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=form)


def _limit(device: Device, budget: Budget) -> None:
    """Let torch raise its own error above the budget, whatever else the card has free."""
    if not torch.cuda.is_available():
        raise ConfigError("device_absent", card=device.index, cards=0)
    whole = torch.cuda.get_device_properties(device.index).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget.bytes / whole), device.index)


def _use_group_norm(module: nn.Module) -> None:
    """Instance norm as group norm with a group for each channel: the same sum, in place.

    torch copies channels-last tensors to and fro for its instance norm; this halves a pass.
    """
    for name, child in module.named_children():
        if not isinstance(child, nn.InstanceNorm3d):
            _use_group_norm(child)
        elif not child.track_running_stats and child.num_features % _LANES == 0:
            count = child.num_features
            norm = nn.GroupNorm(count, count, child.eps, affine=child.affine)
            if child.affine:
                norm.weight, norm.bias = child.weight, child.bias
            setattr(module, name, norm.eval().requires_grad_(False))


def _load(module: nn.Module, weights: Path) -> None:
    """Every tensor of a safetensors file into the module; nothing missing, nothing left over."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(weights), strict=True)
    except (SafetensorError, RuntimeError, OSError, ValueError) as error:
        raise CorruptError("model_weights") from error
