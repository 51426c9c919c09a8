from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_services.dicom.decode_child import read_dynamic_limited
from dicom_services.dicom.dynamic_series import join_dynamic
from dicom_services.dicom.intake import open_input
from tests.dicom_files import SERIES, ct_files, stored_ramp
from tests.dynamic_files import both, mr_files, stored_series, timed

SHAPE = (5, 3, 4, 4)
STORED = stored_series(SHAPE)


def apart(t, k, ds):
    ds.SeriesInstanceUID = f"{SERIES}.{100 + t}"
    ds.SeriesDescription = f"Perfusion 1.5 s #{t}"


def write(folder: Path, files, name: str = "") -> None:
    for n, content in enumerate(files):
        (folder / f"{name}{n:03}.dcm").write_bytes(content)


def test_series_of_one_time_each_become_one(tmp_path):
    write(tmp_path, mr_files(STORED, both(timed(), apart))[::-1])
    found = open_input(tmp_path)
    assert len(found) == 5
    (joined,) = join_dynamic(found)
    assert joined.series_uid == f"{SERIES}.100"
    assert joined.facts["InstanceCount"] == len(joined.files) == 15
    volume = read_dynamic_limited(joined.files).volume
    assert np.array_equal(volume.values, STORED)


def test_other_series_stay_as_they_are(tmp_path):
    write(tmp_path, mr_files(STORED, both(timed(), apart)), "b")
    write(tmp_path, ct_files(stored_ramp((3, 4, 4))), "a")
    other, joined = join_dynamic(open_input(tmp_path))
    assert (other.modality, len(other.files)) == ("CT", 3)
    assert (joined.modality, len(joined.files)) == ("MR", 15)


def test_a_stopped_last_time_is_joined_too(tmp_path):
    write(tmp_path, mr_files(STORED, both(timed(), apart))[:-1])
    (joined,) = join_dynamic(open_input(tmp_path))
    assert len(joined.files) == 14


def runs(t, k, ds):
    ds.SeriesInstanceUID = f"{SERIES}.{100 + t % 3}"


def two(t, k, ds):
    ds.SeriesInstanceUID = f"{SERIES}.{100 + (t > 0)}"


def kernels(t, k, ds):
    ds.ConvolutionKernel = f"H{t}0"


def places(t, k, ds):
    ds.ImagePositionPatient = [-10, -20, 3 * k + 0.7 * t]


def frames(t, k, ds):
    ds.FrameOfReferenceUID = f"1.2.{t}"


def studies(t, k, ds):
    ds.StudyInstanceUID = f"1.2.{t}"


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (both(timed(), runs), 3),
        (both(timed(), two), 2),
        (both(timed(), apart, kernels), 5),
        (both(timed(), apart, places), 5),
        (both(timed(), apart, frames), 5),
        (both(timed(), apart, studies), 5),
        (both(apart), 5),
        (timed(), 1),
    ],
)
def test_what_is_no_single_dynamic_is_not_joined(change, count, tmp_path):
    write(tmp_path, mr_files(STORED, change))
    found = open_input(tmp_path)
    assert join_dynamic(found) == found
    assert len(found) == count


@pytest.mark.parametrize("name", ["dicom_4d", "dicom_4d_enhanced"])
def test_nineteen_series_of_a_real_ct_perfusion_become_one(name, shared_data):
    found = open_input(shared_data / "odd-dicom/panimg/tests/resources" / name)
    (joined,) = join_dynamic(found)
    assert len(found) == 19
    assert read_dynamic_limited(joined.files).volume.values.shape == (19, 4, 2, 3)
