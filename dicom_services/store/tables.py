"""The tables: accounts, corrections and the audit; patients and studies by keyed digests only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Dialect, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy import String as SqlString
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


class UtcTime(TypeDecorator[datetime]):
    """A moment: with its zone in PostgreSQL, as UTC in SQLite, always with UTC in Python."""

    impl = SqlDateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Only moments with a zone are moments."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _moment(*, nullable: bool = False) -> Any:
    return Field(sa_column=Column(UtcTime(), nullable=nullable))


def _text(length: int, *, key: bool = False, unique: bool = False) -> Any:
    return Field(
        sa_column=Column(SqlString(length), primary_key=key, unique=unique, nullable=False)
    )


def _user(*, key: bool = False) -> Any:
    return Field(
        sa_column=Column(
            ForeignKey("users.id", ondelete="RESTRICT"), primary_key=key, nullable=False
        )
    )


class UserRow(SQLModel, table=True):
    """An account; never deleted, for corrections and audit name it."""

    __tablename__ = "users"

    id: UUID = Field(primary_key=True)
    name: str = _text(64, unique=True)
    display_name: str = _text(100)
    role: str = _text(16)
    all_patients: bool
    password: str | None = Field(default=None, max_length=200)
    disabled: bool
    generation: int
    """Raised by whatever must end every session and token at once."""
    created_at: datetime = _moment()


class SessionRow(SQLModel, table=True):
    """A browser that is logged in, by the SHA-256 of its cookie."""

    __tablename__ = "sessions"
    __table_args__ = (Index("sessions_of_user", "user_id"),)

    id: str = _text(64, key=True)
    user_id: UUID = _user()
    generation: int
    created_at: datetime = _moment()
    seen_at: datetime = _moment()
    ends_at: datetime = _moment()


class LoginCodeRow(SQLModel, table=True):
    """A one-time code, by its SHA-256."""

    __tablename__ = "login_codes"
    __table_args__ = (Index("login_codes_of_user", "user_id"),)

    id: str = _text(64, key=True)
    user_id: UUID = _user()
    created_at: datetime = _moment()
    ends_at: datetime = _moment()
    used_at: datetime | None = _moment(nullable=True)


class LoginTriesRow(SQLModel, table=True):
    """Tries to log in under a name, whether or not anybody has it."""

    __tablename__ = "login_tries"

    name_key: str = _text(64, key=True)
    count: int
    since: datetime = _moment()


class AssignmentRow(SQLModel, table=True):
    """A patient whom a user may see."""

    __tablename__ = "assignments"

    user_id: UUID = _user(key=True)
    patient_key: str = _text(32, key=True)
    created_at: datetime = _moment()


class CorrectionRow(SQLModel, table=True):
    """What a reader said of a result; added, never changed: triggers see to it."""

    __tablename__ = "corrections"
    __table_args__ = (UniqueConstraint("study_key", "seq", name="corrections_in_study"),)

    id: UUID = Field(primary_key=True)
    study_key: str = _text(32)
    seq: int
    author_id: UUID = _user()
    verdict: str = _text(16)
    made_at: datetime = _moment()
    received_at: datetime = _moment()
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """Everything said and drawn, with the columns above, so that an altered one shows."""


class CorrectionDeliveryRow(SQLModel, table=True):
    """Whether a correction's DICOM objects are in the archive yet."""

    __tablename__ = "correction_deliveries"

    correction_id: UUID = Field(
        sa_column=Column(
            ForeignKey("corrections.id", ondelete="RESTRICT"), primary_key=True, nullable=False
        )
    )
    tries: int
    code: str = _text(64)
    """Why the last try failed."""
    stored_at: datetime | None = _moment(nullable=True)
    sealed: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    """The objects."""


class AuditRow(SQLModel, table=True):
    """Who did what; each row is chained to the one before it."""

    __tablename__ = "audit"
    __table_args__ = (Index("audit_of_user", "actor"), Index("audit_of_study", "study_key"))

    seq: int = Field(
        sa_column=Column(BigInteger, primary_key=True, autoincrement=False, nullable=False)
    )
    at: str = _text(32)
    actor_id: str = _text(36)
    actor: str = _text(64)
    action: str = _text(64)
    study_key: str = _text(32)
    outcome: str = _text(64)
    facts: str = Field(sa_column=Column(SqlString, nullable=False))
    chain: str = _text(64)
    mac: str = _text(64)
