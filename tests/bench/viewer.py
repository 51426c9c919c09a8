"""What a real Chromium computes itself, as ratios to one plain pass over the volume."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.bench.rig import emit
from tests.browser import build_pages, chromium, served

SIDE = 512
LIMIT_MS = 300_000


def main() -> None:
    """Calcium of 512 x 512 x 512 by worker and by WebGL2, and the slider's redraw of a slice."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        build_pages(Path(name))
        with served(Path(name)) as address:
            with chromium(driver) as browser:
                page = browser.new_page()
                page.set_default_timeout(LIMIT_MS)
                page.goto(f"{address}/speed.html")
                page.wait_for_function("window.speed !== undefined")
                found: dict[str, Any] = page.evaluate("side => window.speed.calcium(side)", SIDE)
                emit(f"browser: agatston {SIDE}^3", **found)
            with chromium(driver) as browser:
                page = browser.new_page()
                page.goto(f"{address}/speed.html")
                page.wait_for_function("window.speed !== undefined")
                emit(
                    "browser: slider redraw of 512 x 512", **page.evaluate("window.speed.redraw()")
                )


if __name__ == "__main__":
    main()
