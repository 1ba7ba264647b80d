"""Elliptical Moffat profile, integrated over pixels: where a PSF of pixels starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

F8 = NDArray[np.float64]
# three-point Gauss-Legendre rule over a pixel
_OFFSETS = (-0.3872983346207417, 0.0, 0.3872983346207417)
FAR = 3.0  # in ln fwhm: widths beyond it are not tried, and much nearer ones not believed
STEEPEST = 8.0  # beta; nearly a Gaussian
_SHARES = (5 / 18, 8 / 18, 5 / 18)


@dataclass(frozen=True)
class Moffat:
    """Unit-flux profile ``(1 + q)^-beta`` with elliptical ``q``; ``fwhm`` [px], shear ``e1``, ``e2``."""

    fwhm: float
    beta: float = 3.0
    e1: float = 0.0
    e2: float = 0.0

    def stamp(self, k: int, sampling: float = 1.0, dx: float = 0.0, dy: float = 0.0) -> F8:
        """Flux per image pixel at the points of a (k, k) grid of step ``sampling`` px around ``k // 2``."""
        a2 = self.fwhm**2 / (4 * (2 ** (1 / self.beta) - 1))
        det = 1 - self.e1**2 - self.e2**2
        p = (np.arange(k) - k // 2) * sampling
        out = np.zeros((k, k))
        for oy, wy in zip(_OFFSETS, _SHARES, strict=True):
            for ox, wx in zip(_OFFSETS, _SHARES, strict=True):
                y, x = (p - dy + oy)[:, None], (p - dx + ox)[None, :]
                q = ((1 - self.e1) * x * x - 2 * self.e2 * x * y + (1 + self.e1) * y * y) / (
                    a2 * np.sqrt(det)
                )
                out += wy * wx * (1 + q) ** -self.beta
        return out * (self.beta - 1) / (np.pi * a2)


def moffat_from(p: F8) -> Moffat:
    """Profile of four unbounded parameters: ln fwhm, ln (beta - 1.2), two of the shear."""
    beta = min(1.2 + float(np.exp(min(p[1], 3.0))), STEEPEST)
    e1, e2 = 0.9 * np.tanh(p[2:4]) / np.sqrt(2)
    return Moffat(float(np.exp(p[0])), beta, float(e1), float(e2))


def parameters_of(m: Moffat) -> F8:
    """The inverse of `moffat_from`."""
    e = np.arctanh(np.array([m.e1, m.e2]) * np.sqrt(2) / 0.9)
    return np.array([np.log(m.fwhm), np.log(m.beta - 1.2), e[0], e[1]])


def fit_moffat(values: F8, sampling: float, fwhm: float) -> Moffat:
    """The Moffat profile nearest to a PSF given on a (k, k) grid around ``k // 2``.

    ``fwhm`` is a first guess [px]. Falls back to a round profile of that width where no fit converges.
    """
    k = values.shape[0]
    h = min(k // 2, int(np.ceil(3 * fwhm / sampling)))
    core = values[k // 2 - h : k // 2 + h + 1, k // 2 - h : k // 2 + h + 1]
    core = core / core.max()

    def near(p: F8) -> F8:  # a step too far would leave no light at all
        return np.append(np.clip(p[:1], np.log(fwhm) - FAR, np.log(fwhm) + FAR), p[1:])

    def residual(p: F8) -> F8:
        s = moffat_from(near(p)).stamp(2 * h + 1, sampling, p[5], p[6])
        out: F8 = (np.exp(p[4]) * s / s.max() - core).ravel()
        return out

    start = np.array([np.log(fwhm), np.log(1.8), 0.0, 0.0, 0.0, 0.0, 0.0])
    try:
        p = least_squares(residual, start, max_nfev=60).x
    except ValueError:
        return Moffat(fwhm)
    m = moffat_from(near(p))
    return m if 0.3 * fwhm < m.fwhm < 3 * fwhm else Moffat(fwhm)
