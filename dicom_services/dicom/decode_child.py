"""Reading a series in a forked child with limits, so that hostile pixels end the child only."""

from __future__ import annotations

import base64
import io
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from dicom_services.dicom import pixels
from dicom_services.dicom.child import Child, Limits, Send, allow, start_child
from dicom_services.dicom.header import NATIVE
from dicom_services.dicom.quiet import quiet
from dicom_services.dicom.read import (
    LARGEST_BYTES,
    SeriesPlan,
    SeriesRead,
    fill_volume,
    finish,
    plan_dynamic,
    plan_series,
    read_headers,
)
from dicom_services.dicom.source import SourceInstance, SourceSeries
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume
from dicom_services.errors import InputError

Plan = Callable[[Sequence[bytes | Path]], SeriesPlan]

_HEADERS_BYTES: Final = 384 << 20
"""For headers: a deflated file inflates to a hundredfold at most, and pydicom needs some more."""
_DECODER_BYTES: Final = 256 << 20
"""For a decoder's code, threads and buffers, besides what grows with the pixels."""
_BYTES_PER_VOXEL: Final = 6
"""2 or 4 for the volume, the rest for a slice's intermediates where there are few slices."""
_WORK_BYTES_PER_PIXEL: Final = 64
"""For one slice in flight: compressed, decoded, float64 intermediates, OpenJPEG's int32 planes."""
_HEADERS_CPU_S: Final = 20
_CPU_S_PER_FILE: Final = 0.05
_CPU_S_PER_MEGABYTE: Final = 0.5
"""Ten times what JPEG 2000, the slowest, was measured to take."""
_WALL_S: Final = 900.0
_FIELDS: Final = tuple(field.name for field in fields(SourceInstance))
_SLICES_PER_PROCESS: Final = 8
"""Compressed slices that make a further process worth its start."""


def read_series_limited(files: Sequence[bytes | Path]) -> SeriesRead:
    """As `read_series`, in a child with memory and processor limits scaled to the pixels.

    The volume is decoded into shared memory and neither copied nor pickled. Compressed slices are
    spread over the processors this process may use.

    Raises
    ------
    InputError
        As `read_series`; `decoder_died` when the child did.
    """
    return _read_limited(files, plan_series)


def read_dynamic_limited(files: Sequence[bytes | Path]) -> SeriesRead:
    """As `read_dynamic`, in a child as `read_series_limited`."""
    return _read_limited(files, plan_dynamic)


def _read_limited(files: Sequence[bytes | Path], plan: Plan) -> SeriesRead:
    volume = os.memfd_create("volume", os.MFD_CLOEXEC)
    try:
        child = start_child(
            lambda send: _read(plan, files, volume, send), header_limits(len(files)), keep=(volume,)
        )
        (message,) = child.messages()
        return _series_read(message, volume)
    finally:
        os.close(volume)


def read_headers_limited(files: Sequence[bytes | Path]) -> SourceSeries:
    """As `read_headers`, in a child with limits."""

    def work(send: Send) -> None:
        send(_source_message(read_headers(files)))

    (message,) = start_child(work, header_limits(len(files))).messages()
    return _source(message)


def header_limits(count: int) -> Limits:
    """What reading the headers of that many files may use, and at last their pixels."""
    cpu_s = _HEADERS_CPU_S + int(count * _CPU_S_PER_FILE)
    last_bytes = _DECODER_BYTES + _BYTES_PER_VOXEL * LARGEST_BYTES
    return Limits(
        memory_bytes=_HEADERS_BYTES,
        last_memory_bytes=_HEADERS_BYTES + last_bytes,
        cpu_s=cpu_s,
        last_cpu_s=cpu_s + int(_CPU_S_PER_MEGABYTE * (LARGEST_BYTES >> 20)),
        wall_s=_WALL_S,
    )


def _read(make: Plan, files: Sequence[bytes | Path], volume: int, send: Send) -> None:
    """In the child: headers first, then limits for the pixels they declare, then those."""
    plan = make(files)
    memory_bytes, cpu_s = _needs(plan)
    allow(memory_bytes=memory_bytes, cpu_s=cpu_s)

    def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        os.ftruncate(volume, size)
        return np.frombuffer(mmap.mmap(volume, size), kind).reshape(shape)

    values, clipped = fill_volume(plan, allocate, _spread)
    send(_message(finish(plan, values, clipped)))


