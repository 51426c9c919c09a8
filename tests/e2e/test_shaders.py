"""Every shader against its twin on the processor, worker and mask too, in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Playwright, sync_playwright

from tests.browser import CHROMIUM, COMPUTE, build_pages, chromium, needs, served

CHECKS = re.findall(
    r"^  '([^']+)': (?:async )?\(\) =>", (COMPUTE / "bench/shaders.ts").read_text(), re.M
)

pytestmark = needs(
    "Chromium and the viewer's node packages",
    CHROMIUM,
    COMPUTE.parent / "node_modules" / ".package-lock.json",
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pages")
    build_pages(folder)
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def driver() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def page(driver: Playwright, pages: str) -> Iterator[Page]:
    with chromium(driver) as browser:
        page = browser.new_page()
        page.goto(f"{pages}/shaders.html")
        page.wait_for_function("window.checks !== undefined")
        yield page


def test_every_check_of_the_page_is_run(page: Page) -> None:
    assert page.evaluate("window.checks.names") == CHECKS
    assert page.evaluate("window.crossOriginIsolated") is True


@pytest.mark.parametrize("name", CHECKS)
def test_in_the_browser(page: Page, name: str) -> None:
    assert page.evaluate("name => window.checks.run(name)", name) == ""


def test_without_webgl2_the_worker_counts_all_the_same(driver: Playwright, pages: str) -> None:
    with chromium(driver, "--disable-3d-apis") as browser:
        page = browser.new_page()
        page.goto(f"{pages}/shaders.html")
        page.wait_for_function("window.checks !== undefined")
        assert (
            page.evaluate("name => window.checks.run(name)", "the worker says what the page says")
            == ""
        )
        assert "no_webgl2" in page.evaluate("name => window.checks.run(name)", "sum")
