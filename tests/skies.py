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


def blob(size, sigma, lopsided=0.0):
    """A stamp of unit sum; ``lopsided`` makes it differ from its mirror images."""
    y, x = np.mgrid[:size, :size] - size // 2
    stamp = np.exp(-(x**2 + 1.3 * y**2 + 0.3 * x * y) / 2 / sigma**2) * (1 + lopsided * np.tanh(x + 0.5 * y))
    return stamp / stamp.sum()


def around_origin(stamp, shape):
    """The stamp's centre on [0, 0] of a plane, pixel by pixel."""
    plane = np.zeros(shape)
    k = stamp.shape[0]
    for i in range(k):
        for j in range(k):
            plane[(i - k // 2) % shape[0], (j - k // 2) % shape[1]] += stamp[i, j]
    return plane


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
        electrons = self.rng.poisson((self.image + sky) * gain) + self.rng.normal(
            0, read_noise, self.image.shape
        )
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


def true_psf(mixture, k=45):
    """A constant `PSF` of zogyp that holds a mixture as it is."""
    from zogyp.core.psfmodel import PSF

    values = stamp(mixture, 0, 0, k)
    s = np.sqrt((mixture[:, 0] / mixture[:, 3]).sum() ** -2)
    return PSF(basis=values[None].astype(np.float32), fwhm=float(FWHM * s))


def catalogue(x, y, flux, flux_err, saturated=None):
    """`Sources` of zogyp from plain numbers."""
    from zogyp.measure.sources import Sources

    x, y, flux = (np.array(a, dtype=float) for a in (x, y, flux))
    bright = np.zeros(x.size, bool) if saturated is None else np.array(saturated, dtype=bool)
    err = np.broadcast_to(np.asarray(flux_err, dtype=float), x.shape).copy()
    return Sources(x, y, flux, err, peak=flux / 10, radius=np.full(x.size, 2.0), saturated=bright)


def exposure(data, sources, psf, *, sigma=5.0, gain=2.0, mask=None, position_err=0.01, stars=None):
    """An `Exposure` of zogyp as if all had been measured: ``data`` without sky, errors as told."""
    from zogyp.core.meshes import MeshSurface
    from zogyp.image import Image
    from zogyp.measure.exposure import Exposure
    from zogyp.measure.noise import SkyNoise

    data = np.asarray(data, dtype=np.float32)
    mask = np.zeros(data.shape, np.uint16) if mask is None else mask
    noise = SkyNoise(MeshSurface.flat(sigma, data.shape), gain)
    data = np.where(mask == 0, data, np.float32(0))
    n = len(sources)
    return Exposure(
        image=Image(data, mask, gain=gain, name="made by a test"),
        data=data,
        level=MeshSurface.flat(0.0, data.shape),
        noise=noise,
        variance=noise.variance(data),
        sources=sources,
        position_err=np.broadcast_to(np.asarray(position_err, dtype=float), (n,)).copy(),
        psf=psf,
        stars=np.flatnonzero(~sources.saturated) if stars is None else np.asarray(stars),
    )
