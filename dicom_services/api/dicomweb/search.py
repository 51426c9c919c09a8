"""QIDO-RS from Orthanc's index: only what the caller may see, filtered before it is counted.

Orthanc's own searches never decode their arguments, answer a study's description from whichever
file comes first, open files for each instance, and know nobody's patients. `/tools/find` takes a
JSON body, so nothing has to be encoded, and answers from the index. Only an instance's size and
class are not in it: for one page of instances Orthanc's own search is asked by their UIDs.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from dicom_services.access.patients import PatientKeys
from dicom_services.access.principal import Principal, may_see
from dicom_services.api.dicomweb import attributes
from dicom_services.api.dicomweb.attributes import TAGS, Item, add_counts, add_texts, new_item
from dicom_services.api.dicomweb.paths import Level
from dicom_services.api.dicomweb.query import Query
from dicom_services.api.dicomweb.upstream import Upstream
from dicom_services.errors import UnavailableError

Found = dict[str, Any]
_One = TypeVar("_One")

_LEVELS: Final = {"studies": "Study", "series": "Series", "instances": "Instance"}
_STUDIES_AT_ONCE: Final = 100
_SERIES_AT_ONCE: Final = 20
_INSTANCES_AT_ONCE: Final = 50
"""By their UIDs in a URL, of which Orthanc reads 16 kilobytes."""
_UID: Final = re.compile(r"[0-9.]{1,64}\Z")
_PLACE: Final = re.compile(r"studies/[0-9.]{1,64}/series/[0-9.]{1,64}/instances\Z")
_MOST_FOUND: Final = 10_000
"""Where Orthanc's own limit cuts an answer without saying so, see orthanc_config.py."""
# What only the file knows, PS3.18 table 10.6.3-5: rows, columns, bits allocated, class, frames.
_OF_FILES: Final = ("00280010", "00280011", "00280100", TAGS["SOPClassUID"], "00280008")


@dataclass(frozen=True, slots=True)
class Page:
    """Results as DICOM JSON, whether there are more, and whether Orthanc told not all of them."""

    items: list[Item]
    more: bool
    is_cut: bool = False


