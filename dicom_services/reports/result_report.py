"""A result as pages: numbers, what a reader says, images, maps, lesions, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydicom import Dataset
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Spacer

from dicom_services.dicom.assessed_result import algorithm_scores
from dicom_services.dicom.codes import REASONS as REFUSALS
from dicom_services.domain.assessment import REASONS
from dicom_services.reports.calcium_sections import REMARK, key_images, lesions, scores
from dicom_services.reports.fonts import fonts
from dicom_services.reports.map_sections import curves, maps
from dicom_services.reports.page import build, heading, table, text
from dicom_services.reports.printed_result import PrintedResult, clipped, number_text, reader_of
from dicom_services.reports.unit_text import unit_text

_VERDICTS: Final = {
    "accept": "accepts the result as it is",
    "modify": "modifies the result",
    "reject": "rejects the result",
}
_NOT_SAID: Final = "not stated"
_LONGEST_VALUE: Final = 150
"""Of a header: a broken one may hold a book, and a row must fit on a page."""


def result_report(report: PrintedResult) -> bytes:
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
        story += scores(report) or _plain_findings(report)
    if report.correction is not None:
        story += _statement(report, report.correction)
    story += _warnings(report)
    if algorithm_scores(findings) is not None:
        story += key_images(report)
    story += maps(report)
    story += curves(report)
    story += lesions(report)
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


def _said(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    words = "" if value is None else " ".join(str(value).split())
    return clipped(words, _LONGEST_VALUE) or _NOT_SAID


def _date(value: str) -> str:
    return (
        f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 and value.isdigit() else value
    )


def _study(report: PrintedResult) -> list[Flowable]:
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
    voltage = f", {_said(header, 'KVP')} kVp" if header.get("Modality") == "CT" else ""
    images = f"{report.findings['source_instances']} images{spacing}{voltage}"
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


def _spacing(report: PrintedResult) -> str:
    masks = report.findings["masks"]
    return f", {masks[0]['slice_spacing_mm']:.3g} mm apart" if masks else ""


def _refusal(report: PrintedResult) -> list[Flowable]:
    findings = report.findings
    facts = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in findings["facts"].items()
    )
    meaning = findings.get("meaning") or REFUSALS.get(findings["code"], findings["code"])
    return [
        *heading("Not scored"),
        text(f"The analysis was refused: {meaning}." + (f" ({facts})" if facts else "")),
    ]


def _plain_findings(report: PrintedResult) -> list[Flowable]:
    """Whatever another pipeline found: numbers, then how they came to be."""
    numbers: list[list[Flowable]] = [[text("Finding", "bold"), text("Value", "bold-right")]]
    words: list[list[Flowable]] = []
    for one in report.findings["findings"]:
        what = one["derivation"] or one["code"]["meaning"]
        what = what[:1].upper() + what[1:]
        if one["kind"] == "measurement":
            value = number_text(one["value"], unit_text(one["unit"]), 1)
            numbers.append([text(what), text(value, "right")])
        else:
            words.append([text(what, "small"), text(one["value"]["meaning"])])
    found = heading("Findings")
    if len(numbers) > 1:
        found.append(table(numbers, (100, 40)))
    if words:
        found += [*heading("Method"), table(words, (40, 100), head=False)]
    return found


def _statement(report: PrintedResult, said: Mapping[str, Any]) -> list[Flowable]:
    """What the reader says of the result, and how sure the numbers are theirs."""
    verdict = f"{reader_of(report)} {_VERDICTS[said['verdict']]}"
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


def _warnings(report: PrintedResult) -> list[Flowable]:
    warnings = report.findings["warnings"]
    if not warnings:
        return []
    rows = [[text(one["value"]["meaning"])] for one in warnings]
    return [*heading("Warnings"), table(rows, (1,), head=False)]


def _provenance(report: PrintedResult) -> list[Flowable]:
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


def _remarks(report: PrintedResult) -> list[Flowable]:
    words = [REMARK] if algorithm_scores(report.findings) is not None else []
    said = report.correction or {}
    everything = [person_name(report.header), str(said.get("note", "")), reader_of(report)]
    everything += [_said(report.header, name) for name in ("StudyDescription", "SeriesDescription")]
    everything += [one["note"] for one in (said.get("calcium") or {}).get("lesions", ())]
    if any(fonts().unprintable(one) for one in everything):
        words.append("Signs shown as ‹U+...› have no glyph on this server and stand as numbers.")
    return [Spacer(1, 3 * mm), *(text(one, "small") for one in words)]
