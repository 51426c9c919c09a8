"""The viewer in the other browser: Debian's Firefox opens the study, panel, numbers and all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import BUILT, needs
from tests.firefox import FIREFOX, firefox
from tests.integration.conftest import Stack
from tests.viewer import PASSWORD, READY, add_user, address_of, send_phantom

pytestmark = needs("Firefox and the built viewer", FIREFOX or "", BUILT)


def test_firefox_opens_the_study_with_its_result(stack: Stack, tmp_path: Path) -> None:
    add_user(stack, "anna")
    sent = send_phantom(stack, tmp_path / "study")
    (tmp_path / "home").mkdir()
    with firefox(tmp_path / "home") as page:
        page.go(f"{address_of(stack)}/viewer?StudyInstanceUIDs={sent.study}")
        page.until("return document.querySelector('[data-cy=rl-login-name]')")
        page.fill("[data-cy=rl-login-name]", "anna")
        page.fill("[data-cy=rl-login-password]", PASSWORD)
        page.click("[data-cy=rl-login-submit]")
        page.until("return document.querySelector('[data-cy=rl-finding]')")
        assert f"{sent.phantom.score:.1f} AU" in page.text()
        assert page.run("return window.crossOriginIsolated") is True
        page.until("return document.querySelector('[data-cy=calcium-btn]')")
        page.click("[data-cy=calcium-btn]")
        page.until(f"return document.querySelector('{READY}')")
        total = page.run("return document.querySelector('[data-cy=rl-score-total]').innerText")
        assert float(total.split()[0]) == pytest.approx(sent.phantom.score, abs=0.06)
        assert "Research use only" in page.text()
        box = page.until(
            """const box = document.querySelector('canvas.cornerstone-canvas')
              ?.getBoundingClientRect();
            return box && box.width > 100 && [box.left, box.top, box.right, box.bottom]"""
        )
        picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
        left, top, right, bottom = map(int, box)
        images = picture[top:bottom, left:right]
        # Air is black, bone is white, and there is tissue between.
        assert images.max() > 240
        assert 0.1 < ((images > 20) & (images < 200)).mean() < 0.9