class Search:
    """Searches of one Orthanc."""

    def __init__(self, upstream: Upstream, keys: PatientKeys) -> None:
        self._upstream = upstream
        self._keys = keys

    async def page(self, level: Level, query: Query, principal: Principal, base: str) -> Page:
        """The results that `query` names, newest study first, of what `principal` may see.

        Raises
        ------
        UnavailableError
            When Orthanc does not answer.
        """
        studies, is_cut = await self._studies(query, principal)
        wanted = slice(query.offset, query.offset + query.limit)
        if level == "studies":
            items = await self._study_items(studies[wanted], base)
            return Page(items, len(studies) > wanted.stop, is_cut)
        found: list[tuple[Found, ...]] = []
        rows = self._series(query, studies)
        rows = rows if level == "series" else self._instances(query, rows)
        async for row in rows:
            found.append(row)
            if len(found) > wanted.stop:
                break
        shown = found[wanted]
        if level == "series":
            items = [_series_item(study, series, base) for study, series in shown]
        else:
            items = await self._instance_items(shown, base)
        items = [attributes.ordered(item) for item in items]
        return Page(items, len(found) > wanted.stop, is_cut)

    async def _find(self, level: Level, query: dict[str, str]) -> list[Found]:
        # One character: to Orthanc that is one byte of UTF-8, and no letter with an accent.
        patterns = {key: _pattern(text) for key, text in query.items() if "?" in text}
        body = {
            "Level": _LEVELS[level],
            "Query": {key: text.replace("?", "*") for key, text in query.items()},
            "Expand": True,
            # PS3.4 C.2.2.2.1.2 lets names match so; nobody wants it otherwise for descriptions.
            "CaseSensitive": False,
        }
        found = await self._upstream.json("POST", "/tools/find", body)
        if not isinstance(found, list):
            raise UnavailableError("orthanc_broken_answer")
        if patterns:
            return [one for one in found if _matches(one, patterns)]
        return found

    async def _studies(self, query: Query, principal: Principal) -> tuple[list[Found], bool]:
        """Those that may be seen, and whether there may be some that Orthanc did not tell."""
        found = await self._find("studies", query.studies)
        is_cut = len(found) >= _MOST_FOUND
        if not (principal.role == "admin" or principal.all_patients):
            found = [one for one in found if may_see(principal, self._keys.patient(_patient(one)))]
        # Newest first, and always in the same order, or pages would overlap.
        found.sort(key=lambda one: _text(one, "StudyInstanceUID"))
        found.sort(key=lambda one: (_text(one, "StudyDate"), _text(one, "StudyTime")), reverse=True)
        return found, is_cut

    async def _series(
        self, query: Query, studies: Sequence[Found]
    ) -> AsyncIterator[tuple[Found, ...]]:
        for some in _parts(studies, _STUDIES_AT_ONCE):
            asked = dict(query.series)
            asked["StudyInstanceUID"] = _uids(some, "StudyInstanceUID")
            below = await self._below("series", asked, "ParentStudy", "SeriesNumber")
            for study in some:
                for series in below.get(study["ID"], ()):
                    yield study, series

    async def _instances(
        self, query: Query, rows: AsyncIterator[tuple[Found, ...]]
    ) -> AsyncIterator[tuple[Found, ...]]:
        waiting: list[tuple[Found, ...]] = []
        async for row in rows:
            waiting.append(row)
            if len(waiting) == _SERIES_AT_ONCE:
                async for found in self._instances_of(query, waiting):
                    yield found
                waiting = []
        async for found in self._instances_of(query, waiting):
            yield found

    async def _instances_of(
        self, query: Query, rows: Sequence[tuple[Found, ...]]
    ) -> AsyncIterator[tuple[Found, ...]]:
        if not rows:
            return
        asked = dict(query.instances)
        asked["SeriesInstanceUID"] = _uids([row[1] for row in rows], "SeriesInstanceUID")
        below = await self._below("instances", asked, "ParentSeries", "InstanceNumber")
        for study, series in rows:
            for instance in below.get(series["ID"], ()):
                yield study, series, instance

    async def _below(
        self, level: Level, asked: dict[str, str], parent: str, number: str
    ) -> dict[str, list[Found]]:
        """What lies below each parent, in the order of its number."""
        below: dict[str, list[Found]] = {}
        for one in await self._find(level, asked):
            below.setdefault(str(one.get(parent)), []).append(one)
        for some in below.values():
            some.sort(key=lambda one: (_integer(_text(one, number)), str(one["ID"])))
        return below

    async def _study_items(self, studies: Sequence[Found], base: str) -> list[Item]:
        items = []
        for some in _parts(studies, _STUDIES_AT_ONCE):
            asked = {"StudyInstanceUID": _uids(some, "StudyInstanceUID")}
            below = await self._below("series", asked, "ParentStudy", "SeriesNumber")
            items += [_study_item(study, below.get(study["ID"], []), base) for study in some]
        return items

    async def _instance_items(self, rows: Sequence[tuple[Found, ...]], base: str) -> list[Item]:
        items = [_instance_item(base, *row) for row in rows]
        by_uid = {item[TAGS["SOPInstanceUID"]]["Value"][0]: item for item in items}
        for target in _targets(rows):
            told = await self._upstream.json("GET", target)
            for one in told if isinstance(told, list) else ():
                uid = (one.get(TAGS["SOPInstanceUID"], {}).get("Value") or [""])[0]
                item = by_uid.get(uid, {})
                item |= {tag: one[tag] for tag in _OF_FILES if item and tag in one}
        return items


