"""The findings document as bytes: what comes back, and what is taken for nothing."""

from __future__ import annotations

import gzip
import json

import pytest

from dicom_services.dicom import findings_bytes
from dicom_services.dicom.findings_bytes import pack, unpack

DOCUMENT = {"schema": 2, "title": "Coronary calcium", "findings": [1.5, None]}


def test_a_document_comes_back_and_packs_to_the_same_bytes() -> None:
    assert unpack(pack(DOCUMENT)) == DOCUMENT
    assert pack(DOCUMENT) == pack(dict(DOCUMENT))


def test_any_gzip_reader_can_read_it() -> None:
    assert json.loads(gzip.decompress(pack(DOCUMENT))) == DOCUMENT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip",
        pack(DOCUMENT)[:-9],
        gzip.compress(b"[1]"),
        gzip.compress(b"{}"),
        gzip.compress(b"{" * 100_000),
        gzip.compress(b"[" * 100_000),
        gzip.compress(b"\xff\xfe"),
        gzip.compress(b'{"schema": 2, "value": NaN}'),
    ],
)
def test_what_is_no_document_is_nothing(data: bytes) -> None:
    assert unpack(data) is None


def test_what_unpacks_to_more_than_is_allowed_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings_bytes, "MOST_BYTES", 20)
    assert unpack(pack(DOCUMENT)) is None


def test_a_number_that_is_none_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        pack({"schema": 2, "value": float("nan")})
