"""What a computing machine knows: where Orthanc and Redis are, and its own limits."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_services.errors import ConfigError
from dicom_services.orthanc import Orthanc
from dicom_services.settings import ModelSettings, ResultSettings

VARIABLE: Final = "RADLOOP_NODE_CONFIG"


@dataclass(frozen=True, slots=True)
class Node:
    """The settings `radloop up` writes for its workers, with the secrets read from their files."""

    orthanc_url: str
    orthanc_user: str
    orthanc_password: str
    redis_host: str
    redis_port: int
    redis_password: str
    signing_key: bytes
    queues: tuple[str, ...]
    fetch_threads: int
    models_home: Path
    models: ModelSettings
    results: ResultSettings

    def orthanc(self) -> Orthanc:
        """A new connection; it must not be shared across a fork."""
        return Orthanc(
            self.orthanc_url,
            self.orthanc_user,
            self.orthanc_password,
            threads=self.fetch_threads,
        )


def read_node() -> Node:
    """The settings in the file that RADLOOP_NODE_CONFIG names.

    Raises
    ------
    ConfigError
        `node_config` when the variable, the file or one of its keys is missing.
    """
    path = os.environ.get(VARIABLE, "")
    try:
        table: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
        if table["version"] != 1:
            raise ConfigError("node_config", version=1)
        orthanc, redis, models = table["orthanc"], table["redis"], dict(table["models"])
        home = Path(models.pop("home"))
        return Node(
            orthanc_url=str(orthanc["url"]),
            orthanc_user=str(orthanc["user"]),
            orthanc_password=_secret(orthanc["password_file"]),
            redis_host=str(redis["host"]),
            redis_port=int(redis["port"]),
            redis_password=_secret(redis["password_file"]),
            signing_key=bytes.fromhex(_secret(table["signing_key_file"])),
            queues=tuple(str(name) for name in table["queues"]),
            fetch_threads=int(table["fetch_threads"]),
            models_home=home,
            models=ModelSettings.model_validate(models),
            results=ResultSettings.model_validate({"segmentation": table["segmentation"]}),
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError("node_config") from error


def _secret(path: str) -> str:
    return Path(path).read_text("ascii").strip()
