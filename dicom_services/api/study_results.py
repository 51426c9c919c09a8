"""What the archive and its plugin know of a study's results, put together for the viewer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from dicom_services.api.context import StudyAccess, orthanc_json
from dicom_services.api.words import words
from dicom_services.dicom.findings_bytes import unpack
from dicom_services.dicom.provenance import MANUFACTURER, NOTICE
from dicom_services.errors import MissingError, UnavailableError
from dicom_services.orthanc import FINDINGS

Json = dict[str, Any]

# More would not fit into the longest line that Orthanc's web server takes.
_AT_ONCE: Final = 100
_MOST_DOCUMENTS: Final = 5
"""Of a series; what is older is told without its findings."""
_MOST_REPORTS: Final = 200
_KEPT_DOCUMENTS: Final = 32
_KEPT_HEADS: Final = 2_000
_PARALLEL: Final = 8
_LONGEST: Final = 200
# Numbers of our own series (dicom/report.py, dicom/assessment_report.py).
_KINDS: Final = {"9002": "result", "9102": "assessment"}
_TITLE: Final = "0040-a043/0/0008-0104"
_CONTENT_DATE: Final = "0008-0023"
_CONTENT_TIME: Final = "0008-0033"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Overview:
    """A study as the plugin sees it, and its series as Orthanc describes them, by Orthanc id."""

    view: Json
    series: Mapping[str, Json]

    @property
    def state(self) -> tuple[str, str]:
        """State and code of the study."""
        return str(self.view["state"]), str(self.view["code"])

    @property
    def version(self) -> int:
        """Another number whenever anything of it is another; no number for an order."""
        told = [self.view, sorted((name, one["Instances"]) for name, one in self.series.items())]
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        # 48 bits: JavaScript's numbers hold 53.
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


class StudyResults:
    """Asks Orthanc and the plugin; remembers what cannot change."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._documents: OrderedDict[str, Json] = OrderedDict()
        self._heads: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._room = asyncio.Semaphore(_PARALLEL)

    async def states(self, studies: Sequence[StudyAccess]) -> dict[str, Json]:
        """State, code and headline by Study Instance UID; studies that are gone are left out."""
        found: dict[str, Json] = {}
        for at in range(0, len(studies), _AT_ONCE):
            some = studies[at : at + _AT_ONCE]
            names = ",".join(study.orthanc_id for study in some)
            told = await self._get(f"/radloop/states?studies={names}")
            found |= {
                study.uid: _row(told[study.orthanc_id])
                for study in some
                if study.orthanc_id in told
            }
        return found

    async def overview(self, study: StudyAccess) -> Overview:
        """How the study stands now.

        Raises
        ------
        MissingError
            `study_unknown` when it went away meanwhile.
        """
        try:
            view, series = await asyncio.gather(
                self._get(f"/radloop/studies/{study.orthanc_id}"),
                self._get(f"/studies/{study.orthanc_id}/series"),
            )
        except MissingError:
            raise MissingError("study_unknown") from None
        return Overview(view, {str(one["ID"]): one for one in series})

    async def series_id(self, study: StudyAccess, uid: str) -> str:
        """Orthanc's id of a series of the study.

        Raises
        ------
        MissingError
            `series_unknown`.
        """
        for one in await self._get(f"/studies/{study.orthanc_id}/series"):
            if one["MainDicomTags"].get("SeriesInstanceUID") == uid:
                return str(one["ID"])
        raise MissingError("series_unknown")

    async def results(self, study: StudyAccess) -> Json:
        """All of it, as `ResultsOut`."""
        now = await self.overview(study)
        known = [one for one in now.view["series"] if one["series"] in now.series]
        known.sort(key=lambda one: _order(now.series[one["series"]]))
        series, reports = await asyncio.gather(
            asyncio.gather(*(self._series(one, now) for one in known)), self._reports(now)
        )
        state, code = now.state
        return {
            "study": study.uid,
            "state": state,
            "code": code,
            "reason": words(code),
            "notice": NOTICE,
            "version": now.version,
            "series": list(series),
            "reports": reports,
        }

    async def _series(self, view: Json, now: Overview) -> Json:
        tags = now.series[view["series"]]["MainDicomTags"]
        uid = str(tags.get("SeriesInstanceUID", ""))
        reported = [job for job in view["jobs"] if job.get("results")][:_MOST_DOCUMENTS]
        documents = await asyncio.gather(*(self._document(job, now) for job in reported))
        found = {job["job"]: text for job, text in zip(reported, documents, strict=True)}
        return {
            "series": uid,
            "modality": str(tags.get("Modality", "")),
            "state": view["state"],
            "code": view["code"],
            "reason": words(view["code"]),
            "excluded_by": view["excluded_by"],
            "why": view["why"],
            "jobs": [_job(job, uid, found.get(job["job"])) for job in view["jobs"]],
        }

    async def _document(self, job: Json, now: Overview) -> Json | None:
        """The findings beside the job's report; None where there are none."""
        report = next((one for one in job["results"] if one["modality"] == "SR"), None)
        series = now.series.get(str(report["series"])) if report else None
        if series is None or not series["Instances"]:
            return None
        instance = str(series["Instances"][0])
        if instance not in self._documents:
            data = await self._bytes(f"/instances/{instance}/attachments/{FINDINGS}/data")
            document = await asyncio.to_thread(unpack, data) if data is not None else None
            if document is None:
                return None
            _remember(self._documents, instance, document, _KEPT_DOCUMENTS)
        self._documents.move_to_end(instance)
        return self._documents[instance]

    async def _reports(self, now: Overview) -> list[Json]:
        """Every structured report of the study, the newest first."""
        of_jobs = {
            str(result["sop"])
            for series in now.view["series"]
            for job in series["jobs"]
            for result in job["results"]
        }
        every = now.series.values()
        written = [one for one in every if one["MainDicomTags"].get("Modality") == "SR"]
        listed = await asyncio.gather(
            *(self._get(f"/series/{one['ID']}/instances") for one in written[:_MOST_REPORTS])
        )
        pairs = [
            (series["MainDicomTags"], instance)
            for series, instances in zip(written, listed, strict=False)
            for instance in instances
        ][:_MOST_REPORTS]
        found = await asyncio.gather(*(self._report(*pair, of_jobs) for pair in pairs))
        return sorted(found, key=lambda one: str(one["created"]), reverse=True)

    async def _report(self, series: Json, instance: Json, of_jobs: set[str]) -> Json:
        tags = instance["MainDicomTags"]
        sop, maker = str(tags.get("SOPInstanceUID", "")), str(series.get("Manufacturer", ""))
        ours = maker == MANUFACTURER and _KINDS.get(str(series.get("SeriesNumber", "")))
        title, written = await self._head(str(instance["ID"]))
        created = moment(
            str(tags.get("InstanceCreationDate", "")), str(tags.get("InstanceCreationTime", ""))
        )
        described = plain(str(series.get("SeriesDescription", "")))
        return {
            "sop_instance_uid": sop,
            "series_instance_uid": str(series.get("SeriesInstanceUID", "")),
            "title": title or described or "Structured report",
            "created": written or created,
            "maker": plain(maker),
            "kind": "result" if sop in of_jobs else ours or "other",
        }

    async def _head(self, instance: str) -> tuple[str, str]:
        """The document's title, "" where it is not in plain letters, and when it was written."""
        if instance not in self._heads:
            paths = (_TITLE, _CONTENT_DATE, _CONTENT_TIME)
            parts = await asyncio.gather(
                *(self._bytes(f"/instances/{instance}/content/{path}") for path in paths)
            )
            # The title is in the character set of the file, which only its parser knows.
            texts = [
                plain(part.decode("ascii")) if part and part.isascii() else "" for part in parts
            ]
            head = (texts[0], moment(texts[1], texts[2]))
            _remember(self._heads, instance, head, _KEPT_HEADS)
        return self._heads[instance]

    async def _get(self, path: str) -> Any:
        async with self._room:
            return await orthanc_json(self._http, "GET", path)

    async def _bytes(self, path: str) -> bytes | None:
        """The body of a GET; None where there is nothing, or nothing that Orthanc can read."""
        try:
            async with self._room, self._http.get(path) as answer:
                return await answer.read() if answer.status == 200 else None
        except TimeoutError:
            raise UnavailableError("orthanc_timeout") from None
        except aiohttp.ClientError:
            raise UnavailableError("orthanc_unreachable") from None


