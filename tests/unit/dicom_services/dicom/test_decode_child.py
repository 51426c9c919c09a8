from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless, RLELossless

from dicom_services.dicom import decode_child
from dicom_services.dicom.child import Limits, start_child
from dicom_services.dicom.decode_child import read_headers_limited, read_series_limited
from dicom_services.dicom.read import read_headers, read_series
from dicom_services.errors import InputError
from tests.dicom_files import SERIES, ct_files, deflate_bomb, part10, stored_ramp

OPEN = Path("/proc/self/fd")
SMALL = Limits(64 << 20, 64 << 20, 5, 5, 20.0)


def told(work, limits=SMALL):
    return list(start_child(work, limits).messages())


def refused(work, limits=SMALL) -> InputError:
    with pytest.raises(InputError) as caught:
        told(work, limits)
    return caught.value


def same(one, other) -> bool:
    a, b = one.volume, other.volume
    return (
        np.array_equal(a.values, b.values)
        and a.values.dtype == b.values.dtype
        and np.array_equal(a.geometry.affine, b.geometry.affine)
        and (a.geometry.frame_uid, a.unit, a.series, a.acquisition)
        == (b.geometry.frame_uid, b.unit, b.series, b.acquisition)
        and one.source.header == other.source.header
        and one.source.instances == other.source.instances
    )


