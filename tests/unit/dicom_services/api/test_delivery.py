"""Deliveries go on whatever a single correction is like."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from dicom_services.api.delivery import deliver_waiting
from dicom_services.orthanc import Orthanc
from dicom_services.store.correction import NewCorrection
from tests.gateway import context_in, log_in


def test_a_correction_that_nothing_can_be_made_of_holds_up_no_other(tmp_path):
    context = context_in(tmp_path / "data")
    author = log_in(context, "rita", "radiologist").user
    # Neither holds what its objects are made of; the first is not even asked of the archive.
    for outcome in ({}, {"study": "1.2.3"}):
        context.corrections.add(
            NewCorrection(
                id=uuid.uuid4(),
                study_key="5" * 32,
                author=author,
                made_at=datetime.now(UTC),
                verdict="accept",
                body={"source_series": "1.2.4"},
                outcome=outcome,
            )
        )
    due = {}
    with Orthanc("http://127.0.0.1:1", "", "") as nobody:
        object.__setattr__(context, "orthanc", nobody)
        assert deliver_waiting(context, due) == 0
    assert [one.tries for one in context.corrections.unstored()] == [1, 1]
    assert len(due) == 1
