"""When an image was acquired: everything its header tells of that, as whole microseconds.

Microseconds since midnight before the year 1 fit into an integer and lose nothing of a DICOM time
(PS3.5 section 6.2: DT and TM have at most six digits of a second); float seconds would.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from pydicom.tag import BaseTag

from dicom_services.dicom.header import Header, counter, doubles, integer, numbers, tags, text

(
    _POSITION,
    _POSITION_INDEX,
    _POSITIONS,
    _RESOLUTION,
    _OFFSET,
    _FRAME_REFERENCE,
    _FRAME_ACQUIRED,
    _ACQUIRED,
    _ACQUISITION_DATE,
    _ACQUISITION_TIME,
    _TRIGGER,
    _TRIGGER_DELAY,
    _CONTENT_DATE,
    _CONTENT_TIME,
    _ACQUISITION,
    _FRAME_ACQUISITION,
    _ECHO,
    _EFFECTIVE_ECHO,
) = MOMENT_TAGS = tags(
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NumberOfTemporalPositions",
    "TemporalResolution",
    "TemporalPositionTimeOffset",
    "FrameReferenceDateTime",
    "FrameAcquisitionDateTime",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "ContentDate",
    "ContentTime",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "EchoTime",
    "EffectiveEchoTime",
)

CLOCKS: Final = (
    "offset",
    "frame_reference",
    "frame_acquisition",
    "acquisition_datetime",
    "acquisition_time",
    "trigger",
    "content",
)
"""Where a time may stand, the one that says most about the data first.

offset               Temporal Position Time Offset (0020,930D), PS3.3 C.7.6.16.2: seconds since
                     the first position, which is what is asked for
frame_reference      Frame Reference DateTime (0018,9151), PS3.3 C.7.6.16.2.2: the moment that
                     represents the frame best
frame_acquisition    Frame Acquisition DateTime (0018,9074), same place: when the frame began
acquisition_datetime Acquisition DateTime (0008,002A), PS3.3 C.7.6.1: when the data began; of a
                     multi-frame object (C.8.13.1) it is one for all frames, and so tells nothing
acquisition_time     Acquisition Date and Time (0008,0022) (0008,0032), PS3.3 C.7.6.1
trigger              Trigger Time (0018,1060), PS3.3 C.8.3.1, or Nominal Cardiac Trigger Delay Time
                     (0020,9153), PS3.3 C.7.6.16.2.7: after the R wave of a cine; makers write
                     into the former the time since the start of a dynamic scan
content              Content Date and Time (0008,0023) (0008,0033), PS3.3 C.7.6.1: when the image
                     was made, by a computer that may lag behind the scanner
"""

_SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * _SECOND_US
# PS3.5 section 6.2; the colons are those of ACR-NEMA, which old archives still hold.
_TIME: Final = re.compile(r"([0-2]\d):?([0-5]\d)(?::?([0-5]\d|60)(?:\.(\d{1,6}))?)?\Z")
_DATE: Final = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})\Z")
_DATETIME: Final = re.compile(r"(\d{8})(\d{6}(?:\.\d{1,6})?)([+-])?(?(3)(\d{2})(\d{2}))\Z")


@dataclass(frozen=True, slots=True)
class Moment:
    """What a header tells of the time of one image.

    Parameters
    ----------
    position : int or None
        Temporal Position Identifier (0020,0100) or Index (0020,9128): the number of its time.
    positions : int or None
        Number of Temporal Positions (0020,0105): how many there should be.
    resolution_us : int or None
        Temporal Resolution (0020,0110): from one time to the next.
    clocks : tuple of int or None
        One for each of `CLOCKS`; of dates and times since midnight before the year 1.
    acquisition : int or None
        Acquisition Number (0020,0012) or Frame Acquisition Number (0020,9156).
    echo_ms : float or None
        Echo Time (0018,0081) or Effective Echo Time (0018,9082).
    """

    position: int | None
    positions: int | None
    resolution_us: int | None
    clocks: tuple[int | None, ...]
    acquisition: int | None
    echo_ms: float | None


def read_moment(header: Header) -> Moment:
    """What a header that was read with `MOMENT_TAGS` tells of its time."""
    echo = doubles(header, _EFFECTIVE_ECHO) or numbers(header, _ECHO)
    position = _whole(numbers(header, _POSITION))
    if position is None:
        position = counter(header, _POSITION_INDEX)
    acquisition = _whole(numbers(header, _ACQUISITION))
    framewise = integer(header, _FRAME_ACQUISITION)
    return Moment(
        position=position,
        positions=_whole(numbers(header, _POSITIONS)),
        resolution_us=_scaled(numbers(header, _RESOLUTION), 1000.0) or None,
        clocks=(
            _scaled(doubles(header, _OFFSET), _SECOND_US),
            _datetime_us(text(header, _FRAME_REFERENCE)),
            _datetime_us(text(header, _FRAME_ACQUIRED)),
            _datetime_us(text(header, _ACQUIRED)),
            _dated_us(header, _ACQUISITION_DATE, _ACQUISITION_TIME),
            _scaled(numbers(header, _TRIGGER) or doubles(header, _TRIGGER_DELAY), 1000.0),
            _dated_us(header, _CONTENT_DATE, _CONTENT_TIME),
        ),
        acquisition=acquisition if framewise is None else framewise,
        echo_ms=round(echo[0], 2) if echo and echo[0] > 0.0 else None,
    )


def _whole(values: list[float] | None) -> int | None:
    return int(values[0]) if values and abs(values[0]) < 1 << 31 else None


def _scaled(values: list[float] | None, factor: float) -> int | None:
    """Microseconds of a number in another unit; None where it cannot be a time."""
    if not values or abs(values[0] * factor) > 366 * _DAY_US:
        return None
    return round(values[0] * factor)


def _dated_us(header: Header, day: BaseTag, clock: BaseTag) -> int | None:
    """A date and a time; the date may be missing, for all that counts are differences."""
    since_midnight = _time_us(text(header, clock))
    if since_midnight is None:
        return None
    return _date_us(text(header, day)) + since_midnight


def _time_us(value: str) -> int | None:
    found = _TIME.match(value)
    if found is None:
        return None
    hours, minutes, seconds, fraction = found.groups()
    whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)
    return whole * _SECOND_US + int((fraction or "").ljust(6, "0"))


def _date_us(value: str) -> int:
    found = _DATE.match(value)
    try:
        return date(*map(int, found.groups())).toordinal() * _DAY_US if found else 0
    except ValueError:
        return 0


def _datetime_us(value: str) -> int | None:
    """Microseconds of a DT (PS3.5 section 6.2) that goes down to seconds, in UTC if it can be."""
    found = _DATETIME.match(value)
    if found is None:
        return None
    day, clock, sign, hours, minutes = found.groups()
    since_midnight = _time_us(clock)
    if since_midnight is None:
        return None
    shift = (int(hours) * 3600 + int(minutes) * 60) * _SECOND_US if sign else 0
    return _date_us(day) + since_midnight - (-shift if sign == "-" else shift)
