"""Looks into an ONNX file before anything runs it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import onnx

from dicom_services.errors import CorruptError

MAX_MODEL_BYTES: Final = (1 << 31) - 1
"""protobuf's own limit; larger networks keep their weights in a file beside the model."""
MAX_DATA_BYTES: Final = 16 << 30
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Of ONNX itself and of what ONNX Runtime brings; every other needs a library of somebody's."""
FORBIDDEN: Final = frozenset({"EPContext", "PyOp", "PythonOp"})
"""Open files or call Python: EPContext loads an engine from a path that the model names."""


def read_model(path: Path) -> bytes:
    """The bytes of a model that keeps to its folder and to known operators.

    Raises
    ------
    CorruptError
        `model_unreadable`, `model_too_large`, `model_external_data` (weights outside of the
        model's folder, behind a link, or beyond the end of their file), `model_operator`.
    """
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise CorruptError("model_too_large")
        content = path.read_bytes()
        model = onnx.load_model_from_string(content)
    except CorruptError:
        raise
    except Exception as error:  # protobuf raises classes of its own build
        raise CorruptError("model_unreadable") from error
    _require_known(model)
    total = sum(_external_bytes(tensor, path.parent) for tensor in _messages(model, "TensorProto"))
    if total > MAX_DATA_BYTES:
        raise CorruptError("model_too_large")
    return content


def _require_known(model: Any) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in _messages(model, "NodeProto"):
        if (node.domain, node.op_type) in own:
            continue
        if node.domain not in DOMAINS or node.op_type in FORBIDDEN:
            raise CorruptError("model_operator")


def _messages(message: Any, kind: str) -> Iterator[Any]:
    """Every message of a kind, wherever in the model it stands."""
    waiting = [message]
    while waiting:
        one = waiting.pop()
        if one.DESCRIPTOR.name == kind:
            yield one
        for field, value in one.ListFields():
            if field.message_type is None:
                continue
            waiting.extend(value if field.is_repeated else [value])


def _external_bytes(tensor: Any, folder: Path) -> int:
    """Bytes of a tensor in a file of its own, which must lie in the model's folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        if entries:
            raise CorruptError("model_external_data")
        return 0
    location = PurePosixPath(entries.get("location", "").replace("\\", "/"))
    parts = location.parts
    if not parts or location.is_absolute() or ".." in parts or ":" in parts[0]:
        raise CorruptError("model_external_data")
    at = folder
    try:
        for part in parts:
            at = at / part
            found = at.lstat()
            if stat.S_ISLNK(found.st_mode):
                raise CorruptError("model_external_data")
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
    except (OSError, ValueError) as error:
        raise CorruptError("model_external_data") from error
    length = length or found.st_size - offset
    sound = stat.S_ISREG(found.st_mode) and offset >= 0 and 0 <= length <= found.st_size - offset
    if not sound:
        raise CorruptError("model_external_data")
    return length
