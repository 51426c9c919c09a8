from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import RLELossless

from dicom_services.dicom.decode_child import read_dynamic_limited, read_series_limited
from dicom_services.dicom.read import read_dynamic, read_headers, read_series
from dicom_services.errors import InputError
from tests.dicom_files import SERIES, ct_files, stored_ramp, to_bytes
from tests.dynamic_files import both, clock, mr_files, mr_slice, stored_series, timed

SHAPE = (6, 3, 5, 4)
STORED = stored_series(SHAPE)
COUNT = SHAPE[1]


def refusal(files, read=read_dynamic) -> InputError:
    with pytest.raises(InputError) as caught:
        read(files)
    return caught.value


def seconds(step_s: float = 1.5, count: int = SHAPE[0]) -> tuple[float, ...]:
    return tuple(step_s * t for t in range(count))


def put(**values):
    def change(t, k, ds):
        for keyword, value in values.items():
            setattr(ds, keyword, value(t, k) if callable(value) else value)

    return change


# Values and times


@pytest.mark.parametrize("read", [read_dynamic, read_dynamic_limited])
@pytest.mark.parametrize("named", [True, False])
def test_a_classic_dynamic_series_is_read_by_time_and_place(read, named):
    result = read(mr_files(STORED, timed(named=named)))
    volume = result.volume
    assert np.array_equal(volume.values, STORED)
    assert volume.values.dtype == np.int16
    assert volume.times_s == seconds()
    assert volume.geometry.shape == SHAPE[1:]
    assert volume.acquisition.notes == ()


def test_a_child_reads_a_dynamic_exactly_as_this_process_does():
    files = mr_files(STORED, timed())
    ours, theirs = read_dynamic(files), read_dynamic_limited(files)
    assert ours.source.instances == theirs.source.instances
    assert ours.source.later == theirs.source.later
    assert ours.source.header == theirs.source.header
    assert ours.volume.acquisition == theirs.volume.acquisition


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 6), st.integers(1, 4), st.just(2), st.just(3)),
    steps=st.lists(st.integers(1, 20_000_000), min_size=5, max_size=5),
    start=st.integers(0, 86_399_000_000),
    named=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_order_of_files_gives_the_same_voxels_and_times(shape, steps, start, named, seed):
    stored = stored_series(shape, seed)
    micros = [0, *np.cumsum(steps).tolist()][: shape[0]]

    def change(t, _, ds):
        ds.AcquisitionTime = clock((start + micros[t]) / 1e6 % 86400)
        if named:
            ds.TemporalPositionIdentifier = t + 1

    files = mr_files(stored, change)
    random.Random(seed).shuffle(files)
    volume = read_dynamic(files).volume
    assert np.array_equal(volume.values, stored)
    assert volume.times_s == pytest.approx([us / 1e6 for us in micros], abs=1e-9)


def test_the_source_names_the_slices_of_the_first_time_then_the_others():
    source = read_dynamic(mr_files(STORED, timed())[::-1]).source
    assert [one.number for one in source.instances] == [1, 2, 3]
    assert [one.number for one in source.later] == list(range(4, 19))
    assert {one.series_uid for one in source.later} == {""}


def test_a_series_of_one_time_is_a_dynamic_of_one_frame():
    stored = stored_ramp((4, 6, 5))
    volume = read_dynamic(ct_files(stored)).volume
    assert volume.values.shape == (1, 4, 6, 5)
    assert volume.times_s == (0.0,)
    assert np.array_equal(volume.values[0], stored - 1024)


def test_slices_that_never_change_are_not_taken_for_copies():
    still = np.zeros(SHAPE, np.uint16)
    assert read_dynamic(mr_files(still, timed())).volume.values.shape == SHAPE


def test_values_beyond_sixteen_bits_are_read_as_float():
    stored = STORED.copy()
    stored[5, 2, 0, 0] = 60000
    for read in (read_dynamic, read_dynamic_limited):
        values = read(mr_files(stored, timed())).volume.values
        assert values.dtype == np.float32
        assert np.array_equal(values, stored)


