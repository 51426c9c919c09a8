"""The front before Orthanc: what it lets in, what it answers itself, and what nobody notices."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_services.errors import UnavailableError
from tests.dicom_files import ct_slice, stored_ramp
from tests.hostile.build import Writer
from tests.hostile.scu import (
    IMPLICIT,
    VERIFICATION,
    BrokenOffError,
    RejectedError,
    Scu,
    associate_body,
    data_pdus,
    echo,
    pdu,
    store_request,
)
from tests.pacs import until

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CONTEXT = (CT, EXPLICIT)
WRITER = Writer()
CANNOT_UNDERSTAND, OUT_OF_RESOURCES = 0xC000, 0xA700


def image(uid, size=64):
    """A sound CT image as a data set in explicit VR."""
    one = ct_slice(stored_ramp((1, size, size))[0])
    one.SOPInstanceUID = uid
    one.StudyInstanceUID, one.SeriesInstanceUID = uid + ".1", uid + ".1.1"
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, one)
    return buffer.getvalue()


def nested(depth, *, open_ended):
    """An image whose one sequence holds `depth` levels."""
    value = b""
    for _ in range(depth):
        if open_ended:
            inner = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + value + b"\xfe\xff\x0d\xe0\0\0\0\0"
            inner += b"\xfe\xff\xdd\xe0\0\0\0\0"
            value = WRITER.element(0x00400555, "SQ", inner, 0xFFFFFFFF)
        else:
            inner = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(value)) + value
            value = WRITER.element(0x00400555, "SQ", inner)
    return value


@pytest.fixture
def scu(stack):
    with Scu(stack.dicom_port, [CONTEXT, (CT, IMPLICIT), (VERIFICATION, IMPLICIT)]) as one:
        yield one


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def orthanc_pid(stack):
    return stack.pid("orthanc")


def quarantined(stack):
    return json.loads(stack.radloop("quarantine", "list", "--json"))


def records(stack):
    told = quarantined(stack)
    return told if isinstance(told, list) else told["records"]


def stored(stack, uid):
    return bool(stack.orthanc.find("instances", {"SOPInstanceUID": uid}))


def test_an_image_arrives_byte_for_byte(stack, scu):
    data = image("1.2.826.0.1.1", 256)
    for size in (16_372, 131_060, 1_000):
        assert scu.store(CT, "1.2.826.0.1.1", 1, data, size)[0] == 0
    found = stack.orthanc.find("instances", {"SOPInstanceUID": "1.2.826.0.1.1"})
    file = stack.orthanc.get_bytes(f"/instances/{found[0]}/file")
    assert file.endswith(data[-100_000:])


def test_a_stranger_a_wrong_title_and_a_wrong_address_are_rejected(stack):
    for calling, called, reason in (("NOBODY", "RADLOOP", 3), ("RADLOOP", "OTHER", 7)):
        with pytest.raises(RejectedError) as rejected:
            Scu(stack.dicom_port, [CONTEXT], calling=calling, called=called)
        assert rejected.value.args[0] == (1, 1, reason)
    stack.radloop("modality", "add", "FARAWAY", "127.0.0.77", "11112")
    with pytest.raises(RejectedError):
        Scu(stack.dicom_port, [CONTEXT], calling="FARAWAY")
    stack.radloop("modality", "remove", "FARAWAY")


def test_orthanc_itself_takes_nobody_who_comes_past_the_front(stack):
    with pytest.raises(RejectedError):
        Scu(stack.state.orthanc_dicom_port, [CONTEXT])


def test_the_front_listens_on_this_machine_alone(stack):
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f"{stack.dicom_port:04X}"
    found = {line[1] for line in lines if line[1].endswith(":" + port) and line[3] == "0A"}
    assert found == {f"0100007F:{port}"}


@pytest.mark.parametrize("open_ended", [True, False], ids=["delimited", "defined"])
def test_nesting_from_1_to_30000_never_reaches_orthanc_deeper_than_it_can_bear(stack, open_ended):
    pid = orthanc_pid(stack)
    deepest = 3_000 if not open_ended else 30_000
    with Scu(stack.dicom_port, [CONTEXT]) as one:
        for depth in (1, 2, 10, 24, 25, 40, 50, 100, 1_000, 3_000, 10_000, 30_000):
            if depth > deepest:
                continue
            uid = f"1.2.826.0.2.{depth}.{int(open_ended)}"
            whole = image(uid)
            # (0040,0555) comes before the pixel data.
            cut = whole.index(b"\xe0\x7f\x10\x00")
            data = whole[:cut] + nested(depth, open_ended=open_ended) + whole[cut:]
            status, comment = one.store(CT, uid, 1, data)
            if depth <= 24:
                assert status == 0, (depth, comment)
            else:
                assert (status, comment) == (CANNOT_UNDERSTAND, "radloop gate: depth")
            assert stored(stack, uid) == (depth <= 24)
    found = stack.orthanc.find("instances", {"SOPInstanceUID": f"1.2.826.0.2.24.{int(open_ended)}"})
    for path in ("tags", "simplified-tags", "preview"):
        stack.orthanc.get_bytes(f"/instances/{found[0]}/{path}")
    assert orthanc_pid(stack) == pid


def test_what_is_refused_is_in_quarantine_as_a_file_and_the_sender_knows_why(stack, scu):
    uid = "1.2.826.0.3.1"
    whole = image(uid)
    data = whole[: len(whole) // 2]
    before = len(records(stack))
    assert scu.store(CT, uid, 1, data) == (CANNOT_UNDERSTAND, "radloop gate: length")
    # The association goes on, and so does the next image.
    assert scu.store(CT, "1.2.826.0.3.2", 1, image("1.2.826.0.3.2"))[0] == 0
    kept = records(stack)
    assert len(kept) == before + 1
    assert kept[-1]["reason"] == "length"
    assert kept[-1]["source"] == "c-store"
    assert kept[-1]["sender"] == "RADLOOP"
    body = (stack.data / "quarantine" / f"{kept[-1]['id']}.dcm").read_bytes()
    assert body.endswith(data)
    assert body[128:132] == b"DICM"
    assert not stored(stack, uid)


def test_an_image_passed_on_early_and_then_cut_off_is_not_stored(stack):
    """Its header is sound, so its pixels go on while they arrive; then the sender vanishes."""
    uid = "1.2.826.0.3.3"
    data = image(uid, 512)
    with Scu(stack.dicom_port, [CONTEXT]) as one:
        one._send(data_pdus(1, store_request(CT, uid, 1), command=True))
        one._send(data_pdus(1, data, command=False)[:300_000])
        time.sleep(0.3)
        one.socket.close()
    with Scu(stack.dicom_port, [CONTEXT]) as one:
        # Ended by the sender before the length that its header says.
        short = data[:-100_000]
        assert one.store(CT, uid, 1, short) == (CANNOT_UNDERSTAND, "radloop gate: length")
        trailing = data + WRITER.element(0x00080016, "UI", CT.encode() + b"\0")
        assert one.store(CT, uid, 1, trailing) == (CANNOT_UNDERSTAND, "radloop gate: duplicate")
        assert not stored(stack, uid)
        assert one.store(CT, uid, 1, data)[0] == 0
    assert stored(stack, uid)


def test_silent_connections_keep_nobody_waiting(stack):
    silent = [socket.create_connection(("127.0.0.1", stack.dicom_port)) for _ in range(60)]
    try:
        for connection in silent[:30]:
            connection.sendall(b"\x01\x00\x00\x00\x01")
        for _ in range(5):
            began = time.monotonic()
            assert echo(stack.dicom_port) == 0
            assert time.monotonic() - began < 2.0
    finally:
        for connection in silent:
            connection.close()


def test_associations_that_say_nothing_more_keep_nobody_waiting(stack):
    """More of them than Orthanc has threads."""
    idle = []
    try:
        for _ in range(40):
            idle.append(Scu(stack.dicom_port, [CONTEXT]))
        began = time.monotonic()
        assert echo(stack.dicom_port) == 0
        assert time.monotonic() - began < 2.0
        # Each of them still works.
        assert idle[0].store(CT, "1.2.826.0.4.1", 1, image("1.2.826.0.4.1"))[0] == 0
        assert idle[39].store(CT, "1.2.826.0.4.2", 1, image("1.2.826.0.4.2"))[0] == 0
    finally:
        for one in idle:
            one.close()


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        pdu(1, b"", 0xFFFFFFFF),
        pdu(1, associate_body("RADLOOP", "RADLOOP", [CONTEXT])[:80]),
        pdu(4, bytes(20)),
        pdu(7, bytes(4)),
        pdu(99, bytes(4)),
    ],
)
def test_who_does_not_speak_dicom_is_cut_off_at_once(stack, first):
    with socket.create_connection(("127.0.0.1", stack.dicom_port), 5.0) as one:
        one.sendall(first)
        answer = one.recv(100)
        assert answer == b"" or answer[0] == 7
    assert echo(stack.dicom_port) == 0


@pytest.mark.parametrize(
    "message",
    [
        data_pdus(9, store_request(CT, "1.2.3", 1), command=True),
        data_pdus(1, b"\0" * 40, command=False),
        data_pdus(1, b"\0" * 40, command=True),
        pdu(4, struct.pack(">IBB", 0, 1, 3)),
        pdu(4, struct.pack(">IBB", 0xFFFFFFFF, 1, 3) + bytes(20)),
        pdu(4, struct.pack(">IBB", 2, 1, 0xFF)),
        data_pdus(1, b"\0" * 40_000, command=True),
        data_pdus(1, store_request(CT, "1.2.3", 1) * 2, command=True),
        pdu(2, bytes(80)),
        pdu(5, bytes(400)),
    ],
)
def test_a_message_against_the_protocol_ends_that_association_alone(stack, message):
    pid = orthanc_pid(stack)
    with Scu(stack.dicom_port, [CONTEXT]) as one:
        one._send(message)
        with pytest.raises(BrokenOffError):
            one._status()
    assert echo(stack.dicom_port) == 0
    assert orthanc_pid(stack) == pid


def test_a_query_nested_too_deep_never_reaches_orthanc(stack):
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    stack.radloop("modality", "add", "ASKER", "127.0.0.1", "11113", "--query")
    pid = orthanc_pid(stack)
    with Scu(stack.dicom_port, [(find, EXPLICIT)], calling="ASKER") as one:
        request = bytearray(store_request(find, "1.2.3", 1))
        at = request.index(struct.pack("<HHI", 0, 0x0100, 2)) + 8
        request[at : at + 2] = struct.pack("<H", 0x0020)
        one._send(data_pdus(1, bytes(request), command=True))
        one._send(data_pdus(1, nested(3_000, open_ended=True), command=False))
        with pytest.raises(BrokenOffError):
            one._status()
    assert orthanc_pid(stack) == pid


def test_a_restart_of_orthanc_in_the_middle_is_not_the_senders_concern(stack):
    killed = set()
    with Scu(stack.dicom_port, [CONTEXT], timeout_s=60.0) as one:
        for number in range(30):
            if number in (5, 15):
                killed.add(orthanc_pid(stack))
                os.kill(orthanc_pid(stack), signal.SIGKILL if number == 5 else signal.SIGTERM)
            uid = f"1.2.826.0.5.{number}"
            assert one.store(CT, uid, 1, image(uid, 128)) == (0, "")
    until(lambda: orthanc_pid(stack) not in killed and _http_answers(stack), 30.0)
    for number in range(30):
        assert stored(stack, f"1.2.826.0.5.{number}")


def _http_answers(stack):
    try:
        return bool(stack.orthanc.system())
    except UnavailableError:
        return False


def test_a_front_that_is_killed_is_back_within_seconds(stack):
    pid = stack.pid("front")
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()

    def answers():
        try:
            return echo(stack.dicom_port) == 0
        except (OSError, BrokenOffError):
            return False

    until(answers, 10.0)
    assert time.monotonic() - began < 5.0
    assert stack.pid("front") != pid


def test_queries_and_retrievals_pass_through(stack):
    """C-FIND and C-GET by DCMTK, with data in both directions."""
    stack.radloop("modality", "add", "ASKER", "127.0.0.1", "11113", "--query")
    uid = "1.2.826.0.6.1"
    with Scu(stack.dicom_port, [CONTEXT]) as one:
        assert one.store(CT, uid, 1, image(uid, 512))[0] == 0
    common = ["-aet", "ASKER", "-aec", "RADLOOP", "127.0.0.1", str(stack.dicom_port)]
    keys = ["-S", "-k", "QueryRetrieveLevel=IMAGE", "-k", f"StudyInstanceUID={uid}.1"]
    keys += ["-k", f"SeriesInstanceUID={uid}.1.1", "-k", f"SOPInstanceUID={uid}"]
    found = subprocess.run(
        ["findscu", "-v", *common, *keys], capture_output=True, text=True, timeout=30, check=True
    )
    assert uid in found.stdout + found.stderr
    folder = stack.data / "got"
    folder.mkdir()
    subprocess.run(
        ["getscu", *common, *keys, "-od", str(folder)], capture_output=True, timeout=60, check=True
    )
    assert len(list(folder.iterdir())) == 1


def test_orthanc_reaches_a_modality_through_its_alias(stack, tmp_path):
    uid = "1.2.826.0.7.1"
    with Scu(stack.dicom_port, [CONTEXT]) as one:
        assert one.store(CT, uid, 1, image(uid))[0] == 0
    port = free_port()
    stack.radloop("modality", "add", "GOAL", "127.0.0.1", str(port))
    receiver = subprocess.Popen(["storescp", "-od", str(tmp_path), str(port)])
    try:
        time.sleep(2.0)
        found = stack.orthanc.find("instances", {"SOPInstanceUID": uid})
        answer = stack.orthanc.post_json("/modalities/GOAL/store", found[0])
        assert answer["FailedInstancesCount"] == 0
        until(lambda: list(tmp_path.iterdir()), 10.0)
    finally:
        receiver.kill()
        receiver.wait()


def test_a_slow_sender_of_a_large_object_is_waited_for(stack):
    """Slower than Orthanc's own patience of ten seconds would be per message, and it arrives."""
    uid = "1.2.826.0.8.1"
    data = image(uid, 512)
    with Scu(stack.dicom_port, [CONTEXT]) as one:
        one._send(data_pdus(1, store_request(CT, uid, 1), command=True))
        units = data_pdus(1, data, command=False)
        for start in range(0, len(units), len(units) // 13):
            one._send(units[start : start + len(units) // 13])
            time.sleep(1.0)
        assert one._status()[0] == 0
    assert stored(stack, uid)


def test_many_senders_at_once_lose_nothing(stack):
    failed = []

    def send(sender):
        with Scu(stack.dicom_port, [CONTEXT], timeout_s=60.0) as one:
            for number in range(10):
                uid = f"1.2.826.0.9.{sender}.{number}"
                if one.store(CT, uid, 1, image(uid))[0] != 0:
                    failed.append(uid)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120.0)
    assert failed == []
    assert all(stored(stack, f"1.2.826.0.9.{s}.{n}") for s in range(24) for n in range(10))
