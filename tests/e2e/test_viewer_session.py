"""Images that were refused because the session had ended are there after the login in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import APIRequestContext, Page, Route, expect, sync_playwright

from tests.browser import NEEDS_VIEWER, chromium
from tests.integration.conftest import Stack
from tests.viewer import OPENING_MS, Viewer, add_user, address_of, send_phantom

pytestmark = NEEDS_VIEWER

_FRAMES = "**/frames/**"
_SHOWN = """() => {
  const shown = window.cornerstone?.getEnabledElements().map((one) => one.viewport) ?? [];
  const { cache } = window.cornerstone ?? {};
  return shown.length > 0 && shown.every((one) => cache.isLoaded(one.getCurrentImageId()));
}"""


@pytest.fixture
def page_and_nobody() -> Iterator[tuple[Page, APIRequestContext]]:
    """A reader's page, and somebody beside it who has no session."""
    with (
        sync_playwright() as driver,
        chromium(driver) as browser,
        browser.new_context(viewport={"width": 1280, "height": 900}) as context,
    ):
        nobody = driver.request.new_context()
        yield context.new_page(), nobody
        nobody.dispose()


def test_images_come_after_the_login_in_place_without_scrolling(
    stack: Stack, tmp_path: Path, page_and_nobody: tuple[Page, APIRequestContext]
) -> None:
    page, nobody = page_and_nobody
    refused: list[int] = []
    back = False

    def as_nobody(route: Route) -> None:
        if back:
            route.continue_()
            return
        answer = nobody.get(route.request.url, headers={"Accept": "multipart/related"})
        refused.append(answer.status)
        route.fulfill(response=answer)

    add_user(stack, "ines")
    viewer = Viewer(page, address_of(stack), send_phantom(stack, tmp_path / "study").study)
    page.route(_FRAMES, as_nobody)
    viewer.go()
    viewer.log_in("ines")
    dialog = viewer.has("rl-login")
    expect(dialog).to_be_visible(timeout=OPENING_MS)
    page.wait_for_function("() => window.cornerstone?.getEnabledElements().length > 0")
    assert set(refused) == {401}
    assert not page.evaluate(_SHOWN)
    page.evaluate("window.stayed = true")
    back = True
    viewer.fill_in("ines")
    expect(dialog).to_have_count(0, timeout=OPENING_MS)
    page.wait_for_function(_SHOWN, timeout=OPENING_MS)
    assert page.evaluate("window.stayed") is True
