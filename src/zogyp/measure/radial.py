"""A PSF's mean radial profile, bent away from a Moffat where the brightest stars together say so.

Defocused, trailed or wavy PSFs are no Moffat. Single pixels of the wings are too faint to say it, so a
model of pixels that falls back to a Moffat where it knows nothing would keep wings that are not there, or
lack those that are, and every flux would be wrong by their light. Rings of all stars together know them well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter

from zogyp.core.psfmodel import SPLINE
from zogyp.core.stacks import stack_draw
from zogyp.measure.moffat import Moffat
from zogyp.measure.psf_solver import Grid, StarStamps, flux_and_sky

F8 = NDArray[np.float64]
KNOTS = np.array([0.0, 0.3, 0.6, 0.9, 1.2, 1.6, 2.0, 2.6, 3.4, 4.5])  # FWHM
WINGS = 3  # number of the first knot outside of the core
CORE = 0.15  # departure within the core up to which it is left to the single pixels, which know it better
LEEWAY = 0.7  # relative departure from the Moffat that needs no excuse
STARS = 60  # brightest stars that tell
MODEL_ERROR = 0.03  # of a star's light by which a round profile may be off
CLIP = 4.0  # sigma beyond which a pixel loses its weight
ROUNDS = 4
SIGNIFICANT = 60.0  # chi² of the departure from the Moffat below which it is left: ten numbers make 10 +- 4.5


@dataclass(frozen=True)
class Bent:
    """A Moffat profile times a function of the radius, of the same sum.

    Attributes
    ----------
    moffat : Moffat
    factors : (n,) relative departure at the last n `KNOTS` times the FWHM, linear between them.
    """

    moffat: Moffat
    factors: tuple[float, ...]

    @property
    def fwhm(self) -> float:
        """Of the Moffat [px]."""
        return self.moffat.fwhm

    def stamp(self, k: int, sampling: float = 1.0) -> F8:
        """Flux per image pixel at the points of a (k, k) grid of step ``sampling`` px around ``k // 2``."""
        plane = self.moffat.stamp(k, sampling)
        knots = KNOTS[-len(self.factors) :]
        factor = 1 + np.interp(_radius(k, sampling), knots * self.fwhm, self.factors)
        bent = plane * np.maximum(factor, 0.0)
        result: F8 = bent * (plane.sum() / bent.sum())
        return result


def bend(moffat: Moffat, stars: StarStamps, grid: Grid) -> Moffat | Bent:
    """Fit the factors to the pixels of the brightest stars, each with its own flux and sky.

    The Moffat itself comes back where the stars do not contradict it.

    Parameters
    ----------
    moffat : Moffat
        Nearest to the stars.
    stars : StarStamps
        Their pixels without neighbours and sky.
    grid : Grid
    """
    factors, chi2 = _fitted(moffat, stars, grid, KNOTS)
    if chi2 < SIGNIFICANT:
        return moffat
    if np.abs(factors[:WINGS]).max() < CORE:
        factors, _ = _fitted(moffat, stars, grid, KNOTS[WINGS:])
    return Bent(moffat, tuple(float(f) for f in np.clip(factors, -0.98, 5.0)))


def _fitted(moffat: Moffat, stars: StarStamps, grid: Grid, knots: F8) -> tuple[F8, float]:
    """Factors at some knots, and the chi² of their departure from the Moffat."""
    best = np.argsort(-stars.flux, kind="stable")[:STARS]
    r = grid.radius
    x, y, ones = stars.x[best], stars.y[best], np.ones((best.size, 1))

    def drawn(plane: F8) -> F8:
        coefficients = spline_filter(plane, order=SPLINE, mode="mirror")[None]
        made = stack_draw(coefficients, x, y, ones, r, grid.sampling).reshape(best.size, -1)
        return np.asarray(made, dtype=np.float64)

    profile = moffat.stamp(grid.k, grid.sampling)
    radius = _radius(grid.k, grid.sampling)
    hats = (np.interp(radius, knots * moffat.fwhm, hat) for hat in np.eye(knots.size))
    bumps = np.stack([drawn(profile * hat) for hat in hats])  # (knots, stars, pixels)
    lines = bumps.reshape(knots.size, -1)
    base = drawn(profile)
    data = stars.data[best].reshape(best.size, -1).astype(np.float64)
    variance = stars.variance[best].reshape(best.size, -1).astype(np.float64)  # infinite: not to be used
    data = np.where(np.isfinite(variance), data, 0.0)
    factors = np.zeros(knots.size)
    noise = variance + (MODEL_ERROR * stars.flux[best][:, None] * base) ** 2
    most, sigma = 1 / noise, np.sqrt(noise)
    weight, normal = most, np.eye(knots.size)
    for i in range(ROUNDS):
        model = base + (factors @ lines).reshape(base.shape)
        # what lies on one star, and not on the others, must not pass for its sky
        for _ in range(2 if i == 0 else 1):
            flux, sky = flux_and_sky(data, model, weight)
            share = (data - sky[:, None]) / flux[:, None] - model
            off = np.abs(share - _medians(share)) * np.abs(flux[:, None]) / sigma
            weight = np.where(off < CLIP, most, 0.0)
        left = data - sky[:, None] - flux[:, None] * base
        normal = (lines * (weight * flux[:, None] ** 2).ravel()) @ lines.T
        right = lines @ (weight * flux[:, None] * left).ravel()
        factors[:] = np.linalg.solve(normal + np.eye(knots.size) / LEEWAY**2, right)
    return factors, float(factors @ normal @ factors)


def _radius(k: int, sampling: float) -> F8:
    p = (np.arange(k) - k // 2) * sampling
    result: F8 = np.hypot(p[:, None], p[None, :])
    return result


def _medians(a: F8) -> F8:
    """Of each column; numpy's own takes one column after the other, but sorts all of them at once."""
    n = len(a)
    middle: F8 = np.sort(a, axis=0)[(n - 1) // 2 : n // 2 + 1].mean(axis=0)
    return middle