@pytest.mark.parametrize("name", ["lidc-idri-0002", "lung-dx-a0001"])
def test_a_child_reads_exactly_what_this_process_reads(name, shared_data):
    files = sorted((shared_data / "chest-ct" / name / "dicom").iterdir())
    assert same(read_series_limited(files), read_series(files))


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless])
def test_compressed_slices_are_spread_without_mixing_them(syntax, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    files = ct_files(stored_ramp((26, 16, 18)), syntax=syntax)
    assert same(read_series_limited(files), read_series(files))


def test_values_beyond_sixteen_bits_come_back_as_float_from_every_child(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    stored = np.full((20, 4, 4), 1024, np.uint16)
    stored[19, 0, 0] = 60000
    read = read_series_limited(ct_files(stored, syntax=RLELossless))
    assert read.volume.values.dtype == np.float32
    assert read.volume.values.max() == 58976.0


def test_the_volume_is_read_only_and_outlives_the_child():
    read = read_series_limited(ct_files(stored_ramp((2, 4, 4))))
    gc.collect()
    assert not read.volume.values.flags.writeable
    assert read.volume.values.sum() == (stored_ramp((2, 4, 4)).astype(int) - 1024).sum()


def test_a_refusal_crosses_with_its_code_and_facts():
    files = ct_files(stored_ramp((5, 4, 4)))
    with pytest.raises(InputError) as caught:
        read_series_limited(files[:2] + files[3:])
    assert (caught.value.code, caught.value.facts) == ("slice_gap", {"count": 1, "spacing_mm": 3.0})


def test_headers_are_the_same_through_a_child():
    files = ct_files(stored_ramp((2, 4, 4)))
    ours, theirs = read_headers(files), read_headers_limited(files)
    assert ours.header == theirs.header
    assert ours.instances == theirs.instances
    assert theirs.instances[1].sop_instance_uid == f"{SERIES}.2"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_child_that_is_killed_is_named_by_its_signal(number):
    error = refused(lambda _: os.kill(os.getpid(), number))
    assert (error.code, error.facts) == ("decoder_died", {"signal": int(number)})


def test_a_read_from_nowhere_ends_the_child_only():
    assert refused(lambda _: ctypes.string_at(0)).facts["signal"] == signal.SIGSEGV


def test_memory_beyond_the_limit_is_refused():
    error = refused(lambda send: send(len(bytearray(1 << 30))))
    assert (error.code, error.facts) == ("decoder_died", {"reason": "memory"})


def test_time_beyond_the_limit_ends_the_child():
    def spin(_):
        while True:
            pass

    assert refused(spin, Limits(1 << 26, 1 << 26, 1, 1, 20.0)).facts["signal"] == signal.SIGXCPU


def test_a_child_that_only_waits_is_ended_by_the_clock():
    started = time.monotonic()
    error = refused(lambda _: time.sleep(60), Limits(1 << 26, 1 << 26, 5, 5, 0.2))
    assert error.facts == {"reason": "time"}
    assert time.monotonic() - started < 10


def test_whatever_is_raised_tells_its_place_and_not_its_text():
    class Panic(BaseException):
        pass

    def work(_):
        raise Panic("Doe^Jane")

    error = refused(work)
    assert error.facts["reason"] == "exception"
    assert "test_decode_child.py:" in str(error)
    assert "Doe" not in str(error)


def test_a_child_of_a_child_ends_with_it():
    def work(send):
        grandchild = start_child(lambda _: time.sleep(60), SMALL, own_group=False)
        send(grandchild.pid)
        time.sleep(60)

    child = start_child(work, SMALL)
    grandchild = next(child.messages())
    child.end()
    for _ in range(1000):
        state = Path(f"/proc/{grandchild}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.01)
    pytest.fail("the grandchild lives on")


def test_a_child_has_no_file_of_its_parent_and_prints_nowhere(capfd, tmp_path):
    with (tmp_path / "secret").open("wb"):
        (names,) = told(lambda send: send([fd.resolve().name for fd in OPEN.iterdir()]))
        told(lambda _: os.write(2, b"Doe^Jane"))
    assert "secret" not in names
    assert capfd.readouterr().err == ""


def test_no_zombie_and_no_descriptor_is_left():
    before = len(list(OPEN.iterdir()))
    for work in (lambda send: send(1), lambda _: os.abort()):
        child = start_child(work, SMALL)
        with contextlib.suppress(InputError):
            list(child.messages())
        with pytest.raises(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)
    assert len(list(OPEN.iterdir())) == before


def _nested(depth: int) -> bytes:
    return part10(b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * depth)


@pytest.mark.parametrize(
    ("hostile", "code"),
    [
        (deflate_bomb(40), "deflate_bomb"),
        (_nested(100), "file_truncated"),
        (_nested(30_000), "file_truncated"),
        (part10(b"\x10\0\x20\0UN\0\0\xf0\xff\xff\xffabc"), "file_truncated"),
    ],
)
def test_hostile_headers_are_refused_and_this_process_lives(hostile, code):
    with pytest.raises(InputError) as caught:
        read_series_limited([hostile])
    assert caught.value.code == code


def test_declared_pixels_beyond_the_cap_are_refused_before_they_are_read():
    def change(_, ds):
        ds.Rows, ds.Columns = 16000, 16000

    files = ct_files(stored_ramp((5, 2, 2)), change=change)
    with pytest.raises(InputError) as caught:
        read_series_limited(files)
    assert caught.value.code == "too_large"


def test_the_limits_grow_with_the_declared_pixels_only():
    few, many = (decode_child.header_limits(count) for count in (1, 1000))
    assert few.memory_bytes == many.memory_bytes
    assert few.cpu_s < many.cpu_s < 100


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"],
)
def test_damaged_pixels_are_read_or_refused(name, seed):
    sound = Path(get_testdata_file(name)).read_bytes()
    rng = np.random.default_rng(seed)
    start = sound.rindex(b"\xe0\x7f\x10\0")
    for _ in range(10):
        damaged = bytearray(sound)
        for at in rng.integers(start + 20, len(sound), rng.integers(1, 12)):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(InputError):
            read_series_limited([bytes(damaged)])


CLASSES = {
    "read": 122,
    "multi_frame_unsupported": 30,
    "not_monochrome": 27,
    "not_dicom": 16,
    "modality_unsupported": 14,
    "illegal_uid": 1,
}


def test_every_odd_file_is_read_or_refused_with_a_code(shared_data):
    outcomes: Counter[str] = Counter()
    for file in sorted((shared_data / "odd-dicom").rglob("*")):
        if not file.is_file():
            continue
        try:
            read_series_limited([file])
            outcomes["read"] += 1
        except InputError as error:
            outcomes[error.code] += 1
    assert outcomes == CLASSES


def test_four_dimensional_series_are_refused(shared_data):
    folder = shared_data / "odd-dicom/panimg/tests/resources/dicom_4d"
    with pytest.raises(InputError) as caught:
        read_series_limited(sorted(folder.iterdir()))
    assert caught.value.code == "mixed_series"


def test_a_child_is_forked_between_the_imports_of_other_threads(tmp_path, monkeypatch):
    """Forked in the middle of one, it would wait for ever for a thread that it does not have."""
    (tmp_path / "imported_slowly.py").write_text("import time\ntime.sleep(0.5)\nvalue = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    thread = threading.Thread(target=lambda: importlib.import_module("imported_slowly"))
    thread.start()
    time.sleep(0.1)

    def work(send):
        send(importlib.import_module("imported_slowly").value)

    assert list(start_child(work, Limits(1 << 30, 1 << 30, 20, 20, 10.0)).messages()) == [7]
    thread.join()
