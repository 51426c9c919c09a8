"""The images of a file: the one of a single-frame file, each frame of a multi-frame one."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO, Final

from dicom_services.dicom import slice_header
from dicom_services.dicom.acquisition import ACQUISITION_TAGS
from dicom_services.dicom.frame_groups import FrameGroups, Values, read_frame_groups
from dicom_services.dicom.header import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    NATIVE,
    UNDEFINED_LENGTH,
    Header,
    PixelSpan,
    open_inflated,
    read_header,
    tags,
    text,
)
from dicom_services.dicom.moment import MOMENT_TAGS, read_moment
from dicom_services.dicom.slice_header import SLICE_TAGS, Slice
from dicom_services.errors import InputError

_MODALITY, _PLACE, _TURN, _SPACING = tags(
    "Modality", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"
)
_RESCALING: Final = tags("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue")
_WANTED: Final = (*SLICE_TAGS, *MOMENT_TAGS)
_OF_FRAMES: Final = frozenset((*_WANTED, *ACQUISITION_TAGS, *tags("SpacingBetweenSlices")))
_MOST_FRAMES: Final = 50_000
"""Of 144 x 144 pixels they have as many bytes as a series may have."""
_ITEM: Final = b"\xfe\xff\x00\xe0"
_DELIMITER: Final = b"\xfe\xff\xdd\xe0"
# A compressed image begins so: JPEG and JPEG-LS (ISO 10918-1 B.1.1.3), JPEG 2000 (ISO 15444-1 A.4).
_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")

Fragment = tuple[int, int]
"""Offset and length of a piece of compressed pixel data."""


def read_images(file: bytes | Path, *, timed: bool = False) -> list[Slice]:
    """Read and check what a file says of its images.

    Parameters
    ----------
    file : bytes or Path
    timed : bool
        Whether to read what a single-frame file tells of its time; frames are told it always.

    Raises
    ------
    InputError
        As `read_slice`; `frame_groups` when frames are described otherwise than they are counted,
        `multi_frame_unsupported` when they are not described at all.
    """
    header = read_header(file, _WANTED if timed else SLICE_TAGS)
    if not header.groups_at:
        one = slice_header.slice_of(header, file, slice_header.single_frame(header))
        return [replace(one, moment=read_moment(header)) if timed else one]
    count = slice_header.number_of_frames(header)
    if text(header, _MODALITY) not in slice_header.MODALITIES:
        raise InputError("multi_frame_unsupported")
    if not 0 < count <= _MOST_FRAMES:
        raise InputError("attribute_value", keyword="NumberOfFrames")
    with open_inflated(file, header.syntax) as stream:
        groups = read_frame_groups(
            stream, header.groups_at, header.syntax, header.little, _OF_FRAMES, count
        )
        if len(groups.frames) != count:
            raise InputError("frame_groups", frames=count, described=len(groups.frames))
        if not timed:
            header = read_header(file, _WANTED)
        header = replace(header, pixels=groups.pixels, float_pixels=groups.float_pixels)
        first = replace(header, frame=groups.frames[0])
        template = slice_header.slice_of(first, file, slice_header.grey_pixels(first))
        if header.syntax in NATIVE:
            inflated = _whole(stream) if header.syntax == DEFLATED_LITTLE else b""
            template = replace(template, inflated=inflated)
            return _frames(header, template, groups.frames, _spans(template, count), [()] * count)
        fragments = _fragments_of_frames(template, groups, stream)
        return _frames(header, template, groups.frames, [template.span] * count, fragments)


def _frames(
    header: Header,
    template: Slice,
    frames: Sequence[Values],
    spans: Sequence[PixelSpan],
    fragments: Sequence[tuple[Fragment, ...]],
) -> list[Slice]:
    """One slice for each frame; what frames have in common is read once."""
    turns: dict[bytes | None, Any] = {}
    spacings: dict[bytes | None, Any] = {}
    scales: dict[tuple[bytes | None, ...], Any] = {}
    slices = []
    for n, values in enumerate(frames):
        told = replace(header, frame=values)
        turn, spacing = values.get(_TURN), values.get(_SPACING)
        scale = tuple(values.get(tag) for tag in _RESCALING)
        if turn not in turns:
            turns[turn] = slice_header.orientation(told)
        if spacing not in spacings:
            spacings[spacing] = slice_header.spacing_mm(told)
        if scale not in scales:
            rescale = slice_header.rescale(told, template.format)
            scales[scale] = rescale, slice_header.hounsfield(told)
        slices.append(
            replace(
                template,
                span=spans[n],
                position_mm=slice_header.position_mm(told),
                orientation=turns[turn],
                spacing_mm=spacings[spacing],
                rescale=scales[scale][0],
                hounsfield=scales[scale][1],
                moment=read_moment(told),
                frame=n + 1,
                values=values,
                fragments=fragments[n],
            )
        )
    return slices


def _whole(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read()


def _spans(first: Slice, count: int) -> list[PixelSpan]:
    """Native frames, one behind the other (PS3.5 section 8.1.1)."""
    size, span = first.stored_bytes, first.span
    if span.length == UNDEFINED_LENGTH:
        raise InputError("transfer_syntax")
    if span.length < size * count:
        raise InputError("pixel_data_short", bytes=span.length, expected=size * count)
    if first.syntax == EXPLICIT_BIG and size % 2:
        # Words of two bytes that belong to two frames.
        raise InputError("pixel_format", bits_allocated=first.format.bits_allocated)
    return [PixelSpan(span.vr, span.offset + n * size, size) for n in range(count)]


def _fragments_of_frames(
    first: Slice, groups: FrameGroups, stream: BinaryIO
) -> list[tuple[Fragment, ...]]:
    """The fragments of each compressed frame (PS3.5 section A.4)."""
    if first.span.length != UNDEFINED_LENGTH:
        raise InputError("transfer_syntax")
    table, fragments = _fragments(stream, first.span.offset)
    return _shares(groups, table, fragments, len(groups.frames), stream)


def _fragments(stream: BinaryIO, start: int) -> tuple[bytes, list[Fragment]]:
    """The offset table, and where each fragment lies."""
    end = stream.seek(0, io.SEEK_END)
    place = stream.seek(start)
    table: bytes | None = None
    fragments: list[Fragment] = []
    while True:
        prefix = stream.read(8)
        length = int.from_bytes(prefix[4:], "little")
        if len(prefix) < 8 or length > end - place - 8:
            raise InputError("file_truncated")
        if prefix[:4] == _DELIMITER:
            return table or b"", fragments
        if prefix[:4] != _ITEM:
            raise InputError("decode_failed")
        if table is None:
            table = stream.read(length)
        else:
            fragments.append((place + 8, length))
        place = stream.seek(place + 8 + length)


def _shares(
    groups: FrameGroups, table: bytes, fragments: list[Fragment], count: int, stream: BinaryIO
) -> list[tuple[Fragment, ...]]:
    """The fragments of each frame: by an offset table, one each, or by how images begin."""
    if len(fragments) < count:
        raise InputError("pixel_data_short", fragments=len(fragments), frames=count)
    if len(fragments) == count:
        return [(fragment,) for fragment in fragments]
    begins = _by_table(groups.offsets, "Q", fragments, count) or _by_table(
        table, "I", fragments, count
    )
    if begins is None:
        begins = [n for n, (place, _) in enumerate(fragments) if _begins_image(stream, place)]
    if len(begins) != count or begins[0] != 0:
        raise InputError("pixel_data_short", fragments=len(fragments), frames=count)
    return [
        tuple(fragments[n:after])
        for n, after in zip(begins, [*begins[1:], len(fragments)], strict=True)
    ]


def _by_table(table: bytes, kind: str, fragments: list[Fragment], count: int) -> list[int] | None:
    """Which fragment each frame begins with; None where the table does not fit."""
    if len(table) != count * (8 if kind == "Q" else 4):
        return None
    # Offsets count from the first fragment's item, eight bytes before its value.
    known = {place - fragments[0][0]: n for n, (place, _) in enumerate(fragments)}
    begins = [known.get(offset) for offset in unpack(f"<{count}{kind}", table)]
    found = [n for n in begins if n is not None]
    rising = all(early < late for early, late in itertools.pairwise(found))
    return found if len(found) == count and rising else None


def _begins_image(stream: BinaryIO, place: int) -> bool:
    stream.seek(place)
    return stream.read(4).startswith(_BEGINNINGS)
