"""Text in the order and the shapes in which it is printed: right to left, and Arabic joined.

A line of a name or a note, not a whole bidirectional document: runs of one direction are set one
after the other in the direction of the first letter. Digits within right-to-left text keep theirs.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Final

_RIGHT: Final = frozenset({"R", "AL"})
_LEFT: Final = frozenset({"L", "EN", "AN"})
_MIRRORED: Final = dict(zip("()[]{}<>«»‹›", ")(][}{><»«›‹", strict=True))
_FORMS: Final = ((0xFB50, 0xFDFF), (0xFE70, 0xFEFC))
_LAM: Final = "\u0644"


def runs_right_to_left(text: str) -> bool:
    """Whether any letter of it does."""
    return any(unicodedata.bidirectional(sign) in _RIGHT for sign in text)


def printed(line: str) -> str:
    """`line` as its glyphs stand from left to right."""
    text = unicodedata.normalize("NFC", line)
    if not runs_right_to_left(text):
        return text
    kinds = [unicodedata.bidirectional(sign) for sign in text]
    runs = _runs(_joined(text))
    strong = next(kind for kind in kinds if kind in _RIGHT or kind == "L")
    ordered = reversed(runs) if strong in _RIGHT else runs
    return "".join(_reversed(run) if right else run for run, right in ordered)


def _runs(text: str) -> list[tuple[str, bool]]:
    """Pieces of one direction; what has none of its own goes with its neighbours, or the base."""
    sides: list[bool | None] = []
    for sign in text:
        kind = unicodedata.bidirectional(sign)
        sides.append(True if kind in _RIGHT else False if kind in _LEFT else None)
    base = next((side for side in sides if side is not None), False)
    for n, side in enumerate(sides):
        if side is None:
            before = sides[n - 1] if n else base
            after = next((each for each in sides[n:] if each is not None), base)
            sides[n] = before if before == after else base
    runs: list[tuple[str, bool]] = []
    for sign, side in zip(text, sides, strict=True):
        if runs and runs[-1][1] == bool(side):
            runs[-1] = (runs[-1][0] + sign, bool(side))
        else:
            runs.append((sign, bool(side)))
    return runs


def _reversed(run: str) -> str:
    """Letters from the last to the first, each with the marks that stand on it."""
    clusters: list[str] = []
    for sign in run:
        if clusters and unicodedata.combining(sign):
            clusters[-1] += sign
        else:
            clusters.append(_MIRRORED.get(sign, sign))
    return "".join(reversed(clusters))


def _joined(text: str) -> str:
    """Arabic letters as their initial, medial, final or isolated forms."""
    text = _with_ligatures(text)
    found = []
    for n, sign in enumerate(text):
        forms = _forms().get(sign)
        if forms is None:
            found.append(sign)
            continue
        before = _neighbour(text, n, -1)
        after = _neighbour(text, n, 1)
        joins_before = _joins_next(before) and "final" in forms
        joins_after = "initial" in forms and after in _forms() and "final" in _forms()[after]
        if joins_before and joins_after and "medial" in forms:
            name = "medial"
        elif joins_before:
            name = "final"
        else:
            name = "initial" if joins_after else "isolated"
        found.append(forms.get(name, sign))
    return "".join(found)


def _joins_next(sign: str) -> bool:
    return sign == "\u0640" or "initial" in _forms().get(sign, {})


def _neighbour(text: str, n: int, step: int) -> str:
    """The next letter in a direction; marks that stand on letters do not part them."""
    at = n + step
    while 0 <= at < len(text) and unicodedata.combining(text[at]):
        at += step
    return text[at] if 0 <= at < len(text) else ""


@cache
def _forms() -> dict[str, dict[str, str]]:
    """Presentation forms by letter, as the Unicode data decompose them.

    A ligature of lam and alef is a letter of its own here, named by its isolated form.
    """
    found: dict[str, dict[str, str]] = {}
    for first, last in _FORMS:
        for code in range(first, last + 1):
            kind, *letters = unicodedata.decomposition(chr(code)).split() or [""]
            name = kind.strip("<>")
            plain = "".join(chr(int(letter, 16)) for letter in letters)
            if name not in ("initial", "medial", "final", "isolated") or not plain:
                continue
            if len(plain) == 1:
                found.setdefault(plain, {})[name] = chr(code)
            elif len(plain) == 2 and plain[0] == _LAM and 0xFEF5 <= code <= 0xFEFC:
                # Isolated forms come before their final ones.
                key = chr(code) if name == "isolated" else chr(code - 1)
                found.setdefault(key, {})[name] = chr(code)
    return found


@cache
def _ligatures() -> dict[str, str]:
    """Isolated ligature by its two letters."""
    found = {}
    for code in range(0xFEF5, 0xFEFD, 2):
        _, lam, alef = unicodedata.decomposition(chr(code)).split()
        found[chr(int(lam, 16)) + chr(int(alef, 16))] = chr(code)
    return found


def _with_ligatures(text: str) -> str:
    for letters, ligature in _ligatures().items():
        text = text.replace(letters, ligature)
    return text
