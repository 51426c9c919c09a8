"""The whole way in one sitting: log in, find the study, read, correct, save, and see it kept."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
import pypdf
import pytest
from playwright.sync_api import expect, sync_playwright

from dicom_services.body import LABELS
from tests.browser import NEEDS_VIEWER, chromium
from tests.integration.conftest import Stack
from tests.pacs import until
from tests.viewer import (
    OPENING_MS,
    Sent,
    Viewer,
    Watch,
    add_user,
    address_of,
    middle_voxel,
    send_phantom,
)

NAME = "<script>alert(1)</script>^Ann"
"""Of the patient: it must be shown as it is, here as everywhere."""

pytestmark = NEEDS_VIEWER


@pytest.fixture(scope="module")
def sent(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Sent:
    add_user(stack, "anna")
    return send_phantom(stack, tmp_path_factory.mktemp("study"), patient_name=NAME)


@pytest.fixture(scope="module")
def watched(stack: Stack, sent: Sent) -> Iterator[tuple[Viewer, Watch]]:
    with sync_playwright() as driver, chromium(driver) as browser:
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        watch = Watch(address_of(stack)).on(page)
        yield Viewer(page, address_of(stack), sent.study), watch


@pytest.fixture(scope="module")
def viewer(watched: tuple[Viewer, Watch]) -> Viewer:
    return watched[0]


def test_the_way_to_a_study_leads_through_the_login_and_the_list(
    viewer: Viewer, sent: Sent
) -> None:
    viewer.page.goto(viewer.address)
    viewer.page.wait_for_url("**/login*")
    viewer.log_in("anna")
    state = viewer.has("rl-state")
    expect(state).to_contain_text(f"Agatston {sent.phantom.score:.0f}", timeout=OPENING_MS)
    row = viewer.page.get_by_role("row", name="<script>alert(1)</script>")
    expect(row).to_contain_text("<script>alert(1)</script>")
    row.dblclick()
    viewer.page.wait_for_url("**/viewer*", timeout=OPENING_MS)
    assert viewer.study in viewer.page.url


def test_the_result_and_its_overlay_are_there_without_a_click(viewer: Viewer, sent: Sent) -> None:
    panel = viewer.has("rl-results-panel")
    expect(panel).to_contain_text(f"{sent.phantom.score:.1f} AU", timeout=OPENING_MS)
    expect(panel).to_contain_text(re.compile("Research use only.*not a medical device", re.I))
    expect(viewer.has("rl-model").first).to_contain_text("radloop calcium")
    until(lambda: len(viewer.red_places()) > 0, OPENING_MS / 1000)
    shown = viewer.page.evaluate(
        "cornerstone.getEnabledElements()[0].viewport.getCurrentImageIdIndex()"
    )
    planted = sent.phantom.labels == LABELS["lesion"]
    # The slice that opens is one with calcium, and red lies where calcium was planted, not beside.
    heights = np.flatnonzero(planted.any(axis=(1, 2)))
    ks = [k for k in heights if shown in (k, planted.shape[0] - 1 - k)]
    assert ks
    wanted = [viewer.point_of(sent.phantom, voxel) for k in ks for voxel in at(planted, k)]
    for y, x in viewer.red_places():
        assert min(np.hypot(x - column, y - row) for column, row in wanted) < 6.0


def at(mask: np.ndarray, k: int) -> list[tuple[int, int, int]]:
    return [(int(k), int(j), int(i)) for j, i in np.argwhere(mask[k])]


def test_another_threshold_is_another_number_with_another_name(viewer: Viewer, sent: Sent) -> None:
    viewer.open_calcium()
    assert viewer.number("rl-score-total") == pytest.approx(sent.phantom.score, abs=0.06)
    slider = viewer.has("rl-threshold")
    box = slider.bounding_box()
    assert box is not None
    at_130 = box["x"] + box["width"] * (130 - 50) / 250
    viewer.page.mouse.move(at_130, box["y"] + box["height"] / 2)
    viewer.page.mouse.down()
    viewer.page.mouse.move(at_130 + box["width"] * 0.5, box["y"] + box["height"] / 2, steps=8)
    viewer.page.mouse.up()
    expect(viewer.has("rl-threshold-warning")).to_contain_text("not an Agatston score")
    assert viewer.number("rl-score-total") < sent.phantom.score
    expect(viewer.has("rl-score-total")).to_contain_text("Score at 2")
    viewer.page.get_by_text("Reset to 130 HU").click()
    expect(viewer.has("rl-threshold-warning")).to_have_count(0)
    assert viewer.number("rl-score-total") == viewer.number("rl-score-ai")


def test_a_click_adds_a_bright_spot_and_leaves_it_out_again(viewer: Viewer, sent: Sent) -> None:
    rib = middle_voxel(sent.phantom.labels == LABELS["rib_cartilage_calcium"])
    before = viewer.number("rl-score-total")
    viewer.show_slice(sent.phantom, rib[0])
    click(viewer, sent, rib)
    expect(viewer.has("rl-said")).to_contain_text("R1 is added")
    assert viewer.number("rl-score-total") > before
    click(viewer, sent, rib)
    expect(viewer.has("rl-said")).to_contain_text("R1 is out")
    assert viewer.number("rl-score-total") == before
    viewer.has("rl-lesion-reason").select_option("bone")


def test_what_is_as_large_as_a_bone_is_not_added(viewer: Viewer, sent: Sent) -> None:
    vertebra = middle_voxel(
        (sent.phantom.labels == LABELS["bone"]) & (sent.phantom.volume.values > 300)
    )
    viewer.show_slice(sent.phantom, vertebra[0])
    click(viewer, sent, vertebra)
    expect(viewer.has("rl-said")).to_contain_text("most likely bone")


def click(viewer: Viewer, sent: Sent, voxel: tuple[int, int, int]) -> None:
    x, y = viewer.point_of(sent.phantom, voxel)
    viewer.page.keyboard.down("Shift")
    viewer.page.mouse.click(x, y)
    viewer.page.keyboard.up("Shift")


def test_the_score_of_a_vessel_follows_its_lesions(viewer: Viewer) -> None:
    total = viewer.number("rl-score-total")
    assert viewer.of_vessel("LAD") == 0.0
    viewer.has("rl-vessel-L1").select_option("LAD")
    expect(viewer.page.locator(".rl-vessel-row", has_text="LAD")).to_be_visible()
    first = viewer.of_vessel("LAD")
    assert 0.0 < first < total
    assert viewer.of_vessel("unassigned") == pytest.approx(total - first, abs=0.11)
    viewer.has("rl-lesion-include-L2").uncheck()
    viewer.page.wait_for_function(
        "old => !document.querySelector('[data-cy=rl-score-total]').innerText.startsWith(old)",
        arg=f"{total:.1f}",
    )
    assert viewer.of_vessel("LAD") == first


def test_what_is_saved_stands_beside_the_ai_and_is_there_again(
    viewer: Viewer, sent: Sent, watched: tuple[Viewer, Watch]
) -> None:
    mine = viewer.number("rl-score-total")
    before = {modality: viewer.series(modality) for modality in ("SEG", "SR")}
    viewer.has("rl-reason").select_option("bone")
    viewer.has("rl-note").fill("Rib, not an artery.")
    viewer.has("rl-save").click()
    expect(viewer.has("rl-score-saved")).to_contain_text(f"{mine:.1f}", timeout=OPENING_MS)
    assert viewer.number("rl-score-ai") == pytest.approx(sent.phantom.score, abs=0.06)
    until(lambda: viewer.corrections()[0]["delivery"] == "stored")

    viewer.page.reload()
    viewer.open_calcium()
    expect(viewer.has("rl-score-saved")).to_contain_text(f"{mine:.1f}")
    assert viewer.number("rl-score-total") == mine
    expect(viewer.has("rl-vessel-L1")).to_have_value("LAD")
    expect(viewer.has("rl-lesion-include-R1")).not_to_be_checked()
    (kept,) = viewer.corrections()
    assert (kept["reason"], kept["score_check"]) == ("bone", "equal")
    objects = {each["modality"]: each["series_instance_uid"] for each in kept["objects"]}
    for modality, known in before.items():
        assert set(viewer.series(modality)) - set(known) == {objects[modality]}


def test_the_report_opens_as_pdf_with_both_scores(viewer: Viewer, sent: Sent) -> None:
    mine = viewer.number("rl-score-saved")
    viewer.has("results-btn").click()
    link = viewer.page.get_by_role("link", name="PDF with this reading")
    with viewer.page.context.expect_event(
        "response", lambda answer: "report.pdf" in answer.url, timeout=OPENING_MS
    ) as opened:
        link.click()
    assert opened.value.headers["content-type"] == "application/pdf"
    file = viewer.page.request.get(opened.value.url).body()
    text = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(file)).pages)
    assert f"{mine:.1f}" in text
    assert f"{sent.phantom.score:.1f}" in text
    assert "<script>alert(1)</script>" in text


@pytest.mark.parametrize("width", [320, 768, 1280, 1920])
def test_what_must_be_seen_is_seen_at_every_width(viewer: Viewer, width: int) -> None:
    viewer.page.set_viewport_size({"width": width, "height": 900})
    viewer.page.reload()
    viewer.open_calcium()
    panel = viewer.has("rl-calcium-panel")
    for text in ("Research use only", "radloop calcium", "Agatston AU", "mm³", "mg"):
        expect(panel.get_by_text(text).first).to_be_visible()
    # Nothing sticks out on either side, and the images keep a place of their own.
    wide = panel.evaluate("each => each.scrollWidth - each.clientWidth")
    box, images = panel.bounding_box(), viewer.has("viewport-grid").bounding_box()
    assert box is not None
    assert images is not None
    assert wide <= 0
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert min(images["width"], images["height"]) > 150
    overlap_x = min(box["x"] + box["width"], images["x"] + images["width"]) - max(
        box["x"], images["x"]
    )
    overlap_y = min(box["y"] + box["height"], images["y"] + images["height"]) - max(
        box["y"], images["y"]
    )
    assert min(overlap_x, overlap_y) < 2
    # The patient's right is on the left of the picture.
    right = viewer.has("viewport-grid").get_by_text("R", exact=True).first.bounding_box()
    assert right is not None
    assert right["x"] < images["x"] + images["width"] / 4


def test_nothing_was_asked_elsewhere_and_nothing_complained(watched: tuple[Viewer, Watch]) -> None:
    viewer, watch = watched
    assert viewer.page.evaluate("crossOriginIsolated") is True
    watch.assert_quiet()
    assert watch.failed == []
