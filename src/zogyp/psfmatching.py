"""In a crowd, match the PSFs of two images to each other by what their difference leaves under all stars.

Where the light of stars runs together no star is alone, so neighbours that nobody can tell apart widen
every PSF by a per cent or more: too much for a difference. Yet all that light tells, far better than
any star, how one PSF differs from the other. If (F_r P_r) N = (1 + K) (F_n P_n) R, a star of flux f leaves
f K in D, convolved with P_D. K is a sum of small kernels, derivatives of Gaussians, each times a
polynomial over the image; their coefficients are those with which the catalogue of the stars, drawn
with each kernel, explains D best. Half of K then belongs to either PSF; all of it to one of them
where the other was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, spline_filter

from zogyp.core.morphology import dilated
from zogyp.core.psfmodel import PSF, SPLINE, polynomial
from zogyp.core.stamps import add_stars
from zogyp.differencing import Planes
from zogyp.fluxscale import Match, Surface
from zogyp.image import FloatImage
from zogyp.measure.exposure import Exposure
from zogyp.measure.robust import robust_sigma
from zogyp.measure.scene import star_radii

F8 = NDArray[np.float64]
WIDTHS = (0.4, 0.8, 1.6, 3.2, 5.0)  # of the kernels, in standard deviations of the seeing
DERIVATIVES = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))  # of each Gaussian along y and x
ORDER = 2  # of the polynomial over the image
ENOUGH = 400_000  # pixels to fit
CLIP = 4.0  # spreads of D beyond which a pixel tells of something else
PSF_ERRORS = (0.1, 0.03, 0.01)  # of a star's light in D that may be left, round by round
RIDGE = 1e-3  # of the mean curvature: what nothing tells of stays as it is
NODES = np.linspace(-0.95, 0.95, 5)  # of the half size of an image, where corrected PSFs are evaluated


@dataclass(frozen=True)
class Kernel:
    """K at any place of an image.

    Attributes
    ----------
    coefficients : (n_kernels, n_terms)
    scales : (n_widths,)
        Standard deviations of the Gaussians [px].
    flux : float
        What is more in one image at all places: K's sum.
    half : (float, float)
        Half size of the image along x and y [px], the unit of the polynomial.
    """

    coefficients: F8
    scales: F8
    flux: float
    half: tuple[float, float]

    def applied(self, plane: F8, u: float, v: float, sampling: float) -> F8:
        """K without its flux, convolved with a plane of a step of ``sampling`` px, at the place (u, v)."""
        terms = polynomial(np.array([u]), np.array([v]), ORDER)[:, 0]
        weights = self.coefficients @ terms
        out = np.zeros_like(plane)
        for weight, template in zip(weights, _templates(plane, self.scales / sampling), strict=True):
            out += weight * template
        return out


def match_psfs(
    new: Exposure, ref: Exposure, matched: Match, planes: Planes
) -> tuple[Exposure, Exposure, Match]:
    """The same with PSFs, and a flux ratio, that leave less of the stars in D.

    Parameters
    ----------
    new, ref : Exposure
        On one grid.
    matched : Match
    planes : Planes
        Their difference by the PSFs as they are.
    """
    free = [not e.psf_given for e in (new, ref)]
    if not any(free):
        return new, ref, matched
    kernel = _kernel(new, ref, planes)
    shares = [f / sum(free) for f in free]
    new = replace(new, psf=_corrected(new.psf, kernel, shares[0]))
    ref = replace(ref, psf=_corrected(ref.psf, kernel, -shares[1]))
    return new, ref, replace(matched, flux_ratio=_scaled(matched.flux_ratio, 1 / (1 + kernel.flux)))


def _templates(plane: F8 | FloatImage, scales: F8) -> Iterator[NDArray[np.floating]]:
    """A plane convolved with each kernel: none has a sum, as the flux ratio is another's matter."""
    for scale, (j, i) in product(scales, DERIVATIVES):
        unit = float(scale) ** (i + j)
        smooth = gaussian_filter(plane, scale, order=(j, i), mode="constant", truncate=4.0) * unit
        yield smooth - plane if i + j == 0 else smooth


