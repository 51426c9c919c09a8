"""The records on SQLite and on a real PostgreSQL: many at once, killed, without room."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dicom_services.errors import AccessError, CorruptError, InputError, UnavailableError
from dicom_services.store.correction import StoredObject
from dicom_services.store.database import migrate, open_database, run_migrations
from tests.records import (
    STUDY,
    Store,
    correction,
    new_database,
    postgresql,
    postgresql_programs,
    start_postgresql,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here")
    with postgresql(programs) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'radloop.db'}"
    return new_database(request.getfixturevalue("cluster"))


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    engine = open_database(url)
    migrate(engine)
    yield Store(engine, tmp_path)
    engine.dispose()


def python(program: str, *words: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,  # type: ignore[call-overload]
    )


def tables(url: str) -> set[str]:
    engine = open_database(url)
    from sqlalchemy import inspect

    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


# Migrations

MIGRATE = """
import sys
from dicom_services.store.database import migrate, open_database
migrate(open_database(sys.argv[1]))
"""

KILLED_MIGRATION = """
import os, signal, sys
from sqlalchemy import event
from dicom_services.store.database import migrate, open_database
engine = open_database(sys.argv[1])
left = [int(sys.argv[2])]
@event.listens_for(engine, "before_cursor_execute")
def count(connection, cursor, statement, *_):
    if statement.lstrip().upper().startswith(("CREATE", "INSERT", "UPDATE")):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
