"""Routing rules, checked and explained by the code that runs in Orthanc, in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dicom_services.errors import ConfigError, UnavailableError

_MODULE: Final = "orthanc_plugins.routing"
_TIMEOUT_S: Final = 120


def check_rules(rules: Path) -> dict[str, Any]:
    """Rule names with their pipeline and queue.

    Raises
    ------
    ConfigError
        `routing_missing` or `routing`; what is wrong stands on standard error.
    """
    return dict(_run("check", rules, b""))


def explain(rules: Path, series: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every rule and clause for every series, true or false; no value of a patient comes back.

    Parameters
    ----------
    rules : Path
        A routing.toml.
    series : sequence of {"id", "study", "facts"}
        Facts by DICOM keyword.
    """
    told = _run("explain", rules, json.dumps({"series": list(series)}).encode())
    return [dict(one) for one in told["series"]]


def _run(task: str, rules: Path, facts: bytes) -> Any:
    if not rules.is_file():
        raise ConfigError("routing_missing")
    command = [sys.executable, "-m", _MODULE, task, "--rules", str(rules)]
    try:
        done = subprocess.run(
            command, input=facts, stdout=subprocess.PIPE, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        raise UnavailableError("routing_check") from None
    if done.returncode:
        raise ConfigError("routing")
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise UnavailableError("routing_check") from None
