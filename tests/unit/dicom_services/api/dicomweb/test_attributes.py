"""Texts of Orthanc's index as DICOM JSON, PS3.18 annex F."""

from __future__ import annotations

import pytest

from dicom_services.api.dicomweb.attributes import Item, add_texts, new_item


def one(keyword, text):
    item: Item = {}
    add_texts(item, {keyword: text})
    return next(iter(item.values()))


@pytest.mark.parametrize(
    ("keyword", "text", "value"),
    [
        ("PatientName", "Müller^Jörg", [{"Alphabetic": "Müller^Jörg"}]),
        (
            "PatientName",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            [
                {
                    "Alphabetic": "Yamada^Tarou",
                    "Ideographic": "山田^太郎",
                    "Phonetic": "やまだ^たろう",
                }
            ],
        ),
        ("PatientName", "=山田^太郎", [{"Ideographic": "山田^太郎"}]),
        ("SeriesNumber", " 12 ", [12]),
        ("StudyDescription", '"><script>', ['"><script>']),
        ("OperatorsName", "A^B\\C^D", [{"Alphabetic": "A^B"}, {"Alphabetic": "C^D"}]),
    ],
)
def test_a_text_has_its_values(keyword, text, value):
    assert one(keyword, text)["Value"] == value


@pytest.mark.parametrize(
    ("keyword", "text"), [("PatientName", ""), ("SeriesNumber", "x"), ("StudyID", "  ")]
)
def test_what_is_empty_or_no_number_has_none(keyword, text):
    assert "Value" not in one(keyword, text)


def test_attributes_that_nobody_knows_are_left_out():
    item: Item = {}
    add_texts(item, {"Secret": "x", "PatientName": None})
    assert item == {}


def test_an_answer_says_that_it_is_in_utf8():
    assert new_item("u")["00080005"]["Value"] == ["ISO_IR 192"]
