"""What is printed of parametric maps and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reportlab.graphics.shapes import Drawing, Line, PolyLine
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Spacer, Table, TableStyle

from dicom_services.reports.map_pictures import map_slice
from dicom_services.reports.page import FAINT, INK, RULE, WIDTH, heading, text
from dicom_services.reports.printed_result import PrintedResult
from dicom_services.reports.unit_text import unit_text

_PER_ROW: Final = 3
_CHART: Final = (WIDTH * 0.98, 20 * mm)
_MOST_CURVES: Final = 8


def maps(report: PrintedResult) -> list[Flowable]:
    """The same slice of each map."""
    lost = [text(f"Not shown: {', '.join(report.missing_maps)}.")] if report.missing_maps else []
    if not report.maps:
        return [*heading("Maps"), *lost] if lost else []
    cells: list[Any] = []
    for one in report.maps:
        one.hAlign = "CENTER"
        cells.append([one, text(one.words, "caption")])
    rows: list[list[Any]] = [cells[n : n + _PER_ROW] for n in range(0, len(cells), _PER_ROW)]
    rows[-1] += [""] * (_PER_ROW - len(rows[-1]))
    look = TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("ALIGN", (0, 0), (-1, -1), "CENTER")])
    grids = [Table([row], colWidths=[WIDTH / _PER_ROW] * _PER_ROW, style=look) for row in rows]
    slices = max(one["slices"] for one in report.findings["maps"])
    words = (
        f"Slice {map_slice(report.findings) + 1} of {slices}. "
        "Black where the quantity is not defined."
    )
    return [*heading("Maps", 90.0), text(words, "small"), *grids, *lost]


def curves(report: PrintedResult) -> list[Flowable]:
    """Each curve over time, with its peak in words."""
    found: Sequence[Mapping[str, Any]] = report.findings.get("curves", ())
    if not found:
        return []
    story = heading("Curves", 40.0)
    for one in found[:_MOST_CURVES]:
        story.append(KeepTogether([Spacer(1, 1.5 * mm), text(_words(one), "small"), _chart(one)]))
    return story


def _words(curve: Mapping[str, Any]) -> str:
    peak = max(curve["values"])
    at = curve["times_s"][curve["values"].index(peak)]
    words = f"{curve['label']}: highest {peak:.4g} {unit_text(curve['unit'])} at {at:.1f} s"
    words += f", from {curve['times_s'][0]:.1f} to {curve['times_s'][-1]:.1f} s"
    if curve["places"]:
        words += f"; mean of {len(curve['places'])} voxels"
    return words + (f"; {curve['method']['meaning']}" if curve["method"] else "")


def _chart(curve: Mapping[str, Any]) -> Drawing:
    width, height = _CHART
    times, values = curve["times_s"], curve["values"]
    low, high = min(0.0, *values), max(values)
    span = max(high - low, 1e-12)
    points = [
        part
        for time, value in zip(times, values, strict=True)
        for part in (
            (time - times[0]) / max(times[-1] - times[0], 1e-12) * width,
            (value - low) / span * height,
        )
    ]
    drawing = Drawing(width, height + 2 * mm)
    base = -low / span * height
    drawing.add(Line(0, base, width, base, strokeColor=RULE, strokeWidth=0.5))
    drawing.add(Line(0, 0, 0, height, strokeColor=FAINT, strokeWidth=0.5))
    drawing.add(PolyLine(points, strokeColor=INK, strokeWidth=0.9))
    return drawing
