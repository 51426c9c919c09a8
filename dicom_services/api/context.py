"""What every route works with, opened once: Orthanc, accounts, corrections, audit, studies."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Final

import aiohttp
from fastapi import Depends, Request

from dicom_services.access.patients import PatientKeys
from dicom_services.access.principal import Principal
from dicom_services.api.config import GatewayConfig
from dicom_services.api.rules import UID
from dicom_services.errors import AccessError, MissingError, UnavailableError
from dicom_services.orthanc import Orthanc
from dicom_services.settings import read_secret
from dicom_services.store.accounts import Accounts
from dicom_services.store.audit import Audit
from dicom_services.store.corrections import Corrections
from dicom_services.store.records import open_records
from dicom_services.store.sessions import Limits
from dicom_services.store.vault import Vault

_UID: Final = re.compile(rf"{UID}\Z")
# As long as a study may be read on after its patient's number was corrected.
_KNOWN_S: Final = 5.0
# What Explorer's addresses name, and where Orthanc tells of the studies that this is of.
_NAMED: Final = re.compile(
    r"/explorer/(patients|studies|series|instances)/([0-9a-f]{8}(?:-[0-9a-f]{8}){4})(?:/|\Z)"
)
_STUDIES_OF: Final = {
    "patients": "/patients/{}/studies",
    "studies": "/studies/{}",
    "series": "/series/{}/study",
    "instances": "/instances/{}/study",
}
# A study that arrives is seen this much later.
_ABSENT_S: Final = 1.0
_MOST_KNOWN: Final = 4096
# Debian's Orthanc has fifty threads for HTTP; workers and plugin need some.
_CONNECTIONS: Final = 32


@dataclass(frozen=True, slots=True)
class StudyAccess:
    """A study as everybody behind the guard knows it; keys stand for what names a patient."""

    uid: str
    orthanc_id: str
    study_key: str
    patient_key: str


class StudyLookup:
    """Studies by Study Instance UID, asked of Orthanc and remembered for seconds."""

    def __init__(self, http: aiohttp.ClientSession, keys: PatientKeys) -> None:
        self._http = http
        self._keys = keys
        self._known: dict[str, tuple[float, StudyAccess | None]] = {}
        self._asking: dict[str, asyncio.Task[dict[str, StudyAccess]]] = {}
        self._keys_of: dict[tuple[str, str], tuple[str, ...]] = {}

    async def find(self, uid: str) -> StudyAccess | None:
        """The study; None where there is none, or where its UID stands for several patients.

        Raises
        ------
        UnavailableError
            `orthanc_unreachable`, `orthanc_failed` or `orthanc_timeout`.
        """
        until, study = self._known.get(uid, (0.0, None))
        if time.monotonic() < until:
            return study
        asking = self._asking.get(uid)
        if asking is None:
            # A viewer asks for a hundred frames at once: one of them asks for all.
            asking = asyncio.create_task(self.many((uid,)))
            self._asking[uid] = asking
            asking.add_done_callback(lambda _: self._asking.pop(uid, None))
        return (await asyncio.shield(asking)).get(uid)

    async def many(self, uids: Sequence[str]) -> dict[str, StudyAccess]:
        """Those of `uids` that there are, by one question to Orthanc."""
        now = time.monotonic()
        found: dict[str, StudyAccess] = {}
        unknown = []
        for uid in dict.fromkeys(uids):
            until, study = self._known.get(uid, (0.0, None))
            if now >= until:
                if _UID.match(uid):
                    unknown.append(uid)
            elif study:
                found[uid] = study
        if unknown:
            answers = await self._ask(unknown)
            if len(self._known) + len(unknown) > _MOST_KNOWN:
                self._known.clear()
            for uid in unknown:
                study = answers.get(uid)
                self._known[uid] = (now + (_KNOWN_S if study else _ABSENT_S), study)
                if study:
                    found[uid] = study
        return found

    async def keys_of(self, path: str) -> tuple[str, ...]:
        """Keys of the studies that an address of Explorer is about; none for one about others.

        Raises
        ------
        UnavailableError
            As `find`.
        """
        found = _NAMED.match(path)
        if not found:
            return ()
        level, name = found[1], found[2]
        if (level, name) in self._keys_of:
            return self._keys_of[level, name]
        try:
            told = await orthanc_json(self._http, "GET", _STUDIES_OF[level].format(name))
        except MissingError:
            return ()
        studies = told if isinstance(told, list) else [told]
        keys = tuple(self._keys.study(one["MainDicomTags"]["StudyInstanceUID"]) for one in studies)
        if level != "patients":
            # Orthanc's names follow from the UIDs: one never stands for another study.
            if len(self._keys_of) >= _MOST_KNOWN:
                self._keys_of.clear()
            self._keys_of[level, name] = keys
        return keys

    def forget(self, uid: str) -> None:
        """Ask again next time, for example after storing into the study."""
        self._known.pop(uid, None)

    async def _ask(self, uids: Sequence[str]) -> dict[str, StudyAccess]:
        # A list of UIDs matches each of them, PS3.4 C.2.2.2.2.
        query = {"Level": "Study", "Query": {"StudyInstanceUID": "\\".join(uids)}, "Expand": True}
        told = await orthanc_json(self._http, "POST", "/tools/find", query)
        found: dict[str, StudyAccess] = {}
        several = set()
        for one in told if isinstance(told, list) else []:
            uid = str(one.get("MainDicomTags", {}).get("StudyInstanceUID", ""))
            patient = str(one.get("PatientMainDicomTags", {}).get("PatientID", ""))
            if uid in found:
                several.add(uid)
            found[uid] = StudyAccess(
                uid, str(one["ID"]), self._keys.study(uid), self._keys.patient(patient)
            )
        for uid in several:
            # DICOMweb names studies by UID alone: nobody could say whose images it would give.
            del found[uid]
        return found


async def orthanc_json(
    http: aiohttp.ClientSession, method: str, path: str, body: object = None
) -> Any:
    """A short question to Orthanc and its answer.

    Raises
    ------
    UnavailableError, MissingError, AccessError
        As the `orthanc` module's.
    """
    try:
        async with http.request(method, path, json=body) as answer:
            if answer.status == 404:
                raise MissingError("orthanc_missing")
            if answer.status in (401, 403):
                raise AccessError("orthanc_login", status=answer.status)
            if answer.status >= 300:
                raise UnavailableError("orthanc_failed", status=answer.status)
            return await answer.json(content_type=None)
    except TimeoutError:
        raise UnavailableError("orthanc_timeout") from None
    except (aiohttp.ClientError, ValueError):
        raise UnavailableError("orthanc_unreachable") from None


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a route may need.

    Parameters
    ----------
    http : aiohttp.ClientSession
        To Orthanc, with its address and password; paths begin with a slash.
    orthanc : Orthanc
        The same for code that runs in a thread.
    stopping : asyncio.Event
        Set when the gateway is about to end: streams that last then end by themselves.
    corrections_waiting : asyncio.Event
        Set when there is a correction whose objects are not in the archive yet.
    """

    config: GatewayConfig
    http: aiohttp.ClientSession
    orthanc: Orthanc
    accounts: Accounts
    corrections: Corrections
    vault: Vault
    audit: Audit
    patient_keys: PatientKeys
    studies: StudyLookup
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    corrections_waiting: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def version(self) -> str:
        """Of this software."""
        return self.config.software_version

    @property
    def orthanc_url(self) -> str:
        """For example "http://127.0.0.1:8042"."""
        return self.config.orthanc_url


