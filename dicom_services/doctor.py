"""Examines a machine and its stack."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dicom_services.data_folder import DataFolder


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: OK, WARN or FAIL, what was found, and what to do about it."""

    verdict: str
    name: str
    found: str
    remedy: str = ""

    def document(self) -> dict[str, Any]:
        """For other programs."""
        return asdict(self)


def examine(folder: DataFolder) -> list[Check]:
    """Everything, in the order in which a person would put it right."""
    return []
