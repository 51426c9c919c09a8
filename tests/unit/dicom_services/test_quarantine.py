"""Refused files are kept within bounds, by several writers, and nothing of a patient tells."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dicom_services.quarantine import Quarantine, digest_of_uid

MANY = 10_000
ROOM = 1 << 20
DIGEST = digest_of_uid("1.2.3")


@pytest.fixture
def quarantine(tmp_path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine", ROOM, MANY)


def keep(quarantine: Quarantine, data=b"refused", reason="truncated", **more) -> str:
    told = {"offset": 12, "source": "c-store", "sender": "CT1"} | more
    return quarantine.keep(data, reason=reason, **told)


def test_file_and_its_reason_are_kept_for_the_owner_alone(quarantine):
    name = keep(quarantine, sop_instance_digest=DIGEST)
    record = quarantine.record(name)
    assert quarantine.file_of(record).read_bytes() == b"refused"
    assert (record.reason, record.offset, record.sender, record.kept) == (
        "truncated",
        12,
        "CT1",
        True,
    )
    assert record.sha256 == hashlib.sha256(b"refused").hexdigest()
    assert quarantine.folder.stat().st_mode & 0o777 == 0o700
    modes = {place.stat().st_mode & 0o777 for place in quarantine.folder.iterdir()}
    assert modes == {0o600}


def test_content_may_come_whole_in_pieces_or_from_a_file(quarantine, tmp_path):
    (tmp_path / "spooled").write_bytes(b"third")
    contents = [b"first", [b"sec", memoryview(b"ond")], tmp_path / "spooled"]
    names = [keep(quarantine, content) for content in contents]
    found = [quarantine.file_of(quarantine.record(name)).read_bytes() for name in names]
    assert found == [b"first", b"second", b"third"]


def test_records_are_listed_by_time(quarantine):
    names = [keep(quarantine, bytes([number])) for number in range(3)]
    found, unreadable = quarantine.records()
    assert sorted(names) == [one.id for one in found]
    assert [one.when for one in found] == sorted(one.when for one in found)
    assert unreadable == 0


def test_full_quarantine_keeps_what_it_has_and_records_the_rest(tmp_path):
    small = Quarantine(tmp_path / "quarantine", 10, MANY)
    first, second = keep(small, b"12345678"), keep(small, b"abcdefgh")
    assert small.file_of(small.record(first)).read_bytes() == b"12345678"
    assert not small.record(second).kept
    assert small.usage().bytes == 8
    with pytest.raises(LookupError):
        small.file_of(small.record(second))


def test_beyond_its_records_only_a_count_grows(tmp_path):
    small = Quarantine(tmp_path / "quarantine", ROOM, 2)
    names = [keep(small, bytes([number])) for number in range(5)]
    assert [bool(name) for name in names] == [True, True, False, False, False]
    assert (small.usage().records, small.usage().beyond) == (2, 3)
    small.remove(names[:1])
    assert small.usage().beyond == 3
    assert keep(small, b"there is room again")


def test_file_that_comes_again_and_again_is_kept_once(quarantine):
    names = {keep(quarantine) for _ in range(50)}
    assert len(names) == 1
    assert quarantine.record(names.pop()).times == 50
    assert quarantine.usage().records == 1


def test_same_file_with_another_reason_is_another_record(quarantine):
    assert keep(quarantine) != keep(quarantine, reason="poison", source="poison")


def test_quarantine_that_was_emptied_by_hand_has_room_again(tmp_path):
    folder = tmp_path / "quarantine"
    keep(Quarantine(folder, 10, MANY), b"12345678")
    for place in folder.glob("*.dcm"):
        place.unlink()
    again = Quarantine(folder, 10, MANY)
    assert again.record(keep(again, b"abcdefgh")).kept


def test_ids_and_records_hold_no_text_of_a_sender_that_is_no_ae_title(quarantine):
    record = quarantine.record(keep(quarantine, sender="DOE\\JANE\n../../etc/passwd"))
    assert len(record.sender) <= 16
    assert "\n" not in record.sender
    assert "\\" not in record.sender


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "20260101T000000000-0000000g"])
def test_only_ids_name_records(quarantine, name):
    with pytest.raises(LookupError):
        quarantine.record(name)
    assert quarantine.remove([name]) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"{}",
        b"9" * 5000,
        b'{"id": 1, "when": 2}',
        b"[" * 4000,
    ],
)
def test_broken_record_is_counted_and_hides_no_other(quarantine, content):
    good, bad = keep(quarantine, b"one"), keep(quarantine, b"two")
    (quarantine.folder / f"{bad}.json").write_bytes(content)
    found, unreadable = quarantine.records()
    assert [one.id for one in found] == [good]
    assert unreadable == 1
    assert quarantine.purge() == 2
    assert quarantine.records() == ([], 0)
    assert not list(quarantine.folder.glob("*.dcm"))


def test_body_without_a_record_is_counted(quarantine):
    name = keep(quarantine)
    (quarantine.folder / f"{name}.json").unlink()
    assert quarantine.records() == ([], 1)


def test_purge_spares_what_is_younger(quarantine):
    name = keep(quarantine)
    assert quarantine.purge(older_than_days=1.0) == 0
    assert quarantine.record(name)
    assert quarantine.purge() == 1


def test_threads_keep_every_file_within_the_bounds(tmp_path):
    shared = Quarantine(tmp_path / "quarantine", 200, MANY)

    def work(worker: int) -> None:
        for number in range(20):
            assert keep(shared, f"{worker:05d}{number:05d}".encode())

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, unreadable = shared.records()
    assert (len(found), unreadable) == (80, 0)
    assert sum(one.kept for one in found) == 20
    assert shared.usage().bytes == 200


def test_processes_keep_every_file_within_the_bounds(tmp_path):
    folder = tmp_path / "quarantine"
    program = (
        "import sys; from pathlib import Path; from dicom_services.quarantine import Quarantine\n"
        f"q = Quarantine(Path({str(folder)!r}), 300, 50)\n"
        "for n in range(20):\n"
        "    q.keep((sys.argv[1] + str(n).zfill(9)).encode(), reason='vr', offset=0,"
        " source='upload', sender='')\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(n)]) for n in range(4)]
    assert [one.wait() for one in running] == [0, 0, 0, 0]
    shared = Quarantine(folder, 300, 50)
    found, unreadable = shared.records()
    assert (len(found), unreadable) == (50, 0)
    assert sum(one.kept for one in found) == 30
    assert shared.usage().beyond == 30


def test_full_disk_is_no_error_of_the_caller():
    """/dev/full cannot be a folder, so a file stands where the folder should be."""
    nowhere = Quarantine(Path("/dev/null/quarantine"), ROOM, MANY)
    assert keep(nowhere) == ""
    assert nowhere.records() == ([], 0)
    assert not nowhere.is_poison(DIGEST)


def test_body_that_no_longer_fits_on_the_disk_leaves_its_record(tmp_path):
    """The limit on a process's file size stands for the end of the disk."""
    folder = tmp_path / "quarantine"
    program = (
        "import resource, signal; from pathlib import Path\n"
        "from dicom_services.quarantine import Quarantine\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        f"q = Quarantine(Path({str(folder)!r}), 1 << 30, 50)\n"
        "print(q.keep(bytes(200000), reason='vr', offset=0, source='upload', sender=''))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    quarantine = Quarantine(folder, 1 << 30, 50)
    assert not quarantine.record(done.stdout.strip()).kept
    assert not list(folder.glob("*.dcm*"))
    assert quarantine.usage().bytes == 0


def test_lock_that_is_never_given_back_loses_the_file_only(quarantine, monkeypatch):
    import fcntl

    monkeypatch.setattr("dicom_services.quarantine._LOCK_WAIT_S", 0.05)
    keep(quarantine)
    with (quarantine.folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert keep(quarantine, b"another") == ""
    assert keep(quarantine, b"another")


def test_unknown_reasons_and_sources_are_refused(quarantine):
    with pytest.raises(ValueError, match="no reason"):
        keep(quarantine, reason="PATIENT^DOE")
    with pytest.raises(ValueError, match="no reason"):
        keep(quarantine, source="elsewhere")


def test_poison_is_known_to_every_process_until_it_is_forgotten(quarantine):
    other = Quarantine(quarantine.folder, ROOM, MANY)
    assert not other.is_poison(DIGEST)
    quarantine.mark_poison(DIGEST)
    quarantine.mark_poison(DIGEST)
    quarantine.mark_poison(digest_of_uid("1.2.4"))
    assert other.is_poison(DIGEST)
    assert (quarantine.folder / "poison").read_text().count(DIGEST) == 1
    quarantine.forget_poison(DIGEST)
    assert not other.is_poison(DIGEST)
    assert other.is_poison(digest_of_uid("1.2.4"))


def test_purge_leaves_the_marks_of_poison(quarantine):
    quarantine.mark_poison(DIGEST)
    keep(quarantine)
    quarantine.purge()
    assert quarantine.is_poison(DIGEST)


def test_half_written_mark_spoils_no_other(quarantine):
    quarantine.mark_poison(DIGEST)
    with (quarantine.folder / "poison").open("ab") as file:
        file.write(b"abc")
    other = digest_of_uid("1.2.5")
    quarantine.mark_poison(other)
    assert quarantine.is_poison(DIGEST)
    assert quarantine.is_poison(other)


def test_padding_of_a_uid_makes_no_other_digest():
    assert digest_of_uid(b"1.2.3\0") == digest_of_uid("1.2.3") == digest_of_uid(" 1.2.3")


def test_parts_of_a_writer_that_was_killed_are_cleared(quarantine):
    keep(quarantine)
    part = quarantine.folder / "20260101T000000000-00000000.dcm.part"
    part.write_bytes(bytes(100))
    os.utime(part, (0, 0))
    assert quarantine.usage().bytes == len(b"refused")
    keep(Quarantine(quarantine.folder, ROOM, MANY), b"another")
    assert not part.exists()


def test_record_is_json_that_names_no_path_and_no_uid(quarantine):
    name = keep(quarantine, sop_instance_digest=DIGEST)
    told = json.loads((quarantine.folder / f"{name}.json").read_bytes())
    assert set(told) == {
        *("id", "when", "reason", "offset", "source", "sender", "bytes", "sha256", "kept"),
        *("sop_instance_digest", "times", "last"),
    }


def test_module_needs_the_standard_library_only():
    program = (
        "import sys; import dicom_services.quarantine;"
        "print(*sorted(n for n in sys.modules if n.split('.')[0] in"
        " ('pydantic', 'numpy', 'pydicom', 'dicom_services')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        "dicom_services",
        "dicom_services.gate",
        "dicom_services.quarantine",
    ]
