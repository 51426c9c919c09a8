"""A CT in one enhanced multi-frame file is analysed as the same CT in classic slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ai_nodes.analysis import Outcome, analyse
from ai_nodes.registry import PIPELINES
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.domain.volume import Volume
from dicom_services.phantom_command import demo_phantom
from tests.dicom_files import to_bytes
from tests.dynamic_files import enhanced


def _enhanced_file(volume: Volume) -> bytes:
    geometry = volume.geometry
    stored = np.clip(np.rint(volume.values), -1024, 3071).astype(np.int32) + 1024
    ds = enhanced(stored.astype(np.uint16)[None], "CT")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = _rounded(geometry.pixel_spacing_mm)
    along_row, along_column = geometry.affine[:3, 2], geometry.affine[:3, 1]
    cosines = [axis / np.linalg.norm(axis) for axis in (along_row, along_column)]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = _rounded(np.concatenate(cosines))
    shared.CTXRayDetailsSequence[0].KVP = "120"
    for k, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        place = geometry.to_patient_mm(np.array([k, 0.0, 0.0]))
        item.PlanePositionSequence[0].ImagePositionPatient = _rounded(place)
    return to_bytes(ds)


def _rounded(values: NDArray[np.float64] | tuple[float, ...]) -> list[float]:
    return [round(float(value), 8) for value in values]


@pytest.fixture(scope="module")
def volume() -> Volume:
    return demo_phantom(slices=24, matrix=128).volume


@pytest.fixture(scope="module")
def outcomes(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    folder: Path = tmp_path_factory.mktemp("ct")
    classic = write_ct_series(volume, folder, seed="enhanced")
    pipeline = PIPELINES["calcium"]
    return analyse(list(classic), pipeline, {}), analyse([_enhanced_file(volume)], pipeline, {})


def test_both_have_the_same_score(outcomes):
    classic, one_file = outcomes
    assert classic.state == one_file.state == "done"
    assert classic.headline == one_file.headline


def test_results_refer_to_the_frames_they_lie_on(outcomes, volume):
    segmentation = next(one for one in outcomes[1].objects if one.Modality == "SEG")
    assert len(segmentation.PerFrameFunctionalGroupsSequence) > 1
    for item in segmentation.PerFrameFunctionalGroupsSequence:
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        k = int(source.ReferencedFrameNumber) - 1
        place = volume.geometry.to_patient_mm(np.array([k, 0.0, 0.0]))
        told = [float(value) for value in item.PlanePositionSequence[0].ImagePositionPatient]
        assert told == pytest.approx(place, abs=1e-3)
