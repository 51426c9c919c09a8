"""What a sender hears when the archive leaves, stays away, or has no room; a small archive."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from dataclasses import asdict

import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_services.front.config import Caller, ConfigFile
from dicom_services.front.server import Server
from dicom_services.quarantine import Quarantine
from tests.dicom_files import ct_slice, stored_ramp
from tests.hostile.build import Writer
from tests.hostile.scu import (
    BrokenOffError,
    RejectedError,
    Scu,
    associate_body,
    command_set,
    data_pdus,
    pdu,
    store_request,
)
from tests.unit.dicom_services.front.fake_archive import FakeArchive
from tests.unit.dicom_services.front.test_config import TOLD

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
CALLER = Caller("CT1", "127.0.0.1", 104, "127.83.1.9", 20_111)
NO_ROOM, REFUSED = 0xA700, 0xC000
BAD, UNWANTED = "1.2.3.99", "1.2.3.98"


def image(uid, size=256):
    one = ct_slice(stored_ramp((1, size, size))[0])
    one.SOPInstanceUID = uid
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, one)
    return buffer.getvalue()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def archive():
    one = FakeArchive(poison=frozenset((BAD,)), unwanted=frozenset((UNWANTED,)))
    one.start()
    yield one
    one.stop()


def front(tmp_path, orthanc_port, **change):
    """A front in this process; its port."""
    for name in ("store", "scratch"):
        (tmp_path / name).mkdir(exist_ok=True)
    told = TOLD | {
        "port": free_port(),
        "orthanc_port": orthanc_port,
        "callers": [asdict(CALLER)],
        "quarantine": str(tmp_path / "quarantine"),
        "quarantine_bytes": 10_000_000,
        "quarantine_records": 100,
        "store": str(tmp_path / "store"),
        "scratch": str(tmp_path / "scratch"),
        "reserve_bytes": 0,
        "most_bytes": 10_000_000,
        **change,
    }
    path = tmp_path / "front.json"
    path.write_text(json.dumps(told))
    server = Server(ConfigFile(path))
    threading.Thread(target=server.serve, daemon=True).start()
    return told["port"]


def scu(port):
    return Scu(port, [(CT, EXPLICIT)], calling="CT1")


def test_an_archive_that_leaves_at_an_image_again_and_again_is_spared_it_in_the_end(
    tmp_path, archive
):
    port = front(tmp_path, archive.port)
    with scu(port) as one:
        assert one.store(CT, "1.2.3.1", 1, image("1.2.3.1")) == (0, "")
        # Twice tried, for it may have been chance; the sender may come again.
        assert one.store(CT, BAD, 1, image(BAD)) == (NO_ROOM, "archive does not answer")
        assert archive.deaths == 2
        assert one.store(CT, BAD, 1, image(BAD)) == (REFUSED, "radloop gate: poison")
        assert archive.deaths == 4
        # From now on it is known, also to another association, and the archive never sees it.
        assert one.store(CT, "1.2.3.2", 1, image("1.2.3.2")) == (0, "")
    with scu(port) as one:
        assert one.store(CT, BAD, 1, image(BAD)) == (REFUSED, "radloop gate: poison")
    assert archive.deaths == 4
    assert set(archive.stored) == {"1.2.3.1", "1.2.3.2"}
    records, unreadable = Quarantine(tmp_path / "quarantine", 1 << 30, 100).records()
    assert unreadable == 0
    assert {record.reason for record in records} == {"poison"}
    assert all(record.kept for record in records)


def test_an_archive_that_stays_away_is_no_reason_to_drop_the_association(tmp_path, archive):
    port = front(tmp_path, archive.port, archive_wait_s=0.5)
    with scu(port) as one:
        archive.stop()
        archive.join(5.0)
        assert one.store(CT, "1.2.3.1", 1, image("1.2.3.1"))[0] == 0
        assert one.store(CT, BAD, 1, image(BAD)) == (NO_ROOM, "archive does not answer")
        assert one.store(CT, "1.2.3.2", 1, image("1.2.3.2"))[0] == NO_ROOM
    with pytest.raises(RejectedError) as rejected:
        scu(port)
    # Transient: a sender may come again.
    assert rejected.value.args[0][0] == 2


def test_a_disk_that_is_nearly_full_is_a_named_status_and_nothing_is_stored(tmp_path, archive):
    port = front(tmp_path, archive.port, reserve_bytes=1 << 60)
    with scu(port) as one:
        assert one.store(CT, "1.2.3.1", 1, image("1.2.3.1", 512)) == (NO_ROOM, "disk nearly full")
    assert archive.stored == {}


def test_a_scratch_folder_that_cannot_be_written_is_a_named_status(tmp_path, archive, monkeypatch):
    port = front(tmp_path, archive.port, most_bytes=1 << 30, scratch=str(tmp_path / "missing"))
    large = image("1.2.3.1", 4_500)
    with scu(port) as one:
        # Given back early, its end held back: the archive must not keep a part of it.
        assert one.store(CT, "1.2.3.1", 1, large, 131_060) == (NO_ROOM, "disk nearly full")
        assert one.store(CT, "1.2.3.2", 1, image("1.2.3.2"))[0] == 0
    assert set(archive.stored) == {"1.2.3.2"}


def test_an_object_larger_than_allowed_ends_the_association(tmp_path, archive):
    port = front(tmp_path, archive.port, most_bytes=100_000)
    with scu(port) as one, pytest.raises(BrokenOffError):
        one.store(CT, "1.2.3.1", 1, image("1.2.3.1"))
    assert archive.stored == {}


def test_large_objects_go_through_the_scratch_folder_unchanged(tmp_path, archive):
    port = front(tmp_path, archive.port, most_bytes=1 << 30)
    data = image("1.2.3.1", 4_500)
    with scu(port) as one:
        assert one.store(CT, "1.2.3.1", 1, data, 131_060) == (0, "")
    assert archive.stored["1.2.3.1"] == data


@pytest.mark.parametrize("size", [500, 16_372, 131_060])
def test_fragments_of_any_size_arrive_as_the_same_bytes(tmp_path, archive, size):
    port = front(tmp_path, archive.port)
    data = image("1.2.3.1", 300)
    with scu(port) as one:
        assert one.store(CT, "1.2.3.1", 1, data, size) == (0, "")
    assert archive.stored["1.2.3.1"] == data


def test_more_associations_than_slots_share_them(tmp_path, archive):
    port = front(tmp_path, archive.port, slots=2, archive_wait_s=10.0)
    many = [scu(port) for _ in range(2)]
    began = time.monotonic()
    many.append(scu(port))
    assert time.monotonic() - began < 3.0
    for number, one in enumerate(many):
        uid = f"1.2.3.{number}"
        assert one.store(CT, uid, 1, image(uid))[0] == 0
    for one in many:
        one.close()
    assert len(archive.stored) == 3


def test_the_oldest_silent_connection_gives_way(tmp_path, archive):
    port = front(tmp_path, archive.port, connections=16)
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    time.sleep(0.2)
    with scu(port) as one:
        assert one.store(CT, "1.2.3.1", 1, image("1.2.3.1"))[0] == 0
    silent[0].settimeout(2.0)
    assert silent[0].recv(10) == b""
    for one in silent:
        one.close()


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1." * 40, ""])
def test_an_identifier_that_is_none_is_refused_by_name_and_quarantined(tmp_path, archive, uid):
    port = front(tmp_path, archive.port)
    with scu(port) as one:
        assert one.store(CT, uid, 1, image("1.2.3.1")) == (REFUSED, "radloop gate: uid")
        assert one.store(CT, "1.2.3.1", 1, image("1.2.3.1")) == (0, "")
    records, _ = Quarantine(tmp_path / "quarantine", 1 << 30, 100).records()
    assert [record.reason for record in records] == ["uid"]


def test_an_archive_that_aborts_has_not_crashed_and_nobody_is_called_poison(tmp_path, archive):
    port = front(tmp_path, archive.port)
    for _ in range(4):
        with scu(port) as one:
            answer = one.store(CT, UNWANTED, 1, image(UNWANTED))
        assert answer == (NO_ROOM, "archive does not answer")
    assert not (tmp_path / "quarantine" / "poison").exists()


def test_a_data_set_under_another_name_than_its_own_is_refused(tmp_path, archive):
    port = front(tmp_path, archive.port)
    with scu(port) as one:
        for size in (64, 512):
            data = image("1.2.3.1", size)
            assert one.store(CT, "1.2.3.2", 1, data) == (REFUSED, "radloop gate: uid")
    assert archive.stored == {}


def test_who_leaves_before_the_answer_leaves_no_slot_behind(tmp_path, archive):
    port = front(tmp_path, archive.port, slots=2, archive_wait_s=5.0)
    request = pdu(1, associate_body("RADLOOP", "CT1", [(CT, EXPLICIT)]))
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as one:
            one.sendall(request)
            # A reset, not an end: what is sent to it afterwards fails.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.5)
    with scu(port) as one, scu(port) as other:
        assert one.store(CT, "1.2.3.1", 1, image("1.2.3.1"))[0] == 0
        assert other.store(CT, "1.2.3.2", 1, image("1.2.3.2"))[0] == 0


def test_a_header_that_comes_in_two_parts_is_a_header(tmp_path, archive):
    port = front(tmp_path, archive.port)
    with scu(port) as one:
        sent = data_pdus(1, store_request(CT, "1.2.3.1", 1), command=True)
        sent += data_pdus(1, image("1.2.3.1"), command=False)
        one.socket.sendall(sent[:3])
        time.sleep(1.2)
        one.socket.sendall(sent[3:])
        assert one._status()[0] == 0


def test_the_archive_hears_a_store_request_of_the_standard_only(tmp_path, archive):
    port = front(tmp_path, archive.port)
    bare = command_set(
        (
            (0x0002, CT.encode()),
            (0x0100, struct.pack("<H", 1)),
            (0x0110, struct.pack("<H", 1)),
            (0x0800, struct.pack("<H", 7)),
            (0x1000, b"1.2.3.1"),
            (0x4321, b"whatever"),
        )
    )
    with scu(port) as one:
        one.socket.sendall(data_pdus(1, bare, command=True))
        one.socket.sendall(data_pdus(1, image("1.2.3.1"), command=False))
        assert one._status()[0] == 0
    (heard,) = archive.commands
    assert set(heard) == {0x0000, 0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000}
    assert heard[0x0800] == struct.pack("<H", 1)


def test_an_answer_with_data_that_nobody_asked_for_does_no_harm(tmp_path, archive):
    port = front(tmp_path, archive.port)
    answer = command_set(
        (
            (0x0100, struct.pack("<H", 0x8001)),
            (0x0120, struct.pack("<H", 9)),
            (0x0800, struct.pack("<H", 1)),
            (0x0900, struct.pack("<H", 0)),
        )
    )
    sequence = Writer().element(0x00081140, "SQ", b"")
    with scu(port) as one:
        for _ in range(3):
            one.socket.sendall(data_pdus(1, answer, command=True))
            one.socket.sendall(data_pdus(1, sequence, command=False))
        assert one.store(CT, "1.2.3.1", 1, image("1.2.3.1"))[0] == 0


def test_more_connections_than_allowed_are_closed_when_nobody_is_silent(tmp_path, archive):
    port = front(tmp_path, archive.port, connections=16)
    held = [scu(port) for _ in range(16)]
    with socket.create_connection(("127.0.0.1", port), 5.0) as one:
        assert one.recv(10) == b""
    for other in held:
        other.close()


def test_a_modality_that_was_removed_sends_no_more_over_its_open_association(tmp_path, archive):
    port = front(tmp_path, archive.port)
    path = tmp_path / "front.json"
    with scu(port) as one:
        assert one.store(CT, "1.2.3.1", 1, image("1.2.3.1"))[0] == 0
        path.write_text(json.dumps(json.loads(path.read_text()) | {"callers": []}))
        with pytest.raises(BrokenOffError):
            one.store(CT, "1.2.3.2", 1, image("1.2.3.2"))
    assert set(archive.stored) == {"1.2.3.1"}


def test_every_part_that_goes_early_has_an_even_length(tmp_path, archive):
    port = front(tmp_path, archive.port)
    data = image("1.2.3.1", 512)
    with scu(port) as one:
        one.socket.sendall(data_pdus(1, store_request(CT, "1.2.3.1", 1), command=True))
        units = data_pdus(1, data, command=False, size=131_060)
        for start in range(0, len(units), 70_001):
            one.socket.sendall(units[start : start + 70_001])
            time.sleep(0.02)
        assert one._status()[0] == 0
    assert archive.stored["1.2.3.1"] == data
    assert archive.odd_fragments == 0
