"""A series of single-frame CT or MR files -> one volume, and the source its results refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydicom import Dataset

from dicom_services.dicom import slice_header, stack
from dicom_services.dicom.acquisition import read_acquisition
from dicom_services.dicom.frames import read_images
from dicom_services.dicom.header import Header, numbers, read_header, text
from dicom_services.dicom.pixels import BeyondInt16Error, fill_all
from dicom_services.dicom.quiet import quiet
from dicom_services.dicom.slice_header import Slice
from dicom_services.dicom.source import SourceInstance, SourceSeries
from dicom_services.dicom.source_header import read_source_header
from dicom_services.dicom.times import frames_of
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
        In the order of the volume: all slices of the first time, then of the second.
    geometry : Geometry
        Of one time.
    acquisition : Acquisition
    unit, series : str
        As in `Volume`.
    source : SourceSeries
    whole : bool
        Whether every value is a whole number, so that int16 may do.
    times_s : tuple of float
        Seconds since the first time; empty where the volume has no axis of time.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry
    acquisition: Acquisition
    unit: str
    series: str
    source: SourceSeries
    whole: bool
    times_s: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(k, j, i), or (t, k, j, i) with times."""
        return (len(self.times_s), *self.geometry.shape) if self.times_s else self.geometry.shape

    @property
    def voxels(self) -> int:
        """Number of values of the volume."""
        return int(np.prod(self.shape, dtype=np.int64))


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
    return _read(plan_series(files))


def read_dynamic(files: Sequence[bytes | Path]) -> SeriesRead:
    """As `read_series`, (t, k, j, i) with the time of each frame.

    Parameters
    ----------
    files : sequence of bytes or Path
        Every file of one series, or of several of one study that are times of one grid.

    Returns
    -------
    SeriesRead
        A series of a single time has one frame, at 0 s.

    Raises
    ------
    InputError
        As `read_series`, and what `times` and `stack.places` refuse; `mixed_echo_times` with the
        number of echoes.
    """
    return _read(plan_dynamic(files))


def _read(plan: SeriesPlan) -> SeriesRead:
    values, clipped = fill_volume(plan, np.empty, lambda found, room: fill_all(found.slices, room))
    return finish(plan, values, clipped)


def plan_series(files: Sequence[bytes | Path]) -> SeriesPlan:
    """Read and check all headers of a series and put its slices in order."""
    with quiet():
        slices = _slices(files)
        stack.one_series(slices)
        ordered, notes = stack.one_stack(slices)
        return _plan(ordered, notes, ())


def plan_dynamic(files: Sequence[bytes | Path]) -> SeriesPlan:
    """Read and check all headers of a dynamic and put its slices in order of time and place."""
    with quiet():
        slices = _slices(files, timed=True)
        stack.one_study(slices)
        places, notes = stack.places(slices)
        _refuse_echoes(one for place in places for one in place)
        frames = frames_of(places)
        ordered = [one for frame in frames.slices for one in frame]
        return _plan(ordered, [*notes, *frames.notes], frames.times_s)


def _slices(files: Sequence[bytes | Path], *, timed: bool = False) -> list[Slice]:
    """Every image of the files, their headers checked and their pixels counted."""
    if not files:
        raise InputError("no_files")
    slices = [one for file in files for one in read_images(file, timed=timed)]
    declared = sum(one.stored_bytes for one in slices)
    if declared > LARGEST_BYTES:
        raise InputError("too_large", megabytes=declared >> 20, limit=LARGEST_BYTES >> 20)
    return slices


def _refuse_echoes(slices: Iterable[Slice]) -> None:
    """The signal of two echoes is not of one curve: R2* would be made of their difference."""
    told = {one.moment.echo_ms for one in slices if one.moment is not None}
    echoes = told - {None}
    if len(echoes) > 1:
        raise InputError("mixed_echo_times", count=len(echoes))


def _plan(ordered: list[Slice], notes: list[str], times_s: tuple[float, ...]) -> SeriesPlan:
    """A plan of slices in order of time and place; `times_s` is empty where there is one time."""
    first = ordered[0]
    count = len(ordered) // max(len(times_s), 1)
    acquisition, alone_mm = read_acquisition(first.file, first.values)
    geometry, more = stack.grid(ordered[:count], alone_mm)
    notes = notes + more
    if first.photometric == "MONOCHROME1":
        notes.append("monochrome1")
    instances = tuple(_source(one, first.series) for one in ordered)
    header = read_source_header(first.file, first.values)
    return SeriesPlan(
        slices=tuple(ordered),
        geometry=geometry,
        acquisition=replace(acquisition, notes=tuple(notes)),
        unit=HOUNSFIELD if all(one.hounsfield for one in ordered) else "1",
        series=first.series,
        source=SourceSeries(header, instances[:count], instances[count:]),
        whole=all(one.rescale.whole for one in ordered),
        times_s=times_s,
    )


def _source(one: Slice, series: str) -> SourceInstance:
    return SourceInstance(
        one.sop_class,
        one.uid,
        _point(one.position_mm),
        one.number,
        one.frame,
        "" if one.series == series else one.series,
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
    (k, j, i) or (t, k, j, i) int16 or float32, bool
    """
    with quiet():
        if plan.whole:
            values = allocate(plan.shape, np.int16)
            try:
                return values, fill(plan, values)
            except BeyondInt16Error:
                del values
        values = allocate(plan.shape, np.float32)
        return values, fill(plan, values)


def finish(plan: SeriesPlan, values: NDArray[Any], clipped: bool) -> SeriesRead:
    """The result of reading: a plan with its values."""
    notes = plan.acquisition.notes + (("padding_clipped",) if clipped else ())
    acquisition = replace(plan.acquisition, notes=notes)
    volume = Volume(values, plan.geometry, plan.unit, plan.series, acquisition, plan.times_s)
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
    series = ""
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
                series = series or text(found, slice_header.SERIES)
                instance = _instance(found, series)
                instances.setdefault(instance.sop_instance_uid, instance)
    if header is None:
        raise InputError("not_dicom")
    return SourceSeries(header, tuple(instances.values()))


def _instance(found: Header, series: str) -> SourceInstance:
    named = text(found, slice_header.SERIES)
    place = numbers(found, slice_header.POSITION)
    number = numbers(found, slice_header.NUMBER)
    return SourceInstance(
        text(found, slice_header.CLASS),
        text(found, slice_header.INSTANCE),
        (place[0], place[1], place[2]) if place and len(place) == 3 else None,
        int(number[0]) if number else None,
        series_uid="" if named == series else named,
    )
