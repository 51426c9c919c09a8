"""Which font prints which character, and what stands for one that none can print."""

from __future__ import annotations

import contextlib
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont

from dicom_services.reports.scripts import printed, runs_right_to_left

_SYSTEM: Final = Path("/usr/share/fonts/truetype")
# Debian's fonts-dejavu-core, then what comes with reportlab: Latin only.
_REGULAR: Final = (_SYSTEM / "dejavu" / "DejaVuSans.ttf", Path("Vera.ttf"))
_BOLD: Final = (_SYSTEM / "dejavu" / "DejaVuSans-Bold.ttf", Path("VeraBd.ttf"))
# Debian's fonts-wqy-microhei: Chinese, Japanese and Korean.
_EAST: Final = (_SYSTEM / "wqy" / "wqy-microhei.ttc",)
_LINE: Final = 90
"""Signs; text from right to left is broken into lines before it is turned, not after."""


@dataclass(frozen=True, slots=True)
class Fonts:
    """Registered fonts: names for reportlab, and what each covers.

    Parameters
    ----------
    regular, bold : str
    east : str
        "" where none is installed. Fonts that a viewer would have to bring are not named: where it
        does not, a name would be missing without a word.
    covered : dict
        Code points by font.
    """

    regular: str
    bold: str
    east: str
    covered: dict[str, frozenset[int]] = field(repr=False)

    def markup(self, text: str, *, bold: bool = False) -> str:
        """`text` for a reportlab paragraph, as nothing but text; lines are kept."""
        lines = [piece for line in text.split("\n") for piece in _broken(line)]
        return "<br/>".join(self._line(line, bold) for line in lines)

    def unprintable(self, text: str) -> bool:
        """Whether some character is shown by its number."""
        return any(self._font(sign, False) == "" for sign in text if sign not in "\n\t")

    def _line(self, line: str, bold: bool) -> str:
        shown = printed("".join(self._sign(sign, bold) for sign in line))
        pieces = []
        for font, run in _runs(shown, lambda sign: self._font(sign, bold)):
            plain = escape(run, quote=False)
            usual = font == (self.bold if bold else self.regular)
            pieces.append(plain if usual or not font else f'<font name="{font}">{plain}</font>')
        return "".join(pieces)

    def _sign(self, sign: str, bold: bool) -> str:
        """A tab as spaces; by its number what no font has, or what would steer others."""
        if sign == "\t":
            return "    "
        return sign if self._font(sign, bold) else f"‹U+{ord(sign):04X}›"

    def _font(self, sign: str, bold: bool) -> str:
        """The font that prints a character; "" where none does."""
        code = ord(sign)
        if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn"):
            return ""
        for name in (self.bold if bold else self.regular, self.regular, self.east):
            if name and code in self.covered[name]:
                return name
        return ""


def _runs(text: str, font: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Pieces that one font prints."""
    current, run = "", ""
    for sign in text:
        name = font(sign)
        if run and name != current:
            yield current, run
            run = ""
        current, run = name, run + sign
    if run:
        yield current, run


def _broken(line: str) -> list[str]:
    """A line in pieces where it is long and something in it runs from right to left."""
    if len(line) <= _LINE or not runs_right_to_left(line):
        return [line]
    return textwrap.wrap(line, _LINE) or [""]


@cache
def fonts() -> Fonts:
    """The best fonts of this machine, registered once."""
    covered: dict[str, frozenset[int]] = {}

    def register(name: str, paths: tuple[Path, ...]) -> str:
        for path in paths:
            with contextlib.suppress(TTFError, OSError):
                font = TTFont(name, str(path))
                pdfmetrics.registerFont(font)
                covered[name] = frozenset(font.face.charToGlyph)
                return name
        return ""

    regular = register("report", _REGULAR)
    bold = register("report-bold", _BOLD)
    east = register("report-east", _EAST)
    return Fonts(regular, bold, east, covered)
