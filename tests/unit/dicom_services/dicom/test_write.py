"""What all results of a run have in common: patient, study, origin, identifiers, bytes."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset

from dicom_services.dicom.key_objects import key_slices
from dicom_services.dicom.read import read_headers, read_series
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.uids import legal_uid
from dicom_services.dicom.write import encode, encode_refusal, to_bytes
from dicom_services.domain.findings import Finding, Lesion, LesionSlice, Mask, Measurement
from dicom_services.errors import CorruptError
from tests import sources
from tests.validators import content, dciodvfy_errors, read_back, segment_voxels


def written(source: SourceSeries | None = None, **fields: Any) -> list[Dataset]:
    results = encode(sources.findings(), source or sources.source(), sources.provenance(**fields))
    return [read_back(to_bytes(each)) for each in results]


def refused(source: SourceSeries) -> tuple[Dataset, ...]:
    return encode_refusal("no_heart", {}, source, sources.provenance())


def test_a_run_gives_segmentation_report_and_key_objects_each_in_its_own_series() -> None:
    results = written()
    assert [each.Modality for each in results] == ["SEG", "SR", "KO"]
    header = sources.source().header
    assert {each.StudyInstanceUID for each in results} == {header.StudyInstanceUID}
    series = {each.SeriesInstanceUID for each in results} | {header.SeriesInstanceUID}
    assert len(series) == 4
    assert [each.SeriesDescription for each in results] == [
        "radloop calcium segmentation",
        "radloop calcium report",
        "radloop calcium key images",
    ]
    assert all(legal_uid(each.SOPInstanceUID) for each in results)


def test_references_point_only_to_sources_and_earlier_results() -> None:
    known = {each.sop_instance_uid for each in sources.source().instances}
    for each in written():
        named = {
            element.value
            for element in each.iterall()
            if element.keyword == "ReferencedSOPInstanceUID"
        }
        assert named <= known
        known.add(each.SOPInstanceUID)


def test_the_same_run_gives_the_same_bytes_on_another_day_and_in_another_process(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, hashlib\n"
        "from tests import sources\n"
        "from dicom_services.dicom.write import *\n"
        "run = encode(sources.findings(), sources.source(), sources.provenance())\n"
        "said = encode_refusal('no_heart', {'count': 2}, sources.source(), sources.provenance())\n"
        "print([hashlib.sha256(to_bytes(one)).hexdigest() for one in run + said])\n"
    )
    command = [sys.executable, "-c", code]
    one, other = (
        subprocess.run(
            command,
            env={"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    )
    assert one == other
    assert one.count("'") == 8


@pytest.mark.parametrize("change", [{"job": "ff" * 20}, {"version": "1.0.1"}])
def test_another_job_or_version_gives_other_instances(change: dict[str, str]) -> None:
    one = {each.SOPInstanceUID for each in written()}
    other = {each.SOPInstanceUID for each in written(**change)}
    assert not one & other


def test_every_date_is_the_start_of_the_analysis() -> None:
    for each in written():
        assert (each.ContentDate, each.ContentTime) == ("20240501", "123015.000250")
        assert (each.SeriesDate, each.SeriesTime) == ("20240501", "123015.000250")
        assert each.InstanceCreationDate == "20240501"
        equipment = each.ContributingEquipmentSequence[0]
        assert equipment.ContributionDateTime == "20240501123015.000250+0200"


def test_a_start_without_a_time_zone_is_no_time() -> None:
    with pytest.raises(CorruptError) as raised:
        sources.provenance(started=datetime(2024, 5, 1))  # noqa: DTZ001
    assert raised.value.code == "time_without_zone"


def test_the_algorithm_is_contributing_equipment_with_a_uid_of_its_own() -> None:
    retrained = replace(sources.provenance().card, sha256="ef" * 32)
    uids = []
    for provenance in ({}, {"card": retrained}):
        for each in written(**provenance):
            (equipment,) = each.ContributingEquipmentSequence
            purpose = equipment.PurposeOfReferenceCodeSequence[0]
            assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("Newcode1", "99IHE")
            assert purpose.CodeMeaning == "Processing Algorithm"
            assert equipment.Manufacturer == "radloop"
            assert equipment.ManufacturerModelName == "calcium-rule"
            assert list(equipment.SoftwareVersions) == [
                "calcium 1.0.0",
                "radloop 0.1.0",
                "calcium-rule 1.0.0",
            ]
            assert "Research use only" in equipment.ContributionDescription
            assert "cd" * 32 in equipment.ContributionDescription
            uids.append(equipment.DeviceUID)
    assert len(set(uids)) == 2
    assert uids[:3] == [uids[0]] * 3


def test_every_result_says_it_is_research() -> None:
    assert {each.ContentQualification for each in written()} == {"RESEARCH"}


def test_patient_and_study_are_repeated() -> None:
    names = (
        *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
        *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
        *("StudyDescription", "SpecificCharacterSet"),
    )
    header = sources.source().header
    for each in written():
        assert [each[name].value for name in names] == [header[name].value for name in names]


NAMES = {
    "ISO_IR 100": ("ISO_IR 100", "Buc^Jérôme"),
    "ISO_IR 192": ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    "ISO 2022 IR 87": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "ISO 2022 IR 149": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "GB18030": ("GB18030", "Wang^XiaoDong=王^小东"),
    "ISO_IR 144": ("ISO_IR 144", "Люкceмбypг"),
    "ISO_IR 126": ("ISO_IR 126", "Διονυσιος"),
}


def ct_file(name: str, sets: str | list[str] | None, **attributes: Any) -> bytes:
    """One slice of `sources.source()` as a file."""
    dataset = Dataset()
    dataset.update(sources.source().header)
    del dataset.SpecificCharacterSet
    if sets is not None:
        dataset.SpecificCharacterSet = sets
    dataset.PatientName = name
    dataset.ImagePositionPatient = [0, 0, 0]
    dataset.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.3.1"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _name_bytes(file: bytes) -> bytes:
    start = file.index(b"\x10\x00\x10\x00PN") + 8
    return file[start : start + int.from_bytes(file[start - 2 : start], "little")]


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_keeps_its_character_set_and_its_bytes(kind: str) -> None:
    sets, name = NAMES[kind]
    file = ct_file(name, sets)
    (result,) = refused(read_headers([file]))
    assert _name_bytes(to_bytes(result)) == _name_bytes(file)
    assert str(read_back(to_bytes(result)).PatientName) == name


@pytest.mark.parametrize("sets", [None, ""])
def test_a_name_beyond_ascii_without_a_character_set_keeps_its_bytes(sets: str | None) -> None:
    file = ct_file("Buc^J?r?me", sets).replace(b"Buc^J?r?me", "Buc^Jérôme".encode("latin-1"))
    (result,) = refused(read_headers([file]))
    assert _name_bytes(to_bytes(result)) == _name_bytes(file)
    assert read_back(to_bytes(result)).SpecificCharacterSet == "ISO_IR 100"


def test_an_empty_character_set_is_left_out() -> None:
    for each in written(sources.source(SpecificCharacterSet="")):
        assert "SpecificCharacterSet" not in each


def test_a_character_set_nobody_knows_becomes_utf_8() -> None:
    for each in written(sources.source(SpecificCharacterSet="ISO_IR 999")):
        assert each.SpecificCharacterSet == "ISO_IR 192"
        assert each.PatientName == "Doe^Jane"


def test_words_of_ours_beyond_ascii_turn_the_object_to_utf_8() -> None:
    plain = sources.findings()[3]
    assert isinstance(plain, Measurement)
    sentence = "Score × spacing ÷ 3 mm"
    findings = (replace(plain, derivation=sentence),)
    (result,) = encode(findings, sources.source(PatientName="Buc^Jérôme"), sources.provenance())
    dataset = read_back(to_bytes(result))
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert dataset.PatientName == "Buc^Jérôme"
    assert content(dataset, "121050")[0].TextValue == sentence


def broken(**raw: str) -> SourceSeries:
    """A source whose header holds values as an anonymiser left them."""
    source = sources.source()
    for keyword, value in raw.items():
        source.header[keyword]._value = value
    return source


ODD = {
    "empty dates": broken(PatientBirthDate="", StudyDate="", StudyTime=""),
    "zero dates": broken(PatientBirthDate="00000000", StudyDate="00010101", StudyTime="000000"),
    "no dates": sources.source(PatientBirthDate=None, StudyDate=None, StudyTime=None),
    "words for dates": broken(PatientBirthDate="REMOVED", StudyDate="2024-05-01", StudyTime="10:1"),
    "no study id": sources.source(StudyID=None, AccessionNumber=None),
    "no patient": sources.source(PatientName=None, PatientID=None, PatientSex=None),
    "sex of a word": broken(PatientSex="ANON"),
    "long texts": broken(PatientID="9" * 80, StudyID="X" * 40, AccessionNumber="Y" * 40),
    "bell in texts": broken(StudyDescription="a\x07b", PatientName="Doe\x07^Jane"),
    "no referrer": sources.source(ReferringPhysicianName=None, StudyDescription=None),
    "leading zeros": broken(StudyInstanceUID="1.2.0113619.07", SeriesInstanceUID="1.2.04"),
    "no frame of reference": sources.source(FrameOfReferenceUID=None),
    "empty frame of reference": broken(FrameOfReferenceUID=""),
    "no modality": sources.source(Modality=None),
    "no thickness": sources.source(SliceThickness=None),
    "zero thickness": sources.source(SliceThickness="0"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.filterwarnings("ignore:The value length")
def test_what_anonymisers_leave_does_not_keep_a_result_from_being_written(name: str) -> None:
    source = ODD[name]
    for each in (*encode(sources.findings(), source, sources.provenance()), *refused(source)):
        dataset = read_back(to_bytes(each))
        assert dataset.StudyInstanceUID == source.header.StudyInstanceUID
        assert (dataset.PatientID or "") == (source.header.get("PatientID") or "")


@pytest.mark.parametrize(
    "name", [name for name in ODD if name not in ("long texts", "leading zeros")]
)
def test_what_is_written_of_an_odd_source_is_legal(name: str, tmp_path: Path) -> None:
    for each in encode(sources.findings(), ODD[name], sources.provenance()):
        assert dciodvfy_errors(to_bytes(each), tmp_path) == []


@pytest.mark.parametrize("name", ODD)
def test_no_warning_quotes_an_odd_source(name: str) -> None:
    # Any warning is an error here.
    for each in (
        *encode(sources.findings(), ODD[name], sources.provenance()),
        *refused(ODD[name]),
    ):
        to_bytes(each)


def test_placeholder_dates_become_empty_and_real_ones_stay() -> None:
    for each in written(ODD["zero dates"]):
        assert (each.StudyDate, each.PatientBirthDate, each.StudyTime) == ("", "", "000000")


def test_a_study_without_a_uid_gets_no_refusal_report() -> None:
    assert refused(broken(StudyInstanceUID="")) == ()
    assert refused(replace(sources.source(), instances=())) == ()
    assert refused(broken(PatientID="P\x0017")) == ()


def test_a_refusal_names_only_images_that_can_be_named() -> None:
    good = sources.source()
    nameless = replace(good.instances[0], sop_instance_uid="")
    (result,) = refused(replace(good, instances=(nameless, good.instances[1], good.instances[1])))
    named = content(read_back(to_bytes(result)), "260753009")
    assert len(named) == 1


def test_a_refusal_needs_little_of_a_header() -> None:
    header = Dataset()
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3", "1.2.4"
    (result,) = refused(SourceSeries(header, sources.source().instances[:1]))
    assert read_back(to_bytes(result)).StudyInstanceUID == "1.2.3"


def test_key_objects_are_of_interest_and_name_the_slices_with_lesions(tmp_path: Path) -> None:
    key = written()[2]
    assert key.ConceptNameCodeSequence[0].CodeValue == "113000"
    images = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in key.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    source = sources.source().instances
    assert images == [source[k].sop_instance_uid for k in (4, 5, 8)]
    assert dciodvfy_errors(to_bytes(key), tmp_path) == []


def test_of_many_slices_the_ten_with_the_highest_single_lesions_are_key() -> None:
    def lesion(score: float) -> Lesion:
        parts = tuple(
            LesionSlice(k, 1.0, 1.0, 1.0, 200.0, 2, score if k % 2 else 1.0) for k in range(40)
        )
        return Lesion("L1", "", sources.LAD, (0.0, 0.0, 0.0), 1.0, 200.0, score, parts)

    mask = sources.findings()[0]
    assert isinstance(mask, Mask)
    # Odd slices score 5 each: the ten first of them.
    assert key_slices([replace(mask, lesions=(lesion(5.0),))]) == tuple(range(1, 21, 2))


def test_without_lesions_there_are_no_key_objects() -> None:
    results = encode(sources.nothing(), sources.source(), sources.provenance())
    assert [each.Modality for each in results] == ["SR"]


def test_a_real_scan_read_from_its_files_gets_its_results(
    shared_data: Path, tmp_path: Path
) -> None:
    files = sorted((shared_data / "chest-ct").rglob("*.dcm"))
    first = pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID
    series = [
        path
        for path in files
        if pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID == first
    ]
    read = read_series(series)
    grid = read.volume.geometry
    bone = read.volume.values > 300
    mask = Mask(sources.CALCIFICATION, sources.ABNORMAL, "Above 300 HU", bone, grid)
    findings: tuple[Finding, ...] = (mask, *sources.findings(grid)[2:])
    results = encode(findings, read.source, sources.provenance())
    files_written = [to_bytes(each) for each in results]
    assert [dciodvfy_errors(each, tmp_path) for each in files_written] == [[], []]
    assert np.array_equal(segment_voxels(files_written[0], grid)[1], bone)


@pytest.mark.parametrize("calcium", [True, False])
def test_what_is_set_aside_is_a_segment_and_nothing_else(calcium: bool, tmp_path: Path) -> None:
    found = sources.with_set_aside(calcium=calcium)
    plain = sources.findings() if calcium else found[:-1]
    results = encode(found, sources.source(), sources.provenance())
    before = encode(plain, sources.source(), sources.provenance())
    assert [each.Modality for each in results] == [each.Modality for each in before]
    shapes, report, *key = results
    assert [each.SegmentLabel for each in shapes.SegmentSequence][-2:] == ["Heart", "Set aside"]
    assert dciodvfy_errors(to_bytes(shapes), tmp_path) == []
    # Nothing of it in report and key images: they are the same bytes as without.
    assert to_bytes(report) == to_bytes(before[1])
    assert [to_bytes(each) for each in key] == [to_bytes(each) for each in before[2:]]
    grid = sources.geometry()
    voxels = segment_voxels(to_bytes(shapes), grid)
    mask = found[-1]
    assert isinstance(mask, Mask)
    assert np.array_equal(voxels[len(voxels)], mask.values)
