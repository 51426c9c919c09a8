"""What is installed: pinned by hash, from any index, listed in a bill of materials."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
PIN = re.compile(r"^([a-z0-9-]+)==([^\s;]+)(?: ; platform_machine == \"\w+\")? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")

Pins = dict[tuple[str, str], list[str]]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(name: str) -> Pins:
    """Hashes by name and version; every line of the file must be understood."""
    found: Pins = {}
    for line in (CONFIG / name).read_text("ascii").splitlines():
        if line.startswith("#") or line == "--only-binary :all:":
            continue
        pin = PIN.match(line)
        if pin:
            latest = found.setdefault((pin[1], pin[2]), [])
        else:
            assert HASH.match(line), line
            latest.append(line)
    return found


def constraints() -> set[tuple[str, str]]:
    told = (ROOT / "constraints.txt").read_text("ascii").splitlines()
    matches = (re.match(r"^([\w.-]+)==([\w.+!-]+)$", line) for line in told)
    return {(canonical(one[1]), one[2]) for one in matches if one}


def installed() -> set[tuple[str, str]]:
    return {
        (canonical(one.metadata["Name"]), one.version) for one in importlib.metadata.distributions()
    }


def wanted(*extras: str) -> set[str]:
    """Names that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in extras:
        asked += project["project"]["optional-dependencies"][extra]
    return {canonical(re.split(r"[<>=!\[ ;]", one)[0]) for one in asked}


def make(target: str) -> str:
    """What `make` would run, were everything older than its sources."""
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


LOCKS = ("requirements.lock", "plugin.lock", "torch.lock")


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_a_hash_and_its_pin_of_the_constraints(name: str) -> None:
    assert pins(name)
    assert all(hashes for hashes in pins(name).values())
    assert set(pins(name)) <= constraints()


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_no_index_so_that_every_mirror_will_do(name: str) -> None:
    text = (CONFIG / name).read_text("ascii")
    assert re.search(r"://|index|find-links|trusted", text) is None


def test_lock_allows_no_archive_that_would_run_code_while_it_is_installed() -> None:
    for name in LOCKS:
        assert "--only-binary :all:" in (CONFIG / name).read_text("ascii").splitlines()


def test_lock_holds_everything_that_the_project_asks_for() -> None:
    locked = {name for lock in LOCKS for name, _ in pins(lock)}
    assert wanted("plugin", "services", "nodes", "models", "dev") <= locked


def test_the_plugins_lock_is_a_part_of_the_whole() -> None:
    whole = pins("requirements.lock")
    assert {"rq", "redis", "async-timeout"} <= {name for name, _ in pins("plugin.lock")}
    assert all(whole[pin] == hashes for pin, hashes in pins("plugin.lock").items())


def test_setup_takes_nothing_from_an_index_without_its_hash() -> None:
    installs = [
        line for line in make("setup").splitlines() if " install " in line and "pip" in line
    ]
    assert len(installs) == 2
    for line in installs:
        assert "--require-hashes -r config/requirements.lock" in line or "--no-index" in line


def test_torch_is_taken_by_its_hash_before_any_other_build_of_it() -> None:
    script = (ROOT / ".ci" / "torch").read_text("utf-8")
    hashed, unhashed = script.index("--require-hashes"), script.index("-c constraints.txt")
    assert hashed < unhashed
    assert make("setup").index(".ci/torch") < make("setup").index("requirements.lock")


def test_the_plugins_packages_are_installed_by_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    from dicom_services import plugin_site

    asked: list[list[str]] = []

    def no_network(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", no_network)
    with pytest.raises(plugin_site.UnavailableError, match="plugin_site_install"):
        plugin_site.install_plugin_site()
    (command,) = asked
    assert "--require-hashes" in command
    assert command[command.index("-r") + 1] == str(CONFIG / plugin_site.LOCK)
    assert plugin_site.plugin_site().is_dir(), "a failed install takes the old one away"


def test_an_archive_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    archive = tmp_path / "small-1.0-py3-none-any.whl"
    wheel(archive)
    lock = tmp_path / "small.lock"
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path)]
    command += ["--require-hashes", "--target", str(tmp_path / "there"), "-r", str(lock)]
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    for given, code in ((digest, 0), ("0" * 64, 1)):
        lock.write_text(f"--only-binary :all:\nsmall==1.0 \\\n    --hash=sha256:{given}\n")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert "DO NOT MATCH THE HASHES" in done.stderr


def wheel(path: Path) -> None:
    """The smallest wheel there can be."""
    import zipfile

    about = "small-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("small.py", "")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        tag = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{about}/WHEEL", tag)
        archive.writestr(f"{about}/RECORD", f"small.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n")


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `make sbom` writes."""
    target = tmp_path_factory.mktemp("bill") / "sbom.json"
    command = [sys.executable, str(ROOT / ".ci" / "sbom.py"), str(target)]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    return dict(json.loads(target.read_text("utf-8")))


def listed(bill: dict[str, Any], kind: str) -> set[tuple[str, str]]:
    return {
        (canonical(one["name"]), one["version"])
        for one in bill["components"]
        if one.get("purl", "").startswith(f"pkg:{kind}/")
    }


def test_bill_holds_every_pinned_package_that_is_installed(bill: dict[str, Any]) -> None:
    there = constraints() & installed()
    assert len(there) >= 60
    assert there <= listed(bill, "pypi")


def test_bill_holds_every_locked_package_of_this_machine(bill: dict[str, Any]) -> None:
    assert set(pins("requirements.lock")) <= listed(bill, "pypi")


def test_bill_holds_the_debian_packages_that_read_hostile_bytes(bill: dict[str, Any]) -> None:
    listed_names = {name for name, _ in listed(bill, "deb")}
    assert {"orthanc", "orthanc-python", "dcmtk", "redis-server", "libdcmtk17"} <= listed_names


def test_bill_is_valid_cyclonedx_and_says_nothing_of_this_machine(bill: dict[str, Any]) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = json.dumps(bill)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert str(ROOT) not in text
    assert sys.prefix not in text
    references = [one["bom-ref"] for one in bill["components"]]
    assert len(references) == len(set(references))
