"""One slice of a parametric map for a report: its colours, and the numbers they stand for."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_color_lut
from reportlab.lib.colors import Color
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Flowable

from dicom_services.dicom.quiet import quiet
from dicom_services.domain.geometry import Geometry
from dicom_services.reports.key_image import side_letters

_BAR: Final = 4 * mm
_ROOM: Final = 5 * mm
"""Below the bar, for its numbers."""
_KNOWN: Final = frozenset(
    {"HOT_IRON", "PET", "HOT_METAL_BLUE", "PET_20_STEP", "SPRING", "SUMMER", "FALL", "WINTER"}
)
"""Colour maps of PS3.6 annex B."""


class MapPicture(Flowable):  # type: ignore[misc] # reportlab has no types
    """A slice in colours above its colour bar.

    Parameters
    ----------
    plane : (row, column) float
        NaN where the quantity is not defined: black.
    geometry : Geometry
    window : (low, high)
        Values of the first and the last colour.
    colors : str
        Name of a colour map of DICOM; another is shown in hot iron.
    words : str
        Label, and the unit in short.
    side : float
        Of the picture, in points.
    """

    def __init__(
        self,
        plane: NDArray[np.float32],
        geometry: Geometry,
        window: tuple[float, float],
        colors: str,
        words: str,
        side: float,
    ) -> None:
        super().__init__()
        self.words = words
        self.width, self.height = side, side + _BAR + _ROOM
        self._side = side
        self._plane = plane
        self._window = window
        self._colors = colors if colors in _KNOWN else "HOT_IRON"
        self._spacing_mm = geometry.pixel_spacing_mm
        self._letters = side_letters(geometry)

    def wrap(self, *_: float) -> tuple[float, float]:
        """Its size."""
        return self.width, self.height

    def draw(self) -> None:
        """The slice, sides of the patient, the bar and its ends."""
        rows, columns = self._plane.shape
        row_mm, column_mm = self._spacing_mm
        scale = self._side / max(rows * row_mm, columns * column_mm)
        width, height = columns * column_mm * scale, rows * row_mm * scale
        left, bottom = (self._side - width) / 2, _BAR + _ROOM + (self._side - height) / 2
        canvas = self.canv
        canvas.saveState()
        canvas.drawImage(self._picture(self._plane), left, bottom, width, height)
        bar = np.linspace(*self._window, 256, dtype=np.float32)[None]
        canvas.drawImage(self._picture(bar), 0, _ROOM, self._side, _BAR * 0.6)
        canvas.setFont("Helvetica", 6.5)
        canvas.setFillColor(Color(0.1, 0.12, 0.15))
        canvas.drawString(0, 1.5 * mm, f"{self._window[0]:.4g}")
        canvas.drawRightString(self._side, 1.5 * mm, f"{self._window[1]:.4g}")
        canvas.setFont("Helvetica-Bold", 7)
        canvas.setFillColor(Color(1, 1, 0.55))
        _, right, _, other = self._letters
        canvas.drawString(left + 2, bottom + height / 2, other)
        canvas.drawRightString(left + width - 2, bottom + height / 2, right)
        canvas.restoreState()

    def _picture(self, plane: NDArray[np.float32]) -> ImageReader:
        low, high = self._window
        share = np.nan_to_num((plane - low) / max(high - low, 1e-12), nan=0.0)
        index = np.clip(np.rint(share * 255.0), 0, 255).astype(np.uint8)
        with quiet():
            # Given the name of a colour map, pydicom warns that it is no UID.
            colored = np.asarray(apply_color_lut(index, palette=self._colors))
        return ImageReader(Image.fromarray(colored))
