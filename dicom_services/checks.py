"""What doctor says of one thing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at, what was found, and the command or deed that puts it right."""

    verdict: Verdict
    name: str
    found: str
    remedy: str = ""

    def document(self) -> dict[str, Any]:
        """For other programs."""
        return asdict(self)


def check(good: object, name: str, found: str, remedy: str, *, bad: Verdict = "FAIL") -> Check:
    """OK without a remedy, or `bad` with it."""
    return Check("OK", name, found) if good else Check(bad, name, found, remedy)
