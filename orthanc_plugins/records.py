"""The ledger as the archive keeps it: a record a series, read and written whole, and an index."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from orthanc_plugins import archive, assignment, joins, ledger
from orthanc_plugins.job_index import JobIndex


class Records:
    """Records of series; whoever reads one to write it back holds `lock` meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.index = JobIndex()

    def of(self, series: str) -> ledger.Record | None:
        """The record of a series; None where it has none."""
        return ledger.read_record(archive.metadata(series).get(archive.METADATA))

    def write(self, series: str, record: ledger.Record) -> bool:
        """Keep a record; False where the series is gone."""
        text = ledger.write_record(record)
        kept = archive.write_metadata(series, text)
        if kept:
            self.index.remember(series, record)
        return kept

    def of_study(self, study: str) -> dict[str, ledger.Record]:
        """The records of the series of a study that have one."""
        found = {series: self.of(series) for series in archive.study_series(study)}
        return {series: record for series, record in found.items() if record is not None}

    def predecessors(self, job: ledger.JobRecord) -> list[joins.Entry]:
        """The jobs that one comes after, as they stand now."""
        entries = job.get("after", [])
        series = {str(entry["series"]) for entry in entries if entry["job"]}
        return joins.as_they_stand(entries, {one: self.of(one) for one in series})

    def parts(self, record: ledger.Record) -> list[ledger.JobRecord]:
        """The jobs entered for other series that read this one, too."""
        found = [self.job(str(one["series"]), str(one["job"])) for one in record["part_of"]]
        return [one[1] for one in found if one is not None]

    def job(self, series: str, job_id: str) -> tuple[ledger.Record, ledger.JobRecord] | None:
        """A job with the record it stands in; None where there is none."""
        record = self.of(series)
        job = record["jobs"].get(job_id) if record else None
        return (record, job) if record is not None and job is not None else None

    def move(self, series: str, job_id: str, state: str, more: Mapping[str, Any]) -> bool:
        """Move a job on; False where its state may not follow, or it is not known."""
        found = self.job(series, job_id)
        if found is None or not assignment.move(found[1], state, more):
            return False
        return self.write(series, found[0])

    def recall(self) -> None:
        """Learn the jobs of this archive again after a start."""
        for series in archive.series_ids():
            record = self.of(series)
            if record is not None:
                with self.lock:
                    self.index.remember(series, record)
            time.sleep(0)
