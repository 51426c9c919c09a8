"""A radiologist corrects a calcium result in the real viewer, whatever happens meanwhile."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser import NEEDS_VIEWER, chromium
from tests.integration.conftest import Stack
from tests.pacs import ended, until
from tests.viewer import gateway_killed

READY = "[data-cy=rl-reading][data-phase=ready][data-stale=false]"
PASSWORD = "a long walk along the coast"
OPENING_MS = 60_000

pytestmark = NEEDS_VIEWER


@dataclass(frozen=True)
class Reading:
    """A page of the viewer with the calcium panel open."""

    page: Page
    address: str
    study: str

    def open(self) -> None:
        self.page.goto(f"{self.address}/viewer?StudyInstanceUIDs={self.study}")
        self.panel()

    def panel(self) -> None:
        """The calcium panel with its numbers; the results panel is what opens first."""
        tab = self.page.locator("[data-cy=calcium-btn]")
        tab.wait_for(timeout=OPENING_MS)
        tab.click()
        self.page.wait_for_selector(READY, timeout=OPENING_MS)

    def has(self, hook: str) -> Any:
        return self.page.locator(f"[data-cy={hook}]")

    def number(self, hook: str) -> float:
        """The first number of a cell."""
        self.page.wait_for_selector(READY)
        return float(self.has(hook).inner_text().split()[0])

    def leave_out(self, lesion: str) -> None:
        self.has(f"rl-lesion-include-{lesion}").uncheck()

    def unsent(self) -> int:
        shown = self.has("rl-unsent")
        return int(shown.get_attribute("data-count") or 0) if shown.count() else 0

    def corrections(self) -> list[dict[str, Any]]:
        """As the gateway tells them to this reader."""
        answer = self.page.request.get(f"{self.address}/api/studies/{self.study}/corrections")
        assert answer.ok, answer.text()
        return list(answer.json()["corrections"])

    def put_back(self) -> None:
        """As the AI proposes, for the next test."""
        if self.has("rl-back").is_enabled():
            self.has("rl-back").click()
        self.page.wait_for_timeout(700)


@pytest.fixture(scope="module")
def study(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("phantom") / "study"
    stack.radloop("phantom", str(folder))
    stack.send(folder)
    slices = sorted(folder.glob("*.dcm"))
    uid = str(pydicom.dcmread(slices[0], stop_before_pixels=True).StudyInstanceUID)
    assert ended(stack.orthanc, uid)["state"] == "done"
    return uid


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver, chromium(driver) as browser:
        yield browser


def user(stack: Stack, name: str, role: str = "radiologist") -> str:
    secret = stack.folder.home.parent / f"{name}.txt"
    secret.write_text(PASSWORD)
    words = ("--role", role, "--all-patients", "--password-file", str(secret))
    stack.radloop("users", "add", name, "--display-name", f"Dr {name.title()}", *words)
    return name


def log_in(page: Page, address: str, name: str) -> None:
    page.goto(f"{address}/login")
    page.fill("[data-cy=rl-login-name]", name)
    page.fill("[data-cy=rl-login-password]", PASSWORD)
    page.click("[data-cy=rl-login-submit]")
    page.wait_for_url(lambda url: "/login" not in url)


@pytest.fixture(scope="module")
def address(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.state.gateway_port}"


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One browser that several readers use, with what it keeps between them."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context


@pytest.fixture(scope="module")
def reading(stack: Stack, study: str, address: str, context: BrowserContext) -> Reading:
    page = context.new_page()
    log_in(page, address, user(stack, "anna"))
    reading = Reading(page, address, study)
    reading.open()
    return reading


def kept_in_browser(page: Page) -> list[dict[str, Any]]:
    """What lies in IndexedDB, bytes as text."""
    return list(
        page.evaluate(
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
              const text = (bytes) => new TextDecoder('latin1').decode(bytes);
              return entries.map((entry) => ({ ...entry, sealed: text(entry.sealed) }));
            }"""
        )
    )


def test_the_panel_finds_the_numbers_of_the_ai_in_the_images(reading: Reading) -> None:
    assert reading.number("rl-score-ai") > 100
    assert reading.number("rl-score-total") == reading.number("rl-score-ai")
    expect(reading.has("rl-disagreement")).to_have_count(0)
    panel = reading.has("rl-calcium-panel")
    expect(panel).to_contain_text("Research use only")
    expect(panel).to_contain_text(re.compile(r"radloop calcium \d+\.\d+\.\d+"))


