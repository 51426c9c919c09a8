"""What readers said of results: rows that are added, never changed, and sealed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Engine, Select, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlmodel import col

from dicom_services.errors import CorruptError, InputError, MissingError
from dicom_services.log import event
from dicom_services.store.correction import (
    NewCorrection,
    Stored,
    StoredObject,
    canonical,
    moment_text,
    said,
    said_before,
)
from dicom_services.store.database import reading, translated, utc_now
from dicom_services.store.tables import CorrectionDeliveryRow, CorrectionRow, UserRow
from dicom_services.store.vault import Vault

_BODY: Final = "corrections.sealed"
_OBJECTS: Final = "correction_deliveries.sealed"


class Corrections:
    """The corrections of a database."""

    def __init__(
        self, engine: Engine, vault: Vault, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._engine = engine
        self._reading = reading(engine)
        self._vault = vault
        self._clock = clock

    def add(self, new: NewCorrection) -> Stored:
        """Keep it; durable when this returns.

        Raises
        ------
        InputError
            `correction_id_taken` when the id stands for something else or somebody else's;
            `correction_body` when it is no JSON, such as with NaN in it; `correction_time`.
        """
        told = said(new)
        with translated():
            try:
                added = self._insert(new, told)
            except IntegrityError:
                # The id came at the same moment for another study.
                added = False
        stored = self.get(new.id)
        if not added and said_before(stored) != told:
            raise InputError("correction_id_taken")
        return replace(stored, new=True) if added else stored

    def get(self, id: UUID) -> Stored:
        """One correction.

        Raises
        ------
        MissingError
            `correction_unknown`.
        CorruptError
            `sealed_altered`, `correction_altered`.
        """
        with translated(), Session(self._reading) as database:
            study = database.scalar(
                select(col(CorrectionRow.study_key)).where(col(CorrectionRow.id) == id)
            )
            if study is None:
                raise MissingError("correction_unknown")
            order = self._order(database, study)
            row = database.execute(_rows().where(col(CorrectionRow.id) == id)).one()
            return self._opened(*row, order)

    def of_study(self, study_key: str) -> list[Stored]:
        """All of a study, oldest first; errors as `get`."""
        with translated(), Session(self._reading) as database:
            order = self._order(database, study_key)
            rows = database.execute(
                _rows()
                .where(col(CorrectionRow.study_key) == study_key)
                .order_by(col(CorrectionRow.seq))
            ).all()
            return [self._opened(*row, order) for row in rows]

    def unstored(self, most: int = 100) -> list[Stored]:
        """Those whose DICOM objects are not in the archive yet, the least tried and oldest first.

        One that does not open is left out and logged, so that it holds up no other.
        """
        with translated(), Session(self._reading) as database:
            rows = database.execute(
                _rows()
                .where(col(CorrectionDeliveryRow.stored_at).is_(None))
                .order_by(
                    # Those that always fail must not fill every round.
                    col(CorrectionDeliveryRow.tries),
                    col(CorrectionRow.received_at),
                    col(CorrectionRow.seq),
                )
                .limit(most)
            ).all()
            orders = {key: self._order(database, key) for key in {row[0].study_key for row in rows}}
            found = []
            for row in rows:
                try:
                    found.append(self._opened(*row, orders[row[0].study_key]))
                except CorruptError as error:
                    event("correction.corrupt", level=logging.ERROR, code=error.code)
            return found

    def mark_stored(self, id: UUID, objects: Sequence[StoredObject]) -> None:
        """Its objects are in the archive; the first call counts.

        Raises
        ------
        MissingError
            `correction_unknown`.
        """
        listed = [[one.modality, one.sop_instance_uid, one.series_instance_uid] for one in objects]
        sealed = self._vault.seal(_OBJECTS, id.hex, canonical(listed))
        self._deliver(id, stored_at=self._clock(), sealed=sealed, code="")

    def mark_failed(self, id: UUID, code: str) -> None:
        """A delivery failed with that code; it stays among the unstored."""
        self._deliver(id, tries=CorrectionDeliveryRow.tries + 1, code=code[:64])

    def _insert(self, new: NewCorrection, told: Mapping[str, Any]) -> bool:
        with Session(self._engine) as database, database.begin():
            if self._engine.dialect.name == "postgresql":
                # Else two readers at once would both be given the same number.
                lock = select(func.pg_advisory_xact_lock(func.hashtextextended(new.study_key, 7)))
                database.execute(lock)
            if database.get(CorrectionRow, new.id) is not None:
                return False
            last = database.scalar(
                select(func.max(col(CorrectionRow.seq))).where(
                    col(CorrectionRow.study_key) == new.study_key
                )
            )
            seq, received_at = (last or 0) + 1, self._clock()
            whole = {
                **told,
                "outcome": new.outcome,
                "seq": seq,
                "received_at": moment_text(received_at),
            }
            database.add(
                CorrectionRow(
                    id=new.id,
                    study_key=new.study_key,
                    seq=seq,
                    author_id=new.author,
                    verdict=new.verdict,
                    made_at=new.made_at,
                    received_at=received_at,
                    sealed=self._vault.seal(_BODY, new.id.hex, canonical(whole)),
                )
            )
            database.flush()
            database.add(CorrectionDeliveryRow(correction_id=new.id, tries=0, code=""))
        return True

    def _deliver(self, id: UUID, **values: Any) -> None:
        with translated(), Session(self._engine) as database, database.begin():
            database.execute(
                update(CorrectionDeliveryRow)
                .where(
                    col(CorrectionDeliveryRow.correction_id) == id,
                    col(CorrectionDeliveryRow.stored_at).is_(None),
                )
                .values(**values)
            )
            if database.get(CorrectionDeliveryRow, id) is None:
                raise MissingError("correction_unknown")

    def _order(self, database: Session, study_key: str) -> list[tuple[int, UUID, UUID]]:
        rows = database.execute(
            select(col(CorrectionRow.seq), col(CorrectionRow.id), col(CorrectionRow.author_id))
            .where(col(CorrectionRow.study_key) == study_key)
            .order_by(col(CorrectionRow.seq))
        )
        return [(seq, id, author) for seq, id, author in rows]

    def _opened(
        self,
        row: CorrectionRow,
        delivery: CorrectionDeliveryRow,
        author_name: str,
        order: Sequence[tuple[int, UUID, UUID]],
    ) -> Stored:
        whole = json.loads(self._vault.open(_BODY, row.id.hex, row.sealed))
        shown = {
            "study_key": row.study_key,
            "seq": row.seq,
            "author": str(row.author_id),
            "verdict": row.verdict,
            "made_at": moment_text(row.made_at),
            "received_at": moment_text(row.received_at),
        }
        if any(whole[name] != value for name, value in shown.items()):
            raise CorruptError("correction_altered")
        base = UUID(whole["base"]) if whole["base"] else None
        seen = next((seq for seq, id, _ in order if id == base), 0)
        objects: list[list[str]] = []
        if delivery.sealed is not None:
            objects = json.loads(self._vault.open(_OBJECTS, row.id.hex, delivery.sealed))
        return Stored(
            id=row.id,
            seq=row.seq,
            study_key=row.study_key,
            author=row.author_id,
            author_name=author_name,
            made_at=row.made_at,
            received_at=row.received_at,
            verdict=row.verdict,
            reason=whole["reason"],
            note=whole["note"],
            base=base,
            body=whole["body"],
            outcome=whole["outcome"],
            concurrent=tuple(
                id for seq, id, by in order if seen < seq < row.seq and by != row.author_id
            ),
            objects=tuple(StoredObject(*one) for one in objects),
            delivered=delivery.stored_at is not None,
            tries=delivery.tries,
        )


def _rows() -> Select[CorrectionRow, CorrectionDeliveryRow, str]:
    return (
        select(CorrectionRow, CorrectionDeliveryRow, col(UserRow.display_name))
        .join(
            CorrectionDeliveryRow, col(CorrectionDeliveryRow.correction_id) == col(CorrectionRow.id)
        )
        .join(UserRow, col(UserRow.id) == col(CorrectionRow.author_id))
    )
