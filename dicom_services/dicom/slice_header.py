"""What reading needs to know of one slice, checked: whose it is, where it lies, its pixels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.tag import BaseTag

from dicom_services.dicom.header import (
    Header,
    PixelSpan,
    has,
    integer,
    numbers,
    raw_bytes,
    read_header,
    tags,
    text,
    words,
)
from dicom_services.dicom.moment import MOMENT_TAGS, Moment, read_moment
from dicom_services.errors import InputError

# Digits and dots. Leading zeros and more than 64 characters break PS3.5 section 9.1, but
# anonymisers write them and they still tell instances apart; letters, spaces or nothing do not.
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*\Z")
_UID_LENGTH: Final = 128
_LARGEST_SIDE: Final = 16384
"""No CT or MR matrix comes near; 16384 x 16384 pixels are already half a gigabyte."""
MODALITIES: Final = frozenset({"CT", "MR"})
_GREY: Final = frozenset({"MONOCHROME1", "MONOCHROME2"})
# Cosines as written by scanners are off by rounding; more than this is another matrix.
_COSINE_TOLERANCE: Final = 1e-2
_FARTHEST_MM: Final = 1e6

(
    CLASS,
    INSTANCE,
    STUDY,
    SERIES,
    _PATIENT,
    _NAME,
    _FRAME,
    _MODALITY,
    _IMAGE_TYPE,
    NUMBER,
    POSITION,
    _ORIENTATION,
    _SPACING,
    _SAMPLES,
    _PHOTOMETRIC,
    _FRAMES,
    _ROWS,
    _COLUMNS,
    _ALLOCATED,
    _STORED,
    _HIGH,
    _SIGNED,
    _PADDING,
    _SLOPE,
    _INTERCEPT,
    _RESCALE_TYPE,
    _LOOKUP,
) = SLICE_TAGS = tags(
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "PatientName",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
)


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How one stored value is laid out (PS3.5 section 8.1.1)."""

    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool


