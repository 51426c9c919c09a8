"""Curves over time as one line of text and two numbers, for a report that has no other place."""

from __future__ import annotations

from typing import Final

from dicom_services.domain.findings import Curve

MOST_PLACES: Final = 100
"""Of a curve: a reader marks a few voxels, and what is chosen by rule is rarely more."""


def curve_key(curve: Curve) -> str:
    """The key a curve is tracked under; its label where the pipeline gave none."""
    return curve.tracking or f"curve {curve.label}"


def curve_peak(curve: Curve) -> tuple[float, float]:
    """Highest value and when it is reached, in seconds; the earlier of two equal peaks."""
    at = max(range(len(curve.values)), key=lambda t: curve.values[t])
    return curve.values[at], curve.times_s[at]


def curve_line(curve: Curve) -> str:
    """The whole curve in one line that a program can take apart again.

    `label; unit=UCUM; seconds=t1 t2 ...; values=v1 v2 ...; voxels=k,j,i k,j,i ...`, numbers with
    six significant digits; `voxels`, counted from 0 in slice, row and column, only where it has
    them.
    """
    parts = [
        curve.label.replace(";", ","),
        f"unit={curve.unit.value}",
        "seconds=" + " ".join(f"{value:.6g}" for value in curve.times_s),
        "values=" + " ".join(f"{value:.6g}" for value in curve.values),
    ]
    if curve.places:
        places = curve.places[:MOST_PLACES]
        parts.append("voxels=" + " ".join(f"{k},{j},{i}" for k, j, i in places))
    return "; ".join(parts)
