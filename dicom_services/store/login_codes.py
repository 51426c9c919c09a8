"""One-time codes: read out or pasted once, within an hour, stored as digests."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, update
from sqlalchemy.orm import Session
from sqlmodel import col

from dicom_services.store.tables import LoginCodeRow

LIFETIME: Final = timedelta(hours=1)
# 78 bits; no digit or letter that looks like another one.
_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH: Final = 16
_GROUP: Final = 4
_LONGEST_TYPED: Final = 64


def new_code(database: Session, user: UUID, now: datetime) -> str:
    """A code in four groups; an earlier one of the user no longer works."""
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    forget_codes(database, user)
    database.add(
        LoginCodeRow(id=_digest(user, code), user_id=user, created_at=now, ends_at=now + LIFETIME)
    )
    return "-".join(code[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP))


def use_code(database: Session, user: UUID, typed: str, now: datetime) -> bool:
    """Whether it is the user's code, for the first time."""
    code = re.sub(r"[\s-]", "", typed[:_LONGEST_TYPED]).upper()
    # One statement, so that of many parallel tries exactly one succeeds.
    used = database.connection().execute(
        update(LoginCodeRow)
        .where(
            col(LoginCodeRow.id) == _digest(user, code),
            col(LoginCodeRow.used_at).is_(None),
            col(LoginCodeRow.ends_at) > now,
        )
        .values(used_at=now)
    )
    return used.rowcount == 1


def forget_codes(database: Session, user: UUID) -> None:
    """None of the user's codes works any more."""
    database.execute(delete(LoginCodeRow).where(col(LoginCodeRow.user_id) == user))


def forget_ended_codes(database: Session, now: datetime) -> None:
    """Make room."""
    database.execute(delete(LoginCodeRow).where(col(LoginCodeRow.ends_at) <= now))


def _digest(user: UUID, code: str) -> str:
    named = b"radloop code\0" + user.bytes + code.encode("utf-8", "surrogatepass")
    return hashlib.sha256(named).hexdigest()
