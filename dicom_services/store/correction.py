"""A reader's correction: as it is sent, and as it stands in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from dicom_services.errors import InputError


@dataclass(frozen=True, slots=True)
class NewCorrection:
    """What a reader sends.

    `body` is what was said and drawn, as sent; `outcome` what the server makes of it (study UID for
    the delivery, scores, score check). Two calls with one id mean the same when everything but
    `outcome` is the same. Identifiers of patients and studies belong in `body` and `outcome`,
    which are sealed, and nowhere else.
    """

    id: UUID
    study_key: str
    author: UUID
    made_at: datetime
    verdict: str
    body: Mapping[str, Any]
    reason: str = ""
    note: str = ""
    base: UUID | None = None
    """The newest correction that the reader had seen."""
    outcome: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A DICOM object made of a correction."""

    modality: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A correction as it stands in the database."""

    id: UUID
    seq: int
    """1, 2, ... within the study."""
    study_key: str
    author: UUID
    author_name: str
    """As displayed."""
    made_at: datetime
    received_at: datetime
    verdict: str
    reason: str
    note: str
    base: UUID | None
    body: Mapping[str, Any]
    outcome: Mapping[str, Any]
    concurrent: tuple[UUID, ...]
    """Of other readers, between `base` and this one: this reader had not seen them."""
    objects: tuple[StoredObject, ...]
    delivered: bool
    tries: int
    """Failed deliveries so far."""
    new: bool = False
    """Whether this call added it; False where the same id had come before."""


def said(new: NewCorrection) -> dict[str, Any]:
    """What two calls must share to be one, as it is sealed.

    Raises
    ------
    InputError
        `correction_body`, `correction_time`.
    """
    try:
        made_at = moment_text(new.made_at)
    except (OverflowError, ValueError):
        raise InputError("correction_time") from None
    told: dict[str, Any] = json.loads(
        canonical(
            {
                "study_key": new.study_key,
                "author": str(new.author),
                "made_at": made_at,
                "verdict": new.verdict,
                "reason": new.reason,
                "note": new.note,
                "base": str(new.base) if new.base else "",
                "body": dict(new.body),
            }
        )
    )
    return told


def said_before(stored: Stored) -> dict[str, Any]:
    """The same of one that is stored."""
    return said(
        NewCorrection(
            id=stored.id,
            study_key=stored.study_key,
            author=stored.author,
            made_at=stored.made_at,
            verdict=stored.verdict,
            body=stored.body,
            reason=stored.reason,
            note=stored.note,
            base=stored.base,
        )
    )


def moment_text(value: datetime) -> str:
    """In UTC, as it is sealed."""
    if value.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def canonical(value: Any) -> bytes:
    """JSON, the same for the same value.

    Raises
    ------
    InputError
        `correction_body` when it is none, such as with NaN in it.
    """
    # Surrogates, which JSON from a browser may hold, have no UTF-8; escapes have.
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError):
        raise InputError("correction_body") from None
