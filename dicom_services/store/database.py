"""The database: SQLite that loses nothing, or PostgreSQL by URL; its migrations run once."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from dicom_services.errors import ConfigError, RadloopError, UnavailableError

HEAD: Final = "0001"
"""The newest migration; a test compares it with the files."""
_BUSY_MS: Final = 10_000
_MIGRATION_LOCK: Final = 0x7261_646C_6F6F_7001
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def utc_now() -> datetime:
    """The clock, unless a test gives another."""
    return datetime.now(UTC)


def open_database(url: str) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql://...`; connects to nothing yet.

    Raises
    ------
    ConfigError
        `database_url`, `database_unwritable`.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("database_url") from None
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        return create_engine(
            parsed,
            pool_pre_ping=True,
            pool_size=10,
            hide_parameters=True,
            connect_args={"connect_timeout": 5},
        )
    if parsed.drivername != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ConfigError("database_url")
    try:
        # SQLite gives its journal the rights of the file itself.
        os.close(os.open(parsed.database, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError:
        raise ConfigError("database_unwritable") from None
    engine = create_engine(parsed, pool_size=10, max_overflow=30, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read; they never wait for a writer."""
    return engine.execution_options(radloop_reads=True)


@contextmanager
def translated(code: str = "database_unavailable") -> Iterator[None]:
    """What the database cannot do now becomes UnavailableError, without its text."""
    try:
        yield
    except RadloopError:
        raise
    except (DBAPIError, SQLAlchemyError, sqlite3.Error):
        raise UnavailableError(code) from None


def migrate(engine: Engine) -> None:
    """Bring the tables up to date; several processes may call it at once.

    One transaction that only one process can hold: a kill in the middle leaves nothing behind.

    Raises
    ------
    ConfigError
        `database_newer` when a newer radloop made it.
    UnavailableError
        `database_unavailable`.
    """
    with translated():
        with reading(engine).connect() as connection:
            if _version(connection) == HEAD:
                return
        run_migrations(engine, HEAD)


def run_migrations(engine: Engine, target: str) -> None:
    """Go up or down to `target`, "base" for nothing at all."""
    # Alembic costs a fifth of a second, which a current database need not pay.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    known = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        now = _version(connection)
        if now == target:
            return
        if now is not None and now not in known:
            raise ConfigError("database_newer")
        config.attributes["connection"] = connection
        # Revisions are numbered, so that their order is the alphabet's.
        if target == "base" or (now is not None and target < now):
            command.downgrade(config, target)
        else:
            command.upgrade(config, target)


def _version(connection: Connection) -> str | None:
    if not _has_table(connection, "alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _has_table(connection: Connection, name: str) -> bool:
    """Whether the table is there."""
    return connection.dialect.has_table(connection, name)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # pysqlite must not begin transactions of its own accord; _begin_sqlite does.
    connection.isolation_level = None
    for line in (
        f"PRAGMA busy_timeout = {_BUSY_MS}",
        "PRAGMA journal_mode = WAL",
        # With NORMAL a power cut may take the last commits with it.
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        # Else INSERT OR REPLACE would delete past the triggers.
        "PRAGMA recursive_triggers = ON",
        "PRAGMA trusted_schema = OFF",
    ):
        connection.execute(line).close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes then fails under load unless it begins as a writer.
    reads = connection.get_execution_options().get("radloop_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
