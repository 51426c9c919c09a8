"""Real scans all the way: sent, routed, analysed, stored, queried back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, generate_uid
from scipy import ndimage

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.dicom.read import read_series
from tests.conftest import ROOT
from tests.integration.conftest import Stack
from tests.pacs import ended, jobs, numbers, objects, text_of
from tests.phantoms import CORONARY_COURSE_LIDC_0002, insert_lesions

FEW_VOXELS = 6


def study_uid(folder: Path) -> str:
    path = next(folder.rglob("*.dcm"))
    return str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def segment_voxels(seg: pydicom.Dataset) -> dict[str, int]:
    """Voxels of each segment by its label."""
    labels = {int(s.SegmentNumber): str(s.SegmentLabel) for s in seg.SegmentSequence}
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    counts = dict.fromkeys(labels.values(), 0)
    for group, frame in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        shared = seg.SharedFunctionalGroupsSequence[0]
        where = group if "SegmentIdentificationSequence" in group else shared
        number = int(where.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        counts[labels[number]] += int(frame.sum())
    return counts


@pytest.mark.parametrize("name", ["lidc-idri-0002", "lung-dx-a0001"])
def test_a_native_chest_ct_without_clear_calcium_ends_near_zero(
    stack: Stack, shared_data: Path, name: str
) -> None:
    folder = shared_data / "chest-ct" / name
    uid = study_uid(folder)
    stack.send(folder)
    view = ended(stack.orthanc, uid)
    assert view["state"] == "done", view
    found = objects(stack.orthanc, jobs(view)[0])
    voxels = segment_voxels(found["SEG"])
    heart = next(count for label, count in voxels.items() if "eart" in label)
    assert heart > 100_000
    assert sum(count for label, count in voxels.items() if "alci" in label) <= FEW_VOXELS
    assert stack.orthanc.get_json("/dicom-web/series", StudyInstanceUID=uid, Modality="SR")


def filled(folder: Path, out: Path) -> str:
    """The torso slices with the identifiers that their anonymiser emptied; the study's."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    out.mkdir()
    for path in sorted(folder.glob("*.dcm")) or sorted(folder.iterdir()):
        ds = pydicom.dcmread(path, force=True)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.FrameOfReferenceUID, ds.SOPInstanceUID = frame, generate_uid()
        ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.save_as(out / path.name)
    return str(study)


def analyze(*words: str, code: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dicom_services.cli", "analyze", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def plain_agatston(values: NDArray[np.int64], area_mm2: float) -> float:
    """The definition, slice by slice, with nothing but scipy."""
    score = 0.0
    for plane in values:
        labels, count = ndimage.label(plane >= 130, np.ones((3, 3)))
        for n in range(1, count + 1):
            lesion = plane[labels == n]
            if lesion.size * area_mm2 >= 1.0:
                score += lesion.size * area_mm2 * min(int(lesion.max()) // 100, 4)
    return score


def test_the_torso_is_refused_as_it_is_for_its_empty_identifiers(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "ct-torso" / "tests" / "reference_files" / "example_ct_dicom"
    said = analyze(str(folder), "--out", str(tmp_path / "out"), code=3)
    assert "illegal_uid" in said


def test_the_torso_with_identifiers_is_refused_for_contrast_or_for_want_of_a_heart(
    stack: Stack, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "ct-torso" / "tests" / "reference_files" / "example_ct_dicom"
    uid = filled(folder, tmp_path / "in")
    stack.send(tmp_path / "in")
    view = ended(stack.orthanc, uid)
    assert view["state"] == "refused"
    assert view["code"] in ("contrast", "no_heart")
    report = objects(stack.orthanc, jobs(view)[0])["SR"]
    assert view["code"] in text_of(report)


def test_everything_above_130_is_scored_as_a_plain_loop_scores_it(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "ct-torso" / "tests" / "reference_files" / "example_ct_dicom"
    filled(folder, tmp_path / "in")
    analyze(str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--everything-above-130", code=0)
    document = json.loads((tmp_path / "out" / "findings.json").read_text())
    slices = [pydicom.dcmread(path) for path in (tmp_path / "in").iterdir()]
    hu = np.stack(
        [
            s.pixel_array.astype(np.int64) * int(s.RescaleSlope) + int(s.RescaleIntercept)
            for s in slices
        ]
    )
    area_mm2 = float(slices[0].PixelSpacing[0]) * float(slices[0].PixelSpacing[1])
    wanted = plain_agatston(hu, area_mm2)
    scores = [f["value"] for f in document["findings"] if f["code"]["value"] == "112058"]
    assert wanted > 1_000
    assert any(score == pytest.approx(wanted, rel=1e-9) for score in scores)
    report = pydicom.dcmread(
        tmp_path / "out" / next(r["file"] for r in document["results"] if "SR" in r["file"].upper())
    )
    assert any(value == pytest.approx(wanted, rel=1e-5) for value in numbers(report, "112058"))


def test_lesions_put_along_the_arteries_of_a_real_chest_ct_are_found_and_scored(
    stack: Stack, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "chest-ct" / "lidc-idri-0002"
    bare = read_series(sorted(folder.rglob("*.dcm"))).volume
    ct, planned = insert_lesions(bare, CORONARY_COURSE_LIDC_0002)
    paths = write_ct_series(ct, tmp_path / "in", seed="inserted", patient_id="INSERTED")
    uid = str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    stack.send(tmp_path / "in")
    view = ended(stack.orthanc, uid)
    assert view["state"] == "done", view
    report = objects(stack.orthanc, jobs(view)[0])["SR"]
    wanted = sum(lesion.score for lesion in planned)
    assert max(numbers(report, "112058")) == pytest.approx(wanted, rel=0.02)

    analyze(str(tmp_path / "in"), "--out", str(tmp_path / "out"), code=0)
    rows = json.loads((tmp_path / "out" / "findings.json").read_text())["lesions"]
    for lesion in planned:
        for part in lesion.slices:
            row, column = np.mean(part.rows), np.mean(part.columns)
            near = [
                found["score"]
                for found in rows
                if found["slice"] == part.k
                and np.hypot(found["row"] - row, found["column"] - column) < 1.0
            ]
            assert near == [pytest.approx(part.area_mm2 * part.weight, rel=0.02)], lesion.vessel
