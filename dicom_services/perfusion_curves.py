"""Bolus curves of known truth: an arterial gamma variate and what tissue makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Residue = Literal["exponential", "box", "linear"]
RESIDUES: Final[tuple[Residue, ...]] = get_args(Residue)
Curves = NDArray[np.float64]

KAPPA: Final = (1.0 - 0.45) / (1.0 - 0.25)
"""(1 - Hct large) / (1 - Hct small vessel). Rempp KA et al. Radiology 1994;193:637-641, Methods."""
DENSITY_G_ML: Final = 1.04
"""Of brain tissue. Rempp 1994, as above."""
FINE_STEP_S: Final = 0.02
"""The integrals below err by the square of it: some 1e-5 of the peak of a bolus 5 s wide."""


@dataclass(frozen=True, slots=True)
class Arterial:
    """A gamma variate, (t - arrival)^alpha exp(-(t - arrival) / beta), scaled to a peak.

    `recirculation` is how much of it comes a second time, `recirculation_delay_s` later and
    `recirculation_spread` times as wide, with the same area per height.

    References
    ----------
    Oestergaard L et al. Magn Reson Med 1996;36:715-725, Computer simulations: alpha 3, beta 1.5 s.
    """

    arrival_s: float = 10.0
    alpha: float = 3.0
    beta_s: float = 1.5
    peak: float = 1.0
    recirculation: float = 0.0
    recirculation_delay_s: float = 12.0
    recirculation_spread: float = 3.0

    def __call__(self, times_s: ArrayLike) -> Curves:
        """Its values at any times, in the unit of `peak`."""
        since = np.asarray(times_s, np.float64) - self.arrival_s
        first = self._pass(since, self.beta_s)
        if not self.recirculation:
            return first
        again = self._pass(
            since - self.recirculation_delay_s, self.beta_s * self.recirculation_spread
        )
        return first + self.recirculation * again

    def _pass(self, since_s: Curves, beta_s: float) -> Curves:
        scaled = np.clip(since_s, 0.0, None) / (self.alpha * beta_s)
        values: Curves = self.peak * (scaled * np.exp(1.0 - scaled)) ** self.alpha
        return values


def residue(kind: Residue, lags_s: ArrayLike, mtt_s: float) -> Curves:
    """What share of the tracer is still in the tissue; 1 at lag zero, of area `mtt_s`."""
    lags = np.asarray(lags_s, np.float64)
    if kind == "exponential":
        left = np.exp(-np.clip(lags, 0.0, None) / mtt_s)
    elif kind == "box":
        left = (lags <= mtt_s).astype(np.float64)
    else:
        left = np.clip(1.0 - lags / (2.0 * mtt_s), 0.0, None)
    return np.where(lags >= 0.0, left, 0.0)


def flow_per_s(
    cbf_ml_100g_min: float, *, kappa: float = KAPPA, density_g_ml: float = DENSITY_G_ML
) -> float:
    """Height of the residue of tissue with a flow: what a deconvolution of curves must find."""
    return cbf_ml_100g_min / 6000.0 * density_g_ml / kappa


def tissue_curves(
    times_s: Sequence[float] | Curves,
    arterial: Arterial,
    cbf_ml_100g_min: ArrayLike,
    mtt_s: ArrayLike,
    delay_s: ArrayLike = 0.0,
    *,
    kind: Residue = "exponential",
    kappa: float = KAPPA,
    density_g_ml: float = DENSITY_G_ML,
) -> Curves:
    """Curves (t, n) of tissues with these flows, transit times and delays after the artery.

    The convolution is integrated by parts over the artery's integral, which is smooth whatever
    the residue, on a grid of `FINE_STEP_S`; nothing here knows how it will be sampled.
    """
    times = np.asarray(times_s, np.float64)
    flows, transits, delays = np.broadcast_arrays(
        np.atleast_1d(np.asarray(cbf_ml_100g_min, np.float64)),
        np.asarray(mtt_s, np.float64),
        np.asarray(delay_s, np.float64),
    )
    earliest = min(times[0], arterial.arrival_s) - 1.0
    fine = np.arange(earliest, times[-1] - min(0.0, float(delays.min())) + 1.0, FINE_STEP_S)
    once = _integral(arterial(fine))
    twice = _integral(once)
    curves = np.empty((len(times), flows.size))
    shapes: dict[float, Curves] = {}
    for n, (flow, transit, delay) in enumerate(
        zip(flows.flat, transits.flat, delays.flat, strict=True)
    ):
        if transit not in shapes:
            shapes[transit] = _held(fine, once, twice, float(transit), kind)
        height = flow_per_s(float(flow), kappa=kappa, density_g_ml=density_g_ml)
        curves[:, n] = height * np.interp(times - delay, fine, shapes[transit])
    return curves


def _integral(values: Curves) -> Curves:
    steps = 0.5 * FINE_STEP_S * (values[1:] + values[:-1])
    return np.concatenate([[0.0], np.cumsum(steps)])


def _held(fine: Curves, once: Curves, twice: Curves, mtt_s: float, kind: Residue) -> Curves:
    """The artery convolved with a residue: R(0) I(t) + integral of R'(s) I(t - s)."""
    if kind == "box":
        return once - np.interp(fine - mtt_s, fine, once, left=0.0)
    if kind == "linear":
        left = np.interp(fine - 2.0 * mtt_s, fine, twice, left=0.0)
        return once - (twice - left) / (2.0 * mtt_s)
    lags = np.arange(len(fine)) * FINE_STEP_S
    weights = np.exp(-lags / mtt_s) * (FINE_STEP_S / mtt_s)
    weights[0] *= 0.5
    size = 2 * len(fine)
    lost = np.fft.irfft(np.fft.rfft(once, size) * np.fft.rfft(weights, size), size)[: len(fine)]
    return once - lost
