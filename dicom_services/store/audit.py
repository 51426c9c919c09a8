"""The audit: who saw and changed what, written before it happens, chained so that changes show."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final
from uuid import UUID

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.orm import Session
from sqlmodel import col

from dicom_services.access.principal import Principal
from dicom_services.errors import ConfigError, Fact, UnavailableError
from dicom_services.log import event
from dicom_services.store.anchor import EMPTY_CHAIN, Anchor, AnchorFile
from dicom_services.store.audit_chain import Entry, chained
from dicom_services.store.audit_report import Report, report
from dicom_services.store.database import reading, translated, utc_now
from dicom_services.store.tables import AuditRow

COMMAND_LINE: Final = "command line"
_LOCK: Final = 0x7261_646C_6F6F_7002
_LEAST_BYTES: Final = 32
_LONGEST_FACTS: Final = 2000
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.:@-]{0,63}\Z")
_KEY: Final = re.compile(r"([0-9a-f]{32})?\Z")
_FACT: Final = re.compile(r"[A-Za-z0-9 _.,:@/+-]{0,100}\Z")
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+){3}")
_NONE: Final[Mapping[str, Fact]] = MappingProxyType({})
_Seen = tuple[UUID, str, str]


@dataclass(slots=True)
class _Ticket:
    """One caller's entry, until it is on the disk."""

    entry: Entry
    done: threading.Event = field(default_factory=threading.Event)
    written: bool = False


