"""Deconvolution of tissue by artery: sSVD, cSVD, oSVD and Lucy-Richardson, all voxels at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.concentration import column_noise
from ai_nodes.ops.inverses import Matrix, circulant_inverse, standard_inverse, truncations
from ai_nodes.ops.lucy import lucy_matrix, lucy_richardson
from ai_nodes.ops.oscillation import quiet_peaks, quiet_residues
from ai_nodes.ops.residue_peaks import peaks, peaks_of_rows
from ai_nodes.ops.time_grid import TimeGrid, even_times
from dicom_services.errors import InputError

Method = Literal["sSVD", "cSVD", "oSVD", "Lucy-Richardson"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)

SSVD_THRESHOLD: Final = 0.2
"""Oestergaard L et al. Magn Reson Med 1996;36:715-725, Results: cut-off 0.2 of the maximum."""
CSVD_AT_SNR: Final = ((20.0, 0.10), (100.0, 0.03))
"""Wu O et al. Magn Reson Med 2003;50:164-174, Results: best cSVD thresholds at SNR 20 and 100."""
PEAK_PER_SNR: Final = 0.51
"""Their normal tissue loses 40 % of its signal, so TE times dR2* is -ln(0.6) = 0.51 at its peak and
peak over noise of the concentration is 0.51 SNR (Wu 2003, Simulations)."""
OSCILLATION_INDEX: Final = 0.035
"""Wu 2003, Results: oSVD at SNR 20, with one image a second. A truncated residue is smooth, so that
its second differences grow with the square of the step: the same index for slower images would cut
flow to a fifth at 3 s and move the residue's peak by 2 s. It is scaled by that square (ours)."""
OSVD_RANGE: Final = (0.05, 0.95)
"""Thresholds that are tried, from the least on. Usual implementations go in steps of 5 %, which
drop several bins at a time and let flow jump with the delay; here every bin has its own step."""
LUCY_ITERATIONS: Final = 60
LUCY_SUPPORT_S: Final = 40.0
"""Ours: longer than the transit and delay of any tissue that lives."""
CHUNK: Final = 2048
"""Voxels at a time: their residues stay in the second-level cache."""
CARD_CHUNK: Final = 1 << 18
"""The same on a card, which wants large products: 126 MB of residues of 60 frames."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """How much of the solution is kept.

    Parameters
    ----------
    threshold : float or None
        Singular values below this share of the largest are dropped (sSVD, cSVD). None: the
        published default: 0.2 for sSVD; for cSVD by the noise of the curves, see `by_noise`.
    oscillation_index : float
        oSVD takes the first threshold with less; for samples 1 s apart, see `OSCILLATION_INDEX`.
    iterations, support_s
        Of Lucy-Richardson.
    """

    threshold: float | None = None
    oscillation_index: float = OSCILLATION_INDEX
    iterations: int = LUCY_ITERATIONS
    support_s: float = LUCY_SUPPORT_S

    def __post_init__(self) -> None:
        good = (
            (self.threshold is None or 0.0 < self.threshold < 1.0)
            and 0.0 < self.oscillation_index < 10.0
            and 1 <= self.iterations <= 10_000
            and 0.0 < self.support_s <= 1e4
        )
        if not good:
            raise InputError("perfusion_settings")


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """What a deconvolution found, in the unit of tissue over artery per second.

    Parameters
    ----------
    cbf : (n,) f32
        Height of the residue, 1/s; 0 where it has no positive peak, NaN where the curve is.
    tmax : (n,) f32
        Time of that peak, s; negative where tissue comes before the artery (circulant methods);
        NaN where there is no peak.
    residue : (t', n) f32 or None
        cbf times R, 1/s, on the even times; of twice the length for the circulant methods.
    threshold : float or None
        The one that was used for all voxels; None for oSVD and Lucy-Richardson.
    grid : TimeGrid
    unmet : int
        Voxels of oSVD in which no threshold met the oscillation index.
    """

    cbf: Any
    tmax: Any
    residue: Any | None
    threshold: float | None
    grid: TimeGrid
    unmet: int = 0


def deconvolve(
    method: Method,
    concentration: Any,
    aif: Any,
    times_s: Sequence[float] | NDArray[np.floating],
    settings: Truncation | None = None,
    *,
    keep_residue: bool = False,
    chunk: int | None = None,
    xp: Any = np,
) -> Flow:
    """Deconvolve curves (t, n) by an artery (t,).

    Both are on the same times; uneven ones are interpolated to even times first. The artery's
    matrix assumes artery and residue linear between samples (Oestergaard 1996, Theory). Curves
    are float32 throughout; the inverse is computed in float64 and rounded once.

    Parameters
    ----------
    xp : module
        numpy, or cupy with `concentration` on the card: the same matrices there.

    Raises
    ------
    InputError
        `too_few_times`, `times_order`, `aif_shape`, `aif_empty`, `perfusion_settings`.

    References
    ----------
    Oestergaard L et al. Magn Reson Med 1996;36:715-725. Wu O et al. Magn Reson Med 2003;50:164-174.
    Vonken EPA et al. Magn Reson Med 1999;41:343-350 (maximum likelihood, which is Lucy-Richardson).
    """
    settings = settings or Truncation()
    if method not in METHODS:
        raise InputError("perfusion_settings")
    chunk = chunk or (CHUNK if xp is np else CARD_CHUNK)
    grid = even_times(times_s)
    artery = _artery(aif, concentration, times_s, grid)
    if method == "Lucy-Richardson":
        matrix, start = lucy_matrix(artery, grid.step_s, settings.support_s)
        height, row, found = lucy_richardson(
            grid.apply(concentration, xp),
            matrix,
            start,
            settings.iterations,
            keep_residue=keep_residue,
            chunk=chunk,
            xp=xp,
        )
        return Flow(*_placed(height, row, len(matrix), grid, False, xp), found, None, grid)
    if method == "oSVD":
        return _osvd(concentration, artery, grid, settings, keep_residue, chunk, xp)
    if method == "sSVD":
        threshold = settings.threshold or SSVD_THRESHOLD
        inverse = standard_inverse(artery, grid.step_s, threshold)
    else:
        threshold = settings.threshold or by_noise(concentration)
        inverse = circulant_inverse(artery, grid.step_s, threshold)
    return _linear(concentration, inverse, grid, threshold, method, keep_residue, chunk, xp)


def _artery(
    aif: Any, concentration: Any, times_s: Sequence[float] | NDArray[np.floating], grid: TimeGrid
) -> Matrix:
    artery = np.asarray(aif, np.float64)
    if artery.shape != (len(times_s),) or len(concentration) != len(times_s):
        raise InputError("aif_shape", aif=len(artery), times=len(times_s))
    if not np.isfinite(artery).all() or artery.max() <= 0.0 or artery.sum() <= 0.0:
        raise InputError("aif_empty")
    return np.asarray(grid.apply(artery), np.float64)


def by_noise(concentration: Any) -> float:
    """The cSVD threshold that suits the noise: on the line through Wu's two (both axes log).

    Never below his lower one, nor above the 0.2 of sSVD.

    The ratio is the median over voxels of peak over noise; the noise of a curve is taken from
    the median of its neighbours' differences, so that no baseline is needed.
    """
    every = max(1, concentration.shape[1] // 4096)
    some = concentration[:, ::every]
    some = np.asarray(some.get() if hasattr(some, "get") else some, np.float64)
    some = some[:, np.isfinite(some).all(axis=0)]
    some = some[:, some.max(axis=0, initial=0.0) > 0.0]
    (worse, wide), (better, narrow) = CSVD_AT_SNR
    if not some.size:
        return wide
    top = some.max(axis=0)
    snr = np.median(top / np.maximum(column_noise(some), 1e-12 * top)) / PEAK_PER_SNR
    slope = np.log(narrow / wide) / np.log(better / worse)
    return float(np.clip(wide * (snr / worse) ** slope, narrow, SSVD_THRESHOLD))


def _linear(
    concentration: Any,
    inverse: Matrix,
    grid: TimeGrid,
    threshold: float,
    method: Method,
    keep_residue: bool,
    chunk: int,
    xp: Any,
) -> Flow:
    """One product with the inverse, and the peak of each column."""
    if grid.weights is not None:
        inverse = inverse @ grid.weights
    matrix = xp.asarray(inverse.astype(np.float32))
    rows, voxels = len(inverse), concentration.shape[1]
    cbf, at = xp.empty(voxels, np.float32), xp.empty(voxels, np.float32)
    residue = xp.empty((rows, voxels), np.float32) if keep_residue else None
    circulant = method == "cSVD"
    buffer = xp.empty((rows, chunk), np.float32)
    for begin in range(0, voxels, chunk):
        part = slice(begin, begin + chunk)
        curves = concentration[:, part]
        found = xp.matmul(matrix, curves, out=buffer[:, : curves.shape[1]])
        cbf[part], at[part] = peaks(found, circulant=circulant, xp=xp)
        if residue is not None:
            residue[:, part] = found
    return Flow(*_placed(cbf, at, rows, grid, circulant, xp), residue, threshold, grid)


def _placed(
    cbf: Any, at: Any, rows: int, grid: TimeGrid, circulant: bool, xp: Any
) -> tuple[Any, Any]:
    """Flow without negative peaks, and where the peak lies in seconds."""
    if circulant:
        at = xp.where(at >= rows // 2, at - rows, at)
    tmax = xp.where(cbf > 0.0, at * np.float32(grid.step_s), np.float32(np.nan))
    return xp.where(cbf <= 0.0, np.float32(0.0), cbf), tmax


def _osvd(
    concentration: Any,
    artery: Matrix,
    grid: TimeGrid,
    settings: Truncation,
    keep_residue: bool,
    chunk: int,
    xp: Any,
) -> Flow:
    """Per voxel the first threshold whose residue oscillates less than the index allows."""
    basis, solve, keeps = truncations(artery, grid.step_s, *OSVD_RANGE)
    if grid.weights is not None:
        solve = solve @ grid.weights
    waves = xp.asarray(np.ascontiguousarray(basis.T, np.float32))
    analysis = xp.asarray(solve.astype(np.float32))
    rows, voxels = len(basis), concentration.shape[1]
    cbf, at = xp.empty(voxels, np.float32), xp.empty(voxels, np.float32)
    residue = xp.empty((rows, voxels), np.float32) if keep_residue else None
    limit = settings.oscillation_index * grid.step_s**2
    loosest = np.ascontiguousarray((basis[:, : keeps[0]] @ solve[: keeps[0]]).T, np.float32)
    unmet = 0
    for begin in range(0, voxels, chunk):
        part = slice(begin, begin + chunk)
        if xp is np:
            curves = concentration[:, part].T
            found = curves @ loosest
            unmet += quiet_residues(found, curves @ analysis.T, waves, keeps, limit)
            cbf[part], at[part] = peaks_of_rows(found)
            found = found.T
        else:
            found, cbf[part], at[part], missed = quiet_peaks(
                analysis @ concentration[:, part],
                waves.T,
                keeps,
                limit,
                xp=xp,
            )
            unmet += missed
        if residue is not None:
            residue[:, part] = found
    placed = _placed(cbf, at, rows, grid, True, xp)
    return Flow(*placed, residue, None, grid, unmet)
