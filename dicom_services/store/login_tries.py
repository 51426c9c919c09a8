"""Counts tries to log in, in the database: five in a quarter of an hour, then none for as long."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Engine, delete
from sqlalchemy.orm import Session
from sqlmodel import col

from dicom_services.errors import AccessError
from dicom_services.store.tables import LoginTriesRow

Kind = Literal["password", "code"]
MOST: Final = 5
WINDOW: Final = timedelta(minutes=15)


def count_try(engine: Engine, kind: Kind, name: str, now: datetime) -> None:
    """Count one before it is judged, so that parallel tries cannot exceed the limit.

    Names that nobody has are counted alike: a lock says nothing about who exists.

    Raises
    ------
    AccessError
        `too_many_tries` with the seconds to wait.
    """
    key = _key(kind, name)
    with Session(engine) as database, database.begin():
        expired = col(LoginTriesRow.since) <= now - WINDOW
        database.execute(delete(LoginTriesRow).where(expired))
        _make(database, key, now)
        row = database.get_one(LoginTriesRow, key, with_for_update=True)
        locked = row.count >= MOST
        if not locked:
            row.count += 1
            # The quarter of an hour begins anew with each try that counts.
            row.since = now
        left_s = int((row.since + WINDOW - now).total_seconds())
    if locked:
        raise AccessError("too_many_tries", seconds=max(1, left_s))


def forget_tries(engine: Engine, kind: Kind, name: str) -> None:
    """After a success."""
    with Session(engine) as database, database.begin():
        database.execute(
            delete(LoginTriesRow).where(col(LoginTriesRow.name_key) == _key(kind, name))
        )


def _make(database: Session, key: str, now: datetime) -> None:
    if database.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        made = insert_postgresql(LoginTriesRow).values(name_key=key, count=0, since=now)
        database.connection().execute(made.on_conflict_do_nothing())
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_sqlite

        new = insert_sqlite(LoginTriesRow).values(name_key=key, count=0, since=now)
        database.connection().execute(new.on_conflict_do_nothing())


def _key(kind: Kind, name: str) -> str:
    return hashlib.sha256(f"radloop {kind}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