def _kernel(new: Exposure, ref: Exposure, planes: Planes) -> Kernel:
    """Fit K to D."""
    stars = _stars(new, planes)
    scales = np.asarray(WIDTHS) * min(new.psf.fwhm, ref.psf.fwhm) / 2.3548
    ny, nx = planes.D.shape
    half = ((nx - 1) / 2, (ny - 1) / 2)
    noise = np.sqrt(planes.V / np.median(planes.V[::5, ::5]))
    odd = ~new.image.good | ~ref.image.good
    odd = dilated(odd, 2 * int(np.ceil(2 * planes.fwhm)) + 1)
    at = np.flatnonzero(~odd)
    at = at[:: max(1, at.size // ENOUGH)]
    y, x = np.unravel_index(at, planes.D.shape)
    terms = polynomial(x / half[0] - 1, y / half[1] - 1, ORDER).astype(np.float32)
    weight = (1 / noise.ravel()[at]).astype(np.float32)
    columns = [t.ravel()[at] * weight * p for t in _templates(stars, scales) for p in terms]
    n_kernels = len(columns) // len(terms)
    columns += [stars.ravel()[at] * weight, *(weight * p for p in terms)]  # flux; the skies' own difference
    design = np.stack(columns)
    solution = _solve(design, planes.D.ravel()[at] * weight, np.abs(stars.ravel()[at]) * weight)
    n = n_kernels * len(terms)
    return Kernel(solution[:n].reshape(n_kernels, -1), scales, float(solution[n]), half)


def _stars(new: Exposure, planes: Planes) -> FloatImage:
    """All stars of the new image as they would stand in D were they new."""
    s = new.sources
    plane = planes.P_D.astype(np.float64)
    shape = PSF(basis=planes.P_D[None], fwhm=planes.fwhm)
    radius = star_radii(shape, planes.F_D * s.flux, 1.0)
    out = np.zeros_like(planes.D)
    coefficients = spline_filter(plane, order=SPLINE, mode="mirror")[None]
    seen = s.flux > 0
    add_stars(
        out,
        s.x[seen],
        s.y[seen],
        planes.F_D * s.flux[seen],
        radius[seen],
        np.ones((int(seen.sum()), 1)),
        coefficients,
        1.0,
    )
    return out


def _solve(design: NDArray[np.float32], values: NDArray[np.float32], light: NDArray[np.float32]) -> F8:
    """Least squares without what stands out, be it of the noise or of what stars of ``light`` may leave."""
    spread = robust_sigma(values)
    solution = np.zeros(len(design))
    rest = values
    for error in PSF_ERRORS:
        use = np.abs(rest) < CLIP * (spread + error * light)
        a, b = design[:, use], values[use]
        square = (a @ a.T).astype(np.float64)
        size = np.sqrt(np.diag(square))
        square /= np.outer(size, size)
        right = (a @ b).astype(np.float64) / size
        solution = np.linalg.solve(square + RIDGE * np.eye(len(square)), right) / size
        rest = values - solution.astype(np.float32) @ design
        spread = robust_sigma(rest)
    return solution


def _corrected(psf: PSF, kernel: Kernel, share: float) -> PSF:
    """A PSF with its share of K."""
    if share == 0:
        return psf
    u, v = (a.ravel() for a in np.meshgrid(NODES, NODES))
    x, y = (u + 1) * kernel.half[0], (v + 1) * kernel.half[1]
    order = max(psf.order, ORDER)
    here = psf.terms(x, y).T
    planes = []
    for terms, ui, vi in zip(here, u, v, strict=True):
        plane = np.tensordot(terms, psf.basis.astype(np.float64), axes=1)
        plane = plane + share * kernel.applied(plane, ui, vi, psf.sampling)
        planes.append(plane / plane.sum())
    scaled = polynomial((x - psf.origin[0]) / psf.scale[0], (y - psf.origin[1]) / psf.scale[1], order).T
    basis, *_ = np.linalg.lstsq(scaled, np.reshape(planes, (len(planes), -1)), rcond=None)
    basis = basis.reshape(-1, *psf.basis.shape[1:])
    basis /= basis[0].sum() * psf.sampling**2
    known = psf.term_covariance if order == psf.order else None  # of other terms nothing is told
    return replace(psf, basis=basis.astype(np.float32), order=order, term_covariance=known)


def _scaled(ratio: Surface, factor: float) -> Surface:
    """A flux ratio times a factor."""
    if not ratio.log:
        return replace(ratio, coefficients=ratio.coefficients * factor)
    coefficients = ratio.coefficients.copy()
    coefficients[0] += np.log(factor)
    return replace(ratio, coefficients=coefficients)
