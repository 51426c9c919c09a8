"""Files out of a ZIP archive from outside: counted and measured before anything is unpacked."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from dicom_services.errors import InputError

LARGEST_BYTES: Final = 2 << 30
"""All members together, unpacked in memory: 4,000 CT slices."""
MOST_ENTRIES: Final = 100_000
_INFLATION: Final = 100
"""How many times its size an archive may grow to; images grow to twice, bombs to a thousand."""
_INFLATED_FREELY: Final = 64 << 20
_INDEX_BYTES: Final = 64 << 20
_ZIP: Final = b"PK\x03\x04"
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED: Final = 0x1
# What zipfile raises on a broken index or member.
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    OSError,
)


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP archive, and not a DICOM file with something after it."""
    with path.open("rb") as stream:
        head = stream.read(132)
    return head[:4] in (_ZIP, b"PK\x05\x06") and head[128:] != b"DICM"


def unpack(path: Path) -> dict[str, bytes]:
    """The members of an archive by name, in the order of their names; nothing is written anywhere.

    Raises
    ------
    InputError
        `zip_unsafe` with a reason of ours, `zip_bomb` when it would grow too far, `too_large`.
    """
    with path.open("rb") as stream:
        _refuse_large_index(stream)
        try:
            with zipfile.ZipFile(stream) as archive:
                members = _checked(archive.infolist(), path.stat().st_size)
                return {info.filename: _member(archive, info) for info in members}
        except _BROKEN as error:
            raise InputError("zip_unsafe", reason="broken") from error


def _refuse_large_index(stream: BinaryIO) -> None:
    """Look at the end record first: zipfile would read millions of entries before we could count.

    PKWARE APPNOTE 6.3.10, sections 4.3.14 to 4.3.16.
    """
    end = stream.seek(0, 2)
    stream.seek(max(0, end - 65_557))
    tail = stream.read()
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) - found < 22:
        raise InputError("zip_unsafe", reason="broken")
    count, size = struct.unpack_from("<HL", tail, found + 10)
    large = tail.rfind(b"PK\x06\x06", 0, found)
    if 0 <= large <= len(tail) - 48:
        count, size = struct.unpack_from("<QQ", tail, large + 32)
    elif count == 0xFFFF or size == 0xFFFFFFFF:
        raise InputError("zip_unsafe", reason="broken")
    stream.seek(0)
    if count > MOST_ENTRIES or size > _INDEX_BYTES:
        raise InputError("zip_bomb", entries=count)


def _checked(members: list[zipfile.ZipInfo], packed: int) -> list[zipfile.ZipInfo]:
    if len(members) > MOST_ENTRIES:
        raise InputError("zip_bomb", entries=len(members))
    files = [info for info in members if not info.filename.endswith("/")]
    names = {info.filename for info in files}
    if len(names) < len(files):
        raise InputError("zip_unsafe", reason="repeated_name")
    for info in files:
        if (reason := _unsafe(info)) is not None:
            raise InputError("zip_unsafe", reason=reason)
    total = sum(info.file_size for info in files)
    if total > max(_INFLATED_FREELY, _INFLATION * packed):
        raise InputError("zip_bomb", ratio=_INFLATION)
    if total > LARGEST_BYTES:
        raise InputError("too_large", megabytes=total >> 20, limit=LARGEST_BYTES >> 20)
    return sorted(files, key=lambda info: info.filename)


def _unsafe(info: zipfile.ZipInfo) -> str | None:
    name = info.filename.replace("\\", "/")
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or name[1:2] == ":" or "\0" in name:
        return "path"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "link"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    return None if info.compress_type in _METHODS else "method"


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        # Never more than the size it declares, which was counted; a wrong checksum raises.
        content = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise InputError("zip_unsafe", reason="broken") from error
    if content[:4] == _ZIP and content[128:132] != b"DICM":
        raise InputError("zip_unsafe", reason="nested")
    return content
