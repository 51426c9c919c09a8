"""Parametric maps, read back by programs that did not write them."""

from __future__ import annotations

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
from pydicom import Dataset

from dicom_services.dicom import codes
from dicom_services.dicom.parametric_map import padding_of, parametric_maps
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.write import encode, to_bytes
from dicom_services.domain.findings import ParametricMap
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError
from tests import sources
from tests.validators import dciodvfy_errors, map_voxels, read_back

GRIDS = {
    **sources.GRIDS,
    "wide gaps": sources.geometry(step_mm=(0.0, 0.0, 12.0)),
    "anisotropic": sources.geometry(shape=(3, 41, 17), spacing_mm=(0.1234567, 3.9)),
    "one slice": sources.geometry(shape=(1, 16, 16)),
}


def flow(grid: Geometry | None = None) -> ParametricMap:
    found = sources.perfusion(grid)[0]
    assert isinstance(found, ParametricMap)
    return found


def of_values(values: NDArray[np.float32], grid: Geometry) -> ParametricMap:
    return replace(flow(), values=values.astype(np.float32), geometry=grid, window=None)


def written(finding: ParametricMap, source: SourceSeries | None = None) -> bytes:
    source = source or sources.source(finding.geometry)
    (result,) = parametric_maps([finding], source, sources.provenance())
    return to_bytes(result)


def bits(values: NDArray[Any]) -> bytes:
    """Of the values, so that NaN equals NaN and 0.0 does not equal -0.0."""
    plain = np.where(np.isnan(values), np.float32(np.nan), values).astype("<f4")
    return plain.tobytes()


@pytest.mark.parametrize("name", GRIDS)
def test_every_geometry_is_read_back_voxel_for_voxel(name: str, tmp_path: Path) -> None:
    finding = flow(GRIDS[name])
    file = written(finding)
    assert bits(map_voxels(file, GRIDS[name])) == bits(finding.values)
    assert dciodvfy_errors(file, tmp_path) == []


