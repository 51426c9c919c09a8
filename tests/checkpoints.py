"""Checkpoints made on the spot: honest ones as torch writes them, and evil ones."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def small_network(seed: int = 1) -> nn.Module:
    """A 3D convolution with seeded weights."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2))


def state_dict(path: Path, *, legacy: bool = False) -> dict[str, torch.Tensor]:
    """Write a plain state dict; what is in it."""
    weights = small_network().state_dict()
    torch.save(weights, path, _use_new_zipfile_serialization=not legacy)
    return dict(weights)


def nnunet_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Write what nnU-Net v2.8.1's nnUNetTrainer.save_checkpoint writes; the weights in it."""
    network = small_network()
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99)
    network(torch.ones(1, 1, 4, 4, 4)).sum().backward()
    optimizer.step()
    weights = network.state_dict()
    torch.save(
        {
            "network_weights": weights,
            "optimizer_state": optimizer.state_dict(),
            "grad_scaler_state": None,
            "logging": {
                "mean_fg_dice": [np.float64(0.5)],
                "lrs": [0.01],
                "losses": [np.float32(1)],
            },
            "_best_ema": np.float64(0.5),
            "current_epoch": 1,
            "init_args": {
                "plans": {"dataset_name": "Dataset001_Test"},
                "configuration": "3d_fullres",
                "fold": 0,
                "dataset_json": {"labels": {"background": 0, "lesion": 1}},
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        },
        path,
    )
    return dict(weights)


class Program:
    """Runs `touch FILE` in whoever unpickles it."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self._file}",)


def bare_pickle(path: Path, file: Path) -> None:
    """A program instead of weights."""
    path.write_bytes(pickle.dumps({"weight": Program(file)}, protocol=2))


def hidden_program(path: Path, file: Path, *, legacy: bool = False) -> None:
    """An honest checkpoint with a program beside its tensors."""
    content = {"weight": torch.ones(3), "extra": Program(file)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def name_from_stack(path: Path) -> None:
    """As `hidden_program`, its name put together on the stack instead of written down."""
    content = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
    repacked(path, content)


def repacked(path: Path, content: bytes, *, compressed: bool = False) -> None:
    """torch's archive around any pickle."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(64))
        archive.writestr("archive/version", "3\n")


def storage(count: int = 1) -> bytes:
    """Opcodes of a float storage of `count` numbers, key 0, as torch writes them."""
    return (
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + b"J"
        + struct.pack("<i", count)
        + b"tQ"
    )


def stretched_tensor(path: Path) -> None:
    """One number that claims to be a tensor of 2**40: every stride is 0."""
    side = b"J" + struct.pack("<i", 1 << 20)
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + storage()
    tensor += b"K\x00" + side * 2 + b"\x86" + b"K\x00K\x00\x86\x89ccollections\nOrderedDict\n)RtR"
    repacked(path, b"\x80\x02}X\x01\x00\x00\x00w" + tensor + b"s.")


def doubling(path: Path, levels: int = 40) -> None:
    """A tuple of two tuples of two ...: 200 bytes, 2**40 leaves for whoever hashes it as a key."""
    body = b"\x80\x02}K\x01q\x00"
    for level in range(levels):
        # On the stack is the one before; once more, both as a tuple, remembered.
        body += b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
    repacked(path, body + b"K\x01s.")


def swelling(path: Path) -> None:
    """An archive of a few kilobytes whose pickle is 64 megabytes of zeros."""
    repacked(path, bytes(64 << 20), compressed=True)


def torchscript(path: Path) -> None:
    """A program of torch's own kind."""
    torch.jit.trace(small_network().eval(), torch.ones(1, 1, 4, 4, 4)).save(str(path))