def _needs(plan: SeriesPlan) -> tuple[int, int]:
    rows, columns = plan.geometry.shape[1:]
    memory = _BYTES_PER_VOXEL * plan.voxels + _WORK_BYTES_PER_PIXEL * rows * columns
    return memory + _DECODER_BYTES, _HEADERS_CPU_S + int(
        _CPU_S_PER_MEGABYTE * (2 * plan.voxels >> 20)
    )


def _spread(plan: SeriesPlan, values: NDArray[Any]) -> bool:
    """Fill the slices in several processes: decoders hold Python's lock, so threads gain nothing.

    Returns
    -------
    bool
        Whether padding was clipped.
    """
    packed = sum(one.syntax not in NATIVE for one in plan.slices)
    count = min(len(os.sched_getaffinity(0)), packed // _SLICES_PER_PROCESS)
    if count < 2:
        return pixels.fill_all(plan.slices, values)
    images = values.reshape(-1, *values.shape[-2:])
    memory_bytes, cpu_s = _needs(plan)
    limits = Limits(memory_bytes, memory_bytes, cpu_s, cpu_s, _WALL_S)

    def share(first: int) -> Child:
        def work(send: Send) -> None:
            try:
                send(pixels.fill_all(plan.slices[first::count], images[first::count]))
            except pixels.BeyondInt16Error:
                send(None)

        return start_child(work, limits, own_group=False)

    children = [share(first) for first in range(count)]
    try:
        answers = [answer for child in children for answer in child.messages()]
    finally:
        for child in children:
            child.end()
    if None in answers:
        raise pixels.BeyondInt16Error
    return any(answers)


def _message(read: SeriesRead) -> dict[str, Any]:
    volume = read.volume
    return {
        "source": _source_message(read.source),
        "affine": volume.geometry.affine.tolist(),
        "shape": volume.values.shape,
        "times_s": volume.times_s,
        "frame_uid": volume.geometry.frame_uid,
        "float": volume.values.dtype == np.float32,
        "unit": volume.unit,
        "series": volume.series,
        "acquisition": asdict(volume.acquisition),
    }


def _source_message(source: SourceSeries) -> dict[str, Any]:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    with quiet():
        write_dataset(stream, source.header)
    return {
        "header": base64.b64encode(stream.getvalue()).decode(),
        "instances": [_row(one) for one in source.instances],
        "later": [_row(one) for one in source.later],
    }


def _row(one: SourceInstance) -> list[Any]:
    """An instance without the names of its fields: a dynamic has tens of thousands."""
    return [getattr(one, name) for name in _FIELDS]


def _instances(rows: Sequence[Sequence[Any]]) -> tuple[SourceInstance, ...]:
    told = (dict(zip(_FIELDS, row, strict=True)) for row in rows)
    return tuple(
        SourceInstance(**{**one, "position_mm": one["position_mm"] and tuple(one["position_mm"])})
        for one in told
    )


def _source(message: dict[str, Any]) -> SourceSeries:
    with quiet():
        header: Dataset = read_dataset(
            io.BytesIO(base64.b64decode(message["header"])),
            is_implicit_VR=False,
            is_little_endian=True,
        )
        for _ in header.iterall():
            pass
    return SourceSeries(header, _instances(message["instances"]), _instances(message["later"]))


def _series_read(message: dict[str, Any], volume: int) -> SeriesRead:
    kind = np.dtype(np.float32 if message["float"] else np.int16)
    shape = tuple(message["shape"])
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if os.fstat(volume).st_size != size:
        raise InputError("decoder_died", reason="volume")
    mapped = mmap.mmap(volume, size, mmap.MAP_SHARED, mmap.PROT_READ)
    k, j, i = shape[-3:]
    told = dict(message["acquisition"])
    told["notes"] = tuple(told["notes"])
    return SeriesRead(
        Volume(
            np.frombuffer(mapped, kind).reshape(shape),
            Geometry(np.array(message["affine"]), (k, j, i), message["frame_uid"]),
            message["unit"],
            message["series"],
            Acquisition(**told),
            tuple(message["times_s"]),
        ),
        _source(message["source"]),
    )
