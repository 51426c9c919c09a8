"""Whoever abuses the DICOM port keeps no other from it; see also `python -m tests.hostile port`."""

from __future__ import annotations

from tests.hostile import port
from tests.integration.conftest import Stack


def test_a_good_client_is_answered_whatever_others_do(stack: Stack):
    told = port.abuse(stack.folder, seed=3, associations=500, held_s=2.5)
    assert told.faults == []
    assert told.associations == 500
    assert told.sockets == 60 * (len(port.HELD) - 1) + 20
    assert told.echoes > 50
