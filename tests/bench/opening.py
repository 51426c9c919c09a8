"""How long a study takes to its first image: our viewer against stock OHIF on the same gateway."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from dicom_services.data_folder import DataFolder
from dicom_services.orthanc import Orthanc
from dicom_services.phantom_command import demo_phantom
from dicom_services.stack import connect
from tests.bench.rig import PROFILE, ROOT, emit
from tests.browser import chromium
from tests.integration.conftest import SENDER, Stack
from tests.pacs import ended
from tests.viewer import BUILT, PASSWORD, add_user, address_of, send_volume

PAIRS: Final = int(os.environ.get("RADLOOP_OPENING_PAIRS", "8"))
OF_PACKAGE: Final = 3
GOAL: Final = 1.05
EXTENSIONS_KB: Final = 300
SETTLE_S: Final = 0.7
LIMIT_MS: Final = 120_000
DIST: Final = ROOT / "ohif_extensions" / "dist"
PIN: Final = ROOT / "ohif_extensions" / "host" / "pin.mjs"
OURS: Final = ("host.js", "host.json", "app-config.js", "index.html")
_TICKS: Final = os.sysconf("SC_CLK_TCK")

FIRST_IMAGE: Final = """
(() => {
  const look = event => {
    const canvas = event.target.querySelector?.('canvas');
    if (!canvas?.width) return;
    const small = document.createElement('canvas');
    small.width = small.height = 32;
    const context = small.getContext('2d');
    context.drawImage(canvas, 0, 0, 32, 32);
    const drawn = context.getImageData(0, 0, 32, 32).data.some((v, i) => i % 4 < 3 && v > 40);
    if (!drawn) return;
    window.firstImageMs = performance.now();
    window.removeEventListener('CORNERSTONE_IMAGE_RENDERED', look, true);
  };
  window.addEventListener('CORNERSTONE_IMAGE_RENDERED', look, true);
})();
"""
"""The same eye for every site: a rendered canvas that is not black any more, since navigation."""

SOURCE: Final = {
    "friendlyName": "radloop",
    "name": "radloop",
    "qidoRoot": "/dicom-web",
    "wadoRoot": "/dicom-web",
    "wadoUriRoot": "/dicom-web",
    "qidoSupportsIncludeField": True,
    "supportsReject": False,
    "supportsFuzzyMatching": False,
    "supportsWildcard": True,
    "imageRendering": "wadors",
    "thumbnailRendering": "wadors",
    "enableStudyLazyLoad": True,
    "dicomUploadEnabled": True,
    "omitQuotationForMultipartRequest": True,
    "bulkDataURI": {"enabled": True},
}
STOCK: Final[dict[str, Any]] = {
    "defaultDataSourceName": "radloop",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "radloop",
            "configuration": SOURCE,
        }
    ],
    "investigationalUseDialog": {"option": "never"},
    "customizationService": {"global": {"ohif.tours": {"$set": []}}},
}
"""What is changed in the package's own configuration; nothing may lie over its first image."""


@dataclass
class Taken:
    """Openings of one site: the first in a browser, and the next with a filled cache."""

    wall_ms: dict[str, list[float]] = field(default_factory=lambda: {"first": [], "again": []})
    cpu_ms: dict[str, list[float]] = field(default_factory=lambda: {"first": [], "again": []})


def main() -> None:
    """By turns, so that a busy machine is unkind to all alike."""
    _package()
    bench_size()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        sites = {"ours": DIST / "viewer", "stock": _prepared(home), "package": _unpacked(home)}
        shown = home / "shown"
        with _stack(home, shown) as stack:
            add_user(stack, "bench")
            study = send_volume(stack, home / "study", demo_phantom(7))
            ended(stack.orthanc, study, limit_s=300.0)
            taken = {name: Taken() for name in sites}
            with sync_playwright() as driver, chromium(driver) as browser:
                address = address_of(stack)
                for number in range(PAIRS + 1):
                    turn = list(sites)[number % 3 :] + list(sites)[: number % 3]
                    for site in turn:
                        if site == "package" and number > OF_PACKAGE:
                            continue
                        _show(shown, sites[site])
                        # Whoever comes first warms the server; it is not counted.
                        _open(browser, address, study, taken[site] if number else Taken())
    _report(taken)


def bench_size() -> None:
    """All that is ours and comes to a browser, gzipped as the gateway serves it."""
    files = [
        path
        for path in (DIST / "viewer" / "plugins").rglob("*")
        if path.is_file() and path.suffix not in (".gz", ".br")
    ]
    kilobytes = sum(len(gzip.compress(path.read_bytes(), 9)) for path in files) / 1000.0
    emit("opening.extensions", gzip_kb=round(kilobytes, 1), target_kb=EXTENSIONS_KB)


