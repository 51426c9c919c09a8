"""Whether the audit is whole: every row as it was written, none missing, none cut off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dicom_services.store.anchor import EMPTY_CHAIN, Anchor
from dicom_services.store.audit_chain import holds
from dicom_services.store.tables import AuditRow


@dataclass(frozen=True, slots=True)
class Problem:
    """What verify found at a row: changed, missing, cut, anchor_missing, anchor_differs."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """Whether the record is whole."""

    rows: int
    anchored: int
    """As far as this even the end could not be cut away unseen."""
    problems: tuple[Problem, ...]

    @property
    def intact(self) -> bool:
        """Nothing was found."""
        return not self.problems


def report(rows: Iterable[AuditRow], anchor: Anchor | None, key: bytes) -> Report:
    """Go through all rows, oldest first; `anchor` was read before them."""
    problems: list[Problem] = []
    count, before, at_anchor, seq = 0, EMPTY_CHAIN, EMPTY_CHAIN, 0
    for row in rows:
        if row.seq != seq + 1:
            problems.append(Problem(seq + 1, "missing"))
        if not holds(key, before, row):
            problems.append(Problem(row.seq, "changed"))
        # Each row is judged by the one before it as it stands, so that one change is one problem.
        count, before, seq = count + 1, row.chain, row.seq
        if anchor and row.seq == anchor.count:
            at_anchor = row.chain
    if anchor is None:
        # The first row comes after the first anchor; before both there is nothing to protect.
        if count:
            problems.append(Problem(seq, "anchor_missing"))
    elif anchor.count > seq:
        problems.append(Problem(seq + 1, "cut"))
    elif anchor.chain != at_anchor:
        problems.append(Problem(anchor.count, "anchor_differs"))
    return Report(count, anchor.count if anchor else 0, tuple(problems))
