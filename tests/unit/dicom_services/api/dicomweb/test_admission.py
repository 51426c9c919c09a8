"""Objects that arrive: whose they are, what is refused before anything parses it."""

from __future__ import annotations

import io
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
)

from dicom_services.api.config import GatewayConfig
from dicom_services.api.dicomweb.admission import Admission, Identity, Refused
from dicom_services.api.dicomweb.description import with_description
from dicom_services.quarantine import Quarantine, digest_of_uid
from tests.dicom_files import ct_slice, deflate_bomb, part10, to_bytes

SR = "1.2.840.10008.5.1.4.1.1.88.33"
SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


def admission(home: Path) -> Admission:
    names = GatewayConfig.__dataclass_fields__
    told = dict.fromkeys(names, 0) | {"quarantine": home / "quarantine", "object_scale": 1.0}
    told |= {"quarantine_bytes": 1 << 30, "quarantine_records": 100}
    return Admission(GatewayConfig(**told))


def spooled(content: bytes):
    file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever asked closes it
    file.write(content)
    file.flush()
    return file


def judged(home: Path, content: bytes):
    with spooled(content) as file:
        return admission(home).judge(file)


def report(**more) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = SR, "1.2.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.4"
    ds.PatientID, ds.PatientName, ds.Modality = "P1", "Doe^Jane", "SR"
    ds.CodingSchemeIdentificationSequence = [Dataset()]
    ds.ReferencedPerformedProcedureStepSequence = [Dataset()]
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_sound_object_says_whose_it_is(tmp_path, syntax):
    slice_ = ct_slice(np.zeros((4, 4), np.int16))
    slice_.SpecificCharacterSet, slice_.PatientID = "ISO_IR 100", "Jörg 1"
    slice_.StudyDescription = "Thorax"
    found = judged(tmp_path, to_bytes(slice_, syntax))
    assert isinstance(found, Identity)
    assert (found.patient, found.description) == ("Jörg 1", "Thorax")
    assert (found.study, found.series) == (slice_.StudyInstanceUID, slice_.SeriesInstanceUID)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not_dicom"),
        (b"garbage", "not_dicom"),
        (bytes(128) + b"DICM", "truncated"),
        (b"MZ" + to_bytes(ct_slice(np.zeros((4, 4), np.int16)))[2:], "preamble"),
        (to_bytes(ct_slice(np.zeros((4, 4), np.int16)))[:-9], "length"),
        (deflate_bomb(40), "inflated_size"),
        (deflate_bomb(500), "inflated_size"),
    ],
)
def test_what_the_gate_refuses_is_kept_in_quarantine_with_its_reason(tmp_path, content, reason):
    found = judged(tmp_path, content)
    assert isinstance(found, Refused)
    assert found.reason == reason
    records, _ = Quarantine(tmp_path / "quarantine", 1 << 30, 100).records()
    assert [record.reason for record in records] == ([reason] if content else [])


@pytest.mark.parametrize("depth", [40, 300, 3000])
@pytest.mark.parametrize("undefined", [True, False])
def test_deep_nesting_is_refused_at_once(tmp_path, depth, undefined):
    body = b""
    for _ in range(depth):
        if undefined:
            sequence = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
            body = sequence + body + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        else:
            item = b"\xfe\xff\0\xe0" + len(body).to_bytes(4, "little") + body
            body = b"\x08\0\x15\x11SQ\0\0" + len(item).to_bytes(4, "little") + item
    begun = time.monotonic()
    found = judged(tmp_path, part10(body))
    assert isinstance(found, Refused)
    assert found.reason == "depth"
    assert time.monotonic() - begun < 2.0


def test_an_instance_that_stopped_a_reader_stays_out(tmp_path):
    content = to_bytes(ct_slice(np.zeros((4, 4), np.int16)))
    Quarantine(tmp_path / "quarantine", 1 << 30, 100).mark_poison(
        digest_of_uid(pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID)
    )
    found = judged(tmp_path, content)
    assert isinstance(found, Refused)
    assert (found.reason, bool(found.sop_instance)) == ("poison", True)


def rewritten(home: Path, content: bytes, description: str) -> bytes:
    with spooled(content) as file:
        identity = admission(home).judge(file)
        assert isinstance(identity, Identity)
        told = with_description(file, identity, description)
        pieces: list[bytes] = []

        async def gather():
            async for piece in told.pieces()():
                pieces.append(piece)

        coroutine = gather()
        with pytest.raises(StopIteration):
            coroutine.send(None)
        assert sum(map(len, pieces)) == told.length
        return b"".join(pieces)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("description", ["Thorax nativ", "odd", "Übersicht Thorax"])
@pytest.mark.parametrize("present", [{}, {"StudyDescription": ""}])
def test_a_report_without_a_description_gets_the_studys(tmp_path, syntax, description, present):
    ds = report(**present)
    before = to_bytes(ds, syntax)
    after = rewritten(tmp_path, before, description)
    read = pydicom.dcmread(io.BytesIO(after))
    assert read.StudyDescription == description
    del read.StudyDescription
    ds.pop("StudyDescription", None)
    assert read == ds


def test_a_segmentation_gets_it_and_its_pixels_stay(tmp_path):
    ds = ct_slice(np.arange(16, dtype=np.int16).reshape(4, 4))
    ds.SOPClassUID = SegmentationStorage
    after = rewritten(tmp_path, to_bytes(ds), "Thorax")
    read = pydicom.dcmread(io.BytesIO(after))
    assert (read.StudyDescription, read.PixelData) == ("Thorax", ds.PixelData)


@pytest.mark.parametrize(
    "content",
    [
        to_bytes(report(StudyDescription="Mine")),
        to_bytes(ct_slice(np.zeros((4, 4), np.int16))),
        to_bytes(report(), DeflatedExplicitVRLittleEndian),
    ],
)
def test_what_has_one_or_is_an_image_stays_as_it_is(tmp_path, content):
    assert rewritten(tmp_path, content, "Thorax") == content


def test_a_description_in_letters_that_an_object_does_not_have_is_left_out(tmp_path):
    ds = report()
    del ds.SpecificCharacterSet
    content = to_bytes(ds)
    assert rewritten(tmp_path, content, "Übersicht") == content
    ds.SpecificCharacterSet = "ISO_IR 100"
    assert (
        pydicom.dcmread(io.BytesIO(rewritten(tmp_path, to_bytes(ds), "Übersicht"))).StudyDescription
        == "Übersicht"
    )
    content = to_bytes(ds)
    assert rewritten(tmp_path, content, "胸部") == content


def test_many_threads_judge_at_once(tmp_path):
    content = to_bytes(ct_slice(np.zeros((64, 64), np.int16)))
    shared = admission(tmp_path)
    found = []

    def judge():
        with spooled(content) as file:
            found.append(shared.judge(file))

    threads = [threading.Thread(target=judge) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*found}) == 1
    assert isinstance(found[0], Identity)
