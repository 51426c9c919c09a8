"""A torch network that is open: on the processor with numpy arrays, on a card with torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ai_nodes.ops.device import CPU, Budget, Device, measure_budget, release_memory
from dicom_services.errors import ConfigError, CorruptError

_TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


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
        torch.set_num_threads(threads)
        self.device, self.precision, self.budget = device, precision, budget
        self._threads = threads
        self._module = module.eval().requires_grad_(False)
        self._place(device)
        self._call: Callable[[Any], Any] = self._module
        if compiled and device.kind == "cuda":
            self._call = torch.compile(self._module, dynamic=False)
        self.whole_batches = self._call is not self._module

    def run(self, batch: Any) -> Any:
        """One pass; a network that returns several outputs gives its first."""
        tensor = torch.from_numpy(batch) if self.device.kind == "cpu" else batch
        with torch.inference_mode():
            if self.precision == "f32":
                out = self._call(tensor)
            else:
                tensor = tensor.to(memory_format=torch.channels_last_3d)
                with torch.autocast(self.device.kind, dtype=_TYPES[self.precision]):
                    out = self._call(tensor)
            out = out[0] if isinstance(out, list | tuple) else out
            out = out.to(torch.float32).contiguous()
        return out.numpy() if self.device.kind == "cpu" else out

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


def _load(module: nn.Module, weights: Path) -> None:
    """Every tensor of a safetensors file into the module; nothing missing, nothing left over."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(weights), strict=True)
    except (SafetensorError, RuntimeError, OSError, ValueError) as error:
        raise CorruptError("model_weights") from error
