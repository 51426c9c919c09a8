"""Examines a machine and its stack: whatever is missing or wrong, first things first."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from dicom_services.checks import Check, check
from dicom_services.configuration import pipelines_of_machine
from dicom_services.data_folder import SECRETS, DataFolder, State, first_state
from dicom_services.doctor_gateway import gateway_checks
from dicom_services.doctor_services import service_checks
from dicom_services.errors import RadloopError
from dicom_services.orthanc_config import BINARY, NEEDED_PLUGINS, OPTIONAL_PLUGINS, PLUGINS
from dicom_services.plugin_site import (
    EMBEDDED_PYTHON,
    plugin_package,
    plugin_site,
    plugin_site_works,
)
from dicom_services.ports import is_free
from dicom_services.quarantine import Quarantine
from dicom_services.remedies import remedy
from dicom_services.routes import check_rules
from dicom_services.settings import Settings, overlay_path, read_settings
from dicom_services.supervision import Supervisor

_NEEDED_PACKAGES: Final = ("orthanc", "orthanc-python", "orthanc-dicomweb", "redis-server")
_OPTIONAL_PACKAGES: Final = ("orthanc-gdcm", "dcmtk")
# The series this was tested with; another one may load our plugin differently or not at all.
_TESTED_ORTHANC: Final = "1.10.1"
_MEMORY_GB: Final = 4.0
_LEAST_DISK_GB: Final = 1.0
_NEARLY_FULL: Final = 0.8
_DAY_S: Final = 86_400.0


def examine(folder: DataFolder) -> list[Check]:
    """Every check; nothing is changed, nothing needs to run."""
    found = [*_interpreter(), *_packages(), *_libraries(), _site(), *_clock(), _memory()]
    try:
        settings = read_settings(overlay_path())
    except RadloopError as error:
        return [*found, Check("FAIL", "settings", str(error), remedy(error.code))]
    found += [check(True, "settings", "valid", ""), _rules(settings), _pipelines()]
    found += [*_folder(folder), _disk(folder, settings), *_quarantine(folder, settings)]
    found += gateway_checks(folder, settings)
    if not folder.exists():
        found += _ports(first_state(settings))
        return [*found, Check("WARN", "stack", "never started here", "radloop up")]
    try:
        state = folder.state()
    except RadloopError as error:
        return [*found, Check("FAIL", "stack", str(error), remedy(error.code))]
    if not Supervisor(folder).answers():
        found += _ports(state)
        return [*found, Check("FAIL", "stack", "not running", "radloop up")]
    return [*found, *service_checks(folder, settings, state)]


def _interpreter() -> list[Check]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    inside = sys.prefix != sys.base_prefix
    modules = [name for name in ("supervisor", "redis") if importlib.util.find_spec(name) is None]
    lacking = f"without {', '.join(modules)}" if modules else "complete"
    return [
        check(sys.version_info[:2] == (3, 11), "python", version, "make setup PYTHON=python3.11"),
        check(inside, "environment", sys.prefix, "make setup, then .venv/bin/radloop", bad="WARN"),
        check(not modules, "python packages", lacking, remedy("supervisor_missing")),
        check(
            os.getuid() != 0,
            "user",
            "root" if os.getuid() == 0 else "not root",
            "run radloop as a user of its own: sudo adduser --system radloop",
            bad="WARN",
        ),
    ]


def _packages() -> list[Check]:
    checks = []
    for name in (*_NEEDED_PACKAGES, *_OPTIONAL_PACKAGES):
        version = _package_version(name)
        bad = "FAIL" if name in _NEEDED_PACKAGES else "WARN"
        checks.append(
            check(
                version,
                f"package {name}",
                version or "not installed",
                f"sudo apt-get install -y {name}",
                bad="FAIL" if bad == "FAIL" else "WARN",
            )
        )
        if name == "orthanc" and version and not version.startswith(_TESTED_ORTHANC):
            checks.append(
                Check("WARN", "orthanc version", version, f"tested with {_TESTED_ORTHANC} only")
            )
    return checks


def _package_version(name: str) -> str:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    state, _, version = done.stdout.partition(" ")
    return version if done.returncode == 0 and state == "installed" else ""


def _libraries() -> list[Check]:
    missing = [name for name in NEEDED_PLUGINS if not (PLUGINS / name).exists()]
    absent = [name for name in OPTIONAL_PLUGINS if not (PLUGINS / name).exists()]
    advice = remedy("orthanc_plugins_missing")
    other = _debian_orthanc()
    return [
        check(BINARY.exists(), "Orthanc", str(BINARY), remedy("orthanc_missing")),
        check(not missing, "Orthanc plugins", ", ".join(missing) or "present", advice),
        check(
            not other,
            "Debian's Orthanc",
            "runs beside ours and takes anybody's images" if other else "does not run",
            "sudo systemctl disable --now orthanc",
            bad="WARN",
        ),
        check(not absent, "Orthanc GDCM", ", ".join(absent) or "present", advice, bad="WARN"),
        check(
            shutil.which("redis-server"),
            "Redis",
            shutil.which("redis-server") or "not on the PATH",
            remedy("redis_server_missing"),
        ),
    ]


def _debian_orthanc() -> bool:
    """Whether the package's own service runs: no password, any sender, both default ports."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"/Orthanc") and b"/etc/orthanc" in [
                w.rstrip(b"/") for w in words
            ]:
                return True
    return False


