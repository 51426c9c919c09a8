"""Routes of corrections: what readers said of results, kept for good."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response

from dicom_services.access.principal import Principal
from dicom_services.api.assessing import assess
from dicom_services.api.context import Context, ContextDep, PrincipalDep, StudyAccess, StudyDep
from dicom_services.api.correction_answer import (
    CorrectionAnswer,
    CorrectionsAnswer,
    correction,
)
from dicom_services.api.correction_body import CorrectionBody, assessment_of, moment
from dicom_services.errors import MissingError
from dicom_services.store.correction import NewCorrection, Stored

_AT_ONCE: Final = asyncio.Semaphore(2)
"""Scoring decodes images; whoever is third waits, and the rest of the gateway does not."""


def study_uid(study: Annotated[str, Path(pattern=r"^[0-9][0-9.]{0,63}$")]) -> str:
    """Study Instance UID in the path, for the API's document; the guard has judged it."""
    return study


router = APIRouter(
    prefix="/api/studies/{study}", tags=["corrections"], dependencies=[Depends(study_uid)]
)


@router.get("/corrections", response_model=CorrectionsAnswer)
async def listed(context: ContextDep, study: StudyDep) -> Response:
    """All corrections of a study, oldest first."""
    # Masks are a million numbers: made into text in a thread, and not once more by the framework.
    return Response(await asyncio.to_thread(_listed, context, study), media_type="application/json")


@router.post(
    "/corrections",
    status_code=201,
    response_model=CorrectionAnswer,
    responses={200: {"model": CorrectionAnswer, "description": "Sent before."}},
)
async def add(
    body: CorrectionBody, context: ContextDep, principal: PrincipalDep, study: StudyDep
) -> Response:
    """Keep a reader's verdict on a result; the answer comes once it is on the disk."""
    async with _AT_ONCE:
        stored, told = await asyncio.to_thread(_kept, context, principal, study, body)
    context.corrections_waiting.set()
    return Response(told, 201 if stored.new else 200, media_type="application/json")


def _listed(context: Context, study: StudyAccess) -> str:
    stored = context.corrections.of_study(study.study_key)
    return CorrectionsAnswer(corrections=[correction(one) for one in stored]).model_dump_json()


def _kept(
    context: Context, principal: Principal, study: StudyAccess, body: CorrectionBody
) -> tuple[Stored, str]:
    stored = _keep(context, principal, study, body)
    return stored, correction(stored).model_dump_json()


def _keep(
    context: Context, principal: Principal, study: StudyAccess, body: CorrectionBody
) -> Stored:
    said = assessment_of(body)
    known = _known(context, UUID(said.id))
    outcome = known.outcome if known else assess(context.orthanc, study, said)
    stored = context.corrections.add(
        NewCorrection(
            id=UUID(said.id),
            study_key=study.study_key,
            author=principal.user,
            made_at=moment(said.made_at),
            verdict=said.verdict,
            body=body.model_dump(by_alias=True),
            reason=said.reason,
            note=said.note,
            base=UUID(said.base) if said.base else None,
            outcome=outcome,
        )
    )
    context.audit.write(
        principal,
        "correct",
        study_key=study.study_key,
        facts={"verdict": said.verdict, "seq": stored.seq, "new": stored.new},
    )
    return stored


def _known(context: Context, id: UUID) -> Stored | None:
    try:
        return context.corrections.get(id)
    except MissingError:
        return None
