"""Writes the lock files: every Python package that `make setup` installs, pinned with its hashes.

    python .ci/lock.py

pip resolves what `pyproject.toml` asks for under `constraints.txt` and names the archive that it
chose and its SHA-256; nothing is installed and nothing is built. Where the archives came from is
not written down: the hashes hold for any index that serves the same files.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("plugin", "services", "nodes", "models", "dev")
GLIBC = ("2_36", "2_35", "2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17")
"""Of Debian 12 and older: a wheel for any of these runs there."""
HEADER = """\
# Written by `make lock` from pyproject.toml and constraints.txt; do not edit.
# Python 3.11 on Linux; two hashes where x86_64 and aarch64 have archives of their own.
--only-binary :all:
"""
APART: Final = "torch"
"""Has builds for processors and for cards under one version: a lock of its own."""
APART_HEADER: Final = """\
# Written by `make lock`; do not edit. The build for processors; `make setup` takes the version
# unhashed, and says so, where only other builds of it are to be had.
--only-binary :all:
"""
Pins = dict[str, dict[str, set[str]]]


def wanted() -> dict[str, list[str]]:
    """File name to the packages it must hold, without those they need in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    everything = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in EXTRAS:
        everything += extras[extra]
    return {"requirements.lock": everything, "plugin.lock": list(extras["plugin"])}


def resolve(requirements: Iterable[str], *options: str) -> list[dict[str, Any]]:
    """What pip would install."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
        command += ["--only-binary", ":all:", "-c", str(ROOT / "constraints.txt")]
        command += ["--report", str(report), *options, *requirements]
        subprocess.run(command, timeout=1800, check=True)
        return list(json.loads(report.read_text("utf-8"))["install"])


def for_other_machine(pins: Pins, machine: str) -> list[dict[str, Any]]:
    """The same versions as archives for `machine`; a package that has none there is left out."""
    options = ["--no-deps", "--target", tempfile.gettempdir(), "--python-version", "3.11"]
    options += ["--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    for glibc in GLIBC:
        options += ["--platform", f"manylinux_{glibc}_{machine}"]
    options += ["--platform", f"manylinux2014_{machine}"]
    chosen = []
    for requirement in pins:
        try:
            chosen += resolve([requirement], *options)
        except subprocess.CalledProcessError:
            print(f"no archive for {machine}: {requirement}", file=sys.stderr)
    return chosen


def add(pins: Pins, chosen: Iterable[dict[str, Any]], machine: str) -> None:
    for one in chosen:
        name = re.sub(r"[-_.]+", "-", one["metadata"]["name"]).lower()
        digest = one["download_info"]["archive_info"]["hashes"]["sha256"]
        pins[f"{name}=={one['metadata']['version']}"][machine].add(digest)


def text(pins: Pins, header: str = HEADER) -> str:
    lines = [header]
    for requirement, machines in sorted(pins.items()):
        only = f' ; platform_machine == "{next(iter(machines))}"' if len(machines) == 1 else ""
        digests = sorted(set[str]().union(*machines.values()))
        hashes = " \\\n".join(f"    --hash=sha256:{digest}" for digest in digests)
        lines.append(f"{requirement}{only} \\\n{hashes}\n")
    return "".join(lines)


def main() -> None:
    for name, requirements in wanted().items():
        pins: Pins = defaultdict(lambda: defaultdict(set))
        add(pins, resolve(requirements), "x86_64")
        add(pins, for_other_machine(pins, "aarch64"), "aarch64")
        apart = [pin for pin in pins if pin.startswith(f"{APART}==")]
        if apart:
            # Without the local part of the version, which names the build, and for any machine:
            # one that has no such build takes the index's own.
            alone: Pins = {
                pin.partition("+")[0]: defaultdict(set, pins.pop(pin), any=set()) for pin in apart
            }
            path = ROOT / "config" / f"{APART}.lock"
            path.write_text(text(alone, APART_HEADER), encoding="utf-8")
        (ROOT / "config" / name).write_text(text(pins), encoding="utf-8")
        print(f"config/{name}: {len(pins)} packages")


if __name__ == "__main__":
    main()
