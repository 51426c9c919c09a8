from __future__ import annotations

import struct

import pytest
from pydicom import Dataset

from dicom_services.dicom.header import EXPLICIT_BIG, EXPLICIT_LITTLE, Header, tags
from dicom_services.dicom.moment import CLOCKS, read_moment

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US


def moment(*, syntax: str = EXPLICIT_LITTLE, **values: bytes):
    frame = dict(zip(map(int, tags(*values)), values.values(), strict=True))
    return read_moment(Header(Dataset(), syntax, None, 0, False, True, frame))


def clock(name: str, **values: bytes):
    return moment(**values).clocks[CLOCKS.index(name)]


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (b"10", None),
        (b"1030", 37_800 * SECOND_US),
        (b"103015", 37_815 * SECOND_US),
        (b"103015.5 ", 37_815 * SECOND_US + 500_000),
        (b"103015.000001", 37_815 * SECOND_US + 1),
        (b"10:30:15.25", 37_815 * SECOND_US + 250_000),
        (b"235960", 24 * HOUR_US),
        (b"rubbish", None),
        (b"103075", None),
        (b"106015", None),
        (b"", None),
        (b"\xb2\xb3", None),
    ],
)
def test_a_time_is_read_to_the_microsecond_or_not_at_all(value, micros):
    assert clock("acquisition_time", AcquisitionTime=value) == micros


@pytest.mark.parametrize("day", [b"20200301", b"2020.03.01"])
def test_a_day_later_is_a_day_more(day):
    # 2020 was a leap year: from 28 February to 1 March are two days.
    late = clock("acquisition_time", AcquisitionDate=day, AcquisitionTime=b"000000")
    early = clock("acquisition_time", AcquisitionDate=b"20200228", AcquisitionTime=b"120000")
    assert late - early == 36 * HOUR_US


def test_an_impossible_day_counts_as_none():
    for day in (b"20201301", b"00000000", b"20200230", b"yesterday"):
        values = {"AcquisitionDate": day, "AcquisitionTime": b"000001"}
        assert clock("acquisition_time", **values) == SECOND_US


@pytest.mark.parametrize("name", ["FrameReferenceDateTime", "AcquisitionDateTime"])
def test_date_times_of_different_zones_are_compared_in_one(name):
    told = "frame_reference" if name.startswith("Frame") else "acquisition_datetime"
    here = clock(told, **{name: b"20200102003000.5+0100"})
    there = clock(told, **{name: b"20200101193000.5-0400"})
    assert here == there
    assert clock(told, **{name: b"202001020030"}) is None
    assert clock(told, **{name: b"20200102"}) is None


def test_numbers_become_microseconds_by_their_unit():
    assert clock("trigger", TriggerTime=b"1500.25") == 1_500_250
    offset = struct.pack("<d", 2.5)
    assert clock("offset", TemporalPositionTimeOffset=offset) == 2_500_000
    assert moment(TemporalResolution=b"1500").resolution_us == 1_500_000
    assert moment(TemporalResolution=b"0").resolution_us is None
    assert clock("trigger", TriggerTime=b"1e30") is None
    assert clock("offset", TemporalPositionTimeOffset=struct.pack("<d", float("nan"))) is None


def test_binary_numbers_follow_the_order_of_the_file():
    told = moment(
        syntax=EXPLICIT_BIG,
        TemporalPositionIndex=struct.pack(">L", 70_000),
        FrameAcquisitionNumber=struct.pack(">H", 7),
        EffectiveEchoTime=struct.pack(">d", 29.999),
    )
    assert (told.position, told.acquisition, told.echo_ms) == (70_000, 7, 30.0)


def test_the_identifier_of_a_classic_image_is_its_position():
    told = moment(TemporalPositionIdentifier=b"3", NumberOfTemporalPositions=b"60", EchoTime=b"30")
    assert (told.position, told.positions, told.echo_ms) == (3, 60, 30.0)
    empty = moment()
    assert (empty.position, empty.positions, empty.acquisition, empty.echo_ms) == (None,) * 4
    assert set(empty.clocks) == {None}
