"""The live mask lies on its lesions in the real viewer, however the image is turned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import NEEDS_VIEWER
from tests.e2e.test_reading import (
    Reading,
    log_in,
    user,
)
from tests.e2e.test_reading import address as address
from tests.e2e.test_reading import browser as browser
from tests.e2e.test_reading import study as study
from tests.integration.conftest import Stack

CLOSE_PX = 1.5
"""Less than a voxel at the smallest zoom tried here."""

CENTRE = """
async ([id, place, radius]) => {
  const viewport = cornerstone.getRenderingEngines().flatMap(one => one.getViewports())
    .find(one => one.id === id);
  const canvas = viewport.element.querySelector('canvas.rl-mask');
  if (!canvas) return null;
  const image = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const ratio = canvas.width / canvas.clientWidth;
  const wanted = viewport.worldToCanvas(place).map(value => value * ratio);
  let [count, x, y] = [0, 0, 0];
  for (let row = 0; row < canvas.height; row++) {
    for (let column = 0; column < canvas.width; column++) {
      if (image.data[4 * (row * canvas.width + column) + 3] === 0) continue;
      if (Math.hypot(column + 0.5 - wanted[0], row + 0.5 - wanted[1]) > radius) continue;
      count++;
      x += column + 0.5;
      y += row + 0.5;
    }
  }
  return count && [x / count - wanted[0], y / count - wanted[1]];
}"""
"""How far the centre of the mask about a place of the patient is from that place, in pixels."""

MOVES = {
    "as it opens": "",
    "zoomed and moved": "viewport.setZoom(2.3); viewport.setPan([40, -25]);",
    "turned": "viewport.setRotation(37);",
    "turned and mirrored": "viewport.setCamera({flipHorizontal: true});",
    "upside down": "viewport.setCamera({flipVertical: true});",
}


@pytest.fixture(scope="module")
def reading(
    stack: Stack, browser: Browser, address: str, study: str
) -> Iterator[tuple[Reading, dict[str, Any]]]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    log_in(page, address, user(stack, "ibsen"))
    opened = Reading(page, address, study)
    opened.open()
    found = page.request.get(f"{address}/api/studies/{study}/results").json()
    jobs = [job for series in found["series"] for job in series["jobs"]]
    yield opened, next(job["findings"] for job in jobs if job["findings"])


def _place(findings: dict[str, Any], row: dict[str, Any]) -> list[float]:
    index = np.array([row["slice"], row["row"], row["column"], 1.0])
    return [float(value) for value in (np.array(findings["masks"][0]["affine"]) @ index)[:3]]


def _lies_on(page: Page, viewport: str, place: list[float], radius: float, close: float) -> None:
    """Within half a minute: a busy machine draws when it can."""
    told: Any = None
    for _ in range(60):
        told = page.evaluate(CENTRE, [viewport, place, radius])
        if told and max(map(abs, told)) <= close:
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"{viewport}: {told}")


@NEEDS_VIEWER
def test_the_mask_lies_on_its_lesions(reading: tuple[Reading, dict[str, Any]]) -> None:
    opened, findings = reading
    page = opened.page
    viewport = page.evaluate("cornerstone.getRenderingEngines()[0].getViewports()[0].id")
    find = "const viewport = cornerstone.getRenderingEngines()[0].getViewports()[0];"
    lesion = findings["lesion_totals"][0]["id"]
    row = next(each for each in findings["lesions"] if each["id"] == lesion)
    page.evaluate(
        f"""async uid => {{ {find}
        const index = viewport.getImageIds().findIndex(id =>
          cornerstone.metaData.get('sopCommonModule', id).sopInstanceUID === uid);
        await viewport.setImageIdIndex(index); }}""",
        row["sop_instance_uid"],
    )
    for move in MOVES.values():
        page.evaluate(f"() => {{ {find} {move} viewport.render(); }}")
        _lies_on(page, viewport, _place(findings, row), 40.0, CLOSE_PX)


@NEEDS_VIEWER
def test_the_mask_lies_on_its_lesions_in_all_three_planes(
    reading: tuple[Reading, dict[str, Any]],
) -> None:
    opened, findings = reading
    page = opened.page
    page.evaluate("commandsManager.runCommand('setHangingProtocol', {protocolId: 'mpr'})")
    expect(page.locator("canvas.rl-mask")).to_have_count(3, timeout=60_000)
    viewports = page.evaluate(
        "cornerstone.getRenderingEngines().flatMap(one => one.getViewports()).map(one => one.id)"
    )
    place = findings["lesion_totals"][0]["center_mm"]
    for viewport in viewports:
        page.evaluate(
            """([id, place]) => {
            const viewport = cornerstone.getRenderingEngines().flatMap(one => one.getViewports())
              .find(one => one.id === id);
            const {viewPlaneNormal, focalPoint, position} = viewport.getCamera();
            const away = viewPlaneNormal.reduce(
              (sum, value, n) => sum + value * (place[n] - focalPoint[n]), 0);
            const moved = point => point.map((value, n) => value + away * viewPlaneNormal[n]);
            viewport.setCamera({focalPoint: moved(focalPoint), position: moved(position)});
            viewport.render(); }""",
            [viewport, place],
        )
        # Half a voxel more: the middle of what a plane cuts is not the middle of the whole.
        _lies_on(page, viewport, place, 15.0, 2 * CLOSE_PX)
