"""Matrices that undo a convolution with an artery, truncated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def smoothed(artery: Matrix) -> Matrix:
    """1-4-1 means: what artery and residue linear between samples convolve to.

    Oestergaard L et al. Magn Reson Med 1996;36:715-725, Theory.
    """
    padded = np.concatenate([[0.0], artery, [0.0]])
    means: Matrix = (padded[:-2] + 4.0 * padded[1:-1] + padded[2:]) / 6.0
    return means


def standard_inverse(artery: Matrix, step_s: float, threshold: float) -> Matrix:
    """Truncated inverse (t, t) of the lower triangular matrix: sSVD."""
    column = step_s * smoothed(artery)
    size = len(column)
    lag = np.subtract.outer(np.arange(size), np.arange(size))
    matrix = np.where(lag >= 0, column[np.clip(lag, 0, None)], 0.0)
    left, values, right = np.linalg.svd(matrix)
    kept = values >= threshold * values[0]
    inverse: Matrix = (right[kept].T / values[kept]) @ left[:, kept].T
    return inverse


def circulant_spectrum(artery: Matrix, step_s: float) -> NDArray[np.complex128]:
    """Eigenvalues of the block-circulant matrix of twice the length: their size are its
    singular values, so that truncation is leaving bins out."""
    size = 2 * len(artery)
    bins = np.arange(size // 2 + 1)
    linear = (4.0 + 2.0 * np.cos(2.0 * np.pi * bins / size)) / 6.0
    spectrum: NDArray[np.complex128] = np.fft.rfft(artery, size) * linear * step_s
    return spectrum


def circulant_inverse(artery: Matrix, step_s: float, threshold: float) -> Matrix:
    """Truncated inverse (2t, t) of the block-circulant matrix: cSVD."""
    spectrum = circulant_spectrum(artery, step_s)
    size = np.abs(spectrum)
    kept = size >= threshold * size.max()
    solved = np.where(kept, 1.0 / np.where(kept, spectrum, 1.0), 0.0)
    response = np.fft.irfft(solved, 2 * len(artery))
    lag = np.subtract.outer(np.arange(2 * len(artery)), np.arange(len(artery)))
    inverse: Matrix = response[lag % (2 * len(artery))]
    return inverse


def truncations(
    artery: Matrix, step_s: float, least: float, most: float
) -> tuple[Matrix, Matrix, NDArray[np.int64]]:
    """All truncations of the circulant inverse, by thresholds from `least` to `most` of the
    largest singular value, as one pair of matrices.

    Returns
    -------
    basis : (2t, m)
        Cosines and sines of the bins that the least threshold keeps, the largest bin first.
    solve : (m, t)
        basis[:, :k] @ solve[:k] is the truncated inverse.
    keeps : (p,) int
        k of each truncation, most kept first: there is one for every bin, no more.
    """
    spectrum = circulant_spectrum(artery, step_s)
    length, half = 2 * len(artery), len(artery)
    size = np.abs(spectrum)
    order = np.argsort(-size, kind="stable")
    order = order[size[order] >= least * size.max()]
    phase = 2.0 * np.pi / length
    basis, solve, ends = [], [], []
    for k in order:
        weight = (1.0 if k in (0, half) else 2.0) / length
        wave = np.exp(1j * phase * ((k * np.arange(length)) % length))
        # Real part of wave(l) * conj(wave(t)) / A_k is what bin k adds to the inverse at (l, t).
        coefficient = weight / spectrum[k] * np.conj(wave[:half])
        basis.append(wave.real)
        solve.append(coefficient.real)
        if k not in (0, half):
            basis.append(-wave.imag)
            solve.append(coefficient.imag)
        ends.append(len(basis))
    fewest = int((size[order] >= most * size.max()).sum())
    keeps = np.array(ends[fewest - 1 :][::-1], np.int64)
    return np.stack(basis, 1), np.stack(solve), keeps
