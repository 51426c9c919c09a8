"""Reports: what a run found, found nothing of, or refused, each as a TID 1500 SR."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom import sr
from pydicom import Dataset

from dicom_services.dicom import codes, groups
from dicom_services.dicom.uids import result_uid, tracking_uid
from dicom_services.dicom.write import encode, encode_refusal, to_bytes
from dicom_services.domain.findings import (
    Curve,
    Finding,
    Lesion,
    LesionSlice,
    Mask,
    Observation,
)
from dicom_services.domain.geometry import Geometry
from tests import sources
from tests.validators import (
    code_value,
    content,
    dciodvfy_errors,
    has_pixelmed,
    pixelmed_errors,
    read_back,
)

PACKAGES = Path(__file__).resolve().parents[4]


def report(
    findings: tuple[Finding, ...] | None = None, grid: Geometry | None = None, **fields: Any
) -> Dataset:
    """The SR of a run, as its reader gets it."""
    found = sources.findings(grid) if findings is None else findings
    results = encode(found, sources.source(grid), sources.provenance(**fields))
    return next(read_back(to_bytes(each)) for each in results if each.Modality == "SR")


def refusal(code: str, **facts: Any) -> Dataset:
    (only,) = encode_refusal(code, facts, sources.source(), sources.provenance())
    return read_back(to_bytes(only))


def one_lesion() -> tuple[Finding, ...]:
    """The second lesion of `sources.findings`, alone: one slice, two pixels."""
    grid = sources.geometry()
    mask, _, *rest = sources.findings(grid)
    assert isinstance(mask, Mask)
    values = np.zeros(grid.shape, bool)
    values[8, 30, 7:9] = True
    return (replace(mask, values=values, lesions=mask.lesions[1:]), *rest)


def measurement_group(dataset: Dataset, tracking: str) -> Dataset:
    return next(
        group
        for group in content(dataset, "125007")
        if content(group, "112039")[0].TextValue == tracking
    )


def numbers(group: Dataset, value: str) -> list[float]:
    return [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in content(group, value)
        if item.ValueType == "NUM"
    ]


REPORTS: dict[str, Any] = {
    "full": report,
    "nothing": lambda: report(sources.nothing()),
    "refused": lambda: refusal("slice_increment", increment_mm=6.25, count=3, reason="gap"),
    "warnings only": lambda: report(sources.findings()[-2:]),
    "one lesion": lambda: report(one_lesion()),
    "perfusion": lambda: report(sources.perfusion()),
    "superseding": lambda: report(predecessor="ab" * 20),
    "model": lambda: report(
        (*sources.findings(), replace(sources.findings()[6], probability=0.75)),
        card=replace(sources.provenance().card, family="model"),
        container="sha256:" + "ef" * 32,
        rule="cardiac",
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_dciodvfy_finds_no_error(name: str, tmp_path: Path) -> None:
    assert dciodvfy_errors(to_bytes(REPORTS[name]()), tmp_path) == []


@pytest.mark.parametrize("name", ["full", "perfusion"])
def test_pixelmed_finds_no_error(name: str, tmp_path: Path) -> None:
    if not has_pixelmed():
        pytest.skip("libpixelmed-java is not installed")
    path = tmp_path / "report.dcm"
    path.write_bytes(to_bytes(REPORTS[name]()))
    assert pixelmed_errors(path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["refused", "one lesion", "warnings only", "nothing", "superseding", "model"]
)
def test_pixelmed_finds_no_error_in_the_rarer_reports(name: str, tmp_path: Path) -> None:
    test_pixelmed_finds_no_error(name, tmp_path)


def test_the_root_is_a_measurement_report_in_english_on_the_imaging_procedure() -> None:
    dataset = report()
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert dataset.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert code_value(content(dataset, "121049")[0]) == "en-US"
    assert [code_value(item) for item in content(dataset, "121058")] == ["25045-6"]
    assert code_value(content(dataset, "121005")[0]) == "121007"
    assert sources.provenance().device_uid == content(dataset, "121012")[0].UID
    flags = (dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag)
    assert flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")


def test_the_image_library_names_every_source_image() -> None:
    library = content(report(), "111028")[0]
    named = [item.ReferencedSOPSequence[0] for item in content(library, "260753009")]
    uids = [item.ReferencedSOPInstanceUID for item in named]
    assert uids == [each.sop_instance_uid for each in sources.source().instances]
    assert numbers(library, "110910") == [40]
    assert code_value(content(library, "121139")[0]) == "CT"


def test_the_evidence_names_every_image_and_the_segmentation() -> None:
    series = report().CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    counts = {item.SeriesInstanceUID: len(item.ReferencedSOPSequence) for item in series}
    assert counts == {
        str(sources.source().header.SeriesInstanceUID): 12,
        sources.provenance().uid("seg-series"): 1,
    }


def test_the_group_of_the_mask_refers_to_its_segment_and_series() -> None:
    group = measurement_group(report(), "total")
    reference = content(group, "121191")[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == sources.provenance().uid("seg")
    assert reference.ReferencedSegmentNumber == 1
    assert sources.source().header.SeriesInstanceUID == content(group, "121232")[0].UID
    assert code_value(content(group, "121071")[0]) == "36222008"
    assert group.ContentTemplateSequence[0].TemplateIdentifier == "1411"


def test_numbers_of_the_same_quantity_are_told_apart() -> None:
    group = measurement_group(report(), "total")
    # Pixels of 0.35 mm2: 6 in two slices with weights 4 and 3, 2 with weight 1.
    expected = 6 * 0.35 * 7 + 2 * 0.35
    assert numbers(group, "112058") == pytest.approx([expected, expected])
    plain, corrected = (item for item in content(group, "112058") if item.ValueType == "NUM")
    assert content(plain, "121050") == []
    assert content(corrected, "121050")[0].TextValue == (
        "Agatston score multiplied by slice spacing over 3 mm"
    )
    for item in (plain, corrected):
        assert code_value(content(item, "370129005")[0]) == "112055"
        assert code_value(content(item, "363698007")[0]) == "41801008"
        unit = item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
        assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("{score}", "UCUM")


def test_a_category_stands_in_the_group_of_its_tracking_key() -> None:
    group = measurement_group(report(), "total")
    assert [code_value(item) for item in content(group, "rumberger")] == ["rumberger_11_100"]


def test_warnings_are_coded_and_their_scheme_is_declared() -> None:
    dataset = report()
    evaluations = content(dataset, "C0034375")[0]
    found = {code_value(item) for item in content(evaluations, "warning")}
    assert found == {"tube_voltage", "slice_thickness"}
    schemes = {
        item.CodingSchemeDesignator: item.CodingSchemeName
        for item in dataset.CodingSchemeIdentificationSequence
    }
    assert set(schemes) == {"99RADLOOP", "99IHE"}


def test_a_number_without_a_mask_says_which_segment_it_was_taken_from() -> None:
    group = measurement_group(report(), "LAD")
    reference = content(group, "121191")[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSegmentNumber == 1
    assert code_value(content(group, "363698007")[0]) == "59438005"


def test_a_number_of_a_mask_that_is_only_to_be_seen_is_of_its_segment() -> None:
    """The peak of an artery must not be read as one inside of the hypoperfused tissue."""
    found = sources.perfusion()
    region = next(one for one in found if isinstance(one, Mask))
    curve = next(one for one in found if isinstance(one, Curve))
    artery = np.zeros_like(region.values)
    artery[2, 10, 11:13] = True
    seen = replace(region, label="AIF", values=artery, tracking="aif", in_report=False)
    group = measurement_group(report((*found, seen, replace(curve, tracking="aif"))), "aif")
    reference = content(group, "121191")[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSegmentNumber == 2


def test_every_lesion_is_a_group_with_its_own_numbers() -> None:
    group = measurement_group(report(), "lesion 1")
    header = sources.source().header
    assert tracking_uid(header, "calcium", "lesion 1") == content(group, "112040")[0].UID
    assert code_value(content(group, "121071")[0]) == "36222008"
    assert code_value(content(group, "363698007")[0]) == "59438005"
    assert numbers(group, "112058") == pytest.approx([6 * 0.35 * 7])
    assert numbers(group, "118565006") == pytest.approx([12 * 0.35 * 3.0])
    assert numbers(group, "112031") == [420.0]
    assert numbers(group, "131184002") == pytest.approx([6 * 0.35])
    assert code_value(content(content(group, "112031")[0], "121401")[0]) == "56851009"


def test_a_lesion_is_outlined_on_its_images_the_densest_first() -> None:
    regions = content(measurement_group(report(), "lesion 1"), "111030")
    images = [
        item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in regions
    ]
    source = sources.source().instances
    assert images == [source[4].sop_instance_uid, source[5].sop_instance_uid]
    corners = np.array(regions[0].GraphicData).reshape(-1, 2)
    # Rows 10 and 11, columns 20 to 22; columns come first.
    assert corners.tolist() == [[20, 10], [23, 10], [23, 12], [20, 12], [20, 10]]
    assert regions[0].GraphicType == "POLYLINE"


def test_an_only_lesion_is_the_segment_itself_and_names_its_image() -> None:
    group = measurement_group(report(one_lesion()), "lesion 2")
    reference = content(group, "121191")[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == sources.provenance().uid("seg")
    image = content(group, "121233")[0].ReferencedSOPSequence[0]
    assert image.ReferencedSOPInstanceUID == sources.source().instances[8].sop_instance_uid
    assert content(group, "111030") == []


def test_a_lesion_whose_pixels_are_not_in_the_mask_is_a_point() -> None:
    mask, *rest = sources.findings()
    assert isinstance(mask, Mask)
    moved = replace(mask.lesions[1], slices=(replace(mask.lesions[1].slices[0], row=25.0),))
    dataset = report((replace(mask, lesions=(mask.lesions[0], moved)), *rest))
    region = content(measurement_group(dataset, "lesion 2"), "111030")[0]
    assert (region.GraphicType, list(region.GraphicData)) == ("POINT", [8.0, 25.5])


def test_what_is_tracked_with_a_lesion_joins_its_group() -> None:
    extra = replace(sources.findings()[4], tracking="lesion 1", value=12.5)
    dataset = report((*sources.findings(), extra))
    assert numbers(measurement_group(dataset, "lesion 1"), "112056") == [12.5]
    keys = [content(group, "112039")[0].TextValue for group in content(dataset, "125007")]
    assert len(keys) == len(set(keys))


def test_more_lesions_than_a_heart_holds_are_counted_not_listed() -> None:
    mask = sources.findings()[0]
    assert isinstance(mask, Mask)
    many = tuple(
        replace(mask.lesions[1], id=f"L{n}", tracking=f"lesion {n}", score=float(1000 - n))
        for n in range(groups.MOST_LESIONS + 7)
    )
    dataset = report((replace(mask, lesions=many),))
    listed = [content(group, "112039")[0].TextValue for group in content(dataset, "125007")]
    assert len(listed) == groups.MOST_LESIONS + 1
    assert f"lesion {groups.MOST_LESIONS - 1}" in listed
    remark = content(dataset, "remark")[0].TextValue
    assert remark == "The 100 highest scoring lesions are listed, 7 are not."


def test_a_probability_is_a_certainty_in_per_cent_of_the_answer_it_belongs_to() -> None:
    sure = replace(sources.findings()[6], probability=0.75)
    assert isinstance(sure, Observation)
    group = measurement_group(report((*sources.nothing(), sure)), "total")
    assert numbers(group, "111013") == [75.0]
    told = content(content(group, "111013")[0], "121050")[0].TextValue
    assert told == "Certainty of Rumberger category: 11 to 100: mild"


def test_every_group_names_the_algorithm() -> None:
    for group in content(report(), "125007"):
        assert content(group, "111001")[0].TextValue == "calcium-rule"
        assert content(group, "111003")[0].TextValue == "1.0.0"
        assert code_value(content(group, "111000")[0]) == "rule_based"


def test_a_model_is_of_the_artificial_intelligence_family() -> None:
    dataset = REPORTS["model"]()
    assert code_value(content(dataset, "111000")[0]) == "123110"


def test_the_report_can_be_traced_to_its_making() -> None:
    dataset = REPORTS["model"]()
    told = {
        key: content(dataset, key)[0].TextValue
        for key in (
            *("job", "pipeline", "software_version", "model_sha256", "inputs_sha256"),
            *("container_digest", "routing_rule", "research_notice", "intended_use"),
        )
    }
    assert told == {
        "job": "0123456789abcdef0123456789abcdef01234567",
        "pipeline": "calcium 1.0.0",
        "software_version": "radloop 0.1.0",
        "model_sha256": "ab" * 32,
        "inputs_sha256": "cd" * 32,
        "container_digest": "sha256:" + "ef" * 32,
        "routing_rule": "cardiac",
        "research_notice": "Research use only. Not a medical device.",
        "intended_use": "Research on coronary calcium.",
    }


def test_nothing_found_is_a_report_with_a_zero() -> None:
    (only,) = encode(sources.nothing(), sources.source(), sources.provenance())
    dataset = read_back(to_bytes(only))
    assert numbers(measurement_group(dataset, "total"), "112058") == [0.0]
    assert content(dataset, "121191") == []


def test_a_run_that_measured_nothing_has_no_measurements_and_keeps_its_warnings() -> None:
    dataset = REPORTS["warnings only"]()
    assert content(dataset, "126010") == []
    assert len(content(dataset, "warning")) == 2
    assert len(content(dataset, "111028")) == 1


def test_a_refusal_says_why_in_code_words_and_numbers() -> None:
    dataset = refusal("slice_increment", increment_mm=6.25, count=3, reason="gap")
    reasons = content(dataset, "refused")
    assert {code_value(item) for item in reasons} == {"slice_increment"}
    meanings = {item.ConceptCodeSequence[0].CodeMeaning for item in reasons}
    assert meanings == {"The slices are too far apart"}
    assert numbers(dataset, "increment_mm") == [6.25]
    assert numbers(dataset, "count") == [3.0]
    unit = content(dataset, "increment_mm")[0].MeasuredValueSequence[0]
    assert unit.MeasurementUnitsCodeSequence[0].CodeValue == "mm"
    assert content(dataset, "remark")[0].TextValue == "Reason: gap"


def test_a_refusal_with_a_long_code_is_written_whole(tmp_path: Path) -> None:
    dataset = refusal("modality_lookup_unsupported")
    assert code_value(content(dataset, "refused")[0]) == "modality_lookup_unsupported"
    assert dciodvfy_errors(to_bytes(dataset), tmp_path) == []


def test_a_code_nobody_has_described_is_said_in_its_own_words() -> None:
    assert codes.reason("never_seen_before").meaning == "Never seen before"


NO_RESULTS = ("access", "api", "store", "cli_audit.py", "cli_users.py")
"""What refuses callers and accounts; no code of theirs can end in a result."""


def test_every_refusal_code_in_our_packages_has_a_meaning() -> None:
    used: set[str] = set()
    for package in ("dicom_services", "ai_nodes"):
        for path in sorted((PACKAGES / package).rglob("*.py")):
            if path.relative_to(PACKAGES).parts[1] in NO_RESULTS:
                continue
            text = path.read_text()
            used |= set(re.findall(r'InputError\(\s*"([a-z0-9_]+)"', text))
            used |= set(re.findall(r'InputError\([^)]*else "([a-z0-9_]+)"', text))
            used |= set(re.findall(r'_refuse_mixture\(\w+, "([a-z0-9_]+)"', text))
    assert len(used) > 40
    assert sorted(used - set(codes.REASONS)) == []


def test_every_meaning_fits_into_64_characters() -> None:
    assert [text for text in codes.REASONS.values() if len(text) > 64] == []
    assert all(text.isascii() for text in codes.REASONS.values())


def test_a_superseding_report_names_the_one_before() -> None:
    dataset = report(predecessor="ab" * 20)
    study = dataset.PredecessorDocumentsSequence[0]
    series = study.ReferencedSeriesSequence[0]
    assert study.StudyInstanceUID == dataset.StudyInstanceUID
    assert series.SeriesInstanceUID == result_uid("ab" * 20, "1.0.0", "sr-series")
    document = series.ReferencedSOPSequence[0]
    assert document.ReferencedSOPInstanceUID == result_uid("ab" * 20, "1.0.0", "sr")


def test_the_report_before_may_be_of_another_version() -> None:
    dataset = report(predecessor="ab" * 20, predecessor_version="0.9.0")
    series = dataset.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == result_uid("ab" * 20, "0.9.0", "sr-series")


def test_highdicom_reads_the_groups_back() -> None:
    document = sr.Comprehensive3DSR.from_dataset(report())
    found = document.content.get_volumetric_roi_measurement_groups(
        tracking_uid=tracking_uid(sources.source().header, "calcium", "total")
    )
    assert len(found) == 1
    assert len(found[0].get_measurements()) == 3
    assert found[0].referenced_segment is not None


def test_oblique_and_reversed_images_are_outlined_in_their_own_rows_and_columns() -> None:
    row, column, normal = sources.tilted(25.0)
    grid = sources.geometry(row=row, column=column, step_mm=tuple(-2.5 * normal))
    region = content(measurement_group(report(grid=grid), "lesion 1"), "111030")[0]
    assert list(region.GraphicData[:2]) == [20.0, 10.0]


def test_a_lesion_in_the_corner_stays_inside_the_image() -> None:
    grid = sources.geometry()
    values = np.zeros(grid.shape, bool)
    values[0, 0, 0] = values[11, 39, 47] = True
    area = grid.pixel_area_mm2
    corners = ((0, 0.0, 0.0), (11, 39.0, 47.0))
    lesions = tuple(
        Lesion(
            id=f"L{n}",
            tracking=f"lesion {n}",
            site=sources.CORONARY,
            center_mm=(0.0, 0.0, 0.0),
            volume_mm3=1.0,
            peak_hu=200.0,
            score=1.0,
            slices=(LesionSlice(k, row, column, area, 200.0, 2, 2 * area),),
        )
        for n, (k, row, column) in enumerate(corners, 1)
    )
    mask = replace(sources.findings(grid)[0], values=values, lesions=lesions)
    regions = content(report((mask,)), "111030")
    assert [max(region.GraphicData) for region in regions] == [1.0, 48.0]


def test_maps_are_in_the_evidence_and_in_a_group_of_the_library() -> None:
    results = encode(sources.perfusion(), sources.source(), sources.provenance())
    made = read_back(to_bytes(results[-1]))
    maps = {str(one.SOPInstanceUID) for one in results if one.Modality == "OT"}
    assert len(maps) == 2
    entries = content(made, "parametric_map")
    named = {str(one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for one in entries}
    assert named == maps
    assert [code_value(content(one, "246205007")[0]) for one in entries] == ["113055", "113084"]
    (study,) = made.CurrentRequestedProcedureEvidenceSequence
    listed = {
        str(one.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert maps < listed


def test_a_number_of_the_quantity_of_a_map_was_taken_from_it() -> None:
    results = encode(sources.perfusion(), sources.source(), sources.provenance())
    made = read_back(to_bytes(results[-1]))
    (mean,) = content(made, "113055")
    (image,) = content(mean, "121112")
    reference = image.ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == results[0].SOPInstanceUID
    (volume,) = content(made, "112056")
    assert content(volume, "121112") == []


def test_a_curve_is_one_line_and_the_numbers_of_its_peak() -> None:
    made = report(sources.perfusion())
    line, peak = content(made, "arterial_input")[::-1]
    assert line.TextValue == (
        "AIF; unit=/s; seconds=0 1.5 3 4.5 6.5; values=0 1.25 8.5 8.5 3; voxels=2,10,11 2,10,12"
    )
    assert float(peak.MeasuredValueSequence[0].NumericValue) == 8.5
    assert code_value(content(peak, "121401")[0]) == "56851009"
    (time,) = content(made, "126370")
    # The earlier of two equal peaks.
    assert float(time.MeasuredValueSequence[0].NumericValue) == 3.0


def test_settings_stand_in_the_trace() -> None:
    made = report(sources.perfusion(), settings='{"method": "oSVD"}')
    assert content(made, "settings")[0].TextValue == '{"method": "oSVD"}'
