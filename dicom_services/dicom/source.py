"""The series a result came from: its instances in slice order and the headers a result repeats."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset


@dataclass(frozen=True, slots=True)
class SourceInstance:
    """One source image.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid : str
    position_mm : (x, y, z) or None
        Image Position (Patient), LPS; None where the header has none.
    number : int or None
        Instance Number.
    frame : int
        Number of the frame within a multi-frame instance, from 1; 0 for a single-frame one.
    series_uid : str
        Its series, where it is not that of the source's header.
    """

    sop_class_uid: str
    sop_instance_uid: str
    position_mm: tuple[float, float, float] | None
    number: int | None
    frame: int = 0
    series_uid: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class SourceSeries:
    """What a result needs to know of the series it was made from.

    Parameters
    ----------
    header : Dataset
        Allow-listed attributes of the first slice: patient, study, series, equipment, frame of
        reference and image plane; no pixels, no private tags.
    instances : tuple of SourceInstance
        `instances[k]` is slice k of the volume, at its first time where it has several.
    later : tuple of SourceInstance
        Those of the later times, one time after the other.
    """

    header: Dataset
    instances: tuple[SourceInstance, ...]
    later: tuple[SourceInstance, ...] = ()
