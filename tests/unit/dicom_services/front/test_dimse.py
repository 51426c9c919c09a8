"""Command sets: read within PS3.7, answered as it asks."""

from __future__ import annotations

import contextlib
import io
import struct

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_services import gate
from dicom_services.front import dimse
from dicom_services.front.pdu import ProtocolError
from tests.dicom_files import ct_slice, stored_ramp
from tests.hostile.scu import command_set, echo_request, parse_command, store_request

CT = "1.2.840.10008.5.1.4.1.1.2"


def test_a_store_request_is_read():
    command = dimse.parse_command(store_request(CT, "1.2.3", 7))
    assert command.field == dimse.C_STORE_RQ
    assert (command.message_id, command.has_data) == (7, True)
    assert (command.sop_class, command.sop_instance) == (CT.encode(), b"1.2.3")


def test_an_echo_has_no_data():
    assert not dimse.parse_command(echo_request(1)).has_data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        store_request(CT, "1.2.3", 1)[:-3],
        store_request(CT, "1.2.3", 1) + store_request(CT, "1.2.3", 1),
        struct.pack("<HHI", 8, 5, 0) + store_request(CT, "1.2.3", 1),
        command_set([(0x0100, b"\1\0")]),
        command_set([(0x0100, b"\1\0\0\0"), (0x0800, b"\1\0")]),
    ],
)
def test_what_is_no_command_is_a_protocol_error(data):
    with pytest.raises(ProtocolError):
        dimse.parse_command(data)


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1." * 40, "1.2\r\nEvil: 1"])
def test_an_identifier_that_is_none_is_forgotten(uid):
    command = dimse.parse_command(store_request(CT, uid, 1))
    assert (command.sop_instance, command.has_sound_uids) == (b"", False)
    assert uid.encode() not in dimse.store_response(command, 0xC000, "radloop gate: uid")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_a_protocol_error(noise):
    with contextlib.suppress(ProtocolError):
        dimse.parse_command(noise)


def test_a_refusal_names_the_message_the_status_and_the_reason():
    command = dimse.parse_command(store_request(CT, "1.2.3", 7))
    answer = parse_command(dimse.store_response(command, 0xC000, "radloop gate: depth"))
    assert answer[0x0100] == struct.pack("<H", 0x8001)
    assert answer[0x0120] == struct.pack("<H", 7)
    assert answer[0x0900] == struct.pack("<H", 0xC000)
    assert answer[0x0902].strip() == b"radloop gate: depth"
    assert answer[0x1000].rstrip(b"\0") == b"1.2.3"


@pytest.mark.parametrize("reason", gate.REASONS)
def test_every_reason_fits_into_an_error_comment(reason):
    assert len(f"radloop gate: {reason}") <= 64


def test_a_data_set_with_our_header_is_a_file_that_pydicom_reads():
    image = ct_slice(stored_ramp((1, 8, 8))[0])
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, image)
    command = dimse.parse_command(store_request(CT, image.SOPInstanceUID, 1))
    head = dimse.part10_header(command, "1.2.840.10008.1.2.1")
    read = pydicom.dcmread(io.BytesIO(head + buffer.getvalue()))
    assert read.PixelData == image.PixelData
    assert read.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
    assert gate.refusal_of_file(head + buffer.getvalue()) is None
