"""Accounts: who may log in, their sessions and tokens, and the patients they may see."""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Engine, Select, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlmodel import col

from dicom_services.access import tokens
from dicom_services.access.passwords import (
    hash_password,
    needs_rehash,
    require_good,
    verify_password,
)
from dicom_services.access.principal import Principal
from dicom_services.access.roles import Role, checked_role
from dicom_services.errors import AccessError, InputError, MissingError
from dicom_services.store.database import reading, translated, utc_now
from dicom_services.store.login_tries import count_try, forget_tries
from dicom_services.store.tables import AssignmentRow, LoginCodeRow, SessionRow, UserRow

CODE_LIFETIME: Final = timedelta(hours=1)
# 80 bits; no digit or letter that looks like another one.
_CODE_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH: Final = 16
_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}\Z")
_PATIENT_KEY: Final = re.compile(r"[0-9a-f]{32}\Z")
_LONGEST_DISPLAY_NAME: Final = 100
# A session that is in use is written down as such this often, for each write waits for the disk.
_SEEN_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lives."""

    idle: timedelta = timedelta(minutes=30)
    absolute: timedelta = timedelta(hours=12)


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


class Accounts:
    """The accounts of a database.

    What hashes a password (`login`, `issue_bearer`, `add_user`, `set_password`) takes tens of
    milliseconds and belongs on a thread.

    Parameters
    ----------
    token_key : bytes
        At least 32; signs bearer tokens and nothing else.
    """

    def __init__(
        self,
        engine: Engine,
        token_key: bytes,
        clock: Callable[[], datetime] = utc_now,
        limits: Limits | None = None,
    ) -> None:
        self._engine = engine
        self._reading = reading(engine)
        self._token_key = token_key
        self._clock = clock
        self._limits = limits or Limits()

    # Managing accounts

    def add_user(
        self,
        name: str,
        role: str,
        password: str | None,
        *,
        display_name: str = "",
        all_patients: bool = False,
    ) -> UUID:
        """A new account; without a password only a one-time code opens it.

        Raises
        ------
        InputError
            `user_name`, `user_exists`, `user_display_name`, `role_unknown`, `password_...`.
        """
        plain = checked_name(name)
        if password is not None:
            require_good(password, plain)
        row = UserRow(
            id=uuid.uuid4(),
            name=plain,
            display_name=_checked_display_name(display_name) or plain,
            role=checked_role(role),
            all_patients=all_patients,
            password=None if password is None else hash_password(password),
            disabled=False,
            generation=0,
            created_at=self._clock(),
        )
        made = row.id
        with translated():
            try:
                with Session(self._engine) as database, database.begin():
                    database.add(row)
            except IntegrityError:
                raise InputError("user_exists") from None
        return made

    def users(self) -> list[User]:
        """All, by name."""
        with translated(), Session(self._reading) as database:
            rows = database.execute(_users().order_by(col(UserRow.name))).all()
            return [_user(row, count) for row, count in rows]

    def user(self, name: str) -> User:
        """The one of that name.

        Raises
        ------
        MissingError
            `user_unknown`.
        """
        with translated(), Session(self._reading) as database:
            row = _row(database, _plain(name))
            return _user(*database.execute(_users().where(col(UserRow.id) == row.id)).one())

    def set_password(self, name: str, password: str) -> None:
        """A new password; every session, token and code of the old one ends at once."""
        plain = _plain(name)
        require_good(password, plain)
        hashed = hash_password(password)
        self._end_everything(plain, password=hashed)
        forget_tries(self._engine, "password", plain)

    def disable(self, name: str) -> None:
        """Lock the account; its sessions, tokens and codes end at once."""
        self._end_everything(_plain(name), disabled=True)

    def enable(self, name: str) -> None:
        """Open a disabled account again."""
        with translated(), Session(self._engine) as database, database.begin():
            _row(database, _plain(name)).disabled = False

    def set_role(self, name: str, role: str, *, all_patients: bool | None = None) -> None:
        """Another role, from the next request on."""
        with translated(), Session(self._engine) as database, database.begin():
            row = _row(database, _plain(name))
            row.role = checked_role(role)
            row.all_patients = row.all_patients if all_patients is None else all_patients

    def assign(self, name: str, patient_key: str) -> bool:
        """Let a user see a patient; False where they could already."""
        if not _PATIENT_KEY.match(patient_key):
            raise InputError("patient_key")
        with translated(), Session(self._engine) as database, database.begin():
            row = _row(database, _plain(name))
            if database.get(AssignmentRow, (row.id, patient_key)) is not None:
                return False
            database.add(
                AssignmentRow(user_id=row.id, patient_key=patient_key, created_at=self._clock())
            )
            return True

    def unassign(self, name: str, patient_key: str) -> bool:
        """Take a patient from a user; False where they had none such."""
        with translated(), Session(self._engine) as database, database.begin():
            row = _row(database, _plain(name))
            found = database.get(AssignmentRow, (row.id, patient_key))
            if found is not None:
                database.delete(found)
            return found is not None

    def assigned(self, name: str) -> frozenset[str]:
        """Keys of a user's patients."""
        with translated(), Session(self._reading) as database:
            return _patients(database, _row(database, _plain(name)).id)

    # Logging in

    def login(self, name: str, password: str) -> Principal:
        """Begin a session; `principal.session` is the value of its cookie.

        Raises
        ------
        AccessError
            `login_refused`, the same for whatever was wrong; `too_many_tries` with `seconds`.
        """
        user = self._proved(name, password)
        return self._begin_session(user)

    def login_code(self, name: str) -> str:
        """A code that logs in once within an hour; an earlier one no longer does.

        Raises
        ------
        MissingError
            `user_unknown`.
        InputError
            `user_disabled`.
        """
        code = "".join(secrets.choice(_CODE_ALPHABET) for _ in range(_CODE_LENGTH))
        now = self._clock()
        with translated(), Session(self._engine) as database, database.begin():
            row = _row(database, _plain(name))
            if row.disabled:
                raise InputError("user_disabled")
            database.execute(delete(LoginCodeRow).where(col(LoginCodeRow.user_id) == row.id))
            database.add(
                LoginCodeRow(
                    id=_code_digest(row.id, code),
                    user_id=row.id,
                    created_at=now,
                    ends_at=now + CODE_LIFETIME,
                )
            )
        return "-".join(code[at : at + 4] for at in range(0, _CODE_LENGTH, 4))

    def login_with_code(self, name: str, code: str) -> Principal:
        """Begin a session by a one-time code; errors as `login`."""
        plain, now = _plain(name), self._clock()
        with translated():
            count_try(self._engine, "code", plain, now)
            with Session(self._engine) as database, database.begin():
                row = _find(database, plain)
                whose = row.id if row else UUID(int=0)
                # One statement, so that of many parallel tries exactly one succeeds.
                used = (
                    database.connection()
                    .execute(
                        update(LoginCodeRow)
                        .where(
                            col(LoginCodeRow.id) == _code_digest(whose, _plain_code(code)),
                            col(LoginCodeRow.used_at).is_(None),
                            col(LoginCodeRow.ends_at) > now,
                        )
                        .values(used_at=now)
                    )
                    .rowcount
                )
                if row is None or row.disabled or used != 1:
                    raise AccessError("login_refused")
                user = _detached(row)
            forget_tries(self._engine, "code", plain)
            return self._begin_session(user)

    # Sessions

    def session(self, cookie: str) -> Principal | None:
        """Whose session it is, which lives on by this; None where it ended or never was."""
        if not _COOKIE.match(cookie):
            return None
        now = self._clock()
        digest = _digest(cookie)
        with translated(), Session(self._reading) as database:
            found = database.execute(
                select(SessionRow, UserRow)
                .join(UserRow, col(SessionRow.user_id) == col(UserRow.id))
                .where(col(SessionRow.id) == digest)
            ).first()
            if found is None:
                return None
            row, user = found
            if (
                user.disabled
                or row.generation != user.generation
                or now >= row.ends_at
                or now - row.seen_at >= self._limits.idle
            ):
                return None
            patients = _patients_needed(database, user)
            seen_at, ends_at = row.seen_at, row.ends_at
            user = _detached(user)
        if now - seen_at >= _SEEN_EVERY:
            self._seen(digest, now)
            seen_at = now
        ends = min(seen_at + self._limits.idle, ends_at)
        return _principal(user, patients, cookie, ends)

    def logout(self, cookie: str) -> None:
        """End one session."""
        with translated(), Session(self._engine) as database, database.begin():
            database.execute(delete(SessionRow).where(col(SessionRow.id) == _digest(cookie)))

    def logout_everywhere(self, name: str) -> int:
        """End every session and token of a user; how many sessions there were."""
        return self._end_everything(_plain(name), keep_codes=True)

    def sessions(self, name: str) -> list[tuple[datetime, datetime]]:
        """When each living session began and was last seen."""
        now = self._clock()
        with translated(), Session(self._reading) as database:
            rows = database.execute(
                select(col(SessionRow.created_at), col(SessionRow.seen_at))
                .where(
                    col(SessionRow.user_id) == _row(database, _plain(name)).id,
                    col(SessionRow.ends_at) > now,
                    col(SessionRow.seen_at) > now - self._limits.idle,
                )
                .order_by(col(SessionRow.created_at))
            ).all()
            return [(begun, seen) for begun, seen in rows]

    # Bearer tokens

    def issue_bearer(self, name: str, password: str) -> str:
        """A token for an API client, good for a quarter of an hour; errors as `login`."""
        user = self._proved(name, password)
        bearer = tokens.Bearer(user.id, user.generation)
        return tokens.issue(self._token_key, bearer, self._clock())

    def bearer(self, token: str) -> Principal:
        """Whose token it is.

        Raises
        ------
        AccessError
            `token_refused`, the same for whatever was wrong.
        """
        told = tokens.read(self._token_key, token, self._clock())
        with translated(), Session(self._reading) as database:
            user = database.get(UserRow, told.user)
            if user is None or user.disabled or user.generation != told.generation:
                raise AccessError("token_refused")
            return _principal(user, _patients_needed(database, user), "", None)

    def _proved(self, name: str, password: str) -> UserRow:
        plain = _plain(name)
        with translated():
            count_try(self._engine, "password", plain, self._clock())
            with Session(self._reading) as database:
                row = _find(database, plain)
                user = _detached(row) if row else None
            good = verify_password(user.password if user else None, password)
            if user is None or not good or user.disabled:
                raise AccessError("login_refused")
            forget_tries(self._engine, "password", plain)
            if needs_rehash(user.password or ""):
                self._rehash(user, password)
        return user

    def _rehash(self, user: UserRow, password: str) -> None:
        hashed = hash_password(password)
        with Session(self._engine) as database, database.begin():
            database.execute(
                update(UserRow)
                .where(col(UserRow.id) == user.id, col(UserRow.generation) == user.generation)
                .values(password=hashed)
            )

    def _begin_session(self, user: UserRow) -> Principal:
        cookie = secrets.token_urlsafe(32)
        now = self._clock()
        with translated(), Session(self._engine) as database, database.begin():
            gone = col(SessionRow.ends_at) <= now
            idle = col(SessionRow.seen_at) <= now - self._limits.idle
            database.execute(delete(SessionRow).where(gone | idle))
            database.execute(delete(LoginCodeRow).where(col(LoginCodeRow.ends_at) <= now))
            database.add(
                SessionRow(
                    id=_digest(cookie),
                    user_id=user.id,
                    # Of the user as proved: a password changed since then ends this session too.
                    generation=user.generation,
                    created_at=now,
                    seen_at=now,
                    ends_at=now + self._limits.absolute,
                )
            )
            patients = _patients_needed(database, user)
        return _principal(user, patients, cookie, now + self._limits.idle)

    def _seen(self, digest: str, now: datetime) -> None:
        with Session(self._engine) as database, database.begin():
            database.execute(
                update(SessionRow)
                .where(col(SessionRow.id) == digest, col(SessionRow.seen_at) < now)
                .values(seen_at=now)
            )

    def _end_everything(
        self,
        plain: str,
        *,
        disabled: bool | None = None,
        password: str | None = None,
        keep_codes: bool = False,
    ) -> int:
        with translated(), Session(self._engine) as database, database.begin():
            row = _row(database, plain)
            row.generation += 1
            row.disabled = row.disabled if disabled is None else disabled
            row.password = row.password if password is None else password
            ended = database.connection().execute(
                delete(SessionRow).where(col(SessionRow.user_id) == row.id)
            )
            if not keep_codes:
                database.execute(delete(LoginCodeRow).where(col(LoginCodeRow.user_id) == row.id))
            return ended.rowcount


