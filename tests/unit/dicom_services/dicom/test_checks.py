"""What highdicom lets pass is stopped, each thing with its own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from dicom_services.dicom.checks import check_findings, check_results, check_source
from dicom_services.dicom.source import SourceInstance
from dicom_services.dicom.write import encode
from dicom_services.domain.findings import Mask, Measurement
from dicom_services.errors import CorruptError, InputError, RadloopError
from tests import sources


def refused(check: Callable[[], object], error: type[RadloopError] = InputError) -> str:
    with pytest.raises(error) as raised:
        check()
    return raised.value.code


def with_lesion(**change: object) -> Mask:
    mask = sources.findings()[0]
    assert isinstance(mask, Mask)
    return replace(mask, lesions=(replace(mask.lesions[0], **change),))


def with_slice(**change: object) -> Mask:
    mask = sources.findings()[0]
    assert isinstance(mask, Mask)
    lesion = mask.lesions[0]
    return replace(mask, lesions=(replace(lesion, slices=(replace(lesion.slices[0], **change),)),))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_lesion_that_is_not_a_number_is_refused(value: float) -> None:
    for mask in (with_lesion(score=value), with_slice(area_mm2=value)):
        assert refused(lambda mask=mask: check_findings([mask], sources.source())) == "not_finite"


def test_a_measurement_that_became_nan_is_refused() -> None:
    measurement = sources.findings()[2]
    assert isinstance(measurement, Measurement)
    object.__setattr__(measurement, "value", float("nan"))
    assert refused(lambda: check_findings([measurement], sources.source())) == "not_finite"


def test_a_mask_that_may_hold_nan_is_refused() -> None:
    grid = sources.geometry()
    floating = np.full(grid.shape, np.nan)

    def build() -> Mask:
        return Mask(
            sources.HEART,
            sources.ANATOMY,
            "Heart",
            floating,  # type: ignore[arg-type]
            grid,
        )

    assert refused(build) == "mask_shape"
    mask = sources.findings()[0]
    object.__setattr__(mask, "values", floating)
    assert refused(lambda: check_findings([mask], sources.source())) == "mask_shape"


@pytest.mark.parametrize(
    "change",
    [{"k": 12}, {"k": -1}, {"row": 39.6}, {"row": -0.6}, {"column": 1e9}, {"column": -0.6}],
)
def test_a_lesion_outside_the_images_is_refused(change: dict[str, float]) -> None:
    mask = with_slice(**change)
    assert refused(lambda: check_findings([mask], sources.source())) == "coordinates_outside"


@pytest.mark.parametrize("uid", ["", "abc", "1.2.3 ", "../x", "1." + "2" * 63])
def test_a_source_that_cannot_be_referred_to_is_refused(uid: str) -> None:
    good = sources.source()
    image = replace(good.instances[0], sop_instance_uid=uid)
    broken = replace(good, instances=(image, *good.instances[1:]))
    assert refused(lambda: check_source(broken)) == "illegal_uid"
    study = Dataset()
    study.update(good.header)
    study.StudyInstanceUID = "1.2.3"
    study["StudyInstanceUID"]._value = uid
    assert refused(lambda: check_source(replace(good, header=study))) == "illegal_uid"


def test_a_source_without_images_is_refused() -> None:
    empty = replace(sources.source(), instances=())
    assert refused(lambda: check_source(empty)) == "illegal_uid"


def test_two_source_images_with_one_uid_are_refused() -> None:
    good = sources.source()
    twice = replace(good, instances=(*good.instances, good.instances[3]))
    assert refused(lambda: check_source(twice)) == "duplicate_instance"


def test_leading_zeros_of_an_anonymiser_are_let_pass() -> None:
    image = SourceInstance(sources.CT_CLASS, "1.2.0113619.07", (0.0, 0.0, 0.0), 1)
    check_source(replace(sources.source(), instances=(image,)))


Change = Callable[[Dataset], None]


def _spoilt(number: int, change: Change) -> str:
    source = sources.source()
    results = encode(sources.findings(), source, sources.provenance())
    change(results[number])
    return refused(lambda: check_results(results, source), CorruptError)


def other_patient(dataset: Dataset) -> None:
    dataset.PatientID = "P-18"


def other_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = "1.2.3"


def input_series(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = sources.source().header.SeriesInstanceUID


def illegal_uid(dataset: Dataset) -> None:
    del dataset["SOPInstanceUID"]
    dataset.add_new("SOPInstanceUID", "UI", "1.2.3")
    dataset["SOPInstanceUID"]._value = "abc"


def other_meta(dataset: Dataset) -> None:
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"


def bell(dataset: Dataset) -> None:
    dataset.SeriesDescription = "a\x07b"


def bell_in_content(dataset: Dataset) -> None:
    next(item for item in walk(dataset) if item.ValueType == "TEXT").TextValue = "a\x1bb"


def not_a_number(dataset: Dataset) -> None:
    item = next(item for item in walk(dataset) if item.ValueType == "NUM")
    item.MeasuredValueSequence[0]["NumericValue"]._value = float("nan")


def outside(dataset: Dataset) -> None:
    next(item for item in walk(dataset) if item.ValueType == "SCOORD").GraphicData = [1e9, 1e9]


def negative(dataset: Dataset) -> None:
    next(item for item in walk(dataset) if item.ValueType == "SCOORD").GraphicData = [-1.0, 2.0]


def far_in_space(dataset: Dataset) -> None:
    item = next(item for item in walk(dataset) if item.ValueType == "SCOORD")
    item.ValueType = "SCOORD3D"
    item.GraphicData = [1e9, 0.0, 0.0]


def empty_frame(dataset: Dataset) -> None:
    size = dataset.Rows * dataset.Columns // 8
    dataset.PixelData = bytes(size) + dataset.PixelData[size:]


def empty_segmentation(dataset: Dataset) -> None:
    dataset.PixelData = bytes(len(dataset.PixelData))


def walk(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence") or ():
        yield item
        yield from walk(item)


@pytest.mark.parametrize(
    ("number", "change", "code"),
    [
        (1, other_patient, "mixed_patient"),
        (2, other_patient, "mixed_patient"),
        (0, other_study, "mixed_patient"),
        (0, input_series, "illegal_uid"),
        (1, illegal_uid, "illegal_uid"),
        (0, other_meta, "illegal_uid"),
        (0, bell, "control_character"),
        (1, bell_in_content, "control_character"),
        (1, not_a_number, "not_finite"),
        (1, outside, "coordinates_outside"),
        (1, negative, "coordinates_outside"),
        (1, far_in_space, "coordinates_outside"),
        (0, empty_frame, "empty_segmentation"),
        (0, empty_segmentation, "empty_segmentation"),
    ],
)
def test_a_spoilt_object_does_not_leave(number: int, change: Change, code: str) -> None:
    assert _spoilt(number, change) == code


def test_a_point_within_the_images_passes_in_space_too() -> None:
    source = sources.source()
    results = encode(sources.findings(), source, sources.provenance())
    item = next(item for item in walk(results[1]) if item.ValueType == "SCOORD")
    item.ValueType = "SCOORD3D"
    item.GraphicData = list(source.instances[3].position_mm or ())
    check_results(results, source)


def test_two_objects_with_one_uid_do_not_leave() -> None:
    source = sources.source()
    results = encode(sources.findings(), source, sources.provenance())
    twice = (*results, results[0])
    assert refused(lambda: check_results(twice, source), CorruptError) == "duplicate_instance"
