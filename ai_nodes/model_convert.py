"""Turns a .pth into safetensors, once, in a limited child without network, programs or other files.

Order of the defences: the caller has seen that the SHA-256 is the manifest's; the child is limited
and confined before it reads a byte; opcodes are scanned for names that are not allowed; torch then
opens it with `weights_only=True`; and nothing but tensors is written.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ai_nodes.pickle_scan import scan_checkpoint
from ai_nodes.tensor_file import check_tensor_file, write_tensors
from dicom_services.dicom.child import Limits, Send, start_child
from dicom_services.dicom.confinement import confine
from dicom_services.errors import ConfigError, InputError, UnavailableError

if TYPE_CHECKING:
    import torch

_BASE_BYTES: Final = 512 << 20
"""For the interpreter's and torch's own needs."""
_TIMES: Final = 3
"""The checkpoint in memory, a tensor's copy, and what torch holds beside."""
_CPU_S: Final = 30
_CPU_S_PER_GIGABYTE: Final = 60
_WALL_S: Final = 600.0
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,255}\Z")
_MOST_TENSORS: Final = 100_000
_NNUNET_KEY: Final = "network_weights"
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}\Z")


def convert(source: Path, target: Path, *, kind: str, key: str, largest_bytes: int) -> None:
    """Write the tensors of a checkpoint as safetensors.

    Parameters
    ----------
    source : Path
        Its hash was checked.
    target : Path
        Made anew, 0600; it must not be there.
    kind : str
        "torch": a state dict, or one under `key`. "nnunet": a checkpoint of nnU-Net v2, whose
        trainer, configuration and mirrored axes go into the metadata of `target`.
    largest_bytes : int
        Of all tensors together.

    Raises
    ------
    InputError
        `weights_pickle`, `weights_format` with a reason, `weights_conversion` when the child died
        of what it read (`reason` as `decoder_died`).
    UnavailableError
        `confinement_missing`.
    ConfigError
        `runtime_absent` without torch.
    """
    try:
        # Before the fork: limits count from what is mapped, and imports write compiled files.
        import torch  # noqa: F401
    except ImportError:
        raise ConfigError("runtime_absent") from None
    size = source.stat().st_size
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    writer = os.open(target, flags, 0o600)
    try:
        child = start_child(
            lambda send: _work(reader, writer, kind, key, largest_bytes, send),
            _limits(size),
            keep=(reader, writer),
        )
        try:
            answers = list(child.messages())
        except InputError as error:
            if error.code != "decoder_died":
                raise
            raise InputError("weights_conversion", **error.facts) from None
        if answers == ["unconfined"]:
            raise UnavailableError("confinement_missing")
        os.fsync(writer)
        with os.fdopen(os.dup(writer), "rb") as written:
            written.seek(0)
            check_tensor_file(written)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        os.close(reader)
        os.close(writer)


def _limits(size: int) -> Limits:
    memory = _BASE_BYTES + _TIMES * size
    cpu_s = _CPU_S + _CPU_S_PER_GIGABYTE * (size >> 30)
    return Limits(memory, memory, cpu_s, cpu_s, _WALL_S)


def _work(reader: int, writer: int, kind: str, key: str, largest_bytes: int, send: Send) -> None:
    """In the child."""
    import torch

    torch.set_num_threads(1)
    try:
        confine()
    except UnavailableError:
        send("unconfined")
        return
    with os.fdopen(os.dup(reader), "rb") as file:
        scan_checkpoint(file)
        # Not by its path: torch would open what lies there by then.
        loaded = _load(io.BytesIO(file.read()))
    tensors, metadata = _chosen(loaded, kind, key)
    if sum(one.numel() * one.element_size() for one in tensors.values()) > largest_bytes:
        raise InputError("weights_format", reason="size")
    with os.fdopen(os.dup(writer), "wb") as out:
        write_tensors(out, tensors, metadata)


def _load(content: io.BytesIO) -> Any:
    import numpy as np
    import torch

    numbers = [
        getattr(np.dtypes, f"{kind}DType")
        for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")
    ]
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined] # what a pickled number calls
    names: list[Any] = [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *numbers]
    with warnings.catch_warnings(), torch.serialization.safe_globals(names):
        warnings.simplefilter("ignore")
        try:
            return torch.load(content, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - the unpickler raises whatever the bytes lead to
            raise InputError("weights_format", reason="checkpoint") from None


def _chosen(loaded: Any, kind: str, key: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    metadata: dict[str, str] = {}
    if kind == "nnunet":
        key = key or _NNUNET_KEY
        if not isinstance(loaded, dict):
            raise InputError("weights_format", reason="key")
        metadata = _nnunet_metadata(loaded)
    if key:
        if not isinstance(loaded, dict) or key not in loaded:
            raise InputError("weights_format", reason="key")
        loaded = loaded[key]
    return _tensors(loaded), metadata


def _nnunet_metadata(loaded: dict[Any, Any]) -> dict[str, str]:
    """What nnU-Net's predictor reads of a checkpoint beside the weights.

    References
    ----------
    nnunetv2 2.8.1, inference/predict_from_raw_data.py, initialize_from_trained_model_folder.
    """
    arguments = loaded.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    axes = loaded.get("inference_allowed_mirroring_axes")
    words = (loaded.get("trainer_name"), configuration)
    if not all(isinstance(one, str) and _WORD.match(one) for one in words):
        raise InputError("weights_format", reason="nnunet")
    if axes is not None and not all(type(one) is int and 0 <= one < 3 for one in axes):
        raise InputError("weights_format", reason="nnunet")
    return {
        "trainer_name": str(words[0]),
        "configuration": str(words[1]),
        "inference_allowed_mirroring_axes": json.dumps(None if axes is None else list(axes)),
    }


def _tensors(loaded: Any) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(loaded, dict) or not 1 <= len(loaded) <= _MOST_TENSORS:
        raise InputError("weights_format", reason="not_tensors")
    for name, value in loaded.items():
        sound = isinstance(name, str) and _NAME.match(name)
        if not sound or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise InputError("weights_format", reason="not_tensors")
    return dict(loaded)
