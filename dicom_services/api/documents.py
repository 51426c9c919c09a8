"""The route of documents to print: a result as PDF, with a reader's correction if one is named."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response

from dicom_services.api.context import Context, ContextDep, StudyAccess, StudyDep
from dicom_services.api.correction_answer import correction
from dicom_services.api.corrections import study_uid
from dicom_services.api.study_objects import instances_of, job_result
from dicom_services.errors import MissingError
from dicom_services.orthanc import Orthanc
from dicom_services.reports.report_child import ReportSource, key_uids, report_limited

router = APIRouter(
    prefix="/api/studies/{study}", tags=["documents"], dependencies=[Depends(study_uid)]
)

_AT_ONCE: Final = asyncio.Semaphore(2)
"""A report is a second of a processor."""
_MOST_MAP_BYTES: Final = 256 << 20
"""Of maps for one report: five of 512 x 512 x 48, more than any perfusion scan covers."""

Job = Annotated[str, Path(pattern=r"^[0-9a-f]{40}$")]
CorrectionId = Annotated[UUID | None, Query(alias="correction")]


@router.get(
    "/results/{job}/report.pdf",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {}}, "description": "The report."}},
)
async def report(
    job: Job, context: ContextDep, study: StudyDep, correction_id: CorrectionId = None
) -> Response:
    """A result on A4; beside the algorithm's numbers a reader's, where a correction is named."""
    async with _AT_ONCE:
        made = await asyncio.to_thread(_report, context, study, job, correction_id)
    # The name of a file ends up in folders and histories: it names no patient.
    headers = {"Content-Disposition": f'inline; filename="radloop-{job[:12]}.pdf"'}
    return Response(made, media_type="application/pdf", headers=headers)


def _report(context: Context, study: StudyAccess, job: str, correction_id: UUID | None) -> bytes:
    orthanc = context.orthanc
    meant = job_result(orthanc, study, job)
    if meant.findings is None:
        raise MissingError("findings_missing")
    told, lesions = _correction(context, study, job, correction_id)
    index = instances_of(orthanc, meant.series)
    names = {one.uid: one.name for one in index}
    wanted = [names[uid] for uid in key_uids(meant.findings, lesions) if uid in names]
    if not wanted and index:
        wanted = [index[len(index) // 2].name]
    # Orthanc answers in parallel; the segmentation is the largest of them.
    files = orthanc.fetch([*wanted, *([meant.segmentation] if meant.segmentation else [])])
    maps = _small(orthanc, meant.maps)
    return report_limited(
        ReportSource(
            files=files[: len(wanted)],
            index=index,
            segmentation=files[-1] if meant.segmentation else None,
            findings=meant.findings,
            job=meant.job,
            correction=told,
            lesions=lesions,
            maps=dict(zip(maps, orthanc.fetch(list(maps.values())), strict=True)),
        )
    )


def _small(orthanc: Orthanc, maps: Mapping[str, str]) -> dict[str, str]:
    """As many maps, in their order, as may be held at once."""
    left = _MOST_MAP_BYTES
    found = {}
    for uid, name in maps.items():
        left -= int(orthanc.get_json(f"/instances/{name}")["FileSize"])
        if left < 0:
            break
        found[uid] = name
    return found


def _correction(
    context: Context, study: StudyAccess, job: str, correction_id: UUID | None
) -> tuple[Mapping[str, Any] | None, list[Mapping[str, Any]]]:
    """The named correction of this result; `correction_unknown` for any other."""
    if correction_id is None:
        return None, []
    stored = context.corrections.get(correction_id)
    if stored.study_key != study.study_key or stored.body["result"]["job"] != job:
        raise MissingError("correction_unknown")
    told = correction(stored).model_dump(by_alias=True)
    return told, list(stored.outcome["lesions"])
