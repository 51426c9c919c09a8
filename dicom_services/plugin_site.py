"""The libraries of Orthanc's embedded interpreter, in a folder of their own, and where they lie."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from dicom_services.errors import ConfigError, UnavailableError
from dicom_services.settings import config_folder

# Orthanc's Python plugin of Debian 12 is linked to this interpreter.
EMBEDDED_PYTHON: Final = Path("/usr/bin/python3.11")
LOCK: Final = "plugin.lock"
_PACKAGE: Final = "orthanc_plugins"


def plugin_site() -> Path:
    """Beside the virtual environment's own folders; never on its path."""
    return Path(sys.prefix) / "radloop-plugin"


def plugin_package() -> Path:
    """The folder of the installed `orthanc_plugins`, found without importing it.

    Raises
    ------
    ConfigError
        `plugin_missing`.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for home in (spec and spec.submodule_search_locations) or ():
        if (Path(home) / "plugin.py").is_file():
            return Path(home).resolve()
    raise ConfigError("plugin_missing")


def install_plugin_site() -> None:
    """Install for the embedded interpreter what config/plugin.lock names: these bytes, no others.

    Raises
    ------
    ConfigError
        `config_folder_missing`.
    UnavailableError
        `plugin_site_install` when pip did not succeed; its own words stand above.
    """
    beside = plugin_site().with_name(f"{plugin_site().name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--require-hashes", "-r", str(config_folder() / LOCK), "--target", str(beside)]
    if subprocess.run(command, check=False).returncode:  # house: time-limit - slow lines
        shutil.rmtree(beside, ignore_errors=True)
        raise UnavailableError("plugin_site_install")
    # A running Orthanc finds the old folder or the new one, never half of one.
    shutil.rmtree(plugin_site(), ignore_errors=True)
    beside.rename(plugin_site())


def plugin_site_works(site: Path, package_parent: Path) -> bool:
    """Whether the embedded interpreter itself can import what the plugin needs."""
    program = "import rq, redis, orthanc_plugins.routing"
    try:
        done = subprocess.run(
            [str(EMBEDDED_PYTHON), "-B", "-c", program],
            env={"PYTHONPATH": f"{site}:{package_parent}", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
