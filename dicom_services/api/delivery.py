"""Brings corrections into the archive as DICOM: once at least, and never as two objects."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from uuid import UUID

from dicom_services.api.context import Context
from dicom_services.api.correction_body import CorrectionBody, assessment_of
from dicom_services.api.study_objects import instances_of, series_named
from dicom_services.dicom.assessed_result import (
    AlgorithmScores,
    AssessedResult,
    ObjectReference,
)
from dicom_services.dicom.correction_objects import correction_objects_limited
from dicom_services.dicom.reading import Reading
from dicom_services.errors import MissingError, RadloopError, UnavailableError
from dicom_services.log import event
from dicom_services.store.correction import Stored, StoredObject

_ROUND_S: Final = 15.0
_LONGEST_PAUSE_S: Final = 3600.0


@contextlib.asynccontextmanager
async def delivering(context: Context) -> AsyncIterator[None]:
    """Deliver in the background, what an earlier process left as well."""
    task = asyncio.create_task(_deliver_for_ever(context))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _deliver_for_ever(context: Context) -> None:
    due: dict[UUID, float] = {}
    while True:
        context.corrections_waiting.clear()
        try:
            await asyncio.to_thread(deliver_waiting, context, due)
        except RadloopError as error:
            event("corrections.not_delivered", level=40, error=error, code=error.code)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next round comes
            event("corrections.not_delivered", level=40, error=error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(context.corrections_waiting.wait(), _ROUND_S)


def deliver_waiting(context: Context, due: dict[UUID, float]) -> int:
    """One round over all that are not in the archive yet; how many are now.

    Parameters
    ----------
    due : dict
        When to try again those that failed for another reason than a silent archive, by the
        monotonic clock.
    """
    done = 0
    for stored in context.corrections.unstored():
        if due.get(stored.id, 0.0) > time.monotonic():
            continue
        try:
            objects = deliver(context, stored)
        except UnavailableError as error:
            # Whatever comes next would fail as well.
            context.corrections.mark_failed(stored.id, error.code)
            break
        except Exception as error:  # noqa: BLE001 - one odd correction must not hold up the others
            code = error.code if isinstance(error, RadloopError) else "internal_error"
            context.corrections.mark_failed(stored.id, code)
            pause = min(_ROUND_S * 2.0 ** min(stored.tries, 10), _LONGEST_PAUSE_S)
            due[stored.id] = time.monotonic() + pause
            known = None if isinstance(error, RadloopError) else error
            event(
                "correction.not_delivered",
                level=30,
                code=code,
                tries=stored.tries + 1,
                error=known,
            )
            continue
        due.pop(stored.id, None)
        done += 1
        event("correction.delivered", count=len(objects), tries=stored.tries + 1)
    return done


def deliver(context: Context, stored: Stored) -> list[StoredObject]:
    """Store one correction's objects; storing what is there already changes nothing."""
    body, outcome = stored.body, stored.outcome
    orthanc = context.orthanc
    series = series_named(orthanc, outcome["study"], body["source_series"])
    index = instances_of(orthanc, series)
    if not index:
        raise MissingError("series_unknown")
    (file,) = orthanc.fetch([index[len(index) // 2].name])
    reading = reading_of(stored, context.version)
    made = correction_objects_limited(file, index, reading)
    orthanc.stow([each.file for each in made])
    objects = [
        StoredObject(each.modality, each.sop_instance_uid, each.series_instance_uid)
        for each in made
    ]
    # Before it counts as done: without an audit it is done again rather than never noted.
    context.audit.write(
        None,
        "correction.delivered",
        study_key=stored.study_key,
        actor="gateway",
        facts={"seq": stored.seq, "objects": len(objects)},
    )
    context.corrections.mark_stored(stored.id, objects)
    return objects


def reading_of(stored: Stored, software_version: str) -> Reading:
    """A stored correction as its DICOM objects need it."""
    said = assessment_of(CorrectionBody.model_validate(stored.body))
    return Reading(
        assessment=said,
        reader=stored.author_name,
        received=stored.received_at.astimezone(),
        result=_result(stored.outcome["result"]),
        scores=stored.outcome["scores"],
        lesions=stored.outcome["lesions"],
        software_version=software_version,
    )


def _result(told: Mapping[str, Any]) -> AssessedResult:
    plain = dict(told)
    segmentation, scores = plain["segmentation"], plain["scores"]
    plain["report"] = ObjectReference(**plain["report"])
    plain["segmentation"] = ObjectReference(**segmentation) if segmentation else None
    plain["scores"] = AlgorithmScores(**scores) if scores else None
    return AssessedResult(**plain)
