from __future__ import annotations

import stat
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_services.dicom.intake import open_input
from dicom_services.dicom.read import read_series
from dicom_services.errors import InputError
from tests.dicom_files import SERIES, STUDY, ct_files, ct_slice, part10, stored_ramp, to_bytes

STORED = stored_ramp((3, 4, 5))


def _folder(root: Path) -> Path:
    """Two series in nested folders, a text file, a DICOMDIR and a broken file."""

    def other(_, ds):
        ds.SeriesInstanceUID, ds.Modality = "1.2.3", "MR"

    (root / "a/b").mkdir(parents=True)
    for k, content in enumerate(ct_files(STORED)):
        (root / f"a/{k}.dcm").write_bytes(content)
    for k, content in enumerate(ct_files(STORED, change=other)):
        (root / f"a/b/{k}").write_bytes(content)
    (root / "readme.txt").write_text("no image")
    (root / "broken.dcm").write_bytes(ct_files(STORED)[0][:140])
    # (0004,1200), which only a DICOMDIR has.
    (root / "DICOMDIR").write_bytes(part10(b"\x04\0\0\x12UL\4\0\0\0\0\0\x08\0\x60\0CS\2\0CT"))
    return root


def _zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        open_input(path)
    return caught.value


def test_a_folder_gives_its_series_and_counts_the_rest(tmp_path):
    first, second = open_input(_folder(tmp_path))
    assert (first.series_uid, first.study_uid, first.modality) == (SERIES, STUDY, "CT")
    assert [file.name for file in first.files] == ["0.dcm", "1.dcm", "2.dcm"]
    assert (second.series_uid, second.modality, len(second.files)) == ("1.2.3", "MR", 3)
    assert first.ignored == second.ignored == 2
    assert first.refused == second.refused == {"length": 1}


def test_a_single_file_is_a_series_of_one(tmp_path):
    (tmp_path / "one").write_bytes(ct_files(STORED)[0])
    (series,) = open_input(tmp_path / "one")
    assert series.files == (tmp_path / "one",)
    assert series.facts["InstanceCount"] == 1


def test_an_archive_gives_the_same_as_the_folder_in_it(tmp_path):
    names = {f"s/{k}": content for k, content in enumerate(ct_files(STORED))}
    (series,) = open_input(_zip(tmp_path / "a.zip", names | {"x.txt": b"no"}))
    assert series.ignored == 1
    assert np.array_equal(read_series(series.files).volume.values, STORED - 1024)
    assert [one.name for one in tmp_path.iterdir()] == ["a.zip"]


def test_facts_are_what_rules_ask_for(tmp_path):
    ds = ct_slice(STORED[0])
    ds.SpecificCharacterSet, ds.SeriesDescription = "ISO_IR 192", "Kalk-Score Übersicht"
    ds.StationName, ds.SpacingBetweenSlices, ds.ImagesInAcquisition = "CT1", "1.5", "40"
    ds.ConvolutionKernel = ["Br36", "3"]
    (tmp_path / "one").write_bytes(to_bytes(ds))
    (series,) = open_input(tmp_path)
    assert series.facts == {
        "Modality": "CT",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SeriesDescription": "Kalk-Score Übersicht",
        "StationName": "CT1",
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "ConvolutionKernel": "Br36\\3",
        "SliceThickness": 3.0,
        "KVP": 120.0,
        "SpacingBetweenSlices": 1.5,
        "ImagesInAcquisition": 40.0,
        "Rows": 4,
        "Columns": 5,
        "InstanceCount": 1,
    }


def test_files_without_uids_come_together_and_are_refused_when_read(tmp_path):
    def change(_, ds):
        ds.SeriesInstanceUID = ""

    for k, content in enumerate(ct_files(STORED, change=change)):
        (tmp_path / str(k)).write_bytes(content)
    (series,) = open_input(tmp_path)
    assert (series.series_uid, len(series.files)) == ("", 3)
    with pytest.raises(InputError, match="illegal_uid"):
        read_series(series.files)


def test_a_file_that_the_gate_refuses_costs_only_itself(tmp_path):
    sound = ct_files(STORED)
    # A Patient ID of 4 GB: more memory than a reader is given.
    large = part10(b"\x10\0\x20\0UN\0\0\xf0\xff\xff\xffabc")
    for k, content in enumerate([sound[0], large, *sound[1:]]):
        (tmp_path / str(k)).write_bytes(content)
    (series,) = open_input(tmp_path)
    assert [file.name for file in series.files] == ["0", "2", "3"]
    assert (series.ignored, series.refused) == (0, {"length": 1})


def test_members_of_an_archive_pass_the_gate_too(tmp_path):
    sound = ct_files(STORED)
    members = {"0": sound[0], "1": sound[1][:-2], "2": b"MZ" + sound[2][2:]}
    (series,) = open_input(_zip(tmp_path / "a.zip", members))
    assert (len(series.files), series.refused) == (1, {"preamble": 1, "length": 1})


def test_where_the_gate_leaves_nothing_its_most_frequent_reason_is_told(tmp_path):
    for k, content in enumerate(ct_files(STORED)):
        (tmp_path / str(k)).write_bytes(content[:-2] if k else b"MZ" + content[2:])
    (tmp_path / "notes.txt").write_text("no image")
    error = refusal(tmp_path)
    assert (error.code, error.facts) == ("gate_refused", {"files": 3, "reason": "length"})


def test_a_deflated_file_that_is_cut_is_refused_by_the_gate(tmp_path):
    whole = to_bytes(ct_slice(STORED[0]), DeflatedExplicitVRLittleEndian)
    (tmp_path / "whole").write_bytes(whole)
    (tmp_path / "cut").write_bytes(whole[:-40])
    (series,) = open_input(tmp_path)
    assert ([file.name for file in series.files], series.refused) == (["whole"], {"deflate": 1})


