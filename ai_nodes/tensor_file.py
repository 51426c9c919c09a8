"""safetensors: written from torch tensors one after another, and its header checked before use.

Reference: https://github.com/huggingface/safetensors, Format.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from dicom_services.errors import InputError

if TYPE_CHECKING:
    import torch

_BYTES: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
_OF_TORCH: Final = {
    "torch.bool": "BOOL", "torch.uint8": "U8", "torch.int8": "I8", "torch.int16": "I16",
    "torch.int32": "I32", "torch.int64": "I64", "torch.float16": "F16", "torch.bfloat16": "BF16",
    "torch.float32": "F32", "torch.float64": "F64",
}  # fmt: skip
_LARGEST_HEADER: Final = 32 << 20
_MOST_TENSORS: Final = 100_000
_PIECE: Final = 16 << 20


def check_tensor_file(file: BinaryIO) -> None:
    """See that a file is safetensors from its first byte to its last.

    Raises
    ------
    InputError
        `weights_format` with the `reason`.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(8)
    if len(start) < 8:
        raise InputError("weights_format", reason="short")
    (length,) = struct.unpack("<Q", start)
    if not 2 <= length <= min(_LARGEST_HEADER, size - 8):
        raise InputError("weights_format", reason="header_length")
    try:
        header = json.loads(file.read(length), object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError):
        raise InputError("weights_format", reason="header") from None
    if not isinstance(header, dict) or not 1 <= len(header) <= _MOST_TENSORS:
        raise InputError("weights_format", reason="header")
    _check_offsets(header, size - 8 - length)


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _check_offsets(header: dict[str, Any], size: int) -> None:
    """Each tensor begins where the one before it ends, and the last one ends the file."""
    spans = []
    for name, told in header.items():
        if name == "__metadata__":
            continue
        try:
            (start, end), shape = told["data_offsets"], told["shape"]
            # bool is an int, and True no length.
            whole = all(type(one) is int and one >= 0 for one in (start, end, *shape))
            fits = whole and end - start == math.prod(shape) * _BYTES[told["dtype"]]
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise InputError("weights_format", reason="tensor")
        spans.append((start, end))
    at = 0
    for start, end in sorted(spans):
        if start != at:
            raise InputError("weights_format", reason="offsets")
        at = end
    if at != size:
        raise InputError("weights_format", reason="size")


def write_tensors(
    file: BinaryIO, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write `tensors` in the order of their names; the same tensors give the same bytes.

    Raises
    ------
    InputError
        `weights_format` for a kind of tensor that safetensors lacks.
    """
    import torch

    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name in sorted(tensors):
        one = tensors[name]
        kind = _OF_TORCH.get(str(one.dtype))
        if kind is None or one.layout != torch.strided:
            raise InputError("weights_format", reason="dtype")
        size = one.numel() * _BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(one.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in sorted(tensors):
        flat = tensors[name].detach().contiguous().reshape(-1).view(torch.uint8)
        for start in range(0, flat.numel(), _PIECE):
            file.write(flat[start : start + _PIECE].numpy().tobytes())