class Audit:
    """The audit of a database; all methods block, `seen` alone does not.

    Callers at the same moment share one transaction and one anchor.

    Parameters
    ----------
    anchor_path : Path
        On another disk it also shows when the whole database was put back.
    key : bytes
        At least 32; signs rows and anchor.
    """

    def __init__(
        self,
        engine: Engine,
        anchor_path: Path,
        key: bytes,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if len(key) < _LEAST_BYTES:
            raise ConfigError("secret_short", name="audit_key")
        self._engine = engine
        self._reading = reading(engine)
        self._anchor = AnchorFile(anchor_path, key)
        self._key = key
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._minute = -1
        self._seen: set[_Seen] = set()
        self._coming: dict[_Seen, _Ticket] = {}

    def view(self, principal: Principal, study_key: str, action: str) -> None:
        """Note that a user looks at a study: once a minute, on the disk when this returns.

        Raises
        ------
        UnavailableError
            `audit_unavailable`: then nothing may be shown.
        """
        key = (principal.user, study_key, action)
        now = self._clock()
        with self._lock:
            if self._current(now) and key in self._seen:
                return
            ticket = self._coming.get(key)
            if ticket is None:
                ticket = _Ticket(_entry(now, principal, action, study_key, "done", _NONE))
                self._coming[key] = ticket
                self._waiting.append(ticket)
        try:
            self._settle(ticket)
        finally:
            with self._lock:
                if self._coming.get(key) is ticket:
                    del self._coming[key]
                    if ticket.written and self._current(now):
                        self._seen.add(key)

    def seen(self, principal: Principal, study_key: str, action: str) -> bool:
        """Whether `view` would return at once; for event loops, which must not wait."""
        with self._lock:
            return (
                self._current(self._clock()) and (principal.user, study_key, action) in self._seen
            )

    def write(
        self,
        principal: Principal | None,
        action: str,
        *,
        study_key: str = "",
        outcome: str = "done",
        facts: Mapping[str, Fact] = _NONE,
        actor: str = "",
    ) -> None:
        """Note one thing, a row of its own, on the disk when this returns.

        Parameters
        ----------
        facts
            Numbers and words of ours; nothing of a patient.
        actor : str
            Where there is no principal: COMMAND_LINE, or the name somebody tried.

        Raises
        ------
        UnavailableError
            `audit_unavailable`: then it must not be done.
        """
        entry = _entry(self._clock(), principal, action, study_key, outcome, facts, actor)
        ticket = _Ticket(entry)
        with self._lock:
            self._waiting.append(ticket)
        self._settle(ticket)

    def rows(
        self, *, actor: str = "", study_key: str = "", since: datetime | None = None
    ) -> Iterator[AuditRow]:
        """What was noted, oldest first."""
        wanted = select(AuditRow).order_by(col(AuditRow.seq))
        if actor:
            wanted = wanted.where(col(AuditRow.actor) == actor)
        if study_key:
            wanted = wanted.where(col(AuditRow.study_key) == study_key)
        if since:
            wanted = wanted.where(col(AuditRow.at) >= _moment(since))
        with translated(), Session(self._reading) as database:
            yield from database.scalars(wanted.execution_options(yield_per=1000))

    def verify(self) -> Report:
        """Read everything and say what does not hold."""
        try:
            # Before the rows: a row that comes meanwhile must not seem to be missing.
            anchor = self._anchor.read()
        except OSError:
            raise UnavailableError("audit_unavailable") from None
        return report(self.rows(), anchor, self._key)

    def accept(self) -> Report:
        """Anchor the record as it stands, after a person looked into it; noted as its own row.

        Returns
        -------
        Report
            What was found before.
        """
        found = self.verify()
        facts: dict[str, Fact] = {"rows": found.rows, "problems": len(found.problems)}
        self.write(None, "audit.accept", actor=COMMAND_LINE, facts=facts)
        try:
            with self._anchor.held(), Session(self._reading) as database:
                self._anchor.write(_last(database))
        except OSError:
            raise UnavailableError("audit_unavailable") from None
        return found

    def _current(self, now: datetime) -> bool:
        """Forget what earlier minutes had seen; False for who began in the one just over."""
        minute = int(now.timestamp() // 60)
        if minute == self._minute - 1:
            return False
        if minute != self._minute:
            self._minute = minute
            self._seen = set()
        return True

    def _settle(self, ticket: _Ticket) -> None:
        """Whoever gets to write writes for all who wait."""
        with self._writing:
            if not ticket.done.is_set():
                with self._lock:
                    batch, self._waiting = self._waiting, []
                self._write_batch(batch)
        if not ticket.written:
            raise UnavailableError("audit_unavailable")

    def _write_batch(self, batch: list[_Ticket]) -> None:
        written = False
        try:
            with translated(), self._anchor.held():
                self._append([one.entry for one in batch])
            written = True
        except (OSError, UnavailableError) as error:
            event("audit.failed", level=logging.ERROR, error=error, count=len(batch))
        finally:
            for one in batch:
                one.written = written
                one.done.set()

    def _append(self, entries: list[Entry]) -> None:
        with Session(self._engine) as database, database.begin():
            if self._engine.dialect.name == "postgresql":
                database.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            last = _last(database)
            anchor = self._anchor.read()
            if anchor is None and last.count == 0:
                # Before the first row, so that a missing anchor is never innocent.
                anchor = last
                self._anchor.write(anchor)
            trusted = anchor is not None and _reaches(database, anchor)
            rows = []
            for entry in entries:
                row = chained(self._key, last.count + 1, last.chain, entry)
                rows.append(row.model_dump())
                last = Anchor(row.seq, row.chain)
            database.execute(insert(AuditRow), rows)
        if trusted:
            self._anchor.write(last)
        else:
            # It stays as it is, for it is the evidence; what is written goes on.
            event("audit.anchor_differs", level=logging.ERROR)


def _last(database: Session) -> Anchor:
    newest = database.execute(
        select(col(AuditRow.seq), col(AuditRow.chain)).order_by(col(AuditRow.seq).desc()).limit(1)
    ).first()
    return Anchor(newest[0], newest[1]) if newest else Anchor(0, EMPTY_CHAIN)


def _reaches(database: Session, anchor: Anchor) -> bool:
    if anchor.count == 0:
        return anchor.chain == EMPTY_CHAIN
    chain = database.scalar(select(col(AuditRow.chain)).where(col(AuditRow.seq) == anchor.count))
    return chain == anchor.chain


def _entry(
    now: datetime,
    principal: Principal | None,
    action: str,
    study_key: str,
    outcome: str,
    facts: Mapping[str, Fact],
    actor: str = "",
) -> Entry:
    if not _WORD.match(action) or not _WORD.match(outcome) or not _KEY.match(study_key):
        raise ValueError("an audit row holds words and keys")
    for fact in facts.values():
        # Names of patients and UIDs come in this form by mistake only; better nothing is written.
        if isinstance(fact, str) and (not _FACT.match(fact) or _UID.search(fact)):
            raise ValueError("no word of ours for an audit row")
    told = json.dumps(dict(facts), sort_keys=True, separators=(",", ":"))
    if len(told) > _LONGEST_FACTS:
        raise ValueError("more facts than an audit row holds")
    name = principal.name if principal else actor
    return Entry(
        at=_moment(now),
        actor_id=str(principal.user) if principal else "",
        # Whatever somebody typed as a name is kept only where it could be one.
        actor=name if _WORD.match(name) else ("" if not name else "unprintable"),
        action=action,
        study_key=study_key,
        outcome=outcome,
        facts=told,
    )


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
