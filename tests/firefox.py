"""A headless Firefox driven by its own protocol; Playwright drives none but its own build."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox") or ""

# Says nothing to anybody outside, and listens on a port of its own choice.
PREFERENCES: dict[str, Any] = {
    "marionette.port": 0,
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "toolkit.telemetry.enabled": False,
    # A machine without a graphics card draws with the processor.
    "webgl.force-enabled": True,
}


class Firefox:
    """One session; a message is its length, a colon and a JSON array."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=180)
        self._stream = self._socket.makefile("rb")
        self._count = 0
        self._receive()
        self.command("WebDriver:NewSession", capabilities={"alwaysMatch": {}})
        self.command("WebDriver:SetTimeouts", script=170_000, pageLoad=170_000)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command and give its answer."""
        self._count += 1
        text = json.dumps([0, self._count, name, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(text), text))
        _, _, error, answer = self._receive()
        if error:
            raise AssertionError(f"{name}: {error['error']}: {error['message']}")
        return answer["value"] if isinstance(answer, dict) and set(answer) == {"value"} else answer

    def _receive(self) -> Any:
        length = b""
        while (byte := self._stream.read(1)) not in (b":", b""):
            length += byte
        return json.loads(self._stream.read(int(length)))

    def go(self, address: str) -> None:
        self.command("WebDriver:Navigate", url=address)

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that the body of a function returns in the page."""
        return self.command("WebDriver:ExecuteScript", script=script, args=list(arguments))

    def until(self, script: str, limit_s: float = 120.0) -> Any:
        """The first true value of `script`."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.3)
        raise AssertionError(f"not in time: {script}; the page says {self.text()[-600:]}")

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def fill(self, selector: str, text: str) -> None:
        """Type into a field as React and plain pages hear it."""
        self.run(
            """const field = document.querySelector(arguments[0]);
            const own = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value');
            own.set.call(field, arguments[1]);
            field.dispatchEvent(new Event('input', { bubbles: true }));""",
            selector,
            text,
        )

    def click(self, selector: str) -> None:
        element = self.command("WebDriver:FindElement", using="css selector", value=selector)
        self.command("WebDriver:ElementClick", id=next(iter(element.values())))

    def screenshot(self) -> bytes:
        """The page as PNG."""
        taken = self.command("WebDriver:TakeScreenshot", full=False, hash=False)
        return base64.b64decode(taken)


@contextmanager
def firefox(home: Path, width: int = 1280, height: int = 900) -> Iterator[Firefox]:
    """A Firefox without a window; `home` is an empty folder for its profile and its log."""
    profile = home / "profile"
    profile.mkdir()
    lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in PREFERENCES.items())
    (profile / "user.js").write_text("\n".join(lines))
    words = ["--headless", "--no-remote", "--marionette", "--profile", str(profile)]
    words += [f"--width={width}", f"--height={height}"]
    environment = {**os.environ, "HOME": str(home), "MOZ_CRASHREPORTER_DISABLE": "1"}
    with (home / "firefox.log").open("wb") as log:
        process = subprocess.Popen([FIREFOX, *words], stdout=log, stderr=log, env=environment)
    try:
        session = Firefox(_port(profile, process))
        try:
            yield session
        finally:
            session.close()
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(profile: Path, process: subprocess.Popen[bytes], limit_s: float = 120.0) -> int:
    """Where it listens; it writes that down once it does."""
    told = profile / "MarionetteActivePort"
    end = time.monotonic() + limit_s
    while time.monotonic() < end and process.poll() is None:
        if told.exists() and (text := told.read_text().strip()):
            return int(text)
        time.sleep(0.1)
    raise AssertionError("Firefox does not listen")
