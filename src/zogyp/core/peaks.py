"""Peaks of S_corr: where they are, and how many noise alone makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from zogyp.core.jit import compiled
from zogyp.core.threads import bands

Plane = NDArray[np.float32]
Index = NDArray[np.int64]


def extrema(plane: Plane, least: float) -> tuple[Index, Index]:
    """Rows and columns of pixels of at least this size that no neighbour of theirs exceeds, of either sign.

    Of equal neighbours the first in reading order is the peak. NaN is no neighbour.
    """
    parts = [_extrema(plane, least, rows.start, rows.stop) for rows in bands(len(plane))]
    none = np.zeros(0, np.int64)
    rows, columns = (np.concatenate([none, *(p[i] for p in parts)]) for i in (0, 1))
    return rows, columns


@compiled
def _extrema(plane: Plane, least: float, first: int, last: int) -> tuple[Index, Index]:
    """Those in rows first..last."""
    nx = plane.shape[1]
    rows, columns = np.empty((last - first) * nx, np.int64), np.empty((last - first) * nx, np.int64)
    n = 0
    for y in range(first, last):
        for x in range(nx):
            v = plane[y, x]
            if abs(v) >= least and _highest(plane, y, x, 1.0 if v > 0 else -1.0):
                rows[n], columns[n] = y, x
                n += 1
    return rows[:n].copy(), columns[:n].copy()


@compiled
def _highest(plane: Plane, y: int, x: int, sign: float) -> bool:
    ny, nx = plane.shape
    here = sign * plane[y, x]
    if not np.isfinite(here):
        return False
    for v in range(max(0, y - 1), min(ny, y + 2)):
        for u in range(max(0, x - 1), min(nx, x + 2)):
            beside = sign * plane[v, u]
            before = v < y or (v == y and u < x)
            if beside > here or (before and beside == here):
                return False
    return True


def roughness(psf: NDArray[np.floating]) -> float:
    """Root of the product of S_corr's second spectral moments along y and x [1/px²].

    S is white noise filtered with the PSF of D, so its power is that of the PSF. For a Gaussian PSF of
    standard deviation s it is 1 / (2 s²).

    Parameters
    ----------
    psf : (k, k) PSF of D.
    """
    n = fft.next_fast_len(4 * max(psf.shape), real=True)
    power = np.abs(fft.rfft2(psf.astype(np.float64), (n, n))) ** 2
    v, u = (2 * np.pi * f for f in (np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]))
    power[:, 1 : (n + 1) // 2] *= 2  # the other half of the frequencies
    moments = [float((power * f**2).sum() / power.sum()) for f in (u, v)]
    return float(np.sqrt(moments[0] * moments[1]))


def expected_peaks(psf: NDArray[np.floating], height: float) -> float:
    """Peaks of one sign beyond ``height`` sigma that Gaussian noise makes, per pixel.

    The density of high maxima of a smooth Gaussian field (Bond & Efstathiou 1987, MNRAS 226, 655), good
    beyond 3 sigma: (2π)^(-3/2) Λ ν exp(-ν²/2), Λ the `roughness`.
    """
    return float((2 * np.pi) ** -1.5 * roughness(psf) * height * np.exp(-(height**2) / 2))


def independent(psf: NDArray[np.floating]) -> float:
    """Share of the pixels of S_corr that count as independent values when a spread is measured."""
    n = fft.next_fast_len(4 * max(psf.shape), real=True)
    power = np.abs(fft.rfft2(psf.astype(np.float64), (n, n))) ** 2
    correlation = fft.irfft2(power, (n, n))
    return float(min(1.0, correlation[0, 0] ** 2 / (correlation**2).sum()))