def _report(taken: dict[str, Taken]) -> None:
    """Processor time beside the clock: a busy machine moves it less."""
    ours = taken["ours"]
    for peer in ("stock", "package"):
        for which in ("first", "again"):
            other_wall, other_cpu = taken[peer].wall_ms[which], taken[peer].cpu_ms[which]
            # Of the same rounds.
            wall = ours.wall_ms[which][: len(other_wall)]
            cpu = ours.cpu_ms[which][: len(other_cpu)]
            emit(
                "opening.first_image",
                peer=peer,
                opening=which,
                pairs=len(wall),
                ratio=_ratio(wall, other_wall),
                ratio_of_best=round(min(wall) / min(other_wall), 3),
                cpu_ratio=_ratio(cpu, other_cpu),
                cpu_ratio_of_best=round(min(cpu) / min(other_cpu), 3),
                target=GOAL,
                ms=round(statistics.median(wall)),
                peer_ms=round(statistics.median(other_wall)),
                cpu_ms=round(statistics.median(cpu)),
                peer_cpu_ms=round(statistics.median(other_cpu)),
            )


def _ratio(mine: list[float], theirs: list[float]) -> float:
    return round(statistics.median(mine) / statistics.median(theirs), 3)


def _open(browser: Browser, address: str, study: str, taken: Taken) -> None:
    """A browser with nothing in its cache opens the study, and then once more."""
    # The package as it is makes functions out of text, which our policy refuses.
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
    try:
        _log_in(context, address)
        page = context.new_page()
        page.add_init_script(FIRST_IMAGE)
        for which in ("first", "again"):
            page.goto("about:blank")
            wall, cpu = _first_image(page, f"{address}/viewer?StudyInstanceUIDs={study}")
            taken.wall_ms[which].append(wall)
            taken.cpu_ms[which].append(cpu)
    finally:
        context.close()


def _first_image(page: Page, url: str) -> tuple[float, float]:
    """Milliseconds from navigation to the first image, and of processors until then."""
    time.sleep(SETTLE_S)
    before = _browser_ticks()
    page.goto(url, wait_until="commit")
    page.wait_for_function("() => window.firstImageMs", polling=20, timeout=LIMIT_MS)
    after = _browser_ticks()
    ticks = sum(used - before.get(process, 0) for process, used in after.items())
    wall = float(page.evaluate("window.firstImageMs"))
    time.sleep(SETTLE_S)
    return wall, ticks * 1000.0 / _TICKS


def _log_in(context: BrowserContext, address: str) -> None:
    answer = context.request.post(
        f"{address}/api/login",
        data={"name": "bench", "password": PASSWORD},
        headers={"Origin": address},
    )
    if not answer.ok:
        raise SystemExit(f"the login was answered with {answer.status}")


def _browser_ticks() -> dict[int, int]:
    """Processor time so far of every process that descends from this one."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
            used[int(folder.name)] = int(fields[11]) + int(fields[12])

    def descends(process: int) -> bool:
        while process > 1 and process != os.getpid():
            process = parents.get(process, 0)
        return process == os.getpid()

    return {process: ticks for process, ticks in used.items() if descends(process)}


def _prepared(home: Path) -> Path:
    """Stock as we prepare it: minified, compressed, patched; without shim and extensions."""
    site = home / "stock"
    ours = {"plugins", *(f"{one}{end}" for one in OURS for end in ("", ".gz", ".br"))}
    shutil.copytree(
        DIST / "viewer", site, ignore=lambda _, names: [one for one in names if one in ours]
    )
    page = (DIST / "viewer" / "index.html").read_text()
    for script in ("/host.js", "/plugins/extensions.js"):
        line = f'<script defer src="{script}"></script>\n'
        if line not in page:
            raise SystemExit(f"the viewer's page does not load {script} as expected")
        page = page.replace(line, "")
    (site / "index.html").write_text(page)
    return _configured(site)


def _package() -> Path:
    """The pinned one, as the viewer's build keeps it."""
    found = re.search(r"version: '([^']+)'", PIN.read_text())
    package = DIST / "cache" / f"ohif-app-{found[1] if found else ''}.tgz"
    if not package.is_file() or not BUILT.is_file():
        raise SystemExit("the viewer is not built: make viewer")
    return package


def _unpacked(home: Path) -> Path:
    """The package as it comes."""
    with tarfile.open(_package()) as archive:
        archive.extractall(home, filter="data")
    return _configured(home / "package" / "dist")


def _configured(site: Path) -> Path:
    with tarfile.open(_package()) as archive:
        member = archive.extractfile("package/dist/app-config.js")
        if member is None:
            raise SystemExit("the package has no configuration")
        own = member.read().decode()
    text = f"{own}\nObject.assign(window.config, {json.dumps(STOCK)});\n"
    (site / "app-config.js").write_text(text)
    return site


def _show(shown: Path, site: Path) -> None:
    """The gateway follows what takes the place of its folder."""
    beside = shown.with_name("next")
    beside.symlink_to(site)
    beside.replace(shown)


@contextmanager
def _stack(home: Path, viewer: Path) -> Iterator[Stack]:
    """As the tests' own, with another folder for the viewer."""
    profile = home / "profile.toml"
    profile.write_text(f"{PROFILE.read_text()}\n[gateway]\nviewer = '{viewer}'\n")
    folder = DataFolder(home / "data")
    nobody = Orthanc("http://127.0.0.1:1", "", "")
    command = Stack(folder, nobody, profile)
    try:
        command.radloop("up")
        command.radloop("modality", "add", SENDER, "127.0.0.1", "11112")
        with connect(folder, folder.state()) as orthanc:
            yield Stack(folder, orthanc, profile)
    finally:
        nobody.close()
        command.radloop("down")


if __name__ == "__main__":
    main()
