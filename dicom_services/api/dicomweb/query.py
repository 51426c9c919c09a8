"""A search as the client wrote it: percent-decoded, checked, and in the words of `/tools/find`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from dicom_services.api.dicomweb import attributes
from dicom_services.api.dicomweb.answers import ProblemError
from dicom_services.api.dicomweb.paths import Level, Resource

_LONGEST_QUERY: Final = 16_384
_MOST_PARAMETERS: Final = 100
_LONGEST_VALUE: Final = 256
_MOST_UIDS: Final = 200
_MOST_WILDCARDS: Final = 8
"""Orthanc makes a regular expression of each value, and of each asterisk a loop."""
_MOST_STARS: Final = 3
"""Beside question marks, which are matched here."""
_PAGE: Final = {"studies": 1000, "series": 1000, "instances": 1000}
"""At most so many results; the client is told when there are more."""
_NUMBER: Final = re.compile(r"[0-9]{1,9}\Z")
_FIELD: Final = re.compile(
    r"(?:[0-9A-Fa-f]{8}|[A-Za-z][A-Za-z0-9]{1,63})(?:\.[0-9A-Za-z]{2,64})*\Z"
)
_HEX: Final = re.compile(r"[0-9A-Fa-f]{8}\Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DIGITS_OF_UIDS: Final = re.compile(r"[0-9.\\]+\Z")
_PATTERN: Final = {
    # PS3.4 C.2.2.2.5: a date, a time, or a range of them.
    "DA": re.compile(r"(?:[0-9]{8}-?|-[0-9]{8}|[0-9]{8}-[0-9]{8})\Z"),
    "TM": re.compile(r"[0-9.]{2,13}-?\Z|-[0-9.]{2,13}\Z|[0-9.]{2,13}-[0-9.]{2,13}\Z"),
    "IS": re.compile(r"[+-]?[0-9]{1,12}\Z"),
}
_STUDY_LEVEL: Final = frozenset((*attributes.PATIENT, *attributes.STUDY))
_SERIES_LEVEL: Final = frozenset(attributes.SERIES)
_INSTANCE_LEVEL: Final = frozenset((*attributes.INSTANCE, attributes.CLASS))


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for.

    Parameters
    ----------
    studies, series, instances : dict
        Keyword to value at each level, as `/tools/find` understands them.
    limit, offset : int
    is_fuzzy : bool
        Whether fuzzy matching was asked for, which there is not.
    """

    studies: dict[str, str] = field(default_factory=dict)
    series: dict[str, str] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)
    limit: int = 0
    offset: int = 0
    is_fuzzy: bool = False


def query_of(resource: Resource, raw: bytes) -> Query:
    """Read the query of a search below `resource`.

    Raises
    ------
    ProblemError
        400 with what is wrong; never with what was asked for.
    """
    told: dict[str, str] = {}
    for position, (name, value) in enumerate(_pairs(raw)):
        if name == "includefield":
            _check_fields(value, position)
            continue
        key = _keyword(name) if name not in ("limit", "offset", "fuzzymatching") else name
        if not key or key in told:
            raise ProblemError(400, "query_parameter", position=position)
        told[key] = value
    most = _PAGE[resource.level]
    limit = _number(told, "limit", most, least=1)
    offset = _number(told, "offset", 0)
    fuzzy = told.pop("fuzzymatching", "false").lower()
    if fuzzy not in ("true", "false"):
        raise ProblemError(400, "query_value", parameter="fuzzymatching")
    levels = _levels(resource.level, told)
    _restrict(levels["studies"], "StudyInstanceUID", resource.study)
    _restrict(levels["series"], "SeriesInstanceUID", resource.series)
    if attributes.CLASS in levels["instances"] and not (
        "StudyInstanceUID" in levels["studies"] or "SeriesInstanceUID" in levels["series"]
    ):
        # Orthanc opens every file for it.
        raise ProblemError(400, "query_too_wide")
    return Query(
        levels["studies"],
        levels["series"],
        levels["instances"],
        min(limit, most),
        offset,
        fuzzy == "true",
    )


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    if len(raw) > _LONGEST_QUERY:
        raise ProblemError(400, "query_size")
    try:
        # A plus is a space, as browsers' forms write it; %2B is a plus.
        text = "&".join(one for one in raw.decode("ascii").split("&") if one)
        return parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise ProblemError(400, "query") from None


def _check_fields(value: str, position: int) -> None:
    """Fields are a comma list; those that the index has are answered in any case."""
    for name in value.split(","):
        if name != "all" and not _FIELD.match(name):
            raise ProblemError(400, "query_parameter", position=position)


def _keyword(name: str) -> str:
    if _HEX.match(name):
        name = attributes.KEYWORDS.get(name.upper(), "")
    allowed = name in _STUDY_LEVEL | _SERIES_LEVEL | _INSTANCE_LEVEL | {attributes.MODALITIES}
    return name if allowed else ""


def _number(told: dict[str, str], name: str, default: int, least: int = 0) -> int:
    text = told.pop(name, "")
    if not text:
        return default
    if not _NUMBER.match(text) or int(text) < least:
        raise ProblemError(400, "query_value", parameter=name)
    return int(text)


def _levels(level: Level, told: dict[str, str]) -> dict[str, dict[str, str]]:
    levels: dict[str, dict[str, str]] = {"studies": {}, "series": {}, "instances": {}}
    for keyword, text in told.items():
        if keyword in _STUDY_LEVEL or keyword == attributes.MODALITIES:
            where = "studies"
        elif keyword in _SERIES_LEVEL and level != "studies":
            where = "series"
        elif keyword in _INSTANCE_LEVEL and level == "instances":
            where = "instances"
        else:
            raise ProblemError(400, "query_level", parameter=keyword)
        if value := _value(keyword, text):
            levels[where][keyword] = value
    return levels


def _value(keyword: str, text: str) -> str:
    """A value to match; "" where anything matches."""
    vr = attributes.VRS[keyword]
    if vr == "UI":
        # PS3.18 8.3.4.1: a list by commas, older clients write the backslash of DICOM.
        value = text.replace(",", "\\").strip()
        uids = value.split("\\")
        fine = not value or (_DIGITS_OF_UIDS.match(value) and len(uids) <= _MOST_UIDS)
        fine = fine and all(len(uid) <= 64 for uid in uids)
    else:
        value = re.sub(r"\*+", "*", text.strip())
        value = "" if value == "*" else value
        if keyword in (attributes.MODALITIES, "Modality"):
            value = value.replace(",", "\\")
        fine = len(value) <= _LONGEST_VALUE and value.count("*") <= _MOST_WILDCARDS
        pattern = _PATTERN.get(vr)
        fine = fine and (not value or not pattern or pattern.match(value) is not None)
        fine = fine and ("\\" not in value or vr == "CS")
        # Python's own loops for these are worse than Orthanc's.
        fine = fine and ("?" not in value or (value.count("*") <= _MOST_STARS and vr != "CS"))
    if not fine or _CONTROL.search(value):
        raise ProblemError(400, "query_value", parameter=keyword)
    return value


def _restrict(level: dict[str, str], keyword: str, uid: str) -> None:
    """What the path names counts, and a UID that the query names as well must be the same."""
    if not uid:
        return
    if keyword in level and uid not in level[keyword].split("\\"):
        # Nothing has both.
        level[keyword] = "0"
        return
    level[keyword] = uid
