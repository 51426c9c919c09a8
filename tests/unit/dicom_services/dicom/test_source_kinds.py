"""Results of multi-frame images and of several series: what they refer to, and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from dicom_services.dicom.checks import check_source
from dicom_services.dicom.findings_document import findings_document
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.write import encode, encode_refusal, to_bytes
from dicom_services.errors import InputError
from tests import sources
from tests.validators import content, dciodvfy_errors, map_voxels, read_back, segment_voxels

KINDS = {
    "one enhanced image": sources.multi_frame(),
    "enhanced with times": sources.multi_frame(times=3),
    "series for each time": sources.several_series(),
}


def written(source: SourceSeries, calcium: bool = False) -> dict[str, Dataset]:
    """The last result of each modality, read back."""
    findings = sources.findings() if calcium else sources.perfusion()
    results = encode(findings, source, sources.provenance())
    return {str(one.Modality): read_back(to_bytes(one)) for one in results}


def derivations(result: Dataset) -> list[tuple[str, int | None, int]]:
    """Image, frame and slice of each frame's source."""
    grid = sources.geometry()
    found = []
    for group in result.PerFrameFunctionalGroupsSequence:
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        k = round(float(grid.to_index(place)[0]))
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        frame = image.get("ReferencedFrameNumber")
        found.append((str(image.ReferencedSOPInstanceUID), frame and int(frame), k))
    return found


@pytest.mark.parametrize("name", KINDS)
def test_every_object_is_legal(name: str, tmp_path: Path) -> None:
    for findings in (sources.perfusion(), sources.findings()):
        for result in encode(findings, KINDS[name], sources.provenance()):
            assert dciodvfy_errors(to_bytes(result), tmp_path) == []


@pytest.mark.parametrize("modality", ["OT", "SEG"])
def test_a_frame_names_the_frame_it_was_made_from(modality: str) -> None:
    found = derivations(written(KINDS["enhanced with times"])[modality])
    assert found
    assert all(uid == sources.WHOLE and frame == k + 1 for uid, frame, k in found)


@pytest.mark.parametrize("modality", ["OT", "SEG"])
def test_an_image_with_many_frames_is_named_once(modality: str) -> None:
    result = written(KINDS["one enhanced image"])[modality]
    (series,) = result.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == sources.source().header.SeriesInstanceUID
    (image,) = series.ReferencedInstanceSequence
    assert image.ReferencedSOPInstanceUID == sources.WHOLE
    assert image.ReferencedSOPClassUID == sources.ENHANCED_MR


def test_voxels_are_where_they_belong() -> None:
    maps, _, mask, *_ = sources.perfusion()
    results = encode([maps, mask], KINDS["one enhanced image"], sources.provenance())
    back = map_voxels(to_bytes(results[0]), sources.geometry())
    assert np.array_equal(back, maps.values, equal_nan=True)  # type: ignore[union-attr]
    regions = segment_voxels(to_bytes(results[1]), sources.geometry())
    assert np.array_equal(regions[1], mask.values)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "count"), [("enhanced with times", 1), ("series for each time", 36)]
)
def test_the_report_names_every_instance_of_every_time_once(name: str, count: int) -> None:
    report = written(KINDS[name])["SR"]
    entries = [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in content(report, "260753009")
        if item.ValueType == "IMAGE"
    ]
    every = (*KINDS[name].instances, *KINDS[name].later)
    assert len(entries) == count
    assert set(entries) == {each.sop_instance_uid for each in every}


def test_the_evidence_puts_each_image_in_its_series() -> None:
    source = KINDS["series for each time"]
    report = written(source)["SR"]
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        str(series.SeriesInstanceUID): {
            str(one.ReferencedSOPInstanceUID) for one in series.ReferencedSOPSequence
        }
        for series in study.ReferencedSeriesSequence
    }
    for number in (1, 2):
        expected = {
            each.sop_instance_uid for each in source.later if each.series_uid == f"1.2.9.{number}"
        }
        assert listed[f"1.2.9.{number}"] == expected
    assert len(listed[str(source.header.SeriesInstanceUID)]) == 12


def test_key_images_of_a_multi_frame_image_are_its_frames() -> None:
    selection = written(KINDS["one enhanced image"], calcium=True)["KO"]
    (item,) = [one for one in selection.ContentSequence if one.ValueType == "IMAGE"]
    # The lesions lie in slices 4, 5 and 8.
    assert list(item.ReferencedSOPSequence[0].ReferencedFrameNumber) == [5, 6, 9]


def test_a_lesion_is_outlined_on_its_frame() -> None:
    report = written(KINDS["one enhanced image"], calcium=True)["SR"]
    frames = {
        int(image.ReferencedSOPSequence[0].ReferencedFrameNumber)
        for region in content(report, "111030")
        for image in region.ContentSequence
    }
    assert frames == {5, 6, 9}


def test_frames_of_one_image_are_no_duplicates_and_a_frame_twice_is() -> None:
    source = sources.multi_frame()
    check_source(source)
    first, *rest = source.instances
    for second in (first, replace(first, frame=0)):
        with pytest.raises(InputError) as raised:
            check_source(replace(source, instances=(first, second, *rest)))
        assert raised.value.code == "duplicate_instance"


def test_a_refusal_of_frames_names_their_image_and_leaves_out_what_cannot_be_named() -> None:
    source = sources.multi_frame(times=2)
    broken = replace(source.later[0], sop_instance_uid="not a uid")
    source = replace(source, later=(broken, *source.later))
    (report,) = encode_refusal("no_heart", {}, source, sources.provenance())
    images = [one for one in content(report, "260753009") if one.ValueType == "IMAGE"]
    assert [one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in images] == [
        sources.WHOLE
    ]


@pytest.mark.parametrize(
    ("name", "count"), [("enhanced with times", 1), ("series for each time", 36)]
)
def test_the_document_counts_instances_of_all_times(name: str, count: int) -> None:
    made = findings_document((), KINDS[name], sources.provenance())
    assert made["source_instances"] == count
