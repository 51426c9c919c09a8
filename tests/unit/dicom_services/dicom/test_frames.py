from __future__ import annotations

import copy
import io
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.encaps import generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    LegacyConvertedEnhancedMRImageStorage,
    RLELossless,
)

from dicom_services.dicom.decode_child import read_dynamic_limited, read_series_limited
from dicom_services.dicom.frames import read_images
from dicom_services.dicom.read import read_dynamic, read_headers, read_series
from dicom_services.errors import InputError
from tests.dicom_files import FRAME, NATIVE, SERIES, to_bytes
from tests.dynamic_files import clock, enhanced, fragmented, stored_series, undefined_lengths

SHAPE = (4, 3, 6, 5)
STORED = stored_series(SHAPE)
LARGER = stored_series((4, 3, 32, 36))
"""JPEG 2000 needs some pixels to begin with."""


def refusal(file, read=read_dynamic) -> InputError:
    with pytest.raises(InputError) as caught:
        read([file])
    return caught.value


def items(ds: Dataset):
    return ds.PerFrameFunctionalGroupsSequence


# Values


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("on_disk", [False, True])
def test_frames_of_every_syntax_are_read_by_time_and_place(syntax, on_disk, tmp_path):
    file: bytes | Path = to_bytes(enhanced(LARGER), syntax)
    if on_disk:
        (tmp_path / "one").write_bytes(file)
        file = tmp_path / "one"
    volume = read_dynamic_limited([file]).volume
    assert np.array_equal(volume.values, LARGER)
    assert volume.values.dtype == np.int16
    assert volume.times_s == (0.0, 1.5, 3.0, 4.5)
    assert volume.acquisition.notes == ()


@pytest.mark.parametrize("syntax", NATIVE)
def test_sequences_without_lengths_are_read_alike(syntax):
    ds = enhanced(STORED)
    odd = Dataset()
    odd.add_new(0x00091001, "SQ", [copy.deepcopy(items(ds)[0])])
    odd.add_new(0x00090010, "LO", "RADLOOP TEST")
    items(ds)[1].update(odd)
    file = to_bytes(undefined_lengths(ds), syntax)
    assert np.array_equal(read_dynamic([file]).volume.values, STORED)


@pytest.mark.parametrize("lengths", [True, False])
def test_groups_that_an_archive_kept_as_unknown_are_read(lengths):
    ds = enhanced(STORED) if lengths else undefined_lengths(enhanced(STORED))
    explicit, implicit = to_bytes(ds), to_bytes(ds, ImplicitVRLittleEndian)
    # The two sequences with the header of an unknown value, their content in implicit VR.
    groups = implicit[implicit.index(b"\0\x52\x29\x92") : implicit.index(b"\xe0\x7f\x10\0")]
    for tag in (b"\0\x52\x29\x92", b"\0\x52\x30\x92"):
        groups = groups.replace(tag, tag + b"UN\0\0", 1)
    start, end = explicit.index(b"\0\x52\x29\x92"), explicit.index(b"\xe0\x7f\x10\0")
    volume = read_dynamic([explicit[:start] + groups + explicit[end:]]).volume
    assert np.array_equal(volume.values, STORED)
    assert volume.times_s == (0.0, 1.5, 3.0, 4.5)


def test_an_enhanced_file_reads_as_the_same_slices_in_classic_files():
    volume = read_dynamic([to_bytes(enhanced(STORED))]).volume
    axes = np.diag([0.75, 0.5, 3.0])
    assert np.allclose(volume.geometry.affine[:3, 2::-1], axes)
    assert volume.geometry.affine[:3, 3].tolist() == [-10.0, -20.0, 0.0]
    assert (volume.unit, volume.series, volume.geometry.frame_uid) == ("1", SERIES, FRAME)


def test_frames_may_stand_in_any_order():
    ds = enhanced(STORED)
    order = list(range(len(items(ds))))
    random.Random(3).shuffle(order)
    frames = STORED.reshape(-1, *SHAPE[2:])
    ds.PerFrameFunctionalGroupsSequence = [items(ds)[n] for n in order]
    ds.PixelData = frames[order].tobytes()
    read = read_dynamic([to_bytes(ds)])
    assert np.array_equal(read.volume.values, STORED)
    told = [one.frame for one in (*read.source.instances, *read.source.later)]
    assert [order[n - 1] for n in told] == list(range(len(frames)))
    assert {one.sop_instance_uid for one in read.source.later} == {SERIES + ".77"}