def plain(text: str) -> str:
    """One line of text of a bearable length, without what would turn or break lines."""
    return _CONTROL.sub(" ", text).strip()[:_LONGEST]


def moment(day: str, time: str) -> str:
    """DICOM's date and time as ISO 8601, local to whoever wrote them; "" where there is none."""
    date = re.fullmatch(r"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})", day.strip())
    if date is None:
        return ""
    hours = re.match(r"([0-9]{2}):?([0-9]{2})?:?([0-9]{2})?", time.strip())
    parts = [part or "00" for part in hours.groups()] if hours else ["00", "00", "00"]
    return f"{date[1]}-{date[2]}-{date[3]}T{':'.join(parts)}"


def _row(told: Json) -> Json:
    state, code = str(told["state"]), str(told["code"])
    lacks = state in ("refused", "failed")
    return {
        "state": state,
        "code": code,
        "headline": words(code) if lacks else str(told["summary"]),
    }


def _job(job: Json, series: str, findings: Json | None) -> Json:
    superseded = job["state"] == "superseded" or bool(job.get("superseded_by"))
    return {
        "job": job["job"],
        "series": series,
        "pipeline": job["pipeline"],
        "state": job["state"],
        "stage": job["stage"],
        "code": job["code"],
        "reason": words(job["code"]),
        "run": job["run"],
        "entered": job["created"],
        "updated": job["updated"],
        "summary": job["summary"],
        "superseded": superseded,
        "findings": findings,
    }


def _order(series: Json) -> tuple[int, str]:
    tags = series["MainDicomTags"]
    number = str(tags.get("SeriesNumber", "")).strip()
    return (
        int(number) if re.fullmatch(r"-?[0-9]{1,12}", number) else 1 << 40,
        str(tags.get("SeriesInstanceUID", "")),
    )


def _remember(kept: OrderedDict[str, Any], name: str, value: Any, most: int) -> None:
    kept[name] = value
    while len(kept) > most:
        kept.popitem(last=False)
