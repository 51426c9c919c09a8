"""Perfusion in the viewer: maps beside the images they come from, their values, colours, curves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pypdf
import pytest
from numpy.typing import NDArray
from playwright.sync_api import expect, sync_playwright

from dicom_services.dicom.dynamic_writer import Described, write_dynamic_series
from dicom_services.dicom.stored_map import map_plane
from dicom_services.domain.volume import Volume
from dicom_services.perfusion_phantom import PerfusionScan, perfusion_phantom
from tests.browser import NEEDS_VIEWER, chromium
from tests.integration.conftest import Stack
from tests.pacs import ended, until
from tests.viewer import OPENING_MS, Viewer, Watch, add_user, address_of

pytestmark = NEEDS_VIEWER

SMALL = PerfusionScan("DSC", 45, 2.0, (4, 64, 64), 3.3, 8.0)

# What every viewport shows: the image, its values, its window, its colours.
PICTURES = """() => cornerstone.getEnabledElements().map(({ viewport }) => {
  const imageId = viewport.getCurrentImageId?.() ?? '';
  const plane = imageId && cornerstone.metaData.get('imagePlaneModule', imageId);
  const { voiRange, colormap } = viewport.getProperties();
  return {
    viewport: viewport.id,
    imageId,
    loaded: Boolean(viewport.getImageData?.()),
    corner: plane ? [...plane.imagePositionPatient] : [],
    window: voiRange ? [voiRange.lower, voiRange.upper] : [],
    colors: colormap?.name ?? '',
    values: Array.from((imageId && cornerstone.cache.getImage(imageId)?.getPixelData()) || []),
  };
})"""


@dataclass(frozen=True)
class Reading:
    """A reader before a study with maps, and what the page did."""

    viewer: Viewer
    watch: Watch
    stack: Stack
    findings: dict[str, Any]
    job: str

    def pictures(self) -> dict[str, dict[str, Any]]:
        """Each map on the screen by its SOP Instance UID."""
        found = {}
        for one in self.viewer.page.evaluate(PICTURES):
            if one["imageId"].startswith("radloopmap:") and one["loaded"]:
                found[one["imageId"].split("/")[6]] = one
        return found

    def plane(self, sop: str, corner: list[float]) -> NDArray[np.float32]:
        """As the archive has it."""
        query = {"StudyInstanceUID": self.viewer.study, "SOPInstanceUID": sop}
        (name,) = self.stack.orthanc.find("instances", query)
        (file,) = self.stack.orthanc.fetch([name])
        return map_plane(file, np.array(corner))


def sent(stack: Stack, folder: Path, volume: Volume) -> str:
    paths = write_dynamic_series(volume, folder, Described(str(folder)))
    stack.send(folder)
    return str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)


@pytest.fixture(scope="module")
def reading(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    add_user(stack, "anna")
    study = sent(stack, tmp_path_factory.mktemp("dsc"), perfusion_phantom(SMALL).volume)
    assert ended(stack.orthanc, study, 180.0)["state"] == "done"
    with sync_playwright() as driver, chromium(driver) as browser:
        page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
        watch = Watch(address_of(stack)).on(page)
        viewer = Viewer(page, address_of(stack), study)
        viewer.log_in("anna")
        viewer.go()
        viewer.has("rl-maps").wait_for(timeout=OPENING_MS)
        told = viewer.get(f"/api/studies/{study}/results")
        (job,) = [job for one in told["series"] for job in one["jobs"]]
        yield Reading(viewer, watch, stack, job["findings"], job["job"])


def all_are_shown(reading: Reading) -> bool:
    wanted = {one["sop_instance_uid"] for one in reading.findings["maps"]}
    return set(reading.pictures()) == wanted


def test_every_map_opens_in_its_colours_beside_the_images(reading: Reading) -> None:
    until(lambda: all_are_shown(reading), OPENING_MS / 1000)
    shown = reading.pictures()
    for told in reading.findings["maps"]:
        one = shown[told["sop_instance_uid"]]
        assert one["window"] == pytest.approx(told["window"]), told["label"]
        assert one["colors"] == f"radloop {told['color_map']}", told["label"]
    first = reading.viewer.page.evaluate(PICTURES)
    (images,) = [one for one in first if one["imageId"].startswith("wadors:")]
    # All lie in one slice: that in which most was marked.
    affine = np.array(reading.findings["maps"][0]["affine"])
    corner = affine[:3, 3] + reading.findings["masks"][0]["fullest_slice"] * affine[:3, 0]
    for one in (images, *shown.values()):
        assert one["corner"] == pytest.approx(corner.tolist())


def test_values_on_the_screen_are_those_of_the_archive(reading: Reading) -> None:
    for sop, one in reading.pictures().items():
        stored = reading.plane(sop, one["corner"]).ravel()
        defined = np.isfinite(stored)
        seen = np.array(one["values"], np.float32)
        assert 100 < defined.sum() < defined.size
        assert np.array_equal(seen[defined], stored[defined])
        # What is not defined is darker than the first colour, which is black.
        assert (seen[~defined] < one["window"][0]).all()


def test_the_segments_lie_over_the_images_and_the_brain_is_hidden(reading: Reading) -> None:
    expect(reading.viewer.has("rl-segment-1")).to_be_checked(timeout=OPENING_MS)
    expect(reading.viewer.has("rl-segment-3")).not_to_be_checked()
    hidden = """() => { const s = window.services.segmentationService;
      const [one] = s.getSegmentationRepresentations('radloop-map-0');
      return Object.values(one?.segments ?? {})
        .filter(each => !(each.visibility?.visible ?? each.visible))
        .map(each => each.segmentIndex); }"""
    until(lambda: reading.viewer.page.evaluate(hidden) == [3], OPENING_MS / 1000)
    assert reading.findings["masks"][2]["label"] == "Brain tissue"


def test_the_panel_says_volumes_first_and_curves_as_found(reading: Reading) -> None:
    panel = reading.viewer.has("rl-results-panel")
    expect(reading.viewer.has("rl-finding").first).to_contain_text("74.6 mL")
    expect(panel).to_contain_text("mL/100 g/min")
    assert "100.g" not in panel.inner_text()
    captions = reading.viewer.has("rl-curve").locator("figcaption")
    for n, curve in enumerate(reading.findings["curves"]):
        at = curve["times_s"][int(np.argmax(curve["values"]))]
        expected = f"{curve['label']}: highest {max(curve['values']):.1f} 1/s at {at:g} s"
        expect(captions.nth(n)).to_contain_text(expected)


def test_side_by_side_works_again_after_one_map_was_put_into_view(reading: Reading) -> None:
    reading.viewer.page.get_by_label("Show the map Tmax").click()
    tmax = reading.findings["maps"][4]["sop_instance_uid"]

    def twice() -> bool:
        shown = reading.viewer.page.evaluate(PICTURES)
        return int(sum(f"/{tmax}/" in one["imageId"] and one["loaded"] for one in shown)) == 2

    until(twice, 30.0)
    reading.viewer.has("rl-maps-all").click()
    until(lambda: all_are_shown(reading) and not twice(), 30.0)


def test_the_report_shows_the_maps(reading: Reading) -> None:
    path = f"/api/studies/{reading.viewer.study}/results/{reading.job}/report.pdf"
    answer = reading.viewer.page.request.get(f"{reading.viewer.address}{path}")
    assert answer.headers["content-type"] == "application/pdf"
    text = "".join(one.extract_text() for one in pypdf.PdfReader(io.BytesIO(answer.body())).pages)
    assert "CBF, mL/100 g/min" in text
    assert "Not shown" not in text
    assert "180 images, 8 mm apart" in text


def test_a_refused_scan_says_why(reading: Reading, tmp_path: Path) -> None:
    scan = perfusion_phantom(SMALL).volume
    # Five images of the baseline, again and again: no contrast medium ever comes.
    nothing = np.tile(scan.values[:5], (9, 1, 1, 1)).astype(np.float32)
    study = sent(reading.stack, tmp_path / "nothing", replace(scan, values=nothing))
    view = ended(reading.stack.orthanc, study, 120.0)
    assert view["state"] == "refused", view
    reading.viewer.go(study)
    reason = reading.viewer.has("rl-reason-text").first
    expect(reason).to_be_visible(timeout=OPENING_MS)
    expect(reason).to_contain_text("No passage of contrast agent")
    assert reading.viewer.has("rl-maps").count() == 0


def test_nothing_was_asked_elsewhere_and_nothing_complained(reading: Reading) -> None:
    reading.watch.assert_quiet()
    assert reading.watch.failed == []
