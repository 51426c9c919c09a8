"""Accounts: who may log in, their sessions and tokens, and the patients they may see."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Engine, update
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
from dicom_services.access.roles import checked_role
from dicom_services.errors import AccessError, InputError
from dicom_services.store import login_codes, sessions
from dicom_services.store.database import reading, translated, utc_now
from dicom_services.store.login_tries import count_try, forget_tries
from dicom_services.store.sessions import Limits
from dicom_services.store.tables import AssignmentRow, UserRow
from dicom_services.store.users import (
    User,
    checked_display_name,
    checked_name,
    find_user,
    patients_needed,
    patients_of,
    plain_name,
    shown,
    user_row,
    users_with_counts,
)

_PATIENT_KEY: Final = re.compile(r"[0-9a-f]{32}\Z")
_NOBODY: Final = UUID(int=0)


class Accounts:
    """The accounts of a database.

    What hashes a password (`login`, `issue_bearer`, `add_user`, `set_password`) takes tens of
    milliseconds, and all of it may wait for a disk: call it from a thread.

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
        plain, known_role = checked_name(name), checked_role(role)
        shown_as = checked_display_name(display_name) or plain
        if password is not None:
            require_good(password, plain)
        row = UserRow(
            id=uuid.uuid4(),
            name=plain,
            display_name=shown_as,
            role=known_role,
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
            rows = database.execute(users_with_counts().order_by(col(UserRow.name))).all()
            return [shown(row, count) for row, count in rows]

    def user(self, name: str) -> User:
        """The one of that name.

        Raises
        ------
        MissingError
            `user_unknown`.
        """
        with translated(), Session(self._reading) as database:
            row = user_row(database, plain_name(name))
            return shown(row, len(patients_of(database, row)))

    def set_password(self, name: str, password: str) -> None:
        """A new password; every session, token and code of the old one ends at once."""
        plain = plain_name(name)
        require_good(password, plain)
        hashed = hash_password(password)
        self._end_everything(plain, password=hashed)
        with translated():
            forget_tries(self._engine, "password", plain, self._clock())

    def disable(self, name: str) -> None:
        """Close the account; its sessions, tokens and codes end at once."""
        self._end_everything(plain_name(name), disabled=True)

    def enable(self, name: str) -> None:
        """Open a disabled account again."""
        with translated(), Session(self._engine) as database, database.begin():
            user_row(database, plain_name(name)).disabled = False

    def set_role(self, name: str, role: str, *, all_patients: bool | None = None) -> None:
        """Another role, from the next request on."""
        with translated(), Session(self._engine) as database, database.begin():
            row = user_row(database, plain_name(name))
            row.role = checked_role(role)
            row.all_patients = row.all_patients if all_patients is None else all_patients

    def assign(self, name: str, patient_key: str) -> bool:
        """Let a user see a patient; False where they could already."""
        if not _PATIENT_KEY.match(patient_key):
            raise InputError("patient_key")
        with translated(), Session(self._engine) as database, database.begin():
            row = user_row(database, plain_name(name), alone=True)
            if database.get(AssignmentRow, (row.id, patient_key)) is not None:
                return False
            database.add(
                AssignmentRow(user_id=row.id, patient_key=patient_key, created_at=self._clock())
            )
            return True

    def unassign(self, name: str, patient_key: str) -> bool:
        """Take a patient from a user; False where they had none such."""
        with translated(), Session(self._engine) as database, database.begin():
            row = user_row(database, plain_name(name))
            found = database.get(AssignmentRow, (row.id, patient_key))
            if found is not None:
                database.delete(found)
            return found is not None

    def assigned(self, name: str) -> frozenset[str]:
        """Keys of a user's patients."""
        with translated(), Session(self._reading) as database:
            return patients_of(database, user_row(database, plain_name(name)))

    def login(self, name: str, password: str) -> Principal:
        """Begin a session; `principal.session` is the value of its cookie.

        Raises
        ------
        AccessError
            `login_refused`, the same for whatever was wrong; `too_many_tries` with `seconds`.
        """
        return self._begin_session(self._proved(name, password))

    def login_code(self, name: str) -> str:
        """A code that logs in once within an hour; an earlier one no longer does.

        Raises
        ------
        MissingError
            `user_unknown`.
        InputError
            `user_disabled`.
        """
        with translated(), Session(self._engine) as database, database.begin():
            row = user_row(database, plain_name(name))
            if row.disabled:
                raise InputError("user_disabled")
            return login_codes.new_code(database, row.id, self._clock())

    def login_with_code(self, name: str, code: str) -> Principal:
        """Begin a session by a one-time code; errors as `login`."""
        plain, now = plain_name(name), self._clock()
        with translated():
            count_try(self._engine, "code", plain, now)
            with Session(self._engine) as database, database.begin():
                row = find_user(database, plain)
                good = login_codes.use_code(database, row.id if row else _NOBODY, code, now)
                if row is None or row.disabled or not good:
                    raise AccessError("login_refused")
                # In the same transaction: a code is used up by a session, not by a failure.
                begun = sessions.begin_session(database, row, now, self._limits)
            forget_tries(self._engine, "code", plain, now)
        return begun

    def session(self, cookie: str, *, in_use: bool = True) -> Principal | None:
        """Whose session it is; None where it ended or never was.

        It lives on by this, unless somebody only looks whether it still stands.
        """
        with translated():
            return sessions.resume_session(
                self._reading,
                self._engine if in_use else None,
                cookie,
                self._clock(),
                self._limits,
            )

    def logout(self, cookie: str) -> None:
        """End one session."""
        with translated(), Session(self._engine) as database, database.begin():
            sessions.end_session(database, cookie)

    def logout_everywhere(self, name: str) -> int:
        """End every session and token of a user; how many sessions there were."""
        return self._end_everything(plain_name(name), keep_codes=True)

    def sessions(self, name: str) -> list[tuple[datetime, datetime]]:
        """When each living session began and was last seen."""
        with translated(), Session(self._reading) as database:
            user = user_row(database, plain_name(name)).id
            return sessions.living_sessions(database, user, self._clock(), self._limits)

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
            return sessions.principal(user, patients_needed(database, user), "", None)

    def _proved(self, name: str, password: str) -> UserRow:
        plain = plain_name(name)
        with translated():
            count_try(self._engine, "password", plain, self._clock())
            with Session(self._reading) as database:
                user = find_user(database, plain)
            good = verify_password(user.password if user else None, password)
            if user is None or not good or user.disabled:
                raise AccessError("login_refused")
            forget_tries(self._engine, "password", plain, self._clock())
            if needs_rehash(user.password or ""):
                self._rehash(user, password)
        return user

    def _rehash(self, user: UserRow, password: str) -> None:
        hashed = hash_password(password)
        # A password that was changed meanwhile stays.
        same = col(UserRow.generation) == user.generation
        with Session(self._engine) as database, database.begin():
            database.execute(
                update(UserRow).where(col(UserRow.id) == user.id, same).values(password=hashed)
            )

    def _begin_session(self, user: UserRow) -> Principal:
        now = self._clock()
        with translated(), Session(self._engine) as database, database.begin():
            login_codes.forget_ended_codes(database, now)
            return sessions.begin_session(database, user, now, self._limits)

    def _end_everything(
        self,
        plain: str,
        *,
        disabled: bool | None = None,
        password: str | None = None,
        keep_codes: bool = False,
    ) -> int:
        with translated(), Session(self._engine) as database, database.begin():
            row = user_row(database, plain, alone=True)
            row.generation += 1
            row.disabled = row.disabled if disabled is None else disabled
            row.password = row.password if password is None else password
            if not keep_codes:
                login_codes.forget_codes(database, row.id)
            return sessions.end_sessions(database, row.id)
