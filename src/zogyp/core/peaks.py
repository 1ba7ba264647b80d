"""How many peaks noise alone makes in S_corr."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft


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
