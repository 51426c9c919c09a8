"""What clients accept becomes the one form that this Orthanc understands."""

from __future__ import annotations

import pytest

from dicom_services.api.dicomweb.accept import choose, media_of

FRAMES_AS_STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


@pytest.mark.parametrize(
    "header",
    [
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        "multipart/related; type=application/octet-stream; transfer-syntax=*",
        'multipart/related; type="application/octet-stream"; transfer-syntax=*, */*;q=0.1',
        "multipart/related;type=application/octet-stream;transfer-syntax=*,image/jpeg;q=0.5",
        'multipart/related; type="application/octet-stream; transfer-syntax=*"',
    ],
)
def test_frames_are_asked_for_as_stored_by_one_kind_without_a_list(header):
    choice = choose("frames", "instances", 1, header)
    assert choice is not None
    assert (choice.accept, choice.single) == (FRAMES_AS_STORED, "")


def test_a_frame_asked_for_alone_is_taken_out_of_its_multipart():
    choice = choose("frames", "instances", 1, "application/octet-stream")
    assert choice is not None
    assert choice.single == "application/octet-stream"
    assert choose("frames", "instances", 2, "application/octet-stream") is None


def test_frames_in_no_named_syntax_are_asked_for_as_stored_when_they_cannot_be_decoded():
    choice = choose("frames", "instances", 1, "")
    assert choice is not None
    assert choice.again == FRAMES_AS_STORED
    named = choose("frames", "instances", 1, FRAMES_AS_STORED.replace("*", "1.2.840.10008.1.2.1"))
    assert named is not None
    assert named.again == ""


def test_an_instance_asked_for_alone_is_taken_out_of_its_multipart_but_a_series_cannot_be():
    choice = choose("objects", "instances", 0, "application/dicom")
    assert choice is not None
    assert choice.single == "application/dicom"
    assert choose("objects", "series", 0, "application/dicom") is None


def test_the_best_kind_that_there_is_wins():
    choice = choose("rendered", "instances", 0, "image/gif, image/jpeg;q=0.4, image/png;q=0.6")
    assert choice is not None
    assert choice.accept == "image/png"


@pytest.mark.parametrize(
    ("form", "header"),
    [
        ("objects", "text/html"),
        ("metadata", 'multipart/related; type="application/dicom+xml"'),
        ("frames", "video/mpeg"),
        ("rendered", "image/gif"),
        ("bulk", "image/png"),
        ("search", "application/dicom+xml"),
        ("metadata", "application/dicom+json;q=0"),
    ],
)
def test_what_there_is_not_is_not_chosen(form, header):
    assert choose(form, "instances", 1, header) is None


@pytest.mark.parametrize(
    "header", [",,,;;;===", '"', "a" * 100_000, 'multipart/related; type="' + "\\" * 9999, ";=,\0"]
)
def test_a_broken_header_ends_where_it_breaks(header):
    assert len(media_of(header)) <= 1
