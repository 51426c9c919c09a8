"""What does not fit is said on the screen, in words; nothing breaks, nothing leaks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.phantom_command import demo_phantom
from tests.browser import NEEDS_VIEWER, chromium
from tests.integration.conftest import Stack
from tests.pacs import ended, jobs, objects, until
from tests.viewer import (
    OPENING_MS,
    Sent,
    Viewer,
    Watch,
    add_user,
    address_of,
    send_phantom,
)

PATIENT_ID = "BAD-INPUT"
NAMES = (
    "לוי^דוד",
    "محمد^أحمد",
    "山田^太郎",
    "<img src onerror>^';--",
    "<svg/onload>^{{7*7}}",
)

pytestmark = NEEDS_VIEWER


@dataclass(frozen=True)
class Place:
    """A stack with one analysed study, one refused one for each name, and two users."""

    stack: Stack
    sent: Sent
    refused: str
    bare: str
    """A study that nobody analysed."""


@pytest.fixture(scope="module")
def place(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Place:
    add_user(stack, "anna")
    add_user(stack, "dora", role="doctor", patients="none")
    folder = tmp_path_factory.mktemp("studies")
    small = demo_phantom(slices=30, matrix=64).volume
    for count, name in enumerate(NAMES):
        (folder / "few").mkdir(exist_ok=True)
        header = {"patient_name": name, "patient_id": f"NAME-{count}"}
        paths = write_ct_series(small, folder / f"{count}", seed=f"{folder}{count}", **header)
        # The first lacks a slice, so it is refused; the others are too small to be anything.
        for path in (*paths[:14], *paths[15:]) if count == 0 else paths[:4]:
            path.rename(folder / "few" / f"{count}-{path.name}")
    stack.send(folder / "few")
    refused, bare = (study_in(folder / "few", count) for count in (0, 1))
    sent = send_phantom(stack, folder / "calcium", patient_id=PATIENT_ID)
    assert ended(stack.orthanc, refused)["state"] == "refused"
    assert ended(stack.orthanc, bare)["state"] != "refused"
    return Place(stack, sent, refused, bare)


def study_in(folder: Path, count: int) -> str:
    """The study of the name with that number."""
    path = next(folder.glob(f"{count}-*"))
    return str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)


@pytest.fixture(scope="module")
def driver() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def browser(driver: Playwright) -> Iterator[Browser]:
    with chromium(driver) as browser:
        yield browser


@contextmanager
def opened(browser: Browser, place: Place, name: str = "anna") -> Iterator[tuple[Viewer, Watch]]:
    """A logged-in page in a browser of its own."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        watch = Watch(address_of(place.stack)).on(page)
        viewer = Viewer(page, address_of(place.stack), place.sent.study)
        viewer.log_in(name)
        yield viewer, watch


def test_names_in_every_script_and_hostile_ones_are_text(browser: Browser, place: Place) -> None:
    with opened(browser, place) as (viewer, watch):
        viewer.page.goto(viewer.address)
        for name in NAMES:
            family, given = name.split("^")
            row = viewer.page.get_by_role("row").filter(has_text=family)
            expect(row).to_contain_text(given, timeout=OPENING_MS)
        assert viewer.page.locator("table img, table svg[onload]").count() == 0
        watch.assert_quiet()


def test_a_refused_study_says_why(browser: Browser, place: Place) -> None:
    with opened(browser, place) as (viewer, watch):
        viewer.go(place.refused)
        panel = viewer.has("rl-results-panel")
        reason = viewer.has("rl-reason-text").first
        expect(reason).to_be_visible(timeout=OPENING_MS)
        code = ended(place.stack.orthanc, place.refused)["code"]
        assert code.replace("_", " ") not in ("", reason.inner_text())
        expect(panel).to_contain_text("not a medical device", ignore_case=True)
        viewer.has("calcium-btn").click()
        expect(viewer.has("rl-calcium-none")).to_contain_text("refused")
        watch.assert_quiet()


def test_a_study_without_results_says_so(browser: Browser, place: Place) -> None:
    with opened(browser, place) as (viewer, watch):
        viewer.go(place.bare)
        expect(viewer.has("rl-no-results")).to_contain_text("No AI result", timeout=OPENING_MS)
        viewer.has("calcium-btn").click()
        expect(viewer.has("rl-calcium-none")).to_contain_text("no calcium result")
        watch.assert_quiet()


