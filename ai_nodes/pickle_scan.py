"""What a torch checkpoint would import when it is opened, read from its opcodes unopened."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, Final

from dicom_services.errors import InputError

ALLOWED: Final = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        # Weights and buffers of every kind that safetensors knows.
        *(
            f"torch {kind}Storage"
            for kind in (
                *("Float", "Double", "Half", "BFloat16", "Bool"),
                *("Byte", "Char", "Short", "Int", "Long"),
            )
        ),
        # Numbers of the training's log, in nnU-Net's checkpoints.
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
        "numpy dtype",
        *(f"numpy.dtypes {kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")),
        "_codecs encode",
    }
)
_MEMBERS: Final = 100_000
_LARGEST_PICKLE: Final = 64 << 20
_MOST_OPCODES: Final = 5_000_000
_LEGACY_MAGIC: Final = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_LEGACY_PICKLES: Final = 5
"""Magic number, protocol, system, object, names of its storages; then their bytes."""


def scan_checkpoint(file: BinaryIO) -> None:
    """Refuse what is no torch checkpoint of tensors, plain values and the names in ALLOWED.

    Raises
    ------
    InputError
        `weights_pickle` when it would import anything else; `weights_format` with a `reason`
        when it is TorchScript, compressed, cut or nothing torch wrote.
    """
    start = file.read(16)
    file.seek(0)
    try:
        if start[:4] == b"PK\x03\x04":
            _scan_zip(file)
        elif start[2:].startswith(_LEGACY_MAGIC):
            for _ in range(_LEGACY_PICKLES):
                _scan(file)
        else:
            # A bare pickle, perhaps: told by its name, for that is what it tries to be.
            raise InputError("weights_pickle" if start[:1] == b"\x80" else "weights_format")
    finally:
        file.seek(0)


def _scan_zip(file: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > _MEMBERS:
                raise InputError("weights_format", reason="members")
            names = [one.filename.partition("/")[2] for one in members]
            if "constants.pkl" in names or any(one.startswith("code/") for one in names):
                raise InputError("weights_format", reason="torchscript")
            # torch stores and never compresses, so that what is declared is there.
            if any(one.compress_type != zipfile.ZIP_STORED for one in members):
                raise InputError("weights_format", reason="compressed")
            if len(set(names)) != len(names) or names.count("data.pkl") != 1:
                raise InputError("weights_format", reason="members")
            inside = members[names.index("data.pkl")]
            if inside.file_size > _LARGEST_PICKLE:
                raise InputError("weights_format", reason="pickle_size")
            stream = io.BytesIO(archive.read(inside))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError):
        raise InputError("weights_format", reason="archive") from None
    _scan(stream)


def _scan(stream: BinaryIO) -> None:
    """One pickle, to its end."""
    try:
        for name in _imports(stream):
            if name not in ALLOWED:
                raise InputError("weights_pickle")
    except (ValueError, IndexError, OverflowError, UnicodeError):
        raise InputError("weights_format", reason="pickle") from None


def _imports(stream: BinaryIO) -> Iterator[str]:
    """Module and name of everything a pickle looks up."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > _MOST_OPCODES:
            raise InputError("weights_format", reason="pickle_size")
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            # The name comes from the stack, where it may have been put together: torch writes none.
            raise InputError("weights_pickle")
