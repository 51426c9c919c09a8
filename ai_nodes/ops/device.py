"""The processor or card that computes, numpy or cupy for it, and the memory it may take."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

from dicom_services.errors import ConfigError

SHARE: Final = 0.8
"""Of the memory that is free: the rest is for what libraries take beside their tensors."""
_WISH: Final = re.compile(r"(auto|cpu|cuda)(?::([0-9]{1,2}))?\Z")
_CGROUPS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_USED: Final = (
    Path("/sys/fs/cgroup/memory.current"),
    Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
# Classes by name: none of their packages needs to be imported to ask.
_MEMORY_ERRORS: Final = frozenset({"OutOfMemoryError", "MemoryError"})
# torch on a processor, ONNX Runtime, cuDNN and cuBLAS have no class for it but these words.
_MEMORY_WORDS: Final = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "bad allocation",
    "bad_alloc",
    "failed to allocate memory",
    "available memory of",
    "status_alloc_failed",
)
_preferred = "auto"


@dataclass(frozen=True, slots=True)
class Device:
    """A processor: `cpu`, or the CUDA card number `index`."""

    kind: Literal["cpu", "cuda"]
    index: int = 0

    @property
    def name(self) -> str:
        """As torch calls it: `cpu`, `cuda:0`."""
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


CPU: Final = Device("cpu")


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that a computation may hold at once on its device."""

    bytes: int

    def __post_init__(self) -> None:
        if self.bytes <= 0:
            raise ValueError("a budget is positive")


def prefer_device(wish: str) -> None:
    """Choose for the whole process: what the settings of this machine say.

    Raises
    ------
    ConfigError
        `device_unknown` for a wish that names no device.
    """
    global _preferred
    _parse(wish)
    _preferred = wish


def choose_device(wish: str | None = None) -> Device:
    """The device that `wish` names: "auto", "cpu", "cuda" or "cuda:1".

    Cards are counted through the driver's management library, which makes no CUDA context: a
    process may ask here and fork later.

    Parameters
    ----------
    wish : str or None
        None takes what `prefer_device` was told; "auto" takes the first card, else the processor.

    Raises
    ------
    ConfigError
        `device_unknown` for another word, `device_absent` for a card that is not there.
    """
    kind, index = _parse(_preferred if wish is None else wish)
    if kind == "cpu":
        return CPU
    cards = count_cards()
    if kind == "auto":
        return Device("cuda") if cards else CPU
    if index >= cards:
        raise ConfigError("device_absent", card=index, cards=cards)
    return Device("cuda", index)


def array_module(prefer: str | None = None) -> ModuleType:
    """`numpy`, or `cupy` where a card is to be used and cupy is installed; as `choose_device`.

    Raises
    ------
    ConfigError
        `cupy_absent` when a card is asked for by name and cupy is not installed.
    """
    import numpy

    wish = _preferred if prefer is None else prefer
    device = choose_device(wish)
    if device.kind == "cpu":
        return numpy
    if importlib.util.find_spec("cupy") is None:
        if wish.startswith("cuda"):
            raise ConfigError("cupy_absent")
        return numpy
    cupy = importlib.import_module("cupy")
    cupy.cuda.Device(device.index).use()
    return cupy


def count_cards() -> int:
    """CUDA cards that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = _cards_of_driver()
    if visible is None or not present:
        return present
    # CUDA ignores everything from the first entry that names no card.
    names = [name.strip() for name in visible.split(",")]
    count = 0
    for name in names:
        if (name.isdigit() and int(name) >= present) or not re.match(r"[0-9]+\Z|GPU-|MIG-", name):
            break
        count += 1
    return count


def measure_budget(device: Device, share: float = SHARE) -> Budget:
    """`share` of the memory that is free on the device now.

    On a processor this is the least of free memory, the control group's limit and the process's
    address space limit; on a card what its driver reports, which takes a CUDA context.
    """
    free = _free_bytes() if device.kind == "cpu" else _free_card_bytes(device)
    return Budget(max(1, int(free * share)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, ONNX Runtime, cupy, numpy or Python says that memory was too little."""
    if any(kind.__name__ in _MEMORY_ERRORS for kind in type(error).__mro__):
        return True
    if not isinstance(error, RuntimeError | OSError) and not _of_onnxruntime(error):
        return False
    said = str(error).lower()
    return any(words in said for words in _MEMORY_WORDS)


def release_memory(device: Device) -> None:
    """Give cached memory of a card back, so that a smaller try finds it."""
    torch = sys.modules.get("torch")
    if device.kind == "cuda" and torch is not None:
        torch.cuda.empty_cache()
    cupy = sys.modules.get("cupy")
    if device.kind == "cuda" and cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()


def _parse(wish: str) -> tuple[str, int]:
    found = _WISH.match(wish)
    if not found or (found[2] and found[1] != "cuda"):
        raise ConfigError("device_unknown")
    return found[1], int(found[2] or 0)


@cache
def _cards_of_driver() -> int:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint(0)
        if library.nvmlInit_v2() != 0:
            return 0
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return 0
        library.nvmlShutdown()
    except (OSError, AttributeError):
        return 0
    return count.value


def _free_bytes() -> int:
    import resource

    meminfo = Path("/proc/meminfo").read_text("ascii")
    found = re.search(r"MemAvailable:\s+([0-9]+) kB", meminfo)
    limits = [int(found[1]) * 1024] if found else []
    for limit, used in zip(_CGROUPS, _USED, strict=True):
        try:
            limits.append(int(limit.read_text("ascii")) - int(used.read_text("ascii")))
        except (OSError, ValueError):
            # Not there, or "max".
            continue
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        limits.append(address_space - pages * resource.getpagesize())
    return max(0, min(limits, default=1 << 30))


def _free_card_bytes(device: Device) -> int:
    import torch

    free, _ = torch.cuda.mem_get_info(device.index)
    # What torch holds in its cache is free for torch.
    held = torch.cuda.memory_reserved(device.index) - torch.cuda.memory_allocated(device.index)
    return int(free + held)


def _of_onnxruntime(error: Any) -> bool:
    return type(error).__module__.startswith("onnxruntime")
