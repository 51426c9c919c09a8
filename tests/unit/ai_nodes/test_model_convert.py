"""A .pth becomes safetensors, or nothing at all and nothing runs."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ai_nodes import model_convert
from ai_nodes.model_convert import convert
from ai_nodes.tensor_file import check_tensor_file, write_tensors
from dicom_services.errors import InputError
from tests import checkpoints

LARGEST = 1 << 20


def converted(source: Path, kind: str = "torch", key: str = "") -> Path:
    target = source.with_name("weights.safetensors")
    convert(source, target, kind=kind, key=key, largest_bytes=LARGEST)
    return target


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_tensor_is_there_bit_for_bit_under_its_name(tmp_path: Path, legacy: bool) -> None:
    weights = checkpoints.state_dict(tmp_path / "net.pth", legacy=legacy)
    found = load_file(converted(tmp_path / "net.pth"))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert all(found[name].dtype == weights[name].dtype for name in weights)


def test_what_it_writes_is_for_its_owner_alone_and_the_same_every_time(tmp_path: Path) -> None:
    checkpoints.state_dict(tmp_path / "net.pth")
    first = converted(tmp_path / "net.pth")
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    content = first.read_bytes()
    first.unlink()
    assert converted(tmp_path / "net.pth").read_bytes() == content


def test_weights_under_a_key_are_taken_alone(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": {"a": torch.ones(2)}}, tmp_path / "net.pth")
    assert list(load_file(converted(tmp_path / "net.pth", key="model"))) == ["a"]


def test_an_nnunet_checkpoint_keeps_what_its_predictor_asks_for(tmp_path: Path) -> None:
    weights = checkpoints.nnunet_checkpoint(tmp_path / "checkpoint_final.pth")
    target = converted(tmp_path / "checkpoint_final.pth", kind="nnunet")
    with safe_open(target, "pt") as file:
        told = file.metadata()
        assert set(file.keys()) == set(weights)
        assert all(torch.equal(file.get_tensor(name), weights[name]) for name in weights)
    assert (told["trainer_name"], told["configuration"]) == ("nnUNetTrainer", "3d_fullres")
    assert json.loads(told["inference_allowed_mirroring_axes"]) == [0, 1, 2]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
)
def test_what_we_write_is_read_by_the_makers_of_the_format(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    tensors = {"a": torch.arange(12).reshape(3, 4).to(dtype), "b.c": torch.ones(()).to(dtype)}
    tensors["turned"] = tensors["a"].T
    with (tmp_path / "a").open("wb") as file:
        write_tensors(file, tensors, {"k": "v"})
    found = load_file(tmp_path / "a")
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    with (tmp_path / "a").open("rb") as file:
        check_tensor_file(file)


# What must not be opened. Each writes a file; should it ever run, it leaves `ran`.

EVIL: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "bare pickle": (checkpoints.bare_pickle, "weights_pickle"),
    "program beside tensors": (checkpoints.hidden_program, "weights_pickle"),
    "legacy program": (
        lambda path, ran: checkpoints.hidden_program(path, ran, legacy=True),
        "weights_pickle",
    ),
    "name from the stack": (lambda path, _: checkpoints.name_from_stack(path), "weights_pickle"),
    "extension registry": (
        lambda path, _: checkpoints.repacked(path, b"\x80\x02\x82\x01."),
        "weights_pickle",
    ),
    "instance": (
        lambda path, _: checkpoints.repacked(path, b"(X\x04\x00\x00\x00trueios\nsystem\n."),
        "weights_pickle",
    ),
    "whole module": (
        lambda path, _: torch.save(checkpoints.small_network(), path),
        "weights_pickle",
    ),
    "torchscript": (lambda path, _: checkpoints.torchscript(path), "weights_format"),
    "zip bomb": (lambda path, _: checkpoints.swelling(path), "weights_format"),
    "stretched tensor": (lambda path, _: checkpoints.stretched_tensor(path), "weights_format"),
    "no tensors": (lambda path, _: torch.save({"a": 1}, path), "weights_format"),
    "sparse": (
        lambda path, _: torch.save({"a": torch.ones(2, 2).to_sparse()}, path),
        "weights_pickle",
    ),
    "a name that climbs": (
        lambda path, _: torch.save({"../../a": torch.ones(1)}, path),
        "weights_format",
    ),
    "text": (lambda path, _: path.write_text("weights"), "weights_format"),
    "empty": (lambda path, _: path.write_bytes(b""), "weights_format"),
    "page": (lambda path, _: path.write_text("<html>not found</html>"), "weights_format"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*TorchScript")
@pytest.mark.parametrize("name", EVIL)
def test_nothing_of_an_evil_file_runs_or_stays(tmp_path: Path, name: str) -> None:
    write, code = EVIL[name]
    write(tmp_path / "evil.pth", tmp_path / "ran")
    with pytest.raises(InputError) as caught:
        converted(tmp_path / "evil.pth")
    assert caught.value.code == code
    assert sorted(one.name for one in tmp_path.iterdir()) == ["evil.pth"]


def test_a_pickle_bomb_ends_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.doubling(tmp_path / "bomb.pth")
    monkeypatch.setattr(model_convert, "_CPU_S", 1)
    with pytest.raises(InputError) as caught:
        converted(tmp_path / "bomb.pth")
    assert caught.value.code == "weights_conversion"
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_cut_file_is_refused(tmp_path: Path, share: float, legacy: bool) -> None:
    checkpoints.state_dict(tmp_path / "net.pth", legacy=legacy)
    content = (tmp_path / "net.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="weights_format"):
        converted(tmp_path / "cut.pth")


def test_of_60_files_with_a_flipped_byte_none_kills_more_than_its_child(tmp_path: Path) -> None:
    checkpoints.state_dict(tmp_path / "net.pth")
    content = bytearray((tmp_path / "net.pth").read_bytes())
    ended = 0
    for at in range(0, len(content), max(1, len(content) // 60)):
        content[at] ^= 0x41
        (tmp_path / "bad.pth").write_bytes(content)
        content[at] ^= 0x41
        try:
            converted(tmp_path / "bad.pth").unlink()
        except InputError as error:
            assert error.code in ("weights_format", "weights_pickle", "weights_conversion")
            ended += 1
        assert not (tmp_path / "weights.safetensors").exists()
    assert ended > 0


# Safetensors are looked at before they are used.


def test_files_of_the_formats_makers_pass(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, 3), "b": torch.zeros(5)}, tmp_path / "a", metadata={"k": "v"})
    with (tmp_path / "a").open("rb") as file:
        check_tensor_file(file)


GOOD = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    ("header", "size", "reason"),
    [
        (GOOD, 7, "size"),
        (GOOD, 9, "size"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, 4, "tensor"),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, 8, "tensor"),
        ({"a": {"dtype": "O", "shape": [2], "data_offsets": [0, 8]}}, 8, "tensor"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, 12, "offsets"),
        (GOOD | {"b": GOOD["a"]}, 8, "offsets"),
        ([], 8, "header"),
        ({}, 0, "header"),
    ],
)
def test_a_header_that_lies_is_refused(
    tmp_path: Path, header: object, size: int, reason: str
) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    with (tmp_path / "a").open("rb") as file, pytest.raises(InputError) as caught:
        check_tensor_file(file)
    assert caught.value.facts["reason"] == reason


def test_a_pickle_named_safetensors_is_refused(tmp_path: Path) -> None:
    checkpoints.bare_pickle(tmp_path / "weights.safetensors", tmp_path / "ran")
    with (
        (tmp_path / "weights.safetensors").open("rb") as file,
        pytest.raises(InputError, match="weights_format"),
    ):
        check_tensor_file(file)