def _users() -> Select[UserRow, int]:
    count = (
        select(func.count())
        .where(col(AssignmentRow.user_id) == col(UserRow.id))
        .correlate(UserRow)
        .scalar_subquery()
    )
    return select(UserRow, count)


def _user(row: UserRow, patients: int) -> User:
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


def checked_name(name: str) -> str:
    """The name as it is kept: lower case, fit for a command line and a log.

    Raises
    ------
    InputError
        `user_name`.
    """
    plain = _plain(name)
    if not _NAME.match(plain):
        raise InputError("user_name")
    return plain


def _plain(name: str) -> str:
    return name.strip()[:200].casefold()


def _checked_display_name(text: str) -> str:
    plain = unicodedata.normalize("NFC", text.strip())
    if len(plain) > _LONGEST_DISPLAY_NAME or not plain.isprintable():
        raise InputError("user_display_name")
    return plain


def _find(database: Session, plain: str) -> UserRow | None:
    if not _NAME.match(plain):
        return None
    return database.execute(select(UserRow).where(col(UserRow.name) == plain)).scalars().first()


def _row(database: Session, plain: str) -> UserRow:
    found = _find(database, plain)
    if found is None:
        raise MissingError("user_unknown")
    return found


def _detached(row: UserRow) -> UserRow:
    return UserRow(**row.model_dump())


def _patients(database: Session, user: UUID) -> frozenset[str]:
    keys = database.execute(
        select(col(AssignmentRow.patient_key)).where(col(AssignmentRow.user_id) == user)
    )
    return frozenset(keys.scalars())


def _patients_needed(database: Session, user: UserRow) -> frozenset[str]:
    everyone = user.all_patients or user.role == "admin"
    return frozenset() if everyone else _patients(database, user.id)


def _principal(
    user: UserRow, patients: frozenset[str], cookie: str, ends: datetime | None
) -> Principal:
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


def _plain_code(code: str) -> str:
    return re.sub(r"[\s-]", "", code[:64]).upper()


def _code_digest(user: UUID, code: str) -> str:
    named = b"radloop code\0" + user.bytes + code.encode("utf-8", "surrogatepass")
    return hashlib.sha256(named).hexdigest()
