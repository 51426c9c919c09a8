"""What the plugin asks of Orthanc: short REST calls from its own threads, nothing that runs a job.

Every call holds Python's global lock until Orthanc answers, so each is one small query.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import orthanc

from orthanc_plugins.door import DOOR

METADATA: Final = "radloop"
"""Named in the configuration's UserMetadata; listings show this name, not its number."""
CURSOR: Final = 5001
"""Global property that keeps the number of the last change that is settled."""
PAGE: Final = 1_000


_ABSENT: Final = frozenset({7, 17})
"""InexistentItem and UnknownResource; every other error means that Orthanc could not answer now."""


def get(path: str) -> Any:
    """The JSON answer of a GET; None where there is no such thing.

    Any other error of Orthanc's is raised as it is: what cannot be read now is not gone. Every
    call ends in `door.ClosedError` once Orthanc stops.
    """
    DOOR.require()
    try:
        return json.loads(orthanc.RestApiGet(path))
    except orthanc.OrthancException as error:
        if error.args and error.args[0] in _ABSENT:
            return None
        raise


def changes(since: int) -> tuple[list[dict[str, Any]], int, bool]:
    """A page of the change log after `since`, its last number, and whether it was the last page."""
    page = get(f"/changes?since={since}&limit={PAGE}")
    if page is None:
        return [], since, True
    return page["Changes"], max(int(page["Last"]), since), bool(page["Done"])


def read_cursor() -> int | None:
    """The saved change number; None on the first start of this archive."""
    DOOR.require()
    text = orthanc.GetGlobalProperty(CURSOR, "")
    return int(text) if text else None


def write_cursor(change: int) -> None:
    """Save the change number below which nothing is left to do."""
    DOOR.require()
    orthanc.SetGlobalProperty(CURSOR, str(change))


def series_ids() -> Iterator[str]:
    """Every series of the archive."""
    yield from get("/series") or []


def series(series_id: str) -> dict[str, Any] | None:
    """Orthanc's own description of a series."""
    answer = get(f"/series/{series_id}")
    return answer if isinstance(answer, dict) else None


def study_series(study_id: str) -> list[str]:
    """Ids of the series of a study; empty where there is no such study."""
    answer = get(f"/studies/{study_id}")
    return list(answer["Series"]) if isinstance(answer, dict) else []


def instance(instance_id: str) -> dict[str, Any] | None:
    """Orthanc's own description of an instance, from its index; its file is not read."""
    answer = get(f"/instances/{instance_id}")
    return answer if isinstance(answer, dict) else None


def instances(since: int, limit: int) -> list[dict[str, Any]]:
    """A page of descriptions of all instances, in an order that does not change."""
    return list(get(f"/instances?expand&since={since}&limit={limit}") or [])


def origin(instance_id: str) -> str:
    """How an instance came: "DicomProtocol", "RestApi", "Plugins", ...; "" where it is gone."""
    answer = get(f"/instances/{instance_id}/metadata?expand")
    return str(answer.get("Origin", "Unknown")) if isinstance(answer, dict) else ""


def delete_instance(instance_id: str) -> None:
    """Delete an instance from the archive; nothing parses it. One that is gone is no error."""
    DOOR.require()
    try:
        orthanc.RestApiDelete(f"/instances/{instance_id}")
    except orthanc.OrthancException as error:
        if not error.args or error.args[0] not in _ABSENT:
            raise


def quarantined(study_id: str) -> dict[str, list[str]]:
    """Ids of the instances of a study that were taken into quarantine, by series.

    It is kept with the study, because the last instance of a series takes the series with it.
    """
    answer = get(f"/studies/{study_id}/metadata?expand")
    try:
        told = json.loads(answer[METADATA])
        return {str(one): [str(name) for name in told[one]] for one in told}
    except (KeyError, TypeError, ValueError):
        return {}


def note_quarantined(study_id: str, taken: dict[str, list[str]]) -> None:
    """Keep what `quarantined` tells."""
    text = json.dumps(taken, separators=(",", ":"))
    DOOR.require()
    try:
        orthanc.RestApiPut(f"/studies/{study_id}/metadata/{METADATA}", text.encode("ascii"))
    except orthanc.OrthancException as error:
        if not error.args or error.args[0] not in _ABSENT:
            raise


def metadata(series_id: str) -> dict[str, str]:
    """All metadata of a series, by name."""
    answer = get(f"/series/{series_id}/metadata?expand")
    return answer if isinstance(answer, dict) else {}


def write_metadata(series_id: str, text: str) -> bool:
    """Keep our record of a series; False where the series is gone."""
    DOOR.require()
    try:
        orthanc.RestApiPut(f"/series/{series_id}/metadata/{METADATA}", text.encode("utf-8"))
    except orthanc.OrthancException as error:
        if error.args and error.args[0] in _ABSENT:
            return False
        raise
    return True


def facts(instance_id: str) -> dict[str, Any]:
    """The top-level attributes of an instance by keyword, as strings or lists of strings."""
    answer = get(f"/instances/{instance_id}/simplified-tags")
    if not isinstance(answer, dict):
        return {}
    kept: dict[str, Any] = {}
    for keyword, value in answer.items():
        if isinstance(value, str) and len(value) <= 1_024:
            kept[keyword] = value.split("\\") if "\\" in value else value
        elif isinstance(value, list) and keyword == "ContributingEquipmentSequence":
            kept[keyword] = str(len(value))
    return kept