def _targets(rows: Sequence[tuple[Found, ...]]) -> Iterator[str]:
    """Where Orthanc tells of these instances' files: a series at once is cheaper by half."""
    by_series: dict[str, list[tuple[Found, ...]]] = {}
    for row in rows:
        by_series.setdefault(row[1]["ID"], []).append(row)
    rest: list[str] = []
    for some in by_series.values():
        study, series, _ = some[0]
        place = f"studies/{_text(study, 'StudyInstanceUID')}/series"
        place += f"/{_text(series, 'SeriesInstanceUID')}/instances"
        if len(some) == len(series.get("Instances", ())) and _PLACE.match(place):
            yield f"/dicom-web/{place}"
        else:
            rest += [_text(row[2], "SOPInstanceUID") for row in some]
    # What came before there was a gate may have anything for a UID.
    for part in _parts([uid for uid in rest if _UID.match(uid)], _INSTANCES_AT_ONCE):
        yield "/dicom-web/instances?SOPInstanceUID=" + ",".join(part)


def _study_item(study: Found, series: Sequence[Found], base: str) -> Item:
    item = new_item(f"{base}/studies/{_text(study, 'StudyInstanceUID')}")
    _add_study(item, study)
    modalities = sorted({_text(one, "Modality") for one in series} - {""})
    item[TAGS[attributes.MODALITIES]] = attributes.element(attributes.MODALITIES, *modalities)
    instances = sum(len(one.get("Instances", ())) for one in series)
    add_counts(
        item, NumberOfStudyRelatedSeries=len(series), NumberOfStudyRelatedInstances=instances
    )
    return attributes.ordered(item)


def _series_item(study: Found, series: Found, base: str) -> Item:
    item = new_item(
        f"{base}/studies/{_text(study, 'StudyInstanceUID')}"
        f"/series/{_text(series, 'SeriesInstanceUID')}"
    )
    _add_study(item, study)
    add_texts(item, series.get("MainDicomTags", {}))
    add_counts(item, NumberOfSeriesRelatedInstances=len(series.get("Instances", ())))
    return item


def _instance_item(base: str, study: Found, series: Found, instance: Found) -> Item:
    item = _series_item(study, series, base)
    url = item[TAGS["RetrieveURL"]]["Value"][0]
    url += f"/instances/{_text(instance, 'SOPInstanceUID')}"
    item[TAGS["RetrieveURL"]] = attributes.element("RetrieveURL", url)
    del item[TAGS["NumberOfSeriesRelatedInstances"]]
    add_texts(item, instance.get("MainDicomTags", {}))
    return item


def _add_study(item: Item, study: Found) -> None:
    add_texts(item, study.get("PatientMainDicomTags", {}))
    add_texts(item, study.get("MainDicomTags", {}))


def _text(found: Found, keyword: str) -> str:
    value = found.get("MainDicomTags", {}).get(keyword, "")
    return value.strip(" \0") if isinstance(value, str) else ""


def _pattern(text: str) -> re.Pattern[str]:
    """A text with wildcards, PS3.4 C.2.2.2.4."""
    parts = (".*" if one == "*" else "." if one == "?" else re.escape(one) for one in text)
    return re.compile("".join(parts) + r"\Z", re.IGNORECASE | re.DOTALL)


def _matches(found: Found, patterns: Mapping[str, re.Pattern[str]]) -> bool:
    texts = {**found.get("PatientMainDicomTags", {}), **found.get("MainDicomTags", {})}
    return all(pattern.match(str(texts.get(key, ""))) for key, pattern in patterns.items())


def _patient(study: Found) -> str:
    return str(study.get("PatientMainDicomTags", {}).get("PatientID", ""))


def _uids(found: Sequence[Found], keyword: str) -> str:
    return "\\".join(dict.fromkeys(_text(one, keyword) for one in found))


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 1 << 40


def _parts(values: Sequence[_One], size: int) -> Iterator[Sequence[_One]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