@pytest.mark.parametrize("read", [read_series, read_series_limited])
def test_an_enhanced_ct_of_one_time_is_a_volume_in_hu(read):
    result = read([to_bytes(enhanced(STORED[:1], "CT"))])
    volume = result.volume
    assert np.array_equal(volume.values, STORED[0].astype(int) - 1024)
    assert volume.unit == "[hnsf'U]"
    told = volume.acquisition
    assert (told.tube_voltage_kv, told.tube_current_ma, told.kernel) == (80.0, 150.0, "H20f")
    assert told.slice_thickness_mm == 3.0
    assert [one.frame for one in result.source.instances] == [1, 2, 3]


def test_the_header_of_a_result_has_the_plane_of_the_first_frame():
    header = read_series([to_bytes(enhanced(STORED[:1], "CT"))]).source.header
    assert header.PixelSpacing == [0.5, 0.75]
    assert header.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert header.ImagePositionPatient == [-10, -20, 0]
    assert (header.KVP, header.RescaleIntercept, header.PatientID) == (80, -1024, "P1")


def test_frames_may_be_rescaled_differently():
    ds = enhanced(STORED)
    for n, item in enumerate(items(ds)):
        scale = Dataset()
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = str(n + 1), str(n), "US"
        item.PixelValueTransformationSequence = [scale]
    values = read_dynamic([to_bytes(ds)]).volume.values
    factors = np.arange(12).reshape(4, 3, 1, 1)
    assert np.array_equal(values, STORED.astype(np.int64) * (factors + 1) + factors)


def test_eight_bit_frames_are_read():
    stored = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless):
        assert np.array_equal(
            read_dynamic([to_bytes(enhanced(stored), syntax)]).volume.values, stored
        )


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_every_offset_table_leads_to_the_frames(table, syntax):
    frames = _packed_frames(enhanced(LARGER), syntax)
    file = fragmented(enhanced(LARGER), frames, syntax, table=table)
    assert np.array_equal(read_dynamic([file]).volume.values, LARGER)


@pytest.mark.parametrize("table", ["none", "basic"])
def test_frames_in_several_fragments_are_put_together(table):
    frames = _packed_frames(enhanced(LARGER), JPEG2000Lossless)
    file = fragmented(enhanced(LARGER), frames, JPEG2000Lossless, table=table, pieces=3)
    assert np.array_equal(read_dynamic([file]).volume.values, LARGER)


def test_an_offset_table_that_leads_nowhere_is_not_believed():
    frames = _packed_frames(enhanced(LARGER), JPEG2000Lossless)
    file = fragmented(enhanced(LARGER), frames, JPEG2000Lossless, table="basic", pieces=3)
    at = file.rindex(b"\xe0\x7f\x10\x00") + 12 + 8 + 4
    broken = file[:at] + b"\x03\0\0\0" + file[at + 4 :]
    assert np.array_equal(read_dynamic([broken]).volume.values, LARGER)


def _packed_frames(ds: Dataset, syntax: str) -> list[bytes]:
    ds = dcmread(io.BytesIO(to_bytes(ds, syntax)))
    return list(generate_frames(ds.PixelData, number_of_frames=int(ds.NumberOfFrames)))


def test_a_compressed_frame_that_is_cut_is_refused():
    frames = _packed_frames(enhanced(LARGER), JPEG2000Lossless)
    frames[5] = frames[5][:40]
    file = fragmented(enhanced(LARGER), frames, JPEG2000Lossless, table="basic")
    assert refusal(file, read_dynamic_limited).code == "decode_failed"


def test_a_frame_without_a_fragment_is_refused():
    frames = _packed_frames(enhanced(LARGER), RLELossless)
    file = fragmented(enhanced(LARGER), frames[:-1], RLELossless, table="none")
    assert refusal(file).code == "pixel_data_short"


# Times


def _strip(ds: Dataset, *keywords: str) -> Dataset:
    for item in items(ds):
        for keyword in keywords:
            del item.FrameContentSequence[0][keyword]
    return ds


