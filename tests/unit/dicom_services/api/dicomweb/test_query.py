"""Searches as clients write them: decoded once, checked, put to the level they belong to."""

from __future__ import annotations

import pytest

from dicom_services.api.dicomweb.answers import ProblemError
from dicom_services.api.dicomweb.paths import resource_of
from dicom_services.api.dicomweb.query import query_of


def query(text, path="/dicom-web/studies"):
    return query_of(resource_of(path), text.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("PatientName=M*", "M*"),
        ("PatientName=M%2A", "M*"),
        ("PatientName=M%C3%BCller%5EJ%C3%B6rg", "Müller^Jörg"),
        ("PatientName=Doe%5EJane%20Ann", "Doe^Jane Ann"),
        ("PatientName=Doe%5EJane+Ann", "Doe^Jane Ann"),
        ("00100010=A%2BB", "A+B"),
        ("PatientName=a***b", "a*b"),
    ],
)
def test_values_are_decoded_once(text, value):
    assert query(text).studies == {"PatientName": value}


@pytest.mark.parametrize("text", ["", "PatientName=*", "PatientName=", "StudyDate="])
def test_what_matches_everything_is_left_out(text):
    assert query(text).studies == {}


@pytest.mark.parametrize(
    "text",
    [
        "includefield=00081030,00080060",
        "includefield=00081030%2C00080060",
        "includefield=all",
        "includefield=StudyDescription&includefield=00400275.00080050",
    ],
)
def test_fields_may_be_named_in_every_way(text):
    assert query(text).studies == {}


def test_a_list_of_uids_is_one_of_the_archive():
    assert query("StudyInstanceUID=1.2,1.3").studies == {"StudyInstanceUID": "1.2\\1.3"}
    assert query("StudyInstanceUID=1.2%5C1.3").studies == {"StudyInstanceUID": "1.2\\1.3"}


def test_each_attribute_goes_to_its_level():
    found = query("PatientID=P&Modality=CT&InstanceNumber=3", "/dicom-web/instances")
    assert (found.studies, found.series, found.instances) == (
        {"PatientID": "P"},
        {"Modality": "CT"},
        {"InstanceNumber": "3"},
    )


def test_a_study_in_the_path_and_another_in_the_query_have_nothing_in_common():
    found = query("StudyInstanceUID=1.9", "/dicom-web/studies/1.2/series")
    assert found.studies == {"StudyInstanceUID": "0"}
    assert query("", "/dicom-web/studies/1.2/series").studies == {"StudyInstanceUID": "1.2"}


def test_a_page_is_bounded():
    assert query("limit=999999&offset=7").limit == 1000
    assert query("limit=5&offset=7").offset == 7
    assert query("").limit == 1000


@pytest.mark.parametrize(
    "text",
    [
        "Foo=1",
        "PixelData=1",
        "00091001=x",
        "PatientName=a&PatientName=b",
        "PatientName=a&00100010=b",
        "Modality=CT",
        "SOPInstanceUID=1.2",
        "limit=0",
        "limit=-1",
        "limit=1e3",
        "offset=x",
        "fuzzymatching=maybe",
        "StudyDate=yesterday",
        "StudyDate=20200101-20200102-20200103",
        "StudyInstanceUID=1.2*",
        "StudyInstanceUID=" + ",".join(["1.2"] * 201),
        "PatientName=" + "a" * 257,
        "PatientName=" + "*a" * 9,
        "PatientName=a%00b",
        "PatientName=a%0d%0ab",
        "PatientName=%ff%fe",
        "PatientName=a%5Cb",
        "includefield=%3Cscript%3E",
        "x",
        "&".join(f"includefield={n:08X}" for n in range(101)),
        "PatientName=" + "a" * 20_000,
    ],
)
def test_what_is_none_of_it_is_refused_without_being_repeated(text):
    with pytest.raises(ProblemError) as told:
        query(text)
    assert told.value.status == 400
    assert not any(
        isinstance(fact, str) and fact in text[12:] for fact in told.value.facts.values()
    )


def test_a_class_of_everything_is_too_wide():
    with pytest.raises(ProblemError, match="query_too_wide"):
        query("SOPClassUID=1.2", "/dicom-web/instances")
    assert query("SOPClassUID=1.2", "/dicom-web/studies/1.5/instances").instances
