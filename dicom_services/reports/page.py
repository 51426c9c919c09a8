"""The page every report is printed on: notice, whose it is, page x of y; and its styles."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    PageTemplate,
    Paragraph,
    Table,
    TableStyle,
)

from dicom_services.dicom.provenance import MANUFACTURER, NOTICE
from dicom_services.reports.fonts import Fonts, fonts

INK: Final = HexColor("#1a1f26")
FAINT: Final = HexColor("#5b6673")
RULE: Final = HexColor("#c5ccd4")
SHADE: Final = HexColor("#eef2f6")
WARNING: Final = HexColor("#8a1f11")
MARGIN: Final = 15 * mm
WIDTH: Final = A4[0] - 2 * MARGIN
_TOP: Final = 22 * mm
_BOTTOM: Final = 16 * mm


class _NumberedCanvas(Canvas):  # type: ignore[misc] # reportlab has no types
    """Draws heads and feet at the end, when the number of pages is known."""

    def __init__(self, *arguments: Any, head: str, foot: str, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pages: list[dict[str, Any]] = []
        self._head, self._foot = head, foot

    def showPage(self) -> None:  # noqa: N802 - reportlab's name
        """Keep the page for the end."""
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Number the pages and write them."""
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self._frame(number, len(self._pages))
            super().showPage()
        super().save()

    def _frame(self, number: int, count: int) -> None:
        style = styles()
        notice = Paragraph(NOTICE, style["notice"])
        notice.wrapOn(self, WIDTH, 10 * mm)
        notice.drawOn(self, MARGIN, A4[1] - 11 * mm)
        whose = Paragraph(self._head, style["small"])
        _, height = whose.wrapOn(self, WIDTH, 12 * mm)
        whose.drawOn(self, MARGIN, A4[1] - 13 * mm - height)
        self.setStrokeColor(RULE)
        self.setLineWidth(0.5)
        self.line(MARGIN, _BOTTOM - 2 * mm, A4[0] - MARGIN, _BOTTOM - 2 * mm)
        foot = Table(
            [
                [
                    Paragraph(self._foot, style["small"]),
                    Paragraph(f"{NOTICE} Page {number} of {count}", style["small-right"]),
                ]
            ],
            colWidths=[WIDTH * 0.45, WIDTH * 0.55],
            style=TableStyle(
                [("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0)]
            ),
        )
        foot.wrapOn(self, WIDTH, 10 * mm)
        foot.drawOn(self, MARGIN, 6 * mm)


def styles() -> dict[str, ParagraphStyle]:
    """Paragraph styles by name."""
    chosen = fonts()
    body = ParagraphStyle(
        "body", fontName=chosen.regular, fontSize=8.5, leading=11, textColor=INK, splitLongWords=1
    )

    def like(name: str, **fields: Any) -> ParagraphStyle:
        return ParagraphStyle(name, parent=body, **fields)

    return {
        "body": body,
        "bold": like("bold", fontName=chosen.bold),
        "right": like("right", alignment=2),
        "bold-right": like("bold-right", fontName=chosen.bold, alignment=2),
        "small": like("small", fontSize=7, leading=8.6, textColor=FAINT),
        "small-right": like("small-right", fontSize=7, leading=8.6, textColor=FAINT, alignment=2),
        "caption": like("caption", fontSize=7, leading=8.6, alignment=1),
        "title": like("title", fontName=chosen.bold, fontSize=15, leading=19),
        "heading": like(
            "heading",
            fontName=chosen.bold,
            fontSize=10,
            leading=13,
            spaceBefore=7,
            spaceAfter=3,
        ),
        "notice": like(
            "notice", fontName=chosen.bold, fontSize=8, leading=10, textColor=WARNING, alignment=1
        ),
    }


def table(rows: Sequence[Sequence[Any]], widths: Sequence[float], *, head: bool = True) -> Table:
    """A table with thin rules; its first row repeats on every page."""
    look = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE),
        ("TOPPADDING", (0, 0), (-1, -1), 1.6),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.2),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
    ]
    if head:
        look.append(("BACKGROUND", (0, 0), (-1, 0), SHADE))
    total = sum(widths)
    return Table(
        rows,
        colWidths=[WIDTH * width / total for width in widths],
        repeatRows=1 if head else 0,
        style=TableStyle(look),
    )


def text(words: str, style: str = "body") -> Paragraph:
    """A paragraph of anybody's text: nothing in it is markup."""
    chosen: Fonts = fonts()
    made = styles()[style]
    return Paragraph(chosen.markup(words, bold=made.fontName == chosen.bold), made)


def heading(words: str, room_mm: float = 30.0) -> list[Flowable]:
    """A heading, on the next page where less than that much room is left for what it heads."""
    return [CondPageBreak(room_mm * mm), text(words, "heading")]


def build(story: Sequence[Flowable], *, title: str, head: str, foot: str) -> bytes:
    """The PDF; the same story gives the same bytes.

    Parameters
    ----------
    title : str
        Of the document; names no patient.
    head, foot : str
        Anybody's text, on every page.
    """
    chosen = fonts()
    # Bytes as they are: as text they would be a quarter more, and take most of the time.
    rl_config.useA85 = 0
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=title,
        author=MANUFACTURER,
        subject=NOTICE,
        creator=MANUFACTURER,
        invariant=1,
        lang="en",
    )
    frame = Frame(
        MARGIN,
        _BOTTOM,
        WIDTH,
        A4[1] - _TOP - _BOTTOM,
        leftPadding=0,
        rightPadding=0,
        topPadding=0,
        bottomPadding=0,
    )
    document.addPageTemplates([PageTemplate(frames=[frame])])

    def canvas(*arguments: Any, **named: Any) -> _NumberedCanvas:
        plain = {"head": chosen.markup(head), "foot": chosen.markup(foot)}
        return _NumberedCanvas(*arguments, **plain, **named)

    document.build(list(story), canvasmaker=canvas)
    return buffer.getvalue()
