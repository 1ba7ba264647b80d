"""Elliptical Moffat profile, integrated over pixels: where a PSF of pixels starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

F8 = NDArray[np.float64]
# three-point Gauss-Legendre rule over a pixel
_OFFSETS = (-0.3872983346207417, 0.0, 0.3872983346207417)
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
                q = ((1 - self.e1) * x * x - 2 * self.e2 * x * y + (1 + self.e1) * y * y) / (a2 * np.sqrt(det))
                out += wy * wx * (1 + q) ** -self.beta
        return out * (self.beta - 1) / (np.pi * a2)


def fit_moffat(values: F8, sampling: float, fwhm: float) -> Moffat:
    """The Moffat profile nearest to a PSF given on a (k, k) grid around ``k // 2``.

    ``fwhm`` is a first guess [px]. Falls back to a round profile of that width where no fit converges.
    """
    k = values.shape[0]
    h = min(k // 2, int(np.ceil(3 * fwhm / sampling)))
    core = values[k // 2 - h : k // 2 + h + 1, k // 2 - h : k // 2 + h + 1]
    core = core / core.max()

    def residual(p: F8) -> F8:
        m = Moffat(np.exp(p[0]), 1.2 + np.exp(p[1]), *(0.9 * np.tanh(p[2:4])))
        s = m.stamp(2 * h + 1, sampling, p[5], p[6])
        out: F8 = (np.exp(p[4]) * s / s.max() - core).ravel()
        return out

    start = np.array([np.log(fwhm), np.log(1.8), 0.0, 0.0, 0.0, 0.0, 0.0])
    try:
        p = least_squares(residual, start, max_nfev=60).x
    except ValueError:
        return Moffat(fwhm)
    m = Moffat(
        float(np.exp(p[0])), float(min(1.2 + np.exp(p[1]), 8.0)), *(float(e) for e in 0.9 * np.tanh(p[2:4]))
    )
    return m if 0.3 * fwhm < m.fwhm < 3 * fwhm else Moffat(fwhm)
