"""The gate over files on a disk, and what it refused in words."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path

from dicom_services.gate import Refusal, refusal_of_file


def refusal_of_path(path: Path, *, identity: bool = True, scale: float = 1.0) -> Refusal | None:
    """As `gate.refusal_of_file`, reading only where the structure of the file lies.

    Raises
    ------
    OSError
        When it cannot be opened.
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return Refusal("not_dicom", 0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            return refusal_of_file(whole, identity=identity, scale=scale)


def sentence(reasons: Mapping[str, int]) -> str:
    """How many files were refused and why, the most frequent reason first; "" where none was."""
    if not reasons:
        return ""
    count = sum(reasons.values())
    told = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    listed = ", ".join(f"{reason} ({times})" for reason, times in told)
    return f"{count} {'file' if count == 1 else 'files'} refused by the gate: {listed}"


def most_frequent(reasons: Mapping[str, int]) -> str:
    """The reason to name where there is room for one."""
    return min(reasons, key=lambda reason: (-reasons[reason], reason))
