"""Multipart bodies, however they arrive and whatever is wrong with them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator

import pytest

from dicom_services.api.dicomweb.answers import ProblemError
from dicom_services.api.dicomweb.multipart import boundary_of, parts_of, pieces_of

HEAD = b"Content-Type: application/dicom\r\n\r\n"
GOOD = b"--B\r\n" + HEAD + b"one\r\n--B\r\n" + HEAD + b"two\r\n--x\r\n--B--\r\nepilogue"


def read(body, size=1 << 16):
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async def main():
        found = []
        async for part in parts_of(pieces(), "B", tempfile.TemporaryFile):
            with part.file:
                part.file.seek(0)
                found.append((part.file.read(), part.kind))
        return found

    return asyncio.run(main())


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 65536])
def test_parts_are_the_same_in_pieces_of_any_size(size):
    kind = "application/dicom"
    assert read(GOOD, size) == [(b"one", kind), (b"two\r\n--x", kind)]


def test_a_preamble_and_padding_are_passed_over():
    body = b"This is a multi-part message.\r\n--B  \r\n\r\nx\r\n--B--"
    assert read(body) == [(b"x", "")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing at all",
        b"--B",
        b"--B\r\n",
        b"--B\r\n" + HEAD,
        b"--B\r\n" + HEAD + b"one",
        b"--B\r\n" + HEAD + b"one\r\n--B",
        b"--B\r\n" + b"X: y\r\n" * 2000 + b"\r\none\r\n--B--",
        b"--B\r\n" + b"a" * 100_000,
        b"--B\r\nno header\r\n\r\none\r\n--B--",
        b"--Bjunk\r\n" + HEAD + b"one\r\n--B--",
        b"x" * 100_000 + GOOD,
        b"--B\r\nX: \x00\r\n\r\none\r\n--B--",
    ],
)
def test_what_is_no_multipart_is_refused(body):
    with pytest.raises(ProblemError, match="multipart"):
        read(body)


def test_the_number_of_parts_is_bounded():
    with pytest.raises(ProblemError) as told:
        read(b"--B\r\n\r\n\r\n" * 20_001 + b"--B--")
    assert told.value.facts == {"why": "parts"}


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('multipart/related; type="application/dicom"; boundary=x', ("application/dicom", "x")),
        (
            'Multipart/Related; boundary="a b:c"; type=application/dicom',
            ("application/dicom", "a b:c"),
        ),
        ("application/dicom", ("", "")),
        ("multipart/form-data; boundary=x", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_content_type_names_kind_and_boundary(header, found):
    assert boundary_of(header) == found


@pytest.mark.parametrize("boundary", ["", '""', "a" * 71, '"a\r\nb"', '"ends in space "', "ü"])
def test_a_boundary_that_is_none_is_refused(boundary):
    with pytest.raises(ProblemError, match="multipart"):
        boundary_of(f"multipart/related; type=application/dicom; boundary={boundary}")


def test_a_sender_who_leaves_is_told_from_the_end():
    messages = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    async def main():
        return [piece async for piece in pieces_of(receive)]

    with pytest.raises(ProblemError, match="upload_broken"):
        asyncio.run(main())
