"""Counts tries to log in, in the database: five in a quarter of an hour, then none for as long."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Engine, case, delete, select
from sqlalchemy.dialects import postgresql, sqlite
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
    count, since = col(LoginTriesRow.count), col(LoginTriesRow.since)
    over = since <= now - WINDOW
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    # One statement, for between two of them a success might forget the row.
    counted = (
        insert(LoginTriesRow)
        .values(name_key=_key(kind, name), count=1, since=now)
        .on_conflict_do_update(
            index_elements=["name_key"],
            set_={
                "count": case((over, 1), (count <= MOST, count + 1), else_=count),
                # The quarter of an hour begins anew with each try that is judged.
                "since": case((over | (count < MOST), now), else_=since),
            },
        )
        .returning(count, since)
    )
    with Session(engine) as database, database.begin():
        tries, begun = database.execute(counted).one()
    if tries > MOST:
        left_s = int((begun + WINDOW - now).total_seconds())
        raise AccessError("too_many_tries", seconds=max(1, left_s))


def forget_tries(engine: Engine, kind: Kind, name: str, now: datetime) -> None:
    """After a success; what is over for others is cleared away with it."""
    over = (
        select(col(LoginTriesRow.name_key))
        .where(col(LoginTriesRow.since) <= now - WINDOW)
        .with_for_update(skip_locked=True)
    )
    mine = col(LoginTriesRow.name_key) == _key(kind, name)
    with Session(engine) as database, database.begin():
        database.execute(delete(LoginTriesRow).where(mine))
        database.execute(delete(LoginTriesRow).where(col(LoginTriesRow.name_key).in_(over)))


def _key(kind: Kind, name: str) -> str:
    return hashlib.sha256(f"radloop {kind}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
