"""Segmentations, read back by programs that did not write them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom_services.dicom.seg import segmentation
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.write import encode, to_bytes
from dicom_services.domain.findings import Mask
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError
from tests import sources
from tests.validators import dciodvfy_errors, read_back, segment_voxels

GRIDS = {
    **sources.GRIDS,
    "tilted gantry": sources.geometry(step_mm=(0.0, 1.1, 2.9)),
    "101 x 103": sources.geometry(shape=(12, 101, 103), spacing_mm=(0.9, 0.3)),
    "fine": sources.geometry(spacing_mm=(0.1234567, 0.0912345), step_mm=(0, 0, 0.2)),
}


def masks(grid: Geometry) -> list[Mask]:
    return [each for each in sources.findings(grid) if isinstance(each, Mask)]


def write(found: list[Mask], source: SourceSeries) -> bytes:
    result = segmentation(found, source, sources.provenance())
    assert result is not None
    return to_bytes(result)


@pytest.mark.parametrize("name", GRIDS)
def test_every_geometry_is_read_back_voxel_for_voxel(name: str, tmp_path: Path) -> None:
    grid = GRIDS[name]
    file = write(masks(grid), sources.source(grid))
    back = segment_voxels(file, grid)
    assert sorted(back) == [1, 2]
    for number, mask in enumerate(masks(grid), 1):
        assert np.array_equal(back[number], mask.values)
    assert dciodvfy_errors(file, tmp_path) == []


@pytest.mark.parametrize("name", [name for name in GRIDS if name != "tilted gantry"])
def test_dcmqi_reads_every_voxel_where_it_is(name: str, tmp_path: Path) -> None:
    grid = GRIDS[name]
    (tmp_path / "seg.dcm").write_bytes(write(masks(grid), sources.source(grid)))
    command = Path(sys.executable).with_name("segimage2itkimage")
    said = subprocess.run(
        [command, "--inputDICOM", "seg.dcm", "--outputDirectory", ".", "-t", "nrrd"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    for number, mask in enumerate(masks(grid), 1):
        image = SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd"))
        assert _indices(image, grid) == set(map(tuple, np.argwhere(mask.values)))
    told = json.loads((tmp_path / "meta.json").read_text())
    assert told["SeriesDescription"] == "radloop calcium segmentation"


def _indices(image: Any, grid: Geometry) -> set[tuple[int, ...]]:
    """Voxels of an ITK image, as indices of `grid`; ITK counts (i, j, k) in LPS."""
    found = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)[:, ::-1]
    places = [image.TransformIndexToPhysicalPoint(index.tolist()) for index in found]
    indices = grid.to_index(np.array(places))
    assert np.abs(indices - np.rint(indices)).max() < 0.05
    return set(map(tuple, np.rint(indices).astype(int)))


_angle = st.floats(-80.0, 80.0)
_spacing = st.floats(0.2, 2.0)


@settings(max_examples=15, deadline=None)
@given(
    degrees=_angle,
    spacing=st.tuples(_spacing, _spacing),
    step=st.floats(0.3, 5.0),
    backwards=st.booleans(),
    shear=st.floats(-0.3, 0.3),
    shape=st.tuples(st.integers(1, 6), st.integers(2, 19), st.integers(4, 19)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_geometry_and_any_overlap_survive(
    degrees: float,
    spacing: tuple[float, float],
    step: float,
    backwards: bool,
    shear: float,
    shape: tuple[int, int, int],
    seed: int,
) -> None:
    row, column, normal = sources.tilted(degrees)
    towards = (-normal if backwards else normal) + shear * np.array(column)
    grid = sources.geometry(shape, spacing, tuple(step * towards), row, column)
    draw = np.random.default_rng(seed)
    values: list[NDArray[np.bool_]] = [draw.random(shape) < share for share in (0.05, 0.4)]
    found = [
        Mask(sources.HEART, sources.ANATOMY, f"Part {number}", each, grid, None, f"part {number}")
        for number, each in enumerate(values)
    ]
    shown = [each for each in values if each.any()]
    result = segmentation(found, sources.source(grid), sources.provenance())
    if not shown:
        assert result is None
        return
    assert result is not None
    back = segment_voxels(to_bytes(result), grid)
    assert len(back) == len(shown)
    for number, each in enumerate(shown, 1):
        assert np.array_equal(back[number], each)


def test_highdicom_reads_it_back_as_well() -> None:
    grid = GRIDS["plain"]
    dataset = read_back(write(masks(grid), sources.source(grid)))
    seg = hd.seg.Segmentation.from_dataset(dataset)
    images = [each.sop_instance_uid for each in sources.instances(grid)]
    pixels = seg.get_pixels_by_source_instance(images, assert_missing_frames_are_empty=True)
    for number, mask in enumerate(masks(grid)):
        assert np.array_equal(pixels[..., number].astype(bool), mask.values)


def test_an_empty_mask_gets_no_segment() -> None:
    grid = sources.geometry()
    first, second = masks(grid)
    empty = replace(first, values=np.zeros(grid.shape, bool), lesions=())
    dataset = read_back(write([empty, second], sources.source(grid)))
    assert [each.SegmentLabel for each in dataset.SegmentSequence] == ["Heart"]
    assert [each.SegmentNumber for each in dataset.SegmentSequence] == [1]


def test_nothing_but_empty_masks_is_no_segmentation() -> None:
    found = [each for each in sources.nothing() if isinstance(each, Mask)]
    assert segmentation(found, sources.source(), sources.provenance()) is None
    assert segmentation([], sources.source(), sources.provenance()) is None


def test_frames_without_a_voxel_are_left_out() -> None:
    grid = sources.geometry()
    dataset = read_back(write(masks(grid), sources.source(grid)))
    # Calcium in slices 4, 5 and 8; the heart in 2 to 10.
    assert dataset.NumberOfFrames == 3 + 9


def test_a_single_segment_is_named_in_every_frame() -> None:
    grid = sources.geometry()
    dataset = read_back(write(masks(grid)[:1], sources.source(grid)))
    assert "SegmentIdentificationSequence" not in dataset.SharedFunctionalGroupsSequence[0]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        assert group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1


def test_each_frame_names_the_image_it_lies_on() -> None:
    grid = sources.geometry()
    dataset = read_back(write(masks(grid)[:1], sources.source(grid)))
    images = {each.sop_instance_uid: each for each in sources.instances(grid)}
    named = []
    for group in dataset.PerFrameFunctionalGroupsSequence:
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        image = images[reference.ReferencedSOPInstanceUID]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert tuple(map(float, position)) == image.position_mm
        named.append(image.number)
    assert sorted(named) == [5, 6, 9]


def test_frames_repeat_the_positions_of_their_images_to_the_digit() -> None:
    grid = GRIDS["oblique"]
    dataset = read_back(write(masks(grid)[:1], sources.source(grid)))
    images = {each.position_mm for each in sources.instances(grid)}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        assert tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient)) in images


def test_spacing_between_slices_is_measured_across_them_under_gantry_tilt() -> None:
    grid = sources.geometry(step_mm=(0.0, 1.5, 2.0))
    dataset = read_back(write(masks(grid), sources.source(grid)))
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == pytest.approx(2.0)
    assert measures.SliceThickness == 3.0


def test_a_segment_says_what_it_is_and_who_found_it() -> None:
    grid = sources.geometry()
    dataset = read_back(write(masks(grid), sources.source(grid)))
    segment = dataset.SegmentSequence[0]
    assert segment.SegmentLabel == "Coronary calcium"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "36222008"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert segment.AnatomicRegionSequence[0].CodeValue == "41801008"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentAlgorithmName == "calcium-rule"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmVersion, algorithm.AlgorithmSource) == ("1.0.0", "radloop")
    assert segment.TrackingID == "total"
    assert segment.TrackingUID.startswith("2.25.")


def test_red_is_written_as_cielab() -> None:
    grid = sources.geometry()
    red = replace(masks(grid)[0], color=(255, 0, 0), lesions=())
    dataset = read_back(write([red], sources.source(grid)))
    lightness, a, b = dataset.SegmentSequence[0].RecommendedDisplayCIELabValue
    # sRGB red under the D50 white of PS3.3 C.10.7.1.1: L* 54.29, a* 80.81, b* 69.89.
    assert lightness / 65535 * 100 == pytest.approx(54.3, abs=1.5)
    assert a / 65535 * 255 - 128 == pytest.approx(80.8, abs=1.5)
    assert b / 65535 * 255 - 128 == pytest.approx(69.9, abs=3.0)


@pytest.mark.parametrize(
    "other",
    [
        sources.geometry(shape=(11, 40, 48)),
        sources.geometry(shape=(12, 41, 48)),
        sources.geometry(origin_mm=(-120.5, -80.25, 41.0)),
        sources.geometry(step_mm=(0.0, 0.0, -3.0)),
    ],
)
def test_a_mask_on_another_grid_is_refused(other: Geometry) -> None:
    values = np.ones(other.shape, bool)
    mask = Mask(sources.HEART, sources.ANATOMY, "Heart", values, other)
    with pytest.raises(InputError) as raised:
        segmentation([mask], sources.source(), sources.provenance())
    assert raised.value.code == "mask_grid"


def test_images_of_fewer_than_8_pixels_are_refused_because_highdicom_packs_them_wrongly() -> None:
    grid = sources.geometry((1, 2, 3))
    mask = Mask(sources.HEART, sources.ANATOMY, "Heart", np.ones(grid.shape, bool), grid)
    with pytest.raises(InputError) as raised:
        segmentation([mask], sources.source(grid), sources.provenance())
    assert raised.value.code == "image_size"


def test_the_byte_that_makes_the_length_even_is_null() -> None:
    # 3 frames of 5 x 5 pixels are 75 bits, 10 bytes; 1 frame is 4 bytes of which 25 bits count;
    # 2 frames are 50 bits, 7 bytes and one more.
    for slices, length in ((3, 10), (1, 4), (2, 8)):
        grid = sources.geometry((slices, 5, 5))
        mask = Mask(sources.HEART, sources.ANATOMY, "Heart", np.ones(grid.shape, bool), grid)
        pixels = read_back(write([mask], sources.source(grid))).PixelData
        assert len(pixels) == length
        bits = np.unpackbits(np.frombuffer(pixels, np.uint8), bitorder="little")
        assert bits[: 25 * slices].all()
        assert not bits[25 * slices :].any()


def test_masks_on_two_grids_are_refused() -> None:
    other = sources.geometry(origin_mm=(0.0, 0.0, 0.0))
    pair = [masks(sources.geometry())[0], masks(other)[0]]
    with pytest.raises(InputError) as raised:
        segmentation(pair, sources.source(), sources.provenance())
    assert raised.value.code == "mask_grid"


def test_images_without_position_thickness_or_frame_of_reference_are_placed_by_geometry() -> None:
    grid = sources.geometry()
    plain = sources.source(grid, FrameOfReferenceUID=None, SliceThickness=None, PixelSpacing=None)
    nowhere = tuple(replace(each, position_mm=None) for each in plain.instances)
    file = write(masks(grid), replace(plain, instances=nowhere))
    assert np.array_equal(segment_voxels(file, grid)[1], masks(grid)[0].values)
    dataset = read_back(file)
    assert dataset.FrameOfReferenceUID == sources.FRAME
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == pytest.approx(3.0)


def test_a_series_without_any_frame_of_reference_gets_one_of_its_own() -> None:
    grid = Geometry(sources.geometry().affine, (12, 40, 48), "")
    source = sources.source(grid, FrameOfReferenceUID=None)
    one = read_back(write(masks(grid), source)).FrameOfReferenceUID
    again = read_back(write(masks(grid), source)).FrameOfReferenceUID
    other = sources.source(grid, FrameOfReferenceUID=None, SeriesInstanceUID="1.2.3")
    assert one == again
    assert one.startswith("2.25.")
    assert one != read_back(write(masks(grid), other)).FrameOfReferenceUID


def test_the_segmentation_of_a_whole_run_is_the_first_object() -> None:
    results = encode(sources.findings(), sources.source(), sources.provenance())
    assert [each.Modality for each in results] == ["SEG", "SR", "KO"]
