"""What an earlier job brought: the input of an analysis that joins the results of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """One job that this one came after, and how it ended.

    Parameters
    ----------
    job : str
        40 hex digits; "" where its rule took no series of the study.
    rule, pipeline : str
    state : str
        "done", "refused", "failed", "superseded", "absent" or "gone".
    code : str
        Why it was refused or failed.
    document : mapping
        Its findings.json; empty where it left none.
    """

    job: str
    rule: str
    pipeline: str
    state: str
    code: str
    document: Mapping[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether there is a result to go on with."""
        return self.state == "done" and bool(self.document)
