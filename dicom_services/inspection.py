"""What the gate says of every file of a path, one by one, for people who look for the bad one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from dicom_services.dicom import archive
from dicom_services.errors import InputError
from dicom_services.gate import Refusal, refusal_of_file
from dicom_services.refusals import refusal_of_path

_HEAD_BYTES: Final = 4096
# Media Storage SOP Class UID with the value of a DICOMDIR, PS3.3 annex F.
_MEDIA_INDEX: Final = b"\x02\0\x02\0UI\x14\x001.2.840.10008.1.3.10"


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file by the caller's own name for it, why it is refused and the byte that shows it."""

    file: str
    reason: str
    offset: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """How many files pass, how many are left out because they hold no object, and the others."""

    passed: int
    left_out: int
    refused: tuple[RefusedFile, ...]

    @property
    def reasons(self) -> dict[str, int]:
        """How many by reason."""
        return dict(Counter(one.reason for one in self.refused))

    def document(self) -> dict[str, Any]:
        """For other programs."""
        return {"version": 1, **asdict(self), "reasons": self.reasons}


def inspect(path: Path) -> Inspection:
    """Judge a file, or every file below a folder or in a ZIP archive; nothing else reads them.

    Raises
    ------
    InputError
        `not_found`, and what `archive.unpack` raises.
    """
    passed = left_out = 0
    refused: list[RefusedFile] = []
    for name, refusal, head in _judged(path):
        if refusal is None:
            passed += 1
        elif _holds_nothing(refusal.reason, head, alone=name == str(path)):
            left_out += 1
        else:
            refused.append(RefusedFile(name, refusal.reason, refusal.offset))
    return Inspection(passed, left_out, tuple(refused))


def _judged(path: Path) -> Iterator[tuple[str, Refusal | None, bytes]]:
    """Name, refusal and first bytes of each file."""
    if path.is_file() and archive.is_archive(path):
        for name, content in archive.unpack(path).items():
            yield f"{path}/{name}", refusal_of_file(content), content[:_HEAD_BYTES]
        return
    if not path.exists():
        raise InputError("not_found")
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    for file in files:
        try:
            refusal = refusal_of_path(file)
            with file.open("rb") as stream:
                yield str(file), refusal, stream.read(_HEAD_BYTES)
        except OSError:
            raise InputError("file_unreadable") from None


def _holds_nothing(reason: str, head: bytes, *, alone: bool) -> bool:
    """Whether a file is no DICOM, or a DICOMDIR of sound structure, which names no study."""
    if reason == "not_dicom":
        return not alone
    if reason != "uid_missing":
        return False
    return head.find(_MEDIA_INDEX, 132) > 0
