"""What the REST routes are answered: series, studies, lists of both and of jobs, as they stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orthanc_plugins import archive, views
from orthanc_plugins.arrivals import Arrivals
from orthanc_plugins.completeness import Completeness
from orthanc_plugins.records import Records


class Answers:
    """Reads the ledger for whoever asks, and changes nothing in it."""

    def __init__(self, records: Records, arriving: Completeness, arrivals: Arrivals) -> None:
        self._records = records
        self._arriving = arriving
        self._arrivals = arrivals

    def series(self, series: str) -> dict[str, Any] | None:
        """State, reasons and jobs of a series; None where it does not exist."""
        with self._records.lock:
            described = archive.series(series)
            if described is None:
                return None
            study = str(described["ParentStudy"])
            record = self._records.of(series)
            arriving = study in self._arriving.studies or (
                record is None and self._arrivals.is_behind()
            )
            for job in record["jobs"].values() if record else ():
                self._look(job)
            return views.series_view(
                series,
                study,
                len(described["Instances"]),
                record,
                parts=self._records.parts(record) if record else [],
                arriving=arriving,
                quarantined=len(archive.quarantined(study).get(series, ())),
            )

    def study(self, study: str) -> dict[str, Any] | None:
        """State of a study and of each of its series; None where it does not exist."""
        with self._records.lock:
            found = [self.series(series) for series in archive.study_series(study)]
            series = [view for view in found if view is not None]
            if not series:
                return None
            quarantined = sum(len(names) for names in archive.quarantined(study).values())
            arriving = study in self._arriving.studies
            return views.study_view(study, series, arriving=arriving, quarantined=quarantined)

    def states(self, studies: Iterable[str]) -> dict[str, dict[str, str]]:
        """States of several studies in one answer; what does not exist is left out."""
        found = {}
        for study in studies:
            # One at a time: a long list must not hold up the watcher.
            with self._records.lock:
                records = [self._records.of(series) for series in archive.study_series(study)]
                arriving = study in self._arriving.studies
                behind = None in records and self._arrivals.is_behind()
                parts = [self._records.parts(record) if record else [] for record in records]
            if records:
                found[study] = views.state_view(records, parts, arriving=arriving, behind=behind)
        return found

    def jobs(self, state: str, limit: int) -> list[dict[str, Any]]:
        """The newest jobs, of one state if it is named."""
        with self._records.lock:
            known = self._records.index.newest(state)
        found: list[dict[str, Any]] = []
        for job_id, series in known:
            entered = self._records.job(series, job_id)
            if entered is not None and (not state or entered[1]["state"] == state):
                taken = archive.quarantined(str(entered[0]["study"])).get(series, ())
                self._look(entered[1])
                found.append(views.job_view(job_id, series, entered[1], quarantined=len(taken)))
            if len(found) >= limit:
                break
        found.sort(key=lambda job: str(job["updated"]), reverse=True)
        return found

    def _look(self, job: dict[str, Any]) -> None:
        """Have a job that waits say how those stand that it comes after."""
        if job.get("after") and job["state"] in ("waiting", "queued"):
            job["after"] = self._records.predecessors(job)
