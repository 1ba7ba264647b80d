"""Our own PSF model: pixels on a spline, polynomials over the image, only as detailed as the stars support.

The model is linear in its parameters, so it is fitted as a whole by (preconditioned conjugate gradient)
least squares to the pixels of all stars where they lie, without resampling them. Each parameter has a
normal prior around a Moffat profile; the priors' widths, one for each ring and degree, come
from the stars themselves (evidence maximisation), so that noise is not modelled as structure:
with few faint stars the model stays a smooth profile, with many bright ones it is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter
from scipy.optimize import least_squares

from zogyp.core.psfmodel import PSF, SPLINE, polynomial
from zogyp.core.stamps import stack_draw, stack_transpose
from zogyp.measure.moffat import Moffat, fit_moffat, moffat_from, parameters_of
from zogyp.measure.noise import CHI2_MEDIAN, excess_variance

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
ROUNDS = 3  # of: fit, judge outliers, estimate the priors' widths
OUTLIER = 5.0  # sigma
PROFILE_STARS = 60  # brightest stars that the Moffat profile is fitted to
PROFILE_ERROR = 0.05  # of a profile's pixels, as no star is quite a Moffat
SCATTER_STARS = 64  # brightest stars that tell how far the model is from single stars


@dataclass(frozen=True)
class Grid:
    """Where a PSF lives: ``k`` points of step ``sampling`` px; stars are read out to ``radius`` px."""

    k: int
    sampling: float
    radius: int

    @property
    def rings(self) -> NDArray[np.int64]:
        """Ring number of each grid point; rings widen outwards."""
        return _rings((np.arange(self.k) - self.k // 2) * self.sampling)

    @property
    def stamp_rings(self) -> NDArray[np.int64]:
        """Ring number of each pixel of a star's stamp; the corners count as the outermost ring."""
        return np.minimum(_rings(np.arange(-self.radius, self.radius + 1.0)), int(self.rings.max()))


def _rings(offsets: F8) -> NDArray[np.int64]:
    """Number of the ring that each point of a square lies in; ``offsets`` [px] along each side."""
    r = np.hypot(offsets[:, None], offsets[None, :])
    result: NDArray[np.int64] = np.floor(3 * np.log1p(r / 1.5)).astype(np.int64)
    return result


@dataclass(frozen=True)
class StarStamps:
    """Stars to be stacked: pixels, their weights, positions, fluxes.

    Attributes
    ----------
    data : (n, 2r+1, 2r+1) float32, neighbours and sky taken off [ADU]
    variance : the same shape [ADU²]; infinite where a pixel is not to be used
    x, y, flux : (n,)
    """

    data: F4
    variance: F4
    x: F8
    y: F8
    flux: F8


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
        flux, sky = _flux_and_sky(data, model, weight)
        e: F8 = (data - flux[:, None] * model - sky[:, None]) * np.sqrt(weight)
        return np.clip(e, -20, 20).ravel()

    first = parameters_of(start)
    try:
        fit = least_squares(residual, first, loss="soft_l1", f_scale=3.0, diff_step=1e-3, max_nfev=25)
    except ValueError:
        return start
    found = moffat_from(fit.x)
    return found if 0.4 * start.fwhm < found.fwhm < 2.5 * start.fwhm else start


def _flux_and_sky(data: F8, model: F8, weight: F8) -> tuple[F8, F8]:
    """Weighted linear fit ``data = flux model + sky`` of every star (row)."""
    w, wm = weight.sum(1), (weight * model).sum(1)
    wmm, wd, wmd = (weight * model**2).sum(1), (weight * data).sum(1), (weight * model * data).sum(1)
    det = np.maximum(w * wmm - wm**2, 1e-300)
    return (w * wmd - wm * wd) / det, (wmm * wd - wm * wmd) / det


