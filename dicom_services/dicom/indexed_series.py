"""The grid of a series from the archive's index and one of its files, without reading the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from dicom_services.dicom import stack
from dicom_services.dicom.acquisition import read_acquisition
from dicom_services.dicom.slice_header import Slice, read_slice
from dicom_services.dicom.source import SourceInstance, SourceSeries
from dicom_services.dicom.source_header import read_source_header
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError

_SAME_ANGLE: Final = 5e-4
_SAME_PLACE_MM: Final = 1e-2
"""As reading has both: the grid must be the one the algorithm saw."""


@dataclass(frozen=True, slots=True)
class IndexedInstance:
    """One image as the archive lists it.

    Parameters
    ----------
    name : str
        The archive's own identifier.
    uid : str
    position_mm : (x, y, z) or None
    orientation : six numbers or None
    number : int or None
    """

    name: str
    uid: str
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    number: int | None


@dataclass(frozen=True, slots=True, eq=False)
class IndexedSeries:
    """A series in slice order.

    Parameters
    ----------
    source : SourceSeries
    geometry : Geometry
    k_of : dict
        Slice index by SOP Instance UID, also of an image that repeats a place.
    """

    source: SourceSeries
    geometry: Geometry
    k_of: Mapping[str, int]


def indexed_instances(listed: Sequence[Mapping[str, Any]]) -> tuple[IndexedInstance, ...]:
    """The images in Orthanc's expanded answer to a search for instances."""
    return tuple(_indexed(one) for one in listed)


def _indexed(one: Mapping[str, Any]) -> IndexedInstance:
    tags = one.get("MainDicomTags", {})
    position = _numbers(tags.get("ImagePositionPatient", ""))
    orientation = _numbers(tags.get("ImageOrientationPatient", ""))
    number = _numbers(tags.get("InstanceNumber", ""))
    return IndexedInstance(
        name=str(one.get("ID", "")),
        uid=str(tags.get("SOPInstanceUID", "")),
        position_mm=position if len(position) == 3 else None,
        orientation=orientation if len(orientation) == 6 else None,
        number=int(number[0]) if number else None,
    )


def _numbers(text: object) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in str(text).split("\\"))
    except ValueError:
        return ()
    return values if np.isfinite(values).all() and np.abs(values).max() < 1e9 else ()


def indexed_series(file: bytes, index: Sequence[IndexedInstance]) -> IndexedSeries:
    """The stack that reading the whole series would give.

    Parameters
    ----------
    file : bytes
        Any image of the series.
    index : sequence of IndexedInstance
        All of them.

    Raises
    ------
    InputError
        As reading the series; `missing_attribute` when the archive knows no image's place.
    """
    template = read_slice(file)
    placed = [
        _slice(template, one) for one in index if one.position_mm and _parallel(template, one)
    ]
    if not placed:
        raise InputError("missing_attribute", keyword="ImagePositionPatient")
    across = np.cross(template.orientation[0], template.orientation[1])
    placed.sort(key=lambda one: float(one.position_mm @ across))
    ordered: list[Slice] = []
    k_of: dict[str, int] = {}
    for one in placed:
        if not ordered or _apart_mm(ordered[-1], one, across) >= _SAME_PLACE_MM:
            ordered.append(one)
        k_of[one.uid] = len(ordered) - 1
    _, alone_mm = read_acquisition(template.file)
    geometry, _ = stack.grid(ordered, alone_mm)
    instances = tuple(
        SourceInstance(one.sop_class, one.uid, _point(one), one.number) for one in ordered
    )
    return IndexedSeries(SourceSeries(read_source_header(file), instances), geometry, k_of)


def _parallel(template: Slice, one: IndexedInstance) -> bool:
    """Whether it lies as the template does; localizers do not."""
    if one.orientation is None:
        return False
    turn = np.array(one.orientation).reshape(2, 3)
    lengths = np.linalg.norm(turn, axis=1, keepdims=True)
    if not (lengths > 0.5).all():
        return False
    return float(np.abs(turn / lengths - template.orientation).max()) <= _SAME_ANGLE


def _slice(template: Slice, one: IndexedInstance) -> Slice:
    return replace(
        template, uid=one.uid, number=one.number, position_mm=np.array(one.position_mm, np.float64)
    )


def _apart_mm(one: Slice, other: Slice, across: Any) -> float:
    return float((other.position_mm - one.position_mm) @ across)


def _point(one: Slice) -> tuple[float, float, float]:
    x, y, z = one.position_mm.tolist()
    return x, y, z
