"""Sending by C-STORE, to a receiver that keeps the very bytes it was given."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, evt

from dicom_services.errors import InputError, UnavailableError
from dicom_services.send import Outgoing, Receiver, by_association, scan, send_path
from tests.hostile.build import image_file


def write(path: Path, kind: str = CTImageStorage, syntax: str = ExplicitVRLittleEndian) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.PatientID = "P1"
    dataset.save_as(path, enforce_file_format=True)
    return path


class Keeper:
    """Takes CT and MR under the title PACS, refuses MR as out of resources."""

    def __init__(self) -> None:
        self.received: dict[str, bytes] = {}
        self.drop_after = -1
        self.never: set[str] = set()
        self.comment = ""
        ours = AE("PACS")
        ours.require_called_aet = True
        ours.require_calling_aet = ["SCANNER"]
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless):
            ours.add_supported_context(CTImageStorage, syntax)
            ours.add_supported_context(MRImageStorage, syntax)
        handlers = [(evt.EVT_C_STORE, self.store)]
        self.server = ours.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    def store(self, event: evt.Event) -> int | Dataset:
        if self.comment:
            answer = Dataset()
            answer.Status, answer.ErrorComment = 0xC000, self.comment
            return answer
        if len(self.received) == self.drop_after:
            self.drop_after = -1
            event.assoc.abort()
            return 0xC000
        if str(event.request.AffectedSOPInstanceUID) in self.never:
            event.assoc.abort()
            return 0xC000
        if event.request.AffectedSOPClassUID == MRImageStorage:
            return 0xA700
        self.received[str(event.request.AffectedSOPInstanceUID)] = event.encoded_dataset()
        return 0x0000


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    made = Keeper()
    yield made
    made.server.shutdown()
    made.server.server_close()


def to(keeper: Keeper, called: str = "PACS", calling: str = "SCANNER") -> Receiver:
    return Receiver("127.0.0.1", keeper.port, called, calling)


def test_every_file_arrives_in_its_own_bytes_and_syntax(keeper, tmp_path):
    write(tmp_path / "a.dcm")
    write(tmp_path / "deep" / "b", syntax=ImplicitVRLittleEndian)
    write(tmp_path / "c.dcm", syntax=JPEG2000Lossless)
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty").touch()
    steps: list[tuple[int, int]] = []
    sent = send_path(tmp_path, to(keeper), lambda *step: steps.append(step))
    assert (sent.files, sent.stored, sent.skipped, sent.complete) == (3, 3, 2, True)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    for path in (tmp_path / "a.dcm", tmp_path / "deep" / "b", tmp_path / "c.dcm"):
        uid = str(pydicom.dcmread(path).SOPInstanceUID)
        assert path.read_bytes().endswith(keeper.received[uid][-100:])


def test_refused_files_are_counted_by_status_and_the_rest_still_sent(keeper, tmp_path):
    write(tmp_path / "1-mr.dcm", MRImageStorage)
    write(tmp_path / "2-ct.dcm")
    sent = send_path(tmp_path, to(keeper))
    assert (sent.stored, dict(sent.statuses), sent.complete) == (
        1,
        {"0xa700": 1, "0x0000": 1},
        False,
    )
    assert "1 of 2 files stored; 1 x refused, out of resources (0xa700)" in sent.sentence()


def test_kind_that_the_receiver_does_not_take_is_counted(keeper, tmp_path):
    write(tmp_path / "a.dcm", "1.2.840.10008.5.1.4.1.1.66.4")
    write(tmp_path / "b.dcm")
    sent = send_path(tmp_path, to(keeper))
    assert dict(sent.statuses) == {"kind_not_accepted": 1, "0x0000": 1}


def test_broken_association_is_opened_again_and_nothing_is_lost(keeper, tmp_path):
    for number in range(6):
        write(tmp_path / f"{number}.dcm")
    keeper.drop_after = 3
    sent = send_path(tmp_path, to(keeper))
    assert (sent.stored, len(keeper.received)) == (6, 6)


def test_files_at_which_the_receiver_always_breaks_off_hold_up_no_other(keeper, tmp_path):
    paths = [write(tmp_path / f"{number}.dcm") for number in range(7)]
    for number in (0, 3, 4):
        keeper.never.add(str(pydicom.dcmread(paths[number]).SOPInstanceUID))
    steps: list[tuple[int, int]] = []
    sent = send_path(tmp_path, to(keeper), lambda *step: steps.append(step))
    assert (sent.stored, len(keeper.received)) == (4, 4)
    assert "4 of 7 files stored; 3 x receiver broke off" in sent.sentence()
    assert steps == [(number + 1, 7) for number in range(7)]


def test_receiver_that_takes_no_kind_at_all_is_there_and_all_files_are_counted(keeper, tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.dcm", syntax=JPEGLSLossless)
    sent = send_path(tmp_path, to(keeper))
    assert (sent.stored, dict(sent.statuses)) == (0, {"kind_not_accepted": 3})


@pytest.mark.parametrize(
    ("called", "calling", "code"),
    [
        ("PACS", "STRANGER", "send_unknown_sender"),
        ("ELSE", "SCANNER", "send_unknown_receiver"),
    ],
)
def test_rejected_association_says_which_title_is_wrong(keeper, tmp_path, called, calling, code):
    write(tmp_path / "a.dcm")
    with pytest.raises(InputError) as caught:
        send_path(tmp_path, to(keeper, called, calling))
    assert caught.value.code == code


# pynetdicom forgets to close the socket of a connection that never came about.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
def test_receiver_that_is_not_there_is_unavailable(tmp_path):
    write(tmp_path / "a.dcm")
    with pytest.raises(UnavailableError, match="send_unreachable"):
        send_path(tmp_path, Receiver("127.0.0.1", 1, "PACS", "SCANNER"))


def test_archive_is_sent_like_a_folder(keeper, tmp_path):
    one = write(tmp_path / "a.dcm")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(one, "x/a.dcm")
        archive.writestr("x/readme", "not DICOM")
    sent = send_path(tmp_path / "a.zip", to(keeper))
    assert (sent.stored, sent.skipped) == (1, 1)


def test_nothing_to_send_is_an_error(keeper, tmp_path):
    with pytest.raises(InputError, match="not_found"):
        send_path(tmp_path / "absent", to(keeper))
    (tmp_path / "notes.txt").write_text("not DICOM")
    with pytest.raises(InputError, match="no_dicom files=1"):
        send_path(tmp_path, to(keeper))


def test_more_than_128_kinds_need_a_second_association():
    outgoing = [Outgoing(Path(str(n)), (f"1.2.{n % 200}", "1.2")) for n in range(400)]
    groups = list(by_association(outgoing))
    assert [len({one.context for one in group}) for group in groups] == [128, 72]
    assert sorted(one.path for group in groups for one in group) == sorted(
        one.path for one in outgoing
    )


def test_odd_files_are_sent_or_left_out_and_break_nothing(shared_data):
    outgoing, skipped, refused = scan(shared_data / "odd-dicom")
    assert len(outgoing) > 100
    assert skipped > 0
    assert 0 < refused.total() < len(outgoing)


def test_what_the_gate_refuses_is_counted_by_reason_and_never_sent(keeper, tmp_path):
    whole = write(tmp_path / "1-whole.dcm").read_bytes()
    for name in ("2", "3"):
        (tmp_path / name).write_bytes(whole[:-3])
    (tmp_path / "4").write_bytes(b"MZ" + whole[2:])
    (tmp_path / "notes.txt").write_text("not DICOM")
    sent = send_path(tmp_path, to(keeper))
    assert (sent.files, sent.stored, sent.skipped, sent.complete) == (1, 1, 1, False)
    assert sent.document()["refused"] == {"length": 2, "preamble": 1}
    assert "; 3 files refused by the gate: length (2), preamble (1), not sent" in sent.sentence()
    assert len(keeper.received) == 1


def test_where_nothing_passes_the_gate_nobody_is_called(tmp_path):
    whole = write(tmp_path / "a.dcm")
    whole.write_bytes(whole.read_bytes()[:-3])
    sent = send_path(tmp_path, Receiver("127.0.0.1", 1, "PACS", "SCANNER"))
    assert (sent.files, sent.complete, dict(sent.refused)) == (0, False, {"length": 1})


def test_media_index_is_left_out_and_an_image_without_study_refused(keeper, tmp_path):
    for name, kind in (("DICOMDIR", MediaStorageDirectoryStorage), ("b", CTImageStorage)):
        place = write(tmp_path / name, kind)
        dataset = pydicom.dcmread(place)
        del dataset.StudyInstanceUID
        dataset.save_as(place)
    sent = send_path(tmp_path, to(keeper))
    assert (sent.skipped, dict(sent.refused)) == (1, {"uid_missing": 1})


@pytest.mark.parametrize(
    ("comment", "reasons"),
    [
        ("radloop gate: depth", {"depth": 1}),
        ("radloop gate: DOE^JANE", {}),
        ("radloop gate: jane_doe", {}),
        ("out of cheese", {}),
    ],
)
def test_reason_of_the_receivers_gate_is_told_and_no_other_text(keeper, tmp_path, comment, reasons):
    write(tmp_path / "a.dcm")
    keeper.comment = comment
    sent = send_path(tmp_path, to(keeper))
    assert (dict(sent.statuses), dict(sent.reasons)) == ({"0xc000": 1}, reasons)
    told = "; of the receiver: 1 file refused by the gate: depth (1)"
    assert (told in sent.sentence()) == bool(reasons)
    assert "ane" not in sent.sentence()


def test_a_file_whose_header_names_no_uid_is_left_out_and_holds_up_no_other(tmp_path):
    sound = image_file()
    broken = sound.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.1\xb008.5.1.4.1.1.2\0", 1)
    (tmp_path / "a.dcm").write_bytes(broken)
    (tmp_path / "b.dcm").write_bytes(sound)
    assert [one.path.name for one in scan(tmp_path)[0]] == ["b.dcm"]
