"""A data set as it arrives: the same bytes whether it stays in memory or goes to a file."""

from __future__ import annotations

import pytest

from dicom_services.front import body as bodies
from dicom_services.front.body import Body, BodyTooLargeError, Room

PIECE = bytes(range(256)) * 4_096


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path, lambda: True)


def filled(room, pieces):
    one = Body(room, 1 << 30)
    for _ in range(pieces):
        one.append(memoryview(PIECE))
    return one


@pytest.mark.parametrize("pieces", [0, 1, 31, 40])
def test_pieces_come_back_as_they_came(room, pieces):
    one = filled(room, pieces)
    assert one.length == pieces * len(PIECE)
    assert bytes(one.data()) == PIECE * pieces
    one.close()


def test_a_large_one_leaves_memory_and_no_name_on_the_disk(room, tmp_path):
    one = filled(room, bodies.IN_MEMORY_BYTES // len(PIECE) + 1)
    assert not one.in_memory
    assert list(tmp_path.iterdir()) == []
    one.close()


def test_many_at_once_leave_memory_before_it_is_used_up(room):
    many = [filled(room, 16) for _ in range(20)]
    assert [one.in_memory for one in many] == [True] * 16 + [False] * 4
    assert all(bytes(one.data()) == PIECE * 16 for one in many)
    for one in many:
        one.close()
    assert filled(room, 16).in_memory


def test_a_disk_without_room_is_an_error_and_not_a_part_of_a_data_set(tmp_path):
    one = Body(Room(tmp_path, lambda: False), 1 << 30)
    with pytest.raises(OSError, match="nearly full"):
        for _ in range(40):
            one.append(memoryview(PIECE))
    one.close()


def test_more_than_the_limit_is_an_error(room):
    one = Body(room, 10)
    with pytest.raises(BodyTooLargeError):
        one.append(memoryview(bytes(11)))
