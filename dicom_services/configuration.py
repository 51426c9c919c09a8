"""Writes what the programs of a stack read: Orthanc, our plugin, Redis, workers, gateway."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import ipaddress
import json
import ssl
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dicom_services.data_folder import DataFolder, State, write_private
from dicom_services.errors import ConfigError
from dicom_services.modalities import Modality, active, read_modalities
from dicom_services.orthanc_config import SERVICE, orthanc_config
from dicom_services.plugin_site import plugin_package
from dicom_services.redis_config import redis_config
from dicom_services.settings import GatewaySettings, Settings, read_secret
from dicom_services.supervisor_config import (
    front_program,
    gateway_program,
    orthanc_program,
    redis_program,
    supervisor_config,
    worker_program,
)

# Once other machines may send: `radloop up --dicom-listen`.
_EVERY_ADDRESS: Final = "0.0.0.0"  # noqa: S104  # nosec B104
_SOURCES: Final = ("*.py", "*.js", "*.html", "*.css")
# Modules that need the standard library only.
SHARED_WITH_PLUGIN: Final = ("gate", "quarantine")


def write_configuration(folder: DataFolder, settings: Settings, state: State) -> None:
    """Write every configuration file from the settings and from what was decided."""
    modalities = read_modalities(folder.modalities_json)
    orthanc = orthanc_config(folder, state, settings.orthanc, modalities)
    plugin = _plugin_config(folder, settings, state, modalities)
    node = _node_config(folder, settings, state)
    password = read_secret(folder.secret("redis"))
    front = _front_config(folder, settings, state, modalities)
    gateway = _gateway_config(folder, settings, state)
    redis = redis_config(state.redis_port, folder.home / "redis", password)
    _link_plugin(folder)
    write_private(folder.orthanc_json, _text(orthanc))
    write_private(folder.plugin_json, _text(plugin))
    write_private(folder.node_json, _text(node))
    write_private(folder.front_json, _text(front))
    write_private(folder.gateway_json, _text(gateway))
    write_private(folder.redis_conf, redis)
    # Modalities reach a running Orthanc over HTTP: they alone need no restart.
    fixed = {key: value for key, value in orthanc.items() if key != "DicomModalities"}
    rules = settings.routing.file.read_text("utf-8")
    code = _code_digest("orthanc_plugins") + _shared_digest()
    services = _code_digest("dicom_services")
    nodes = services + _code_digest("ai_nodes")
    certificate = _file_digest(settings.gateway.tls_certificate)
    # The front reads its callers anew by itself.
    door = {key: value for key, value in front.items() if key != "callers"}
    programs = (
        redis_program(folder, redis),
        front_program(folder, _text([door, services])),
        orthanc_program(folder, _text([fixed, plugin, rules, code])),
        worker_program(folder, state.workers, _text([node, nodes])),
        gateway_program(folder, _text([gateway, services, certificate])),
    )
    write_private(folder.supervisord_conf, supervisor_config(folder, programs))


def write_modality_configuration(
    folder: DataFolder, settings: Settings, state: State, modalities: Iterable[Modality]
) -> None:
    """Bring changed modalities into the files of the front and of the next start of Orthanc."""
    known = tuple(modalities)
    told = active(known, dicom_listen=state.dicom_listen)
    _replace(folder.front_json, "callers", _callers(folder, told))
    _replace(
        folder.orthanc_json,
        "DicomModalities",
        {one.name: one.for_orthanc(folder.home) for one in told},
    )
    _replace(folder.plugin_json, "quiet_per_source_s", _quiet(settings, known))


def software_version() -> str:
    """Of the installed distribution."""
    return importlib.metadata.version("radloop")


def _plugin_config(
    folder: DataFolder, settings: Settings, state: State, modalities: Iterable[Modality]
) -> dict[str, Any]:
    return {
        "version": 1,
        "software_version": software_version(),
        "redis": _redis(folder, state),
        "signing_key_file": str(folder.secret("signing_key")),
        "routing_file": str(settings.routing.file),
        "quiet_s": settings.completeness.quiet_s,
        "quiet_per_source_s": _quiet(settings, modalities),
        "reconcile_s": settings.completeness.reconcile_s,
        "object_scale": settings.front.object_scale,
        "job_timeout_s": settings.queue.job_timeout_s,
        "retry_s": list(settings.queue.retry_s),
        "pipelines": pipelines_of_machine(),
        "storage": str(folder.home / "orthanc"),
        "run": str(folder.home / "run"),
        "supervisor_log": str(folder.logs / "supervisord.log"),
        "quarantine": str(folder.quarantine),
        "quarantine_bytes": settings.quarantine.max_bytes,
        "quarantine_records": settings.quarantine.max_records,
    }


def _front_config(
    folder: DataFolder, settings: Settings, state: State, modalities: Iterable[Modality]
) -> dict[str, Any]:
    return {
        "version": 1,
        "listen": _EVERY_ADDRESS if state.dicom_listen else "127.0.0.1",
        "port": state.dicom_port,
        "aet": settings.orthanc.aet,
        "orthanc_port": state.orthanc_dicom_port,
        "slots": settings.orthanc.dicom_threads,
        "archive_wait_s": settings.front.archive_wait_s,
        "connections": settings.front.connections,
        "callers": _callers(folder, active(modalities, dicom_listen=state.dicom_listen)),
        "quarantine": str(folder.quarantine),
        "quarantine_bytes": settings.quarantine.max_bytes,
        "quarantine_records": settings.quarantine.max_records,
        "store": str(folder.home / "orthanc"),
        "scratch": str(folder.home / "scratch"),
        "reserve_bytes": int(settings.front.disk_reserve_gb * 1e9),
        "object_scale": settings.front.object_scale,
        "most_bytes": int(settings.front.largest_instance_gb * 1e9),
    }


def _gateway_config(folder: DataFolder, settings: Settings, state: State) -> dict[str, Any]:
    own = settings.gateway
    require_private(own)
    return {
        "version": 1,
        "software_version": software_version(),
        "listen": own.host,
        "port": state.gateway_port,
        "names": list(own.names),
        "tls_certificate": own.tls_certificate,
        "tls_key": own.tls_key,
        "behind_proxy": own.behind_proxy,
        "viewer": own.viewer or str(built_viewer()),
        "session_idle_minutes": own.session_idle_minutes,
        "session_hours": own.session_hours,
        "upload_bytes": int(own.upload_gb * 1e9),
        "orthanc_url": f"http://127.0.0.1:{state.http_port}",
        "orthanc_user": SERVICE,
        "orthanc_password": str(folder.secret("orthanc_service")),
        "database": settings.database.url or f"sqlite:///{folder.database}",
        "audit_anchor": str(folder.audit_anchor),
        **{
            name: str(folder.secret(name))
            for name in ("vault_key", "audit_key", "patient_key", "token_key")
        },
        "quarantine": str(folder.quarantine),
        "quarantine_bytes": settings.quarantine.max_bytes,
        "quarantine_records": settings.quarantine.max_records,
        "scratch": str(folder.home / "scratch"),
        "reserve_bytes": int(settings.front.disk_reserve_gb * 1e9),
        "object_scale": settings.front.object_scale,
    }


def require_private(own: GatewaySettings) -> None:
    """What is listened to from elsewhere must be encrypted, by the gateway or in front of it."""
    try:
        alone = ipaddress.ip_address(own.host).is_loopback
    except ValueError:
        raise ConfigError("gateway_host") from None
    if bool(own.tls_certificate) != bool(own.tls_key):
        raise ConfigError("gateway_certificate")
    if not (alone or own.tls_certificate or own.behind_proxy):
        raise ConfigError("gateway_without_tls")
    if own.tls_certificate:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(own.tls_certificate, own.tls_key)
        except (OSError, ValueError):
            raise ConfigError("gateway_certificate") from None
        if certificate_days(Path(own.tls_certificate)) < 0:
            # With HSTS no browser lets anybody past it.
            raise ConfigError("gateway_certificate_expired")


def certificate_days(certificate: Path) -> int:
    """For how many days a certificate is good; below zero once it has expired.

    Raises
    ------
    ConfigError
        `gateway_certificate`.
    """
    # Costs a tenth of a second, which most stacks need not pay.
    from cryptography import x509

    try:
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        raise ConfigError("gateway_certificate") from None
    return (read.not_valid_after_utc - datetime.now(UTC)).days


def built_viewer() -> Path:
    """Where the viewer's build leaves it, in a source tree."""
    return Path(__file__).resolve().parents[1] / "ohif_extensions" / "dist" / "viewer"