migrate(engine)
"""


def test_five_processes_may_migrate_at_once(url):
    running = [python(MIGRATE, url) for _ in range(5)]
    ends = [(one.communicate(timeout=120)[1], one.returncode) for one in running]
    assert ends == [("", 0)] * 5
    assert "corrections" in tables(url)


@pytest.mark.parametrize("statements", [0, 1, 5, 12, 16])
def test_a_kill_in_the_middle_of_a_migration_leaves_nothing_behind(url, statements):
    killed = python(KILLED_MIGRATION, url, str(statements))
    assert (killed.communicate(timeout=60)[1], killed.returncode) == ("", -signal.SIGKILL)
    assert tables(url) == set()
    engine = open_database(url)
    migrate(engine)
    engine.dispose()
    assert {"corrections", "users", "audit"} <= tables(url)


def test_a_filled_database_goes_down_and_up(store):
    ann = store.user()
    store.accounts.login_code("ann")
    store.accounts.assign("ann", "a" * 32)
    sent = store.corrections.add(correction(ann))
    store.corrections.mark_stored(sent.id, [StoredObject("SR", "2.25.1", "2.25.2")])
    store.audit.write(None, "x")
    run_migrations(store.engine, "base")
    migrate(store.engine)
    assert store.accounts.users() == []
    assert store.corrections.add(correction(store.user())).seq == 1


# Append-only

CHANGES = (
    "UPDATE {table} SET {column} = 'x'",
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE {column} <> 'nothing'",
)


@pytest.mark.parametrize(("table", "column"), [("corrections", "verdict"), ("audit", "outcome")])
@pytest.mark.parametrize("change", CHANGES)
def test_the_database_itself_refuses_to_change_what_was_said(store, table, column, change):
    store.corrections.add(correction(store.user()))
    store.audit.write(None, "x")
    with pytest.raises(DBAPIError, match="append-only"):
        store.run(change.format(table=table, column=column))
    assert len(store.corrections.of_study(STUDY)) == 1
    assert store.audit.verify().intact


def test_postgresql_refuses_to_empty_the_tables(store):
    if store.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no TRUNCATE")
    store.corrections.add(correction(store.user()))
    for table in ("corrections CASCADE", "audit"):
        with pytest.raises(DBAPIError, match="append-only"):
            store.run(f"TRUNCATE {table}")


def test_a_user_who_said_something_cannot_be_deleted(store):
    store.corrections.add(correction(store.user()))
    with pytest.raises(DBAPIError):
        store.run("DELETE FROM users")


# Many at once


def test_readers_at_once_are_numbered_without_gap_or_double(store):
    authors = [store.user(name) for name in ("ann", "bob", "cleo", "dan")]
    with ThreadPoolExecutor(16) as pool:
        added = list(
            pool.map(
                lambda number: store.corrections.add(correction(authors[number % 4])), range(60)
            )
        )
    assert sorted(one.seq for one in added) == list(range(1, 61))
    assert [one.seq for one in store.corrections.of_study(STUDY)] == list(range(1, 61))


def test_one_correction_sent_twenty_times_at_once_is_one_row(store):
    sent = correction(store.user())
    with ThreadPoolExecutor(20) as pool:
        added = list(pool.map(lambda _: store.corrections.add(sent), range(20)))
    assert sum(one.new for one in added) == 1
    assert {one.seq for one in added} == {1}


def test_one_id_for_two_studies_at_once_is_the_first_ones(store):
    ann = store.user()
    for _ in range(10):
        same = uuid.uuid4()

        def attempt(number, same=same):
            try:
                key = f"{number:032x}"
                return store.corrections.add(correction(ann, id=same, study_key=key)).new
            except InputError as error:
                return error.code

        with ThreadPoolExecutor(8) as pool:
            ends = list(pool.map(attempt, range(8)))
        assert sorted(map(str, ends)) == ["True", *["correction_id_taken"] * 7]


def test_of_fifty_tries_with_one_code_at_once_exactly_one_logs_in(store):
    store.user()
    code = store.accounts.login_code("ann")

    def attempt(_):
        try:
            return bool(store.accounts.login_with_code("ann", code))
        except AccessError:
            return False

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(attempt, range(50))) == 1


def test_of_fifty_wrong_passwords_at_once_five_are_judged(store):
    store.user()

    def attempt(_):
        try:
            store.accounts.login("ann", "wrong words of mine")
        except AccessError as error:
            return error.code

    with ThreadPoolExecutor(50) as pool:
        codes = list(pool.map(attempt, range(50)))
    assert (codes.count("login_refused"), codes.count("too_many_tries")) == (5, 45)


def test_one_patient_assigned_twenty_times_at_once_is_assigned_once(store):
    store.user("bob", "doctor")
    with ThreadPoolExecutor(20) as pool:
        new = list(pool.map(lambda _: store.accounts.assign("bob", "a" * 32), range(20)))
    assert sum(new) == 1


def test_a_password_changed_by_many_at_once_ends_every_session(store):
    store.user()
    begun = store.accounts.login("ann", "four words of mine")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.accounts.logout_everywhere("ann"), range(8)))
    assert store.accounts.session(begun.session) is None
    assert store.run("SELECT generation FROM users").scalar() == 8


def test_audits_of_two_processes_at_once_are_one_chain(store):
    other = store.another_audit()

    def write(number):
        (store.audit if number % 2 else other).write(None, f"test.{number}", actor="ann")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(120)))
    report = store.audit.verify()
    assert (report.rows, report.anchored, report.problems) == (120, 120, ())


def test_sessions_and_moments_are_the_same_on_both(store):
    store.user("bob", "doctor")
    store.accounts.assign("bob", "a" * 32)
    begun = store.accounts.login_with_code("bob", store.accounts.login_code("bob"))
    assert store.accounts.session(begun.session) == begun
    store.clock.go(minutes=29)
    later = store.accounts.session(begun.session)
    assert later
    assert later.patients == {"a" * 32}
    assert (later.expires_at - begun.expires_at).total_seconds() == 29 * 60
    store.clock.go(minutes=30)
    assert store.accounts.session(begun.session) is None


def test_an_altered_row_is_found_on_both(store):
    sent = correction(store.user())
    store.corrections.add(sent)
    for number in range(5):
        store.audit.write(None, f"test.{number}")
    if store.engine.dialect.name == "sqlite":
        store.run("DROP TRIGGER corrections_no_update")
        store.run("DROP TRIGGER audit_no_update")
    else:
        store.run("DROP FUNCTION radloop_append_only() CASCADE")
    store.run("UPDATE corrections SET verdict = 'accept'")
    store.run("UPDATE audit SET action = 'x' WHERE seq = 3")
    with pytest.raises(CorruptError, match="correction_altered"):
        store.corrections.get(sent.id)
    assert [one.seq for one in store.audit.verify().problems] == [3]


# Kills and want

WRITER = """
import sys, uuid
from pathlib import Path
from dicom_services.store.database import open_database, utc_now
from tests.records import Store, correction
folder = Path(sys.argv[2])
store = Store(open_database(sys.argv[1]), folder, clock=utc_now)
author = uuid.UUID(sys.argv[3])
while True:
    sent = correction(author)
    store.audit.write(None, "correct", actor="ann")
    print("audit", flush=True)
    store.corrections.add(sent)
    print(sent.id, flush=True)
