"""`radloop demo`: one study through the running stack, watched from sending to stored results."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom import Dataset

from dicom_services.data_folder import DataFolder
from dicom_services.errors import UnavailableError
from dicom_services.modalities import Modality, read_modalities, with_modality
from dicom_services.orthanc import Orthanc
from dicom_services.refusals import refusal_of_path
from dicom_services.send import Receiver, Sent, send_path
from dicom_services.settings import Settings
from dicom_services.stack import change_modalities, connect

SENDER: Final = "RADLOOP-DEMO"
_FINAL: Final = frozenset({"done", "refused", "failed"})
_CALCIUM_SCORE: Final = "112058"
_MEASUREMENT_GROUP: Final = "125007"
_TRACKING: Final = "112039"
_WARNING: Final = "warning"
_UNASSIGNED: Final = "lesions not assigned to a vessel"
# Finding, site, method, category and algorithm family describe a group; they are no results.
_ABOUT_THE_GROUP: Final = frozenset(
    {"121071", "363698007", "370129005", "276214006", "111000", "130324", "warning"}
)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report: code and name of the concept, its value and unit."""

    code: str
    name: str
    value: str
    unit: str


@dataclass(frozen=True, slots=True)
class Shown:
    """How one study ended.

    Parameters
    ----------
    uid : str
        Study Instance UID.
    state, code : str
    seconds : float
        From the last image sent to the final state.
    rows : tuple
        What its report says.
    modalities : tuple of str
        Of the result objects.
    """

    uid: str
    state: str
    code: str
    seconds: float
    rows: tuple[Row, ...]
    modalities: tuple[str, ...]


def send_and_watch(
    folder: DataFolder,
    settings: Settings,
    source: Path,
    say: Say,
    advance: Callable[[int, int], None],
    limit_s: float = 600.0,
) -> tuple[Sent, list[Shown]]:
    """Send `source` as a modality of this machine and follow every study in it to its end.

    Raises
    ------
    UnavailableError
        `demo_timeout` when a study has no final state within `limit_s`.
    """
    state = folder.state()
    me = Modality(SENDER, "127.0.0.1", 11112)
    change_modalities(folder, settings, with_modality(read_modalities(folder.modalities_json), me))
    scale = settings.front.object_scale
    receiver = Receiver("127.0.0.1", state.dicom_port, settings.orthanc.aet, SENDER, scale)
    uids = _study_uids(source)
    sent = send_path(source, receiver, advance)
    last_image = time.monotonic()
    with connect(folder, state) as orthanc:
        shown = [_watch(orthanc, uid, last_image, say, limit_s) for uid in uids]
    return sent, [one for one in shown if one is not None]


def _study_uids(source: Path) -> list[str]:
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    uids: dict[str, None] = {}
    for path in files:
        try:
            if refusal_of_path(path):
                continue
            head = pydicom.dcmread(
                path, specific_tags=["StudyInstanceUID"], stop_before_pixels=True
            )
        except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError):
            continue
        uid = str(head.get("StudyInstanceUID", ""))
        if uid:
            uids[uid] = None
    return list(uids)


def _watch(orthanc: Orthanc, uid: str, last_image: float, say: Say, limit_s: float) -> Shown | None:
    told = ""
    while time.monotonic() - last_image < limit_s:
        found = orthanc.find("studies", {"StudyInstanceUID": uid})
        if not found:
            # What Orthanc did not take is in the count of the sender.
            return None
        view = orthanc.get_json(f"/radloop/studies/{found[0]}")
        line = _line(view)
        if line != told:
            say(f"{time.monotonic() - last_image:6.1f} s  {line}")
            told = line
        if view["state"] in _FINAL and not view["arriving"]:
            return _shown(orthanc, uid, view, time.monotonic() - last_image)
        time.sleep(0.05)
    raise UnavailableError("demo_timeout")


