"""Structured reports as text: whoever made them, and whatever is wrong with them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedSRStorage, ExplicitVRLittleEndian

from dicom_services.dicom import sr_text
from dicom_services.dicom.sr_child import read_report_limited
from dicom_services.dicom.sr_text import MOST_DEPTH, MOST_ITEMS, MOST_SIGNS, Line, readable
from dicom_services.dicom.write import encode, encode_refusal, to_bytes
from dicom_services.errors import InputError
from tests import sources


def code(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return made


def item(kind: str, name: str = "Name", **fields: Any) -> Dataset:
    made = Dataset()
    made.RelationshipType, made.ValueType = "CONTAINS", kind
    if name:
        made.ConceptNameCodeSequence = [code("1", name)]
    for keyword, value in fields.items():
        setattr(made, keyword, value)
    return made


def number(value: str, unit: str, scheme: str = "UCUM") -> Dataset:
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = [code(unit, f"unit {unit}", scheme)]
    return item("NUM", MeasuredValueSequence=[measured])


def reference(count: int = 1, **fields: Any) -> Dataset:
    referenced = Dataset()
    referenced.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    referenced.ReferencedSOPInstanceUID = "1.2.3"
    for keyword, value in fields.items():
        setattr(referenced, keyword, value)
    return item("IMAGE", "Source", ReferencedSOPSequence=[referenced] * count)


def document(*items: Dataset, **fields: Any) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = EnhancedSRStorage, "1.2.3.4"
    made.Modality, made.Manufacturer = "SR", "Somebody"
    made.ContentDate, made.ContentTime = "20240501", "123015.25"
    made.CompletionFlag, made.VerificationFlag = "COMPLETE", "UNVERIFIED"
    made.ConceptNameCodeSequence = [code("126000", "Imaging Measurement Report")]
    made.ContentSequence = list(items)
    for keyword, value in fields.items():
        setattr(made, keyword, value)
    return made


def lines(*items: Dataset) -> list[Line]:
    return list(readable(document(*items)).items)


def only(one: Dataset) -> Line:
    (line,) = lines(one)
    return line


def as_file(dataset: Dataset) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_head_says_what_when_and_from_whom() -> None:
    report = readable(document(ManufacturerModelName="Machine"))
    assert report.title == "Imaging Measurement Report"
    assert report.created == "2024-05-01T12:30:15"
    assert report.maker == "Somebody Machine"
    assert report.complete
    assert "No person has verified the document." in report.warnings


def test_a_number_keeps_its_digits_and_its_unit() -> None:
    line = only(number("10.50", "mm"))
    assert (line.name, line.kind, line.value, line.unit) == ("Name", "NUM", "10.50", "mm")
    assert line.code == {"value": "1", "scheme": "DCM", "meaning": "Name"}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("2.10000000000000", "2.1"),
        ("15.3999999999999", "15.4"),
        ("0.00076923076923", "0.000769"),
        ("-119.07385253906", "-119.074"),
        ("3.1415", "3.1415"),
        ("12345678901", "12345678901"),
        ("1.5e-7", "1.5e-7"),
        ("0.00000", "0"),
    ],
)
def test_a_fraction_that_is_too_long_is_rounded(written: str, shown: str) -> None:
    assert only(number(written, "mm")).value == shown


def test_a_unit_that_is_not_ucum_is_said_in_words() -> None:
    assert only(number("3", "XX", "99SITE")).unit == "unit XX"


def test_a_number_without_a_value_says_why() -> None:
    empty = item("NUM", NumericValueQualifierCodeSequence=[code("114000", "Not a number")])
    assert only(empty).value == "(no value: Not a number)"
    assert only(item("NUM", MeasuredValueSequence=[])).value == "(no value)"


def test_a_code_keeps_value_and_scheme() -> None:
    line = only(item("CODE", "Finding", ConceptCodeSequence=[code("27925004", "Nodule", "SCT")]))
    assert line.value == "Nodule"
    assert line.value_code == {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"}


@pytest.mark.parametrize(
    ("one", "value"),
    [
        (item("PNAME", PersonName="Doe^Jane^Mary^Dr"), "Doe, Jane Mary Dr"),
        (item("PNAME", PersonName="Yamada^Tarou=山田^太郎"), "Yamada, Tarou"),
        (item("PNAME", PersonName="=山田^太郎"), "山田, 太郎"),
        (item("PNAME", PersonName=""), ""),
        (item("DATE", Date="20240131"), "2024-01-31"),
        (item("TIME", Time="0915"), "09:15:00"),
        (item("DATETIME", DateTime="20240131091500+0100"), "2024-01-31T09:15:00+01:00"),
        (item("UIDREF", UID="1.2.3"), "1.2.3"),
        (item("TEXT", TextValue="first\r\nsecond"), "first\nsecond"),
        (item("SCOORD", GraphicType="POLYLINE", GraphicData=[1.0] * 8), "polyline, 4 points"),
        (item("SCOORD3D", GraphicType="POINT", GraphicData=[1.0] * 3), "point, 1 point"),
        (item("TCOORD", TemporalRangeType="POINT",
              ReferencedTimeOffsets="1"), "point, 1 positions"),
        (reference(ReferencedFrameNumber=[3]), "CT Image, frame 3"),
        (reference(ReferencedFrameNumber=[3, 4]), "CT Image, 2 frames"),
        (reference(ReferencedSegmentNumber=2), "CT Image, segment 2"),
        (reference(ReferencedSOPClassUID="9.9.9"), "9.9.9"),
        (reference(0), "(refers to nothing)"),
        (item("TABLE"), "a table, which is not shown"),
        (item("CONTAINER"), ""),
    ],
)  # fmt: skip
def test_each_kind_of_value_has_its_words(one: Dataset, value: str) -> None:
    assert only(one).value == value


def test_images_in_a_row_are_one_line_with_their_count() -> None:
    group = item("CONTAINER", "Library", ContentSequence=[reference() for _ in range(303)])
    told = lines(group, item("TEXT", TextValue="after"))
    assert [(line.level, line.value) for line in told] == [
        (0, ""),
        (1, "303 references"),
        (0, "after"),
    ]


def test_an_image_with_something_below_it_keeps_its_own_line() -> None:
    first, second = reference(), reference()
    second.ContentSequence = [item("TEXT", TextValue="of the second")]
    assert [line.value for line in lines(first, second)] == [
        "CT Image",
        "CT Image",
        "of the second",
    ]


def test_levels_follow_the_tree() -> None:
    inner = item("CONTAINER", "Inner", ContentSequence=[item("TEXT", TextValue="leaf")])
    outer = item("CONTAINER", "Outer", ContentSequence=[inner, number("1", "mm")])
    assert [line.level for line in lines(outer, item("TEXT", TextValue="last"))] == [0, 1, 2, 1, 0]


def test_a_verifying_observer_is_named() -> None:
    observer = Dataset()
    observer.VerifyingObserverName, observer.VerificationDateTime = "Roe^Richard", "20240502101500"
    report = readable(document(VerificationFlag="VERIFIED", VerifyingObserverSequence=[observer]))
    assert [(one.name, one.value) for one in report.items] == [
        ("Verified by", "Roe, Richard, 2024-05-02T10:15:00")
    ]
    assert report.warnings == ()


def test_a_partial_document_says_so() -> None:
    report = readable(document(CompletionFlag="PARTIAL"))
    assert not report.complete
    assert report.warnings[0] == "The document says of itself that it is partial."


def test_nameless_and_unknown_items_are_shown_and_counted() -> None:
    report = readable(document(item("TEXT", "", TextValue="alone"), item("HOLOGRAM")))
    assert [line.value for line in report.items] == ["alone", ""]
    assert "1 items are without a name." in report.warnings
    assert "1 items are of an unknown kind." in report.warnings


def test_a_reference_to_another_item_is_told_as_one() -> None:
    made = Dataset()
    made.RelationshipType, made.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 3, 2]
    assert (only(made).name, only(made).value) == ("See", "item 1.3.2")


def test_text_that_turns_breaks_or_hides_itself_is_made_plain() -> None:
    nasty = "a\x00b\x1b[31m\u202egnp.exe\u200b\x07"
    assert only(item("TEXT", TextValue=nasty)).value == "ab[31mgnp.exe"
    markup = "<script>alert(1)</script>"
    # As it is: whoever shows it sets it as text.
    assert only(item("TEXT", TextValue=markup)).value == markup
    assert only(item("TEXT", f"a\n{markup}", TextValue="x")).name == f"a {markup}"


def test_writing_that_needs_joiners_keeps_them() -> None:
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert only(item("TEXT", TextValue=persian)).value == persian


def test_a_long_text_is_cut_and_told() -> None:
    report = readable(document(item("UT", "x"), item("TEXT", TextValue="y" * (MOST_SIGNS + 5))))
    assert len(report.items[-1].value) == MOST_SIGNS
    assert report.items[-1].value.endswith("…")
    assert "1 texts are cut." in report.warnings


def test_a_document_without_end_ends() -> None:
    report = readable(document(*(item("TEXT", TextValue=str(n)) for n in range(MOST_ITEMS + 100))))
    assert len(report.items) == MOST_ITEMS
    assert "100 items or more are not shown: the document is too long." in report.warnings


def test_many_long_texts_end_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sr_text, "MOST_SIGNS_IN_ALL", 1_000)
    report = readable(document(*(item("TEXT", TextValue="z" * 300) for _ in range(10))))
    assert len(report.items) == 4


def test_a_tree_that_is_too_deep_is_cut_and_told() -> None:
    inner = item("TEXT", TextValue="bottom")
    for _ in range(MOST_DEPTH + 10):
        inner = item("CONTAINER", ContentSequence=[inner])
    report = readable(document(inner))
    assert max(line.level for line in report.items) == MOST_DEPTH - 1
    assert any("nested too deeply" in one for one in report.warnings)


def test_values_that_cannot_be_read_are_counted() -> None:
    broken = item("NUM")
    measured = Dataset()
    measured.add_new("MeasurementUnitsCodeSequence", "SQ", [code("mm", "mm", "UCUM")])
    measured._dict[pydicom.tag.Tag("NumericValue")] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag("NumericValue"), "FD", 3, b"abc", 0, False, True
    )
    broken.MeasuredValueSequence = [measured]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert only(broken).value == "(no value)"


def test_a_document_without_content_or_title_is_still_one() -> None:
    report = readable(Dataset())
    assert (report.title, report.created, report.maker) == ("Structured report", "", "")
    assert not report.complete
    assert "The document has no content." in report.warnings


@pytest.mark.parametrize("keyword", ["ContentSequence", "ConceptNameCodeSequence"])
def test_an_empty_sequence_is_no_trouble(keyword: str) -> None:
    assert readable(document(**{keyword: []})).items == ()


def test_our_own_report_reads_as_it_was_meant() -> None:
    results = encode(sources.findings(), sources.source(), sources.provenance())
    told = read_report_limited(to_bytes(results[1]))
    values = {(one["name"], one["value"], one["unit"]) for one in told["items"]}
    assert ("Calcium score", "15.4", "{score}") in values
    assert ("Source", "12 references", "") in values
    assert ("Notice to the reader", "Research use only. Not a medical device.", "") in values
    assert told["complete"]
    assert not any("name" in one or "unknown" in one for one in told["warnings"])


def test_our_own_refusal_says_why() -> None:
    (dataset,) = encode_refusal("no_heart", {}, sources.source(), sources.provenance())
    told = read_report_limited(to_bytes(dataset))
    assert "No heart was found in the images" in {one["value"] for one in told["items"]}


def test_real_reports_of_other_makers_are_read(shared_data: Path) -> None:
    folder = shared_data / "seg-sr-samples" / "data" / "test_files"
    told = read_report_limited((folder / "sr_document_with_multiple_groups.dcm").read_bytes())
    rows = [(one["name"], one["value"], one["unit"]) for one in told["items"]]
    assert ("Person Observer Name", "Doe, John", "") in rows
    assert ("Diameter", "10.0", "mm") in rows
    assert ("Intensity Histogram Mean", "-119.074", "[hnsf'U]") in rows
    older = read_report_limited((folder / "sr_document.dcm").read_bytes())
    assert ("Area of defined region", "1.7", "cm2") in [
        (one["name"], one["value"], one["unit"]) for one in older["items"]
    ]


@pytest.mark.parametrize("syntax", ["utf-8", "latin-1", "japanese"])
def test_names_of_any_script_come_through(syntax: str) -> None:
    sets = {"utf-8": "ISO_IR 192", "latin-1": "ISO_IR 100", "japanese": ["", "ISO 2022 IR 87"]}
    names = {"utf-8": "Ω≈ Ж", "latin-1": "Müller", "japanese": "山田"}
    made = document(item("TEXT", TextValue=names[syntax]), SpecificCharacterSet=sets[syntax])
    assert read_report_limited(as_file(made))["items"][0]["value"] == names[syntax]


@pytest.mark.parametrize(
    "data", [b"", b"no DICOM", b"\0" * 128 + b"DICM" + b"\xff" * 64, b"\0" * 128 + b"DICM"]
)
def test_a_broken_file_is_refused_or_told_as_empty(data: bytes) -> None:
    try:
        told = read_report_limited(data)
    except InputError as error:
        assert error.code == "file_unreadable"
    else:
        assert told["items"] == []


def test_any_cut_of_a_file_ends_in_a_report_or_a_refusal() -> None:
    results = encode(sources.findings(), sources.source(), sources.provenance())
    whole = to_bytes(results[1])
    for length in range(200, len(whole), len(whole) // 12):
        try:
            assert isinstance(read_report_limited(whole[:length])["items"], list)
        except InputError as error:
            assert error.code == "file_unreadable"


def test_a_file_nested_without_end_harms_nobody() -> None:
    depth = 20_000
    head = as_file(document())
    start = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    cut = head.index(b"\x40\x00\x30\xa7")
    with pytest.raises(InputError) as error:
        read_report_limited(head[:cut] + start * depth)
    assert error.value.code in ("file_unreadable", "decoder_died")