def test_another_threshold_is_said_to_be_no_agatston_score(reading: Reading) -> None:
    slider = reading.has("rl-threshold")
    slider.fill("300")
    expect(reading.has("rl-threshold-warning")).to_have_text(
        "threshold 300 HU, not an Agatston score; no category"
    )
    assert reading.number("rl-score-total") <= reading.number("rl-score-ai")
    expect(reading.has("rl-score-total")).to_contain_text("Score at 300 HU")
    slider.press("ArrowLeft")
    expect(reading.has("rl-threshold-warning")).to_contain_text("299 HU")
    reading.page.get_by_text("Reset to 130 HU").click()
    expect(reading.has("rl-threshold-warning")).to_have_count(0)
    assert reading.number("rl-score-total") == reading.number("rl-score-ai")
    reading.put_back()


def test_a_click_on_the_image_chooses_a_lesion_and_with_shift_takes_it_out(
    reading: Reading,
) -> None:
    reading.page.locator("tr[data-lesion=L1] th").click()
    ring = reading.page.locator(".rl-mark").bounding_box()
    assert ring is not None
    at = (ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    reading.page.locator("tr[data-lesion=L2] th").click()
    reading.page.locator("tr[data-lesion=L1] th").click()
    reading.page.wait_for_timeout(500)
    reading.page.mouse.click(*at)
    expect(reading.has("rl-said")).to_have_text("Lesion L1.")
    assert reading.number("rl-score-total") == reading.number("rl-score-ai")
    reading.page.keyboard.down("Shift")
    reading.page.mouse.click(*at)
    reading.page.keyboard.up("Shift")
    expect(reading.has("rl-lesion-include-L1")).not_to_be_checked()
    assert reading.number("rl-score-total") < reading.number("rl-score-ai")
    reading.has("rl-undo").click()
    expect(reading.has("rl-lesion-include-L1")).to_be_checked()
    reading.put_back()


def test_the_mask_lies_on_the_lesion(reading: Reading) -> None:
    reading.page.locator("tr[data-lesion=L1] th").click()
    ring = reading.page.locator(".rl-mark").bounding_box()
    assert ring is not None
    reading.page.locator(".rl-mark").wait_for(state="detached")
    box = {"x": ring["x"], "y": ring["y"], "width": ring["width"], "height": ring["height"]}

    def red() -> int:
        shot = Image.open(io.BytesIO(reading.page.screenshot(clip=box))).convert("RGB")  # type: ignore[arg-type]
        pixels = np.asarray(shot).astype(int)
        return int((pixels[..., 0] - pixels[..., 1] > 60).sum())

    shown = red()
    assert shown > 20
    reading.has("rl-opacity").fill("0")
    assert red() == 0
    reading.has("rl-opacity").fill("0.5")
    assert red() == shown


def test_a_saved_correction_is_seen_after_reload_and_in_the_archive(
    reading: Reading, stack: Stack
) -> None:
    reading.leave_out("L1")
    reading.has("rl-vessel-L2").select_option("LAD")
    row = reading.page.locator("tr[data-lesion=L3]")
    row.locator("th").click()
    row.focus()
    row.press("4")
    expect(reading.has("rl-vessel-L3")).to_have_value("RCA")
    reading.has("rl-note").fill("Sternum <b>山田</b>")
    mine = reading.number("rl-score-total")
    assert mine < reading.number("rl-score-ai")
    reading.has("rl-save").click()
    expect(reading.has("rl-score-saved")).to_contain_text(f"{mine:.1f}", timeout=20_000)
    assert reading.unsent() == 0

    reading.open()
    expect(reading.has("rl-score-saved")).to_contain_text(f"{mine:.1f}")
    assert reading.number("rl-score-total") == mine
    expect(reading.has("rl-lesion-include-L1")).not_to_be_checked()
    expect(reading.has("rl-vessel-L3")).to_have_value("RCA")
    (kept,) = reading.corrections()
    assert kept["verdict"] == "modify"
    assert kept["score_check"] == "equal"
    verdicts = {each["id"]: each["verdict"] for each in kept["calcium"]["lesions"]}
    assert (verdicts["L1"], verdicts["L2"], verdicts["L4"]) == ("reject", "modify", "accept")
    until(lambda: reading.corrections()[0]["delivery"] == "stored")
    found = reading.page.request.get(
        f"{reading.address}/dicom-web/studies/{reading.study}/instances"
        "?includefield=SOPInstanceUID",
        headers={"Accept": "application/dicom+json"},
    ).json()
    archived = {each["00080018"]["Value"][0] for each in found}
    objects = reading.corrections()[0]["objects"]
    assert sorted(each["modality"] for each in objects) == ["SEG", "SR"]
    assert {each["sop_instance_uid"] for each in objects} <= archived


def test_unsaved_work_survives_a_reload_sealed(reading: Reading) -> None:
    reading.put_back()
    reading.leave_out("L2")
    changed = reading.number("rl-score-total")
    reading.has("rl-note").fill("half a thought")
    reading.page.wait_for_timeout(1500)
    entries = kept_in_browser(reading.page)
    assert [each["kind"] for each in entries] == ["draft"]
    assert reading.study not in json.dumps(entries)
    assert "thought" not in json.dumps(entries)
    reading.open()
    expect(reading.has("rl-note")).to_have_value("half a thought")
    assert reading.number("rl-score-total") == changed
    reading.has("rl-note").fill("")
    reading.put_back()


def test_a_correction_outlives_the_gateway(reading: Reading, stack: Stack) -> None:
    before = len(reading.corrections())
    reading.leave_out("L3")
    with gateway_killed(stack):
        reading.has("rl-save").click()
        expect(reading.has("rl-unsent")).to_contain_text("does not answer", timeout=20_000)
        assert reading.unsent() == 1
        assert "correction" in {each["kind"] for each in kept_in_browser(reading.page)}
    expect(reading.has("rl-unsent")).to_have_count(0, timeout=60_000)
    assert len(reading.corrections()) == before + 1
    reading.put_back()


def test_a_correction_waits_for_its_reader_and_for_no_other(
    reading: Reading, stack: Stack, context: BrowserContext
) -> None:
    before = len(reading.corrections())
    reading.leave_out("L4")
    mine = reading.number("rl-score-total")
    context.clear_cookies()
    # The login dialog may have come up over it already.
    reading.has("rl-save").evaluate("button => button.click()")
    expect(reading.has("rl-unsent")).to_contain_text("waits for your login")
    (waiting,) = (each for each in kept_in_browser(reading.page) if each["kind"] == "correction")
    assert reading.study not in waiting["sealed"]

    log_in(reading.page, reading.address, user(stack, "bert"))
    reading.open()
    expect(reading.has("rl-unsent-others")).to_contain_text("1 of another user")
    assert reading.unsent() == 0
    assert reading.number("rl-score-total") == reading.number("rl-score-ai")
    reading.page.wait_for_timeout(3000)
    assert len(reading.corrections()) == before

    context.clear_cookies()
    log_in(reading.page, reading.address, "anna")
    reading.open()
    until(lambda: len(reading.corrections()) == before + 1)
    newest = max(reading.corrections(), key=lambda each: each["seq"])
    assert newest["author"]["display_name"] == "Dr Anna"
    assert f"{newest['scores']['agatston']:.1f}" == f"{mine:.1f}"
    assert [each for each in kept_in_browser(reading.page) if each["kind"] == "correction"] == []
    reading.put_back()


def test_two_readers_at_once_are_both_kept_and_told(
    reading: Reading, browser: Browser, stack: Stack
) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as other:
        page = other.new_page()
        log_in(page, reading.address, user(stack, "carl"))
        carl = Reading(page, reading.address, reading.study)
        carl.open()
        # Carl's page is open before Anna's comes; it hears of no event before it saves.
        page.route("**/events", lambda route: route.abort())
        page.route(
            "**/corrections",
            lambda route: route.abort() if route.request.method == "GET" else route.continue_(),
        )
        reading.leave_out("L5")
        reading.has("rl-save").click()
        expect(reading.has("rl-unsent")).to_have_count(0, timeout=20_000)
        carl.leave_out("L6")
        carl.has("rl-save").click()
        expect(carl.has("rl-concurrent")).to_contain_text("Both are kept", timeout=20_000)
    newest, before = sorted(reading.corrections(), key=lambda each: -each["seq"])[:2]
    assert newest["concurrent"] == [before["id"]]
    reading.open()
    expect(reading.has("rl-score-reader").first).to_be_visible()
    reading.put_back()


def test_a_rejection_needs_a_reason_and_other_needs_a_note(reading: Reading) -> None:
    expect(reading.has("rl-reject")).to_be_disabled()
    reading.has("rl-reason").select_option("other")
    expect(reading.has("rl-reject")).to_be_disabled()
    reading.has("rl-note").fill("Wrong arm of the trial.")
    reading.has("rl-reject").click()
    expect(reading.has("rl-unsent")).to_have_count(0, timeout=20_000)
    until(lambda: max(reading.corrections(), key=lambda each: each["seq"])["verdict"] == "reject")


def test_one_who_may_not_correct_is_offered_nothing_to_save(
    stack: Stack, study: str, address: str, browser: Browser
) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        log_in(page, address, user(stack, "dora", "doctor"))
        dora = Reading(page, address, study)
        dora.open()
        expect(dora.has("rl-save")).to_have_count(0)
        expect(dora.has("rl-lesion-include-L1")).to_be_disabled()
        dora.has("rl-threshold").fill("200")
        expect(dora.has("rl-threshold-warning")).to_contain_text("200 HU")