def _line(view: dict[str, Any]) -> str:
    running = [
        job["stage"]
        for series in view["series"]
        for job in series["jobs"]
        if job["state"] == "running" and job["stage"]
    ]
    state = str(view["state"])
    if view["arriving"] and state in ("received", *_FINAL):
        state = "received, waiting for a quiet sender"
    return f"{state}: {running[0]}" if running else f"{state} {view['code']}".rstrip()


def _shown(orthanc: Orthanc, uid: str, view: dict[str, Any], seconds: float) -> Shown:
    jobs = [
        job
        for series in view["series"]
        for job in series["jobs"]
        if job["state"] in ("done", "refused")
    ]
    rows: list[Row] = []
    for job in jobs:
        for result in job["results"]:
            if result["modality"] == "SR":
                rows += report_rows(_object(orthanc, result["series"]))
    return Shown(
        uid=uid,
        state=str(view["state"]),
        code=str(view["code"]),
        seconds=seconds,
        rows=tuple(rows),
        modalities=tuple(result["modality"] for job in jobs for result in job["results"]),
    )


def _object(orthanc: Orthanc, series: str) -> Dataset:
    instance = orthanc.instances_of(series)[0]
    return pydicom.dcmread(io.BytesIO(orthanc.get_bytes(f"/instances/{instance}/file")))


def report_rows(report: Dataset) -> Iterator[Row]:
    """What an SR says of the whole study, read back from the archive.

    Left out: single lesions, and the score of unassigned lesions while it is the total once more.
    """
    for group in _containers(report.get("ContentSequence", []), _MEASUREMENT_GROUP):
        items = list(group.get("ContentSequence", []))
        tracking = next((str(i.TextValue) for i in items if _code(i) == _TRACKING), "")
        if tracking.startswith("lesion"):
            continue
        for item in items:
            name = _concept(item)
            if item.ValueType == "NUM" and item.get("MeasuredValueSequence"):
                notes = [i for i in item.get("ContentSequence", []) if i.ValueType == "TEXT"]
                if notes and str(notes[0].TextValue).endswith(_UNASSIGNED):
                    continue
                value = item.MeasuredValueSequence[0]
                number = float(value.NumericValue)
                unit = str(value.MeasurementUnitsCodeSequence[0].CodeValue)
                yield Row(
                    _code(item),
                    str(notes[0].TextValue) if notes else name,
                    f"{number:.0f}" if number == round(number) else f"{number:.1f}",
                    "" if unit == "1" or unit.startswith("{") else unit.replace("[hnsf'U]", "HU"),
                )
            elif item.ValueType == "CODE" and _code(item) not in _ABOUT_THE_GROUP:
                yield Row(_code(item), name, _meaning(item), "")
    for item in _all(report.get("ContentSequence", [])):
        if item.ValueType == "CODE" and _code(item) == _WARNING:
            yield Row(_WARNING, _concept(item), _meaning(item), "")


def _all(items: Any) -> Iterator[Dataset]:
    for item in items:
        yield item
        yield from _all(item.get("ContentSequence", []))


def _containers(items: Any, code: str) -> Iterator[Dataset]:
    for item in items:
        if item.ValueType == "CONTAINER" and _code(item) == code:
            yield item
        yield from _containers(item.get("ContentSequence", []), code)


def _code(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    if not names:
        return ""
    # A value of more than 16 characters stands in another attribute (PS3.3 table 8.8-1).
    return str(names[0].get("CodeValue") or names[0].get("LongCodeValue") or "")


def _meaning(item: Dataset) -> str:
    codes = item.get("ConceptCodeSequence")
    return str(codes[0].CodeMeaning) if codes else ""


def _concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeMeaning) if names else ""


def agatston_of(rows: tuple[Row, ...]) -> list[float]:
    """The calcium scores among the rows, in their order."""
    return [float(row.value) for row in rows if row.code == _CALCIUM_SCORE]
