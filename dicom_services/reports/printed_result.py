"""What a report is made from, and its numbers in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset

from dicom_services.reports.key_image import KeyImage
from dicom_services.reports.map_picture import MapPicture


@dataclass(frozen=True, slots=True, eq=False)
class ShownSlice:
    """A key image and the words below it."""

    image: KeyImage
    caption: str


@dataclass(frozen=True, slots=True, eq=False)
class PrintedResult:
    """Everything that is printed.

    Parameters
    ----------
    header : Dataset
        Of the source series, allow-listed.
    findings : dict
        The findings document.
    job : dict
        As the plugin shows it.
    shown : sequence of ShownSlice
    correction : dict or None
        As the API gives it; then the reader's numbers stand beside the algorithm's.
    lesions : sequence of dict
        The reader's lesions, as scored by the server.
    maps : sequence of MapPicture
        A slice of each parametric map, in colours.
    missing_maps : sequence of str
        Labels of those that cannot be shown.
    """

    header: Dataset
    findings: Mapping[str, Any]
    job: Mapping[str, Any]
    shown: Sequence[ShownSlice]
    correction: Mapping[str, Any] | None = None
    lesions: Sequence[Mapping[str, Any]] = ()
    maps: Sequence[MapPicture] = ()
    missing_maps: Sequence[str] = ()


def number_text(value: float | None, unit: str, digits: int) -> str:
    """A number with its unit, or "none"."""
    if value is None:
        return "none"
    return f"{value:.{digits}f} {unit}".strip()


def reader_of(report: PrintedResult) -> str:
    """The reader's name; "" where nobody has read."""
    return str((report.correction or {}).get("author", {}).get("display_name", ""))


def clipped(words: str, most: int) -> str:
    """At most so many characters, with a sign where something is left out."""
    return words if len(words) <= most else words[: most - 1] + "…"
