"""Where tests find real data, and how many had to do without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("RADLOOP_TEST_DATA", ROOT.parent / "shared" / "data"))
_without: list[str] = []


@pytest.fixture
def shared_data(request: pytest.FixtureRequest) -> Path:
    """The folder of real, public, de-identified test data; skips the test where it is absent."""
    if not DATA.is_dir():
        _without.append(request.node.nodeid)
        pytest.skip("shared test data are absent (RADLOOP_TEST_DATA)")
    return DATA


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _without:
        terminalreporter.write_line(
            f"{len(_without)} tests skipped: no test data at RADLOOP_TEST_DATA"
        )