def _callers(folder: DataFolder, modalities: Iterable[Modality]) -> list[dict[str, str | int]]:
    callers: list[dict[str, str | int]] = []
    for one in modalities:
        alias, alias_port = one.alias(folder.home)
        callers.append(
            {
                "aet": one.aet,
                "address": one.address,
                "port": one.port,
                "alias": alias,
                "alias_port": alias_port,
            }
        )
    return callers


def _node_config(folder: DataFolder, settings: Settings, state: State) -> dict[str, Any]:
    return {
        "version": 1,
        "orthanc": {
            "url": f"http://127.0.0.1:{state.http_port}",
            "user": SERVICE,
            "password_file": str(folder.secret("orthanc_service")),
        },
        "redis": _redis(folder, state),
        "signing_key_file": str(folder.secret("signing_key")),
        "queues": list(settings.queue.names),
        "job_timeout_s": settings.queue.job_timeout_s,
        "retry_s": list(settings.queue.retry_s),
        "fetch_threads": settings.workers.fetch_threads,
        "segmentation": settings.results.segmentation,
        "scratch": str(folder.home / "scratch"),
        "models": {
            "home": str(folder.home / "models"),
            # Workers load; only people fetch.
            **settings.models.model_dump(mode="json", exclude={"hub", "hub_token"}),
        },
    }


