"""Settings: default.toml under the file RADLOOP_CONFIG names, read once into frozen models."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom_services.errors import ConfigError

OVERLAY_VARIABLE: Final = "RADLOOP_CONFIG"
_PACKAGE: Final = "radloop_config"
# Paths in the settings, from the folder of the file that names them.
_FILES: Final = (
    ("routing", "file"),
    ("gateway", "tls_certificate"),
    ("gateway", "tls_key"),
    ("gateway", "viewer"),
    ("models", "file"),
    ("models", "hub_token"),
)
_KEY: Final = re.compile(r"[A-Za-z0-9_. -]{1,80}\Z")

Port = Annotated[int, Field(ge=1024, le=65535)]
Seconds = Annotated[float, Field(gt=0.0, le=86400.0)]
AeTitle = Annotated[
    str, Field(pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?$")
]
"""PS3.5 table 6.2-1: at most 16 characters, no backslash, spaces at the ends not significant."""
QueueName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PortSettings(_Section):
    """Preferred ports; `radloop up` takes the next free one."""

    http: Port = 8042
    """Orthanc's own default, so that known addresses work."""
    dicom: Port = 4242
    """Orthanc's own default."""
    redis: Port = 6379
    """Redis's own default; always on 127.0.0.1."""
    gateway: Port = 8000
    """What browsers call: viewer, API and DICOMweb."""


class CompletenessSettings(_Section):
    """When a series counts as complete."""

    quiet_s: Seconds = 15.0
    """Longer than the pauses of a scanner that sends while it reconstructs."""
    reconcile_s: Seconds = 30.0
    """What an event lost in a restart costs at most."""
    quiet_per_source_s: dict[AeTitle, Seconds] = Field(default_factory=dict)
    """By AE title of the sender."""


class QueueSettings(_Section):
    """How jobs wait, end and are tried again."""

    names: tuple[QueueName, ...] = Field(default=("cpu",), min_length=1)
    """Queues the workers of this machine listen to."""
    job_timeout_s: Annotated[int, Field(ge=1, le=86400)] = 1800
    """Half an hour: the slowest pipeline on the smallest node, twice."""
    retry_s: tuple[Annotated[int, Field(ge=1, le=86400)], ...] = Field(
        default=(10, 60, 300), min_length=1
    )
    """Pauses before each further try; a service that restarts is back within the first two."""


class WorkerSettings(_Section):
    """The workers of this machine."""

    count: Annotated[int, Field(ge=0, le=64)] = 1
    """One: a second needs a second core and the memory of another 600-slice CT."""
    fetch_threads: Annotated[int, Field(ge=1, le=32)] = 4
    """Four parallel requests fetch twice as fast as one; more bring nothing."""


class OrthancSettings(_Section):
    """What of Orthanc a site may choose; the rest is fixed in orthanc_config.py."""

    aet: AeTitle = "RADLOOP"
    """What modalities must call it: other called titles are refused."""
    dicom_threads: Annotated[int, Field(ge=4, le=128)] = 16
    """With the default of four, four silent connections block every modality."""


class RoutingSettings(_Section):
    """Which series goes to which pipeline."""

    file: Path = Path("routing.toml")
    """Rules as data; from the folder of the file that names it."""


class StackSettings(_Section):
    """The supervised processes as a whole."""

    start_timeout_s: Seconds = 60.0
    """A first start on a slow disk, with room."""
    stop_timeout_s: Seconds = 45.0
    """More than Orthanc's and the workers' own stopping time of 30 s."""
    disk_free_warning_gb: Annotated[float, Field(ge=0.0)] = 10.0
    """Some forty thousand CT slices: time to react."""


class FrontSettings(_Section):
    """What modalities call, before Orthanc."""

    connections: Annotated[int, Field(ge=16, le=4096)] = 512
    """At once; beyond it whoever has said nothing longest gives way."""
    archive_wait_s: Seconds = 20.0
    """Orthanc is back from a crash within five; then senders are told to come again."""
    largest_instance_gb: Annotated[float, Field(gt=0.0, le=4.0)] = 4.0
    """DICOM's own limit of one element; larger ones exist in no archive."""
    object_scale: Annotated[float, Field(ge=1.0, le=100.0)] = 1.0
    """How many times eight thousand frames an object may have; Orthanc needs 1 GB for each."""
    disk_reserve_gb: Annotated[float, Field(ge=0.0)] = 1.0
    """Below this much free space instances are refused (0xA700), while results still fit."""


