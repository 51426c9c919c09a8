"""A reader at the viewer in a real browser: what is clicked, what is seen, and what went wrong."""

from __future__ import annotations

import io
import os
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import ConsoleMessage, Dialog, Locator, Page, Request, Response

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.phantom import Phantom
from dicom_services.phantom_command import demo_phantom
from tests.integration.conftest import Stack
from tests.pacs import ended

PASSWORD = "a long walk along the coast"
OPENING_MS = 90_000
"""For what takes a second on a quiet machine and much longer on a busy one."""

READY = "[data-cy=rl-reading][data-phase=ready][data-stale=false]"
FAST_MATRIX = 256
"""Pixels along the edge of a phantom that loads quickly; it is scored as exactly as others."""


def add_user(stack: Stack, name: str, *, role: str = "radiologist", patients: str = "all") -> None:
    """An account whose password is PASSWORD; `patients` is "all" or "none"."""
    secret = stack.folder.home.parent / "password.txt"
    secret.write_text(PASSWORD)
    words = ["users", "add", name, "--display-name", f"Dr {name.title()}", "--role", role]
    words += ["--all-patients"] if patients == "all" else []
    stack.radloop(*words, "--password-file", str(secret))


def address_of(stack: Stack) -> str:
    """Where the gateway is, by address: the browser resolves no name."""
    return f"http://127.0.0.1:{stack.state.gateway_port}"


@dataclass(frozen=True)
class Sent:
    """A phantom that the stack has analysed."""

    phantom: Phantom
    study: str


def send_phantom(stack: Stack, folder: Path, *, seed: int = 7, **header: str) -> Sent:
    """A made-up cardiac CT of known score, sent and analysed."""
    phantom = demo_phantom(seed, matrix=FAST_MATRIX)
    study = send_volume(stack, folder, phantom, **header)
    assert ended(stack.orthanc, study)["state"] == "done"
    return Sent(phantom, study)


def send_volume(stack: Stack, folder: Path, phantom: Phantom, **header: str) -> str:
    """Any made-up CT, sent; its study."""
    paths = write_ct_series(phantom.volume, folder, seed=str(folder), **header)
    stack.send(folder)
    return str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)


@dataclass
class Watch:
    """Everything that a page did which no page of ours may do."""

    origin: str
    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def on(self, page: Page) -> Watch:
        page.on("request", self._request)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught {error}"))
        page.on("dialog", self._dialog)
        page.on("response", self._response)
        return self

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.origin + "/", "blob:" + self.origin, "data:")):
            self.elsewhere.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type != "error":
            return
        path = urlsplit(message.location.get("url", "")).path
        # The login page asks whether somebody is logged in already; browsers print every 401.
        if "401" in message.text and path == "/api/session":
            return
        self.errors.append(f"{message.text} ({path})")

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _response(self, response: Response) -> None:
        if response.status >= 400 and not response.url.endswith("/api/session"):
            self.failed.append(f"{response.status} {urlsplit(response.url).path}")

    def assert_quiet(self, allowed: Iterable[str] = ()) -> None:
        """No word to anybody else, no dialog, and no error but those that match `allowed`."""
        assert self.elsewhere == []
        assert self.dialogs == []
        wrong = [e for e in self.errors if not any(re.search(each, e) for each in allowed)]
        assert wrong == []


