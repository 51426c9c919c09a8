"""A real Chromium on pages of a folder, isolated as the gateway isolates the viewer."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright

ROOT = Path(__file__).resolve().parents[1]
COMPUTE = ROOT / "ohif_extensions" / "extension-compute"
CHROMIUM = "/usr/bin/chromium"
BUILT = ROOT / "ohif_extensions" / "dist" / "viewer" / "index.html"
FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
"""Software rendering, and no word to anybody outside."""


def needs(what: str, *files: str | Path) -> pytest.MarkDecorator:
    """Skips a test where one of the files is absent; in CI it is tried, and fails, all the same."""
    absent = not all(Path(file).is_file() for file in files)
    return pytest.mark.skipif(absent and not os.environ.get("CI"), reason=f"needs {what}")


NEEDS_VIEWER = needs("Chromium and the built viewer", CHROMIUM, BUILT)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; worker-src 'self' blob:; connect-src 'self'",
        )
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address under which a folder is served."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def chromium(driver: Playwright, *flags: str) -> Iterator[Browser]:
    """A browser without a window."""
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
    try:
        yield browser
    finally:
        browser.close()


def build_pages(folder: Path) -> None:
    """The pages of extension-compute/bench; its node packages must be installed."""
    subprocess.run(
        ["node", str(COMPUTE / "bench" / "build.mjs"), str(folder)],
        check=True,
        capture_output=True,
        timeout=120,
    )
