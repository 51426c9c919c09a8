"""Rows of users: found by name, shown without their password, with their patients."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session
from sqlmodel import col

from dicom_services.access.roles import Role, checked_role
from dicom_services.errors import InputError, MissingError
from dicom_services.store.tables import AssignmentRow, UserRow

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}\Z")
_LONGEST_DISPLAY_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class User:
    """An account as people manage it."""

    id: UUID
    name: str
    display_name: str
    role: Role
    all_patients: bool
    disabled: bool
    has_password: bool
    patients: int
    """How many are assigned."""
    created_at: datetime


def plain_name(name: str) -> str:
    """As it is kept, whatever was typed; it may be nobody's."""
    return name[:200].strip().casefold()


def checked_name(name: str) -> str:
    """The name as it is kept: lower case, fit for a command line and a log.

    Raises
    ------
    InputError
        `user_name`.
    """
    plain = plain_name(name)
    if not _NAME.match(plain):
        raise InputError("user_name")
    return plain


def checked_display_name(text: str) -> str:
    """A name in any script, without signs that change how the rest is shown.

    Raises
    ------
    InputError
        `user_display_name`.
    """
    plain = unicodedata.normalize("NFC", text.strip())
    if len(plain) > _LONGEST_DISPLAY_NAME or not plain.isprintable():
        raise InputError("user_display_name")
    return plain


def find_user(database: Session, plain: str, *, alone: bool = False) -> UserRow | None:
    """The row of that name; `alone` keeps others from changing it meanwhile."""
    # What could be nobody's name may hold what no database takes.
    if not _NAME.match(plain):
        return None
    wanted = select(UserRow).where(col(UserRow.name) == plain)
    return database.scalars(wanted.with_for_update() if alone else wanted).first()


def user_row(database: Session, plain: str, *, alone: bool = False) -> UserRow:
    """The row of that name.

    Raises
    ------
    MissingError
        `user_unknown`.
    """
    found = find_user(database, plain, alone=alone)
    if found is None:
        raise MissingError("user_unknown")
    return found


def patients_of(database: Session, user: UserRow) -> frozenset[str]:
    """Keys of the patients assigned to a user."""
    mine = col(AssignmentRow.user_id) == user.id
    return frozenset(database.scalars(select(col(AssignmentRow.patient_key)).where(mine)))


def patients_needed(database: Session, user: UserRow) -> frozenset[str]:
    """The same; none where the user sees everyone anyway."""
    everyone = user.all_patients or user.role == "admin"
    return frozenset() if everyone else patients_of(database, user)


def users_with_counts() -> Select[UserRow, int]:
    """Rows with how many patients are assigned."""
    count = (
        select(func.count())
        .where(col(AssignmentRow.user_id) == col(UserRow.id))
        .correlate(UserRow)
        .scalar_subquery()
    )
    return select(UserRow, count)


def shown(row: UserRow, patients: int) -> User:
    """A row as people may see it."""
    return User(
        id=row.id,
        name=row.name,
        display_name=row.display_name,
        role=checked_role(row.role),
        all_patients=row.all_patients,
        disabled=row.disabled,
        has_password=row.password is not None,
        patients=patients,
        created_at=row.created_at,
    )
