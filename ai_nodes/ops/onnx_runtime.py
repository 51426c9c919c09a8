"""An ONNX network that is open in ONNX Runtime: processor, CUDA or TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ai_nodes.ops.blending import Blend, blend_on
from ai_nodes.ops.device import CPU, Budget, Device, measure_budget
from ai_nodes.ops.onnx_file import read_model
from ai_nodes.ops.windows import WindowSettings
from dicom_services.errors import ConfigError, CorruptError

_FOLDER = "session.model_external_initializers_file_folder_path"


class OnnxNetwork:
    """See `runtimes.Network`."""

    runtime = "onnxruntime"

    def __init__(
        self,
        path: Path,
        device: Device,
        precision: Any,
        budget: Budget,
        *,
        threads: int,
        tensorrt: bool,
    ) -> None:
        if precision != "f32" and not (tensorrt and device.kind == "cuda"):
            raise ConfigError("precision_unsupported")
        self.device, self.precision, self.budget = device, precision, budget
        self._path, self._threads = path, threads
        if device.kind == "cuda":
            # torch's own copies of CUDA and cuDNN, where they are.
            onnxruntime.preload_dlls()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry(_FOLDER, str(path.parent))
        providers = _providers(device, precision, budget, tensorrt=tensorrt)
        missing = {name for name, _ in providers} - set(onnxruntime.get_available_providers())
        if missing:
            raise ConfigError("runtime_absent")
        # The bytes that were looked at are the bytes that run.
        content = read_model(path)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers)
        except Exception as error:
            raise CorruptError("model_unreadable") from error
        if self._session.get_providers()[0] != providers[0][0]:
            # ONNX Runtime goes on without a provider that it cannot load, and says so nowhere.
            raise ConfigError("runtime_absent")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 5 or inputs[0].type != "tensor(float)":
            raise CorruptError("model_inputs", inputs=len(inputs))
        self._input, self._output = inputs[0].name, outputs[0].name
        self._classes = outputs[0].shape[1] if len(outputs[0].shape) == 5 else None
        self._out: Any = None
        count = inputs[0].shape[0]
        self.batch = count if isinstance(count, int) else None
        self.whole_batches = self.batch is not None or tensorrt
        sides = [side if isinstance(side, int) else 0 for side in inputs[0].shape[2:]]
        self.window = (sides[0], sides[1], sides[2]) if all(sides) else None

    def run(self, batch: Any) -> Any:
        """One pass; a network that returns several outputs gives its first."""
        if self.device.kind == "cuda":
            return self._run_on_card(batch)
        return self._session.run([self._output], {self._input: np.ascontiguousarray(batch)})[0]

    def _run_on_card(self, batch: Any) -> Any:
        """Tensors of torch by their addresses: nothing leaves the card."""
        import torch

        if not isinstance(self._classes, int):
            raise CorruptError("model_inputs")
        shape = (len(batch), self._classes, *batch.shape[2:])
        if self._out is None or self._out.shape != shape:
            self._out = torch.empty(shape, device=self.device.name)
        binding = self._session.io_binding()
        tensors = ((binding.bind_input, self._input, batch.contiguous()),)
        for bind, name, tensor in (*tensors, (binding.bind_output, self._output, self._out)):
            bind(
                name,
                "cuda",
                self.device.index,
                np.float32,
                tuple(tensor.shape),
                tensor.data_ptr(),
            )
        # Each library has a stream of its own; ONNX Runtime waits for its own before it returns.
        torch.cuda.current_stream(self.device.index).synchronize()
        self._session.run_with_iobinding(binding)
        return self._out

    def blend(self, volume: NDArray[np.float32], settings: WindowSettings, budget: Budget) -> Blend:
        """What batches for this network are cut from and its answers are folded into."""
        return blend_on(self.device, volume, settings, budget)

    @contextmanager
    def on_cpu(self) -> Iterator[OnnxNetwork]:
        """A second session, for as long as the block lasts."""
        twin = OnnxNetwork(
            self._path, CPU, "f32", measure_budget(CPU), threads=self._threads, tensorrt=False
        )
        try:
            yield twin
        finally:
            twin.close()

    def close(self) -> None:
        """Let the session go."""
        del self._session
        self._out = None


def _providers(
    device: Device, precision: str, budget: Budget, *, tensorrt: bool
) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's names for what may run a node, the first that can does."""
    chosen: list[tuple[str, dict[str, Any]]] = []
    if device.kind == "cuda":
        if tensorrt:
            chosen.append(
                (
                    "TensorrtExecutionProvider",
                    {
                        "device_id": device.index,
                        "trt_max_workspace_size": budget.bytes // 2,
                        "trt_fp16_enable": precision == "f16",
                        "trt_bf16_enable": precision == "bf16",
                    },
                )
            )
        chosen.append(
            (
                "CUDAExecutionProvider",
                {
                    "device_id": device.index,
                    "gpu_mem_limit": budget.bytes,
                    "arena_extend_strategy": "kSameAsRequested",
                    "use_tf32": 0,
                },
            )
        )
    return [*chosen, ("CPUExecutionProvider", {})]