def context_of(request: Request) -> Context:
    """The application's context."""
    context: Context = request.app.state.context
    return context


def principal_of(request: Request) -> Principal:
    """Who asks, as the guard found out."""
    principal: Principal = request.state.principal
    return principal


def study_of(request: Request) -> StudyAccess:
    """The study in the path, which the caller may see."""
    study: StudyAccess = request.state.study
    return study


ContextDep = Annotated[Context, Depends(context_of)]
PrincipalDep = Annotated[Principal, Depends(principal_of)]
StudyDep = Annotated[StudyAccess, Depends(study_of)]


async def open_context(config: GatewayConfig) -> Context:
    """Open everything; the database is brought up to date first.

    Raises
    ------
    ConfigError
        For a missing or short secret, or a database of a newer radloop.
    UnavailableError
        `database_unavailable`.
    """
    limits = Limits(
        idle=timedelta(minutes=config.session_idle_minutes),
        absolute=timedelta(hours=config.session_hours),
    )
    records = await asyncio.to_thread(open_records, config.places, limits=limits)
    password = read_secret(config.orthanc_password)
    http = aiohttp.ClientSession(
        config.orthanc_url,
        auth=aiohttp.BasicAuth(config.orthanc_user, password),
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=2.0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=60.0),
        auto_decompress=False,
        # Whatever Orthanc should ever set must not meet the next caller.
        cookie_jar=aiohttp.DummyCookieJar(),
        # A proxy of the environment must never see images.
        trust_env=False,
    )
    return Context(
        config=config,
        http=http,
        orthanc=Orthanc(config.orthanc_url, config.orthanc_user, password),
        accounts=records.accounts,
        corrections=records.corrections,
        vault=records.vault,
        audit=records.audit,
        patient_keys=records.patients,
        studies=StudyLookup(http, records.patients),
    )


async def close_context(context: Context) -> None:
    """Give the connections back."""
    await context.http.close()
    context.orthanc.close()
