"""A data set as it arrives: the same bytes whether it stays in memory or goes to a file."""

from __future__ import annotations

import pytest

from dicom_services.front import body as bodies
from dicom_services.front.body import Body, BodyTooLargeError

PIECE = bytes(range(256)) * 4_096


@pytest.mark.parametrize("pieces", [0, 1, 31, 40])
def test_pieces_come_back_as_they_came(tmp_path, pieces):
    one = Body(tmp_path, 1 << 30)
    for _ in range(pieces):
        one.append(memoryview(PIECE))
    assert one.length == pieces * len(PIECE)
    assert bytes(one.data()) == PIECE * pieces
    one.close()


def test_a_large_one_leaves_memory_and_no_name_on_the_disk(tmp_path):
    one = Body(tmp_path, 1 << 30)
    for _ in range(bodies.IN_MEMORY_BYTES // len(PIECE) + 1):
        one.append(memoryview(PIECE))
    assert not isinstance(one.data(), bytearray)
    assert list(tmp_path.iterdir()) == []
    one.close()


def test_more_than_the_limit_is_an_error(tmp_path):
    one = Body(tmp_path, 10)
    with pytest.raises(BodyTooLargeError):
        one.append(memoryview(bytes(11)))
