"""Stars for tests, drawn without any code of zogyp: mixtures of Gaussians integrated over pixels by erf.

A mixture is exact in closed form and makes every PSF that tests want: a core with wings, a
trail (Gaussians along a line), a ring (Gaussians along a circle).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import erf

FWHM = 2.354820045  # of a Gaussian of unit sigma
Mixture = np.ndarray  # (m, 5): share of the flux, dx, dy, sigma_x, sigma_y [px]


def gaussian(fwhm, wings=0.0):
    """A round core, with a share of the flux in a wing three times as wide."""
    s = fwhm / FWHM
    return np.array([[1 - wings, 0, 0, s, s], [wings, 0, 0, 3 * s, 3 * s]])


def along(points, fwhm):
    """Equal Gaussians at ``points`` (m, 2), centred on their mean: a trail or a ring."""
    points = np.asarray(points, dtype=float)
    points = points - points.mean(axis=0)
    m, s = len(points), fwhm / FWHM
    return np.column_stack([np.full(m, 1 / m), points, np.full(m, s), np.full(m, s)])


def stamp(mixture, dx, dy, n):
    """Pixels (n, n) of unit flux, centred on pixel ``n // 2`` plus (dx, dy)."""
    edge = np.arange(n + 1) - n // 2 - 0.5
    share, ox, oy, sx, sy = mixture.T[:, :, None]
    ax = 0.5 * np.diff(erf((edge - ox - dx) / (np.sqrt(2) * sx)), axis=1)
    ay = 0.5 * np.diff(erf((edge - oy - dy) / (np.sqrt(2) * sy)), axis=1)
    return (share * ay).T @ ax


def add(image, x, y, flux, mixture, n=61):
    """Add one star in place."""
    xi, yi, h = round(x), round(y), n // 2
    ny, nx = image.shape
    y0, y1, x0, x1 = max(0, yi - h), min(ny, yi + h + 1), max(0, xi - h), min(nx, xi + h + 1)
    if y1 > y0 and x1 > x0:
        p = flux * stamp(mixture, x - xi, y - yi, n)
        image[y0:y1, x0:x1] += p[y0 - yi + h : y1 - yi + h, x0 - xi + h : x1 - xi + h]


@dataclass
class Field:
    """A field of stars without noise, in float64, and what is in it."""

    image: np.ndarray
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    profile: Callable[[float, float], Mixture]
    rng: np.random.Generator = field(repr=False)

    def exposed(self, sky=200.0, gain=2.0, read_noise=5.0):
        """One exposure, float32: Poisson noise of sky and stars, and read noise."""
        electrons = self.rng.poisson((self.image + sky) * gain) + self.rng.normal(0, read_noise, self.image.shape)
        return (electrons / gain).astype(np.float32)

    def truth(self, x, y, n):
        """The PSF at a place, (n, n)."""
        return stamp(self.profile(x, y), 0.0, 0.0, n)


def star_field(seed, n_stars, profile, *, shape=(512, 512), flux=(3e3, 3e5), apart=0.0, n=61):
    """Stars at random places, log-uniform in flux, no two nearer than ``apart`` px."""
    rng = np.random.default_rng(seed)
    ny, nx = shape
    places = np.zeros((0, 2))
    for _ in range(200 * n_stars):
        place = rng.uniform([4, 4], [nx - 5, ny - 5])
        if len(places) == 0 or np.hypot(*(places - place).T).min() >= apart:
            places = np.vstack([places, place])
        if len(places) == n_stars:
            break
    f = np.exp(rng.uniform(*np.log(flux), len(places)))
    image = np.zeros(shape)
    for (x, y), one in zip(places, f, strict=True):
        add(image, x, y, one, profile(x, y), n)
    return Field(image, places[:, 0], places[:, 1], f, profile, rng)
