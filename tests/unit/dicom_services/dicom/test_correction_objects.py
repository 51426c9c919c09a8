"""What a reader says leaves as DICOM that other makers read, and says exactly that."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_services.dicom.assessed_result import (
    AlgorithmScores,
    AssessedResult,
    ObjectReference,
)
from dicom_services.dicom.correction_objects import correction_objects, correction_objects_limited
from dicom_services.dicom.counted_mask import CountedMask, score_mask, score_mask_limited
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.dicom.indexed_series import IndexedInstance, indexed_instances, indexed_series
from dicom_services.dicom.reading import Reading
from dicom_services.dicom.write import to_bytes
from dicom_services.domain.agatston import MASS_FACTOR
from dicom_services.domain.assessment import (
    Anchor,
    Assessment,
    BrowserScores,
    CalciumEdit,
    LesionVerdict,
    VesselRuns,
)
from dicom_services.domain.volume import Volume
from dicom_services.errors import InputError
from tests.phantoms import Box, grid, volume
from tests.validators import (
    code_value,
    content,
    dciodvfy_errors,
    has_pixelmed,
    pixelmed_errors,
    read_back,
    segment_voxels,
)

BOXES = [
    Box((2, 10, 10), (2, 3, 4), 250),
    Box((3, 30, 20), (1, 4, 4), 450),
    Box((5, 5, 40), (2, 5, 5), 900),
]
RECEIVED = datetime(2026, 3, 14, 9, 26, 53, 589000, UTC)
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
RESULT = AssessedResult(
    job="3f786850e387550fdab836ed7e6dc881de23001b",
    pipeline="calcium",
    version="1.1.0",
    model="calcium-rule",
    model_version="1.1.0",
    report=ObjectReference(SR_CLASS, "2.25.11", "2.25.12"),
    segmentation=ObjectReference(SEG_CLASS, "2.25.13", "2.25.14"),
    scores=AlgorithmScores(130.0, 99.5, 99.5, 88.0, 12.5, 3),
)


class Case:
    """A phantom on disk, its index as Orthanc gives it, and runs of its bright voxels."""

    def __init__(self, folder: Path, ct: Volume) -> None:
        self.ct = ct
        paths = write_ct_series(ct, folder, seed="corrections")
        self.files = [path.read_bytes() for path in paths]
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
        self.uids = [str(header.SOPInstanceUID) for header in headers]
        self.index: tuple[IndexedInstance, ...] = indexed_instances(
            [
                {
                    "ID": str(n),
                    "MainDicomTags": {
                        "SOPInstanceUID": str(header.SOPInstanceUID),
                        "InstanceNumber": str(header.InstanceNumber),
                        "ImagePositionPatient": "\\".join(map(str, header.ImagePositionPatient)),
                        "ImageOrientationPatient": "\\".join(
                            map(str, header.ImageOrientationPatient)
                        ),
                    },
                }
                for n, header in enumerate(headers)
            ]
        )

    def runs(self, mask: NDArray[np.bool_], vessel: str) -> list[VesselRuns]:
        found = []
        for k in np.flatnonzero(mask.any(axis=(1, 2))):
            edges = np.flatnonzero(np.diff(np.concatenate(([0], mask[k].ravel(), [0]))))
            starts, ends = edges[::2], edges[1::2]
            pairs = np.stack([starts, ends - starts], axis=1).ravel()
            found.append(VesselRuns(self.uids[k], vessel, tuple(pairs.tolist())))  # type: ignore[arg-type]
        return found


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    ct = volume(BOXES, grid((8, 48, 56), (3.0, 0.5, 0.5)))
    return Case(tmp_path_factory.mktemp("ct"), ct)


def part_of(ct: Volume, number: int) -> NDArray[np.bool_]:
    alone = volume([BOXES[number]], ct.geometry)
    found: NDArray[np.bool_] = alone.values >= 130
    return found


def lesion(name: str, case: Case, number: int, **fields: Any) -> LesionVerdict:
    k, row, column = BOXES[number].at
    plain = LesionVerdict(
        id=name,
        tracking_uid=f"2.25.99{number}",
        verdict="accept",
        counted=True,
        vessel="LAD",
        reason="",
        note="",
        anchor=Anchor(case.uids[k], row, column),
    )
    return replace(plain, **fields)


def reading_of(case: Case, **fields: Any) -> Reading:
    mask = tuple(
        case.runs(part_of(case.ct, 0), "LAD") + case.runs(part_of(case.ct, 1), "unassigned")
    )
    lesions = (
        lesion("L1", case, 0, verdict="modify"),
        lesion("R1", case, 1, tracking_uid="", vessel="unassigned", reason="missed", note="Ostium"),
        lesion("L3", case, 2, verdict="reject", counted=False, vessel="unassigned", reason="bone"),
    )
    edit = CalciumEdit(130.0, lesions, mask, BrowserScores(0, 0, 0, None, 2))
    said = Assessment(
        id="0b8f5a34-7f9e-4f4e-9d0a-0f3f4c1b2a10",
        made_at="2026-03-14T10:26:53.589+01:00",
        job=RESULT.job,
        report_uid="2.25.11",
        source_series="1.2",
        verdict="modify",
        reason="",
        note="Sternum out.\nLAD assigned.",
        base="",
        calcium=edit,
    )
    said = replace(said, **fields)
    scored: dict[str, Any] = {"scores": None, "lesions": []}
    if said.calcium is not None:
        anchors = {each.id: each.anchor for each in said.calcium.lesions if each.counted}
        counted = CountedMask(said.calcium.mask, anchors, 130.0, mass_factor=MASS_FACTOR)
        scored = score_mask(case.files, case.index, counted)
    return Reading(
        said, "Dr. Ada Łukasiewicz", RECEIVED, RESULT, scored["scores"], scored["lesions"], "0.1.0"
    )


def objects(case: Case, **fields: Any) -> dict[str, Dataset]:
    made = correction_objects(case.files[0], case.index, reading_of(case, **fields))
    return {str(each.Modality): each for each in made}


def texts(report: Dataset, code: str) -> list[str]:
    return [str(each.TextValue) for each in content(report, code)]


def test_the_grid_from_the_index_is_the_one_of_the_whole_series(case: Case) -> None:
    series = indexed_series(case.files[3], tuple(reversed(case.index)))
    assert series.geometry.shape == case.ct.geometry.shape
    assert np.allclose(series.geometry.affine, case.ct.geometry.affine, atol=1e-4)
    assert [each.sop_instance_uid for each in series.source.instances] == case.uids
    assert series.k_of == {uid: k for k, uid in enumerate(case.uids)}


def test_the_reader_s_mask_is_scored_from_its_slices(case: Case) -> None:
    scores = reading_of(case).scores
    assert scores is not None
    # 3 x 4 px of 0.25 mm2 in two slices at 250 HU, and 4 x 4 px in one at 450 HU.
    assert scores["agatston"] == pytest.approx(2 * 3.0 * 2 + 4.0 * 4)
    assert scores["lesions"] == 2
    assert scores["vessels"]["LAD"]["agatston"] == pytest.approx(12.0)
    assert scores["vessels"]["unassigned"]["agatston"] == pytest.approx(16.0)
    assert scores["cac_drs"]["value"] == "A1"


def test_the_limited_child_gives_the_same_numbers(case: Case) -> None:
    edit = reading_of(case).assessment.calcium
    assert edit is not None
    counted = CountedMask(edit.mask, {}, 130.0, mass_factor=MASS_FACTOR)
    limited = score_mask_limited(case.files, case.index, counted)
    assert limited == json.loads(json.dumps(score_mask(case.files, case.index, counted)))


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        (lambda case: VesselRuns(case.uids[0], "LAD", (0, 2)), "mask_below_threshold"),
        (lambda case: VesselRuns(case.uids[0], "LAD", (48 * 56 - 1, 2)), "mask_outside"),
        (lambda case: VesselRuns("1.2.3", "LAD", (0, 2)), "mask_image_unknown"),
    ],
)
def test_a_mask_that_does_not_fit_the_images_is_refused(case: Case, runs: Any, code: str) -> None:
    with pytest.raises(InputError, match=code):
        score_mask_limited(case.files, case.index, CountedMask((runs(case),), {}, 130.0))


def test_an_anchor_outside_the_image_is_refused(case: Case) -> None:
    anchors = {"L1": Anchor(case.uids[0], 48, 0)}
    with pytest.raises(InputError, match="anchor_outside"):
        score_mask(case.files, case.index, CountedMask((), anchors, 130.0))


def test_the_segmentation_reads_back_voxel_by_voxel(case: Case, tmp_path: Path) -> None:
    seg = objects(case)["SEG"]
    voxels = segment_voxels(to_bytes(seg), case.ct.geometry)
    assert np.array_equal(voxels[1], part_of(case.ct, 0))
    assert np.array_equal(voxels[2], part_of(case.ct, 1))
    path = tmp_path / "seg.dcm"
    path.write_bytes(to_bytes(seg))
    read = hd.seg.segread(path)
    for number, mask in ((1, part_of(case.ct, 0)), (2, part_of(case.ct, 1))):
        whole = read.get_pixels_by_source_instance(
            source_sop_instance_uids=[
                uid for k, uid in enumerate(case.uids) if part_of(case.ct, number - 1)[k].any()
            ],
            segment_numbers=[number],
        )[..., 0]
        used = mask.any(axis=(1, 2))
        assert np.array_equal(whole.astype(bool), mask[used])


def test_the_segmentation_names_vessel_reader_and_how_it_was_made(case: Case) -> None:
    seg = objects(case)["SEG"]
    labels = [str(each.SegmentLabel) for each in seg.SegmentSequence]
    assert labels == ["Calcium LAD (reader)", "Calcium not assigned (reader)"]
    assert {str(each.SegmentAlgorithmType) for each in seg.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert str(seg.ContentCreatorName) == "Dr. Ada Łukasiewicz"
    region = seg.SegmentSequence[0].AnatomicRegionSequence[0]
    assert region.CodeValue == "59438005"
    assert seg.SegmentationType == "BINARY"


def test_both_objects_are_valid_dicom(case: Case, tmp_path: Path) -> None:
    for modality, made in objects(case).items():
        assert dciodvfy_errors(to_bytes(made), tmp_path) == [], modality


@pytest.mark.skipif(not has_pixelmed(), reason="libpixelmed-java is not installed")
def test_the_assessment_follows_its_template(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(to_bytes(objects(case)["SR"]))
    assert pixelmed_errors(path) == []


def test_the_assessment_says_who_judged_what_and_how(case: Case) -> None:
    report = read_back(to_bytes(objects(case)["SR"]))
    (person,) = content(report, "121008")
    assert str(person.PersonName) == "Dr. Ada Łukasiewicz"
    verdicts = [code_value(each) for each in content(report, "verdict")]
    assert sorted(verdicts) == ["accepted", "modified", "modified", "rejected"]
    reasons = [code_value(each) for each in content(report, "verdict_reason")]
    assert sorted(reasons) == ["bone", "missed"]
    assert [code_value(each) for each in content(report, "verdict_meant")] == ["272673000"]
    assert texts(report, "121106") == ["Ostium", "Sternum out.", "LAD assigned."]
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "PredecessorDocumentsSequence" not in report


def test_the_assessment_refers_to_the_result_and_the_images(case: Case) -> None:
    made = objects(case)
    report = made["SR"]
    (result,) = content(report, "assessed_result")
    assert result.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.11"
    (seg,) = content(report, "reader_seg")
    assert seg.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == made["SEG"].SOPInstanceUID
    evidence = {
        str(each.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        for each in one.ReferencedSOPSequence
    }
    # Some writers put what was not requested elsewhere; nothing of it may be missing.
    for study in report.get("PertinentOtherEvidenceSequence") or ():
        for one in study.ReferencedSeriesSequence:
            evidence |= {str(each.ReferencedSOPInstanceUID) for each in one.ReferencedSOPSequence}
    assert {*case.uids, "2.25.11", "2.25.13", str(made["SEG"].SOPInstanceUID)} <= evidence


def test_the_reader_s_score_stands_beside_the_algorithm_s_and_is_named(case: Case) -> None:
    report = objects(case)["SR"]
    said = {}
    for number in content(report, "112058"):
        words = content(number, "121050")
        if words:
            value = float(number.MeasuredValueSequence[0].NumericValue)
            said[str(words[0].TextValue)] = value
    plain = "Agatston score, plain, not corrected for slice spacing"
    assert said[f"Reader's {plain}"] == pytest.approx(28.0)
    assert said[f"Algorithm's {plain}"] == pytest.approx(99.5)


def test_lesions_keep_the_tracking_uid_of_the_algorithm(case: Case) -> None:
    report = objects(case)["SR"]
    tracked = {str(each.UID) for each in content(report, "112040")}
    assert {"2.25.990", "2.25.992"} <= tracked


def test_the_same_correction_gives_the_same_bytes(case: Case) -> None:
    one, other = objects(case), objects(case)
    assert {name: to_bytes(each) for name, each in one.items()} == {
        name: to_bytes(each) for name, each in other.items()
    }


def test_the_limited_child_makes_the_same_files(case: Case) -> None:
    made = correction_objects_limited(case.files[0], case.index, reading_of(case))
    assert {each.modality: each.file for each in made} == {
        name: to_bytes(each) for name, each in objects(case).items()
    }


def test_a_verdict_on_the_whole_makes_one_report(case: Case, tmp_path: Path) -> None:
    made = objects(case, verdict="reject", reason="motion", note="", calcium=None)
    assert set(made) == {"SR"}
    assert dciodvfy_errors(to_bytes(made["SR"]), tmp_path) == []
    assert [code_value(each) for each in content(made["SR"], "verdict")] == ["rejected"]
    assert [code_value(each) for each in content(made["SR"], "verdict_meant")] == ["111210"]


def test_a_reader_who_counts_nothing_makes_a_report_of_zero(case: Case, tmp_path: Path) -> None:
    edit = CalciumEdit(130.0, (), (), BrowserScores(0, 0, 0, 0, 0))
    made = objects(case, calcium=edit)
    assert set(made) == {"SR"}
    assert dciodvfy_errors(to_bytes(made["SR"]), tmp_path) == []


def test_names_and_notes_that_attack_stay_text(case: Case, tmp_path: Path) -> None:
    note = '<script>alert(1)</script> 患者 \u202eحولة\t"; DROP TABLE'
    reading = replace(reading_of(case, note=note), reader="A^B=C\\D\x07\n" + "x" * 100)
    made = correction_objects(case.files[0], case.index, reading)
    report = next(each for each in made if each.Modality == "SR")
    assert texts(report, "121106")[-1] == note.replace("\t", " ")
    (person,) = content(report, "121008")
    name = str(person.PersonName)
    assert name.startswith("A B C D x")
    assert len(name) <= 64
    for each in made:
        assert dciodvfy_errors(to_bytes(each), tmp_path) == []


def test_many_lesions_are_listed_up_to_a_limit_and_counted_beyond(case: Case) -> None:
    edit = reading_of(case).assessment.calcium
    assert edit is not None
    many = tuple(replace(edit.lesions[0], id=f"L{n}", verdict="accept") for n in range(300))
    report = objects(case, calcium=replace(edit, lesions=(*many, edit.lesions[2])))["SR"]
    assert "101 lesions" in texts(report, "remark")[0]
    assert "rejected" in [code_value(each) for each in content(report, "verdict")]


def test_regions_keep_touching_lesions_apart(case: Case) -> None:
    # Segments of the algorithm: 2 is its region, 3 what it set aside. The plaque of 450 HU is cut
    # between them, so its halves are lesions of their own, weighted each by its own peak.
    whole = part_of(case.ct, 1)
    left, right = whole.copy(), whole.copy()
    left[:, :, 22:] = False
    right[:, :, :22] = False
    mask = tuple(case.runs(whole, "unassigned"))
    cut = [
        *case.runs(part_of(case.ct, 0), "LM"),
        *case.runs(left, "LAD"),
        *case.runs(right, "LCx"),
    ]
    edit = CalciumEdit(130.0, (), tuple(cut), BrowserScores(0, 0, 0, None, 0))
    regions = to_bytes(objects(case, calcium=edit)["SEG"])
    counted = CountedMask(mask, {}, 130.0)
    together = score_mask(case.files, case.index, counted)["scores"]
    apart = score_mask_limited(case.files, case.index, counted, regions)["scores"]
    assert (together["lesions"], apart["lesions"]) == (1, 2)
    assert apart["volume_mm3"] == together["volume_mm3"]


@pytest.mark.parametrize("regions", [b"", b"nothing", b"\0" * 200])
def test_a_segmentation_that_is_none_is_refused(case: Case, regions: bytes) -> None:
    counted = CountedMask(tuple(case.runs(part_of(case.ct, 1), "LAD")), {}, 130.0)
    with pytest.raises(InputError, match="region_unreadable"):
        score_mask_limited(case.files, case.index, counted, regions)


def test_images_that_are_none_are_refused(case: Case) -> None:
    with pytest.raises(InputError):
        score_mask_limited([b"no image"], case.index, CountedMask((), {}, 130.0))


def test_an_index_without_places_is_refused(case: Case) -> None:
    index = [replace(one, position_mm=None) for one in case.index]
    with pytest.raises(InputError, match="missing_attribute"):
        score_mask(case.files, index, CountedMask((), {}, 130.0))


def test_localizers_and_repeated_places_do_not_move_the_slices(case: Case) -> None:
    scout = IndexedInstance("s", "1.2.9", (0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), 99)
    again = replace(case.index[3], name="again", uid="1.2.8")
    series = indexed_series(case.files[0], (scout, again, *case.index))
    assert series.geometry.shape[0] == len(case.index)
    assert series.k_of["1.2.8"] == series.k_of[case.index[3].uid] == 3
    assert "1.2.9" not in series.k_of
