"""Categories of the Agatston score; both are made for contiguous 3 mm slices at 120 kVp."""

from __future__ import annotations

from typing import Final

from dicom_services.domain.findings import Code

PRIVATE: Final = "99RADLOOP"
CAC_DRS: Final = Code("cac_drs", PRIVATE, "CAC-DRS category of the spacing-corrected score")
RUMBERGER: Final = Code("rumberger", PRIVATE, "Rumberger category of the spacing-corrected score")


def cac_drs(score: float, vessels: int | None = None) -> Code:
    """A0 to A3, with the number of vessels where it is known.

    Between whole numbers the next limit decides: 99.9 is A1, 100 is A2, and anything above zero
    is at least A1.

    References
    ----------
    Hecht HS et al. CAC-DRS. J Cardiovasc Comput Tomogr 2018;12:185-191, table 3.
    """
    if score <= 0.0:
        return Code("A0", PRIVATE, "A0: score 0")
    grade, span = ("A1", "1 to 99")
    if score >= 100.0:
        grade, span = ("A2", "100 to 299") if score < 300.0 else ("A3", "300 or more")
    if vessels is None:
        return Code(grade, PRIVATE, f"{grade}: score {span}")
    known = f"{grade}/N{vessels}"
    return Code(known, PRIVATE, f"{known}: score {span} in {vessels} of 4 vessels")


def rumberger(score: float) -> Code:
    """0, 1-10, 11-100, 101-400 or above 400; what exceeds a limit is in the next group.

    References
    ----------
    Rumberger JA et al. Mayo Clin Proc 1999;74:243-252, table 4.
    """
    if score <= 0.0:
        return Code("0", PRIVATE, "0: no identifiable plaque")
    if score <= 10.0:
        return Code("1-10", PRIVATE, "1-10: minimal plaque burden")
    if score <= 100.0:
        return Code("11-100", PRIVATE, "11-100: mild plaque burden")
    if score <= 400.0:
        return Code("101-400", PRIVATE, "101-400: moderate plaque burden")
    return Code(">400", PRIVATE, ">400: extensive plaque burden")
