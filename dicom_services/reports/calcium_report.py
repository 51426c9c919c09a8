"""The calcium result as pages: scores, what a reader says, key images, lesions, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom import Dataset
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Spacer, Table, TableStyle

from dicom_services.dicom.assessed_result import algorithm_scores
from dicom_services.dicom.codes import REASONS as REFUSALS
from dicom_services.domain.assessment import REASONS
from dicom_services.domain.vessels import CORONARY_ARTERIES, UNASSIGNED, VESSELS
from dicom_services.reports.fonts import fonts
from dicom_services.reports.key_image import (
    WINDOW_CENTER_HU,
    WINDOW_WIDTH_HU,
    KeyImage,
)
from dicom_services.reports.page import WIDTH, build, heading, table, text

MOST_LESIONS: Final = 40
ALGORITHM_COLOR: Final = (1.0, 0.5, 0.15)
READER_COLOR: Final = (0.2, 0.85, 1.0)
_PER_ROW: Final = 3
_VERDICTS: Final = {
    "accept": "accepts the result as it is",
    "modify": "modifies the result",
    "reject": "rejects the result",
}
_NOT_SAID: Final = "not stated"
_LONGEST_VALUE: Final = 150
"""Of a header: a broken one may hold a book, and a row must fit on a page."""
_LONGEST_NOTE: Final = 200
"""Of a lesion, in its row; the whole stands in the assessment in the archive."""


@dataclass(frozen=True, slots=True, eq=False)
class ShownSlice:
    """A key image and the words below it."""

    image: KeyImage
    caption: str


@dataclass(frozen=True, slots=True, eq=False)
class CalciumReport:
    """Everything that is printed.

    Parameters
    ----------
    header : Dataset
        Of the source series, allow-listed.
    findings : dict
        The findings document.
    job : dict
        As the plugin shows it.
    shown : sequence of ShownSlice
    correction : dict or None
        As the API gives it; then the reader's numbers stand beside the algorithm's.
    lesions : sequence of dict
        The reader's lesions, as scored by the server.
    """

    header: Dataset
    findings: Mapping[str, Any]
    job: Mapping[str, Any]
    shown: Sequence[ShownSlice]
    correction: Mapping[str, Any] | None = None
    lesions: Sequence[Mapping[str, Any]] = ()


def calcium_report(report: CalciumReport) -> bytes:
    """The report as a PDF."""
    findings = report.findings
    story: list[Flowable] = [
        text(f"{findings['title']}: result of an algorithm", "title"),
        Spacer(1, 2 * mm),
        *_study(report),
    ]
    if findings["state"] == "refused":
        story += _refusal(report)
    else:
        story += _scores(report)
    if report.correction is not None:
        story += _statement(report, report.correction)
    story += _warnings(report)
    story += _images(report)
    story += _lesions(report)
    story += _provenance(report)
    story += _remarks(report)
    model = findings["versions"]["model"]
    return build(
        story,
        title=f"{findings['title']}: result of an algorithm",
        head=f"{person_name(report.header)} · ID {_said(report.header, 'PatientID')} · "
        f"study of {_date(_said(report.header, 'StudyDate'))}",
        foot=f"{model['name']} {model['version']}, job {findings['job'][:12]}",
    )


def person_name(header: Dataset) -> str:
    """Family, given; other scripts of the name in brackets."""
    groups = _said(header, "PatientName").split("=")
    shown = []
    for group in groups:
        family, *others = [" ".join(part.split()) for part in group.split("^")]
        given = " ".join(part for part in others if part)
        name = ", ".join(part for part in (family, given) if part)
        if name:
            shown.append(name)
    if not shown or shown == [_NOT_SAID]:
        return _NOT_SAID
    return shown[0] + "".join(f" [{name}]" for name in shown[1:])


def clipped(words: str, most: int) -> str:
    """At most so many characters, with a sign where something is left out."""
    return words if len(words) <= most else words[: most - 1] + "…"


def _said(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    words = "" if value is None else " ".join(str(value).split())
    return clipped(words, _LONGEST_VALUE) or _NOT_SAID


def _date(value: str) -> str:
    return (
        f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 and value.isdigit() else value
    )


def _study(report: CalciumReport) -> list[Flowable]:
    header = report.header
    time = _said(header, "StudyTime")
    clock = f" {time[:2]}:{time[2:4]}" if time[:4].isdigit() else ""
    spacing = _spacing(report)
    left = [
        ("Patient ID", _said(header, "PatientID")),
        ("Born", _date(_said(header, "PatientBirthDate"))),
        ("Sex", _said(header, "PatientSex")),
    ]
    right = [
        ("Study of", f"{_date(_said(header, 'StudyDate'))}{clock}"),
        ("Accession number", _said(header, "AccessionNumber")),
        (
            "Study, series",
            f"{_said(header, 'StudyDescription')}, {_said(header, 'SeriesDescription')}",
        ),
    ]
    voltage = _said(header, "KVP")
    images = f"{report.findings['source_instances']} images{spacing}, {voltage} kVp"
    rows = [
        [text(a, "small"), text(b), text(c, "small"), text(d)]
        for (a, b), (c, d) in zip(left, right, strict=True)
    ]
    found = table(
        [
            [text("Patient", "small"), text(person_name(header), "bold")],
            [text("Images", "small"), text(images)],
        ],
        (16, 124),
        head=False,
    )
    return [found, table(rows, (16, 44, 24, 56), head=False)]


def _spacing(report: CalciumReport) -> str:
    masks = report.findings["masks"]
    return f", {masks[0]['slice_spacing_mm']:.3g} mm apart" if masks else ""


def _refusal(report: CalciumReport) -> list[Flowable]:
    findings = report.findings
    facts = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in findings["facts"].items()
    )
    meaning = findings.get("meaning") or REFUSALS.get(findings["code"], findings["code"])
    return [
        *heading("Not scored"),
        text(f"The analysis was refused: {meaning}." + (f" ({facts})" if facts else "")),
    ]


def _scores(report: CalciumReport) -> list[Flowable]:
    ours = algorithm_scores(report.findings)
    if ours is None:
        return _plain_findings(report)
    reader = (report.correction or {}).get("scores")
    name = _reader(report)
    head = [text("Score", "bold"), text("Algorithm", "bold-right")]
    if reader:
        head.append(text(f"Reader: {name}", "bold-right"))
    rows: list[list[Flowable]] = [head]

    def row(what: str, one: str, other: str, style: str = "right") -> None:
        cells = [text(what), text(one, style)]
        rows.append([*cells, text(other, style)] if reader else cells)

    def both(what: str, field: str, unit: str, digits: int = 1) -> None:
        one, other = getattr(ours, field), (reader or {}).get(field)
        row(what, _number(one, unit, digits), _number(other, unit, digits), "bold-right")

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
                _number(vessels.get(vessel, 0.0), "AU", 1),
                _number(theirs["agatston"] if theirs else 0.0, "AU", 1),
            )
    for code, what in (("cac_drs", "CAC-DRS category"), ("rumberger", "Rumberger category")):
        theirs = (reader or {}).get(code)
        row(what, _category(report.findings, code), theirs["meaning"] if theirs else "none")
    widths = (70, 40, 50) if reader else (90, 50)
    return [*heading("Scores"), table(rows, widths)]


def _plain_findings(report: CalciumReport) -> list[Flowable]:
    """Whatever another pipeline found."""
    rows: list[list[Flowable]] = [[text("Finding", "bold"), text("Value", "bold-right")]]
    for one in report.findings["findings"]:
        measured = one["kind"] == "measurement"
        value = _number(one["value"], one["unit"], 1) if measured else one["value"]["meaning"]
        what = one["derivation"] or one["code"]["meaning"]
        rows.append([text(what), text(value, "right")])
    return [*heading("Findings"), table(rows, (100, 40))]


def _number(value: float | None, unit: str, digits: int) -> str:
    if value is None:
        return "none"
    return f"{value:.{digits}f} {unit}".strip()


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


def _reader(report: CalciumReport) -> str:
    return str((report.correction or {}).get("author", {}).get("display_name", ""))


def _statement(report: CalciumReport, said: Mapping[str, Any]) -> list[Flowable]:
    """What the reader says of the result, and how sure the numbers are theirs."""
    verdict = f"{_reader(report)} {_VERDICTS[said['verdict']]}"
    if said["reason"]:
        verdict += f": {REASONS[said['reason']].code.meaning.lower()}"
    rows = [[text("Verdict", "small"), text(verdict + ".", "bold")]]
    kept = f"Correction {said['seq']} of this study, received {_moment(said['received_at'])}"
    if said["concurrent"]:
        kept += (
            f"; {len(said['concurrent'])} by others at the same time were not seen by the reader"
        )
    rows.append([text("Kept", "small"), text(kept + ".")])
    if said["score_check"] == "differs":
        shown = said["calcium"]["scores"]["agatston"]
        words = (
            f"The reader's browser showed an Agatston score of {shown:.1f}. "
            "The numbers above are the server's for the same voxels."
        )
        rows.append([text("Check", "small"), text(words)])
    found = heading("Reader's assessment")
    found.append(table(rows, (14, 126), head=False))
    # Outside of the table, whose rows cannot go on on another page.
    lines = [line for line in said["note"].split("\n") if line.strip()]
    if lines:
        found += [Spacer(1, 1 * mm), text("Note of the reader", "small"), text("\n".join(lines))]
    return found


def _moment(iso: str) -> str:
    return iso[:16].replace("T", " ") + (" UTC" if iso.endswith(("+00:00", "Z")) else iso[-6:])


def _warnings(report: CalciumReport) -> list[Flowable]:
    warnings = report.findings["warnings"]
    if not warnings:
        return []
    rows = [[text(one["value"]["meaning"])] for one in warnings]
    return [*heading("Warnings"), table(rows, (1,), head=False)]


def _images(report: CalciumReport) -> list[Flowable]:
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


def _lesions(report: CalciumReport) -> list[Flowable]:
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


def _provenance(report: CalciumReport) -> list[Flowable]:
    findings, job = report.findings, report.job
    versions = findings["versions"]
    model = versions["model"]
    rule = "a rule, not trained" if model["family"] == "rule" else "a trained model"
    pairs = [
        ("Algorithm", f"{model['name']} {model['version']} ({rule})"),
        ("SHA-256 of the algorithm", model["sha256"][:16]),
        ("Pipeline", f"{findings['pipeline']} {versions['pipeline']}"),
        ("Software", f"radloop {versions['software']}"),
        ("Job", findings["job"]),
        ("Digest of the images", findings["inputs_sha256"][:16]),
        ("Analysis started", _moment(findings["started"])),
        ("Last change of the job", _moment(str(job.get("updated", "")))),
        ("Intended use", findings["intended_use"]),
    ]
    if versions["container"]:
        pairs.append(("Container", versions["container"]))
    if job.get("superseded_by"):
        pairs.append(("Superseded", "A newer result of this series exists."))
    rows = [[text(name, "small"), text(value)] for name, value in pairs if value]
    return [*heading("Provenance", 70.0), table(rows, (34, 106), head=False)]


def _remarks(report: CalciumReport) -> list[Flowable]:
    words = [
        "Images count from 1 in the order of the slices. Agatston score: Agatston 1990; mass: "
        "McCollough 2007; categories (of the score multiplied by slice spacing / 3 mm): CAC-DRS, "
        "Hecht 2018; Rumberger 1999. They hold for 130 HU alone."
    ]
    said = report.correction or {}
    everything = [person_name(report.header), str(said.get("note", "")), _reader(report)]
    everything += [_said(report.header, name) for name in ("StudyDescription", "SeriesDescription")]
    everything += [one["note"] for one in (said.get("calcium") or {}).get("lesions", ())]
    if any(fonts().unprintable(one) for one in everything):
        words.append("Signs shown as ‹U+...› have no glyph on this server and stand as numbers.")
    return [Spacer(1, 3 * mm), *(text(one, "small") for one in words)]
