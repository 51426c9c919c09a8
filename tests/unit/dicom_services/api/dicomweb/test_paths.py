"""DICOMweb paths: what each names, and that nothing else is passed on."""

from __future__ import annotations

import pytest

from dicom_services.api.dicomweb.paths import resource_of
from dicom_services.api.rules import RULES

STUDY, SERIES, INSTANCE = "1.2.3", "1.2.3.4", "1.2.3.4.5"
WHOLE = f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}"


@pytest.mark.parametrize(
    ("path", "form", "level"),
    [
        ("/dicom-web/studies", "search", "studies"),
        ("/dicom-web/series", "search", "series"),
        ("/dicom-web/instances", "search", "instances"),
        (f"/dicom-web/studies/{STUDY}/series", "search", "series"),
        (f"/dicom-web/studies/{STUDY}/instances", "search", "instances"),
        (f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances", "search", "instances"),
        (f"/dicom-web/studies/{STUDY}", "objects", "studies"),
        (f"/dicom-web/studies/{STUDY}/series/{SERIES}", "objects", "series"),
        (WHOLE, "objects", "instances"),
        (f"/dicom-web/studies/{STUDY}/metadata", "metadata", "studies"),
        (f"{WHOLE}/metadata", "metadata", "instances"),
        (f"{WHOLE}/rendered", "rendered", "instances"),
        (f"{WHOLE}/frames/1,2,3", "frames", "instances"),
        (f"{WHOLE}/frames/1/rendered", "rendered", "instances"),
        (f"{WHOLE}/bulk/7fe00010", "bulk", "instances"),
        (f"{WHOLE}/bulk/00400260/1/00080104", "bulk", "instances"),
    ],
)
def test_a_path_names_a_form_and_a_level(path, form, level):
    found = resource_of(path)
    assert found is not None
    assert (found.form, found.level) == (form, level)


@pytest.mark.parametrize(
    "path",
    [
        "/dicom-web",
        "/dicom-web/workitems",
        "/dicom-web/servers",
        "/dicom-web/studies/1.2.3/rendered",
        "/dicom-web/studies/1.2.3/series/x",
        "/dicom-web/studies/1.2.3/delete",
        f"{WHOLE}/frames/0x1",
        f"{WHOLE}/frames/" + ",".join(["1"] * 257),
        f"{WHOLE}/bulk/../../../../../instances",
        f"{WHOLE}/bulk/",
        f"{WHOLE}/thumbnail",
        "/wado",
    ],
)
def test_what_is_none_of_them_names_nothing(path):
    assert resource_of(path) is None


def test_every_form_of_path_stands_in_the_rules():
    patterns = {(rule.method, rule.pattern) for rule in RULES}
    places = {STUDY: "{study}", SERIES: "{series}", INSTANCE: "{instance}"}
    for path in (
        "/studies",
        "/series",
        "/instances",
        *(f"/studies/{STUDY}{end}" for end in ("", "/metadata", "/series", "/instances")),
        *(
            f"/studies/{STUDY}/series/{SERIES}{end}"
            for end in ("", "/metadata", "/instances", "/rendered")
        ),
    ):
        segments = [places.get(segment, segment) for segment in path.split("/")]
        assert ("GET", "/dicom-web" + "/".join(segments)) in patterns
    instance = "/dicom-web/studies/{study}/series/{series}/instances/{instance}"
    for end in ("", "/metadata", "/rendered", "/frames/{frames}", "/bulk/{rest}"):
        assert ("GET", instance + end) in patterns