class QuarantineSettings(_Section):
    """How much of what the gate refuses is kept for a person to look at."""

    max_gb: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.0
    """Two thousand CT slices: enough to see what a modality does wrong, no harm to a disk."""
    max_records: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Forty megabytes, listed within a second; a record has no image."""

    @property
    def max_bytes(self) -> int:
        """As the quarantine counts."""
        return int(self.max_gb * 1e9)


class GatewaySettings(_Section):
    """What browsers and API clients call."""

    host: Annotated[str, Field(pattern=r"^[0-9A-Fa-f.:]{2,45}$")] = "127.0.0.1"
    """The address it listens on; another than this machine's own needs a certificate."""
    names: tuple[HostName, ...] = ()
    """Names it may be called by, beside localhost and its address; others are refused, for a
    foreign page may point a name of its own at this machine."""
    tls_certificate: str = ""
    """A PEM file with the chain, from the folder of the file that names it; "" for no TLS."""
    tls_key: str = ""
    """Its private key, which nobody else may read."""
    behind_proxy: bool = False
    """Another server on this network speaks TLS in front of it and checks nothing else."""
    session_idle_minutes: Annotated[float, Field(gt=0.0, le=1440.0)] = 30.0
    """A reader who looks at one case does something more often; a left screen is nobody's."""
    session_hours: Annotated[float, Field(gt=0.0, le=168.0)] = 12.0
    """The longest shift."""
    upload_gb: Annotated[float, Field(gt=0.0, le=64.0)] = 4.0
    """Of one request; a study of four thousand slices has half of it."""
    viewer: str = ""
    """Folder of the built viewer; "" for the one of this installation."""


class DatabaseSettings(_Section):
    """Where users, corrections and the audit are kept."""

    url: Annotated[str, Field(pattern=r"^$|^(sqlite:///|postgresql\+psycopg://)[\x21-\x7e]+$")] = ""
    """"" for SQLite in the data folder; PostgreSQL where several gateways share one."""


class ResultSettings(_Section):
    """How results are written for the archive they go to."""

    segmentation: Literal["binary", "labelmap"] = "binary"
    """Few PACS show any segmentation, and fewer a label map, which is an object of 2024."""


class ModelSettings(_Section):
    """Which models there are, and what of a card they may have."""

    file: Path = Path("models.toml")
    """The manifest; from the folder of the file that names it."""
    hub: Annotated[str, Field(pattern=r"^https://[\x21-\x7e]{3,200}$")] = "https://huggingface.co"
    """Where entries with a hub's name are fetched; a mirror inside the house, perhaps."""
    hub_token: str = ""
    """A file, 0600, with an access token for models that are given to known people only."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,2})?)$")] = "auto"
    """"auto" takes a card where one is."""
    card_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.85
    """Of a card's memory that jobs may lease together; each process's CUDA context takes more."""
    lease_wait_s: Annotated[float, Field(ge=0.0, le=86400.0)] = 300.0
    """How long a job waits for a card before it takes the processor: longer there than this."""


class Settings(_Section):
    """Everything under config/, checked."""

    ports: PortSettings = PortSettings()
    completeness: CompletenessSettings = CompletenessSettings()
    queue: QueueSettings = QueueSettings()
    workers: WorkerSettings = WorkerSettings()
    orthanc: OrthancSettings = OrthancSettings()
    routing: RoutingSettings = RoutingSettings()
    stack: StackSettings = StackSettings()
    front: FrontSettings = FrontSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    gateway: GatewaySettings = GatewaySettings()
    database: DatabaseSettings = DatabaseSettings()
    models: ModelSettings = ModelSettings()
    results: ResultSettings = ResultSettings()


def config_folder() -> Path:
    """The folder of default.toml: the installed package, else config/ of a source tree.

    Raises
    ------
    ConfigError
        `config_folder_missing`.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    homes = [Path(home) for home in (spec and spec.submodule_search_locations) or ()]
    homes.append(Path(__file__).resolve().parents[1] / "config")
    for home in homes:
        if (home / "default.toml").is_file():
            return home
    raise ConfigError("config_folder_missing")


def read_settings(overlay: Path | None = None) -> Settings:
    """Read default.toml and what lies over it.

    Parameters
    ----------
    overlay : Path or None
        A TOML file whose keys replace single keys of default.toml.

    Raises
    ------
    ConfigError
        `settings_missing`, `settings_not_toml`, or `settings` with the unknown or wrong key.
    """
    merged: dict[str, Any] = {}
    layers = {"default": config_folder() / "default.toml"}
    if overlay:
        layers["overlay"] = overlay
    for name, path in layers.items():
        layer = _read_toml(path, name)
        for section, key in _FILES:
            named = layer.get(section)
            if isinstance(named, dict) and isinstance(named.get(key), str) and named[key]:
                named[key] = str((path.parent / Path(named[key]).expanduser()).resolve())
        merged = _overlay(merged, layer)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            "settings",
            key=key if _KEY.match(key) else "unprintable",
            reason=str(first["type"]),
            wrong=error.error_count(),
        ) from None


def overlay_path() -> Path | None:
    """The file RADLOOP_CONFIG names; read at a process's entry only."""
    named = os.environ.get(OVERLAY_VARIABLE, "")
    return Path(named).expanduser().resolve() if named else None


def read_secret(path: Path) -> str:
    """The text of a secret's file, which nobody but its owner may read.

    Raises
    ------
    ConfigError
        `secret_missing`, `secret_readable_by_others` or `secret_empty`, with the file's name.
    """
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096).strip()
    except OSError:
        raise ConfigError("secret_missing", name=path.name) from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError("secret_readable_by_others", name=path.name)
    if not text:
        raise ConfigError("secret_empty", name=path.name)
    return text


def _read_toml(path: Path, layer: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError("settings_missing", layer=layer) from None
    except ValueError:
        raise ConfigError("settings_not_toml", layer=layer) from None


def _overlay(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _overlay(below, value)
        else:
            merged[key] = value
    return merged