def own(dataset: Any, place: Place) -> Any:
    """The object as a part of the analysed study, in a series of its own."""
    dataset.StudyInstanceUID, dataset.PatientID = place.sent.study, PATIENT_ID
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = generate_uid(), generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def test_objects_of_other_makers_beside_the_result_break_nothing(
    browser: Browser, place: Place, shared_data: Path, tmp_path: Path
) -> None:
    samples = shared_data / "seg-sr-samples" / "data" / "test_files"
    for name in ("sr_document", "sr_document_with_multiple_groups"):
        report = own(pydicom.dcmread(samples / f"{name}.dcm"), place)
        report.Manufacturer = "Elsewhere <b>Inc</b>"
        report.save_as(tmp_path / f"{name}.dcm")
    job = jobs(ended(place.stack.orthanc, place.sent.study))[0]
    shifted = own(objects(place.stack.orthanc, job)["SEG"], place)
    shifted.SeriesDescription = "another grid"
    shared = shifted.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.5]
    shifted.save_as(tmp_path / "grid.dcm")
    forty_segments(place).save_as(tmp_path / "forty.dcm")
    place.stack.send(tmp_path)

    with opened(browser, place) as (viewer, watch):
        viewer.go()
        viewer.open_calcium()
        assert viewer.number("rl-score-total") == viewer.number("rl-score-ai")
        expect(viewer.has("rl-disagreement")).to_have_count(0)
        for description in ("another grid", "forty segments"):
            viewer.page.get_by_text(description).first.dblclick()
            expect(viewer.has("rl-score-total")).to_be_visible()
        viewer.has("results-btn").click()
        others = viewer.has("rl-results-panel").locator("[data-cy=rl-report]")
        foreign = others.filter(has_text="Elsewhere <b>Inc</b>")
        expect(foreign).to_have_count(2, timeout=OPENING_MS)
        for n in range(2):
            foreign.nth(n).locator("[data-cy=rl-report-open]").click()
            expect(foreign.nth(n).locator("[data-cy=rl-report-text]")).to_contain_text(
                "Imaging Measurement"
            )
        assert watch.dialogs == []
        assert watch.elsewhere == []
        assert [each for each in watch.errors if each.startswith("uncaught")] == []


