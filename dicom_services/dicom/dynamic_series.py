"""Series of one study that are the times of one dynamic scan, found and put together.

Scanners and archives write a CT perfusion as one series for each time as often as in one piece.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dicom_services.dicom.child import Send, start_child
from dicom_services.dicom.decode_child import header_limits
from dicom_services.dicom.intake import InputSeries
from dicom_services.dicom.read import plan_dynamic
from dicom_services.errors import InputError

_FEWEST: Final = 3
"""A plain scan and one with contrast agent are often on one grid, too; they are no dynamic."""
_ALIKE: Final = (
    "SOPClassUID",
    "ProtocolName",
    "Manufacturer",
    "Rows",
    "Columns",
    "KVP",
    "SliceThickness",
    "ConvolutionKernel",
    "NumberOfFrames",
)
_DIGITS: Final = re.compile(r"[\d\s.,:#/_-]+")


def join_dynamic(found: Sequence[InputSeries]) -> list[InputSeries]:
    """Series that are one time each of one dynamic scan as one, all others as they are.

    They must be of one study and modality, acquired and reconstructed alike, named alike but for
    numbers, and reading them together must give exactly one time for each series. Series that hold
    several times of their own are never joined: two runs are two boluses.

    Parameters
    ----------
    found : sequence of InputSeries
        As `open_input` gives them.

    Returns
    -------
    list of InputSeries
        In the order of their first members. A joined one is named by the series of its first
        time; its files are those of all, its `InstanceCount` their number.
    """
    groups: dict[Hashable, list[InputSeries]] = {}
    for one in found:
        groups.setdefault(_kind(one), []).append(one)
    replaced: dict[str, InputSeries] = {}
    for members in groups.values():
        whole = _joined(members) if len(members) >= _FEWEST else None
        if whole is not None:
            replaced |= dict.fromkeys((one.series_uid for one in members), whole)
    kept = [replaced.get(one.series_uid, one) for one in found]
    return [*{one.series_uid: one for one in kept}.values()]


def _kind(one: InputSeries) -> Hashable:
    words = _DIGITS.sub(" ", str(one.facts.get("SeriesDescription", ""))).strip()
    alike = tuple(str(one.facts.get(keyword)) for keyword in _ALIKE)
    return one.study_uid, one.modality, words, alike


def _joined(members: Sequence[InputSeries]) -> InputSeries | None:
    files = tuple(file for one in members for file in one.files)
    try:
        series = _first_of_dynamic(files, len(members))
    except InputError:
        return None
    first = next((one for one in members if one.series_uid == series), None)
    if first is None:
        return None
    return replace(first, files=files, facts={**first.facts, "InstanceCount": len(files)})


def _first_of_dynamic(files: Sequence[bytes | Path], count: int) -> str:
    """The series of the first time, where files are that many series of one time each; else "".

    The last one may be left out, where the scan was stopped within it.
    """

    def work(send: Send) -> None:
        plan = plan_dynamic(files)
        send([plan.series, len(plan.times_s)])

    answer: list[Any]
    (answer,) = start_child(work, header_limits(len(files))).messages()
    series, times = answer
    return str(series) if times in (count - 1, count) else ""
