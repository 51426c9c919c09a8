"""Contrast that leaves the vessels: its share in each DSC curve, fitted and taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.concentration import CHUNK, Bolus
from dicom_services.errors import InputError

TAIL_FRAMES: Final = 10
"""Boxerman 2006, Materials and Methods: the final 10 time points."""
LEAST_REFERENCE: Final = 20
"""Voxels of whole vessels that a mean curve needs; ours."""


@dataclass(frozen=True, slots=True, eq=False)
class Leakage:
    """Corrected curves (t, n) and what was taken out.

    Parameters
    ----------
    concentration : (t, n) f32
    k1 : (n,) f32
        Share of the reference curve, no unit.
    k2 : (n,) f32
        Leakage in 1/s: positive where T1 shortening lowers the curve, negative where T2* of
        leaked contrast raises it.
    reference : (t,) float
        Mean curve of tissue that does not leak.
    reference_voxels : int
    """

    concentration: Any
    k1: Any
    k2: Any
    reference: NDArray[np.float64]
    reference_voxels: int


def whole_vessels(concentration: NDArray[np.float32], bolus: Bolus) -> NDArray[np.bool_]:
    """Voxels (n,) whose curve comes back: their mean is the reference.

    Signal must not end more than one deviation of the baseline above it (Boxerman 2006: T1
    leakage). Against leakage that darkens instead, the end must not lie above the median of
    all ends, as shares of their peaks, by more than 3 robust deviations (ours).
    """
    first, last = bolus.baseline
    tail = concentration[-TAIL_FRAMES:].mean(axis=0)
    deviation = np.zeros_like(tail)
    if last - first > 1:
        deviation = concentration[first:last].std(axis=0, ddof=1)
    top = concentration.max(axis=0)
    good = np.asarray((top > 0.0) & (tail >= -deviation))
    if not good.any():
        return good
    share = np.divide(tail, top, out=np.full_like(tail, np.inf), where=good)
    middle = np.median(share[good])
    spread = 1.4826 * np.median(np.abs(share[good] - middle))
    return np.asarray(good & (share <= middle + 3.0 * max(spread, 1e-6)))


def correct_leakage(
    concentration: Any,
    times_s: Sequence[float] | NDArray[np.floating],
    bolus: Bolus,
    *,
    reference: NDArray[np.bool_] | None = None,
    xp: Any = np,
) -> Leakage:
    """Fit K1 times the reference minus K2 times its integral, and add K2 times the integral.

    Parameters
    ----------
    concentration : (t, n) f32
        dR2* in 1/s; NaN columns stay NaN.
    reference : (n,) bool or None
        Tissue that does not leak; None chooses by `whole_vessels`.

    Raises
    ------
    InputError
        `leakage_reference` when too few voxels are whole.

    References
    ----------
    Boxerman JL, Schmainda KM, Weisskoff RM. AJNR 2006;27:859-867, Materials and Methods, Appendix.
    """
    host = concentration.get() if hasattr(concentration, "get") else concentration
    whole = whole_vessels(host, bolus) if reference is None else reference
    count = int(whole.sum())
    if count < LEAST_REFERENCE:
        raise InputError("leakage_reference", voxels=count)
    times = np.asarray(times_s, np.float64)
    mean = _mean(host, whole)
    area = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(times) * (mean[1:] + mean[:-1]))])
    solve = np.linalg.pinv(np.stack([mean, -area], 1)).astype(np.float32)
    k1, k2 = xp.asarray(solve) @ concentration
    corrected = xp.asarray(area.astype(np.float32))[:, None] * k2
    corrected += concentration
    return Leakage(corrected, k1, k2, mean, count)


def _mean(curves: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of the curves (t, n) that are chosen and defined; a part at a time."""
    where = where & np.isfinite(curves[0])
    total = np.zeros(len(curves))
    for begin in range(0, len(where), CHUNK):
        chosen = where[begin : begin + CHUNK]
        # Not a product with zeros and ones: zero times NaN is NaN.
        total += curves[:, begin : begin + CHUNK][:, chosen].sum(axis=1, dtype=np.float64)
    mean: NDArray[np.float64] = total / where.sum()
    return mean
