"""What is printed of coronary calcium: scores, key images, lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reportlab.platypus import Flowable, Table, TableStyle

from dicom_services.dicom.assessed_result import algorithm_scores
from dicom_services.domain.assessment import REASONS
from dicom_services.domain.vessels import CORONARY_ARTERIES, UNASSIGNED, VESSELS
from dicom_services.reports.key_image import WINDOW_CENTER_HU, WINDOW_WIDTH_HU
from dicom_services.reports.page import WIDTH, heading, table, text
from dicom_services.reports.printed_result import PrintedResult, clipped, number_text, reader_of

MOST_LESIONS: Final = 40
ALGORITHM_COLOR: Final = (1.0, 0.5, 0.15)
READER_COLOR: Final = (0.2, 0.85, 1.0)
REMARK: Final = (
    "Images count from 1 in the order of the slices. Agatston score: Agatston 1990; mass: "
    "McCollough 2007; categories (of the score multiplied by slice spacing / 3 mm): CAC-DRS, "
    "Hecht 2018; Rumberger 1999. They hold for 130 HU alone."
)
_PER_ROW: Final = 3
_LONGEST_NOTE: Final = 200
"""Of a lesion, in its row; the whole stands in the assessment in the archive."""


def scores(report: PrintedResult) -> list[Flowable]:
    """The scores of the algorithm, and the reader's beside them; nothing where none was made."""
    ours = algorithm_scores(report.findings)
    if ours is None:
        return []
    reader = (report.correction or {}).get("scores")
    name = reader_of(report)
    head = [text("Score", "bold"), text("Algorithm", "bold-right")]
    if reader:
        head.append(text(f"Reader: {name}", "bold-right"))
    rows: list[list[Flowable]] = [head]

    def row(what: str, one: str, other: str, style: str = "right") -> None:
        cells = [text(what), text(one, style)]
        rows.append([*cells, text(other, style)] if reader else cells)

    def both(what: str, field: str, unit: str, digits: int = 1) -> None:
        one, other = getattr(ours, field), (reader or {}).get(field)
        row(what, number_text(one, unit, digits), number_text(other, unit, digits), "bold-right")

    both("Agatston score, plain", "agatston", "AU")
    both("Agatston score, multiplied by slice spacing / 3 mm", "agatston_by_spacing", "AU")
    both("Volume of voxels", "volume_mm3", "mm³")
    both("Mass of hydroxyapatite", "mass_mg", "mg")
    both("Lesions", "lesions", "", 0)
    both("Threshold", "threshold_hu", "HU", 0)
    vessels = _vessels(report.findings)
    for vessel in (*VESSELS, UNASSIGNED):
        theirs = (reader or {}).get("vessels", {}).get(vessel)
        if vessel in vessels or theirs:
            row(
                f"Agatston score, plain: {_vessel(vessel)}",
                number_text(vessels.get(vessel, 0.0), "AU", 1),
                number_text(theirs["agatston"] if theirs else 0.0, "AU", 1),
            )
    for code, what in (("cac_drs", "CAC-DRS category"), ("rumberger", "Rumberger category")):
        theirs = (reader or {}).get(code)
        row(what, _category(report.findings, code), theirs["meaning"] if theirs else "none")
    widths = (70, 40, 50) if reader else (90, 50)
    return [*heading("Scores"), table(rows, widths)]


def _vessel(name: str) -> str:
    return "not assigned" if name == UNASSIGNED else name


def _vessels(findings: Mapping[str, Any]) -> dict[str, float]:
    """Plain scores of the counted lesions by vessel."""
    names = {code.value: name for name, code in VESSELS.items()}
    found: dict[str, float] = {}
    for one in findings["lesion_totals"]:
        if one.get("counted", True):
            vessel = names.get(one["vessel"]["value"], UNASSIGNED)
            found[vessel] = found.get(vessel, 0.0) + one["score"]
    return found


def _category(findings: Mapping[str, Any], code: str) -> str:
    for one in findings["findings"]:
        if one["kind"] == "observation" and one["code"]["value"] == code:
            return str(one["value"]["meaning"])
    return "none"


def key_images(report: PrintedResult) -> list[Flowable]:
    """The images with most calcium, outlined."""
    if not report.shown:
        if report.findings["state"] != "done":
            return []
        words = "No lesion is counted, so there is no key image."
        return [*heading("Key images"), text(words)]
    cells: list[Any] = []
    for one in report.shown:
        one.image.hAlign = "CENTER"
        cells.append([one.image, text(one.caption, "caption")])
    rows: list[list[Any]] = [cells[n : n + _PER_ROW] for n in range(0, len(cells), _PER_ROW)]
    rows[-1] += [""] * (_PER_ROW - len(rows[-1]))
    words = (
        f"Window {WINDOW_CENTER_HU} / {WINDOW_WIDTH_HU} HU. Letters: sides of the patient. "
        "Orange: counted by the algorithm."
    )
    if report.correction is not None:
        words += " Blue: counted by the reader."
    # A table for each row, so that a page takes the rows that fit.
    grids = [
        Table(
            [row],
            colWidths=[WIDTH / _PER_ROW] * _PER_ROW,
            style=TableStyle(
                [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 2)]
            ),
        )
        for row in rows
    ]
    return [*heading("Key images", 80.0), text(words, "small"), *grids]