@pytest.mark.parametrize("name", [name for name in GRIDS if name != "one slice"])
def test_dcmqi_reads_every_voxel_where_it_is(name: str, tmp_path: Path) -> None:
    grid, finding = GRIDS[name], flow(GRIDS[name])
    file = written(finding)
    (tmp_path / "map.dcm").write_bytes(file)
    said = subprocess.run(
        [
            Path(sys.executable).with_name("paramap2itkimage"),
            *("--inputDICOM", "map.dcm", "--outputDirectory", ".", "-t", "nrrd"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    image = SimpleITK.ReadImage(str(tmp_path / "pmap.nrrd"))
    values = SimpleITK.GetArrayFromImage(image)
    for k, j, i in ((0, 0, 0), (1, 12, 9), (grid.shape[0] - 1, 20, 14), (1, 5, 16)):
        place = grid.to_patient_mm(np.array((k, j, i), float))
        at = image.TransformPhysicalPointToIndex(place.tolist())
        stored = values[at[2], at[1], at[0]]
        padding = read_back(file).FloatPixelPaddingValue
        expected = finding.values[k, j, i]
        assert stored == (padding if np.isnan(expected) else expected)
    defined = values[values != read_back(file).FloatPixelPaddingValue]
    assert sorted(defined) == sorted(finding.values[~np.isnan(finding.values)])


def test_highdicom_reads_it_back_in_real_world_values() -> None:
    grid = GRIDS["oblique and reversed"]
    finding = flow(grid)
    image = hd.pm.ParametricMap.from_dataset(read_back(written(finding)))
    volume = image.get_volume()
    index = np.argwhere(~np.isnan(finding.values))
    places = grid.to_patient_mm(index.astype(float))
    at = np.rint(volume.map_reference_to_indices(places)).astype(int)
    read = volume.array[tuple(at.T)]
    assert np.array_equal(read, finding.values[tuple(index.T)].astype(np.float64))


_values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-42, 3.0e38, -3.4e38, 0.1, 57.25, np.nan])


@settings(max_examples=25, deadline=None)
@given(
    degrees=st.floats(-80.0, 80.0),
    spacing=st.tuples(st.floats(0.2, 2.0), st.floats(0.2, 2.0)),
    step=st.floats(0.3, 5.0),
    backwards=st.booleans(),
    shear=st.floats(-0.3, 0.3),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    palette=st.lists(_values, min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_geometry_and_any_values_survive(
    degrees: float,
    spacing: tuple[float, float],
    step: float,
    backwards: bool,
    shear: float,
    shape: tuple[int, int, int],
    palette: list[float],
    seed: int,
) -> None:
    row, column, normal = sources.tilted(degrees)
    towards = (-normal if backwards else normal) + shear * np.array(column)
    grid = sources.geometry(shape, spacing, tuple(step * towards), row, column)
    values = np.random.default_rng(seed).choice(np.array(palette, np.float32), shape)
    assert bits(map_voxels(written(of_values(values, grid)), grid)) == bits(values)


@pytest.mark.parametrize(
    ("values", "padding"),
    [
        # Between a 128th and a 64th of the span below the lowest value.
        ((0.0, 128.0, np.nan), -2.0),
        ((0.0, 100.0, np.nan), -1.0),
        ((2.0, 18.0, np.nan), 1.75),
        ((5.0, 5.0, np.nan), 4.0),
        ((np.nan, np.nan), -1.0),
        ((1.0, 2.0), None),
    ],
)
def test_what_is_undefined_lies_just_below_the_lowest_value(
    values: tuple[float, ...], padding: float | None
) -> None:
    assert padding_of(np.array(values, np.float32)) == padding


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_the_padding_is_finite_and_no_value_of_the_map(values: list[float]) -> None:
    found = padding_of(np.array([*values, np.nan], np.float32))
    assert found is not None
    assert np.isfinite(found)
    assert np.float32(found) == found
    assert found not in values


def test_a_map_without_gaps_has_no_padding() -> None:
    grid = sources.geometry()
    dataset = read_back(written(of_values(np.ones(grid.shape, np.float32), grid)))
    assert "FloatPixelPaddingValue" not in dataset


def test_padding_is_a_range_of_one_value() -> None:
    dataset = read_back(written(flow()))
    assert dataset.FloatPixelPaddingValue == dataset.FloatPixelPaddingRangeLimit


@pytest.mark.parametrize("name", GRIDS)
def test_frames_rise_along_the_normal_as_ohif_lays_them(name: str) -> None:
    groups = read_back(written(flow(GRIDS[name]))).PerFrameFunctionalGroupsSequence
    places = [np.array(one.PlanePositionSequence[0].ImagePositionPatient, float) for one in groups]
    row, column = GRIDS[name].affine[:3, 2], GRIDS[name].affine[:3, 1]
    heights = np.array(places) @ np.cross(row, column)
    assert (np.diff(heights) > 0).all()
    numbers = [one.FrameContentSequence[0].DimensionIndexValues for one in groups]
    assert numbers == list(range(1, len(groups) + 1))


def mapping(dataset: Dataset) -> Dataset:
    shared: Dataset = dataset.SharedFunctionalGroupsSequence[0]
    found: Dataset = shared.RealWorldValueMappingSequence[0]
    return found


def test_values_carry_their_unit_quantity_method_and_site() -> None:
    found = mapping(read_back(written(flow())))
    unit = found.MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("mL/(100.g.min)", "UCUM")
    said = {
        one.ConceptNameCodeSequence[0].CodeValue: one.ConceptCodeSequence[0].CodeValue
        for one in found.QuantityDefinitionSequence
    }
    assert said == {"246205007": "113055", "370129005": "126311", "363698007": "12738006"}
    assert found.LUTLabel == "CBF"
    assert (found.RealWorldValueSlope, found.RealWorldValueIntercept) == (1.0, 0.0)


def test_the_window_is_the_recommended_one_or_holds_every_value() -> None:
    shown = read_back(written(flow())).SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert (shown.WindowCenter, shown.WindowWidth) == (50.0, 100.0)
    assert shown.WindowCenterWidthExplanation == "CBF PET"
    grid = sources.geometry()
    ramp = np.full(grid.shape, np.nan, np.float32)
    ramp[0, 0, :3] = (2.0, 4.0, 10.0)
    shown = read_back(written(of_values(ramp, grid))).SharedFunctionalGroupsSequence[0]
    assert shown.FrameVOILUTSequence[0].WindowCenter == 6.0
    assert shown.FrameVOILUTSequence[0].WindowWidth == 8.0


@pytest.mark.parametrize("part", ["HEAD", "region"])
def test_the_source_stands_in_for_a_site_that_nobody_names(part: str, tmp_path: Path) -> None:
    finding = replace(flow(), site=None, method=None, label="", color_map="UNHEARD_OF")
    region = [codes.item(sources.BRAIN)] if part == "region" else None
    body = "HEAD" if part == "HEAD" else None
    source = sources.source(AnatomicRegionSequence=region, BodyPartExamined=body)
    file = written(finding, source)
    assert mapping(read_back(file)).LUTLabel == "113055"
    assert dciodvfy_errors(file, tmp_path) == []


def test_maps_are_told_apart_by_label_and_uid() -> None:
    maps = [flow(), replace(flow(), label="Tmax"), flow()]
    found = parametric_maps(maps, sources.source(), sources.provenance())
    assert len({one.SOPInstanceUID for one in found}) == 3
    assert len({one.SeriesInstanceUID for one in found}) == 3
    assert [one.SeriesDescription for one in found] == [
        "CBF, radloop calcium map",
        "Tmax, radloop calcium map",
        "CBF, radloop calcium map",
    ]


def test_the_same_run_gives_the_same_bytes() -> None:
    assert written(flow()) == written(flow())


def test_a_map_on_another_grid_is_refused() -> None:
    with pytest.raises(InputError) as raised:
        encode([flow(sources.geometry((11, 40, 48)))], sources.source(), sources.provenance())
    assert raised.value.code == "mask_grid"


def test_each_frame_names_the_image_of_its_place() -> None:
    grid = GRIDS["reversed"]
    dataset = read_back(written(flow(grid)))
    of_place = {one.position_mm: one.sop_instance_uid for one in sources.instances(grid)}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        place = tuple(float(each) for each in group.PlanePositionSequence[0].ImagePositionPatient)
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPInstanceUID == of_place[place]
