"""What the gate refuses lies in quarantine until a person releases or deletes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import generate_uid

from dicom_services.quarantine import Quarantine, Record, digest_of_uid
from tests.dicom_files import ct_slice, stored_ramp, to_bytes
from tests.integration.conftest import SENDER, Stack

PLANTED = "PLANTED^NAME"


@pytest.fixture(scope="module")
def quarantine(stack: Stack) -> Quarantine:
    return Quarantine(stack.folder.quarantine, 1_000_000_000, 10_000)


@pytest.fixture(autouse=True)
def emptied(stack: Stack) -> None:
    stack.radloop("quarantine", "purge", "--all")


def image(path: Path) -> tuple[Path, str]:
    """One CT slice of a study of its own, and its SOP Instance UID."""
    slice_ = ct_slice(stored_ramp((1, 64, 64))[0])
    slice_.PatientName = PLANTED
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(slice_, keyword, generate_uid())
    path.write_bytes(to_bytes(slice_))
    return path, str(slice_.SOPInstanceUID)


def refuse(quarantine: Quarantine, content: bytes | Path, reason: str = "truncated") -> str:
    return quarantine.keep(content, reason=reason, offset=7, source="c-store", sender="CT1")


def stored(stack: Stack, uid: str) -> list[str]:
    return stack.orthanc.find("instances", {"SOPInstanceUID": uid})


def listed(stack: Stack) -> dict[str, Any]:
    return dict(json.loads(stack.radloop("quarantine", "list", "--json")))


def test_refused_file_is_listed_shown_and_counted(stack, quarantine, tmp_path):
    name = refuse(quarantine, b"cut off")
    assert name in stack.radloop("quarantine", "list")
    assert listed(stack)["usage"] == {"bytes": 7, "records": 1, "beyond": 0}
    told = stack.radloop("quarantine", "show", name[-8:])
    assert "refused because it ends in the middle" in told
    assert "quarantine        1 refused, 7 B" in stack.radloop("status")
    assert stack.status()["quarantine"]["records"] == 1


def test_what_passes_now_is_stored_and_let_go(stack, quarantine, tmp_path):
    file, uid = image(tmp_path / "good.dcm")
    name = refuse(quarantine, file)
    assert "is stored" in stack.radloop("quarantine", "release", name)
    (instance,) = stored(stack, uid)
    assert stack.orthanc.get_bytes(f"/instances/{instance}/file") == file.read_bytes()
    assert listed(stack)["records"] == []
    assert not list(stack.folder.quarantine.glob("*.dcm"))


def test_what_is_refused_still_stays_and_says_why(stack, quarantine, tmp_path):
    file, uid = image(tmp_path / "bad.dcm")
    name = refuse(quarantine, file.read_bytes()[:-9])
    told = stack.radloop("quarantine", "release", name, "--anyway", code=3)
    assert "is refused still: length, an element says it is longer" in told
    assert stored(stack, uid) == []
    stack.radloop("quarantine", "release", name, "--to", str(tmp_path / "out"))
    copy = tmp_path / "out" / f"{name}.dcm"
    assert copy.read_bytes() == file.read_bytes()[:-9]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [one["id"] for one in listed(stack)["records"]] == [name]


def test_another_file_of_a_stored_uid_is_not_thrown_away(stack, quarantine, tmp_path):
    file, uid = image(tmp_path / "one.dcm")
    stack.send(file)
    other = pydicom.dcmread(file)
    other.ImageComments = "another file of the same UID"
    other.save_as(tmp_path / "two.dcm")
    name = refuse(quarantine, tmp_path / "two.dcm")
    told = stack.radloop("quarantine", "release", name, code=3)
    assert "the archive has an instance of the same UID already" in told
    assert len(stored(stack, uid)) == 1
    assert [one["id"] for one in listed(stack)["records"]] == [name]


def test_file_that_was_not_kept_cannot_be_released(stack, tmp_path):
    small = Quarantine(stack.folder.quarantine, 3, 10)
    name = refuse(small, b"larger than three bytes")
    told = stack.radloop("quarantine", "release", name, code=7)
    assert "quarantine_not_kept" in told


def test_poison_is_refused_at_the_door_until_a_person_stores_it_anyway(stack, quarantine, tmp_path):
    file, uid = image(tmp_path / "poison.dcm")
    quarantine.mark_poison(digest_of_uid(uid))
    said = stack.radloop("send", str(file), "--aet", SENDER, code=3)
    assert "0 of 1 files stored; 1 x refused, not understood (0xc000)" in said
    assert "of the receiver: 1 file refused by the gate: poison (1)" in said
    (record,) = [Record(**one) for one in listed(stack)["records"]]
    assert (record.reason, record.sender, record.kept) == ("poison", SENDER, True)
    told = stack.radloop("quarantine", "release", record.id, code=3)
    assert "it has stopped a reader before; --anyway" in told
    assert stored(stack, uid) == []
    stack.radloop("quarantine", "release", record.id, "--anyway")
    assert len(stored(stack, uid)) == 1
    assert not quarantine.is_poison(digest_of_uid(uid))


def test_send_keeps_back_what_the_gate_refuses_and_sends_the_rest(stack, tmp_path):
    _, uid = image(tmp_path / "good.dcm")
    bad, _ = image(tmp_path / "bad.dcm")
    bad.write_bytes(bad.read_bytes()[:-9])
    said = stack.radloop("send", str(tmp_path), "--aet", SENDER, code=3)
    assert "1 of 1 files stored; 1 file refused by the gate: length (1), not sent" in said
    assert len(stored(stack, uid)) == 1
    assert listed(stack)["records"] == []
    told = stack.radloop("send", str(tmp_path), "--aet", SENDER, "--json", code=3)
    assert json.loads(told[told.index("{") :])["refused"] == {"length": 1}


def test_purge_deletes_for_good(stack, quarantine):
    names = [refuse(quarantine, content) for content in (b"one", b"two", b"three")]
    assert "1 deleted" in stack.radloop("quarantine", "purge", names[0])
    assert "0 deleted" in stack.radloop("quarantine", "purge", "--older-than", "1")
    assert "purge_what" in stack.radloop("quarantine", "purge", code=2)
    assert "purge_what" in stack.radloop("quarantine", "purge", names[1], "--all", code=2)
    assert "2 deleted" in stack.radloop("quarantine", "purge", "--all")
    assert listed(stack)["records"] == []


def test_doctor_warns_before_it_is_full(stack, quarantine, tmp_path):
    overlay = tmp_path / "small.toml"
    overlay.write_text(stack.profile.read_text() + "\n[quarantine]\nmax_records = 2\n")
    refuse(quarantine, b"one")

    def told() -> str:
        checks = json.loads(stack.radloop("doctor", "--json", RADLOOP_CONFIG=str(overlay)))[
            "checks"
        ]
        (found,) = [one for one in checks if one["name"] == "quarantine"]
        return f"{found['verdict']} {found['found']}"

    assert told() == "OK 1 refused files, 50% full"
    refuse(quarantine, b"two")
    assert told() == "WARN 2 refused files, 100% full"


def test_nothing_of_a_patient_is_in_records_names_or_logs(stack, quarantine, tmp_path):
    file, uid = image(tmp_path / "planted.dcm")
    quarantine.mark_poison(digest_of_uid(uid))
    stack.radloop("send", str(file), "--aet", SENDER, code=3)
    for place in stack.folder.quarantine.iterdir():
        assert place.suffix == ".dcm" or not {PLANTED, uid} & set(place.read_text().split('"'))
        assert PLANTED not in place.name
    assert PLANTED not in stack.log("front") + stack.radloop("quarantine", "list")
    quarantine.forget_poison(digest_of_uid(uid))