@dataclass(frozen=True, slots=True)
class Rescale:
    """Stored value times slope plus intercept, and the stored value that means "no data"."""

    slope: float
    intercept: float
    padding: int | None

    @property
    def whole(self) -> bool:
        """Whether whole numbers stay whole numbers, within 16 bits of slope."""
        small = abs(self.slope) <= 32767 and abs(self.intercept) <= 1 << 30
        return small and self.slope.is_integer() and self.intercept.is_integer()


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One image of a series: a file, or a frame of a multi-frame one.

    Parameters
    ----------
    file : bytes or Path
    syntax : str
        Transfer Syntax UID.
    span : PixelSpan
    sop_class, uid, study, series, frame_uid : str
    patient : tuple of bytes
        Patient ID and name as written; never decoded, only compared.
    number : int or None
    modality, photometric : str
    localizer, hounsfield : bool
    position_mm : (3,) float64
    orientation : (2, 3) float64
        Unit vectors along a row and along a column.
    spacing_mm : (between rows, between columns)
    shape : (rows, columns)
    format : PixelFormat
    rescale : Rescale
    moment : Moment or None
        What it tells of its time; None where that was not asked for.
    frame : int
        Number of the frame in a multi-frame file, from 1; 0 for a single-frame one.
    values : mapping
        What a multi-frame file says of this frame, by tag.
    fragments : tuple of (offset, length)
        Where the pieces of a compressed frame of a multi-frame file lie.
    inflated : bytes
        The data set of a deflated multi-frame file, in which the offsets count.
    """

    file: bytes | Path
    syntax: str
    span: PixelSpan
    sop_class: str
    uid: str
    study: str
    series: str
    frame_uid: str
    patient: tuple[bytes, bytes]
    number: int | None
    modality: str
    photometric: str
    localizer: bool
    hounsfield: bool
    position_mm: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    format: PixelFormat
    rescale: Rescale
    moment: Moment | None = None
    frame: int = 0
    values: Mapping[int, bytes] = field(default_factory=dict)
    fragments: tuple[tuple[int, int], ...] = ()
    inflated: bytes = b""

    @property
    def stored_bytes(self) -> int:
        """Size of its pixels once decoded."""
        return self.shape[0] * self.shape[1] * self.format.bits_allocated // 8


def read_slice(file: bytes | Path) -> Slice:
    """Read and check the header of a single-frame file.

    Raises
    ------
    InputError
        What is wrong with it, see the functions below; no pixel was touched.
    """
    header = read_header(file, SLICE_TAGS)
    return slice_of(header, file, single_frame(header))


def slice_of(header: Header, file: bytes | Path, span: PixelSpan) -> Slice:
    """The image a header describes, its pixels at `span`; see `read_slice`."""
    modality = text(header, _MODALITY)
    if modality not in MODALITIES:
        raise InputError("modality_unsupported")
    frame_uid = text(header, _FRAME)
    image_type = words(header, _IMAGE_TYPE)
    if "MOSAIC" in image_type:
        # Siemens: all slices of a time in one picture, their places in private elements.
        raise InputError("mosaic_unsupported")
    return Slice(
        file=file,
        syntax=header.syntax,
        span=span,
        sop_class=_uid(header, "SOPClassUID", CLASS),
        uid=_uid(header, "SOPInstanceUID", INSTANCE),
        study=_uid(header, "StudyInstanceUID", STUDY),
        series=_uid(header, "SeriesInstanceUID", SERIES),
        frame_uid=_uid(header, "FrameOfReferenceUID", _FRAME) if frame_uid else "",
        patient=patient_key(header),
        number=_whole_number(header),
        modality=modality,
        photometric=text(header, _PHOTOMETRIC),
        localizer="LOCALIZER" in image_type,
        hounsfield=hounsfield(header),
        position_mm=position_mm(header),
        orientation=orientation(header),
        spacing_mm=spacing_mm(header),
        shape=_shape(header),
        format=(layout := _format(header)),
        rescale=rescale(header, layout),
    )


def hounsfield(header: Header) -> bool:
    """Whether rescaled values are HU."""
    return text(header, _MODALITY) == "CT" and text(header, _RESCALE_TYPE) in ("", "HU")


def position_mm(header: Header) -> NDArray[np.float64]:
    """(3,) Image Position (Patient)."""
    return np.array(_decimals(header, "ImagePositionPatient", POSITION, 3))


def with_moment(one: Slice) -> Slice:
    """A slice with what its file tells of its time."""
    if one.moment is not None:
        return one
    return replace(one, moment=read_moment(read_header(one.file, MOMENT_TAGS)))


def patient_key(header: Header) -> tuple[bytes, bytes]:
    """Patient ID and name as written, to be compared only."""
    return raw_bytes(header, _PATIENT).strip(b" \0"), raw_bytes(header, _NAME).strip(b" \0")


def single_frame(header: Header) -> PixelSpan:
    """Where the pixels lie; refuses what is not one grey frame."""
    if header.groups_at or number_of_frames(header) != 1:
        raise InputError("multi_frame_unsupported")
    if not header.whole:
        raise InputError("file_truncated")
    return grey_pixels(header)


def number_of_frames(header: Header) -> int:
    """Number of Frames; 1 where it is absent, -1 where it is no number."""
    frames = text(header, _FRAMES)
    if frames in ("", "0"):
        return 1
    return int(frames) if frames.isascii() and frames.isdigit() and len(frames) < 10 else -1


def grey_pixels(header: Header) -> PixelSpan:
    """Where the pixels lie; refuses what has none, or other than grey integers."""
    if header.float_pixels:
        raise InputError("pixel_format")
    if header.pixels is None:
        # Without any image attribute it is a report, plan or index rather than a broken image.
        image = any(has(header, tag) for tag in (_ROWS, _COLUMNS, _ALLOCATED, _IMAGE_TYPE))
        raise InputError("pixel_data_missing" if image else "not_an_image")
    grey = text(header, _PHOTOMETRIC)
    if (integer(header, _SAMPLES) or 1) != 1 or (grey and grey not in _GREY):
        raise InputError("not_monochrome")
    if not grey:
        raise InputError("missing_attribute", keyword="PhotometricInterpretation")
    return header.pixels


def _uid(header: Header, keyword: str, tag: BaseTag) -> str:
    uid = text(header, tag)
    if len(uid) > _UID_LENGTH or not _UID.match(uid):
        raise InputError("illegal_uid", keyword=keyword)
    return uid


def _whole_number(header: Header) -> int | None:
    values = numbers(header, NUMBER)
    return int(values[0]) if values and abs(values[0]) < 1 << 31 else None


def _decimals(header: Header, keyword: str, tag: BaseTag, count: int) -> list[float]:
    values = numbers(header, tag)
    if values is None:
        raise InputError("missing_attribute", keyword=keyword)
    if len(values) != count or max(map(abs, values)) > _FARTHEST_MM:
        raise InputError("attribute_value", keyword=keyword)
    return values


def orientation(header: Header) -> NDArray[np.float64]:
    """(2, 3) unit vectors along a row and along a column."""
    values = _decimals(header, "ImageOrientationPatient", _ORIENTATION, 6)
    cosines = np.array(values).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    skew = abs(float(cosines[0] @ cosines[1]))
    if np.abs(lengths - 1.0).max() > _COSINE_TOLERANCE or skew > _COSINE_TOLERANCE:
        raise InputError("attribute_value", keyword="ImageOrientationPatient")
    unit: NDArray[np.float64] = cosines / lengths[:, None]
    return unit


def spacing_mm(header: Header) -> tuple[float, float]:
    """Distance between rows and between columns."""
    rows, columns = _decimals(header, "PixelSpacing", _SPACING, 2)
    if min(rows, columns) <= 0.0:
        raise InputError("attribute_value", keyword="PixelSpacing")
    return rows, columns


def _shape(header: Header) -> tuple[int, int]:
    rows, columns = integer(header, _ROWS), integer(header, _COLUMNS)
    if rows is None or columns is None:
        raise InputError("missing_attribute", keyword="Rows" if rows is None else "Columns")
    if not (0 < rows <= _LARGEST_SIDE and 0 < columns <= _LARGEST_SIDE):
        raise InputError("image_size", rows=rows, columns=columns)
    return rows, columns


def _format(header: Header) -> PixelFormat:
    allocated = integer(header, _ALLOCATED)
    if allocated is None:
        raise InputError("missing_attribute", keyword="BitsAllocated")
    stored = integer(header, _STORED)
    stored = allocated if stored is None else stored
    high = integer(header, _HIGH)
    high = stored - 1 if high is None else high
    sign = integer(header, _SIGNED)
    if sign is None:
        raise InputError("missing_attribute", keyword="PixelRepresentation")
    fits = 0 < stored <= high + 1 <= allocated
    if allocated not in (8, 16) or sign not in (0, 1) or not fits:
        raise InputError("pixel_format", bits_allocated=allocated, bits_stored=stored)
    return PixelFormat(allocated, stored, high, sign == 1)


def rescale(header: Header, layout: PixelFormat) -> Rescale:
    """What turns stored values into those of the modality (PS3.3 C.11.1)."""
    if has(header, _LOOKUP):
        raise InputError("modality_lookup_unsupported")
    slope, intercept = numbers(header, _SLOPE), numbers(header, _INTERCEPT)
    if text(header, _MODALITY) == "CT" and (slope is None or intercept is None):
        # Type 1 in PS3.3 C.8.2.1: without it nothing says that the values are HU.
        keyword = "RescaleSlope" if slope is None else "RescaleIntercept"
        raise InputError("missing_attribute", keyword=keyword)
    factor = 1.0 if slope is None else slope[0]
    if factor == 0.0:
        raise InputError("attribute_value", keyword="RescaleSlope")
    padding = integer(header, _PADDING, signed=layout.signed)
    return Rescale(factor, 0.0 if intercept is None else intercept[0], padding)
