"""Series and state of each known job, so that nobody has to read every record."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from orthanc_plugins import ledger

REMEMBERED: Final = 20_000


class JobIndex:
    """Series and state by job id, the last changed at the end; ended ones are forgotten first."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def remember(self, series: str, record: ledger.Record) -> None:
        """Take over the states in a record."""
        for job_id, job in record["jobs"].items():
            known = self._jobs.get(job_id)
            self._jobs[job_id] = (series, str(job["state"]))
            if known is None or known[1] != job["state"]:
                self._jobs.move_to_end(job_id)
        if len(self._jobs) > REMEMBERED:
            ended = [job for job, (_, state) in self._jobs.items() if state in ledger.FINAL]
            for job_id in ended[: len(self._jobs) - REMEMBERED]:
                del self._jobs[job_id]

    def forget(self, job_id: str) -> None:
        """Drop a job whose series is gone."""
        self._jobs.pop(job_id, None)

    def unfinished(self) -> list[tuple[str, str]]:
        """Job and series of what has not ended."""
        return [
            (j, series) for j, (series, state) in self._jobs.items() if state not in ledger.FINAL
        ]

    def newest(self, state: str) -> list[tuple[str, str]]:
        """Job and series, the last changed first; of one state if it is named."""
        return [
            (job_id, series)
            for job_id, (series, job_state) in reversed(self._jobs.items())
            if state in ("", job_state)
        ]

    def counts(self) -> dict[str, int]:
        """Number of jobs by state."""
        counts: dict[str, int] = {}
        for _, state in self._jobs.values():
            counts[state] = counts.get(state, 0) + 1
        return counts
