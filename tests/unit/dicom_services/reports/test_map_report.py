"""The printed report of a result with maps: the right slice of each, units in words, curves."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pypdf
import pytest

from ai_nodes.analysis import Outcome, analyse
from ai_nodes.registry import PIPELINES
from dicom_services.dicom.dynamic_writer import Described, write_dynamic_series
from dicom_services.dicom.stored_map import map_plane
from dicom_services.dicom.write import to_bytes
from dicom_services.domain.findings import ParametricMap
from dicom_services.errors import InputError
from dicom_services.perfusion_phantom import PerfusionScan, perfusion_phantom
from dicom_services.reports.map_pictures import map_pictures, map_slice
from dicom_services.reports.report_child import ReportSource, report_limited, report_pdf
from dicom_services.reports.unit_text import unit_text
from tests.enhanced_files import write_enhanced

SMALL = PerfusionScan("DSC", 45, 2.0, (4, 64, 64), 3.3, 8.0)


@dataclass
class Case:
    """A phantom that was analysed, and what its report is made from."""

    outcome: Outcome
    plain: ReportSource
    maps: list[ParametricMap]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    made = perfusion_phantom(SMALL)
    paths = write_dynamic_series(made.volume, tmp_path_factory.mktemp("dsc"), Described("report"))
    first = paths[0].read_bytes()
    outcome = analyse(list(paths), PIPELINES["perfusion"], {})
    stored = {
        str(one.SOPInstanceUID): to_bytes(one) for one in outcome.objects if "FloatPixelData" in one
    }
    plain = ReportSource(
        files=[first],
        index=(),
        segmentation=None,
        findings=outcome.document,
        job={"job": outcome.document["job"], "updated": "2026-11-21T18:34:27.397570Z"},
        maps=stored,
    )
    return Case(outcome, plain, [one for one in outcome.findings if isinstance(one, ParametricMap)])


def words(pdf: bytes) -> str:
    found = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages]
    return re.sub(r"\s+", " ", " ".join(found))


def test_it_shows_every_map_and_its_unit_in_words(case: Case) -> None:
    pdf = report_pdf(case.plain)
    said = words(pdf)
    for expected in ("CBF, mL/100 g/min", "CBV, mL/100 g", "MTT, s", "TTP, s", "Tmax, s"):
        assert expected in said, expected
    assert "100.g" not in said
    assert "{ratio}" not in said
    pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
    # A picture and a colour bar each; equal bars are stored once.
    assert sum(len(page.images) for page in pages) >= len(case.maps) + 2


def test_it_counts_the_images_of_every_time_and_names_no_tube(case: Case) -> None:
    said = words(report_pdf(case.plain))
    assert "180 images, 8 mm apart" in said
    assert "kVp" not in said


def test_curves_stand_with_their_peaks(case: Case) -> None:
    said = words(report_pdf(case.plain))
    for curve in case.outcome.document["curves"]:
        peak = max(curve["values"])
        at = curve["times_s"][curve["values"].index(peak)]
        assert f"{curve['label']}: highest {peak:.4g} 1/s at {at:.1f} s" in said


def test_the_limited_child_makes_the_same_report(case: Case) -> None:
    assert report_limited(case.plain) == report_pdf(case.plain)


def test_the_pictures_hold_the_values_of_the_pipeline_in_the_fullest_slice(case: Case) -> None:
    document = case.outcome.document
    k = map_slice(document)
    assert k == document["masks"][0]["fullest_slice"]
    for one, told in zip(case.maps, document["maps"], strict=True):
        file = case.plain.maps[told["sop_instance_uid"]]
        place = one.geometry.affine[:3, 3] + k * one.geometry.affine[:3, 0]
        assert np.array_equal(map_plane(file, place), one.values[k], equal_nan=True)


def test_the_middle_is_shown_where_only_the_brain_was_marked(case: Case) -> None:
    brain = [one for one in case.outcome.document["masks"] if one["label"] == "Brain tissue"]
    assert map_slice(case.outcome.document | {"masks": brain}) == 2


def test_a_map_that_is_gone_or_broken_is_named(case: Case) -> None:
    uids = list(case.plain.maps)
    left = {uid: case.plain.maps[uid] for uid in uids[2:]} | {uids[1]: b"no DICOM"}
    pictures, missing = map_pictures(case.outcome.document, left)
    assert (len(pictures), missing) == (3, ["CBF", "CBV"])
    assert "Not shown: CBF, CBV." in words(report_pdf(replace(case.plain, maps=left)))
    assert "Not shown: CBF, CBV, MTT, TTP, Tmax." in words(report_pdf(replace(case.plain, maps={})))


@pytest.mark.parametrize("name", ["FloatPixelData", "PerFrameFunctionalGroupsSequence", "Rows"])
def test_a_map_without_its_pixels_or_places_is_refused(case: Case, name: str) -> None:
    broken = pydicom.dcmread(io.BytesIO(next(iter(case.plain.maps.values()))))
    delattr(broken, name)
    with pytest.raises(InputError) as caught:
        map_plane(to_bytes(broken), np.zeros(3))
    assert caught.value.code == "map_unreadable"


def test_a_map_without_window_spans_its_own_values(case: Case) -> None:
    maps = [one | {"window": None, "color_map": "UNKNOWN"} for one in case.outcome.document["maps"]]
    document: dict[str, Any] = case.outcome.document | {"maps": maps}
    assert words(report_pdf(replace(case.plain, findings=document)))


def test_a_scan_in_one_file_is_printed_too(case: Case, tmp_path: Path) -> None:
    whole = write_enhanced(perfusion_phantom(SMALL).volume, tmp_path / "all.dcm")
    said = words(report_pdf(replace(case.plain, files=[whole.read_bytes()])))
    assert "CBF, mL/100 g/min" in said


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("mL/(100.g.min)", "mL/100 g/min"),
        ("mL/(100.g)", "mL/100 g"),
        ("{ratio}", ""),
        ("{voxels}", "voxels"),
        ("[hnsf'U]", "HU"),
        ("mm", "mm"),
        (None, ""),
    ],
)
def test_units_are_written_as_people_write_them(unit: str | None, text: str) -> None:
    assert unit_text(unit) == text
