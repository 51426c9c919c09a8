"""A series of single-frame CT or MR files -> one volume, and the source its results refer to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydicom import Dataset

from dicom_services.dicom import slice_header, stack
from dicom_services.dicom.acquisition import read_acquisition
from dicom_services.dicom.header import Header, numbers, read_header, text
from dicom_services.dicom.pixels import BeyondInt16Error, fill_all
from dicom_services.dicom.quiet import quiet
from dicom_services.dicom.slice_header import Slice
from dicom_services.dicom.source import SourceInstance, SourceSeries
from dicom_services.dicom.source_header import read_source_header
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume
from dicom_services.errors import InputError

HOUNSFIELD: Final = "[hnsf'U]"
LARGEST_BYTES: Final = 2 << 30
"""Decoded pixels of one series: 4,000 CT slices. More is refused before any of it is read."""


@dataclass(frozen=True, slots=True, eq=False)
class SeriesRead:
    """What reading a series gives: the volume, and where its slices came from."""

    volume: Volume
    source: SourceSeries


@dataclass(frozen=True, slots=True, eq=False)
class SeriesPlan:
    """A series whose headers were read and found sound; no pixel was touched.

    Parameters
    ----------
    slices : tuple of Slice
        In the order of the volume.
    geometry : Geometry
    acquisition : Acquisition
    unit, series : str
        As in `Volume`.
    source : SourceSeries
    whole : bool
        Whether every value is a whole number, so that int16 may do.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry
    acquisition: Acquisition
    unit: str
    series: str
    source: SourceSeries
    whole: bool

    @property
    def voxels(self) -> int:
        """Number of values of the volume."""
        return int(np.prod(self.geometry.shape, dtype=np.int64))


Allocate = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]
Fill = Callable[[SeriesPlan, NDArray[Any]], bool]


def read_series(files: Sequence[bytes | Path]) -> SeriesRead:
    """Read a series in this process; `read_series_limited` is the one for files from outside.

    Parameters
    ----------
    files : sequence of bytes or Path
        Every file of one series, in any order.

    Returns
    -------
    SeriesRead
        int16 where all values are whole numbers that fit, else float32; CT in HU, with what lies
        below -1024 clipped there. Slices in rising order along the normal of row and column.

    Raises
    ------
    InputError
        The first thing that does not fit; nothing is mended silently, what was mended stands in
        `Acquisition.notes`.
    """
    plan = plan_series(files)
    values, clipped = fill_volume(plan, np.empty, lambda found, room: fill_all(found.slices, room))
    return finish(plan, values, clipped)


def plan_series(files: Sequence[bytes | Path]) -> SeriesPlan:
    """Read and check all headers of a series and put its slices in order."""
    if not files:
        raise InputError("no_files")
    with quiet():
        slices = [slice_header.read_slice(file) for file in files]
        stack.one_series(slices)
        declared = sum(one.stored_bytes for one in slices)
        if declared > LARGEST_BYTES:
            raise InputError("too_large", megabytes=declared >> 20, limit=LARGEST_BYTES >> 20)
        ordered, notes = stack.one_stack(slices)
        first = ordered[0]
        acquisition, alone_mm = read_acquisition(first.file, ())
        geometry, more = stack.grid(ordered, alone_mm)
        notes += more
        if first.photometric == "MONOCHROME1":
            notes.append("monochrome1")
        source = SourceSeries(
            read_source_header(first.file),
            tuple(
                SourceInstance(one.sop_class, one.uid, _point(one.position_mm), one.number)
                for one in ordered
            ),
        )
    return SeriesPlan(
        slices=tuple(ordered),
        geometry=geometry,
        acquisition=replace(acquisition, notes=tuple(notes)),
        unit=HOUNSFIELD if all(one.hounsfield for one in ordered) else "1",
        series=first.series,
        source=source,
        whole=all(one.rescale.whole for one in ordered),
    )


def _point(position: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = position.tolist()
    return x, y, z


def fill_volume(plan: SeriesPlan, allocate: Allocate, fill: Fill) -> tuple[NDArray[Any], bool]:
    """Decode every slice of a plan into one array.

    Parameters
    ----------
    plan : SeriesPlan
    allocate : callable
        Makes the array; called again for float32 when a value does not fit into int16.
    fill : callable
        Fills it, and tells whether padding was clipped.

    Returns
    -------
    (k, j, i) int16 or float32, bool
    """
    with quiet():
        if plan.whole:
            values = allocate(plan.geometry.shape, np.int16)
            try:
                return values, fill(plan, values)
            except BeyondInt16Error:
                del values
        values = allocate(plan.geometry.shape, np.float32)
        return values, fill(plan, values)


def finish(plan: SeriesPlan, values: NDArray[Any], clipped: bool) -> SeriesRead:
    """The result of reading: a plan with its values."""
    notes = plan.acquisition.notes + (("padding_clipped",) if clipped else ())
    acquisition = replace(plan.acquisition, notes=notes)
    volume = Volume(values, plan.geometry, plan.unit, plan.series, acquisition)
    return SeriesRead(volume, plan.source)


def read_headers(files: Sequence[bytes | Path]) -> SourceSeries:
    """Identity of a series that need not be sound: enough to say in DICOM why it was refused.

    Files that cannot be read are left out, and so are those of another patient or study than the
    first: a report filed with one patient names no other. Instances stand in the order of the
    files.

    Raises
    ------
    InputError
        `not_dicom` when not one file can be read.
    """
    header: Dataset | None = None
    owner: tuple[tuple[bytes, bytes], str] | None = None
    instances: dict[str, SourceInstance] = {}
    with quiet():
        for file in files:
            try:
                found = read_header(file, slice_header.SLICE_TAGS)
                header = header or read_source_header(file)
            except (InputError, MemoryError):
                # A length of 4 GB ends as either; the other files may still tell who it is.
                continue
            named = slice_header.patient_key(found), text(found, slice_header.STUDY)
            owner = owner or named
            if named == owner:
                instance = _instance(found)
                instances.setdefault(instance.sop_instance_uid, instance)
    if header is None:
        raise InputError("not_dicom")
    return SourceSeries(header, tuple(instances.values()))


def _instance(found: Header) -> SourceInstance:
    place = numbers(found, slice_header.POSITION)
    number = numbers(found, slice_header.NUMBER)
    return SourceInstance(
        text(found, slice_header.CLASS),
        text(found, slice_header.INSTANCE),
        (place[0], place[1], place[2]) if place and len(place) == 3 else None,
        int(number[0]) if number else None,
    )
