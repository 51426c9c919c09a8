"""Opens the records of a stack: its database, brought up to date, and what reads and writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from dicom_services.access.patients import PatientKeys
from dicom_services.errors import ConfigError
from dicom_services.settings import read_secret
from dicom_services.store.accounts import Accounts
from dicom_services.store.audit import Audit
from dicom_services.store.corrections import Corrections
from dicom_services.store.database import migrate, open_database, utc_now
from dicom_services.store.sessions import Limits
from dicom_services.store.vault import Vault


@dataclass(frozen=True, slots=True)
class Places:
    """Where the records of a stack and their secrets are."""

    database: str
    """URL."""
    audit_anchor: Path
    vault_key: Path
    audit_key: Path
    patient_key: Path
    token_key: Path


@dataclass(frozen=True, slots=True)
class Records:
    """Everything of one database, open."""

    engine: Engine
    accounts: Accounts
    corrections: Corrections
    vault: Vault
    audit: Audit
    patients: PatientKeys

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def open_records(
    places: Places,
    *,
    limits: Limits | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Records:
    """Migrate the database and open it.

    Raises
    ------
    ConfigError
        `database_url`, `database_unwritable`, `database_newer`, `secret_...`.
    UnavailableError
        `database_unavailable`.
    """
    vault = Vault(secret_keys(places.vault_key))
    audit_key, patient_key, token_key = (
        secret_keys(path)[0] for path in (places.audit_key, places.patient_key, places.token_key)
    )
    engine = open_database(places.database)
    migrate(engine)
    return Records(
        engine=engine,
        accounts=Accounts(engine, token_key, clock, limits),
        corrections=Corrections(engine, vault, clock),
        vault=vault,
        audit=Audit(engine, places.audit_anchor, audit_key, clock),
        patients=PatientKeys(patient_key),
    )


def secret_keys(path: Path) -> list[bytes]:
    """The keys in a secret's file: 64 hexadecimal digits a line, newest first.

    Raises
    ------
    ConfigError
        `secret_missing`, `secret_readable_by_others`, `secret_empty`, `secret_form`.
    """
    try:
        keys = [bytes.fromhex(line) for line in read_secret(path).split()]
    except ValueError:
        raise ConfigError("secret_form", name=path.name) from None
    if any(len(key) != 32 for key in keys):
        raise ConfigError("secret_form", name=path.name)
    return keys
