"""The database: private, durable, and its tables are what the migrations make."""

from __future__ import annotations

import sqlite3
import stat
import threading
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlmodel import SQLModel

from dicom_services.errors import ConfigError, UnavailableError
from dicom_services.store import database
from dicom_services.store.database import HEAD, migrate, open_database, reading, run_migrations
from dicom_services.store.records import Places, open_records, secret_keys
from dicom_services.store.tables import UtcTime
from tests.records import correction


def test_the_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_migrations_make_the_tables_that_the_code_names(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_file_and_its_journal_are_their_owners_alone(store):
    store.user()
    for file in store.folder.glob("radloop.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_what_is_committed_is_on_the_disk(store):
    with reading(store.engine).connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_down_and_up_again_leaves_empty_tables(store):
    store.corrections.add(correction(store.user()))
    store.audit.write(None, "x")
    run_migrations(store.engine, "base")
    with store.engine.connect() as connection:
        left = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        assert list(left.scalars()) == ["alembic_version"]
    migrate(store.engine)
    assert store.accounts.users() == []


def test_a_database_of_a_newer_radloop_is_left_alone(store):
    store.user()
    store.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="database_newer"):
        migrate(store.engine)
    assert len(store.accounts.users()) == 1


@pytest.mark.parametrize(
    "url",
    ["", "radloop.db", "sqlite://", "sqlite:///:memory:", "mysql://x/y", "sqlite+aiosqlite:///x"],
)
def test_another_kind_of_database_is_refused(url):
    with pytest.raises(ConfigError, match="database_url"):
        open_database(url)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="database_unwritable"):
        open_database(f"sqlite:///{tmp_path / 'absent' / 'radloop.db'}")


def test_a_file_that_is_no_database_is_unavailable_and_left_alone(tmp_path):
    path = tmp_path / "radloop.db"
    path.write_bytes(b"not a database, but somebody's file" * 100)
    engine = open_database(f"sqlite:///{path}")
    with pytest.raises(UnavailableError, match="database_unavailable"):
        migrate(engine)
    engine.dispose()
    assert path.read_bytes().startswith(b"not a database")


def test_who_reads_waits_for_no_writer(store):
    store.user()
    path = store.engine.url.database
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    done = threading.Event()

    def read():
        store.accounts.users()
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert done.wait(5)
    thread.join()
    writer.close()


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        UtcTime().process_bind_param(datetime(2027, 1, 1), None)  # noqa: DTZ001


def places(folder: Path) -> Places:
    names = ("vault_key", "audit_key", "patient_key", "token_key")
    for number, name in enumerate(names):
        path = folder / name
        path.write_text(f"{number:064x}\n")
        path.chmod(0o600)
    return Places(
        f"sqlite:///{folder / 'radloop.db'}",
        folder / "audit.anchor",
        *(folder / name for name in names),
    )


def test_one_call_opens_everything(tmp_path):
    records = open_records(places(tmp_path))
    assert records.accounts.users() == []
    records.close()


@pytest.mark.parametrize("content", ["xyz", "ab", "0" * 63, f"{'0' * 64}\nab"])
def test_a_secret_of_another_form_is_refused(tmp_path, content):
    told = places(tmp_path)
    told.vault_key.write_text(content)
    with pytest.raises(ConfigError, match="secret_form"):
        open_records(told)


def test_a_second_line_is_an_older_key(tmp_path):
    path = tmp_path / "vault_key"
    path.write_text(f"{1:064x}\n{2:064x}\n")
    path.chmod(0o600)
    assert secret_keys(path) == [(1).to_bytes(32, "big"), (2).to_bytes(32, "big")]
