"""What matched stars tell of two images: the ratio of their flux scales and where one lies on the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.linalg import norm
from numpy.typing import NDArray

from zogyp.core.filters import gaussian
from zogyp.core.fourier import convolved
from zogyp.core.morphology import dilated
from zogyp.core.pairing import mutual_nearest
from zogyp.core.psfmodel import n_terms, polynomial
from zogyp.errors import StarsError
from zogyp.measure.exposure import Exposure
from zogyp.measure.robust import excess_variance, robust_sigma

F8 = NDArray[np.float64]
CLIP = 4.0  # sigma
MISPLACED = 0.25  # FWHM of scatter between positions in the two images that stars never show
UNSURE = 0.01  # relative error of the stars' flux ratio beyond which all light is asked too
STIFFEST = 4  # order of the polynomial of the shift between the images
FEWEST = 3  # common stars; with fewer, all light that both images show is compared


@dataclass(frozen=True)
class Surface:
    """A polynomial in x and y over an image, with its error.

    Attributes
    ----------
    coefficients : (n_terms,)
    order : int
    scale : (x, y) half size of the image [px]
    error : standard error of the typical value
    scatter : standard deviation of single stars about it, their own noise taken off
    n : number of stars
    log : the polynomial is of the value's natural logarithm; ``error`` and ``scatter`` are relative
    covariance : (n_terms, n_terms) of the coefficients, or None
    """

    coefficients: F8
    order: int
    scale: tuple[float, float]
    error: float = 0.0
    scatter: float = 0.0
    n: int = 0
    log: bool = False
    covariance: F8 | None = None

    def at(self, x: float, y: float) -> float:
        """Value at a position [px]."""
        return float(self.grid(np.array([x]), np.array([y]))[0])

    def grid(self, x: F8, y: F8) -> F8:
        """Values at positions [px]."""
        u, v = x / self.scale[0] - 1, y / self.scale[1] - 1
        value: F8 = np.tensordot(self.coefficients, polynomial(u, v, self.order), axes=1)
        return np.exp(value) if self.log else value

    def error_at(self, x: float, y: float) -> float:
        """Standard error of the value at a position, relative where the polynomial is of the logarithm."""
        if self.covariance is None:
            return self.error
        terms = polynomial(np.array([x / self.scale[0] - 1]), np.array([y / self.scale[1] - 1]), self.order)
        return float(np.sqrt(max(float(terms[:, 0] @ self.covariance @ terms[:, 0]), 0.0)))

    @property
    def typical(self) -> float:
        """Value at the middle of the image."""
        return self.at(*self.scale)

    @property
    def significant(self) -> bool:
        """The typical value differs from zero, or the surface varies."""
        return self.order > 0 or abs(self.typical) > 4 * self.error


@dataclass(frozen=True)
class Match:
    """Two exposures compared by their stars.

    Attributes
    ----------
    flux_ratio : Surface
        F_r / F_n: counts in the reference of a star with one count in the new image.
    dx, dy : Surface
        Where the reference's stars lie, minus where the new one's lie [px].
    new, ref : ndarray of indices
        The matched stars in each exposure's sources.
    """

    flux_ratio: Surface
    dx: Surface
    dy: Surface
    new: NDArray[np.intp]
    ref: NDArray[np.intp]


def match(
    new: Exposure, ref: Exposure, *, flux_ratio: float | None = None, flux_order: int | None = None
) -> Match:
    """Compare two exposures on one grid by the stars they share.

    Parameters
    ----------
    flux_ratio : float or None
        F_r / F_n when it is known.
    flux_order : int or None
        Order of its polynomial; None: as high as the stars demand, up to 2.

    Raises
    ------
    StarsError
        Neither common stars nor other light that both show, and the flux ratio is not given.
    """
    ny, nx = new.image.shape
    scale = (max((nx - 1) / 2, 0.5), max((ny - 1) / 2, 0.5))
    i, j = _pairs(new, ref)
    if i.size < FEWEST:
        if flux_ratio is not None:
            ratio = Surface(np.array([flux_ratio]), 0, scale)
        else:
            ratio = _ratio_of_pixels(new, ref, scale)
        zero = Surface(np.zeros(1), 0, scale)
        return Match(ratio, zero, zero, i, j)
    x, y = new.sources.x[i], new.sources.y[i]
    log = np.log(ref.sources.flux[j] / new.sources.flux[i])
    noise = _relative(new, i) ** 2 + _relative(ref, j) ** 2
    if flux_ratio is None:
        orders = range(3) if flux_order is None else (flux_order,)
        ratio = replace(_fit(x, y, log, noise, scale, orders), log=True)
        if ratio.error > UNSURE:
            other = _ratio_of_pixels(new, ref, scale)
            ratio = other if other.error < ratio.error else ratio
    else:
        ratio = Surface(np.array([flux_ratio]), 0, scale)
    spread = new.position_err[i] ** 2 + ref.position_err[j] ** 2
    dx = _fit(x, y, ref.sources.x[j] - x, spread, scale, range(STIFFEST + 1))
    dy = _fit(x, y, ref.sources.y[j] - y, spread, scale, range(STIFFEST + 1))
    if max(dx.scatter, dy.scatter) > MISPLACED * _finite(new.psf.fwhm):  # whatever they are, not stars
        dx = dy = Surface(np.zeros(1), 0, scale)
        if flux_ratio is None:
            ratio = _ratio_of_pixels(new, ref, scale)
        i, j = i[:0], j[:0]
    return Match(ratio, dx, dy, i, j)


def _ratio_of_pixels(new: Exposure, ref: Exposure, scale: tuple[float, float]) -> Surface:
    """F_r / F_n without stars: each image blurred by the other's PSF shows the same, but for the ratio."""
    y, x = ((n - 1) / 2 for n in new.image.shape)
    kernels = [e.psf.at(x, y, size=min(e.psf.size, 65)).astype(np.float32) for e in (ref, new)]
    width = 2 * max(_finite(new.psf.fwhm), _finite(ref.psf.fwhm))
    blurred = (convolved(e.data, k) for e, k in zip((new, ref), kernels, strict=True))
    n, r = (b - gaussian(b, width, 4.0) for b in blurred)  # errors of the sky are wider than that
    good = ~dilated(~new.image.good | ~ref.image.good, 9)
    bright = good & (n > 10 * new.sigma * norm(kernels[0])) & (r > 10 * ref.sigma * norm(kernels[1]))
    if bright.sum() < 25:
        hint = "Nor do they share other light. Are they on one pixel grid? Else give the flux ratio."
        raise StarsError("flux ratio of the two images (common stars)", 0, FEWEST, hint)
    n, r = n[bright], r[bright]
    log = np.log(r / n)
    centre = float(np.median(log))
    for _ in range(10):
        weight = n / (1 + ((log - centre) / max(robust_sigma(log - centre), 1e-9)) ** 2)
        centre = float((weight * log).sum() / weight.sum())
    beam = new.psf.fwhm**2 + ref.psf.fwhm**2  # pixels within it are not independent
    spread = robust_sigma(log - centre)
    error = spread / np.sqrt(max(bright.sum() / beam, 1.0))
    return Surface(np.array([centre]), 0, scale, error, spread, 0, log=True)


