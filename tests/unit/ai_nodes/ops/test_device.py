"""The processor or card that computes, and the memory it may take."""

from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from ai_nodes.ops import device as subject
from ai_nodes.ops.device import (
    CPU,
    Budget,
    Device,
    array_module,
    choose_device,
    count_cards,
    is_out_of_memory,
    measure_budget,
    prefer_device,
    release_memory,
)
from dicom_services.errors import ConfigError

CARDS = count_cards()
no_card = pytest.mark.skipif(CARDS > 0, reason="a card is here")


@pytest.fixture(autouse=True)
def _automatic():
    yield
    prefer_device("auto")


def test_devices_are_named_as_torch_names_them():
    assert [CPU.name, Device("cuda").name, Device("cuda", 1).name] == ["cpu", "cuda:0", "cuda:1"]


def test_the_processor_can_always_be_had():
    assert choose_device("cpu") == CPU
    assert array_module("cpu") is np


@no_card
def test_without_a_card_auto_is_the_processor():
    assert choose_device("auto") == choose_device() == CPU
    assert array_module() is np


@no_card
@pytest.mark.parametrize("wish", ["cuda", "cuda:1"])
def test_a_card_that_is_not_there_is_refused_never_replaced(wish):
    with pytest.raises(ConfigError, match="device_absent"):
        choose_device(wish)


@pytest.mark.parametrize("wish", ["", "gpu", "cuda:", "cuda:x", "cpu:1", "auto:0", "cuda:0\n"])
def test_a_word_that_names_no_device_is_refused(wish):
    with pytest.raises(ConfigError, match="device_unknown"):
        choose_device(wish)
    with pytest.raises(ConfigError, match="device_unknown"):
        prefer_device(wish)


def test_what_the_process_prefers_holds_where_nothing_else_is_asked_for():
    prefer_device("cpu")
    assert choose_device() == CPU
    prefer_device("cuda:63")
    with pytest.raises(ConfigError, match="device_absent"):
        choose_device()
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("present", "visible", "count"),
    [
        (2, None, 2),
        (0, None, 0),
        (0, "0,1", 0),
        (2, "", 0),
        (2, "-1", 0),
        (2, "1", 1),
        (2, "1,0", 2),
        (2, "0,7,1", 1),
        (2, "GPU-8932f937", 1),
        (1, "NoDevFiles", 0),
    ],
)
def test_cards_are_those_that_the_process_may_see(monkeypatch, present, visible, count):
    monkeypatch.setattr(subject, "_cards_of_driver", lambda: present)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_cards() == count
    assert choose_device("auto").kind == ("cuda" if count else "cpu")


def test_with_a_card_but_no_cupy_arrays_are_those_of_numpy_unless_asked_for(monkeypatch):
    monkeypatch.setattr(subject, "count_cards", lambda: 1)
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert array_module("auto") is np
    with pytest.raises(ConfigError, match="cupy_absent"):
        array_module("cuda")


def test_a_budget_is_a_share_of_what_is_free():
    whole, half = measure_budget(CPU, 1.0), measure_budget(CPU, 0.5)
    assert half.bytes == pytest.approx(whole.bytes / 2, rel=0.2)
    with pytest.raises(ValueError, match="positive"):
        Budget(0)


def test_a_limit_of_the_process_bounds_its_budget():
    program = """
import resource
from ai_nodes.ops.device import CPU, measure_budget
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
print(measure_budget(CPU, 1.0).bytes)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert 1 << 30 < int(done.stdout) <= 4 << 30
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_torch_on_a_processor_says_that_memory_ended():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55)
    assert is_out_of_memory(caught.value)


def test_numpy_says_that_memory_ended():
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 55)
    assert is_out_of_memory(caught.value)


def _cupy_error():
    # cupy.cuda.memory.OutOfMemoryError is a MemoryError of that name.
    return type("OutOfMemoryError", (MemoryError,), {})("Out of memory allocating 8 bytes")


ORT = onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (_cupy_error(), True),
        (ORT("bad allocation"), True),
        (ORT("BFCArena: Available memory of 5 is smaller than requested bytes of 9"), True),
        (ORT("Failed to allocate memory for requested buffer of size 1"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ORT("Non-zero status code returned while running Add"), False),
        (ValueError("out of memory"), False),
        (KeyError("x"), False),
    ],
)
def test_memory_that_ended_is_told_from_other_mistakes(error, memory):
    assert is_out_of_memory(error) is memory


def test_giving_memory_back_needs_no_card():
    release_memory(CPU)