def fit_psf(stars: StarStamps, grid: Grid, order: int, prior: Moffat, shape: tuple[int, int]) -> PSF:
    """The PSF that fits the stars best.

    Parameters
    ----------
    stars : StarStamps
        With fluxes of the unit-sum PSF.
    grid : Grid
    order : int
        Of the polynomial in x and y.
    prior : Moffat
        What the PSF is where the stars do not tell otherwise.
    shape : (ny, nx)
        Of the image; x and y are scaled to -1…1.

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
    solver = _Solver(stars, grid, np.ascontiguousarray(terms), prior)
    for _ in range(ROUNDS):
        solver.solve()
        solver.judge()
    planes = np.linalg.solve(back, solver.planes.reshape(len(back), -1)).reshape(solver.planes.shape)
    return _as_psf(planes, solver, order, scale)


def _as_psf(planes: F8, solver: _Solver, order: int, scale: tuple[float, float]) -> PSF:
    """Values of the fitted coefficients, unit sum of the constant term, and the variance."""
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
        n_stars=len(solver.stars.x),
        chi2=solver.chi2,
    )


def _values(coefficients: F8) -> F8:
    """B-spline coefficients to values on the same grid, mirrored at the border like the prefilter."""
    w = np.array([1.0, 26.0, 66.0, 26.0, 1.0]) / 120
    c = np.pad(coefficients, 2, mode="reflect")
    rows = sum(w[i] * c[i : i + coefficients.shape[0]] for i in range(5))
    out: F8 = sum(w[i] * rows[:, i : i + coefficients.shape[1]] for i in range(5))  # type: ignore[index]
    return out


def _typical_chi2(square: F4, variance: F4) -> float:
    """Robust reduced chi² of squared deviations; 1 where none can be used."""
    usable = np.isfinite(variance)
    if usable.sum() < 10:
        return 1.0
    return float(np.median(square[usable] / variance[usable])) / CHI2_MEDIAN


class _Solver:
    """State of one PSF fit: deviations of the B-spline coefficients from the prior's."""

    def __init__(self, stars: StarStamps, grid: Grid, terms: F8, prior: Moffat) -> None:
        self.stars, self.grid, self.terms, self.prior = stars, grid, terms, prior
        profile = prior.stamp(grid.k, grid.sampling)
        self.mean = np.zeros((terms.shape[1], grid.k, grid.k))
        self.mean[0] = spline_filter(profile, order=SPLINE, mode="mirror") / terms[0, 0]
        self.deviation = np.zeros_like(self.mean)
        self.good = np.isfinite(stars.variance)
        self.excess = np.zeros(int(grid.rings.max()) + 1)  # relative PSF variance seen among stars, by ring
        degree = np.arange(terms.shape[1])
        floor = 1e-5 * profile.max()
        self.tau2 = np.stack([((0.3 if j == 0 else 0.1) * profile + floor) ** 2 for j in degree])
        self.information = np.zeros_like(self.mean)
        self.chi2 = float("nan")

    @property
    def planes(self) -> F8:
        """Coefficients of the model."""
        return self.mean + self.deviation

    @property
    def variance(self) -> F8:
        """Variance of the model's values (k, k): what the fit leaves open, and the stars' own scatter."""
        fit: F8 = (1 / (self.information[0] + 1 / self.tau2[0])) + 0.5 * sum(
            1 / (self.information[j] + 1 / self.tau2[j]) for j in range(1, len(self.tau2))
        )
        return fit + self.excess[self.grid.rings]

    def _draw(self, planes: F8) -> F4:
        s = self.stars
        return stack_draw(planes, s.x, s.y, self.terms, self.grid.radius, self.grid.sampling)

    def _transpose(self, stamps: F4, terms: F8) -> F8:
        s = self.stars
        return stack_transpose(stamps, s.x, s.y, terms, self.grid.k, self.grid.sampling)

    def _weights(self) -> F4:
        """Inverse variances, with the scatter of the PSF among stars counted as noise; 0 for outliers."""
        f2 = (self.stars.flux**2)[:, None, None].astype(np.float32)
        rings = self.grid.stamp_rings
        v = self.stars.variance + f2 * self.excess[rings].astype(np.float32)
        return np.where(self.good, 1 / v, 0).astype(np.float32)

    def solve(self, steps: int = 15) -> None:
        """Preconditioned conjugate gradients for the deviations."""
        f = self.stars.flux[:, None, None].astype(np.float32)
        w = self._weights()
        fw = f * f * w
        self.information = self._transpose(fw, self.terms**2)
        inverse = 1 / (self.information + 1 / self.tau2)
        data = self.stars.data - self._skies(w)
        rhs = self._transpose(w * f * (data - f * self._draw(self.mean)), self.terms)
        z = self.deviation
        r = rhs - self._transpose(fw * self._draw(z), self.terms) - z / self.tau2
        p = inverse * r
        rho = first = float((r * p).sum())
        start = float((rhs * inverse * rhs).sum())
        for _ in range(steps):
            if rho <= 1e-7 * start or first == 0:
                break
            ap = self._transpose(fw * self._draw(p), self.terms) + p / self.tau2
            a = rho / float((p * ap).sum())
            z = z + a * p
            r = r - a * ap
            y = inverse * r
            new = float((r * y).sum())
            p = y + (new / rho) * p
            rho = new
        self.deviation = z

    def _skies(self, w: F4) -> F4:
        """Level under each star that the sky's map has missed, (n, 1, 1): fitted along with its flux."""
        n = len(self.stars.x)
        model, data = (a.reshape(n, -1).astype(np.float64) for a in (self._draw(self.planes), self.stars.data))
        _, sky = _flux_and_sky(data, model, w.reshape(n, -1).astype(np.float64))
        return sky[:, None, None].astype(np.float32)

    def judge(self) -> None:
        """After a fit: reject outliers, see how stars scatter about it, and set the priors' widths."""
        f = self.stars.flux[:, None, None].astype(np.float32)
        e = self.stars.data - self._skies(self._weights()) - f * self._draw(self.planes)
        usable = np.isfinite(self.stars.variance)
        self.excess = self._scatter(e)
        v = self.stars.variance + f * f * self.excess[self.grid.stamp_rings].astype(np.float32)
        self.good = usable & (e * e < OUTLIER**2 * v)
        chi = (e * e / v)[self.good]
        self.chi2 = float(chi.mean()) if chi.size else float("nan")
        shrink = self.information / (self.information + 1 / self.tau2)  # share that the data decide
        for j in range(len(self.tau2)):
            for ring in range(int(self.grid.rings.max()) + 1):
                here = self.grid.rings == ring
                known = float(shrink[j][here].sum())
                power = float((self.deviation[j][here] ** 2).sum())
                if known > 0:
                    least = (1e-6 * self.mean[0].max()) ** 2
                    self.tau2[j][here] = max(power / known, least)

    def _scatter(self, e: F4) -> F8:
        """Relative variance of the brightest stars about the model beyond their noise, in each ring.

        Neighbours and cosmic rays do not move it; the confusion of stars too faint to be known adds the
        same to bright and faint stars alike, so the fainter half tells it and it is taken off.
        """
        order = np.argsort(-self.stars.flux, kind="stable")
        bright, faint = order[:SCATTER_STARS], order[len(order) // 2 :][:SCATTER_STARS]
        telling = np.median(self.stars.flux[bright]) > 3 * np.median(self.stars.flux[faint])
        f2 = np.broadcast_to((self.stars.flux**2)[:, None, None], e.shape)
        v, e2 = self.stars.variance, e**2
        out = np.zeros_like(self.excess)
        for ring in range(out.size):
            here = self.grid.stamp_rings == ring
            noise, square, scale = v[bright][:, here], e2[bright][:, here], f2[bright][:, here]
            if telling:
                noise = noise * max(1.0, _typical_chi2(e2[faint][:, here], v[faint][:, here]))
            usable = np.isfinite(noise)
            out[ring] = excess_variance(square[usable], noise[usable], scale[usable])
        return out
