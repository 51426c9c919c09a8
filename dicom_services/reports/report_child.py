"""Makes a report in a child with limits: it reads images and a segmentation."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from reportlab.lib.units import mm

from dicom_services.dicom.child import Limits, Send, start_child
from dicom_services.dicom.counted_mask import plane_hu
from dicom_services.dicom.indexed_series import IndexedInstance, IndexedSeries, indexed_series
from dicom_services.dicom.quiet import quiet
from dicom_services.dicom.segment_bits import SegmentBits, read_segment_bits
from dicom_services.dicom.slice_header import read_slice
from dicom_services.dicom.source_header import read_source_header
from dicom_services.domain.calcium import voxels_of_runs
from dicom_services.errors import InputError
from dicom_services.reports.calcium_sections import ALGORITHM_COLOR, READER_COLOR
from dicom_services.reports.fonts import fonts
from dicom_services.reports.key_image import KeyImage, Outline
from dicom_services.reports.map_pictures import map_pictures
from dicom_services.reports.printed_result import PrintedResult, ShownSlice
from dicom_services.reports.result_report import result_report

MOST_IMAGES: Final = 6
_CALCIUM_SEGMENT: Final = 1
_SIDE: Final = 57 * mm
_LIMITS: Final = Limits(1 << 30, 1 << 30, 60, 60, 120.0)


@dataclass(frozen=True, slots=True, eq=False)
class ReportSource:
    """What a report is made from.

    Parameters
    ----------
    files : sequence of bytes
        The key images; one image of the series where there is no lesion.
    index : sequence of IndexedInstance
        All images of the series.
    segmentation : bytes or None
        The algorithm's.
    findings, job : dict
    correction : dict or None
        As the API gives it.
    lesions : sequence of dict
        The reader's, as scored by the server.
    maps : dict
        Files of parametric maps by SOP Instance UID.
    """

    files: Sequence[bytes]
    index: Sequence[IndexedInstance]
    segmentation: bytes | None
    findings: Mapping[str, Any]
    job: Mapping[str, Any]
    correction: Mapping[str, Any] | None = None
    lesions: Sequence[Mapping[str, Any]] = ()
    maps: Mapping[str, bytes] = field(default_factory=dict)


def key_uids(findings: Mapping[str, Any], lesions: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """SOP Instance UIDs of the images to show, of the lesions of either side.

    Each lesion's best image comes first, by the lesion's score, both sides in turn; then other
    images by the highest score in them.
    """
    own: dict[str, list[Mapping[str, Any]]] = {}
    for row in findings["lesions"]:
        if row.get("counted", True):
            own.setdefault(row["id"], []).append(row)
    sides = [_by_score(list(own.values())), _by_score([one["slices"] for one in lesions])]
    parts_of = [parts for pair in zip_longest(*sides) for parts in pair if parts is not None]
    best = [max(parts, key=lambda part: (part["score"], part["peak_hu"])) for parts in parts_of]
    rest = [part for parts in parts_of for part in parts]
    rest.sort(key=lambda part: -part["score"])
    uids = dict.fromkeys(str(part["sop_instance_uid"]) for part in [*best, *rest])
    return list(uids)[:MOST_IMAGES]


def _by_score(parts_of: list[Any]) -> list[Any]:
    return sorted(parts_of, key=lambda parts: -sum(part["score"] for part in parts))


def report_limited(source: ReportSource) -> bytes:
    """The report as a PDF.

    Raises
    ------
    InputError
        What reading images raises, and `decoder_died`.
    """
    # Before the fork, so that each child finds them.
    fonts()

    def work(send: Send) -> None:
        with quiet():
            send(base64.b64encode(report_pdf(source)).decode())

    (answer,) = start_child(work, _LIMITS).messages()
    return base64.b64decode(answer)


def report_pdf(source: ReportSource) -> bytes:
    """As `report_limited`, in this process."""
    if not source.files:
        raise InputError("no_files")
    series = _series(source)
    pictures, missing = map_pictures(source.findings, source.maps)
    return result_report(
        PrintedResult(
            header=series.source.header if series else read_source_header(source.files[0]),
            findings=source.findings,
            job=source.job,
            shown=_shown(source, series) if series else (),
            correction=source.correction,
            lesions=source.lesions,
            maps=pictures,
            missing_maps=missing,
        )
    )


def _series(source: ReportSource) -> IndexedSeries | None:
    """None where no image is shown: those of many times, or of one file, are no single stack."""
    if not key_uids(source.findings, source.lesions):
        return None
    return indexed_series(source.files[0], source.index)


def _shown(source: ReportSource, series: IndexedSeries) -> list[ShownSlice]:
    wanted = set(key_uids(source.findings, source.lesions))
    slices = [one for one in map(read_slice, source.files) if one.uid in wanted]
    slices.sort(key=lambda one: series.k_of[one.uid])
    bits = read_segment_bits(source.segmentation, series) if source.segmentation else None
    count = series.geometry.shape[0]
    found = []
    for one in slices:
        k = series.k_of[one.uid]
        outlines = _outlines(source, series, bits, one.uid)
        image = KeyImage(plane_hu(one, series), series.geometry, outlines, _SIDE)
        found.append(ShownSlice(image, _caption(source, one.uid, k, count)))
    return found


def _outlines(
    source: ReportSource, series: IndexedSeries, bits: SegmentBits | None, uid: str
) -> list[Outline]:
    k = series.k_of[uid]
    found = []
    if bits is not None:
        found.append(Outline(bits.plane(_CALCIUM_SEGMENT, k), ALGORITHM_COLOR))
    edit = (source.correction or {}).get("calcium")
    if edit:
        found.append(Outline(_drawn(edit["mask"], series, uid), READER_COLOR))
    return found


def _drawn(mask: Sequence[Mapping[str, Any]], series: IndexedSeries, uid: str) -> NDArray[np.bool_]:
    plane = np.zeros(series.geometry.shape[1:], np.bool_)
    for entry in mask:
        if entry["sop_instance_uid"] == uid:
            runs = [(0, entry["vessel"], entry["runs"])]
            _, row, column, _ = voxels_of_runs(runs, series.geometry.shape)
            plane[row, column] = True
    return plane


def _caption(source: ReportSource, uid: str, k: int, count: int) -> str:
    rows = [
        row
        for row in source.findings["lesions"]
        if row["sop_instance_uid"] == uid and row.get("counted", True)
    ]
    words = f"Image {k + 1} of {count}"
    if rows:
        names = ", ".join(dict.fromkeys(row["id"] for row in rows))
        words += f": {names}, Agatston {sum(row['score'] for row in rows):.1f} AU"
    theirs = [
        part["score"]
        for one in source.lesions
        for part in one["slices"]
        if part["sop_instance_uid"] == uid
    ]
    if source.correction is not None and source.correction["calcium"] is not None:
        words += f"; reader {sum(theirs):.1f}"
    return words
