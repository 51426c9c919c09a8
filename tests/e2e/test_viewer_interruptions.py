"""Work outlives what comes between: a killed gateway, an ended session, another user's turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect, sync_playwright

from tests.browser import NEEDS_VIEWER, chromium
from tests.integration.conftest import Stack
from tests.pacs import until
from tests.viewer import OPENING_MS, Viewer, add_user, address_of, gateway_killed, send_phantom

PATIENT = "OUTBOX^ANNABEL"

pytestmark = NEEDS_VIEWER


@pytest.fixture(scope="module")
def study(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    for name in ("anna", "bert"):
        add_user(stack, name)
    return send_phantom(stack, tmp_path_factory.mktemp("study"), patient_name=PATIENT).study


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver, chromium(driver) as browser:
        yield browser


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One browser with what it keeps, as several readers share a workstation."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context


@pytest.fixture(scope="module")
def anna(stack: Stack, study: str, context: BrowserContext) -> Viewer:
    viewer = Viewer(context.new_page(), address_of(stack), study)
    viewer.go()
    viewer.log_in("anna")
    viewer.open_calcium()
    return viewer


def kept(page: Page, kind: str = "correction") -> list[dict[str, Any]]:
    """What lies in the browser's own database, bytes as text."""
    found = page.evaluate(
        """async () => {
          const database = await new Promise((resolve, reject) => {
            const request = indexedDB.open('radloop-outbox');
            request.onsuccess = () => resolve(request.result);
            request.onerror = () => reject(request.error);
          });
          const entries = await new Promise((resolve) => {
            const request = database.transaction('entries').objectStore('entries').getAll();
            request.onsuccess = () => resolve(request.result);
          });
          database.close();
          const text = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value)
            ? new TextDecoder('latin1').decode(value) : value;
          return entries.map((entry) => Object.fromEntries(
            Object.entries(entry).map(([name, value]) => [name, text(value)])));
        }"""
    )
    return [each for each in found if each["kind"] == kind]


def answers(viewer: Viewer) -> bool:
    """Whether the gateway is back."""
    try:
        return viewer.page.request.get(f"{viewer.address}/api/health").ok
    except Error:
        return False


def leave_out(viewer: Viewer, lesion: str) -> float:
    """The score without a lesion."""
    before = viewer.has("rl-score-total").inner_text()
    viewer.has(f"rl-lesion-include-{lesion}").uncheck()
    expect(viewer.has("rl-score-total")).not_to_have_text(before)
    return viewer.number("rl-score-total")


def save(viewer: Viewer, note: str) -> None:
    viewer.has("rl-note").fill(note)
    viewer.has("rl-save").click()


def save_after_the_session(viewer: Viewer, context: BrowserContext, note: str) -> None:
    """Save just when the session is over, before anything else has told the page."""
    viewer.has("rl-note").fill(note)
    until(lambda: kept(viewer.page, "draft"))
    context.clear_cookies()
    viewer.has("rl-save").click()


def with_note(viewer: Viewer, note: str) -> list[dict[str, Any]]:
    """Corrections on record that say so."""
    return [each for each in viewer.corrections() if each["note"] == note]


def test_a_correction_outlives_the_gateway_and_a_reload(anna: Viewer, stack: Stack) -> None:
    mine = leave_out(anna, "L1")
    reports = set(anna.series("SR"))
    with gateway_killed(stack):
        save(anna, "said to nobody")
        expect(anna.has("rl-unsent")).to_contain_text("does not answer", timeout=OPENING_MS)
        (waiting,) = kept(anna.page)
        for secret in (anna.study, "ANNABEL", "said to nobody", "anna"):
            assert secret not in json.dumps(waiting)
    # The page goes while nothing has been sent; the next one sends it without being asked.
    until(lambda: answers(anna))
    anna.page.reload()
    anna.open_calcium()
    until(lambda: with_note(anna, "said to nobody"))
    expect(anna.has("rl-score-saved")).to_contain_text(f"{mine:.1f}", timeout=OPENING_MS)
    expect(anna.has("rl-unsent")).to_have_count(0)
    assert kept(anna.page) == []
    (row,) = with_note(anna, "said to nobody")
    assert row["score_check"] == "equal"
    until(lambda: with_note(anna, "said to nobody")[0]["delivery"] == "stored")
    # Sent once or more often, it is one row and one report.
    assert len(set(anna.series("SR")) - reports) == 1


def test_a_session_that_ends_is_taken_up_in_place(anna: Viewer, context: BrowserContext) -> None:
    mine = leave_out(anna, "L2")
    anna.page.evaluate("window.stayed = true")
    save_after_the_session(anna, context, "after the session")
    dialog = anna.has("rl-login")
    expect(dialog).to_be_visible(timeout=OPENING_MS)
    expect(dialog).to_contain_text("The session has ended")
    expect(anna.has("rl-login-name")).to_have_value("anna")
    assert len(kept(anna.page)) == 1
    anna.fill_in("anna")
    expect(dialog).to_have_count(0, timeout=OPENING_MS)
    until(lambda: with_note(anna, "after the session"))
    expect(anna.has("rl-unsent")).to_have_count(0, timeout=OPENING_MS)
    # Nothing was left and nothing was lost: it is the same page with the same numbers.
    assert anna.page.evaluate("window.stayed") is True
    assert anna.number("rl-score-total") == mine
    assert len(with_note(anna, "after the session")) == 1


def test_another_user_of_the_browser_sees_nothing_and_sends_nothing(
    anna: Viewer, context: BrowserContext
) -> None:
    mine = leave_out(anna, "L3")
    save_after_the_session(anna, context, "for my eyes only")
    expect(anna.has("rl-login")).to_be_visible(timeout=OPENING_MS)

    bert = Viewer(anna.page, anna.address, anna.study)
    bert.page.goto(f"{bert.address}/login")
    bert.log_in("bert")
    bert.go()
    bert.open_calcium()
    expect(bert.has("rl-unsent-others")).to_contain_text("1 of another user", timeout=OPENING_MS)
    assert "for my eyes only" not in bert.page.content()
    expect(bert.has("rl-note")).to_have_value("")
    assert bert.number("rl-score-total") == bert.number("rl-score-ai")
    assert f"{mine:.1f}" not in bert.has("rl-unsent").inner_text()
    assert with_note(bert, "for my eyes only") == []
    assert len(kept(bert.page)) == 1

    logged_out(bert)
    anna.log_in("anna")
    anna.go()
    until(lambda: with_note(anna, "for my eyes only"))
    (row,) = with_note(anna, "for my eyes only")
    assert row["author"]["display_name"] == "Dr Anna"
    until(lambda: kept(anna.page) == [])


def logged_out(viewer: Viewer) -> None:
    """By the menu, as people do it."""
    viewer.page.goto(viewer.address)
    viewer.page.get_by_role("button", name="Open settings").click(timeout=OPENING_MS)
    viewer.page.get_by_text("Log out (Dr Bert)").click()
    viewer.page.wait_for_url("**/login*", timeout=OPENING_MS)
