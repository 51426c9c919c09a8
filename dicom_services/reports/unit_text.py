"""Units and numbers as a reader writes them."""

from __future__ import annotations

import re
from typing import Final

# UCUM (the code) and what people write. The viewer has the same list in words.ts.
_UNITS: Final = {
    "{score}": "AU",
    "1": "",
    "mm2": "mm²",
    "mm3": "mm³",
    "cm3": "cm³",
    "/s": "1/s",
    "[hnsf'U]": "HU",
    "mL/(100.g.min)": "mL/100 g/min",
    "mL/(100.g)": "mL/100 g",
    "{ratio}": "",
}


def unit_text(unit: str | None) -> str:
    """A UCUM unit in words; one that is not known stays as it is, without UCUM's braces."""
    if unit is None:
        return ""
    return _UNITS.get(unit, re.sub(r"^\{(.*)\}$", r"\1", unit))
