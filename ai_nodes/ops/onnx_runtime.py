"""An ONNX network that is open in ONNX Runtime: processor, CUDA or TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ai_nodes.ops.device import CPU, Budget, Device, measure_budget
from ai_nodes.ops.onnx_file import read_model
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
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry(_FOLDER, str(path.parent))
        providers = _providers(device, precision, budget, tensorrt=tensorrt)
        missing = {name for name, _ in providers} - set(onnxruntime.get_available_providers())
        if missing:
            raise ConfigError("runtime_absent")
        try:
            # The bytes that were looked at are the bytes that run.
            self._session = onnxruntime.InferenceSession(read_model(path), options, providers)
        except Exception as error:
            raise CorruptError("model_unreadable") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 5 or inputs[0].type != "tensor(float)":
            raise CorruptError("model_inputs", inputs=len(inputs))
        self._input, self._output = inputs[0].name, outputs[0].name
        count = inputs[0].shape[0]
        self.batch = count if isinstance(count, int) else None
        self.whole_batches = self.batch is not None or tensorrt
        sides = [side if isinstance(side, int) else 0 for side in inputs[0].shape[2:]]
        self.window = (sides[0], sides[1], sides[2]) if all(sides) else None

    def run(self, batch: Any) -> Any:
        """One pass; a network that returns several outputs gives its first."""
        return self._session.run([self._output], {self._input: np.ascontiguousarray(batch)})[0]

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
