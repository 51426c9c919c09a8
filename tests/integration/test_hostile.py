"""One file of every hostile class, three routes; `python -m tests.hostile run` is the long form."""

from __future__ import annotations

from itertools import islice

from tests.hostile import runner
from tests.hostile.corpus import CLASSES, cases
from tests.integration.conftest import SENDER, Stack

SEED = 7


def test_nothing_hostile_stops_the_stack_that_receives_it(stack: Stack):
    report, stored = runner.by_store(cases(SEED, len(CLASSES)), stack.folder, calling=SENDER)
    assert report.faults == []
    assert report.files == len(CLASSES)
    assert 20 <= report.stored < report.files
    read = runner.alive(stack.folder, stack.orthanc, stored)
    assert read.faults == []


def test_sending_hostile_files_ends_with_a_count(stack: Stack):
    chosen = islice(cases(SEED + 1, len(CLASSES)), 0, None, 2)
    report = runner.by_send(chosen, stack.folder, stack.profile, calling=SENDER, together=True)
    assert report.faults == []
    assert dict(report.refused) == {"exit 3": 1}


def test_analysing_hostile_files_ends_with_a_code():
    report = runner.by_analyze(islice(cases(SEED + 2, len(CLASSES)), 0, None, 8))
    assert report.faults == []
    assert report.files == report.refused.total() == 12
