"""One function opens what torch and ONNX Runtime run; files that reach further are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from ai_nodes.ops.device import CPU, Budget, Device, choose_device, count_cards
from ai_nodes.ops.infer import predict
from ai_nodes.ops.onnx_runtime import _providers
from ai_nodes.ops.runtimes import open_network
from ai_nodes.ops.windows import WindowSettings
from dicom_services.errors import ConfigError, CorruptError, InputError
from tests.networks import as_onnx, small_unet

BUDGET = Budget(1 << 30)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def opened(source, **options):
    return open_network(source, device=CPU, budget=BUDGET, **options)


@pytest.fixture(scope="module")
def unet_file(tmp_path_factory):
    return as_onnx(small_unet(), tmp_path_factory.mktemp("onnx") / "unet.onnx", (16, 16, 16))


def test_onnx_says_what_torch_says(unet_file):
    batch = noise(2, 1, 24, 16, 32)
    there, here = opened(unet_file), opened(small_unet())
    assert there.runtime == "onnxruntime"
    assert here.runtime == "torch"
    assert there.window is None
    assert there.run(batch) == pytest.approx(here.run(batch), abs=1e-4)


def test_onnx_says_what_torch_says_of_a_volume(unet_file):
    settings = WindowSettings(window=(16, 16, 16), mirrors="i")
    volume = noise(1, 20, 24, 30)
    there = predict(opened(unet_file), volume, settings)
    here = predict(opened(small_unet()), volume, settings)
    assert there.values == pytest.approx(here.values, abs=1e-4)


def test_a_file_made_for_one_window_gets_that_window_in_that_batch(tmp_path):
    path = as_onnx(small_unet(), tmp_path / "one.onnx", (16, 8, 16), any_size=False)
    network = opened(path)
    assert (network.window, network.batch, network.whole_batches) == ((16, 8, 16), 1, True)
    volume = noise(1, 20, 20, 20)
    said = predict(network, volume, WindowSettings(window=(32, 32, 32), batch=4))
    settings = WindowSettings(window=(16, 8, 16))
    assert said.report.window == (16, 8, 16)
    assert said.values == pytest.approx(
        predict(opened(small_unet()), volume, settings).values, abs=1e-4
    )


def test_a_file_made_for_one_window_is_not_given_a_smaller_one(tmp_path):
    path = as_onnx(small_unet(), tmp_path / "one.onnx", (16, 16, 16), any_size=False)
    with pytest.raises(InputError, match="out_of_memory"):
        predict(
            opened(path),
            noise(1, 64, 64, 64),
            WindowSettings(multiple=8),
            budget=Budget(1 << 16),
        )


def test_weights_come_from_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(small_unet(7).state_dict(), path)
    batch = noise(1, 1, 16, 16, 16)
    said = opened(lambda: small_unet(1), weights=path).run(batch)
    assert said == pytest.approx(opened(small_unet(7)).run(batch), abs=1e-6)


def _one_less(state):
    state.popitem()
    return state


def _one_more(state):
    return {**state, "extra": torch.zeros(1)}


def _other_shape(state):
    name = next(iter(state))
    return {**state, name: state[name][:1].clone()}


@pytest.mark.parametrize("change", [_one_less, _one_more, _other_shape])
def test_weights_that_do_not_fit_are_refused(tmp_path, change):
    path = tmp_path / "weights.safetensors"
    save_file(change(dict(small_unet().state_dict())), path)
    with pytest.raises(CorruptError, match="model_weights"):
        opened(small_unet(), weights=path)


def test_a_pickle_in_place_of_weights_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.save(small_unet().state_dict(), path)
    with pytest.raises(CorruptError, match="model_weights"):
        opened(small_unet(), weights=path)


def test_half_precision_labels_as_full_precision_does_where_the_network_is_sure():
    """A filter bank that tells apart what is bright, dark and rough, on noisy blocks.

    Its logits differ by much more than bfloat16 rounds, but at the edges of blocks.
    """
    kernel = torch.zeros(3, 1, 3, 3, 3)
    kernel[0], kernel[1] = 1.0 / 27.0, -1.0 / 27.0
    network = nn.Conv3d(1, 3, 3, padding=1)
    network.weight.data, network.bias.data = kernel, torch.tensor([0.0, 0.0, 0.4])
    level = np.random.default_rng(5).integers(-1, 2, (6, 6, 6)).astype(np.float32)
    volume = np.kron(level, np.ones((8, 8, 8), np.float32))[None]
    volume += 0.1 * noise(*volume.shape)
    settings = WindowSettings(window=(32, 32, 32))
    full = predict(opened(network), volume, settings)
    half = predict(opened(network, precision="bf16"), volume, settings)
    assert half.report.precision == "bf16"
    assert (full.labels() == half.labels()).mean() >= 0.998
    assert len(np.unique(full.labels())) == 3
    assert half.values.dtype == np.float32


def test_group_norm_in_place_of_instance_norm_is_the_same_norm():
    module = nn.Sequential(
        nn.InstanceNorm3d(16, affine=True),
        nn.InstanceNorm3d(16, affine=False),
        nn.InstanceNorm3d(16, track_running_stats=True),
        nn.Conv3d(16, 4, 1),
        nn.InstanceNorm3d(4),
    )
    nn.init.normal_(module[0].weight)
    nn.init.normal_(module[0].bias)
    batch = noise(2, 16, 8, 8, 8)
    before = opened(module).run(batch).copy()
    network = opened(module, precision="bf16")
    assert [type(one).__name__ for one in module] == [
        "GroupNorm",
        "GroupNorm",
        "InstanceNorm3d",
        "Conv3d",
        "InstanceNorm3d",
    ]
    assert network.run(batch) == pytest.approx(before, abs=0.1)
    assert opened(module).run(batch) == pytest.approx(before, abs=1e-4)


def test_a_precision_that_the_processor_or_runtime_lacks_is_refused(unet_file):
    for source, precision in ((small_unet(), "f16"), (unet_file, "bf16"), (unet_file, "f16")):
        with pytest.raises(ConfigError, match="precision_unsupported"):
            opened(source, precision=precision)


@pytest.mark.skipif(count_cards() > 0, reason="a card is here")
def test_a_card_that_is_not_there_is_never_silently_the_processor(unet_file):
    for source in (unet_file, small_unet()):
        with pytest.raises(ConfigError, match=r"runtime_absent|device_absent"):
            open_network(source, device=Device("cuda"), budget=BUDGET)


def test_on_a_card_tensorrt_comes_first_where_asked_for_then_cuda():
    card, budget = Device("cuda", 1), Budget(6 << 30)
    names = [name for name, _ in _providers(card, "f16", budget, tensorrt=True)]
    assert names == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    options = dict(_providers(card, "f32", budget, tensorrt=False))
    assert options["CUDAExecutionProvider"]["gpu_mem_limit"] == 6 << 30
    assert options["CUDAExecutionProvider"]["device_id"] == 1
    assert _providers(CPU, "f32", budget, tensorrt=True) == [("CPUExecutionProvider", {})]


def test_a_closed_network_lets_its_weights_go(unet_file):
    network = opened(small_unet())
    network.close()
    assert not list(network._module.parameters())
    opened(unet_file).close()


def test_onnx_moves_to_the_processor_by_a_session_of_its_own(unet_file):
    with opened(unet_file).on_cpu() as twin:
        assert twin.run(noise(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


# --- files that are refused -------------------------------------------------------------------


def _model(nodes, initializers=(), domains=(("", 18),)):
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 4, 4, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], list(initializers))
    imports = [helper.make_opsetid(*one) for one in domains]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def _external(location, *, offset=None, length=None):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def _write(tmp_path, model):
    path = tmp_path / "model" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    (tmp_path / "outside.bin").write_bytes(np.float32(2.0).tobytes() * 4)
    (path.parent / "inside.bin").write_bytes(np.float32(3.0).tobytes() * 4)
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    (path.parent / "folder").symlink_to(tmp_path)
    os.mkfifo(path.parent / "pipe.bin")
    return path


ADD = [helper.make_node("Add", ["x", "w"], ["y"])]


def test_weights_beside_the_model_are_read(tmp_path):
    path = _write(tmp_path, _model(ADD, [_external("inside.bin", offset=4, length=4)]))
    assert (opened(path).run(np.zeros((1, 1, 4, 4, 4), np.float32)) == 3.0).all()


@pytest.mark.parametrize(
    "tensor",
    [
        _external("../outside.bin"),
        _external("/etc/hostname"),
        _external("sub/../../outside.bin"),
        _external("..\\outside.bin"),
        _external("C:/outside.bin"),
        _external("link.bin"),
        _external("folder/outside.bin"),
        _external("pipe.bin"),
        _external("."),
        _external(""),
        _external("missing.bin"),
        _external("inside.bin", offset=14, length=4),
        _external("inside.bin", offset=-4, length=4),
        _external("inside.bin", length=-1),
        _external("inside.bin", length="many"),
    ],
    ids=lambda tensor: "-".join(entry.value for entry in tensor.external_data),
)
def test_weights_elsewhere_are_refused_before_anything_opens_them(tmp_path, tensor):
    path = _write(tmp_path, _model(ADD, [tensor]))
    with pytest.raises(CorruptError, match="model_external_data"):
        opened(path)


def test_weights_elsewhere_are_found_inside_of_attributes_and_branches(tmp_path):
    constant = helper.make_node("Constant", [], ["w"], value=_external("../outside.bin"))
    branch = helper.make_graph(
        [constant], "b", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, [1])]
    )
    yes = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", 9, [], [True]))
    choose = helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)
    path = _write(tmp_path, _model([yes, choose, *ADD]))
    with pytest.raises(CorruptError, match="model_external_data"):
        opened(path)


@pytest.mark.parametrize(
    ("domain", "operator"), [("mine", "Add"), ("com.microsoft", "EPContext"), ("ai.own", "X")]
)
def test_operators_that_need_somebodys_library_are_refused(tmp_path, domain, operator):
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    path = _write(tmp_path, _model([node], domains=(("", 18), (domain, 1))))
    with pytest.raises(CorruptError, match="model_operator"):
        opened(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04\x95pickle", b"\x0a" * 1000])
def test_what_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(CorruptError, match="model_unreadable"):
        opened(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CorruptError, match="model_unreadable"):
        opened(tmp_path / "none.onnx")


def test_a_model_of_two_inputs_is_refused(tmp_path):
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 4, 4, 4]) for n in "xwy"]
    graph = helper.make_graph(ADD, "g", value[:2], value[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "two.onnx"
    onnx.save(model, path)
    with pytest.raises(CorruptError, match="model_inputs"):
        opened(path)


def test_a_function_that_the_model_brings_itself_needs_nobodys_library(tmp_path):
    twice = helper.make_function(
        "mine",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    model = _model(
        [helper.make_node("Twice", ["x"], ["y"], domain="mine")], domains=(("", 18), ("mine", 1))
    )
    model.functions.append(twice)
    path = _write(tmp_path, model)
    assert (opened(path).run(np.full((1, 1, 4, 4, 4), 1.5, np.float32)) == 3.0).all()


def test_a_place_of_weights_that_nobody_asked_for_is_refused(tmp_path):
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    tensor.external_data.add(key="location", value="../outside.bin")
    with pytest.raises(CorruptError, match="model_external_data"):
        opened(_write(tmp_path, _model(ADD, [tensor])))


def test_models_and_weights_beyond_what_is_allowed_are_refused_unread(tmp_path):
    path = _write(tmp_path, _model(ADD, [_external("inside.bin", length=17 << 30)]))
    os.truncate(path.parent / "inside.bin", 17 << 30)
    with pytest.raises(CorruptError, match="model_too_large"):
        opened(path)
    os.truncate(path, 1 << 31)
    with pytest.raises(CorruptError, match="model_too_large"):
        opened(path)


# --- one process, many jobs -------------------------------------------------------------------

FORK = """
import os, sys
import numpy as np
from pathlib import Path
from ai_nodes.ops.device import CPU
from ai_nodes.ops.runtimes import open_network

