"""What the gate says of every file of a path, one by one, for people who look for the bad one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dicom_services.dicom import archive
from dicom_services.errors import InputError
from dicom_services.gate import Refusal, refusal_of_file
from dicom_services.refusals import refusal_of_path


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file by the caller's own name for it, why it is refused and the byte that shows it."""

    file: str
    reason: str
    offset: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """How many files pass, how many are left out because they are not DICOM, and the others."""

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
    for name, refusal in _judged(path):
        if refusal is None:
            passed += 1
        elif refusal.reason == "not_dicom" and name != str(path):
            left_out += 1
        else:
            refused.append(RefusedFile(name, refusal.reason, refusal.offset))
    return Inspection(passed, left_out, tuple(refused))


def _judged(path: Path) -> Iterator[tuple[str, Refusal | None]]:
    if path.is_file() and archive.is_archive(path):
        for name, content in archive.unpack(path).items():
            yield f"{path}/{name}", refusal_of_file(content)
        return
    if not path.exists():
        raise InputError("not_found")
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    for file in files:
        try:
            yield str(file), refusal_of_path(file)
        except OSError:
            raise InputError("file_unreadable") from None
