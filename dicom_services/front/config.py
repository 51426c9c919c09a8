"""What the front is told: where it listens, who may call, what lies where; read on change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_services.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Caller:
    """A registered modality.

    Parameters
    ----------
    aet, address : str
        Its title, and where its associations must come from.
    port : int
        Where it listens.
    alias : str
        The loopback address that stands for it towards Orthanc, in both directions.
    alias_port : int
        Where Orthanc reaches it, on `alias`.
    """

    aet: str
    address: str
    port: int
    alias: str
    alias_port: int


@dataclass(frozen=True, slots=True)
class FrontConfig:
    """The front's file, see `configuration.py`."""

    listen: str
    port: int
    aet: str
    orthanc_port: int
    slots: int
    archive_wait_s: float
    connections: int
    callers: tuple[Caller, ...]
    quarantine: Path
    quarantine_bytes: int
    quarantine_records: int
    store: Path
    scratch: Path
    reserve_bytes: int
    object_scale: float
    most_bytes: int

    def caller(self, aet: str) -> Caller | None:
        """The registered modality of this title."""
        return next((one for one in self.callers if one.aet == aet), None)


class ConfigFile:
    """The configuration as it stands; another process may replace the file at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = -1
        self._config = self._read()

    def current(self) -> FrontConfig:
        """What the file says now; what it said before while it cannot be read."""
        try:
            if self._path.stat().st_mtime_ns != self._seen:
                self._config = self._read()
        except (OSError, ConfigError):
            pass
        return self._config

    def _read(self) -> FrontConfig:
        try:
            seen = self._path.stat().st_mtime_ns
            told: dict[str, Any] = json.loads(self._path.read_text("utf-8"))
            if told.pop("version") != 1:
                raise ConfigError("front_config")
            for name in ("quarantine", "store", "scratch"):
                told[name] = Path(told[name])
            told["callers"] = tuple(Caller(**one) for one in told["callers"])
            config = FrontConfig(**told)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise ConfigError("front_config") from None
        self._seen = seen
        return config
