"""Models by name: opened when they are right, refused with a code when they are not."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from pydicom import Dataset

from ai_nodes import gpu_lease, models
from ai_nodes.analysis import analyse
from ai_nodes.hd_bet_network import HdBetNetwork
from ai_nodes.manifest import Manifest, Model
from ai_nodes.model_store import ModelStore
from ai_nodes.models import Models
from ai_nodes.networks import seeded
from ai_nodes.ops.device import Device
from ai_nodes.pipeline import Settings
from ai_nodes.pipelines import calcium
from dicom_services.domain.volume import Study
from dicom_services.errors import ConfigError, InputError, MissingError
from dicom_services.settings import ModelSettings
from tests.dicom_files import ct_files, stored_ramp
from tests.unit.ai_nodes.test_model_store import a_model, file_entry

PORT = {"name": "x", "dtype": "float32", "shape": [1, 1, 0, 0, 0], "meaning": "An image."}


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_process", None)


def onnx_file(path: Path, weight: float = 2.0) -> None:
    """A network that multiplies by a number."""
    node = onnx.helper.make_node("Mul", ["x", "w"], ["y"])
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, None, None, None])
        for name in ("x", "y")
    ]
    weights = onnx.numpy_helper.from_array(np.array(weight, np.float32), "w")
    graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], [weights])
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
        ),
        path,
    )


def opened(folder: Path, path: Path, **more: Any) -> tuple[Models, Model]:
    """The model of one file, not fetched yet."""
    entry = file_entry(path.read_bytes(), {"kind": "path", "path": str(path)}, path=path.name)
    model = a_model(entry, **{"runtime": "onnx", "input": [PORT], "output": [PORT]} | more)
    store = ModelStore(Manifest({model.name: model}, folder), folder / "models")
    return Models(store, ModelSettings(device="cpu"), folder / "leases"), model


def test_a_network_of_onnx_computes_what_its_file_says(tmp_path: Path) -> None:
    onnx_file(tmp_path / "net.onnx", 3.0)
    these, model = opened(tmp_path, tmp_path / "net.onnx")
    these.store.fetch(model)
    batch = np.ones((1, 1, 2, 2, 2), np.float32)
    assert (these.load("net").run(batch) == 3.0).all()
    assert these.load("net") is these.load("net")
    these.close()


def test_a_network_of_torch_computes_with_the_weights_of_its_checkpoint(tmp_path: Path) -> None:
    network = seeded(HdBetNetwork(), 5)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    entry = file_entry(
        (tmp_path / "net.pth").read_bytes(),
        {"kind": "path", "path": str(tmp_path / "net.pth")},
        path="weights.safetensors",
        convert="torch",
    )
    model = a_model(entry, runtime="torch", architecture="hd_bet", input=[PORT], output=[PORT])
    store = ModelStore(Manifest({"net": model}, tmp_path), tmp_path / "models")
    store.fetch(model)
    these = Models(store, ModelSettings(device="cpu"), tmp_path / "leases")
    batch = torch.randn(1, 1, 16, 16, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network.eval()(batch)
    np.testing.assert_allclose(these.load("net").run(batch.numpy()), expected, atol=1e-4)


def code_of(these: Models) -> str:
    with pytest.raises(InputError) as caught:
        these.load("net")
    assert caught.value.facts["model"] == "net"
    return caught.value.code


def test_weights_that_are_not_here_are_told_with_a_code(tmp_path: Path) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, _ = opened(tmp_path, tmp_path / "net.onnx")
    assert code_of(these) == "weights_missing"


def test_weights_that_changed_are_not_opened_not_even_by_who_had_checked_them(
    tmp_path: Path,
) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, model = opened(tmp_path, tmp_path / "net.onnx")
    these.store.fetch(model)
    these.load("net")
    these.close()
    onnx_file(these.store.folder(model) / "net.onnx", 9.0)
    assert code_of(these) == "weights_hash"


def test_a_file_is_hashed_once_as_long_as_nothing_of_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, model = opened(tmp_path, tmp_path / "net.onnx")
    these.store.fetch(model)
    hashed: list[str] = []
    real = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: (hashed.append(file.name), real(file, kind))[1]
    )
    for _ in range(3):
        these.folder("net")
    assert len(hashed) == 1
    # Touched: it may be another file by now.
    os.utime(these.store.folder(model) / "net.onnx")
    these.folder("net")
    assert len(hashed) == 2


def test_an_onnx_file_that_reaches_outside_of_its_folder_is_refused(tmp_path: Path) -> None:
    onnx_file(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../../../etc/passwd"), ("offset", "0"), ("length", "4")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    these, told = opened(tmp_path, tmp_path / "net.onnx")
    these.store.fetch(told)
    assert code_of(these) == "model_external_data"


def test_a_pickle_named_onnx_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "net.onnx")
    these, model = opened(tmp_path, tmp_path / "net.onnx")
    these.store.fetch(model)
    assert code_of(these) == "model_unreadable"


def test_models_of_other_engines_are_handed_out_as_a_checked_folder(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    these, model = opened(tmp_path, tmp_path / "model.bin", runtime="ctranslate2")
    with pytest.raises(InputError, match="weights_missing"):
        these.folder("net")
    these.store.fetch(model)
    assert (these.folder("net") / "model.bin").read_bytes() == b"weights"
    with pytest.raises(ConfigError, match="model_runtime"):
        these.load("net")


def test_a_name_that_no_manifest_has_is_a_mistake_of_ours(tmp_path: Path) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, _ = opened(tmp_path, tmp_path / "net.onnx")
    with pytest.raises(MissingError, match="model_unknown"):
        these.load("other")


def test_the_card_of_a_model_names_the_weights_that_run(tmp_path: Path) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, model = opened(tmp_path, tmp_path / "net.onnx")
    these.store.fetch(model)
    card = these.card("net")
    assert card.sha256 == hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()
    assert (card.name, card.version, card.family) == ("Net", "1.0.0", "model")


# Before the fork.


def test_warming_opens_torch_once_for_all_forks_and_never_a_session(tmp_path: Path) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, model = opened(tmp_path, tmp_path / "net.onnx")
    these.store.fetch(model)
    these.warm(["net"])
    assert these._open == {}
    assert len(these._checked) == 1
    pid = os.fork()
    if pid == 0:
        right = (these.load("net").run(np.ones((1, 1, 2, 2, 2), np.float32)) == 2.0).all()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_warmed_torch_network_runs_in_a_fork_without_reading_its_file(tmp_path: Path) -> None:
    torch.save(seeded(HdBetNetwork(), 5).state_dict(), tmp_path / "net.pth")
    entry = file_entry(
        (tmp_path / "net.pth").read_bytes(),
        {"kind": "path", "path": str(tmp_path / "net.pth")},
        path="weights.safetensors",
        convert="torch",
    )
    model = a_model(entry, runtime="torch", architecture="hd_bet", input=[PORT], output=[PORT])
    store = ModelStore(Manifest({"net": model}, tmp_path), tmp_path / "models")
    store.fetch(model)
    these = Models(store, ModelSettings(device="cpu"), tmp_path / "leases")
    these.warm(["net"])
    (store.folder(model) / "weights.safetensors").unlink()
    pid = os.fork()
    if pid == 0:
        out = these.load("net").run(np.ones((1, 1, 16, 16, 32), np.float32))
        os._exit(0 if out.shape == (1, 2, 16, 16, 32) else 1)
    deadline = time.monotonic() + 60.0
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def test_what_cannot_be_warmed_keeps_no_worker_from_starting(tmp_path: Path) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, _ = opened(tmp_path, tmp_path / "net.onnx")
    these.warm(["net", "no such model"])


# On a card that is too full; no card is needed to see it.


def test_a_job_that_finds_no_room_on_the_card_takes_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, model = opened(tmp_path, tmp_path / "net.onnx", memory_mb=1024)
    these.store.fetch(model)
    these = replace(these, settings=ModelSettings(device="auto", lease_wait_s=0.0))
    cards = {"GPU-a": 4 * gpu_lease.UNIT_BYTES}
    monkeypatch.setattr(models, "choose_device", lambda _: Device("cuda"))
    monkeypatch.setattr(models, "cards_of_machine", lambda _: cards)
    other = gpu_lease.take_lease(1, cards, tmp_path / "leases", wait_s=0.0)
    assert other is not None
    network = these.load("net")
    assert network.device.kind == "cpu"
    # It stays there: nobody waits for the card a second time.
    assert these.load("net") is network
    assert (network.run(np.ones((1, 1, 1, 1, 1), np.float32)) == 2.0).all()
    other.release()
    device, budget = these._on_card(model, Device("cuda"))
    assert (device, budget and budget.bytes) == (Device("cuda", 0), 1 << 30)
    these.close()
    assert gpu_lease.leased_bytes("GPU-a", cards["GPU-a"], tmp_path / "leases") == 0


def test_a_computation_without_a_network_leases_its_card_and_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, _ = opened(tmp_path, tmp_path / "net.onnx")
    with these.borrowed_card(1 << 20) as device:
        assert device.kind == "cpu", "there is no card"
    these = replace(these, settings=ModelSettings(device="auto", lease_wait_s=0.0))
    cards = {"GPU-a": 2 * gpu_lease.UNIT_BYTES}
    monkeypatch.setattr(models, "choose_device", lambda _: Device("cuda"))
    monkeypatch.setattr(models, "cards_of_machine", lambda _: cards)
    with these.borrowed_card(1) as first, these.borrowed_card(2 * gpu_lease.UNIT_BYTES) as second:
        assert (first.kind, second.kind) == ("cuda", "cpu")
    assert gpu_lease.leased_bytes("GPU-a", cards["GPU-a"], tmp_path / "leases") == 0


# What the reader sees.


def needs_a_model(study: Study, settings: Settings, region: NDArray[np.bool_] | None) -> Any:
    models.load("net")
    return calcium.PIPELINE.run(study, settings, region)


@pytest.mark.parametrize("damage", ["absent", "altered"])
def test_missing_and_altered_weights_are_in_the_report_as_a_reason(
    tmp_path: Path, damage: str
) -> None:
    onnx_file(tmp_path / "net.onnx")
    these, model = opened(tmp_path, tmp_path / "net.onnx")
    if damage == "altered":
        these.store.fetch(model)
        (these.store.folder(model) / "net.onnx").write_bytes(b"other")
    models.use(these)
    pipeline = replace(calcium.PIPELINE, run=needs_a_model, models=("net",))
    outcome = analyse(ct_files(stored_ramp((4, 16, 16))), pipeline, {})
    code = {"absent": "weights_missing", "altered": "weights_hash"}[damage]
    assert (outcome.state, outcome.code) == ("refused", code)
    (report,) = [one for one in outcome.objects if one.Modality == "SR"]
    assert code in reasons(report)
    assert json.dumps(outcome.document).count(code) >= 1


def reasons(report: Dataset) -> list[str]:
    found = []
    waiting = list(report.ContentSequence)
    while waiting:
        one = waiting.pop()
        waiting += list(one.get("ContentSequence", []))
        if one.ValueType == "CODE":
            found.append(str(one.ConceptCodeSequence[0].CodeValue))
    return found
