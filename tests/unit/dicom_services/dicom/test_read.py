from __future__ import annotations

import copy
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_services.dicom.read import read_headers, read_series
from dicom_services.errors import InputError
from tests.dicom_files import (
    NATIVE,
    SERIES,
    ct_files,
    ct_slice,
    deflate_bomb,
    part10,
    placed_files,
    stored_ramp,
    to_bytes,
)

SHAPE = (4, 6, 5)


def refusal(files) -> str:
    with pytest.raises(InputError) as caught:
        read_series(files)
    return caught.value.code


# Values


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("on_disk", [False, True])
def test_every_lossless_syntax_gives_the_stored_values_rescaled(syntax, on_disk, tmp_path):
    stored = stored_ramp((3, 32, 36))
    files = ct_files(stored, syntax=syntax)
    if on_disk:
        for k, content in enumerate(files):
            (tmp_path / str(k)).write_bytes(content)
        files = sorted(tmp_path.iterdir())
    volume = read_series(files).volume
    assert volume.values.dtype == np.int16
    assert volume.unit == "[hnsf'U]"
    assert np.array_equal(volume.values, stored - 1024)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_eight_bit_pixels_keep_their_sign(syntax, kind):
    limits = np.iinfo(kind)
    stored = np.random.default_rng(1).integers(limits.min, limits.max, (2, 6, 6), kind, True)
    volume = read_series(ct_files(stored, syntax=syntax)).volume
    expected = np.maximum(stored.astype(np.int16) - 1024, -1024)
    assert np.array_equal(volume.values, expected)


