"""When a study that is still arriving may be taken as whole: expected counts, else quiet time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SETTLE_S: Final = 0.5
"""After the last expected image: long enough for the next series of the same association."""


@dataclass(slots=True)
class Arriving:
    """A study of which something came since it was last decided on."""

    first_change: int
    last_arrival_s: float
    quiet_s: float
    counts: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int | None] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)

    def due_at_s(self) -> float:
        """The moment from which the study counts as complete if nothing more arrives."""
        whole = bool(self.counts) and all(
            self.counts[series] >= (self.expected.get(series) or self.counts[series] + 1)
            for series in self.counts
        )
        return self.last_arrival_s + (min(SETTLE_S, self.quiet_s) if whole else self.quiet_s)


@dataclass(slots=True)
class Completeness:
    """The studies that are arriving, and for how long each sender must have been quiet.

    Quiet time is counted from the last instance of that study; a sender's next study does not
    hold back the one before it. Of several senders of one study the slowest rule wins.
    """

    quiet_s: float
    quiet_per_source_s: Mapping[str, float] = field(default_factory=dict)
    studies: dict[str, Arriving] = field(default_factory=dict)

    def arrived(
        self,
        study: str,
        series: str,
        *,
        count: int,
        expected: int | None,
        source: str,
        change: int,
        now_s: float,
    ) -> None:
        """Something of `series` came: it now has `count` instances, of `expected` if known."""
        entry = self.studies.get(study)
        if entry is None:
            entry = self.studies[study] = Arriving(change, now_s, 0.0)
        entry.last_arrival_s = now_s
        entry.counts[series] = count
        entry.expected[series] = expected
        entry.sources.add(source)
        entry.quiet_s = max(self.quiet_per_source_s.get(s, self.quiet_s) for s in entry.sources)

    def due(self, now_s: float) -> list[str]:
        """Studies that are complete at `now_s`, oldest first."""
        due = [study for study, entry in self.studies.items() if entry.due_at_s() <= now_s]
        return sorted(due, key=lambda study: self.studies[study].last_arrival_s)

    def settled(self, study: str) -> None:
        """Forget a study that was decided on."""
        self.studies.pop(study, None)

    def oldest_change(self) -> int | None:
        """Number of the first change that belongs to a study not yet decided on."""
        return min((entry.first_change for entry in self.studies.values()), default=None)


def expected_instances(facts: Mapping[str, Any]) -> int | None:
    """How many instances the series will have, where its headers tell.

    Number of Series Related Instances (0020,1209) speaks of the series. Images in Acquisition
    (0020,1002) does so for a single temporal position only; a scanner that counts something else
    is caught by the late-instance rule.
    """
    for keyword in ("NumberOfSeriesRelatedInstances", "ImagesInAcquisition"):
        text = str(facts.get(keyword, "")).strip()
        if text.isascii() and text.isdigit() and len(text) <= 6 and 1 < int(text) <= 100_000:
            return int(text)
    return None
