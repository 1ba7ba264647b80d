"""The PSF flux of an image at given places: optimal weights, the light of all other sources taken off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.psfmodel import fwhm_of
from zogyp.core.stamps import add_stars
from zogyp.image import FloatImage
from zogyp.measure.exposure import Exposure
from zogyp.measure.scene import star_radii

Floats = NDArray[np.float64]

ITSELF = 0.5  # FWHM within which a source of the catalogue is the one that is measured
JUDGED = 0.5  # share of the PSF's weight that must lie on usable pixels
ROUNDS = 3  # of weights and flux in turn


def psf_fluxes(exposure: Exposure, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Fluxes at places, whether there is a source or not.

    Parameters
    ----------
    exposure : Exposure
    x, y : ndarray, (n,)
        Places in its pixels [px].

    Returns
    -------
    flux, error : ndarray, (n,)
        [ADU of the image]. NaN where half of the PSF's weight or more lies on masked pixels or outside of
        the image. The error is that of the pixels, photons of the source and of those around it included; not
        those of the PSF, of the sky's level and of the other sources' fluxes.

    Notes
    -----
    ``flux = sum(w (pixels - others))``, ``w = P / V / sum(P² / V)``. V is the variance that sky and sources
    have by their models: that of the pixels themselves would weigh down those that noise made bright, and the
    flux would come out too small.
    """
    psf, s = exposure.psf, exposure.sources
    width = psf.fwhm if np.isfinite(psf.fwhm) else fwhm_of(psf)
    reach = star_radii(psf, s.flux, exposure.sigma)
    planes = psf.coefficients / psf.total
    half = psf.size // 2
    flux, error = np.full(x.size, np.nan), np.full(x.size, np.nan)
    for i in range(x.size):
        u, v = float(x[i]), float(y[i])
        column, row = round(u), round(v)
        dx, dy = s.x - u, s.y - v
        shines = np.maximum(np.abs(dx), np.abs(dy)) <= half + reach + 1
        others = np.flatnonzero(shines & (np.hypot(dx, dy) > ITSELF * width) & np.isfinite(s.flux))
        light = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
        terms = np.ascontiguousarray(psf.terms(s.x[others], s.y[others]).T)
        near = s.x[others] - column + half, s.y[others] - row + half
        add_stars(light, *near, s.flux[others], reach[others], terms, planes, psf.sampling)
        stamp = psf.at(u, v, dx=u - column, dy=v - row)
        flux[i], error[i] = _weighed(exposure, (row - half, column - half), stamp, light)
    return flux, error


def _weighed(
    exposure: Exposure, corner: tuple[int, int], psf: Floats, light: FloatImage
) -> tuple[float, float]:
    """Flux of one place and its error; ``corner`` is the PSF's first pixel, ``light`` that of all others."""
    image = exposure.image
    ny, nx = image.shape
    n = psf.shape[0]
    rows, columns = (slice(max(c, 0), max(min(c + n, m), 0)) for c, m in zip(corner, (ny, nx), strict=True))
    within = np.s_[
        rows.start - corner[0] : rows.stop - corner[0], columns.start - corner[1] : columns.stop - corner[1]
    ]
    good = image.good[rows, columns]
    p, others = psf[within], light[within].astype(np.float64)
    if not (p[good] ** 2).sum() >= JUDGED * (psf**2).sum():
        return np.nan, np.nan
    data = exposure.data[rows, columns] - others
    gain = exposure.noise.gain
    sky = exposure.noise.sigma.rows(rows.start, rows.stop)[:, columns].astype(np.float64) ** 2
    variance, flux, weight = sky, 0.0, p
    for _ in range(ROUNDS):
        if gain is not None:
            variance = sky + np.maximum(others + max(flux, 0.0) * p, 0.0) / gain
        weight = np.where(good, p / variance, 0.0)
        weight /= (weight * p).sum()
        flux = float((weight * data).sum())
    if image.variance is not None:  # it was given, sources included
        variance = exposure.variance[rows, columns].astype(np.float64)
    return flux, float(np.sqrt((weight[good] ** 2 * variance[good]).sum()))