"""


def test_nothing_that_was_acknowledged_is_lost_by_ten_kills(store, url, tmp_path):
    ann = store.user()
    told: list[str] = []
    for _ in range(10):
        writer = python(WRITER, url, str(tmp_path), str(ann))
        assert writer.stdout
        told.append(writer.stdout.readline().strip())
        time.sleep(0.2)
        writer.kill()
        out, error = writer.communicate(timeout=30)
        assert error == ""
        told += [line for line in out.split("\n") if line == "audit" or len(line) == 36]
    kept = {str(one.id) for one in store.corrections.of_study(STUDY)}
    said = {line for line in told if line != "audit"}
    assert len(said) > 20
    assert said <= kept
    report = store.audit.verify()
    assert report.intact
    assert report.rows >= told.count("audit")


FULL = """
import resource, sys
from pathlib import Path
from dicom_services import log
from dicom_services.errors import UnavailableError
from dicom_services.store.database import open_database
from tests.records import STUDY, Store
folder = Path(sys.argv[1])
store = Store(open_database(f"sqlite:///{folder / 'radloop.db'}"), folder)
log.start("test")
written = 0
try:
    for number in range(100_000):
        store.audit.view(store.principal(), f"{number:032x}", "view")
        written += 1
except UnavailableError as error:
    print(error.code, written)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.audit.view(store.principal(), f"{written:032x}", "view")
print(store.audit.verify().intact, store.audit.verify().rows >= written + 1)
"""


def test_without_room_nothing_is_shown_and_with_room_it_goes_on(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'radloop.db'}")
    migrate(engine)
    engine.dispose()

    def limit() -> None:
        # As a full disk: what would make a file larger than this fails.
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))

    full = python(FULL, str(tmp_path), preexec_fn=limit)
    out, error = full.communicate(timeout=120)
    first, second = out.splitlines()
    assert first.startswith("audit_unavailable ")
    assert int(first.split()[1]) > 10
    assert second == "True True"
    assert "audit.failed" in error
    assert "Traceback" not in error


def test_a_database_that_is_down_is_unavailable_until_it_is_back(tmp_path):
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here")
    with postgresql(programs) as cluster:
        engine = open_database(new_database(cluster))
        migrate(engine)
        store = Store(engine, tmp_path)
        store.user()
        begun = store.accounts.login("ann", "four words of mine")
        home = Path(cluster.split("host=")[1])
        postmaster = int((home / "data" / "postmaster.pid").read_text().split()[0])
        # Every connection is broken at once, as when the machine goes away.
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        os.kill(postmaster, signal.SIGQUIT)
        deadline = time.monotonic() + 30
        while (home / "data" / "postmaster.pid").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        for call in (
            lambda: store.accounts.session(begun.session),
            lambda: store.accounts.login("ann", "four words of mine"),
            lambda: store.corrections.of_study(STUDY),
            lambda: migrate(engine),
        ):
            with pytest.raises(UnavailableError, match="database_unavailable"):
                call()
        with pytest.raises(UnavailableError, match="audit_unavailable"):
            store.audit.view(begun, STUDY, "view")
        start_postgresql(programs, home)
        assert store.accounts.session(begun.session)
        store.audit.view(begun, STUDY, "view")
        assert store.audit.verify().intact
        engine.dispose()
