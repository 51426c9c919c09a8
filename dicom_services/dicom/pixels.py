"""Pixel data of one slice: stored values out of any transfer syntax, then rescaled in place."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder

from dicom_services.dicom.header import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    NATIVE,
    UNDEFINED_LENGTH,
    open_file,
    open_inflated,
)
from dicom_services.dicom.slice_header import Slice
from dicom_services.errors import InputError

# Decoders by transfer syntax; named, because pydicom's own order prefers slower ones.
DECODERS: Final = {
    "1.2.840.10008.1.2.5": "pylibjpeg",  # RLE
    "1.2.840.10008.1.2.4.50": "pylibjpeg",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "pylibjpeg",  # JPEG extended, 8 and 12 bits
    "1.2.840.10008.1.2.4.57": "pylibjpeg",  # JPEG lossless, process 14
    "1.2.840.10008.1.2.4.70": "pylibjpeg",  # the same, selection value 1
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS, near lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000, lossless
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # high-throughput JPEG 2000, lossless
    "1.2.840.10008.1.2.4.202": "pylibjpeg",  # the same, by resolution
    "1.2.840.10008.1.2.4.203": "pylibjpeg",  # high-throughput JPEG 2000
}

Stored = NDArray[np.int16 | np.uint16]
"""(j, i) stored values of a slice, signed or not."""

LOWEST_HU: Final = -1024
"""Air is -1000 HU; what lies below -1024 is padding outside the field of view."""
_HIGHEST_HU: Final = 3071
"""Top of the usual 12-bit scale; a padding value above it cannot be tissue."""
_INT16: Final = np.iinfo(np.int16)
_DELIMITER: Final = b"\xfe\xff\xdd\xe0"
_ITEM: Final = b"\xfe\xff\x00\xe0"


class BeyondInt16Error(Exception):
    """A value does not fit into 16 bits, so that the volume has to be read as float32."""


def stored_values(one: Slice, room: NDArray[np.int16]) -> Stored:
    """Stored values of a slice, unused bits cleared.

    Parameters
    ----------
    one : Slice
    room : (j, i) int16
        May be used for the result; afterwards its content is undefined.

    Raises
    ------
    InputError
        `transfer_syntax`, `pixel_data_short`, `file_truncated` or `decode_failed`.
    """
    if one.syntax in NATIVE:
        return _arranged(one, _native(one, room), room)
    if one.syntax not in DECODERS:
        raise InputError("transfer_syntax")
    return _decoded(one)


def _native(one: Slice, room: NDArray[np.int16]) -> NDArray[np.int8] | NDArray[np.int16]:
    size = one.stored_bytes
    if one.span.length == UNDEFINED_LENGTH:
        raise InputError("transfer_syntax")
    if one.span.length < size:
        raise InputError("pixel_data_short", bytes=one.span.length, expected=size)
    wide = one.format.bits_allocated == 16
    as_they_lie = one.syntax not in (DEFLATED_LITTLE, EXPLICIT_BIG)
    if wide and isinstance(one.file, Path) and as_they_lie:
        _read_into(one.file, one.span.offset, room)
        return room
    value = _value(one, size + size % 2)
    if len(value) < size:
        raise InputError("file_truncated")
    if wide:
        order = ">i2" if one.syntax == EXPLICIT_BIG else "<i2"
        return np.frombuffer(value, order, room.size).reshape(room.shape)
    narrow = np.frombuffer(value, np.int8)
    if one.syntax == EXPLICIT_BIG and one.span.vr == "OW" and len(value) % 2 == 0:
        # Bytes in words of the other order, PS3.5 section 8.1.2.
        narrow = narrow.view(np.int16).byteswap().view(np.int8)
    return narrow[: room.size].reshape(room.shape)


def _read_into(file: Path, offset: int, room: NDArray[np.int16]) -> None:
    try:
        with file.open("rb", buffering=0) as stream:
            stream.seek(offset)
            got = stream.readinto(room.data.cast("B"))
    except OSError as error:
        raise InputError("file_unreadable") from error
    if got < room.nbytes:
        raise InputError("file_truncated")


def _value(one: Slice, size: int) -> bytes | memoryview:
    held = one.inflated or (one.file if one.syntax != DEFLATED_LITTLE else b"")
    if isinstance(held, bytes) and held:
        return memoryview(held)[one.span.offset : one.span.offset + size]
    with open_inflated(one.file, one.syntax) as stream:
        stream.seek(one.span.offset)
        return stream.read(size)


def _arranged(
    one: Slice, values: NDArray[np.int8] | NDArray[np.int16], room: NDArray[np.int16]
) -> Stored:
    """Only the stored bits, as a signed or unsigned number (PS3.5 section 8.1.1)."""
    layout = one.format
    left = layout.bits_allocated - 1 - layout.high_bit
    right = layout.bits_allocated - layout.bits_stored
    if layout.bits_allocated == 8:
        held = values.view(np.int8 if layout.signed else np.uint8)
        if right:
            held = np.right_shift(np.left_shift(held, left), right)
        return held.astype(np.int16 if layout.signed else np.uint16)
    kind = np.int16 if layout.signed else np.uint16
    result: Stored = values.astype(np.int16, copy=False).view(kind)
    if right:
        out: Stored = room.view(kind)
        np.left_shift(result, left, out=out)
        np.right_shift(out, right, out=out)
        return out
    return result


def _decoded(one: Slice) -> Stored:
    layout = one.format
    # Any: pydicom declares each option with the type of all of them together.
    options: dict[str, Any] = {
        "rows": one.shape[0],
        "columns": one.shape[1],
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": one.photometric,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "pixel_keyword": "PixelData",
    }
    stream = encapsulate([_frame(one)], has_bot=False)
    try:
        values, _ = get_decoder(one.syntax).as_array(
            stream,
            index=0,
            raw=True,
            validate=False,
            decoding_plugin=DECODERS[one.syntax],
            **options,
        )
    except MemoryError:
        raise
    except Exception as error:  # decoders raise almost anything on broken data
        raise InputError("decode_failed") from error
    if values.shape != one.shape or values.dtype.itemsize > 2:
        raise InputError("decode_failed")
    return values.astype(np.int16 if layout.signed else np.uint16, copy=False)


def _frame(one: Slice) -> bytes:
    """A compressed frame: its fragments, or all after the offset table (PS3.5 section A.4)."""
    if one.fragments:
        return _joined(one)
    if one.span.length != UNDEFINED_LENGTH:
        raise InputError("transfer_syntax")
    fragments: list[bytes] = []
    with open_inflated(one.file, one.syntax) as stream:
        end = stream.seek(0, io.SEEK_END)
        stream.seek(one.span.offset)
        while True:
            prefix = stream.read(8)
            length = int.from_bytes(prefix[4:], "little")
            if len(prefix) < 8 or length > end - stream.tell():
                raise InputError("file_truncated")
            if prefix[:4] == _DELIMITER:
                break
            if prefix[:4] != _ITEM:
                raise InputError("decode_failed")
            fragments.append(stream.read(length))
    if len(fragments) < 2:
        raise InputError("pixel_data_short", bytes=0, expected=one.stored_bytes)
    return b"".join(fragments[1:])


def _joined(one: Slice) -> bytes:
    pieces = []
    with open_file(one.file) as stream:
        for offset, length in one.fragments:
            stream.seek(offset)
            pieces.append(stream.read(length))
    return b"".join(pieces)


def fill(one: Slice, out: NDArray[np.int16] | NDArray[np.float32]) -> bool:
    """Decode and rescale one slice.

    Parameters
    ----------
    one : Slice
    out : (j, i) int16 or float32
        Receives the values; for HU nothing below -1024 remains.

    Returns
    -------
    bool
        Whether padding was clipped.

    Raises
    ------
    BeyondInt16Error
        When `out` is int16 and a value is beyond it; `out` is then undefined.
    """
    if out.dtype == np.int16:
        room = out.view(np.int16)
        return _rescaled_whole(one, stored_values(one, room), room)
    stored = stored_values(one, np.empty(one.shape, np.int16))
    exact = stored * np.float64(one.rescale.slope) + one.rescale.intercept
    return _settled(one, stored, exact, out)


def fill_all(slices: Sequence[Slice], values: NDArray[np.int16] | NDArray[np.float32]) -> bool:
    """`fill` one slice after the other; whether padding was clipped in any.

    Parameters
    ----------
    slices : sequence of Slice
    values : (n, j, i) or (t, k, j, i) int16 or float32
        As many images as there are slices.
    """
    clipped = False
    for one, out in zip(slices, values.reshape(-1, *values.shape[-2:]), strict=True):
        clipped |= fill(one, out)
    return clipped


def _rescaled_whole(one: Slice, stored: Stored, out: NDArray[np.int16]) -> bool:
    """Rescale by whole numbers into `out`, which `stored` may share memory with."""
    slope, intercept = int(one.rescale.slope), int(one.rescale.intercept)
    low, high = int(stored.min()), int(stored.max())
    padding = _padding_above(one)
    if slope != 1 or (padding is not None and low <= padding <= high):
        return _settled(one, stored, stored.astype(np.int64) * slope + intercept, out)
    floor = LOWEST_HU - intercept
    clipped = one.hounsfield and low < floor
    if clipped:
        if floor > high:
            out.fill(LOWEST_HU)
            return True
        np.maximum(stored, stored.dtype.type(floor), out=out.view(stored.dtype))
        stored, low = out.view(stored.dtype), floor
    if low + intercept < _INT16.min or high + intercept > _INT16.max:
        raise BeyondInt16Error
    # Modulo 65536 the sum is right whatever the signs, once the result is known to fit.
    shift = np.uint16(intercept % 65536)
    np.add(stored.view(np.uint16), shift, out=out.view(np.uint16))
    return clipped


def _settled(
    one: Slice,
    stored: Stored,
    exact: NDArray[np.int64] | NDArray[np.float64],
    out: NDArray[np.int16] | NDArray[np.float32],
) -> bool:
    """Clip rescaled values and store them in `out`."""
    clipped = False
    if one.hounsfield:
        padding = _padding_above(one)
        if padding is not None:
            exact[stored == padding] = LOWEST_HU - 1
        clipped = bool(exact.min() < LOWEST_HU)
        np.maximum(exact, LOWEST_HU, out=exact)
    if out.dtype == np.int16 and (exact.min() < _INT16.min or exact.max() > _INT16.max):
        raise BeyondInt16Error
    out[...] = exact
    return clipped


def _padding_above(one: Slice) -> int | None:
    """Padding value that lies above all tissue, where clipping from below does not reach it."""
    padding, scale = one.rescale.padding, one.rescale
    if not one.hounsfield or padding is None:
        return None
    return padding if padding * scale.slope + scale.intercept > _HIGHEST_HU else None