def unet():
    from tests.networks import small_unet

    return small_unet()

source = Path(sys.argv[1]) if len(sys.argv) > 1 else unet
network = open_network(source, device=CPU)
batch = np.ones((1, 1, 32, 32, 32), np.float32)
before = network.run(batch).copy()
for _ in range(2):
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(network.run(batch), before) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_a_network_of_one_thread_survives_the_fork_of_each_job(unet_file, runtime):
    arguments = [str(unet_file)] if runtime == "onnx" else []
    done = subprocess.run(
        [sys.executable, "-c", FORK, *arguments],
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_that_lists_or_works_pays_for_torch_before_a_network_is_opened():
    program = (
        "import sys; import ai_nodes.ops.infer, ai_nodes.registry, ai_nodes.worker, ai_nodes.cli;"
        "print([name for name in ('torch', 'onnxruntime', 'onnx', 'monai', 'cupy')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_network_without_its_runtime_says_so():
    program = """
import sys
sys.modules["torch"] = None
from ai_nodes.ops.device import CPU, Budget
from ai_nodes.ops.runtimes import open_network
from dicom_services.errors import ConfigError
try:
    open_network(lambda: None, device=CPU, budget=Budget(1))
except ConfigError as error:
    print(error.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "runtime_absent"


def test_the_default_device_and_budget_are_those_of_the_machine():
    network = open_network(nn.Identity())
    assert network.device == choose_device()
    assert network.budget.bytes > 1 << 20


def test_a_list_of_outputs_gives_its_first():
    class Deep(nn.Module):
        def forward(self, x):
            return [x, x[:, :, ::2, ::2, ::2]]

    assert opened(Deep()).run(noise(1, 1, 4, 4, 4)).shape == (1, 1, 4, 4, 4)


def test_memory_that_ends_in_onnx_runtime_is_memory_that_ended(tmp_path):
    # 2^42 floats from a model of a hundred bytes.
    shape = helper.make_tensor("s", TensorProto.INT64, [1], [1 << 42])
    nodes = [
        helper.make_node("Constant", [], ["s"], value=shape),
        helper.make_node("ConstantOfShape", ["s"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["w"], keepdims=0),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    path = tmp_path / "bomb.onnx"
    onnx.save(_model(nodes), path)
    settings = WindowSettings(window=(4, 4, 4), activation="none")
    with pytest.raises(InputError, match="out_of_memory"):
        predict(opened(path), noise(1, 4, 4, 4), settings)
