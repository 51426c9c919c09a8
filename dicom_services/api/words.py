"""Plain words for the codes in which studies, series and jobs say how they stand."""

from __future__ import annotations

from typing import Final

from dicom_services.dicom.codes import reason as refusal

_WORDS: Final = {
    # What no rule wanted (orthanc_plugins/ledger.py, views.py).
    "no_rule": "No routing rule wants the series",
    "not_selected": "Another series of the study suits the analysis better",
    "before_radloop": "The series was stored before radloop was set up",
    "result": "The series is itself a result",
    # Why a job did not end as it should (orthanc_plugins/queue_thread.py, ai_nodes/worker.py).
    "disk_full": "The archive's disk is full; the analysis waits for room",
    "enqueue_failed": "The job could not be put into the queue",
    "incomplete": "The series changed while it was analysed",
    "internal_error": "The analysis ended on an error of its own",
    "job_died": "The process that analysed the series died",
    "job_timeout": "The analysis took longer than is allowed",
    "out_of_memory": "The analysis needs more memory than there is",
    "predecessor_unfinished": "An analysis that this one builds on has not ended yet",
    "pipeline_unknown": "No node of this site knows the analysis",
    "report_lost": "The analysis ended without a report, again and again",
    "routing_failed": "The routing rules could not be applied to the series",
    "run_again": "Somebody had the analysis run again",
    "too_many_jobs": "More analyses come before this one than it can wait for",
    "too_many_series": "More series belong together than one analysis can read",
    "unreadable_headers": "The headers of the series could not be read",
}


def words(code: str) -> str:
    """A sentence for a code; "" for none, and the code itself, spelt out, for a site's own."""
    if not code:
        return ""
    return _WORDS.get(code) or refusal(code).meaning
