"""What login, sessions, audit and corrections cost, beside one plain durable commit."""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dicom_services.store.database import migrate, open_database, utc_now
from tests.bench.rig import emit
from tests.records import (
    PASSWORD,
    STUDY,
    Store,
    correction,
    new_database,
    postgresql,
    postgresql_programs,
)

THREADS = 16
MASK = {"mask": [{"sop_instance_uid": f"1.2.{i}", "runs": list(range(600))} for i in range(100)]}
"""About 300 kB, as a large calcified heart's."""


def main() -> None:
    """SQLite in a temporary folder, and PostgreSQL where it is installed."""
    with tempfile.TemporaryDirectory() as name:
        measure("sqlite", f"sqlite:///{name}/radloop.db", Path(name))
    programs = postgresql_programs()
    if programs:
        with postgresql(programs) as cluster, tempfile.TemporaryDirectory() as name:
            measure("postgresql", new_database(cluster), Path(name))


def measure(engine_name: str, url: str, folder: Path) -> None:
    """One line an operation."""
    engine = open_database(url)
    migrate(engine)
    store = Store(engine, folder, clock=utc_now)
    ann = store.user("ann", all_patients=True)
    store.user("bob", "doctor")
    for number in range(20):
        store.accounts.assign("bob", f"{number:032x}")
    anns, bobs = (store.accounts.login(name, PASSWORD) for name in ("ann", "bob"))
    token = store.accounts.issue_bearer("ann", PASSWORD)
    store.audit.view(anns, STUDY, "view")

    def view_another() -> None:
        store.audit.view(anns, uuid.uuid4().hex, "view")

    def correct(**more: object) -> None:
        store.corrections.add(correction(ann, study_key=uuid.uuid4().hex, **more))

    operations: dict[str, tuple[Callable[[], object], int]] = {
        "login": (lambda: store.accounts.login("ann", PASSWORD), 20),
        "session, all patients": (lambda: store.accounts.session(anns.session), 500),
        "session, 20 patients": (lambda: store.accounts.session(bobs.session), 500),
        "bearer token": (lambda: store.accounts.bearer(token), 500),
        "audit, first view of a minute": (view_another, 100),
        "audit, view again": (lambda: store.audit.view(anns, STUDY, "view"), 5000),
        "correction": (correct, 50),
        "correction with a 300 kB mask": (lambda: correct(body=MASK), 20),
    }
    commit_ms = median_ms(plain_commits(folder), 100)
    for what, (operation, times) in operations.items():
        millis = median_ms(operation, times)
        emit(
            f"records: {engine_name}: {what}",
            millis=round(millis, 4),
            ratio_to_one_sqlite_commit=round(millis / commit_ms, 4),
        )
    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: view_another(), range(20 * THREADS)))
    each = (time.perf_counter() - begin) / (20 * THREADS) * 1e3
    emit(f"records: {engine_name}: audit, {THREADS} threads, each new", millis=round(each, 4))
    begin = time.perf_counter()
    rows = store.audit.verify().rows
    emit(
        f"records: {engine_name}: audit verified",
        rows=rows,
        rows_per_s=round(rows / (time.perf_counter() - begin)),
    )
    engine.dispose()


def plain_commits(folder: Path) -> Callable[[], object]:
    """One row, durable, by sqlite3 alone."""
    plain = sqlite3.connect(folder / "plain.db", isolation_level=None)
    plain.execute("PRAGMA journal_mode = WAL")
    plain.execute("PRAGMA synchronous = FULL")
    plain.execute("CREATE TABLE one (text TEXT)")
    return lambda: plain.execute("INSERT INTO one VALUES ('x')")


def median_ms(operation: Callable[[], object], times: int) -> float:
    """After one that does not count."""
    operation()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        operation()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1e3


if __name__ == "__main__":
    main()