def test_compressed_times_are_spread_without_mixing_them(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    stored = stored_series((9, 3, 16, 18))
    files = []
    for t, slices in enumerate(stored):
        for k, pixels in enumerate(slices):
            ds = mr_slice(pixels, t, k, 3)
            timed()(t, k, ds)
            files.append(to_bytes(ds, RLELossless))
    assert np.array_equal(read_dynamic_limited(files).volume.values, stored)


def test_how_it_was_acquired_is_told():
    told = read_dynamic(mr_files(STORED, timed())).volume.acquisition
    assert (told.echo_time_ms, told.repetition_time_ms) == (30.0, 1500.0)
    assert (told.flip_angle_degrees, told.field_strength_t) == (60.0, 3.0)
    ct = read_series(ct_files(stored_ramp((2, 4, 4)), change=lambda _, ds: _current(ds)))
    assert ct.volume.acquisition.tube_current_ma == 250.0


def _current(ds: Dataset) -> None:
    ds.XRayTubeCurrent = "250"


# Where the times come from


@pytest.mark.parametrize(
    ("change", "notes"),
    [
        (put(TriggerTime=lambda t, k: str(1500 * t)), ()),
        (put(AcquisitionDateTime=lambda t, k: "20200102" + clock(60 + 1.5 * t) + "+0100"), ()),
        (put(TemporalPositionIdentifier=lambda t, k: t + 1, TemporalResolution="1500"), None),
        (put(ContentDate="20200102", ContentTime=lambda t, k: clock(60 + 1.5 * t)), None),
        # All slices of a time after each other, by their numbers alone.
        (put(TemporalResolution="1500"), None),
        # All times of a slice after each other.
        (put(TemporalResolution="1500", InstanceNumber=lambda t, k: k * SHAPE[0] + t + 1), None),
        # A date-time that is the same for all is that of the series.
        (both(timed(), put(AcquisitionDateTime="20200102100000")), ()),
        # The time within a heart beat is no time of a frame where the clock tells.
        (both(timed(), put(TriggerTime=lambda t, k: str(10 * (t % 3)))), ()),
    ],
)
def test_the_best_clock_that_tells_frames_apart_is_taken(change, notes):
    files = mr_files(STORED, change)
    random.Random(1).shuffle(files)
    volume = read_dynamic(files).volume
    assert np.array_equal(volume.values, STORED)
    assert volume.times_s == seconds()
    assert volume.acquisition.notes == (("times_assumed",) if notes is None else notes)


@pytest.mark.parametrize(
    "days",
    [
        lambda late: {"AcquisitionDate": "20200103" if late else "20200102"},
        lambda late: {"AcquisitionDate": "20200102"},
        lambda late: {},
    ],
)
def test_a_scan_may_go_past_midnight(days):
    def change(t, _, ds):
        now = 86397.0 + 1.5 * t
        ds.AcquisitionTime = clock(now % 86400)
        for keyword, value in days(now >= 86400).items():
            setattr(ds, keyword, value)

    assert read_dynamic(mr_files(STORED, change)).volume.times_s == seconds()


@pytest.mark.parametrize("named", [True, False])
def test_a_frame_of_interleaved_slices_is_as_old_as_its_first(named):
    order = [1, 0, 2]

    def change(t, k, ds):
        timed(named=named)(t, k, ds)
        ds.AcquisitionTime = clock(36000.0 + 1.5 * t + 0.5 * order[k])

    volume = read_dynamic(mr_files(STORED, change)).volume
    assert np.array_equal(volume.values, STORED)
    assert volume.times_s == seconds()
    assert volume.acquisition.notes == ("slice_times_differ",)


def test_uneven_intervals_are_told():
    steps = [0.0, 1.5, 3.0, 4.5, 9.0, 24.0]

    def change(t, _, ds):
        ds.AcquisitionTime = clock(36000.0 + steps[t])

    volume = read_dynamic(mr_files(STORED, change)).volume
    assert volume.times_s == tuple(steps)
    assert volume.acquisition.notes == ("times_irregular",)


def test_a_time_that_is_lost_whole_makes_the_others_uneven():
    files = mr_files(STORED, timed())
    volume = read_dynamic(files[: 2 * COUNT] + files[3 * COUNT :]).volume
    assert volume.times_s == (0.0, 1.5, 4.5, 6.0, 7.5)
    assert np.array_equal(volume.values, np.delete(STORED, 2, 0))
    assert volume.acquisition.notes == ("times_irregular",)


def test_fewer_times_than_the_header_promises_are_told():
    files = mr_files(STORED, both(timed(), put(NumberOfTemporalPositions="7")))
    assert read_dynamic(files).volume.acquisition.notes == ("fewer_times_than_declared",)


# What is dropped, what is refused


@pytest.mark.parametrize("named", [True, False])
def test_a_last_time_that_is_not_whole_is_dropped_with_a_note(named):
    volume = read_dynamic(mr_files(STORED, timed(named=named))[:-1]).volume
    assert np.array_equal(volume.values, STORED[:-1])
    assert volume.times_s == seconds(count=5)
    assert volume.acquisition.notes == ("frames_dropped",)


@pytest.mark.parametrize("lost", [0, 1, 7, 14])
@pytest.mark.parametrize("named", [True, False])
def test_a_slice_that_lacks_at_an_earlier_time_is_refused(lost, named):
    files = mr_files(STORED, timed(named=named))
    error = refusal(files[:lost] + files[lost + 1 :])
    assert (error.code, error.facts) == ("frames_missing", {"count": 1, "times": 6})


def test_a_slice_lost_without_names_does_not_shift_the_others():
    def change(t, k, ds):
        ds.AcquisitionTime = clock(36000.0 + 1.5 * t + 0.4 * k)

    files = mr_files(STORED, change)
    assert refusal(files[:4] + files[5:]).code == "frames_missing"


def test_a_file_that_comes_twice_counts_once():
    files = mr_files(STORED, timed())
    again = mr_slice(STORED[2, 1], 2, 1, COUNT)
    timed()(2, 1, again)
    again.SOPInstanceUID = "1.2.3"
    for extra in (files[3], to_bytes(again)):
        volume = read_dynamic([*files, extra]).volume
        assert np.array_equal(volume.values, STORED)
        assert volume.acquisition.notes == ("duplicates_dropped",)


@pytest.mark.parametrize(
    ("change", "code", "facts"),
    [
        (put(), "times_missing", {"times": 6}),
        (put(AcquisitionTime="100000"), "times_missing", {"times": 6}),
        (put(TemporalPositionIdentifier=lambda t, k: t + 1), "times_missing", {"times": 6}),
        # The repetition time is no time between frames.
        (put(RepetitionTime="1500"), "times_missing", {"times": 6}),
        (put(AcquisitionTime=""), "times_missing", {"times": 6}),
        # Whole seconds of a faster scan.
        (
            both(timed(), put(AcquisitionTime=lambda t, k: f"1000{t // 2:02}")),
            "times_repeat",
            {"count": 3, "times": 6},
        ),
        # By its position a slice is three frames away from where the clock has it.
        (
            both(timed(), put(AcquisitionTime=lambda t, k: clock(60 + 1.5 * t + 4.5 * (k == 1)))),
            "times_conflict",
            {"apart_s": 4.5, "interval_s": 1.5},
        ),
        (
            both(timed(), put(TemporalPositionIdentifier=lambda t, k: (t + (k == 1)) % 6 + 1)),
            "times_conflict",
            None,
        ),
        (both(timed(), put(EchoTime=lambda t, k: str(30 + t % 2))), "mixed_echo_times", None),
        (both(timed(), put(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])), "mosaic", None),
        (both(timed(), put(PatientID=lambda t, k: f"P{t // 3}")), "mixed_patients", None),
        (both(timed(), put(FrameOfReferenceUID=lambda t, k: f"1.{t // 3}")), "mixed_frames", None),
        (
            both(timed(), put(ImagePositionPatient=lambda t, k: [-10 + t, -20, 3 * k])),
            "mixed_grids",
            None,
        ),
        (both(timed(), put(PixelSpacing=lambda t, k: [1 + t // 3, 1])), "mixed_spacing", None),
    ],
)
def test_what_makes_no_dynamic_is_refused_by_name(change, code, facts):
    error = refusal(mr_files(STORED, change))
    assert error.code.startswith(code)
    assert facts is None or error.facts == facts


def test_echoes_are_counted():
    change = both(timed(), put(EchoTime=lambda t, k: str(10 * (1 + t % 3))))
    assert refusal(mr_files(STORED, change)).facts == {"count": 3}


def test_magnitude_and_phase_are_never_taken_for_times():
    def change(t, k, ds):
        # Each time twice, made one after the other, with numbers that go on.
        timed(named=False)(t // 2, k, ds)
        ds.ContentTime = clock(40000.0 + t)
        ds.TemporalResolution = "1500"

    assert refusal(mr_files(STORED, change)).code == "times_repeat"


def test_a_slice_missing_at_all_times_is_a_gap():
    files = mr_files(stored_series((3, 5, 4, 4)), timed())
    kept = [file for n, file in enumerate(files) if n % 5 != 2]
    assert refusal(kept).code == "slice_gap"


def test_a_file_cut_short_is_refused():
    files = mr_files(STORED, timed())
    assert refusal([*files[:-1], files[-1][:-30]]).code in ("file_truncated", "pixel_data_short")


def test_nothing_is_refused():
    assert refusal([]).code == "no_files"


# Where one time is needed


@pytest.mark.parametrize("read", [read_series, read_series_limited])
@pytest.mark.parametrize("named", [True, False])
def test_several_times_are_no_single_volume(read, named):
    error = refusal(mr_files(STORED, timed(named=named)), read)
    assert (error.code, error.facts) == ("dynamic_series", {"times": 6})


def test_places_that_repeat_without_a_time_stay_a_repetition():
    assert refusal(mr_files(STORED), read_series).code == "positions_repeat"


# Several series


def _in_series(*, step: int = 1):
    def change(t, _, ds):
        ds.SeriesInstanceUID = f"{SERIES}.{100 + t // step}"
        ds.TemporalPositionIdentifier = t % step + 1

    return change


@pytest.mark.parametrize("step", [1, 2, 3])
def test_series_of_one_study_are_joined(step):
    change = both(timed(), _in_series(step=step))
    files = mr_files(STORED, change)
    random.Random(2).shuffle(files)
    read = read_dynamic_limited(files)
    assert np.array_equal(read.volume.values, STORED)
    assert read.volume.times_s == seconds()
    assert read.volume.series == f"{SERIES}.100"
    assert read.source.header.SeriesInstanceUID == f"{SERIES}.100"
    assert {one.series_uid for one in read.source.instances} == {""}
    named = [one.series_uid for one in read.source.later]
    expected = [f"{SERIES}.{100 + t // step}" for t in range(1, 6) for _ in range(COUNT)]
    assert named == ["" if uid.endswith(".100") else uid for uid in expected]


def test_a_last_series_that_is_not_whole_is_dropped():
    volume = read_dynamic(mr_files(STORED, both(timed(), _in_series()))[:-2]).volume
    assert volume.values.shape[0] == 5
    assert volume.acquisition.notes == ("frames_dropped",)


@pytest.mark.parametrize(("pause_s", "joined"), [(1.5, True), (240.0, False)])
def test_two_runs_are_two_boluses_and_never_joined(pause_s, joined):
    def run(t, k, ds):
        late = t >= 3
        ds.SeriesInstanceUID = f"1.2.{7 + late}"
        ds.AcquisitionTime = clock(60.0 + 1.5 * t + (pause_s - 1.5) * late)

    files = mr_files(STORED, both(timed(named=False), run))
    if joined:
        assert np.array_equal(read_dynamic(files).volume.values, STORED)
    else:
        assert refusal(files).code == "mixed_series"


@pytest.mark.parametrize("shift_mm", [0.4, 1.5, 3.0])
def test_series_on_other_grids_are_refused(shift_mm):
    def change(t, k, ds):
        both(timed(), _in_series(step=3))(t, k, ds)
        if t >= 3:
            ds.ImagePositionPatient = [-10, -20, 3.0 * k + shift_mm]

    assert refusal(mr_files(STORED, change)).code == "mixed_grids"


def test_series_of_other_studies_are_refused():
    change = both(timed(), put(StudyInstanceUID=lambda t, k: f"1.2.{t}"))
    assert refusal(mr_files(STORED, change)).code == "mixed_series"


def test_headers_of_refused_series_name_each_image_with_its_series():
    files = mr_files(STORED, both(timed(), _in_series(step=3)))
    source = read_headers(files)
    assert source.header.SeriesInstanceUID == f"{SERIES}.100"
    told = [one.series_uid for one in source.instances]
    assert told == [""] * 9 + [f"{SERIES}.101"] * 9


# Real scans


def test_a_real_ct_perfusion_in_nineteen_series_is_read(shared_data):
    resources = shared_data / "odd-dicom/panimg/tests/resources"
    classic = read_dynamic_limited(sorted((resources / "dicom_4d").iterdir()))
    assert classic.volume.values.shape == (19, 4, 2, 3)
    assert classic.volume.times_s == tuple(float(t) for t in range(19))
    assert classic.volume.unit == "[hnsf'U]"
    enhanced = read_dynamic_limited(sorted((resources / "dicom_4d_enhanced").iterdir()))
    assert np.array_equal(classic.volume.values, enhanced.volume.values)
    assert classic.volume.times_s == enhanced.volume.times_s
    assert classic.volume.geometry.same_grid(enhanced.volume.geometry)
