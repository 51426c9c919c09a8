"""How one audit row is chained to the one before it: a digest of both, signed."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass

from dicom_services.store.tables import AuditRow


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened, before it has its place in the chain."""

    at: str
    actor_id: str
    actor: str
    action: str
    study_key: str
    outcome: str
    facts: str


def chained(key: bytes, seq: int, before: str, entry: Entry) -> AuditRow:
    """The row of `entry` after a row whose chain is `before`."""
    chain = _chain(seq, before, entry)
    return AuditRow(
        seq=seq,
        at=entry.at,
        actor_id=entry.actor_id,
        actor=entry.actor,
        action=entry.action,
        study_key=entry.study_key,
        outcome=entry.outcome,
        facts=entry.facts,
        chain=chain,
        mac=_mac(key, chain),
    )


def holds(key: bytes, before: str, row: AuditRow) -> bool:
    """Whether the row is as it was written, after that row."""
    entry = Entry(
        row.at, row.actor_id, row.actor, row.action, row.study_key, row.outcome, row.facts
    )
    good = _chain(row.seq, before, entry)
    return hmac.compare_digest(row.chain.encode(), good.encode()) and hmac.compare_digest(
        row.mac.encode(), _mac(key, good).encode()
    )


def _chain(seq: int, before: str, entry: Entry) -> str:
    said = (
        *(str(seq), before, entry.at, entry.actor_id, entry.actor),
        *(entry.action, entry.study_key, entry.outcome, entry.facts),
    )
    # As JSON, where no value can run into the next.
    return hashlib.sha256(b"radloop audit\0" + json.dumps(said).encode()).hexdigest()


def _mac(key: bytes, chain: str) -> str:
    return hmac.new(key, b"radloop audit row\0" + chain.encode(), hashlib.sha256).hexdigest()
