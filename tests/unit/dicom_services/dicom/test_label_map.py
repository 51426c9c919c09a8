"""Label maps, which an archive may ask for: written, told where they cannot be, read back."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset

from dicom_services.dicom.checks import check_results
from dicom_services.dicom.indexed_series import IndexedSeries
from dicom_services.dicom.seg import LABEL_MAP_CLASS, overlap
from dicom_services.dicom.segment_bits import read_segment_bits
from dicom_services.dicom.segmented_region import read_segmented_frames
from dicom_services.dicom.write import encode, to_bytes
from dicom_services.domain.findings import Mask
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import CorruptError
from tests import sources
from tests.validators import content, dciodvfy_errors, read_back


def apart(grid: Geometry | None = None) -> list[Mask]:
    """Three masks that share no voxel; the second has none."""
    grid = grid or sources.geometry()
    found = []
    for number, (rows, slices) in enumerate(
        ((slice(3, 9), slice(2, 6)), (slice(0, 0), slice(0, 0)), (slice(20, 31), slice(4, 9)))
    ):
        values = np.zeros(grid.shape, bool)
        values[slices, rows, 5:18] = True
        name = f"part {number}"
        found.append(Mask(sources.HEART, sources.ANATOMY, name, values, grid, sources.BRAIN, name))
    return found


def written(masks: list[Mask]) -> tuple[Dataset, ...]:
    return encode(masks, sources.source(), sources.provenance(), segmentation="labelmap")


def test_masks_that_do_not_overlap_are_one_label_map(tmp_path: Path) -> None:
    result = written(apart())[0]
    assert result.SOPClassUID == LABEL_MAP_CLASS
    assert result.SegmentationType == "LABELMAP"
    assert dciodvfy_errors(to_bytes(result), tmp_path) == []


def test_highdicom_reads_every_voxel_of_it() -> None:
    masks = apart()
    image = hd.seg.Segmentation.from_dataset(read_back(to_bytes(written(masks)[0])))
    volume = image.get_volume(combine_segments=True)
    for number, mask in ((1, masks[0]), (2, masks[2])):
        index = np.argwhere(volume.array == number)
        places = volume.map_indices_to_reference(index)
        back = np.rint(sources.geometry().to_index(places)).astype(int)
        assert sorted(map(tuple, back)) == sorted(map(tuple, np.argwhere(mask.values)))


def test_masks_that_overlap_are_binary_and_the_report_says_so() -> None:
    found = encode(
        sources.findings(), sources.source(), sources.provenance(), segmentation="labelmap"
    )
    assert found[0].SegmentationType == "BINARY"
    assert [one.TextValue for one in content(found[1], "remark")] == [
        "Regions overlap: they are a binary segmentation, not the label map asked for."
    ]


def test_the_report_refers_to_a_segment_of_the_label_map() -> None:
    report = read_back(to_bytes(written([*apart(), *sources.perfusion()[3:]])[1]))
    named = [item.ReferencedSOPSequence[0] for item in content(report, "121191")]
    assert {str(one.ReferencedSOPClassUID) for one in named} == {LABEL_MAP_CLASS}


def test_dciodvfy_knows_no_segments_of_label_maps_and_finds_nothing_else(tmp_path: Path) -> None:
    errors = dciodvfy_errors(to_bytes(written(apart())[1]), tmp_path)
    assert errors
    assert all("ReferencedSegmentNumber" in error for error in errors)


def test_its_segments_are_found_on_the_grid_of_the_series() -> None:
    source, masks = sources.source(), apart()
    k_of = {each.sop_instance_uid: k for k, each in enumerate(source.instances)}
    series = IndexedSeries(source, sources.geometry(), k_of)
    bits = read_segment_bits(to_bytes(written(masks)[0]), series)
    for number, mask in ((1, masks[0]), (2, masks[2])):
        for k in range(12):
            assert np.array_equal(bits.plane(number, k), mask.values[k])


def test_it_can_be_a_region_to_analyse_inside_of(tmp_path: Path) -> None:
    path = tmp_path / "region.dcm"
    path.write_bytes(to_bytes(written(apart())[0]))
    marked = sum(int(frame.values.sum()) for frame in read_segmented_frames(path))
    assert marked == sum(int(mask.values.sum()) for mask in apart())


def test_overlap_is_a_voxel_in_two_masks() -> None:
    first, _, third = apart()
    assert not overlap([first, third])
    assert overlap([first, third, first])


def test_a_label_that_no_segment_describes_is_stopped() -> None:
    result = written(apart())[0]
    pixels = bytearray(result.PixelData)
    pixels[0] = 9
    result.PixelData = bytes(pixels)
    with pytest.raises(CorruptError) as raised:
        check_results([result], sources.source())
    assert raised.value.code == "empty_segmentation"
