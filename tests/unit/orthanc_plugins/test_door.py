"""The door: open until the watched port is closed, and then closed for good."""

from __future__ import annotations

import socket

import pytest

from orthanc_plugins.door import ClosedError, Door


def test_a_port_that_nobody_watches_is_open():
    Door().require()


def test_the_door_closes_with_the_port():
    door = Door()
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert door.watch(server.getsockname()[1])
        door.require()
    with pytest.raises(ClosedError):
        door.require()


def test_another_file_under_the_same_number_is_another_door():
    door = Door()
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert door.watch(server.getsockname()[1])
    with socket.socket():
        assert not door.is_open


def test_a_port_of_another_process_is_not_found():
    assert not Door().watch(1)
