"""Every threat that SECURITY.md names has a defence and a test that exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def threats() -> list[list[str]]:
    """The cells of each row of the table."""
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    table = text.split("| threat | defence | test |\n", 1)[1].split("\n\n", 1)[0]
    return [
        [cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()[1:]
    ]


@cache
def functions_of(path: str) -> set[str]:
    """Names of the test functions of a file."""
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    return {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}


@pytest.mark.parametrize("row", threats(), ids=lambda row: row[0])
def test_threat_has_a_defence_and_tests_that_exist(row: list[str]) -> None:
    threat, defence, tests = row
    assert threat
    assert defence
    named = NAMED.findall(tests)
    assert named
    # Nothing else stands in the cell, so no name is misspelt into a word.
    assert NAMED.sub("", tests).strip() == ""
    assert [one for one in named if one[1] not in functions_of(one[0])] == []


def test_the_table_covers_more_than_a_few_threats() -> None:
    assert len(threats()) >= 25
