"""Our own PSF model: pixels on a spline, polynomials over the image, only as detailed as the stars support.

The model is linear in its parameters, so it is fitted as a whole by (preconditioned conjugate gradient)
least squares to the pixels of all stars where they lie, without resampling them. Each parameter has a
normal prior around a Moffat profile; the priors' widths, one for each ring and degree, come
from the stars themselves (evidence maximisation), so that noise is not modelled as structure:
with few faint stars the model stays a smooth profile, with many bright ones it is free.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter
from scipy.optimize import least_squares

from zogyp.core.psfmodel import PSF, SPLINE, polynomial, terms_within
from zogyp.core.stacks import stack_draw
from zogyp.measure.moffat import Moffat, fit_moffat, moffat_from, parameters_of
from zogyp.measure.psf_solver import Grid, Group, Profile, Solver, StarStamps, flux_and_sky

F8 = NDArray[np.float64]
ROUNDS = 3  # of: fit, judge outliers, estimate the priors' widths
STEPS = 15  # of conjugate gradients in each round
WHOLE_STARS = 128  # brightest stars that are fitted to the edge of their stamps
USUAL_WINGS = 0.6  # ln(beta - 1.2) of seeing-limited stars
WINGS_SPREAD = 0.25
PROFILE_STARS = 60  # brightest stars that the Moffat profile is fitted to
PROFILE_ERROR = 0.05  # of a profile's pixels, as no star is quite a Moffat


def grid_for(fwhm: float, size: int | None, sampling: float | None) -> Grid:
    """Grid for a seeing: fine where undersampled, wide enough for the wings of bright stars."""
    step = sampling if sampling is not None else (1.0 if fwhm >= 2.6 else 0.5)
    radius = (size - 1) // 2 if size is not None else int(np.clip(np.ceil(7 * fwhm), 20, 45))
    return Grid(k=2 * int(np.ceil(radius / step)) + 1, sampling=step, radius=radius)


def order_for(n_stars: int, order: int | None) -> int:
    """Order of the polynomial that a number of stars can carry."""
    if order is not None:
        return order
    return int(np.searchsorted([12, 40, 200], n_stars, side="right"))


def moffat_psf(profile: Moffat, grid: Grid) -> PSF:
    """A constant PSF from a profile."""
    plane = profile.stamp(grid.k, grid.sampling)
    return PSF(basis=plane[None].astype(np.float32), sampling=grid.sampling, fwhm=profile.fwhm)


def fit_profile(stars: StarStamps, grid: Grid, start: Moffat) -> Moffat:
    """The Moffat profile that fits the pixels of the brightest stars best, each with its own flux and sky.

    Within four FWHM; falls back to ``start`` where the fit does not converge to something sensible.
    """
    best = np.argsort(-stars.flux, kind="stable")[:PROFILE_STARS]
    r = grid.radius
    reach = np.arange(-r, r + 1)
    near = np.hypot(reach[:, None], reach[None, :]) < 4 * start.fwhm
    data = stars.data[best][:, near].astype(np.float64)
    x, y, ones = stars.x[best], stars.y[best], np.ones((best.size, 1))
    spread = (PROFILE_ERROR * stars.flux[best])[:, None] * start.stamp(2 * r + 1)[near][None]
    weight = 1 / (stars.variance[best][:, near].astype(np.float64) + spread**2)

    def residual(p: F8) -> F8:
        profile = moffat_from(p)
        plane = spline_filter(profile.stamp(grid.k, grid.sampling), order=SPLINE, mode="mirror")[None]
        model = stack_draw(plane, x, y, ones, r, grid.sampling)[:, near].astype(np.float64)
        flux, sky = flux_and_sky(data, model, weight)
        e: F8 = (data - flux[:, None] * model - sky[:, None]) * np.sqrt(weight)
        # turbulence makes wings of beta 2.5 to 4.5: a few faint stars should not say otherwise
        return np.append(np.clip(e, -20, 20).ravel(), (p[1] - USUAL_WINGS) / WINGS_SPREAD)

    first = parameters_of(start)
    try:
        fit = least_squares(residual, first, loss="soft_l1", f_scale=3.0, diff_step=1e-3, max_nfev=25)
    except ValueError:
        return start
    found = moffat_from(fit.x)
    return found if 0.4 * start.fwhm < found.fwhm < 2.5 * start.fwhm else start


def fit_psf(
    stars: StarStamps,
    grid: Grid,
    order: int,
    prior: Profile,
    shape: tuple[int, int],
    start: PSF | None = None,
    steps: int = STEPS,
) -> PSF:
    """The PSF that fits the stars best.

    Parameters
    ----------
    stars : StarStamps
        With fluxes of the unit-sum PSF.
    grid : Grid
    order : int
        Of the polynomial in x and y.
    prior : Moffat or Bent
        What the PSF is where the stars do not tell otherwise.
    shape : (ny, nx)
        Of the image; x and y are scaled to -1…1.
    start : PSF or None
        An earlier fit of the same grid to begin from.
    steps : int
        Of conjugate gradients; fewer than `STEPS` for a PSF that is not the last.

    Returns
    -------
    PSF
        With variance (fit and scatter among stars) and reduced chi².
    """
    scale = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    monomials = polynomial((stars.x - scale[0]) / scale[0], (stars.y - scale[1]) / scale[1], order).T
    q, r = np.linalg.qr(monomials)
    norm = np.sqrt(len(stars.x)) * np.sign(np.diag(r))
    terms, back = q * norm, r / norm[:, None]  # unit rms; monomials = terms @ back
    first: F8 | None = None
    if start is not None and start.order <= order and start.sampling == grid.sampling:
        earlier = np.zeros((len(back), grid.k, grid.k))
        earlier[terms_within(start.order, order)] = start.coefficients
        first = np.tensordot(back, earlier, axes=1)
    solver = Solver(_groups(stars, np.ascontiguousarray(terms), grid, prior.fwhm), grid, prior, first)
    for _ in range(ROUNDS):
        solver.solve(steps)
        solver.judge()
    planes = np.linalg.solve(back, solver.planes.reshape(len(back), -1)).reshape(solver.planes.shape)
    return _as_psf(planes, solver, order, scale, np.linalg.inv(back))


def _groups(stars: StarStamps, terms: F8, grid: Grid, fwhm: float) -> list[Group]:
    """The brightest stars, who tell of the wings, with their whole stamps; of the others the cores."""
    order = np.argsort(-stars.flux, kind="stable")
    bright, others = order[:WHOLE_STARS], order[WHOLE_STARS:]
    groups = [Group(stars.take(bright, grid.radius), terms[bright], grid)]
    if others.size:
        radius = min(grid.radius, int(np.ceil(3 * fwhm)))
        groups.append(Group(stars.take(others, radius), terms[others], grid))
    return groups


def _as_psf(planes: F8, solver: Solver, order: int, scale: tuple[float, float], back: F8) -> PSF:
    """Values of the fitted coefficients, unit sum of the constant term, and their variance.

    The solver's terms are the monomials times ``back``.
    """
    grid = solver.grid
    centre = stack_draw(planes[:1], np.zeros(1), np.zeros(1), np.ones((1, 1)), grid.radius, grid.sampling)
    total = float(centre.sum())
    values = np.stack([_values(p) for p in planes]) / total
    fwhm = fit_moffat(values[0], grid.sampling, solver.prior.fwhm).fwhm
    return PSF(
        basis=values.astype(np.float32),
        order=order,
        origin=scale,
        scale=scale,
        sampling=grid.sampling,
        variance=(solver.variance / total**2).astype(np.float32),
        fwhm=fwhm,
        n_stars=sum(len(g.stars.x) for g in solver.groups),
        chi2=solver.chi2,
        term_covariance=(back * solver.term_variance) @ back.T * (grid.sampling / total) ** 2,
    )


def _values(coefficients: F8) -> F8:
    """B-spline coefficients to values on the same grid, mirrored at the border like the prefilter."""
    w = np.array([1.0, 26.0, 66.0, 26.0, 1.0]) / 120
    c = np.pad(coefficients, 2, mode="reflect")
    rows = sum(w[i] * c[i : i + coefficients.shape[0]] for i in range(5))
    out: F8 = sum(w[i] * rows[:, i : i + coefficients.shape[1]] for i in range(5))
    return out
