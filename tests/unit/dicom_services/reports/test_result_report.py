"""The printed report says what algorithm and reader say, names both, and is safe to print."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
import pypdf
import pytest

from ai_nodes.analysis import Outcome, analyse
from ai_nodes.registry import PIPELINES
from dicom_services.dicom.assessed_result import algorithm_scores
from dicom_services.dicom.counted_mask import CountedMask, score_mask
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.dicom.findings_document import refusal_document
from dicom_services.dicom.identity import put
from dicom_services.dicom.indexed_series import (
    IndexedInstance,
    indexed_instances,
    indexed_series,
)
from dicom_services.dicom.provenance import NOTICE
from dicom_services.dicom.quiet import quiet
from dicom_services.dicom.segment_bits import read_segment_bits
from dicom_services.dicom.write import to_bytes
from dicom_services.domain.assessment import VesselRuns
from dicom_services.phantom_command import demo_phantom
from dicom_services.reports.report_child import ReportSource, key_uids, report_limited, report_pdf
from tests.sources import provenance, source

JOB = "3f786850e387550fdab836ed7e6dc881de23001b"


@dataclass
class Case:
    """A scored phantom, and what a report is made from."""

    outcome: Outcome
    plain: ReportSource
    index: tuple[IndexedInstance, ...]
    files: dict[str, bytes]

    def named(self, name: str) -> ReportSource:
        """The same of another patient."""
        made = []
        for file in self.plain.files:
            dataset = pydicom.dcmread(io.BytesIO(file))
            dataset.SpecificCharacterSet = "ISO_IR 192"
            buffer = io.BytesIO()
            with quiet():
                put(dataset, "PatientName", name)
                dataset.save_as(buffer)
            made.append(buffer.getvalue())
        return replace(self.plain, files=made)


def case_of(folder: Path, **options: Any) -> Case:
    phantom = demo_phantom(slices=options.pop("slices", 40), matrix=128)
    paths = write_ct_series(phantom.volume, folder, seed="report")
    files = [path.read_bytes() for path in paths]
    outcome = analyse(list(files), PIPELINES["calcium"], options, job=JOB)
    headers = [pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True) for file in files]
    index = indexed_instances(
        [
            {
                "ID": str(n),
                "MainDicomTags": {
                    "SOPInstanceUID": str(one.SOPInstanceUID),
                    "InstanceNumber": str(one.InstanceNumber),
                    "ImagePositionPatient": "\\".join(map(str, one.ImagePositionPatient)),
                    "ImageOrientationPatient": "\\".join(map(str, one.ImageOrientationPatient)),
                },
            }
            for n, one in enumerate(headers)
        ]
    )
    by_uid = {str(one.SOPInstanceUID): file for one, file in zip(headers, files, strict=True)}
    shown = [by_uid[uid] for uid in key_uids(outcome.document)] or [files[20]]
    seg = next((one for one in outcome.objects if one.Modality == "SEG"), None)
    plain = ReportSource(
        files=shown,
        index=index,
        segmentation=to_bytes(seg) if seg is not None else None,
        findings=outcome.document,
        job={"job": JOB, "updated": "2026-11-21T18:34:27.397570Z", "superseded_by": ""},
    )
    return Case(outcome, plain, index, by_uid)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(tmp_path_factory.mktemp("ct"))


def correction(case: Case, **fields: Any) -> dict[str, Any]:
    """A reader who leaves out the first lesion."""
    totals = case.outcome.document["lesion_totals"]
    row = case.outcome.document["lesions"][0]
    anchor = {"sop_instance_uid": row["sop_instance_uid"], "row": 1, "column": 1}
    return {
        "id": "0b8f5a34-7f9e-4f4e-9d0a-0f3f4c1b2a10",
        "seq": 2,
        "author": {"id": "1", "display_name": "Dr. Ada Łukasiewicz"},
        "received_at": "2026-03-14T09:26:53.589+00:00",
        "verdict": "modify",
        "reason": "",
        "note": "First one is bone.",
        "concurrent": ["x"],
        "score_check": "differs",
        "scores": {
            "threshold_hu": 130.0,
            "agatston": 77.25,
            "agatston_by_spacing": 66.5,
            "volume_mm3": 55.5,
            "mass_mg": 4.5,
            "lesions": 2,
            "cac_drs": {"value": "A1", "scheme": "99RADLOOP", "meaning": "A1: score 1 to 99"},
            "rumberger": {"value": "11-100", "scheme": "99RADLOOP", "meaning": "11-100: mild"},
            "vessels": {"LAD": {"agatston": 77.25, "volume_mm3": 55.5, "lesions": 2}},
        },
        "calcium": {
            "lesions": [
                {
                    "id": totals[0]["id"],
                    "tracking_uid": "2.25.1",
                    "verdict": "reject",
                    "counted": False,
                    "vessel": "unassigned",
                    "reason": "bone",
                    "note": "",
                    "anchor": anchor,
                },
            ],
            "mask": [
                {"sop_instance_uid": row["sop_instance_uid"], "vessel": "LAD", "runs": [5, 3]}
            ],
            "scores": {"agatston": 80.0},
        },
        **fields,
    }


def pages(pdf: bytes) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages]


def words(pdf: bytes) -> str:
    return re.sub(r"\s+", " ", " ".join(pages(pdf)))


def test_it_says_patient_scores_units_algorithm_and_job(case: Case) -> None:
    said = words(report_pdf(case.plain))
    document = case.outcome.document
    ours = algorithm_scores(document)
    assert ours is not None
    assert "DEMO, CALCIUM" in said
    assert "RADLOOP-DEMO" in said
    assert f"{ours.agatston:.1f}" in said
    assert f"{ours.volume_mm3:.1f} mm³" in said
    assert f"{ours.mass_mg:.1f} mg" in said
    assert "130 HU" in said
    assert document["versions"]["model"]["name"] in said
    assert document["versions"]["model"]["sha256"][:16] in said
    assert JOB in said
    for warning in document["warnings"]:
        assert warning["value"]["meaning"] in said


def test_every_page_says_research_only_whose_it_is_and_which_of_how_many(case: Case) -> None:
    found = pages(report_pdf(case.plain))
    assert len(found) >= 2
    for number, page in enumerate(found, 1):
        assert page.count(NOTICE) >= 2
        assert f"Page {number} of {len(found)}" in page
        assert "DEMO, CALCIUM" in page


def test_the_numbers_are_the_sum_of_the_lesions_that_count(case: Case) -> None:
    ours = algorithm_scores(case.outcome.document)
    assert ours is not None
    assert ours.agatston == pytest.approx(demo_phantom(slices=40, matrix=128).score, rel=1e-6)


def test_key_images_show_each_lesion_before_any_twice(case: Case) -> None:
    document = case.outcome.document
    uids = key_uids(document)
    assert len(uids) == len(set(uids)) <= 6
    held = {
        row["id"]
        for row in document["lesions"]
        if row["sop_instance_uid"] in uids and row["counted"]
    }
    assert len(held) >= min(6, sum(one["counted"] for one in document["lesion_totals"]))
    reader = pypdf.PdfReader(io.BytesIO(report_pdf(case.plain)))
    assert sum(len(page.images) for page in reader.pages) == len(uids)


def test_the_reader_s_numbers_stand_beside_and_are_named(case: Case) -> None:
    said = words(report_pdf(replace(case.plain, correction=correction(case))))
    for expected in (
        "Reader: Dr. Ada Łukasiewicz",
        "77.2",
        "66.5",
        "modifies the result",
        "First one is bone.",
        "not counted; bone",
        "Correction 2 of this study, received 2026-03-14 09:26 UTC",
        "1 by others at the same time",
        "browser showed an Agatston score of 80.0",
        "Blue: counted by the reader",
    ):
        assert expected in said, expected


def test_a_rejection_without_numbers_is_told(case: Case) -> None:
    told = correction(
        case, verdict="reject", reason="motion", scores=None, calcium=None, score_check="none"
    )
    said = words(report_pdf(replace(case.plain, correction=told)))
    assert "rejects the result: motion artifact" in said
    assert "Reader: Dr." not in said


def test_the_same_report_is_the_same_bytes(case: Case) -> None:
    assert report_pdf(case.plain) == report_pdf(case.plain)


def test_the_limited_child_makes_the_same_report(case: Case) -> None:
    assert report_limited(case.plain) == report_pdf(case.plain)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("Łukasiewicz^Ada^^Dr.", "Łukasiewicz, Ada Dr."),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou"),
        ("<b>Doe</b>^<script>alert(1)</script>", "<b>Doe</b>, <script>alert(1)</script>"),
        ("&lt;^<a/><br/>", "&lt;, <a/><br/>"),
        ("Ωμέγα^Иван", "Ωμέγα, Иван"),
        ("สมชาย", "‹U+0E2A›"),
    ],
)
def test_names_of_any_script_print_and_stay_text(case: Case, name: str, printed: str) -> None:
    said = words(report_pdf(case.named(name)))
    assert printed in said
    assert ("have no glyph" in said) == ("U+" in printed)


def test_no_name_reaches_the_metadata(case: Case) -> None:
    reader = pypdf.PdfReader(io.BytesIO(report_pdf(case.plain)))
    told = " ".join(str(value) for value in (reader.metadata or {}).values())
    assert "DEMO" not in told
    assert "RADLOOP-DEMO" not in told


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told | {"note": "x" * 2000},
        lambda told: told | {"note": "\n".join("y" * 1000)},
        lambda told: told | {"note": "😀" * 2000},
        lambda told: told | {"author": {"id": "1", "display_name": "W" * 200}},
    ],
)
def test_however_long_a_note_is_it_prints(
    case: Case, spoil: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    told = spoil(correction(case))
    lesion = told["calcium"]["lesions"][0]
    told["calcium"] = told["calcium"] | {"lesions": [lesion | {"note": told["note"]}]}
    assert report_pdf(replace(case.plain, correction=told)).startswith(b"%PDF")


def test_headers_that_hold_a_book_print(case: Case) -> None:
    assert report_pdf(case.named("^".join(["ÄÖÜ " * 500] * 5))).startswith(b"%PDF")


def test_a_refused_series_prints_why(case: Case) -> None:
    refused = refusal_document(
        "slice_increment", {"millimetres": 6.0}, source(), provenance(job=JOB)
    )
    said = words(report_pdf(replace(case.plain, findings=refused, segmentation=None)))
    assert "The analysis was refused: The slices are too far apart. (millimetres 6.0)" in said
    assert "key image" not in said


def test_hundreds_of_lesions_print(case: Case) -> None:
    document = dict(case.outcome.document)
    one, row = document["lesion_totals"][0], document["lesions"][0]
    document["lesion_totals"] = [one | {"id": f"L{n}"} for n in range(300)]
    document["lesions"] = [row | {"id": f"L{n}"} for n in range(300)]
    said = words(report_pdf(replace(case.plain, findings=document)))
    assert "260 more lesions are not listed here" in said


def test_a_result_of_another_pipeline_prints_its_findings(case: Case) -> None:
    document = dict(case.outcome.document) | {"scoring": None, "lesions": [], "lesion_totals": []}
    document["masks"] = []
    said = words(report_pdf(replace(case.plain, findings=document, segmentation=None)))
    assert "Findings" in said
    assert "no key image" not in said


def test_the_outline_is_of_the_segment_that_counts(case: Case) -> None:
    assert case.plain.segmentation is not None
    series = indexed_series(case.plain.files[0], case.index)
    bits = read_segment_bits(case.plain.segmentation, series)
    uids = [one.sop_instance_uid for one in series.source.instances]
    runs = []
    for k, uid in enumerate(uids):
        flat = bits.plane(1, k).ravel()
        if flat.any():
            pairs = tuple(v for n in flat.nonzero()[0].tolist() for v in (n, 1))
            runs.append(VesselRuns(uid, "unassigned", pairs))
    files = [case.files[each.sop_instance_uid] for each in runs]
    mask = CountedMask(tuple(runs), {}, 130.0)
    scored = score_mask(files, case.index, mask)
    ours = algorithm_scores(case.outcome.document)
    assert ours is not None
    assert scored["scores"]["agatston"] == pytest.approx(ours.agatston, rel=1e-9)
    assert scored["scores"]["lesions"] == ours.lesions
    apart = score_mask(
        files, case.index, CountedMask(tuple(runs), {}, 130.0), case.plain.segmentation
    )
    assert apart["scores"] == scored["scores"]


def test_what_is_set_aside_is_summed_up_unless_the_reader_counts_it(case: Case) -> None:
    document = dict(case.outcome.document)
    one = document["lesion_totals"][0] | {"counted": False}
    rib = {"value": "bone", "scheme": "99RADLOOP", "meaning": "Bone of the rib cage"}
    aside = [one | {"id": f"S{n}", "reason": rib} for n in range(1, 4)]
    document["lesion_totals"] = [*document["lesion_totals"], *aside]
    told = correction(case)
    lesion = told["calcium"]["lesions"][0] | {"id": "S2", "counted": True, "vessel": "RCA"}
    told["calcium"] = told["calcium"] | {"lesions": [lesion | {"reason": "missed"}]}
    said = words(report_pdf(replace(case.plain, findings=document, correction=told)))
    assert "not counted by the algorithm: 2 x bone of the rib cage" in said
    assert "counted, RCA; missed by the algorithm" in said
    assert "S2" in said
    assert "S1" not in said
