"""Whether an object belongs where it is to be stored, and whether its sender may put it there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from dicom_services.access.patients import PatientKeys
from dicom_services.access.principal import Principal, may_see
from dicom_services.api.dicomweb.admission import Identity
from dicom_services.api.dicomweb.upstream import Upstream
from dicom_services.errors import UnavailableError

ALLOWED: Final = ""
FOREIGN: Final = "study_unknown"
OTHER_STUDY: Final = "other_study"
OTHER_PATIENT: Final = "other_patient"
UID_TAKEN: Final = "uid_taken"
_GONE: Final = 404


@dataclass(frozen=True, slots=True)
class StudyThere:
    """A study that Orthanc has."""

    orthanc_id: str
    patient: str
    birth_date: str
    description: str


class Belonging:
    """The question for the objects of one request; remembers what it has asked."""

    def __init__(
        self, upstream: Upstream, keys: PatientKeys, principal: Principal, study: str
    ) -> None:
        self._upstream = upstream
        self._keys = keys
        self._principal = principal
        self._named = study
        self._sees_all = principal.role == "admin" or principal.all_patients
        self._studies: dict[str, list[StudyThere]] = {}
        self._series: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def may_enter(self, study: str) -> bool:
        """Whether anything may be stored into a study that the path names."""
        there = await self.studies(study)
        if not there:
            return self._sees_all
        return all(self._may_see(one) for one in there)

    async def why_not(self, identity: Identity) -> str:
        """ALLOWED, or why the object may not be stored."""
        if self._named and identity.study != self._named:
            return OTHER_STUDY
        there = await self.studies(identity.study)
        if not (self._sees_all or (there and all(self._may_see(one) for one in there))):
            # A new study, or another patient's: told apart by nothing.
            return FOREIGN
        if len(there) > 1 or (there and not _same_patient(there[0], identity)):
            return OTHER_PATIENT
        return await self._taken(identity)

    async def description(self, study: str) -> str:
        """Study Description of the study as it is there."""
        there = await self.studies(study)
        return there[0].description if len(there) == 1 else ""

    async def studies(self, uid: str) -> list[StudyThere]:
        """What Orthanc has under a Study Instance UID: several where patients share it."""
        async with self._lock:
            if not self._studies.get(uid):
                query = {"Level": "Study", "Query": {"StudyInstanceUID": uid}, "Expand": True}
                found = await self._upstream.json("POST", "/tools/find", query)
                self._studies[uid] = [_study(one) for one in found]
            return self._studies[uid]

    async def _taken(self, identity: Identity) -> str:
        """Whether series or instance are another study's: retrievals go by these UIDs."""
        known = self._series.get(identity.series)
        if known is None:
            if await self._elsewhere("Series", identity.series, identity):
                return UID_TAKEN
            self._series[identity.series] = identity.study
        elif known != identity.study:
            return UID_TAKEN
        is_taken = await self._elsewhere("Instance", identity.sop_instance, identity)
        return UID_TAKEN if is_taken else ALLOWED

    async def _elsewhere(self, kind: str, uid: str, identity: Identity) -> bool:
        for one in await self._upstream.json("POST", "/tools/lookup", raw=uid.encode("ascii")):
            if one.get("Type") != kind:
                continue
            try:
                told = await self._upstream.json("GET", f"{one['Path']}/study")
            except UnavailableError as error:
                if error.facts.get("status") != _GONE:
                    raise
                # Deleted in between.
                continue
            if told.get("MainDicomTags", {}).get("StudyInstanceUID", "") != identity.study:
                return True
            if kind == "Instance":
                series = await self._upstream.json("GET", f"{one['Path']}/series")
                if series.get("MainDicomTags", {}).get("SeriesInstanceUID") != identity.series:
                    return True
        return False

    def _may_see(self, study: StudyThere) -> bool:
        return may_see(self._principal, self._keys.patient(study.patient))


def _study(found: Any) -> StudyThere:
    patient = found.get("PatientMainDicomTags", {})
    return StudyThere(
        str(found["ID"]),
        str(patient.get("PatientID", "")),
        str(patient.get("PatientBirthDate", "")),
        str(found.get("MainDicomTags", {}).get("StudyDescription", "")),
    )


def _same_patient(study: StudyThere, identity: Identity) -> bool:
    dates = {study.birth_date.strip(), identity.birth_date.strip()} - {""}
    return study.patient.strip() == identity.patient.strip() and len(dates) <= 1
