"""A series whose reading process is killed from outside, once by chance and again and again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ai_nodes.analysis import analyse, file_names
from ai_nodes.registry import PIPELINES
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.dicom.write import encode
from dicom_services.phantom_command import demo_phantom
from tests import sources


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("ct")
    write_ct_series(demo_phantom(slices=24, matrix=128).volume, folder, seed="killed")
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        # A thread may end between being listed and being asked.
        with suppress(OSError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


@contextmanager
def killing_children(most: int) -> Iterator[list[int]]:
    """Kill the first `most` new children of this process as soon as they are there."""
    known, killed, stop = children(), [], threading.Event()

    def look() -> None:
        while not stop.is_set() and len(killed) < most:
            for pid in children() - known - set(killed):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def test_a_reading_process_killed_by_chance_does_not_refuse_the_series(files):
    with killing_children(1) as killed:
        outcome = analyse(list(files), PIPELINES["calcium"], {})
    assert len(killed) == 1
    assert (outcome.state, outcome.code) == ("done", "")


def test_a_refusal_is_still_reported_when_chance_hits_its_headers(files):
    with killing_children(1) as killed:
        outcome = analyse(files[:10] + files[11:], PIPELINES["calcium"], {})
    assert len(killed) == 1
    assert (outcome.state, outcome.code) == ("refused", "slice_gap")
    assert [str(one.Modality) for one in outcome.objects] == ["SR"]


def test_a_series_that_gets_its_reader_killed_each_time_is_refused(files):
    with killing_children(4) as killed:
        outcome = analyse(list(files), PIPELINES["calcium"], {})
    assert len(killed) == 4
    assert (outcome.state, outcome.code) == ("refused", "decoder_died")


def test_every_result_has_a_file_name_of_its_own_and_maps_are_named_by_label():
    findings = (*sources.perfusion(), sources.perfusion()[0])
    objects = encode(findings, sources.source(), sources.provenance())
    assert file_names(objects, "perfusion") == [
        "perfusion-map-cbf.dcm",
        "perfusion-map-tmax.dcm",
        "perfusion-map-cbf-2.dcm",
        "perfusion-seg.dcm",
        "perfusion-sr.dcm",
    ]
