"""Which font prints which character, and what stands for one that none can print."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFError, TTFont

from dicom_services.reports.scripts import printed

_SYSTEM: Final = Path("/usr/share/fonts/truetype")
# Debian's fonts-dejavu-core, then what comes with reportlab: Latin only.
_REGULAR: Final = (_SYSTEM / "dejavu" / "DejaVuSans.ttf", Path("Vera.ttf"))
_BOLD: Final = (_SYSTEM / "dejavu" / "DejaVuSans-Bold.ttf", Path("VeraBd.ttf"))
# Debian's fonts-droid-fallback: Chinese, Japanese and Korean, embedded.
_EAST: Final = _SYSTEM / "droid" / "DroidSansFallbackFull.ttf"
# Adobe's, which reportlab names and the reader's viewer has to bring.
_CHINESE, _JAPANESE, _KOREAN = "STSong-Light", "HeiseiMin-W3", "HYSMyeongJo-Medium"
_KANA: Final = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))
_HANGUL: Final = ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF))
_HAN: Final = ((0x3000, 0x303F), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF01, 0xFF65))


@dataclass(frozen=True, slots=True)
class Fonts:
    """Registered fonts: names for reportlab, and what each covers.

    Parameters
    ----------
    regular, bold : str
    east : str
        "" where none is installed; then Adobe's are named.
    covered : dict
        Code points by font.
    """

    regular: str
    bold: str
    east: str
    covered: dict[str, frozenset[int]] = field(repr=False)

    def markup(self, text: str, *, bold: bool = False) -> str:
        """`text` for a reportlab paragraph, as nothing but text; lines are kept."""
        return "<br/>".join(self._line(line, bold) for line in text.split("\n"))

    def unprintable(self, text: str) -> bool:
        """Whether some character is shown by its number."""
        return any(self._font(sign, text, False) == "" for sign in text if sign not in "\n\t")

    def _line(self, line: str, bold: bool) -> str:
        shown = printed("".join(self._sign(sign, line, bold) for sign in line))
        pieces = []
        for font, run in _runs(shown, lambda sign: self._font(sign, line, bold)):
            plain = escape(run)
            usual = font == (self.bold if bold else self.regular)
            pieces.append(plain if usual or not font else f'<font name="{font}">{plain}</font>')
        return "".join(pieces)

    def _sign(self, sign: str, line: str, bold: bool) -> str:
        """A tab as spaces; by its number what no font has, or what would steer others."""
        if sign == "\t":
            return "    "
        return sign if self._font(sign, line, bold) else f"‹U+{ord(sign):04X}›"

    def _font(self, sign: str, line: str, bold: bool) -> str:
        """The font that prints a character; "" where none does."""
        code = ord(sign)
        if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn"):
            return ""
        for name in (self.bold if bold else self.regular, self.regular, self.east):
            if name and code in self.covered[name]:
                return name
        return _adobe(code, line) if not self.east else ""


def _adobe(code: int, line: str) -> str:
    """One of Adobe's fonts; Han letters are taken for those of the kana or Hangul beside them."""
    if _within(code, _HANGUL):
        return _registered(_KOREAN)
    if _within(code, _KANA):
        return _registered(_JAPANESE)
    if not _within(code, _HAN):
        return ""
    if any(_within(ord(sign), _KANA) for sign in line):
        return _registered(_JAPANESE)
    if any(_within(ord(sign), _HANGUL) for sign in line):
        return _registered(_KOREAN)
    return _registered(_CHINESE)


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


@cache
def _registered(name: str) -> str:
    pdfmetrics.registerFont(UnicodeCIDFont(name))
    return name


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
    east = register("report-east", (_EAST,))
    return Fonts(regular, bold, east, covered)
