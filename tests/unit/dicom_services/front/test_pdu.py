"""The upper layer's units: what PS3.8 allows is read, whatever else is refused with a code."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_services.front import pdu
from tests.hostile.scu import associate_body

CONTEXTS = [("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"), ("1.2.3", "1.2.840.10008.1.2")]
BODY = associate_body("RADLOOP", "CT1", CONTEXTS)
HEAD = 68
TITLES = b"RADLOOP".ljust(16) + b"CT1".ljust(16)


def item(kind, value, length=None):
    return struct.pack(">BBH", kind, 0, len(value) if length is None else length) + value


def body_with(*items, titles=TITLES, version=1):
    return struct.pack(">HH", version, 0) + titles + bytes(32) + b"".join(items)


APPLICATION = item(0x10, b"1.2.840.10008.3.1.1.1")
USER = item(0x50, item(0x51, struct.pack(">I", 16384)))


def context(number=1, abstract=b"1.2", transfer=b"1.2.840.10008.1.2"):
    inner = bytes((number, 0, 0, 0)) + item(0x30, abstract) + item(0x40, transfer)
    return item(0x20, inner)


def test_a_request_names_titles_and_contexts():
    asked = pdu.parse_request(BODY)
    assert (asked.called, asked.calling) == ("RADLOOP", "CT1")
    assert asked.contexts == {1: CONTEXTS[0][0], 3: CONTEXTS[1][0]}


def test_the_smallest_request_of_the_standard_is_read():
    assert pdu.parse_request(body_with(APPLICATION, context(), USER)).contexts == {1: "1.2"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "request"),
        (BODY[:60], "request"),
        (body_with(APPLICATION, context(), USER, version=0), "request"),
        (body_with(APPLICATION, context(), USER, titles=b"A\nB".ljust(32)), "request_title"),
        (body_with(APPLICATION, context(), USER, titles=b"A\\B".ljust(32)), "request_title"),
        (body_with(APPLICATION, USER), "request_item"),
        (body_with(APPLICATION, context()), "request_item"),
        (body_with(context(), USER), "request_item"),
        (body_with(APPLICATION, APPLICATION, context(), USER), "request_item"),
        (body_with(APPLICATION, context(), USER, item(0x77, b"")), "request_item"),
        (body_with(APPLICATION, context(2), USER), "request_context"),
        (body_with(APPLICATION, context(), context(), USER), "request_context"),
        (body_with(APPLICATION, context(abstract=b"1.2/../x"), USER), "request_context"),
        (body_with(APPLICATION, context(abstract=b"1." * 40), USER), "request_context"),
        (body_with(APPLICATION, item(0x20, b"\1\0\0\0"), USER), "request_context"),
        (body_with(APPLICATION, context(), item(0x50, b"\x51")), "request_item"),
        (body_with(APPLICATION, context(), USER) + b"\x20\0\xff\xff", "request_item"),
    ],
)
def test_a_request_that_the_standard_does_not_know_is_refused_with_a_code(body, code):
    with pytest.raises(pdu.ProtocolError) as refused:
        pdu.parse_request(body)
    assert refused.value.code == code


@given(st.binary(max_size=400), st.integers(0, len(BODY)))
def test_any_bytes_are_a_request_or_a_protocol_error(noise, position):
    for body in (noise, BODY[:position] + noise, BODY[:HEAD] + noise):
        with contextlib.suppress(pdu.ProtocolError):
            pdu.parse_request(body)


def test_what_was_accepted_is_read_with_its_transfer_syntax():
    def answer(number, result):
        inner = bytes((number, 0, result, 0)) + item(0x40, b"1.2.840.10008.1.2.1")
        return item(0x21, inner)

    body = body_with(APPLICATION, answer(1, 0), answer(3, 4), USER)
    assert pdu.parse_accept(body) == {1: "1.2.840.10008.1.2.1"}
    assert pdu.longest_data(body) == 16_384


def test_answers_have_the_bytes_of_the_standard():
    assert pdu.reject(transient=True, source=3, reason=2).hex() == "03000000000400020302"
    assert pdu.abort(6).hex() == "07000000000400000206"
    head = pdu.data_header(5, 10, command=True, last=True)
    assert head.hex() == "0400000000100000000c0503"
