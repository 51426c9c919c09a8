"""What a real Chromium computes itself, as ratios to one plain pass over the volume."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.bench.rig import emit
from tests.browser import build_pages, chromium, served

SIDE = 512
LIMIT_MS = 300_000


@contextmanager
def watched_memory() -> Iterator[dict[str, float]]:
    """The most memory that the browser's pages and its graphics process took together, in MB.

    Memory that several processes share counts for each by its part (proportional set size).
    """
    found = {"most_mb": 0.0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            found["most_mb"] = max(found["most_mb"], round(sum(map(_pss_mb, _pages())), 1))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _pages() -> list[int]:
    """Renderer and graphics processes that descend from this one."""
    parents: dict[int, int] = {}
    kinds: dict[int, bool] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(folder.name)] = int(stat[stat.rindex(")") + 2 :].split()[1])
        kinds[int(folder.name)] = b"--type=renderer" in words or b"--type=gpu-process" in words

    def ours(process: int) -> bool:
        while process > 1 and process != os.getpid():
            process = parents.get(process, 0)
        return process == os.getpid()

    return [process for process, drawn in kinds.items() if drawn and ours(process)]


def _pss_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000.0


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
                with watched_memory() as memory:
                    found: dict[str, Any] = page.evaluate(
                        "side => window.speed.calcium(side)", SIDE
                    )
                emit(f"browser: agatston {SIDE}^3", **found, **memory)
            with chromium(driver) as browser:
                page = browser.new_page()
                page.goto(f"{address}/speed.html")
                page.wait_for_function("window.speed !== undefined")
                emit(
                    "browser: slider redraw of 512 x 512", **page.evaluate("window.speed.redraw()")
                )


if __name__ == "__main__":
    main()