def _relative(exposure: Exposure, index: NDArray[np.intp]) -> F8:
    return exposure.sources.flux_err[index] / exposure.sources.flux[index]


def _pairs(new: Exposure, ref: Exposure) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Stars of both that are each other's nearest, unsaturated and well exposed."""
    reach = max(1.5, 0.5 * min(_finite(new.psf.fwhm), _finite(ref.psf.fwhm)))
    a, b = _usable(new), _usable(ref)
    here, there = (np.column_stack([s.x, s.y])[k] for s, k in ((new.sources, a), (ref.sources, b)))
    i, j = mutual_nearest(here, there, reach)
    i, j = a[i], b[j]
    # stars of both; where they are too few, stars of either: never a choice that favours one image
    star_n, star_r = np.isin(i, new.stars), np.isin(j, ref.stars)
    chosen = star_n & star_r
    if chosen.sum() < 8:
        chosen = star_n | star_r
    i, j = i[chosen], j[chosen]
    snr = 1 / np.hypot(_relative(new, i), _relative(ref, j))
    for least in (50, 30, 15, 8, 0):  # the mean of log flux is biased at low S/N
        best = snr > least
        if best.sum() >= 15:
            break
    return i[best], j[best]


def _usable(exposure: Exposure) -> NDArray[np.intp]:
    s = exposure.sources
    return np.flatnonzero(~s.saturated & (s.flux > 5 * s.flux_err) & np.isfinite(exposure.position_err))


def _finite(fwhm: float) -> float:
    return fwhm if np.isfinite(fwhm) else 3.0


def _fit(x: F8, y: F8, value: F8, noise: F8, scale: tuple[float, float], orders: Iterable[int]) -> Surface:
    """Robust polynomial of the order that the data demand (Bayesian information criterion)."""
    best: Surface | None = None
    least = np.inf
    for o in orders:
        if best is not None and x.size < 6 * n_terms(o):
            break
        surface, merit = _robust(x, y, value, noise, scale, min(o, _highest(x.size)))
        if merit < least - 6:  # six: more than chance gives
            best, least = surface, merit
    assert best is not None
    return best


def _highest(n: int) -> int:
    return int(np.searchsorted([3, 6, 10, 15], n, side="right"))


def _robust(
    x: F8, y: F8, value: F8, noise: F8, scale: tuple[float, float], order: int
) -> tuple[Surface, float]:
    """Clipped weighted least squares with the stars' own scatter counted as noise; and its BIC."""
    design = polynomial(x / scale[0] - 1, y / scale[1] - 1, order).T
    centre = float(np.median(value))
    spread2 = max((1.4826 * float(np.median(np.abs(value - centre)))) ** 2, 1e-12)
    total = noise + spread2
    keep = np.abs(value - centre) <= CLIP * np.sqrt(total)
    coefficients: F8 = np.zeros(design.shape[1])
    residual: F8 = value - centre
    scatter2 = spread2
    for _ in range(6):
        w = np.where(keep, 1 / (noise + scatter2 + 1e-12), 0.0)
        normal = design.T @ (w[:, None] * design)
        coefficients = np.asarray(np.linalg.lstsq(normal, design.T @ (w * value), rcond=None)[0])
        residual = value - design @ coefficients
        scatter2 = excess_variance(residual**2, noise + 1e-14)
        keep = residual**2 <= CLIP**2 * (noise + scatter2 + 1e-12)
    total = noise + scatter2 + 1e-12
    # clipped stars count as if they lay at the limit, so that no order gains by clipping more
    chi2 = float(np.minimum(residual**2 / total, CLIP**2).sum() + np.log(total).sum())
    error = float(1 / np.sqrt((1 / total[keep]).sum())) if keep.any() else float("inf")
    covariance = np.linalg.pinv(design.T @ (np.where(keep, 1 / total, 0.0)[:, None] * design))
    surface = Surface(
        coefficients,
        order,
        scale,
        error,
        float(np.sqrt(scatter2)),
        int(keep.sum()),
        covariance=np.asarray(covariance, dtype=np.float64),
    )
    return surface, chi2 + design.shape[1] * float(np.log(max(x.size, 2)))
