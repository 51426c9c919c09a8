"""What is broken, foreign or hostile: counted or refused by code; the next study is fine."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.config import disable_value_validation

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.domain.volume import Volume
from dicom_services.errors import InputError, UnavailableError
from dicom_services.orthanc import Orthanc
from dicom_services.phantom import Phantom
from dicom_services.phantom_command import demo_phantom
from tests.integration.conftest import SENDER, Stack
from tests.pacs import ended, image_series, jobs, numbers, objects, text_of, until, view_of

SLICES = 24
EXPLICIT = b"1.2.840.10008.1.2.1\0"
FOREIGN = b"1.2.276.0.7230010.9\0"

Change = Callable[[int, Dataset], None]
Damage = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Sent:
    """A bad study on the disk, and what the sender was told of it."""

    folder: Path
    uid: str
    said: str = ""


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return demo_phantom(matrix=256)


@pytest.fixture(scope="module")
def orthanc(stack: Stack) -> Orthanc:
    return stack.orthanc


@pytest.fixture(scope="module")
def few(phantom: Phantom) -> Volume:
    """The topmost slices: enough for the routing rule, too few for a heart."""
    whole = phantom.volume
    grid = replace(whole.geometry, shape=(SLICES, *whole.geometry.shape[1:]))
    return Volume(whole.values[:SLICES], grid, whole.unit, whole.series, whole.acquisition)


def write(volume: Volume, folder: Path, change: Change | None = None) -> str:
    """Write a series named after its folder, each slice changed; its Study Instance UID."""
    uid = ""
    for k, path in enumerate(write_ct_series(volume, folder, seed=f"bad-{folder.name}")):
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path)
            if change is not None:
                change(k, data)
                pydicom.dcmwrite(path, data, enforce_file_format=False)
            uid = str(data.StudyInstanceUID)
    return uid


def damage(folder: Path, how: Damage, name: str = "*") -> None:
    for path in folder.glob(f"ct-{name}.dcm"):
        path.write_bytes(how(path.read_bytes()))


def setting(keyword: str, value: str) -> Change:
    """Set one attribute of every slice; UIDs of instances stay unique."""

    def change(k: int, data: Dataset) -> None:
        several = keyword == "SOPInstanceUID" and value
        setattr(data, keyword, f"{value}.{k}" if several else value)

    return change


def without_pixels(k: int, data: Dataset) -> None:
    del data.PixelData


def without_pixels_in_one_slice(k: int, data: Dataset) -> None:
    if k == SLICES // 2:
        del data.PixelData


def of_two_patients_by_turns(k: int, data: Dataset) -> None:
    data.PatientID = ("PATIENT-A", "PATIENT-B")[k % 2]


def of_two_names_without_an_id(k: int, data: Dataset) -> None:
    data.PatientID, data.PatientName = "", ("FIRST^ONE", "SECOND^ONE")[k >= SLICES // 2]


def name_in_undeclared_bytes(k: int, data: Dataset) -> None:
    data.SpecificCharacterSet = None
    # Latin-1, which without a declaration nobody may assume (PS3.5 section 6.1.2.1).
    data.add(pydicom.DataElement("PatientName", "PN", "M\xfcller^Zo\xeb".encode("latin-1")))


@pytest.fixture(scope="module", autouse=True)
def nothing_dies(stack: Stack) -> Iterator[None]:
    """Over the whole file no process ends, no job fails and nobody prints a traceback."""
    before = stack.pids()
    yield
    assert stack.pids() == before
    logs = "".join(path.read_text("utf-8", "replace") for path in stack.folder.logs.glob("*.log"))
    assert "Traceback" not in logs
    assert "job.failed" not in logs
    assert stack.orthanc.get_json("/radloop/jobs", state="failed") == []


def assert_good_study_is_scored(stack: Stack, phantom: Phantom, folder: Path) -> None:
    uid = write(phantom.volume, folder)
    stack.send(folder)
    view = ended(stack.orthanc, uid)
    assert view["state"] == "done", view
    assert_scored(stack.orthanc, view, phantom)


def assert_scored(orthanc: Orthanc, view: dict[str, Any], phantom: Phantom) -> None:
    scores = numbers(objects(orthanc, jobs(view)[0])["SR"], "112058")
    assert any(value == pytest.approx(phantom.score, rel=1e-3) for value in scores), scores


def count_of(orthanc: Orthanc, uid: str) -> int:
    """Images of a study that are there."""
    return int(image_series(view_of(orthanc, uid))["instances"])


# At the door: what the sender leaves out or the gate refuses is counted for the sender.

DOOR: dict[str, tuple[Change | None, Damage | None, str]] = {
    "empty": (None, lambda file: b"", "0009"),
    "not-dicom": (None, lambda file: b"no DICOM at all\n" * 64, "0009"),
    "foreign-syntax": (None, lambda file: file.replace(EXPLICIT, FOREIGN), "*"),
    "no-study-uid": (setting("StudyInstanceUID", ""), None, ""),
    "no-series-uid": (setting("SeriesInstanceUID", ""), None, ""),
    "no-instance-uid": (setting("SOPInstanceUID", ""), None, ""),
    "letters-in-instance-uid": (setting("SOPInstanceUID", "1.2.abc"), None, ""),
    "letters-in-series-uid": (setting("SeriesInstanceUID", "1.2.abc"), None, ""),
    "truncated": (None, lambda file: file[:-20_000], "0009"),
}
ONE_LEFT_OUT = f"{SLICES - 1} of {SLICES - 1} files stored; 1 files that are not DICOM"


@pytest.fixture(scope="module")
def door(stack: Stack, few: Volume, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sent]:
    """Every study of `DOOR`, each sent by itself."""
    root = tmp_path_factory.mktemp("door")

    def send(name: str) -> Sent:
        change, how, which = DOOR[name]
        uid = write(few, root / name, change)
        if how is not None:
            damage(root / name, how, which)
        complete = name in ("empty", "not-dicom")
        said = stack.radloop("send", str(root / name), "--aet", SENDER, code=0 if complete else 3)
        return Sent(root / name, uid, said)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(DOOR, pool.map(send, DOOR), strict=True))


def assert_refused_for_one_missing_slice(orthanc: Orthanc, uid: str) -> None:
    view = ended(orthanc, uid)
    assert (view["state"], view["code"]) == ("refused", "slice_gap")
    assert "slice_gap" in text_of(objects(orthanc, jobs(view)[0])["SR"])
    assert count_of(orthanc, uid) == SLICES - 1


@pytest.mark.parametrize("name", ["empty", "not-dicom"])
def test_one_file_that_is_no_dicom_is_counted_and_its_series_refused(
    door: dict[str, Sent], orthanc: Orthanc, name: str
) -> None:
    assert ONE_LEFT_OUT in door[name].said
    assert_refused_for_one_missing_slice(orthanc, door[name].uid)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("foreign-syntax", "transfer_syntax"),
        ("no-study-uid", "uid_missing"),
        ("no-series-uid", "uid_missing"),
        ("no-instance-uid", "uid_missing"),
        ("letters-in-instance-uid", "uid"),
        ("letters-in-series-uid", "uid"),
    ],
)
def test_what_the_gate_refuses_is_counted_and_leaves_nothing_behind(
    door: dict[str, Sent], orthanc: Orthanc, name: str, reason: str
) -> None:
    refused = f"{SLICES} files refused by the gate: {reason} ({SLICES})"
    assert f"nothing to send; {refused}, not sent" in door[name].said
    meta = pydicom.dcmread(door[name].folder / "ct-0001.dcm").file_meta
    uid = str(meta.MediaStorageSOPInstanceUID)
    assert orthanc.find("instances", {"SOPInstanceUID": uid}) == []


def test_good_study_after_what_was_stopped_at_the_door_is_scored(
    door: dict[str, Sent], stack: Stack, phantom: Phantom, tmp_path: Path
) -> None:
    assert_good_study_is_scored(stack, phantom, tmp_path / "good-after-door")


# Inside: what Orthanc stores, although nobody can score it, is refused with a code and kept.

INSIDE: dict[str, Change] = {
    "no-pixels": without_pixels,
    "no-pixels-once": without_pixels_in_one_slice,
    "two-patients": of_two_patients_by_turns,
    "two-names": of_two_names_without_an_id,
    "letters-in-frame-uid": setting("FrameOfReferenceUID", "1.2.abc"),
}
UPLOADED: dict[str, Change | None] = {
    "foreign-syntax": None,
    "letters-in-series-uid": setting("SeriesInstanceUID", "1.2.abc"),
    "letters-in-study-uid": setting("StudyInstanceUID", "1.2.abc"),
    "path-in-study-uid": setting("StudyInstanceUID", "../../../tmp/x"),
}
WHOLE: dict[str, Change] = {
    "no-character-set": setting("SpecificCharacterSet", ""),
    "undeclared-bytes": name_in_undeclared_bytes,
    "unknown-character-set": setting("SpecificCharacterSet", "ISO_IR 999"),
}


@pytest.fixture(scope="module")
def inside(
    stack: Stack, few: Volume, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Sent]:
    """Every study of `INSIDE` and `WHOLE` in one association; by STOW what the gate refuses."""
    root = tmp_path_factory.mktemp("inside")
    uploads = tmp_path_factory.mktemp("uploads")
    made = {name: Sent(root / name, write(few, root / name, INSIDE[name])) for name in INSIDE}
    made |= {
        name: Sent(uploads / name, write(few, uploads / name, UPLOADED[name])) for name in UPLOADED
    }
    made |= {
        name: Sent(root / name, write(phantom.volume, root / name, WHOLE[name])) for name in WHOLE
    }
    stack.send(root)
    damage(uploads / "foreign-syntax", lambda file: file.replace(EXPLICIT, FOREIGN))
    for name in UPLOADED:
        stack.orthanc.stow([path.read_bytes() for path in sorted((uploads / name).iterdir())])
    return made


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("no-pixels", "pixel_data_missing"),
        ("no-pixels-once", "pixel_data_missing"),
        ("two-names", "mixed_patients"),
        ("letters-in-frame-uid", "illegal_uid"),
    ],
)
def test_what_nobody_can_score_is_refused_and_kept(
    inside: dict[str, Sent], orthanc: Orthanc, name: str, code: str
) -> None:
    view = ended(orthanc, inside[name].uid)
    assert (view["state"], view["code"]) == ("refused", code)
    found = objects(orthanc, jobs(view)[0])
    assert set(found) == {"SR"}
    assert code in text_of(found["SR"])
    assert count_of(orthanc, inside[name].uid) == SLICES


def test_uploads_that_the_gate_refuses_are_in_quarantine_and_no_longer_in_the_archive(
    inside: dict[str, Sent], stack: Stack, orthanc: Orthanc
) -> None:
    def reasons() -> dict[str, int]:
        told = json.loads(stack.radloop("quarantine", "list", "--json"))
        return dict(Counter(one["reason"] for one in told["records"] if one["source"] == "upload"))

    expected = {"transfer_syntax": SLICES, "uid": 3 * SLICES}
    assert until(lambda: reasons() == expected), reasons()
    for name in UPLOADED:
        query = {"StudyInstanceUID": inside[name].uid}
        assert until(lambda query=query: orthanc.find("studies", query) == [])


def test_report_on_two_names_is_filed_with_one_of_them(
    inside: dict[str, Sent], orthanc: Orthanc
) -> None:
    view = ended(orthanc, inside["two-names"].uid)
    told = text_of(objects(orthanc, jobs(view)[0])["SR"])
    assert ("FIRST" in told) != ("SECOND" in told)


def test_halves_of_two_patients_are_told_apart_and_each_refused_by_itself(
    inside: dict[str, Sent], orthanc: Orthanc
) -> None:
    ended(orthanc, inside["two-patients"].uid)
    for patient, other in (("PATIENT-A", "PATIENT-B"), ("PATIENT-B", "PATIENT-A")):
        query = {"StudyInstanceUID": inside["two-patients"].uid, "PatientID": patient}
        (study,) = orthanc.find("studies", query)
        view = orthanc.get_json(f"/radloop/studies/{study}")
        # Every other slice: 6 mm apart.
        assert (view["state"], view["code"]) == ("refused", "slice_increment")
        report = objects(orthanc, jobs(view)[0])["SR"]
        assert report.PatientID == patient
        assert other not in text_of(report)
        assert image_series(view)["instances"] == SLICES // 2


@pytest.mark.parametrize("name", WHOLE)
def test_missing_or_wrong_character_set_hinders_nothing(
    inside: dict[str, Sent], orthanc: Orthanc, phantom: Phantom, name: str
) -> None:
    view = ended(orthanc, inside[name].uid)
    assert view["state"] == "done", view
    assert_scored(orthanc, view, phantom)


def test_good_study_after_what_was_refused_inside_is_scored(
    inside: dict[str, Sent], stack: Stack, phantom: Phantom, tmp_path: Path
) -> None:
    assert_good_study_is_scored(stack, phantom, tmp_path / "good-after-inside")


# Archives.


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ct-0001.dcm", bytes(128 << 20))
    return path


def climbing(path: Path, image: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(image, "ct-0001.dcm")
        archive.write(image, "../../climbed.dcm")
    return path


def test_hostile_archives_are_refused_before_anything_is_unpacked_or_sent(
    stack: Stack, orthanc: Orthanc, few: Volume, phantom: Phantom, tmp_path: Path
) -> None:
    uid = write(few, tmp_path / "archived")
    image, deep = tmp_path / "archived" / "ct-0001.dcm", tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    hostile = {
        bomb(deep / "bomb.zip"): "zip_bomb",
        climbing(deep / "climbing.zip", image): "zip_unsafe reason=path",
    }
    for path, code in hostile.items():
        assert code in stack.radloop("send", str(path), "--aet", SENDER, code=3)
        assert code in stack.radloop("analyze", str(path), "--out", str(deep / "out"), code=3)
    assert orthanc.find("studies", {"StudyInstanceUID": uid}) == []
    assert not list(tmp_path.rglob("climbed.dcm"))
    assert not (deep / "out").exists()
    assert_good_study_is_scored(stack, phantom, tmp_path / "good-after-archives")


# The same input without a server.


@pytest.mark.parametrize(
    ("group", "name", "code", "reported"),
    [
        ("door", "empty", "slice_gap", True),
        ("door", "truncated", "slice_gap", True),
        ("door", "no-study-uid", "illegal_uid", False),
        ("inside", "no-pixels-once", "pixel_data_missing", True),
        ("inside", "two-patients", "mixed_patients", True),
        ("inside", "path-in-study-uid", "illegal_uid", False),
    ],
)
def test_command_line_refuses_the_same_input_with_a_code(
    stack: Stack,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    group: str,
    name: str,
    code: str,
    reported: bool,
) -> None:
    folder = request.getfixturevalue(group)[name].folder
    told = stack.radloop("analyze", str(folder), "--out", str(tmp_path), code=3)
    assert f"refused: {code}" in told
    names = {"findings.json", "calcium-sr.dcm"} if reported else {"findings.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_command_line_names_the_reason_where_the_gate_leaves_nothing(
    stack: Stack, door: dict[str, Sent], tmp_path: Path
) -> None:
    folder = door["foreign-syntax"].folder
    told = stack.radloop("analyze", str(folder), "--out", str(tmp_path / "out"), code=3)
    assert f"gate_refused files={SLICES} reason=transfer_syntax" in told
    assert not (tmp_path / "out").exists()


def test_command_line_scores_without_a_character_set(
    stack: Stack, inside: dict[str, Sent], phantom: Phantom, tmp_path: Path
) -> None:
    folder = inside["no-character-set"].folder
    stack.radloop("analyze", str(folder), "--out", str(tmp_path))
    report = pydicom.dcmread(tmp_path / "calcium-sr.dcm")
    assert any(
        value == pytest.approx(phantom.score, rel=1e-3) for value in numbers(report, "112058")
    )


def test_folder_without_any_image_is_refused(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "empty.dcm").touch()
    for words in (["analyze", "--out", str(tmp_path / "out")], ["send", "--aet", SENDER]):
        assert "no_dicom files=2" in stack.radloop(words[0], str(tmp_path), *words[1:], code=3)


def test_truncated_file_is_counted_and_its_series_refused_without_holding_up_the_rest(
    door: dict[str, Sent], orthanc: Orthanc
) -> None:
    sent = door["truncated"]
    refused = "1 file refused by the gate: length (1), not sent"
    assert f"{SLICES - 1} of {SLICES - 1} files stored; {refused}" in sent.said
    assert_refused_for_one_missing_slice(orthanc, sent.uid)
    count = orthanc.get_json("/statistics")["CountInstances"]
    with pytest.raises((InputError, UnavailableError), match=r"orthanc_refused|stow_"):
        orthanc.stow([(sent.folder / "ct-0009.dcm").read_bytes()])
    assert orthanc.get_json("/statistics")["CountInstances"] == count
