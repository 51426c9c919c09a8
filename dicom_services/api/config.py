"""What the gateway is told: where it listens, what lies where, how long sessions last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_services.errors import ConfigError

if TYPE_CHECKING:
    from dicom_services.store.records import Places


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The gateway's file, see `configuration.py`.

    `names` are the hosts it may be called by beside the loopback ones; `behind_proxy` says that
    another server in front of it speaks TLS.
    """

    software_version: str
    listen: str
    port: int
    names: tuple[str, ...]
    tls_certificate: str
    tls_key: str
    behind_proxy: bool
    viewer: Path
    session_idle_minutes: float
    session_hours: float
    upload_bytes: int
    orthanc_url: str
    orthanc_user: str
    orthanc_password: Path
    database: str
    audit_anchor: Path
    vault_key: Path
    audit_key: Path
    patient_key: Path
    token_key: Path
    quarantine: Path
    quarantine_bytes: int
    quarantine_records: int
    scratch: Path
    reserve_bytes: int
    object_scale: float

    @property
    def places(self) -> Places:
        """Where the records are."""
        # Brings the database's packages, which the first moments of the gateway do without.
        from dicom_services.store.records import Places

        return Places(
            database=self.database,
            audit_anchor=self.audit_anchor,
            vault_key=self.vault_key,
            audit_key=self.audit_key,
            patient_key=self.patient_key,
            token_key=self.token_key,
        )

    @property
    def tls(self) -> bool:
        """Whether it speaks TLS itself."""
        return bool(self.tls_certificate)

    @property
    def secure(self) -> bool:
        """Whether browsers reach it by https."""
        return self.tls or self.behind_proxy


_PATHS = (
    *("viewer", "orthanc_password", "audit_anchor", "vault_key", "audit_key"),
    *("patient_key", "token_key", "quarantine", "scratch"),
)


def read_config(path: Path) -> GatewayConfig:
    """Read gateway.json.

    Raises
    ------
    ConfigError
        `gateway_config`.
    """
    try:
        told: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if told.pop("version") != 1:
            raise ConfigError("gateway_config")
        told["names"] = tuple(str(name).lower() for name in told["names"])
        for name in _PATHS:
            told[name] = Path(told[name])
        return GatewayConfig(**told)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError("gateway_config") from None
