"""The way back to a modality on another machine: what goes in at its alias comes out there."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import asdict
from pathlib import Path

from dicom_services.front.config import Caller, ConfigFile
from dicom_services.front.outbound import Outbound
from dicom_services.modalities import Modality
from tests.unit.dicom_services.front.test_config import TOLD


def test_a_far_modality_is_reached_through_its_alias_and_later_ones_too(tmp_path):
    path = tmp_path / "front.json"
    path.write_text(json.dumps(TOLD))
    outbound = Outbound(ConfigFile(path))
    threading.Thread(target=outbound.serve, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as goal:
        port = goal.getsockname()[1]
        # Added while it runs; 127.0.0.1 plays the other machine.
        caller = Caller("CT1", "127.0.0.1", port, "127.83.1.9", 20_117)
        path.write_text(json.dumps(TOLD | {"callers": [asdict(caller)]}))
        near = _connect(("127.83.1.9", 20_117))
        far, _ = goal.accept()
        with near, far:
            near.sendall(b"question")
            assert far.recv(100) == b"question"
            far.sendall(b"answer")
            assert near.recv(100) == b"answer"
            far.close()
            assert near.recv(100) == b""


def test_orthanc_knows_a_modality_by_its_alias_alone_and_each_stack_has_its_own():
    far = Modality("CT1", "192.0.2.7", 104)
    address, port = far.alias(Path("/srv/one"))
    assert address.startswith("127.")
    assert address != "127.0.0.1"
    assert 20_000 <= port < 30_000
    told = far.for_orthanc(Path("/srv/one"))
    assert (told["Host"], told["Port"]) == (address, port)
    assert far.alias(Path("/srv/two")) != (address, port)


def _connect(place):
    for _ in range(50):
        try:
            return socket.create_connection(place, 5.0)
        except OSError:
            time.sleep(0.1)
    raise AssertionError("nothing listens")
