"""Routes of results: states for lists, everything about a study, run again."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse

from dicom_services.access.principal import may_see
from dicom_services.api.context import ContextDep, PrincipalDep, StudyDep, context_of
from dicom_services.api.corrections import study_uid
from dicom_services.api.result_bodies import ResultsOut, RunOut, StateOut
from dicom_services.api.study_results import StudyResults
from dicom_services.api.watch import Watch
from dicom_services.errors import InputError

router = APIRouter(prefix="/api", tags=["results"])
of_study = APIRouter(prefix="/studies/{study}", dependencies=[Depends(study_uid)])

Uid = Annotated[str, Path(pattern=r"^[0-9][0-9.]{0,63}$")]
Uids = Annotated[list[str], Query(alias="study", max_length=200)]


def study_results_of(request: Request) -> StudyResults:
    """The application's reader of results."""
    state = request.app.state
    if not hasattr(state, "study_results"):
        state.study_results = StudyResults(context_of(request).http)
    found: StudyResults = state.study_results
    return found


StudyResultsDep = Annotated[StudyResults, Depends(study_results_of)]


@router.get("/states")
async def states(
    uids: Uids, context: ContextDep, principal: PrincipalDep, results: StudyResultsDep
) -> dict[str, StateOut]:
    """Say how far the named studies are; what is not the caller's to see is left out."""
    known = await context.studies.many(uids)
    mine = [study for study in known.values() if may_see(principal, study.patient_key)]
    return {uid: StateOut(**row) for uid, row in (await results.states(mine)).items()}


@of_study.get("/results", responses={200: {"model": ResultsOut}})
async def study_results(study: StudyDep, results: StudyResultsDep) -> JSONResponse:
    """Give series, jobs, findings and reports of a study."""
    # Not through the model: a document of findings is a thousand numbers, checked when written.
    return JSONResponse(await results.results(study))


@of_study.post("/series/{series}/rerun", status_code=202)
async def rerun(
    request: Request,
    context: ContextDep,
    study: StudyDep,
    results: StudyResultsDep,
    series: Uid,
) -> RunOut:
    """Have the analysis of a series run again; the newer result takes the older one's place.

    Raises
    ------
    MissingError
        `series_unknown`.
    InputError
        `no_rule` when no routing rule takes the series.
    """
    name = await results.series_id(study, series)
    try:
        told: Any = await asyncio.to_thread(
            context.orthanc.post_json, f"/radloop/series/{name}/run/-", None
        )
    except InputError:
        raise InputError("no_rule") from None
    watch: Watch | None = getattr(request.app.state, "watch", None)
    if watch is not None:
        watch.look_soon()
    return RunOut(job=str(told["job"]))


router.include_router(of_study)