@pytest.mark.parametrize(
    "twin",
    [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_expb.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_twins_of_an_mr_slice_read_equal(twin):
    plain = read_series([Path(get_testdata_file("MR_small.dcm"))]).volume
    other = read_series([Path(get_testdata_file(twin))]).volume
    assert plain.unit == other.unit == "1"
    assert np.array_equal(plain.values, other.values)
    assert np.array_equal(plain.geometry.affine, other.geometry.affine)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("CT_small.dcm", {}),
        ("J2K_pixelrep_mismatch.dcm", {}),
        ("693_J2KI.dcm", {}),
        ("examples_overlay.dcm", {}),
        # JPEG lossless, JPEG extended (12 bits) and near-lossless JPEG-LS exist only without a
        # place in the patient: it is put in.
        ("JPEG-LL.dcm", {"Modality": "MR"}),
        ("JPGExtended.dcm", {"Modality": "MR"}),
        ("JPEGLSNearLossless_08.dcm", {"Modality": "MR"}),
        ("JPEGLSNearLossless_16.dcm", {"Modality": "MR"}),
        ("JLSL_16_15_1_1F.dcm", {"Modality": "MR"}),
        ("JPGLosslessP14SV1_1s_1f_8b.dcm", {"Modality": "MR"}),
    ],
)
def test_foreign_files_read_as_pydicom_reads_them(name, changes, shared_data, tmp_path):
    found = [*(shared_data / "odd-dicom").rglob(name), get_testdata_file(name, download=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = dcmread(found[0])
        slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
        expected = ds.pixel_array.astype(np.float64) * slope + intercept
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        if changes:
            ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
            ds.PixelSpacing = [1, 1]
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
                setattr(ds, keyword, ds.get(keyword) or "1.2.3")
        ds.save_as(tmp_path / "one.dcm")
    volume = read_series([tmp_path / "one.dcm"]).volume
    if ds.Modality == "CT":
        expected = np.maximum(expected, -1024)
    assert np.array_equal(volume.values[0], expected)


def test_unused_bits_are_cleared_and_the_sign_extended():
    # 12 stored bits, -2000 and 2047, with rubbish in the upper four.
    clean = np.array([[[-2000, 2047], [-1, 0]]], np.int16)
    dirty = ((clean.view(np.uint16) & 0x0FFF) | 0x5000).view(np.int16)

    def change(_, ds):
        ds.BitsStored, ds.HighBit, ds.RescaleIntercept = 12, 11, "0"
        ds.Modality = "MR"

    values = read_series(ct_files(dirty, change=change)).volume.values
    assert np.array_equal(values, clean)


def test_unused_bits_of_eight_are_cleared_too():
    def change(_, ds):
        ds.BitsStored, ds.HighBit = 7, 6

    stored = np.array([[[0xFF, 0x80], [0x01, 0x7F]]], np.uint8)
    values = read_series(ct_files(stored, change=change)).volume.values
    assert values.tolist() == [[[-897, -1024], [-1023, -897]]]


def test_a_slice_of_nothing_but_padding_is_air():
    stored = np.full((2, 2, 2), -3000, np.int16)
    volume = read_series(ct_files(stored)).volume
    assert (volume.values == -1024).all()


def test_stored_bits_may_lie_at_the_top_of_their_word():
    stored = np.array([[[0x0FFF, 0x0001], [0x0800, 0]]], np.uint16)

    def change(_, ds):
        ds.BitsStored, ds.HighBit = 12, 15

    values = read_series(ct_files(stored << 4, change=change)).volume.values
    assert np.array_equal(values, stored.astype(np.int16) - 1024)


def test_values_below_minus_1024_are_clipped_and_noted():
    stored = np.array([[[-2000, 0], [1024, 2024]]], np.int16)
    volume = read_series(ct_files(stored)).volume
    assert volume.values.tolist() == [[[-1024, -1024], [0, 1000]]]
    assert "padding_clipped" in volume.acquisition.notes


def test_the_lowest_stored_value_does_not_wrap_around():
    stored = np.full((1, 2, 2), -32768, np.int16)
    stored[0, 0, 0] = 1024
    volume = read_series(ct_files(stored)).volume
    assert volume.values.tolist() == [[[0, -1024], [-1024, -1024]]]


def test_padding_above_all_tissue_becomes_air():
    stored = np.array([[[63536, 1024], [0, 2024]]], np.uint16)

    def change(_, ds):
        ds.PixelPaddingValue = 63536

    volume = read_series(ct_files(stored, change=change)).volume
    assert volume.values.dtype == np.int16
    assert volume.values.tolist() == [[[-1024, 0], [-1024, 1000]]]
    assert "padding_clipped" in volume.acquisition.notes


def test_mr_values_are_not_clipped():
    def change(_, ds):
        ds.Modality = "MR"
        del ds.RescaleSlope, ds.RescaleIntercept

    stored = np.array([[[-5000, 1], [2, 3]]], np.int16)
    volume = read_series(ct_files(stored, change=change)).volume
    assert np.array_equal(volume.values, stored)
    assert volume.unit == "1"


def test_unsigned_values_shift_below_zero_without_overflow():
    stored = np.array([[[0, 1], [1024, 4095]]], np.uint16)
    assert read_series(ct_files(stored)).volume.values.tolist() == [[[-1024, -1023], [0, 3071]]]


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [("2", "-1024", np.int16), ("0.5", "-1024", np.float32), ("1", "0.25", np.float32)],
)
def test_rescaling_keeps_whole_numbers_only_while_they_are_whole(slope, intercept, dtype):
    def change(_, ds):
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept

    stored = np.array([[[0, 3], [1001, 2000]]], np.int16)
    volume = read_series(ct_files(stored, change=change)).volume
    assert volume.values.dtype == dtype
    expected = np.maximum(stored * float(slope) + float(intercept), -1024)
    assert np.array_equal(volume.values, expected)


def test_values_beyond_sixteen_bits_become_float():
    stored = np.array([[[0, 65535], [1024, 40000]]], np.uint16)
    volume = read_series(ct_files(stored)).volume
    assert volume.values.dtype == np.float32
    assert volume.values.tolist() == [[[-1024, 64511], [0, 38976]]]


def test_each_slice_is_rescaled_by_its_own_numbers():
    def change(k, ds):
        ds.RescaleIntercept = str(-1000 + k)

    stored = np.full((3, 2, 2), 1000, np.int16)
    assert read_series(ct_files(stored, change=change)).volume.values[:, 0, 0].tolist() == [0, 1, 2]


def test_monochrome1_changes_the_display_not_the_values():
    def change(_, ds):
        ds.PhotometricInterpretation = "MONOCHROME1"

    stored = stored_ramp(SHAPE)
    volume = read_series(ct_files(stored, change=change)).volume
    assert np.array_equal(volume.values, stored - 1024)
    assert "monochrome1" in volume.acquisition.notes


def test_ct_that_is_not_in_hounsfield_units_says_so():
    def change(_, ds):
        ds.RescaleType = "MGML"

    assert read_series(ct_files(stored_ramp(SHAPE), change=change)).volume.unit == "1"


def test_reading_needs_little_more_memory_than_the_volume(tmp_path):
    stored = stored_ramp((1, 512, 512))
    for k in range(24):
        (tmp_path / f"{k}").write_bytes(to_bytes(ct_slice(stored[0], k, float(k))))
    files = sorted(tmp_path.iterdir())
    read_series(files[:1])
    tracemalloc.start()
    volume = read_series(files).volume
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * volume.values.nbytes


# Geometry


def test_axial_slices_give_the_affine_worked_out_by_hand():
    geometry = read_series(ct_files(stored_ramp(SHAPE))[::-1]).volume.geometry
    # Rows run along x (0.75 mm), columns along y (0.5 mm), slices along z (3 mm).
    assert geometry.affine.tolist() == [
        [0.0, 0.0, 0.75, -10.0],
        [0.0, 0.5, 0.0, -20.0],
        [3.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ]


def test_rows_that_run_backwards_turn_the_order_of_slices():
    def change(_, ds):
        ds.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]

    stored = stored_ramp(SHAPE)
    read = read_series(ct_files(stored, change=change))
    # The normal, row x column, now points to the feet: the slice at z = 9 comes first.
    assert read.volume.geometry.affine[:3, 3].tolist() == [-10.0, -20.0, 9.0]
    assert read.volume.geometry.affine[:3, 0].tolist() == [0.0, 0.0, -3.0]
    assert np.array_equal(read.volume.values, stored[::-1] - 1024)
    assert [one.number for one in read.source.instances] == [4, 3, 2, 1]


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 6.0)] * 3),
    origin=st.tuples(*[st.floats(-300.0, 300.0)] * 3),
    order=st.permutations(range(5)),
)
def test_oblique_stacks_in_any_order_keep_place_and_values(angles, spacing, origin, order):
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        one[[a, a, b, b], [a, b, a, b]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        turn = turn @ one
    affine = np.eye(4)
    affine[:3, 2], affine[:3, 1] = turn[:, 0] * spacing[0], turn[:, 1] * spacing[1]
    affine[:3, 0], affine[:3, 3] = np.cross(turn[:, 0], turn[:, 1]) * spacing[2], origin
    stored = stored_ramp((5, 3, 4))
    volume = read_series(placed_files(stored, affine, order)).volume
    assert np.abs(volume.geometry.affine - affine).max() < 1e-7
    assert np.array_equal(volume.values, stored - 1024)


def test_a_tilted_gantry_shears_the_affine():
    def change(k, ds):
        ds.ImagePositionPatient = [-10, -20 + k, 3 * k]

    volume = read_series(ct_files(stored_ramp(SHAPE), change=change)).volume
    assert volume.geometry.affine[:3, 0].tolist() == [0.0, 1.0, 3.0]
    assert volume.geometry.slice_spacing_mm == 3.0
    assert "gantry_tilt" in volume.acquisition.notes


def test_slice_thickness_never_is_the_spacing():
    def change(_, ds):
        ds.SliceThickness, ds.SpacingBetweenSlices = "5", "5"

    geometry = read_series(ct_files(stored_ramp(SHAPE), 2.5, change)).volume.geometry
    assert geometry.slice_spacing_mm == 2.5


def test_a_single_slice_has_its_declared_thickness():
    read = read_series(ct_files(stored_ramp((1, 4, 4))))
    assert read.volume.geometry.slice_spacing_mm == 3.0
    assert read.volume.acquisition.notes == ("single_slice",)


def test_positions_rounded_to_two_decimals_are_regular():
    def change(k, ds):
        ds.ImagePositionPatient = [0, 0, round(k * 0.625, 2)]

    files = ct_files(stored_ramp((40, 2, 2)), change=change)
    assert read_series(files).volume.geometry.slice_spacing_mm == pytest.approx(0.625, abs=1e-3)


@pytest.mark.parametrize(("missing", "count"), [([2], 1), ([2, 5], 2), ([3, 4, 5], 3)])
def test_missing_slices_are_counted(missing, count):
    files = [f for k, f in enumerate(ct_files(stored_ramp((9, 2, 2)))) if k not in missing]
    with pytest.raises(InputError, match="slice_gap") as caught:
        read_series(files)
    assert caught.value.facts["count"] == count


@pytest.mark.parametrize(
    ("places", "code"),
    [
        ([0, 3, 6.2, 9, 12], "slice_spacing_irregular"),
        ([0, 3, 6, 9, 13.4], "slice_spacing_irregular"),
        # Steps a hundredth apart, but they add up to a slice in another place.
        ([3 * k + (0.029 * k if k < 20 else 1.16 - 0.029 * k) for k in range(41)], ""),
    ],
)
def test_irregular_spacing_is_refused(places, code):
    def change(k, ds):
        ds.ImagePositionPatient = [0, 0, round(places[k], 4)]

    files = ct_files(stored_ramp((len(places), 2, 2)), change=change)
    assert refusal(files) == (code or "slice_spacing_irregular")


def test_slices_that_stray_sideways_are_refused():
    def change(k, ds):
        ds.ImagePositionPatient = [5.0 if k == 2 else 0.0, 0, 3 * k]

    assert refusal(ct_files(stored_ramp(SHAPE), change=change)) == "slices_shifted"


# What is dropped, with a note


def test_a_file_that_comes_twice_counts_once():
    files = ct_files(stored_ramp(SHAPE))
    volume = read_series([*files, files[1]]).volume
    assert volume.values.shape == SHAPE
    assert volume.acquisition.notes == ("duplicates_dropped",)


def test_the_same_pixels_under_another_uid_count_once():
    stored = stored_ramp(SHAPE)
    again = to_bytes(ct_slice(stored[2], 99, 6.0))
    volume = read_series([*ct_files(stored), again]).volume
    assert volume.values.shape == SHAPE
    assert volume.acquisition.notes == ("duplicates_dropped",)


def test_a_localizer_among_the_slices_is_left_out():
    stored = stored_ramp(SHAPE)
    scout = ct_slice(stored[0], 50)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    scout.Rows, scout.Columns = 5, 6
    volume = read_series([to_bytes(scout), *ct_files(stored)]).volume
    assert np.array_equal(volume.values, stored - 1024)
    assert volume.acquisition.notes == ("localizers_dropped",)


# What is refused


def _set(**values):
    def change(k, ds):
        if k == 1:
            for keyword, value in values.items():
                setattr(ds, keyword, value)

    return change


def _set_all(**values):
    def change(_, ds):
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return change


def _without(keyword):
    def change(_, ds):
        delattr(ds, keyword)

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_set(PatientID="P2"), "mixed_patients"),
        (_set(SeriesInstanceUID="1.2.3"), "mixed_series"),
        (_set(StudyInstanceUID="1.2.3"), "mixed_series"),
        (_set(FrameOfReferenceUID="1.2.3"), "mixed_frames"),
        (_set(RescaleType="MGML"), "mixed_units"),
        (_set(SOPInstanceUID=SERIES + ".1"), "duplicate_uid_differs"),
        (_set(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "mixed_orientation"),
        (_set(PixelSpacing=[0.6, 0.75]), "mixed_spacing"),
        (_set(ImagePositionPatient=[-10, -20, 6.0]), "positions_repeat"),
        (_set(Rows=5, Columns=6), "mixed_size"),
        (_set_all(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer_only"),
        (_set_all(NumberOfFrames=2), "multi_frame_unsupported"),
        (_set_all(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "not_monochrome"),
        (_set_all(PhotometricInterpretation="PALETTE COLOR"), "not_monochrome"),
        (_set_all(Modality="PT"), "modality_unsupported"),
        (_set_all(Rows=0), "image_size"),
        (_set_all(Rows=60000, Columns=60000), "image_size"),
        (_set_all(Rows=7), "pixel_data_short"),
        (_set_all(BitsAllocated=32), "pixel_format"),
        (_set_all(BitsStored=17), "pixel_format"),
        (_set_all(RescaleSlope="0"), "attribute_value"),
        (_set_all(PixelSpacing=[0, 1]), "attribute_value"),
        (_set_all(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "attribute_value"),
        (_set_all(ImagePositionPatient=[1, 2]), "attribute_value"),
        (_set_all(SeriesInstanceUID=""), "illegal_uid"),
        (_without("StudyInstanceUID"), "illegal_uid"),
        (_without("ImagePositionPatient"), "missing_attribute"),
        (_without("ImageOrientationPatient"), "missing_attribute"),
        (_without("PixelSpacing"), "missing_attribute"),
        (_without("RescaleIntercept"), "missing_attribute"),
        (_without("Rows"), "missing_attribute"),
        (_without("BitsAllocated"), "missing_attribute"),
        (_without("PixelRepresentation"), "missing_attribute"),
        (_without("PhotometricInterpretation"), "missing_attribute"),
        (_without("PixelData"), "pixel_data_missing"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, code):
    assert refusal(ct_files(stored_ramp(SHAPE), change=change)) == code


def test_a_missing_attribute_is_named():
    with pytest.raises(InputError) as caught:
        read_series(ct_files(stored_ramp(SHAPE), change=_without("PixelSpacing")))
    assert caught.value.facts == {"keyword": "PixelSpacing"}


@pytest.mark.parametrize("uid", ["1.02.3", "1." + "2" * 90])
def test_uids_that_only_break_the_rules_are_read(uid):
    def change(_, ds):
        ds["StudyInstanceUID"]._value = uid

    assert (
        read_series(ct_files(stored_ramp(SHAPE), change=change)).source.header.StudyInstanceUID
        == uid
    )


def test_a_media_uid_that_differs_and_an_impossible_birthday_are_read():
    files = ct_files(stored_ramp(SHAPE), change=_set_all(PatientBirthDate="00010101"))
    swapped = [f.replace(SERIES.encode() + b".1", b"9" * (len(SERIES) + 2), 1) for f in files]
    assert read_series(swapped).volume.values.shape == SHAPE


@pytest.mark.parametrize("where", ["meta", "header", "pixels"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless])
def test_a_file_cut_short_is_never_read(syntax, where):
    file = ct_files(stored_ramp((1, 8, 8)), syntax=syntax)[0]
    end = {"meta": 150, "header": len(file) // 2, "pixels": len(file) - 3}[where]
    assert refusal([file[:end]]) in {
        "transfer_syntax",
        "file_truncated",
        "pixel_data_missing",
        "pixel_data_short",
    }


@pytest.mark.parametrize("share", [k / 20 for k in range(20)])
def test_no_cut_of_a_real_file_is_read(share, shared_data):
    file = (shared_data / "chest-ct/lidc-idri-0002/dicom/000006.dcm").read_bytes()
    assert refusal([file[: int(share * len(file))]])


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (b"", "not_dicom"),
        (b"no image" * 100, "not_dicom"),
        (part10(b""), "not_an_image"),
        (part10(b"", "1.2.3.4"), "not_an_image"),
        (deflate_bomb(40), "deflate_bomb"),
    ],
)
def test_what_is_no_image_is_refused(file, code):
    assert refusal([file]) == code


def test_a_deflated_file_cut_short_is_refused():
    file = ct_files(stored_ramp((1, 16, 16)), syntax=DeflatedExplicitVRLittleEndian)[0]
    assert refusal([file[:-40]]) == "file_truncated"


@pytest.mark.parametrize(
    ("keyword", "value"), [("FloatPixelData", bytes(80)), ("DoubleFloatPixelData", bytes(160))]
)
def test_floating_point_pixels_are_refused(keyword, value):
    def change(_, ds):
        del ds.PixelData
        setattr(ds, keyword, value)

    assert refusal(ct_files(stored_ramp((1, 4, 5)), change=change)) == "pixel_format"


def test_a_lookup_table_instead_of_a_rescale_is_refused():
    def change(_, ds):
        ds.ModalityLUTSequence = [Dataset()]

    assert refusal(ct_files(stored_ramp(SHAPE), change=change)) == "modality_lookup_unsupported"


def test_more_localizers_than_slices_are_refused():
    def change(k, ds):
        if k:
            ds.ImageType = ["DERIVED", "SECONDARY", "LOCALIZER"]

    assert refusal(ct_files(stored_ramp(SHAPE), change=change)) == "mixed_orientation"


def test_no_file_at_all_is_refused():
    assert refusal([]) == "no_files"


def test_an_unknown_transfer_syntax_is_refused():
    file = ct_files(stored_ramp((1, 4, 4)))[0]
    assert refusal([file.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.7\0", 1)]) == (
        "transfer_syntax"
    )


def test_broken_compressed_pixels_are_refused():
    file = ct_files(stored_ramp((1, 32, 32)), syntax=JPEG2000Lossless)[0]
    start = file.index(b"\xff\x4f\xff\x51")
    broken = file[: start + 4] + bytes(60) + file[start + 64 :]
    assert refusal([broken]) == "decode_failed"


# What is told of the series


@pytest.mark.parametrize(
    ("agent", "given"),
    [("", False), ("NONE", False), ("no", False), ("Iomeron 400", True), ("APPLIED", True)],
)
def test_a_contrast_agent_is_one_that_is_named(agent, given):
    files = ct_files(stored_ramp(SHAPE), change=_set_all(ContrastBolusAgent=agent))
    assert read_series(files).volume.acquisition.contrast_agent is given


@pytest.mark.parametrize(
    ("change", "gated"),
    [
        (_set_all(), False),
        (_set_all(ScanOptions="HELICAL MODE"), False),
        (_set_all(CardiacSynchronizationTechnique="NONE"), False),
        (_set_all(CardiacSynchronizationTechnique="PROSPECTIVE"), True),
        (_set_all(ScanOptions=["FS", "CG"]), True),
        (_set_all(TriggerTime="420"), True),
        (_set_all(HeartRate=63), True),
    ],
)
def test_gating_is_read_from_what_only_gated_scans_say(change, gated):
    assert (
        read_series(ct_files(stored_ramp(SHAPE), change=change)).volume.acquisition.gated is gated
    )


def test_the_acquisition_says_how_it_was_taken():
    told = read_series(ct_files(stored_ramp(SHAPE))).volume.acquisition
    assert (told.modality, told.tube_voltage_kv, told.slice_thickness_mm, told.kernel) == (
        "CT",
        120.0,
        3.0,
        "STANDARD",
    )


def test_instances_stand_in_the_order_of_the_slices():
    source = read_series(ct_files(stored_ramp(SHAPE))[::-1]).source
    assert [one.sop_instance_uid for one in source.instances] == [
        f"{SERIES}.{k + 1}" for k in range(4)
    ]
    assert [one.position_mm for one in source.instances] == [
        (-10.0, -20.0, 3.0 * k) for k in range(4)
    ]


def test_the_header_repeats_what_results_need_and_nothing_else():
    def change(_, ds):
        ds.add_new(0x00090010, "LO", "PRIVATE")
        ds.add_new(0x00091010, "LO", "secret")
        ds.PatientComments = "secret"
        ds.SpecificCharacterSet = ""
        ds.StudyDescription = "Chest"
        good, bad = Dataset(), Dataset()
        good.CodeValue, good.CodingSchemeDesignator, good.CodeMeaning = "1", "99X", "CT"
        good.PatientComments = "secret"
        bad.CodeMeaning = "no value"
        ds.ProcedureCodeSequence = [good, bad]

    header = read_series(ct_files(stored_ramp(SHAPE), change=change)).source.header
    assert "secret" not in str(header)
    assert "PixelData" not in header
    assert "SpecificCharacterSet" not in header
    assert header.PatientName == "Doe^Jane"
    assert header.StudyDescription == "Chest"
    assert header.PatientBirthDate == ""
    assert len(header.ProcedureCodeSequence) == 1
    assert "PatientComments" not in header.ProcedureCodeSequence[0]


def test_names_in_other_scripts_are_read_and_can_be_written():
    def change(_, ds):
        ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        ds.PatientName = "Yamada^Tarou=山田^太郎"

    header = read_series(ct_files(stored_ramp(SHAPE), change=change)).source.header
    assert str(header.PatientName) == "Yamada^Tarou=山田^太郎"


def test_values_that_break_their_kind_are_left_out_but_identities_kept():
    def change(_, ds):
        ds["StudyDate"]._value = "yesterday"
        ds["PatientID"]._value = "P" * 80

    header = read_series(ct_files(stored_ramp(SHAPE), change=change)).source.header
    assert header.StudyDate == ""
    assert header.PatientID == "P" * 80


def test_headers_are_read_of_a_series_that_is_refused():
    files = ct_files(stored_ramp(SHAPE), change=_without("PixelSpacing"))
    source = read_headers([b"rubbish", *files])
    assert source.header.PatientID == "P1"
    assert len(source.instances) == 4


def test_headers_name_no_instance_of_another_patient():
    source = read_headers(ct_files(stored_ramp(SHAPE), change=_set(PatientID="P2")))
    assert source.header.PatientID == "P1"
    assert [one.number for one in source.instances] == [1, 3, 4]


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    assert refusal([tmp_path / "nothing"]) == "file_unreadable"
    assert refusal([tmp_path]) == "file_unreadable"


def test_headers_of_nothing_readable_are_refused():
    with pytest.raises(InputError, match="not_dicom"):
        read_headers([b"rubbish"])


# Real scans


@pytest.mark.parametrize("name", ["lidc-idri-0002", "lung-dx-a0001"])
def test_a_real_scan_reads_as_simpleitk_reads_it(name, shared_data):
    folder = shared_data / "chest-ct" / name / "dicom"
    volume = read_series(sorted(folder.iterdir())).volume
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert np.array_equal(volume.values, np.maximum(SimpleITK.GetArrayFromImage(image), -1024))
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    assert np.allclose(volume.geometry.affine[:3, 2::-1], axes, atol=1e-6)
    assert np.allclose(volume.geometry.affine[:3, 3], image.GetOrigin(), atol=1e-6)


def test_a_series_without_uids_is_refused_until_it_has_some(shared_data, tmp_path):
    folder = shared_data / "ct-torso/tests/reference_files/example_ct_dicom"
    files = sorted(folder.iterdir())
    assert refusal(files) == "illegal_uid"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k, file in enumerate(files):
            ds = dcmread(file)
            ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{k + 1}"
            ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.4", "1.2.5"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.save_as(tmp_path / f"{k:02}.dcm")
        middle = copy.deepcopy(ds)
    volume = read_series(sorted(tmp_path.iterdir())).volume
    assert volume.values.shape == (20, 512, 512)
    assert volume.geometry.slice_spacing_mm == pytest.approx(2.0)
    assert volume.acquisition.contrast_agent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = middle.pixel_array.astype(np.int32) * int(middle.RescaleSlope)
    plain = np.maximum(plain + int(middle.RescaleIntercept), -1024)
    assert any(np.array_equal(plain, one) for one in volume.values[[0, -1]])