@dataclass(frozen=True)
class Viewer:
    """A page of the viewer on one study."""

    page: Page
    address: str
    study: str

    def has(self, hook: str) -> Locator:
        return self.page.locator(f"[data-cy='{hook}']")

    def log_in(self, name: str) -> None:
        """On the login page, wherever it leads afterwards."""
        if "/login" not in self.page.url:
            self.page.goto(f"{self.address}/login")
        self.fill_in(name)
        self.page.wait_for_url(lambda url: "/login" not in url, timeout=OPENING_MS)

    def fill_in(self, name: str) -> None:
        """Name and password, on the login page or in the dialog over the viewer."""
        self.has("rl-login-name").fill(name)
        self.has("rl-login-password").fill(PASSWORD)
        self.has("rl-login-submit").click()

    def go(self, study: str = "") -> None:
        self.page.goto(f"{self.address}/viewer?StudyInstanceUIDs={study or self.study}")

    def open_calcium(self) -> None:
        """The calcium panel with its numbers."""
        tab = self.has("calcium-btn")
        tab.wait_for(timeout=OPENING_MS)
        tab.click()
        self.page.wait_for_selector(READY, timeout=OPENING_MS)

    def number(self, hook: str) -> float:
        """The first number of a cell, once it is up to date."""
        self.page.wait_for_selector(READY)
        return float(self.has(hook).inner_text().split()[0])

    def of_vessel(self, vessel: str) -> float:
        """What is on the screen for a vessel; 0.0 where the vessel has no row."""
        self.page.wait_for_selector(READY)
        rows = self.page.locator(".rl-vessel-row", has_text=re.compile(rf"^\s*{vessel}"))
        return float(rows.locator("td").first.inner_text()) if rows.count() else 0.0

    def get(self, path: str, **headers: str) -> Any:
        """As this reader's browser asks for it."""
        answer = self.page.request.get(f"{self.address}{path}", headers=headers)
        assert answer.ok, f"{answer.status} {path}"
        return answer.json()

    def corrections(self) -> list[dict[str, Any]]:
        return list(self.get(f"/api/studies/{self.study}/corrections")["corrections"])

    def series(self, modality: str) -> list[str]:
        """Series of a modality, as the archive lists them to viewers."""
        found = self.get(
            f"/dicom-web/studies/{self.study}/series?Modality={modality}",
            Accept="application/dicom+json",
        )
        return [each["0020000E"]["Value"][0] for each in found]

    def show_slice(self, phantom: Phantom, k: int) -> None:
        """Scroll the viewport to a slice of the phantom."""
        origin = phantom.volume.geometry.affine[:3, 3] + k * phantom.volume.geometry.affine[:3, 0]
        self.page.evaluate(
            """async (z) => {
              const { viewport } = window.cornerstone.getEnabledElements()[0];
              const height = (id) =>
                window.cornerstone.metaData.get('imagePlaneModule', id).imagePositionPatient[2];
              const ids = viewport.getImageIds();
              const near = ids.map((id) => Math.abs(height(id) - z));
              const index = near.indexOf(Math.min(...near));
              if (viewport.setImageIdIndex) await viewport.setImageIdIndex(index);
              else viewport.setViewReference({ referencedImageId: ids[index] });
              viewport.render();
            }""",
            float(origin[2]),
        )

    def point_of(self, phantom: Phantom, voxel: Sequence[int]) -> tuple[float, float]:
        """Where in the page the middle of a voxel (k, j, i) is; its slice must be shown."""
        world = phantom.volume.geometry.affine @ np.array([*map(int, voxel), 1.0])
        x, y = self.page.evaluate(
            """(world) => {
              const { viewport } = window.cornerstone.getEnabledElements()[0];
              const box = viewport.element.getBoundingClientRect();
              const [x, y] = viewport.worldToCanvas(world);
              return [box.left + x, box.top + y];
            }""",
            [float(each) for each in world[:3]],
        )
        return float(x), float(y)

    def picture(self) -> NDArray[np.int16]:
        """(row, column, RGB) of the page as it is painted."""
        image = Image.open(io.BytesIO(self.page.screenshot()))
        return np.asarray(image.convert("RGB")).astype(np.int16)

    def red_places(self) -> NDArray[np.float64]:
        """(y, x) of every pixel of the images that a red overlay covers."""
        box = self.has("viewport-grid").bounding_box()
        assert box is not None
        top, left = int(box["y"]), int(box["x"])
        part = self.picture()[top : top + int(box["height"]), left : left + int(box["width"])]
        red = (part[..., 0] > 120) & (part[..., 0] - part[..., 1:].max(axis=-1) > 50)
        return np.argwhere(red) + np.array((top, left))


@contextmanager
def gateway_killed(stack: Stack) -> Iterator[None]:
    """No gateway: killed at once, and what would start it again looks away meanwhile."""
    supervisord = int(stack.folder.supervisord_pid.read_text())
    gateway = stack.pid("gateway")
    os.kill(supervisord, signal.SIGSTOP)
    try:
        os.kill(gateway, signal.SIGKILL)
        yield
    finally:
        os.kill(supervisord, signal.SIGCONT)


def middle_voxel(where: NDArray[np.bool_]) -> tuple[int, int, int]:
    """The voxel of a mask in its fullest slice that is nearest to the middle of it there."""
    k = int(where.sum(axis=(1, 2)).argmax())
    places = np.argwhere(where[k])
    nearest = np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()
    return k, int(places[nearest][0]), int(places[nearest][1])