def _offsets(ds: Dataset) -> None:
    for n, item in enumerate(items(ds)):
        position = Dataset()
        position.TemporalPositionTimeOffset = 1.5 * (n // 3)
        item.TemporalPositionSequence = [position]


def _reference(ds: Dataset) -> None:
    for n, item in enumerate(items(ds)):
        content = item.FrameContentSequence[0]
        content.FrameReferenceDateTime = "20200102" + clock(50000.0 + 1.5 * (n // 3))


def _cardiac(ds: Dataset) -> None:
    for n, item in enumerate(items(ds)):
        beat = Dataset()
        beat.NominalCardiacTriggerDelayTime = 1500.0 * (n // 3)
        item.CardiacSynchronizationSequence = [beat]


def _unassigned(ds: Dataset) -> None:
    ds.SOPClassUID = LegacyConvertedEnhancedMRImageStorage
    for n, item in enumerate(items(ds)):
        rest = Dataset()
        rest.TemporalPositionIdentifier = n // 3 + 1
        rest.TriggerTime = str(1500 * (n // 3))
        item.UnassignedPerFrameConvertedAttributesSequence = [rest]


@pytest.mark.parametrize("change", [_offsets, _reference, _cardiac, _unassigned])
@pytest.mark.parametrize("named", [True, False])
def test_the_time_of_a_frame_may_stand_in_any_of_its_groups(change, named):
    ds = _strip(enhanced(STORED), "FrameAcquisitionDateTime")
    if not named:
        _strip(ds, "TemporalPositionIndex")
    change(ds)
    volume = read_dynamic([to_bytes(ds)]).volume
    assert volume.times_s == (0.0, 1.5, 3.0, 4.5)
    assert np.array_equal(volume.values, STORED)


def test_a_date_time_of_the_whole_file_is_no_time_of_its_frames():
    ds = _strip(enhanced(STORED), "FrameAcquisitionDateTime")
    ds.AcquisitionDateTime = "20200102100000"
    assert refusal(to_bytes(ds)).code == "times_missing"


def test_one_file_for_each_time_is_one_dynamic():
    files = []
    for t, stored in enumerate(STORED):
        ds = enhanced(stored[None])
        ds.SOPInstanceUID, ds.SeriesInstanceUID = f"{SERIES}.{t}", f"{SERIES}.9{t}"
        ds.AcquisitionDateTime = "20200102" + clock(36000.0 + 1.5 * t)
        files.append(to_bytes(_strip(ds, "FrameAcquisitionDateTime")))
    read = read_dynamic(files[::-1])
    assert np.array_equal(read.volume.values, STORED)
    assert read.volume.times_s == (0.0, 1.5, 3.0, 4.5)
    assert [(one.frame, one.series_uid) for one in read.source.later[:4]] == [
        (1, f"{SERIES}.91"),
        (2, f"{SERIES}.91"),
        (3, f"{SERIES}.91"),
        (1, f"{SERIES}.92"),
    ]


def test_several_times_are_no_single_volume():
    error = refusal(to_bytes(enhanced(STORED)), read_series)
    assert (error.code, error.facts) == ("dynamic_series", {"times": 4})


def test_frames_that_never_change_are_not_taken_for_copies():
    still = to_bytes(enhanced(np.zeros(SHAPE, np.uint16)))
    assert refusal(still, read_series).code == "dynamic_series"
    assert read_dynamic([still]).volume.values.shape == SHAPE


def test_several_echoes_are_refused():
    ds = enhanced(STORED)
    del ds.SharedFunctionalGroupsSequence[0].MREchoSequence
    for n, item in enumerate(items(ds)):
        echo = Dataset()
        echo.EffectiveEchoTime = 10.0 + n % 2
        item.MREchoSequence = [echo]
    error = refusal(to_bytes(ds))
    assert (error.code, error.facts) == ("mixed_echo_times", {"count": 2})


# What is refused


def _more_items(ds: Dataset) -> None:
    items(ds).append(copy.deepcopy(items(ds)[0]))


def _fewer_items(ds: Dataset) -> None:
    del items(ds)[-1]


def _no_place(ds: Dataset) -> None:
    del items(ds)[2].PlanePositionSequence


def _short_pixels(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[:-10]


def _float_pixels(ds: Dataset) -> None:
    del ds.PixelData
    ds.FloatPixelData = bytes(4 * STORED.size)


def _no_pixels(ds: Dataset) -> None:
    del ds.PixelData


def _lost_frame(ds: Dataset) -> None:
    ds.NumberOfFrames = len(items(ds)) - 1
    del items(ds)[4]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_more_items, "frame_groups"),
        (_fewer_items, "frame_groups"),
        (_no_place, "missing_attribute"),
        (_short_pixels, "pixel_data_short"),
        (_float_pixels, "pixel_format"),
        (_no_pixels, "pixel_data_missing"),
        (_lost_frame, "frames_missing"),
        (lambda ds: setattr(ds, "Modality", "US"), "multi_frame_unsupported"),
        (lambda ds: setattr(ds, "PhotometricInterpretation", "PALETTE COLOR"), "not_monochrome"),
        (lambda ds: setattr(ds, "BitsAllocated", 32), "pixel_format"),
        (lambda ds: setattr(ds, "NumberOfFrames", "0"), "frame_groups"),
        (lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence"), "frame_groups"),
        (lambda ds: setattr(ds, "Rows", 0), "image_size"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, code):
    ds = enhanced(STORED)
    change(ds)
    assert refusal(to_bytes(ds)).code == code


def test_frames_that_nothing_describes_stay_unsupported(shared_data):
    file = shared_data / "odd-dicom/pydicom/data_store/data/emri_small.dcm"
    assert refusal(file, read_series).code == "multi_frame_unsupported"


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless])
@pytest.mark.parametrize("lengths", [True, False])
def test_no_cut_of_a_file_is_read(syntax, lengths):
    ds = enhanced(STORED) if lengths else undefined_lengths(enhanced(STORED))
    file = to_bytes(ds, syntax)
    for end in range(200, len(file) - 3, max(1, len(file) // 60)):
        assert refusal(file[:end]).code != "decoder_died"


def test_damaged_groups_are_read_or_refused():
    sound = to_bytes(undefined_lengths(enhanced(STORED)))
    start, end = sound.index(b"\x00\x52\x29\x92"), sound.index(b"\xe0\x7f\x10\x00")
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(sound)
        for at in rng.integers(start, end, rng.integers(1, 6)):
            damaged[at] = rng.integers(256)
        try:
            read_images(bytes(damaged))
            outcomes.add("read")
        except InputError as error:
            outcomes.add(error.code)
    assert {"read", "frame_groups"} <= outcomes


def test_deeply_nested_groups_are_refused():
    nested = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x09\x00\x01\x10SQ\0\0\xff\xff\xff\xff" * 5000
    sound = to_bytes(undefined_lengths(enhanced(STORED)))
    at = sound.index(b"\x00\x52\x30\x92") + 12
    assert refusal(sound[:at] + nested + sound[at:]).code == "frame_groups"


def test_a_hostile_count_of_frames_costs_nothing():
    ds = enhanced(STORED)
    ds["NumberOfFrames"] = DataElement("NumberOfFrames", "IS", "49999")
    assert refusal(to_bytes(ds), read_dynamic_limited).code == "frame_groups"


def test_headers_of_a_refused_file_tell_whose_it_is():
    ds = enhanced(STORED)
    _fewer_items(ds)
    source = read_headers([to_bytes(ds)])
    assert source.header.PatientID == "P1"
    assert [one.sop_instance_uid for one in source.instances] == [SERIES + ".77"]


# Real files


@pytest.mark.parametrize(
    "name",
    [
        "emri_small.dcm",
        "emri_small_RLE.dcm",
        "emri_small_big_endian.dcm",
        "emri_small_jpeg_2k_lossless.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
    ],
)
def test_twins_of_an_enhanced_mr_read_as_pydicom_reads_them(name, shared_data, tmp_path):
    folder = shared_data / "odd-dicom/pydicom/data_store/data"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = dcmread(folder / "emri_small.dcm").pixel_array
        ds = dcmread(folder / name)
        # Their groups were stripped when they were made small: others are put in.
        groups = enhanced(expected.reshape(5, 2, *expected.shape[1:]))
        for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            setattr(ds, keyword, groups[keyword].value)
        ds.save_as(tmp_path / name)
    volume = read_dynamic_limited([tmp_path / name]).volume
    assert np.array_equal(volume.values.reshape(expected.shape), expected)
    assert volume.times_s == (0.0, 1.5, 3.0, 4.5, 6.0)


def test_a_real_enhanced_ct_reads_as_pydicom_reads_it(shared_data):
    file = shared_data / "odd-dicom/pydicom/data_store/data/eCT_Supplemental.dcm"
    volume = read_series_limited([file]).volume
    expected = dcmread(file).pixel_array.astype(int) - 1024
    # Its slices fall along the normal of its rows and columns: they are put in rising order.
    assert np.array_equal(volume.values, expected[::-1]) or np.array_equal(volume.values, expected)
    assert volume.geometry.slice_spacing_mm == pytest.approx(10.0)
    assert volume.unit == "1"
