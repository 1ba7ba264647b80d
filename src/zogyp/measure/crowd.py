"""Crowds: fields where the light of stars runs together, so that a threshold does not tell them apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

from zogyp.core.apertures import circles, half_radii
from zogyp.core.filters import gaussian
from zogyp.core.psfmodel import PSF
from zogyp.image import FloatImage
from zogyp.measure.robust import MAD_TO_SIGMA
from zogyp.measure.sources import RADIUS_TO_FWHM, Sources, inside, locus, spread_out

Bool = NDArray[np.bool_]
F8 = NDArray[np.float64]
CROWDED = 5.0  # times the noise within two FWHM that light there scatters: no threshold tells stars apart
STANDS_OUT = 15.0  # times the scatter of the crowd: sources whose size can be believed
FEWEST = 5  # of them, below which the seeing stays what it was
LATTICE = 4096  # places at which the light of a field is sampled
WIDER = 1.6  # of two Gaussians whose difference finds peaks: no level and no slope comes through
PEAK = 5.0  # sigma of a peak in what a model leaves
EXPOSED = 50.0  # S/N of stars that make a PSF in a crowd
NEAR = 2.5  # FWHM within which neighbours ...
NEIGHBOURS = 0.5  # ... hold no more than this of a star's light: they are modelled, but not perfectly
FAR = 6.0  # FWHM within which no saturated star lies ...
OUTSHONE = 5.0  # ... and none that is so many times brighter


def crowd_error(data: FloatImage, bad: Bool, radius: float) -> float:
    """Spread of the light [ADU] within a circle of ``radius`` px put anywhere: noise, and the stars there."""
    ny, nx = data.shape
    if min(ny, nx) <= 2 * radius:
        return 0.0
    step = max(1.0, np.sqrt(ny * nx / LATTICE))
    y, x = (a.ravel() for a in np.mgrid[radius : ny - radius : step, radius : nx - radius : step])
    total = circles(data, bad, x, y, np.full(x.size, radius))
    total = total[np.isfinite(total)]
    return MAD_TO_SIGMA * float(np.median(np.abs(total - np.median(total)))) if total.size else 0.0


def is_crowd(data: FloatImage, bad: Bool, sigma: float, fwhm: float) -> bool:
    """Whether stars make the light scatter far more than the noise ``sigma`` [ADU] of the pixels does."""
    radius = 2 * fwhm
    return crowd_error(data, bad, radius) > CROWDED * sigma * float(np.sqrt(np.pi)) * radius


def sized_in_crowd(data: FloatImage, bad: Bool, sources: Sources, fwhm: float) -> tuple[Sources, float]:
    """Fluxes and half-light radii within one aperture; errors that count the crowd; and the seeing.

    Only sources that stand out of the crowd tell the seeing: the sky beside them is other stars' light,
    which makes faint ones look smaller than they are.

    Returns
    -------
    Sources
        Brightest first.
    float
        FWHM [px].
    """
    for _ in range(3):
        aperture = np.full(len(sources), 2 * fwhm)
        error = crowd_error(data, bad, 2 * fwhm)
        total = circles(data, bad, sources.x, sources.y, aperture)
        radius = half_radii(data, bad, sources.x, sources.y, aperture, total)
        order = np.argsort(-np.nan_to_num(total), kind="stable")
        sources = replace(
            sources,
            flux=np.nan_to_num(total).astype(np.float64),
            flux_err=np.full(len(sources), error),
            radius=np.where(np.isfinite(radius) & (total > 0), radius, 0.0).astype(np.float64),
        ).take(order)
        use = ~sources.saturated & (sources.radius > 0.5) & (sources.flux > STANDS_OUT * error)
        if use.sum() < FEWEST:
            break
        fwhm = RADIUS_TO_FWHM * locus(sources.radius[use])
    return sources, fwhm


def hidden_sources(
    residual: FloatImage, model: FloatImage, variance: FloatImage, good: Bool, psf: PSF, of_model: float
) -> Sources:
    """Peaks in what a model of all known sources leaves, brightest first.

    Parameters
    ----------
    residual, model, variance : ndarray, float32, (ny, nx)
        What is left and what was taken off [ADU], variance of the pixels [ADU²].
    good : ndarray, bool, (ny, nx)
    psf : PSF
    of_model : float
        Share of the modelled light that a peak has at least: a smaller one may be the model's error.
    """
    scale = psf.fwhm / 2.3548
    usable = np.where(good, residual, np.float32(0))
    narrow = gaussian(usable, scale, 3.0)
    found = narrow - gaussian(usable, WIDER * scale, 3.0)
    a, b = 2 * scale**2, 2 * (WIDER * scale) ** 2
    power = np.float32((1 / a + 1 / b - 4 / (a + b)) / (2 * np.pi))  # of white noise in the difference
    error = np.sqrt(power * gaussian(np.where(good, variance, np.float32(0)), scale, 2.0))
    side = 2 * int(np.rint(0.5 * psf.fwhm)) + 1
    peak = (found == maximum_filter(found, side)) & (found > PEAK * error) & good
    peak &= narrow > of_model * gaussian(model, scale, 3.0)
    stamp = psf.at(*psf.origin)
    unit = gaussian_filter(stamp, scale, truncate=3.0) - gaussian_filter(stamp, WIDER * scale, truncate=3.0)
    y, x = np.nonzero(peak)
    order = np.argsort(-found[y, x], kind="stable")
    y, x = y[order], x[order]
    flux, flux_err, height = (p[y, x].astype(np.float64) for p in (found, error, residual))
    gain = float(unit.max())
    return Sources(
        x=x.astype(np.float64),
        y=y.astype(np.float64),
        flux=flux / gain,
        flux_err=flux_err / gain,
        peak=height,
        radius=np.zeros(x.size),
        saturated=np.zeros(x.size, dtype=bool),
    )


def stars_of_the_crowd(
    sources: Sources, shape: tuple[int, int], *, fwhm: float, reach: float, most: int
) -> NDArray[np.intp]:
    """Indices of sources to make a PSF of, where fluxes and neighbours are those of a model of all.

    Parameters
    ----------
    sources : Sources
        With fluxes and errors of the PSF's fit.
    shape, fwhm, reach, most
        As for `choose_stars`.
    """
    use = ~sources.saturated & (sources.flux > EXPOSED * sources.flux_err) & inside(sources, shape, reach)
    places = np.column_stack([sources.x, sources.y])
    tree = cKDTree(places)
    chosen = np.flatnonzero(use)
    alone = np.ones(chosen.size, dtype=bool)
    for n, i in enumerate(chosen):
        others = np.array([j for j in tree.query_ball_point(places[i], FAR * fwhm) if j != i], dtype=np.intp)
        light = np.maximum(sources.flux[others], 0)
        near = np.hypot(*(places[others] - places[i]).T) < NEAR * fwhm
        crowded = light[near].sum() > NEIGHBOURS * sources.flux[i]
        outshone = (light > OUTSHONE * sources.flux[i]).any() or sources.saturated[others].any()
        alone[n] = not (crowded or outshone)
    return spread_out(sources, chosen[alone], shape, most)
