"""Everything that fuzzing has found stays mended, and every target takes its own seeds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, run

FINDS = Path(__file__).resolve().parents[1] / "fuzz" / "finds"
FOUND = sorted(path for path in FINDS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[:20]}")
def test_a_find_is_taken_within_a_second(path: Path):
    start = time.process_time()
    run(path.parent.name, path.read_bytes())
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_seeds_and_every_cut_of_one(name: str):
    seeds = TARGETS[name].seeds()
    assert seeds
    for data in (*seeds[:40], b"", *(seeds[0][:n] for n in range(0, len(seeds[0]), 97))):
        run(name, data)