def forty_segments(place: Place) -> Any:
    """A segmentation of the analysed CT by somebody with many labels."""
    orthanc = place.stack.orthanc
    series = orthanc.find("instances", {"StudyInstanceUID": place.sent.study, "Modality": "CT"})
    sources = [
        pydicom.dcmread(io.BytesIO(orthanc.get_bytes(f"/instances/{each}/file")))
        for each in series[:4]
    ]
    masks = np.zeros((len(sources), sources[0].Rows, sources[0].Columns, 40), np.uint8)
    for n in range(40):
        masks[:, 5 * n : 5 * n + 4, 100:120, n] = 1
    described = [
        highdicom.seg.SegmentDescription(
            n + 1,
            f"Label {n + 1}",
            codes.SCT.Tissue,
            codes.SCT.Tissue,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for n in range(40)
    ]
    made = highdicom.seg.Segmentation(
        sources,
        masks,
        highdicom.seg.SegmentationTypeValues.BINARY,
        described,
        generate_uid(),
        70,
        generate_uid(),
        1,
        "Elsewhere",
        "Model",
        "1",
        "1",
        series_description="forty segments",
    )
    made.PatientID = PATIENT_ID
    return made


def test_a_foreign_study_is_unknown_and_shows_nothing(browser: Browser, place: Place) -> None:
    with opened(browser, place, "dora") as (viewer, watch):
        viewer.go()
        expect(viewer.page.locator("body")).to_contain_text(
            "not available at this time", timeout=OPENING_MS
        )
        assert "Made-up CT" not in viewer.page.content()
        assert all(each.startswith("404 ") for each in watch.failed)
        assert watch.failed
        viewer.page.goto(viewer.address)
        expect(viewer.page.get_by_role("table").first).to_be_visible(timeout=OPENING_MS)
        assert "Made-up CT" not in viewer.page.content()


def test_without_webgl2_images_and_numbers_are_there_and_it_is_said(
    driver: Playwright, place: Place
) -> None:
    with (
        chromium(driver, "--disable-3d-apis") as browser,
        opened(browser, place) as (viewer, watch),
    ):
        viewer.go()
        notice = viewer.has("rl-graphics")
        expect(notice).to_contain_text("no_webgl2", timeout=OPENING_MS)
        viewer.open_calcium()
        assert viewer.number("rl-score-total") == viewer.number("rl-score-ai")
        viewer.has("rl-threshold").fill("200")
        expect(viewer.has("rl-threshold-warning")).to_contain_text("200 HU")
        viewer.page.get_by_text("Reset to 130 HU").click()
        # Tissue and bone on black, and the mask over the calcium.
        assert tissue(viewer) > 0.1
        until(lambda: len(viewer.red_places()) > 0)
        watch.assert_quiet()


@dataclass(frozen=True)
class Driver:
    """A graphics driver that takes every WebGL context of a page, and gives them back."""

    page: Page

    def watch(self) -> None:
        self.page.add_init_script(
            """const get = HTMLCanvasElement.prototype.getContext;
            window.contexts = new Set();
            HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
              const context = get.call(this, kind, ...more);
              if (context && /^webgl/.test(kind)) window.contexts.add(context);
              return context;
            };"""
        )

    def take(self) -> int:
        """How many were taken."""
        return int(
            self.page.evaluate(
                """() => {
                  window.taken = [...window.contexts].filter((each) => !each.isContextLost())
                    .map((each) => each.getExtension('WEBGL_lose_context'));
                  window.taken.forEach((way) => way.loseContext());
                  return window.taken.length;
                }"""
            )
        )

    def give_back(self) -> None:
        self.page.evaluate("window.taken.forEach((way) => way.restoreContext())")


def tissue(viewer: Viewer) -> float:
    """How much of the viewport is neither black nor white."""
    box = viewer.has("viewport-grid").bounding_box()
    assert box is not None
    top, left = int(box["y"]), int(box["x"])
    part = viewer.picture()[top : top + int(box["height"]), left : left + int(box["width"])]
    grey = part.mean(axis=-1)
    return float(((grey > 30) & (grey < 200)).mean())


def test_a_lost_graphics_context_is_said_and_its_images_come_back(
    browser: Browser, place: Place
) -> None:
    with opened(browser, place) as (viewer, watch):
        driver = Driver(viewer.page)
        driver.watch()
        viewer.go()
        viewer.open_calcium()
        lost = viewer.has("rl-images-lost")
        until(lambda: tissue(viewer) > 0.1 and len(viewer.red_places()) > 0)
        whole = tissue(viewer)
        # Twice: what was made for the first recovery must not stand in the way of another.
        for threshold in ("200", "90"):
            assert driver.take() > 0
            expect(lost).to_contain_text("context_lost")
            expect(lost).to_contain_text("unsaved work are kept")
            # Neither the images nor, which is worse, those of another slice.
            until(lambda: tissue(viewer) < whole / 4)
            viewer.has("rl-threshold").fill(threshold)
            expect(viewer.has("rl-threshold-warning")).to_contain_text(f"{threshold} HU")
            # Asking for another slice must not end the viewer.
            viewer.show_slice(place.sent.phantom, 12)
            viewer.has("results-btn").click()
            expect(lost).to_be_visible()
            viewer.has("calcium-btn").click()

            driver.give_back()
            expect(lost).to_have_count(0)
            until(lambda: tissue(viewer) > whole / 2)
            viewer.page.get_by_text("Reset to 130 HU").click()
            assert viewer.number("rl-score-total") == viewer.number("rl-score-ai")
        watch.assert_quiet()


def test_images_that_do_not_come_back_are_loaded_again_and_nothing_is_lost(
    browser: Browser, place: Place
) -> None:
    with opened(browser, place) as (viewer, watch):
        driver = Driver(viewer.page)
        driver.watch()
        viewer.go()
        viewer.open_calcium()
        until(lambda: tissue(viewer) > 0.1)
        viewer.has("rl-threshold").fill("200")
        expect(viewer.has("rl-threshold-warning")).to_contain_text("200 HU")
        assert driver.take() > 0
        viewer.has("rl-images-again").click()
        viewer.open_calcium()
        expect(viewer.has("rl-images-lost")).to_have_count(0)
        until(lambda: tissue(viewer) > 0.1)
        expect(viewer.has("rl-threshold-warning")).to_contain_text("200 HU")
        watch.assert_quiet()
