"""The route of structured reports as text, whoever made them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import aiohttp
from fastapi import APIRouter, Depends, Path, Request

from dicom_services.api.context import (
    ContextDep,
    StudyAccess,
    StudyDep,
    context_of,
    orthanc_json,
)
from dicom_services.api.corrections import study_uid
from dicom_services.api.result_bodies import ReadableReportOut
from dicom_services.api.study_results import moment, plain
from dicom_services.dicom.sr_child import LARGEST_BYTES, read_report_limited
from dicom_services.errors import InputError, MissingError, UnavailableError

router = APIRouter(
    prefix="/api/studies/{study}", tags=["results"], dependencies=[Depends(study_uid)]
)

Uid = Annotated[str, Path(pattern=r"^[0-9][0-9.]{0,63}$")]
_MODALITIES: Final = frozenset({"SR", "KO"})
_AT_ONCE: Final = 2
_PIECE: Final = 1 << 20


def room_of(request: Request) -> asyncio.Semaphore:
    """How many reports are read at once: each takes a processor."""
    state = request.app.state
    if not hasattr(state, "report_room"):
        state.report_room = asyncio.Semaphore(_AT_ONCE)
    found: asyncio.Semaphore = state.report_room
    return found


@router.get("/reports/{sop}")
async def report(
    request: Request, context: ContextDep, study: StudyDep, sop: Uid
) -> ReadableReportOut:
    """Give a structured report of the study as lines of text.

    Raises
    ------
    MissingError
        `report_unknown`.
    """
    instance, series = await _named(context_of(request).http, study, sop)
    try:
        data = await _file(context.http, instance["ID"])
        async with room_of(request):
            told = await asyncio.to_thread(read_report_limited, data)
    except InputError as error:
        told = _unreadable(error, instance, series)
    return ReadableReportOut(**told)


async def _named(
    http: aiohttp.ClientSession, study: StudyAccess, sop: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report's instance and series as Orthanc describes them, if it is of this study."""
    query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop}, "Expand": True}
    for instance in await orthanc_json(http, "POST", "/tools/find", query):
        series = await orthanc_json(http, "GET", f"/series/{instance['ParentSeries']}")
        ours = series["ParentStudy"] == study.orthanc_id
        if ours and series["MainDicomTags"].get("Modality") in _MODALITIES:
            return instance, series
    raise MissingError("report_unknown")


async def _file(http: aiohttp.ClientSession, instance: str) -> bytes:
    data = bytearray()
    try:
        async with http.get(f"/instances/{instance}/file") as answer:
            if answer.status == 404:
                raise MissingError("report_unknown")
            if answer.status != 200:
                raise UnavailableError("orthanc_failed", status=answer.status)
            async for piece in answer.content.iter_chunked(_PIECE):
                data += piece
                if len(data) > LARGEST_BYTES:
                    raise InputError("report_too_large", megabytes=LARGEST_BYTES >> 20)
    except TimeoutError:
        raise UnavailableError("orthanc_timeout") from None
    except aiohttp.ClientError:
        raise UnavailableError("orthanc_unreachable") from None
    return bytes(data)


def _unreadable(
    error: InputError, instance: dict[str, Any], series: dict[str, Any]
) -> dict[str, Any]:
    """What the archive's index says of a report that cannot be shown, and that it cannot."""
    of_series, of_instance = series["MainDicomTags"], instance["MainDicomTags"]
    if error.code == "report_too_large":
        why = f"The report is larger than {LARGEST_BYTES >> 20} MB and is not shown."
    elif error.code == "decoder_died":
        why = "Reading the report takes more memory or time than is allowed; it is not shown."
    else:
        why = "The file of the report is broken and cannot be read."
    day, time = (str(of_instance.get(f"InstanceCreation{one}", "")) for one in ("Date", "Time"))
    return {
        "title": plain(str(of_series.get("SeriesDescription", ""))) or "Structured report",
        "created": moment(day, time),
        "maker": plain(str(of_series.get("Manufacturer", ""))),
        "complete": False,
        "items": [],
        "warnings": [why],
    }