def _site() -> Check:
    name = "plugin's packages"
    try:
        parent = plugin_package().parent
    except RadloopError as error:
        return Check("FAIL", name, str(error), remedy(error.code))
    if not EMBEDDED_PYTHON.exists():
        found = f"no {EMBEDDED_PYTHON}"
        return Check("FAIL", name, found, "sudo apt-get install -y python3.11")
    works = plugin_site_works(plugin_site(), parent)
    found = f"{'import' if works else 'do not import'} in {EMBEDDED_PYTHON}"
    return check(works, name, found, remedy("plugin_site_missing"))


def _clock() -> list[Check]:
    """A clock that runs behind what was written before it; whether anybody sets it."""
    written = Path(__file__).stat().st_mtime
    late = time.time() < written - _DAY_S
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    checks = [check(not late, "clock", now, "sudo timedatectl set-ntp true")]
    try:
        command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return checks
    if done.returncode == 0 and done.stdout.strip() == "no":
        found = "not synchronised"
        checks.append(Check("WARN", "clock source", found, "sudo timedatectl set-ntp true"))
    return checks


def _memory() -> Check:
    total_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    advice = "a 600-slice CT needs about 2 GB beside Orthanc: add memory"
    return check(total_gb >= _MEMORY_GB, "memory", f"{total_gb:.1f} GB", advice, bad="WARN")


def _rules(settings: Settings) -> Check:
    try:
        rules = check_rules(settings.routing.file)
    except RadloopError as error:
        return Check("FAIL", "routing rules", str(error), remedy(error.code))
    return check(rules, "routing rules", ", ".join(rules) or "none", "add a [[rule]]", bad="WARN")


def _pipelines() -> Check:
    known = pipelines_of_machine()
    found = ", ".join(f"{name} {version}" for name, version in known.items()) or "none"
    return check(known, "pipelines", found, remedy("nodes_missing"), bad="WARN")


def _folder(folder: DataFolder) -> list[Check]:
    if not folder.home.exists():
        return []
    listed = [folder.home, *(path for path in folder.home.rglob("*") if not path.is_symlink())]
    opened = [path for path in listed if _others_may(path)]
    foreign = [path for path in listed if _owner(path) not in (os.getuid(), None)]
    lacking = [name for name in SECRETS if folder.exists() and not folder.secret(name).is_file()]
    home = folder.home
    return [
        check(
            not opened,
            "data folder's modes",
            f"{len(opened)} files open to others" if opened else f"{home}, its owner's alone",
            f"chmod -R go= {home}",
        ),
        check(
            not foreign,
            "data folder's owner",
            f"{len(foreign)} files of another user" if foreign else "you",
            f"sudo chown -R $USER {home}",
        ),
        check(
            not lacking,
            "secrets",
            f"missing: {', '.join(lacking)}" if lacking else "present",
            remedy("secret_missing"),
        ),
    ]


def _others_may(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.lstat().st_mode) & 0o077)
    except OSError:
        return False


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def _disk(folder: DataFolder, settings: Settings) -> Check:
    place = folder.home
    while not place.exists():
        place = place.parent
    free_gb = shutil.disk_usage(place).free / 1e9
    found = f"{free_gb:.1f} GB free"
    advice = "free some space, or choose another --data; nothing is deleted by itself"
    if free_gb < _LEAST_DISK_GB:
        return Check("FAIL", "disk", found, advice)
    return check(free_gb >= settings.stack.disk_free_warning_gb, "disk", found, advice, bad="WARN")


def _quarantine(folder: DataFolder, settings: Settings) -> list[Check]:
    """Whether what the gate refuses can still be kept."""
    place, limits = folder.quarantine, settings.quarantine
    if not place.is_dir():
        return []
    if not os.access(place, os.W_OK | os.X_OK):
        advice = f"sudo chown -R $USER {place}"
        return [Check("WARN", "quarantine", "cannot be written", advice)]
    usage = Quarantine(place, limits.max_bytes, limits.max_records).usage()
    used = max(usage.bytes / max(limits.max_bytes, 1), usage.records / limits.max_records)
    found = f"{usage.records} refused files, {used:.0%} full"
    if usage.beyond:
        found += f", {usage.beyond} more came when it was full"
    advice = "radloop quarantine list; radloop quarantine purge --older-than 30"
    return [check(used < _NEARLY_FULL, "quarantine", found, advice, bad="WARN")]


def _ports(state: State) -> list[Check]:
    """Of a stack that does not run: what `up` would find."""
    wanted = {"HTTP": state.http_port, "DICOM": state.dicom_port, "Redis": state.redis_port}
    if state.gateway_port:
        wanted["gateway"] = state.gateway_port
    advice = "up takes another; or: sudo systemctl disable --now orthanc redis-server"
    return [
        check(
            is_free(port),
            f"{name} port",
            f"{port} is {'free' if is_free(port) else 'taken by another program'}",
            advice,
            bad="WARN",
        )
        for name, port in wanted.items()
    ]