def test_a_file_larger_than_the_memory_of_the_reader_is_read_for_its_header(tmp_path):
    ds = ct_slice(STORED[0])
    ds.Rows, ds.Columns, ds.NumberOfFrames = 1024, 1024, "400"
    head = to_bytes(ds)
    place = head.rindex(b"\xe0\x7f\x10\x00OW")
    size = 400 * 1024 * 1024 * 2
    with (tmp_path / "large").open("wb") as file:
        file.write(head[: place + 8] + size.to_bytes(4, "little"))
        file.truncate(place + 12 + size)
    (series,) = open_input(tmp_path)
    assert series.facts["NumberOfFrames"] == 400.0


def test_nothing_dicom_is_refused_with_the_count(tmp_path):
    (tmp_path / "a.txt").write_text("no")
    error = refusal(tmp_path)
    assert (error.code, error.facts) == ("no_dicom", {"files": 1})


def test_what_is_not_there_is_refused(tmp_path):
    assert refusal(tmp_path / "nothing").code == "not_found"


@pytest.mark.parametrize(
    "name", ["../evil.dcm", "a/../../evil.dcm", "/etc/evil", "C:\\evil", "..\\evil"]
)
def test_paths_that_leave_the_archive_are_refused(name, tmp_path):
    error = refusal(_zip(tmp_path / "a.zip", {name: b"x", "ok": b"y"}))
    assert (error.code, error.facts) == ("zip_unsafe", {"reason": "path"})


def test_links_in_an_archive_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert refusal(tmp_path / "a.zip").facts == {"reason": "link"}


def test_archives_in_archives_are_refused(tmp_path):
    inner = _zip(tmp_path / "inner.zip", {"a": b"b"}).read_bytes()
    assert refusal(_zip(tmp_path / "a.zip", {"inner.zip": inner})).facts == {"reason": "nested"}


def test_a_name_that_comes_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    assert refusal(tmp_path / "a.zip").facts == {"reason": "repeated_name"}


def test_an_encrypted_member_is_refused(tmp_path):
    path = _zip(tmp_path / "a.zip", {"a": b"b"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert refusal(path).facts == {"reason": "encrypted"}


def test_other_compression_is_refused(tmp_path):
    path = _zip(tmp_path / "a.zip", {"a": b"b" * 100}, zipfile.ZIP_LZMA)
    assert refusal(path).facts == {"reason": "method"}


def test_an_archive_that_grows_a_thousandfold_is_refused(tmp_path):
    error = refusal(_zip(tmp_path / "a.zip", {"zeros": bytes(80 << 20)}))
    assert (error.code, error.facts) == ("zip_bomb", {"ratio": 100})


def test_a_small_archive_of_empty_slices_is_no_bomb(tmp_path):
    empty = ct_files(np.zeros((3, 512, 512), np.int16))
    path = _zip(tmp_path / "a.zip", {str(k): content for k, content in enumerate(empty)})
    assert path.stat().st_size * 100 < sum(map(len, empty))
    assert len(open_input(path)[0].files) == 3


def test_an_index_that_claims_too_many_entries_is_refused(tmp_path):
    path = _zip(tmp_path / "a.zip", {str(k): b"" for k in range(3)})
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    # Size of the index, as large as 32 bits allow.
    content[end + 12 : end + 16] = b"\xfe\xff\xff\xff"
    path.write_bytes(content)
    assert refusal(path).code == "zip_bomb"


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.99])
def test_a_cut_archive_is_refused(cut, tmp_path):
    path = _zip(tmp_path / "a.zip", {str(k): c for k, c in enumerate(ct_files(STORED))})
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    assert refusal(path).code == "zip_unsafe"


def test_a_member_with_a_wrong_checksum_is_refused(tmp_path):
    path = _zip(tmp_path / "a.zip", {"a": ct_files(STORED)[0]}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    assert refusal(path).facts == {"reason": "broken"}


def test_a_dicom_file_that_starts_like_an_archive_is_neither(tmp_path):
    content = b"PK\x03\x04" + ct_files(STORED)[0][4:]
    (tmp_path / "one").write_bytes(content)
    error = refusal(tmp_path / "one")
    assert (error.code, error.facts["reason"]) == ("gate_refused", "preamble")


def test_an_archive_from_elsewhere_is_opened(shared_data):
    found = open_input(shared_data / "odd-dicom/panimg/tests/resources/dicom.zip")
    assert sum(len(series.files) for series in found) == 76


def test_larger_objects_are_taken_where_the_limits_are_scaled(tmp_path):
    # 15,000 descriptions of 20 empty elements: what five thousand frames have, three times.
    elements = b"".join(
        b"\x18\0" + (0x9000 + n).to_bytes(2, "little") + b"CS\0\0" for n in range(20)
    )
    item = b"\xfe\xff\0\xe0" + len(elements).to_bytes(4, "little") + elements
    groups = b"\0\x52\x30\x92SQ\0\0" + (15_000 * len(item)).to_bytes(4, "little")
    file = to_bytes(ct_slice(STORED[0]))
    at = file.index(b"\xe0\x7f\x10\0")
    (tmp_path / "many.dcm").write_bytes(file[:at] + groups + 15_000 * item + file[at:])
    with pytest.raises(InputError) as caught:
        open_input(tmp_path)
    assert caught.value.facts == {"files": 1, "reason": "elements"}
    (series,) = open_input(tmp_path, object_scale=2.0)
    assert series.series_uid == SERIES