def lesions(report: PrintedResult) -> list[Flowable]:
    """Each lesion of the algorithm, with what the reader says of it; then the reader's own."""
    findings = report.findings
    edit = (report.correction or {}).get("calcium")
    decided = {one["id"]: one for one in edit["lesions"]} if edit else {}
    own = [one for one in decided.values() if not one["tracking_uid"]]
    totals = [one for one in findings["lesion_totals"] if _worth_a_row(one, decided)]
    aside = [one for one in findings["lesion_totals"] if not _worth_a_row(one, decided)]
    if not totals and not own and not aside:
        return []
    titles = [
        "Lesion",
        "Images",
        "Peak HU",
        "Largest area mm²",
        "Volume mm³",
        "Agatston AU",
        "Vessel",
    ]
    head = [text(title, "bold") for title in titles]
    if edit:
        head.append(text("Reader", "bold"))
    rows = [head]
    for one in totals[:MOST_LESIONS]:
        rows.append(_lesion(one, findings, decided.get(one["id"]), bool(edit)))
    for one in own[:MOST_LESIONS]:
        rows.append(_own_lesion(one, report.lesions))
    left_out = max(0, len(totals) - MOST_LESIONS) + max(0, len(own) - MOST_LESIONS)
    widths = (13, 17, 11, 16, 16, 19, 31, 42) if edit else (13, 22, 14, 18, 18, 19, 46)
    found: list[Flowable] = heading("Lesions")
    if len(rows) > 1:
        found.append(table(rows, widths))
    if left_out:
        found.append(text(f"{left_out} more lesions are not listed here.", "small"))
    if aside:
        found.append(text(_set_aside(aside), "small"))
    return found


def _worth_a_row(one: Mapping[str, Any], decided: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether it counts, or the reader says something of it."""
    said = decided.get(one["id"])
    spoken = said is not None and bool(said["counted"] or said["reason"] or said["note"])
    return bool(one.get("counted", True)) or spoken


def _set_aside(lesions: Sequence[Mapping[str, Any]]) -> str:
    """How many bright places the algorithm does not count, by its reasons."""
    reasons: dict[str, int] = {}
    for one in lesions:
        words = one["reason"]["meaning"].lower() if one.get("reason") else "no reason given"
        reasons[words] = reasons.get(words, 0) + 1
    told = "; ".join(f"{count} x {words}" for words, count in sorted(reasons.items()))
    return f"Bright within the heart's outline, not counted by the algorithm: {told}."


def _lesion(
    one: Mapping[str, Any],
    findings: Mapping[str, Any],
    decided: Mapping[str, Any] | None,
    with_reader: bool,
) -> list[Flowable]:
    parts = [row for row in findings["lesions"] if row["id"] == one["id"]]
    counted = one.get("counted", True)
    reason = one.get("reason")
    site = one["vessel"]["meaning"]
    if one["vessel"]["value"] == CORONARY_ARTERIES.value:
        site = "not assigned"
    if not counted:
        site = "set aside" + (f": {reason['meaning'].lower()}" if reason else "")
    cells = [
        text(one["id"], "bold"),
        text(_span([row["slice"] + 1 for row in parts])),
        text(f"{one['peak_hu']:.0f}"),
        text(f"{max((row['area_mm2'] for row in parts), default=0.0):.1f}"),
        text(f"{one['volume_mm3']:.1f}"),
        text(f"{one['score']:.1f}"),
        text(site),
    ]
    return [*cells, text(_decision(decided))] if with_reader else cells


def _own_lesion(said: Mapping[str, Any], scored: Sequence[Mapping[str, Any]]) -> list[Flowable]:
    found = next((one for one in scored if said["id"] in one["decided"]), None)
    if found is None:
        numbers = ["", "", "", "", ""]
    else:
        parts = found["slices"]
        numbers = [
            _span([part["k"] + 1 for part in parts]),
            f"{found['peak_hu']:.0f}",
            f"{max(part['area_mm2'] for part in parts):.1f}",
            f"{found['volume_mm3']:.1f}",
            f"{found['score']:.1f}",
        ]
    site = "added by the reader"
    return [
        text(said["id"], "bold"),
        *(text(number) for number in numbers),
        text(site),
        text(_decision(said)),
    ]


def _span(slices: Sequence[int]) -> str:
    if not slices:
        return ""
    first, last = min(slices), max(slices)
    return str(first) if first == last else f"{first}-{last}"


def _decision(said: Mapping[str, Any] | None) -> str:
    if said is None:
        return ""
    words = "counted" if said["counted"] else "not counted"
    if said["counted"]:
        words += f", {_vessel(said['vessel'])}"
    if said["reason"]:
        words += f"; {REASONS[said['reason']].code.meaning.lower()}"
    note = clipped(" ".join(said["note"].split()), _LONGEST_NOTE)
    return words + (f"; {note}" if note else "")
