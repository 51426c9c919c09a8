"""One slice of a CT for a report: window, outlines, sides of the patient, a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from reportlab.lib.colors import Color
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Flowable

from dicom_services.domain.geometry import Geometry

WINDOW_CENTER_HU: Final = 90
WINDOW_WIDTH_HU: Final = 750
"""Wide enough to tell 130 from 400 HU, with the heart's fat still dark."""
VIEW_MM: Final = 130.0
"""Side of the square that is shown: a heart, and what lies around it."""
_SCALE_MM: Final = 20.0
_LETTERS: Final = (("L", "R"), ("P", "A"), ("H", "F"))
"""Towards rising and falling x, y, z of LPS."""
_SLANT: Final = 0.2
"""A direction is named by a second letter where it leans this much (cosine) that way."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """Pixels whose border is drawn: (row, column) bool, and red, green, blue from 0 to 1."""

    pixels: NDArray[np.bool_]
    color: tuple[float, float, float]


class KeyImage(Flowable):  # type: ignore[misc] # reportlab has no types
    """A square of a slice with everything that is drawn on it.

    Parameters
    ----------
    plane : (row, column) HU
    geometry : Geometry
    outlines : sequence of Outline
    side : float
        In points.
    """

    def __init__(
        self,
        plane: NDArray[Any],
        geometry: Geometry,
        outlines: Sequence[Outline],
        side: float,
    ) -> None:
        super().__init__()
        self.width = self.height = side
        self._plane = plane
        self._outlines = outlines
        self._spacing_mm = geometry.pixel_spacing_mm
        self._letters = side_letters(geometry)
        self._box = view_box(plane.shape, self._spacing_mm, outlines)

    def wrap(self, *_: float) -> tuple[float, float]:
        """Its size."""
        return self.width, self.height

    def draw(self) -> None:
        """Image, outlines, letters, scale."""
        top, left, rows, columns = self._box
        piece = self._plane[top : top + rows, left : left + columns]
        row_mm, column_mm = self._spacing_mm
        scale = self.width / max(rows * row_mm, columns * column_mm)
        width, height = columns * column_mm * scale, rows * row_mm * scale
        canvas = self.canv
        canvas.saveState()
        canvas.translate((self.width - width) / 2, (self.height - height) / 2)
        canvas.drawImage(_picture(piece), 0, 0, width, height)
        canvas.setLineWidth(0.7)
        for each in self._outlines:
            canvas.setStrokeColor(Color(*each.color))
            inside = each.pixels[top : top + rows, left : left + columns]
            lines = [
                (
                    c0 * width / columns,
                    height - r0 * height / rows,
                    c1 * width / columns,
                    height - r1 * height / rows,
                )
                for r0, c0, r1, c1 in border(inside)
            ]
            if lines:
                canvas.lines(lines)
        self._draw_letters(width, height)
        self._draw_scale(width, scale)
        canvas.restoreState()

    def _draw_letters(self, width: float, height: float) -> None:
        up, right, down, left = self._letters
        canvas = self.canv
        canvas.setFont("Helvetica-Bold", 8)
        for letter, x, y in (
            (up, width / 2, height - 9),
            (down, width / 2, 3),
            (left, 7, height / 2 - 3),
            (right, width - 7, height / 2 - 3),
        ):
            canvas.setFillColor(Color(0, 0, 0))
            canvas.drawCentredString(x + 0.6, y - 0.6, letter)
            canvas.setFillColor(Color(1, 1, 0.55))
            canvas.drawCentredString(x, y, letter)

    def _draw_scale(self, width: float, scale: float) -> None:
        canvas = self.canv
        length = _SCALE_MM * scale
        canvas.setStrokeColor(Color(1, 1, 1))
        canvas.setLineWidth(1.4)
        canvas.line(width - 6 - length, 6, width - 6, 6)
        canvas.setFont("Helvetica", 6)
        canvas.setFillColor(Color(1, 1, 1))
        canvas.drawRightString(width - 6, 9, f"{_SCALE_MM / 10:g} cm")


def side_letters(geometry: Geometry) -> tuple[str, str, str, str]:
    """Sides of the patient at the top, right, bottom and left of a slice."""
    right, down = geometry.affine[:3, 2], geometry.affine[:3, 1]
    return _side(-down), _side(right), _side(down), _side(-right)


def _side(direction: NDArray[np.float64]) -> str:
    cosines = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(cosines))
    return "".join(
        _LETTERS[axis][0 if cosines[axis] > 0 else 1]
        for axis in order
        if abs(cosines[axis]) >= _SLANT
    )


def view_box(
    shape: tuple[int, ...], spacing_mm: tuple[float, float], outlines: Sequence[Outline]
) -> tuple[int, int, int, int]:
    """First row, first column, rows and columns of what is shown: around the outlines."""
    rows, columns = shape
    marked = np.zeros(shape, np.bool_)
    for each in outlines:
        marked |= each.pixels
    places = np.argwhere(marked)
    center = places.mean(axis=0) if len(places) else np.array([rows, columns]) / 2
    reach = np.ptp(places, axis=0) * spacing_mm if len(places) else np.zeros(2)
    side = max(VIEW_MM, float(reach.max()) * 1.2)
    height = min(rows, max(8, round(side / spacing_mm[0])))
    width = min(columns, max(8, round(side / spacing_mm[1])))
    top = int(np.clip(round(center[0] - height / 2), 0, rows - height))
    left = int(np.clip(round(center[1] - width / 2), 0, columns - width))
    return top, left, height, width


def border(inside: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Edges between pixels inside and outside: row, column to row, column of corners.

    Edges in one line that follow each other are one.
    """
    padded = np.pad(inside, 1)
    across = padded[1:, 1:-1] != padded[:-1, 1:-1]
    along = padded[1:-1, 1:] != padded[1:-1, :-1]
    found = [(line, first, line, last) for line, first, last in _stretches(across)]
    found += [(first, line, last, line) for line, first, last in _stretches(along.T)]
    return found


def _stretches(edges: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Line, first and end of each run of edges."""
    padded = np.pad(edges.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(padded, axis=1)
    lines, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    return list(zip(lines.tolist(), starts.tolist(), ends.tolist(), strict=True))


def _picture(piece: NDArray[Any]) -> ImageReader:
    """The HU as greys, the same bytes for the same values."""
    low = WINDOW_CENTER_HU - WINDOW_WIDTH_HU / 2
    grey = np.clip((piece.astype(np.float64) - low) * (255.0 / WINDOW_WIDTH_HU), 0, 255)
    return ImageReader(Image.fromarray(grey.astype(np.uint8)))
