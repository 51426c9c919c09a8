"""The chest phantom: its truth can be found again in its pixels, and its files are plain CT."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydicom import dcmread
from scipy import ndimage

from dicom_services.body import DECOYS, LABELS, VESSELS
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.dicom.read import read_series
from dicom_services.phantom import random_phantom, weight_of, write_phantom
from tests.phantoms import Box, calcium_plaque, grid, rotation, volume


@pytest.mark.parametrize(("peak_hu", "weight"), [(129, 0), (130, 1), (199, 1), (200, 2), (299, 2)])
def test_low_peaks_weigh_as_published(peak_hu, weight):
    assert weight_of(peak_hu) == weight


@pytest.mark.parametrize(("peak_hu", "weight"), [(300, 3), (399, 3), (400, 4), (3071, 4)])
def test_high_peaks_weigh_as_published(peak_hu, weight):
    assert weight_of(peak_hu) == weight


@pytest.mark.parametrize(("seed", "view"), [(1, "chest"), (2, "cardiac"), (3, "cardiac")])
def test_planned_pixels_are_exactly_the_connected_bright_pixels(seed, view):
    made = random_phantom(seed, view, lesions=8, matrix=256, noise_hu=20.0)
    assert len(made.lesions) >= 6
    values = made.volume.values
    for lesion in made.lesions:
        for part in lesion.slices:
            labels, _ = ndimage.label(values[part.k] >= 130, np.ones((3, 3)))
            seen = labels == labels[part.rows[0], part.columns[0]]
            assert set(zip(*np.nonzero(seen), strict=True)) == set(
                zip(part.rows, part.columns, strict=True)
            )
            assert values[part.k][seen].max() == part.peak_hu
            area = len(part.rows) * made.volume.geometry.pixel_area_mm2
            assert part.score == pytest.approx(area * weight_of(part.peak_hu))


def test_truth_sums_lesions_by_vessel_and_corrects_for_spacing():
    made = random_phantom(4, "cardiac", lesions=8, matrix=192)
    truth = made.truth()
    assert sum(truth["by_vessel"].values()) == pytest.approx(truth["agatston"])
    assert set(truth["by_vessel"]) == set(VESSELS)
    factor = made.volume.geometry.slice_spacing_mm / 3.0
    assert truth["agatston_times_spacing_over_3_mm"] == pytest.approx(truth["agatston"] * factor)


def test_same_seed_gives_the_same_phantom_and_another_seed_another():
    one, same, other = (random_phantom(n, "cardiac", matrix=96) for n in (5, 5, 6))
    np.testing.assert_array_equal(one.volume.values, same.volume.values)
    assert one.truth() == same.truth()
    assert one.truth() != other.truth()


def test_every_decoy_is_there_when_asked_for_and_none_otherwise():
    full = random_phantom(7, "chest", matrix=256)
    for name in DECOYS:
        assert (full.labels == LABELS[name]).any(), name
    bare = random_phantom(7, "chest", decoys=(), matrix=256)
    assert not ((bare.labels >= 20) & (bare.labels < 40)).any()


def test_written_phantom_reads_back_voxel_for_voxel_with_its_truth(tmp_path):
    made = random_phantom(8, "cardiac", matrix=128)
    paths = write_phantom(made, tmp_path)
    read = read_series(paths).volume
    values = made.volume.values
    if made.volume.geometry.affine[2, 0] < 0.0:
        values = values[::-1]
    got = read.values if read.geometry.affine[2, 0] > 0.0 else read.values[::-1]
    np.testing.assert_array_equal(got, values)
    assert json.loads((tmp_path / "truth.json").read_text()) == made.truth()
    first = dcmread(paths[0])
    assert (str(first.PatientName), first.PatientID) == ("DEMO^CALCIUM", "RADLOOP-DEMO")
    assert first.KVP == 120


def test_same_seed_writes_the_same_bytes(tmp_path):
    ct = calcium_plaque(300)
    one = write_ct_series(ct, tmp_path / "one", seed="a")
    two = write_ct_series(ct, tmp_path / "two", seed="a")
    three = write_ct_series(ct, tmp_path / "three", seed="b")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert one[0].read_bytes() != three[0].read_bytes()


@pytest.mark.parametrize("turn", [np.eye(3), rotation((1, 2, 3), 25.0), rotation((0, 1, 0), 90.0)])
def test_written_series_keeps_any_orientation(tmp_path, turn):
    geometry = grid((5, 24, 20), (2.5, 0.7, 0.6), rotation=turn, origin_mm=(10.0, -20.0, 30.0))
    ct = volume([Box((1, 2, 3), (2, 3, 4), 500)], geometry)
    read = read_series(write_ct_series(ct, tmp_path)).volume
    inside = np.argwhere(read.values == 500).astype(float)
    seen = read.geometry.to_patient_mm(inside)
    want = geometry.to_patient_mm(np.argwhere(ct.values == 500).astype(float))
    order = [np.lexsort(points.round(3).T) for points in (seen, want)]
    np.testing.assert_allclose(seen[order[0]], want[order[1]], atol=1e-3)