def _redis(folder: DataFolder, state: State) -> dict[str, str | int]:
    return {
        "host": "127.0.0.1",
        "port": state.redis_port,
        "password_file": str(folder.secret("redis")),
    }


def _quiet(settings: Settings, modalities: Iterable[Modality]) -> dict[str, float]:
    quiet = dict(settings.completeness.quiet_per_source_s)
    return quiet | {one.aet: one.quiet_s for one in modalities if one.quiet_s is not None}


def pipelines_of_machine() -> dict[str, str]:
    """Name to version of the pipelines of this machine; none where it does not compute."""
    command = [sys.executable, "-m", "dicom_services.cli", "pipelines", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        told = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return {str(name): str(version) for name, version in told.items()}


def _link_plugin(folder: DataFolder) -> None:
    """A folder with our plugin and what it shares: Orthanc's interpreter must not see the rest."""
    shared = folder.plugin_path / "dicom_services"
    shared.mkdir(mode=0o700, exist_ok=True)
    home = Path(__file__).resolve().parent
    links = {shared / f"{name}.py": home / f"{name}.py" for name in SHARED_WITH_PLUGIN}
    for link, target in {folder.plugin_path / "orthanc_plugins": plugin_package(), **links}.items():
        if not (link.is_symlink() and link.resolve() == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def _code_digest(package: str) -> str:
    """Of a package's sources, so that an upgrade restarts what runs them."""
    digest = hashlib.sha256()
    spec = importlib.util.find_spec(package)
    for home in (spec and spec.submodule_search_locations) or ():
        for path in sorted(path for kind in _SOURCES for path in Path(home).rglob(kind)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _file_digest(named: str) -> str:
    """Of a file that may be replaced under its name, such as a renewed certificate."""
    try:
        return hashlib.sha256(Path(named).read_bytes()).hexdigest() if named else ""
    except OSError:
        return ""


def _shared_digest() -> str:
    home = Path(__file__).resolve().parent
    sources = [(home / f"{name}.py").read_bytes() for name in SHARED_WITH_PLUGIN]
    return hashlib.sha256(b"".join(sources)).hexdigest()


def _replace(path: Path, key: str, value: object) -> None:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise ConfigError("data_folder_not_writable") from None
    write_private(path, _text(content | {key: value}))


def _text(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
