"""`radloop gate`: every bad file of a path is named with its reason."""

from __future__ import annotations

import zipfile

import pytest

from dicom_services.errors import InputError
from dicom_services.inspection import RefusedFile, inspect
from dicom_services.refusals import refusal_of_path, sentence
from tests.dicom_files import ct_files, stored_ramp

STORED = stored_ramp((3, 4, 5))
# A file meta group and one element, as a DICOMDIR begins (PS3.3 table F.3-3).
MEDIA_INDEX = (
    bytes(128)
    + b"DICM"
    + b"\x02\0\x02\0UI\x14\0001.2.840.10008.1.3.10".ljust(28, b"\0")
    + b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
    + b"\x04\0\x30\x11CS\x04\0DISC"
)


@pytest.fixture
def folder(tmp_path):
    for number, content in enumerate(ct_files(STORED)):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "bad.dcm").write_bytes(b"MZ" + ct_files(STORED)[0][2:])
    (tmp_path / "DICOMDIR").write_bytes(MEDIA_INDEX)
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty").touch()
    return tmp_path


def test_folder_names_its_bad_file_and_leaves_out_what_holds_no_object(folder):
    found = inspect(folder)
    bad = RefusedFile(str(folder / "deep" / "bad.dcm"), "preamble", 0)
    assert (found.passed, found.left_out, found.refused) == (3, 3, (bad,))
    assert found.document()["reasons"] == {"preamble": 1}


def test_archive_names_the_member(folder, tmp_path_factory):
    packed = tmp_path_factory.mktemp("zip") / "a.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for place in folder.rglob("*"):
            if place.is_file():
                archive.write(place, place.relative_to(folder))
    found = inspect(packed)
    assert (found.passed, found.left_out) == (3, 3)
    assert found.refused == (RefusedFile(f"{packed}/deep/bad.dcm", "preamble", 0),)


def test_file_named_by_itself_must_be_dicom(folder):
    assert inspect(folder / "notes.txt").reasons == {"not_dicom": 1}
    assert inspect(folder / "empty").reasons == {"not_dicom": 1}
    assert inspect(folder / "0.dcm").passed == 1


def test_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="not_found"):
        inspect(tmp_path / "absent")


def test_file_on_the_disk_is_judged_as_its_bytes_are(folder):
    assert refusal_of_path(folder / "0.dcm") is None
    assert refusal_of_path(folder / "DICOMDIR", identity=False) is None


def test_refusals_are_told_by_number_the_most_frequent_first():
    assert sentence({}) == ""
    assert sentence({"depth": 1}) == "1 file refused by the gate: depth (1)"
    told = sentence({"vr": 1, "depth": 1, "truncated": 3})
    assert told == "5 files refused by the gate: truncated (3), depth (1), vr (1)"
