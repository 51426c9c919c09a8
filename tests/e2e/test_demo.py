"""What a newcomer sees first: the demo closes the loop and compares with the known answer."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.conftest import Stack


def test_the_demo_shows_the_known_answer_read_back_from_the_pacs(stack: Stack) -> None:
    said = stack.radloop("demo")
    known, told = re.search(r"Agatston ([\d.]+); the PACS says ([\d.]+)", said).groups()
    assert known == told
    assert "done: SEG, SR, KO stored" in said
    assert "Image quality warning" in said
    assert "not a medical device" in said
    assert f"export RADLOOP_DATA={stack.data}" in said


def test_the_demo_takes_ones_own_study(stack: Stack, tmp_path: Path) -> None:
    stack.radloop("phantom", str(tmp_path / "study"), "--seed", "3")
    said = stack.radloop("demo", str(tmp_path / "study"))
    assert "50 of 50 files stored" in said
    assert "known answer" not in said
    assert "done: SEG, SR, KO stored" in said
