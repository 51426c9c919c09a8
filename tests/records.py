"""A store of records for tests: a clock that stands still, SQLite, a PostgreSQL of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text

from dicom_services.access.principal import Principal
from dicom_services.store.accounts import Accounts
from dicom_services.store.audit import Audit
from dicom_services.store.correction import NewCorrection
from dicom_services.store.corrections import Corrections
from dicom_services.store.vault import Vault

PASSWORD = "four words of mine"
KEY = bytes(range(32))
STUDY = "5" * 32
PATIENT = "a" * 32


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: datetime = datetime(2027, 3, 4, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass
class Store:
    """Everything of one database, on one clock."""

    engine: Engine
    folder: Path
    clock: Clock = field(default_factory=Clock)
    vault: Vault = field(default_factory=lambda: Vault([KEY]))

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.engine, KEY, self.clock)
        self.corrections = Corrections(self.engine, self.vault, self.clock)
        self.audit = self.another_audit()

    def another_audit(self) -> Audit:
        """As another process has it."""
        return Audit(self.engine, self.folder / "audit.anchor", KEY, self.clock)

    def user(self, name: str = "ann", role: str = "radiologist", **more: Any) -> uuid.UUID:
        """An account that logs in with PASSWORD."""
        return self.accounts.add_user(name, role, PASSWORD, **more)

    def principal(self, name: str = "ann") -> Principal:
        return Principal(uuid.uuid5(uuid.NAMESPACE_DNS, name), name, "doctor", False, frozenset())

    def run(self, statement: str, **values: Any) -> Any:
        """What somebody with the database's file could do."""
        with self.engine.begin() as connection:
            return connection.execute(text(statement), values)


def correction(author: uuid.UUID, **more: Any) -> NewCorrection:
    """What a reader sends."""
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "study_key": STUDY,
        "author": author,
        "made_at": datetime(2027, 3, 4, 11, 59, tzinfo=UTC),
        "verdict": "modify",
        "reason": "bone",
        "note": "rib, not calcium",
        "body": {"lesions": [{"id": "1", "counted": False}]},
    }
    return NewCorrection(**(values | more))


def postgresql_programs() -> Path | None:
    """The newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else (Path(on_path).parent if on_path else None)


@contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """A cluster of its own, reached by a socket alone; its URL with a place for the database."""
    home = Path(tempfile.mkdtemp(prefix="radloop-pg-"))
    try:
        owner = _server_owner()
        os.chown(home, owner.pw_uid, owner.pw_gid)
        settings = ("-A", "trust", "-U", "radloop", "-E", "UTF8")
        _as_server(home, str(programs / "initdb"), "-D", str(home / "data"), *settings)
        start_postgresql(programs, home)
        try:
            yield f"postgresql://radloop@/{{name}}?host={home}"
        finally:
            _control(programs, home, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home)


def start_postgresql(programs: Path, home: Path) -> None:
    """Start the cluster in `home`, also after it was killed."""
    options = f"-c listen_addresses='' -c unix_socket_directories={home} -c max_connections=200"
    _control(programs, home, "-l", str(home / "log"), "-o", options, "start")


def _control(programs: Path, home: Path, *words: str) -> None:
    _as_server(home, str(programs / "pg_ctl"), "-D", str(home / "data"), "-w", *words)


def _as_server(home: Path, *words: str) -> None:
    owner = _server_owner()
    other = owner.pw_uid != os.getuid()
    subprocess.run(
        words,
        user=owner.pw_uid if other else None,
        group=owner.pw_gid if other else None,
        cwd=home,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=120,
    )


def _server_owner() -> pwd.struct_passwd:
    # The server refuses to run as root, and its user cannot look into pytest's folders.
    return pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())


def new_database(url: str) -> str:
    """The URL of a fresh database in the cluster."""
    name = f"records_{uuid.uuid4().hex}"
    admin = create_engine(
        url.format(name="postgres").replace("postgresql:", "postgresql+psycopg:"),
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return url.format(name=name)
