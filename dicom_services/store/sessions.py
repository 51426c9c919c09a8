"""Sessions of browsers: 256 random bits in a cookie, their digest in the database."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session
from sqlmodel import col

from dicom_services.access.principal import Principal
from dicom_services.access.roles import checked_role
from dicom_services.store.tables import SessionRow, UserRow
from dicom_services.store.users import patients_needed

_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
# A session in use is written down as such this often, for each write waits for the disk.
_SEEN_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lives."""

    idle: timedelta = timedelta(minutes=30)
    absolute: timedelta = timedelta(hours=12)


def begin_session(database: Session, user: UserRow, now: datetime, limits: Limits) -> Principal:
    """A new one, for a user who has just proved who they are."""
    cookie = secrets.token_urlsafe(32)
    ended = col(SessionRow.ends_at) <= now
    idle = col(SessionRow.seen_at) <= now - limits.idle
    database.execute(delete(SessionRow).where(ended | idle))
    database.add(
        SessionRow(
            id=_digest(cookie),
            user_id=user.id,
            # Of the user as proved: a password changed since then ends this session too.
            generation=user.generation,
            created_at=now,
            seen_at=now,
            ends_at=now + limits.absolute,
        )
    )
    ends = now + min(limits.idle, limits.absolute)
    return principal(user, patients_needed(database, user), cookie, ends)


def resume_session(
    reading: Engine, writing: Engine | None, cookie: str, now: datetime, limits: Limits
) -> Principal | None:
    """Whose session it is; None where it ended or never was.

    It lives on by this where there is an engine to write that with.
    """
    if not _COOKIE.match(cookie):
        return None
    mine = col(SessionRow.id) == _digest(cookie)
    with Session(reading) as database:
        found = database.execute(
            select(SessionRow, UserRow)
            .join(UserRow, col(SessionRow.user_id) == col(UserRow.id))
            .where(mine)
        ).first()
        if found is None:
            return None
        row, user = found
        over = now >= row.ends_at or now - row.seen_at >= limits.idle
        if over or user.disabled or row.generation != user.generation:
            return None
        patients = patients_needed(database, user)
    seen_at = row.seen_at
    if writing is not None and now - seen_at >= min(_SEEN_EVERY, limits.idle / 10):
        with Session(writing) as database, database.begin():
            older = col(SessionRow.seen_at) < now
            database.execute(update(SessionRow).where(mine, older).values(seen_at=now))
        seen_at = now
    return principal(user, patients, cookie, min(seen_at + limits.idle, row.ends_at))


def end_session(database: Session, cookie: str) -> None:
    """This one alone."""
    database.execute(delete(SessionRow).where(col(SessionRow.id) == _digest(cookie)))


def end_sessions(database: Session, user: UUID) -> int:
    """All of a user; how many there were."""
    mine = col(SessionRow.user_id) == user
    return database.connection().execute(delete(SessionRow).where(mine)).rowcount


def living_sessions(
    database: Session, user: UUID, now: datetime, limits: Limits
) -> list[tuple[datetime, datetime]]:
    """When each began and was last seen."""
    rows = database.execute(
        select(col(SessionRow.created_at), col(SessionRow.seen_at))
        .where(
            col(SessionRow.user_id) == user,
            col(SessionRow.ends_at) > now,
            col(SessionRow.seen_at) > now - limits.idle,
        )
        .order_by(col(SessionRow.created_at))
    )
    return [(begun, seen) for begun, seen in rows]


def principal(
    user: UserRow, patients: frozenset[str], cookie: str, ends: datetime | None
) -> Principal:
    """A user as the rest of the house knows them."""
    return Principal(
        user=user.id,
        name=user.name,
        role=checked_role(user.role),
        all_patients=user.all_patients,
        patients=patients,
        session=cookie,
        csrf=_csrf(cookie) if cookie else "",
        display_name=user.display_name,
        expires_at=ends,
    )


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()


def _csrf(cookie: str) -> str:
    """Follows from the cookie, which no page can read, and does not give it away."""
    return hashlib.sha256(b"radloop csrf\0" + cookie.encode()).hexdigest()
