"""The least-squares problem of a PSF: stars, priors, conjugate gradients, and what they leave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter

from zogyp.core.psfmodel import SPLINE
from zogyp.core.stacks import stack_draw, stack_normal, stack_transpose
from zogyp.measure.robust import CHI2_MEDIAN, excess_variance, median

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
OUTLIER = 5.0  # sigma
SCATTER_STARS = 64  # brightest stars that tell how far the model is from single stars


class Profile(Protocol):
    """What a PSF is where its stars do not tell otherwise."""

    @property
    def fwhm(self) -> float:
        """Full width at half maximum [px]."""

    def stamp(self, k: int, sampling: float = 1.0) -> F8:
        """Flux per image pixel at the points of a (k, k) grid of step ``sampling`` px around ``k // 2``."""


@dataclass(frozen=True)
class Grid:
    """Where a PSF lives: ``k`` points of step ``sampling`` px; stars are read out to ``radius`` px."""

    k: int
    sampling: float
    radius: int

    @cached_property
    def rings(self) -> NDArray[np.int64]:
        """Ring number of each grid point; rings widen outwards."""
        offsets: F8 = (np.arange(self.k, dtype=np.float64) - self.k // 2) * self.sampling
        return _rings(offsets)

    @property
    def n_rings(self) -> int:
        """Number of rings."""
        return int(self.rings.max()) + 1

    def stamp_rings(self, radius: int) -> NDArray[np.int64]:
        """Ring number of each pixel of a star's stamp; the corners count as the outermost ring."""
        return np.minimum(_rings(np.arange(-radius, radius + 1.0, dtype=np.float64)), self.n_rings - 1)


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

    def take(self, index: NDArray[np.intp], radius: int) -> StarStamps:
        """The chosen stars, cut to ``radius`` px."""
        o = self.data.shape[-1] // 2 - radius
        box = np.s_[o : self.data.shape[-1] - o, o : self.data.shape[-1] - o]
        data, variance = (np.ascontiguousarray(a[index][:, *box]) for a in (self.data, self.variance))
        return StarStamps(data, variance, self.x[index], self.y[index], self.flux[index])


class Group:
    """Stars on stamps of one size, with their polynomial terms (n, n_terms)."""

    def __init__(self, stars: StarStamps, terms: F8, grid: Grid) -> None:
        self.stars, self.grid = stars, grid
        self.terms = np.ascontiguousarray(terms)
        self.radius = stars.data.shape[-1] // 2
        self.flux = stars.flux[:, None, None].astype(np.float32)
        self.rings = grid.stamp_rings(self.radius)
        self.good = np.isfinite(stars.variance)

    def draw(self, planes: F8) -> F4:
        """Unit-flux stamps of the model ``planes``, of all terms or of the first ones."""
        s = self.stars
        terms = np.ascontiguousarray(self.terms[:, : len(planes)])
        return stack_draw(planes, s.x, s.y, terms, self.radius, self.grid.sampling)

    def transpose(self, stamps: F4, terms: F8) -> F8:
        """The transpose of `draw` with these terms."""
        s = self.stars
        return stack_transpose(stamps, s.x, s.y, terms, self.grid.k, self.grid.sampling)

    def normal(self, planes: F4, weight: F4) -> F4:
        """The transpose of ``weight`` times what the planes draw."""
        s = self.stars
        return stack_normal(planes, s.x, s.y, self.terms.astype(np.float32), weight, self.grid.sampling)

    def variance(self, excess: F8) -> F4:
        """Noise, with the scatter of the PSF among stars."""
        v: F4 = self.stars.variance + self.flux**2 * excess[self.rings].astype(np.float32)
        return v

    def weights(self, excess: F8) -> F4:
        """Inverse variances; 0 for outliers."""
        w: F4 = np.where(self.good, 1 / self.variance(excess), 0).astype(np.float32)
        return w

    def skies(self, drawn: F4, w: F4) -> F4:
        """Level under each star that the sky's map has missed, (n, 1, 1): fitted along with its flux."""
        n = len(self.stars.x)
        data, model, weight = (a.reshape(n, -1).astype(np.float64) for a in (self.stars.data, drawn, w))
        _, sky = flux_and_sky(data, model, weight)
        return sky[:, None, None].astype(np.float32)

    def residual(self, drawn: F4, excess: F8) -> F4:
        """What the model, as drawn, and the sky leave."""
        e: F4 = self.stars.data - self.skies(drawn, self.weights(excess)) - self.flux * drawn
        return e


def flux_and_sky(data: F8, model: F8, weight: F8) -> tuple[F8, F8]:
    """Weighted linear fit ``data = flux model + sky`` of every star (row)."""
    weighted = weight * model
    w, wm, wmm = weight.sum(1), weighted.sum(1), (weight * model**2).sum(1)
    wd, wmd = (weight * data).sum(1), (weighted * data).sum(1)
    det = np.maximum(w * wmm - wm**2, 1e-300)
    return (w * wmd - wm * wd) / det, (wmm * wd - wm * wmd) / det


def _confusion(bright: tuple[F4, F4, F8], faint: tuple[F4, F4, F8]) -> float:
    """Factor on the noise that bright and faint stars share; each is (squared deviations, variances, flux²).

    From two typical chi², of which each is that factor plus flux² / variance times the PSF's scatter.
    """
    s_b, s_f = (_typical(flux2, variance, 0.0) for _, variance, flux2 in (bright, faint))
    if not s_b > 1.5 * s_f:
        return 1.0
    chi_b, chi_f = (
        _typical(square, variance, CHI2_MEDIAN) / CHI2_MEDIAN for square, variance, _ in (bright, faint)
    )
    x = max(0.0, (chi_b - chi_f) / (s_b - s_f))
    return max(1.0, chi_f - s_f * x)


def _typical(values: F4 | F8, variance: F4, otherwise: float) -> float:
    """Median of values over their variances; ``otherwise`` where next to nothing can be used."""
    usable = np.isfinite(variance)
    if usable.sum() < 10:
        return otherwise
    return median(values[usable] / variance[usable])


class Solver:
    """State of one PSF fit: deviations of the B-spline coefficients from the prior's."""

    def __init__(self, groups: list[Group], grid: Grid, prior: Profile, start: F8 | None = None) -> None:
        self.groups, self.grid, self.prior = groups, grid, prior
        terms = groups[0].terms
        profile = prior.stamp(grid.k, grid.sampling)
        self.mean = np.zeros((terms.shape[1], grid.k, grid.k))
        self.mean[0] = spline_filter(profile, order=SPLINE, mode="mirror") / terms[0, 0]
        self.expected = [g.draw(self.mean[:1]) for g in groups]  # the other planes are 0
        self.deviation = np.zeros_like(self.mean)
        self.drawn = self.expected  # stars as the planes have them
        if start is not None:
            self.deviation = start - self.mean
            self.drawn = [g.draw(self.planes) for g in groups]
        self.excess = np.zeros(grid.n_rings)  # relative PSF variance seen among stars, by ring
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
        """Variance of the model's values (k, k) that the fit leaves open."""
        fit: F8 = (1 / (self.information[0] + 1 / self.tau2[0])) + 0.5 * sum(
            1 / (self.information[j] + 1 / self.tau2[j]) for j in range(1, len(self.tau2))
        )
        return fit

    @property
    def term_variance(self) -> F8:
        """Variance that the fit leaves open in each term's plane, summed over its points."""
        summed: F8 = (1 / (self.information + 1 / self.tau2)).sum(axis=(1, 2))
        return summed

    def solve(self, steps: int) -> None:
        """Preconditioned conjugate gradients for the deviations."""
        fws: list[F4] = []
        information, rhs = np.zeros_like(self.mean), np.zeros_like(self.mean)
        for g, drawn, expected in zip(self.groups, self.drawn, self.expected, strict=True):
            w = g.weights(self.excess)
            fw = g.flux**2 * w
            fws.append(fw)
            information += g.transpose(fw, g.terms**2)
            data = g.stars.data - g.skies(drawn, w)
            rhs += g.transpose(w * g.flux * (data - g.flux * expected), g.terms)
        self.information = information

        def normal(z: F8) -> F8:
            out: F8 = z / self.tau2
            light = z.astype(np.float32)
            for g, fw in zip(self.groups, fws, strict=True):
                out += g.normal(light, fw)
            return out

        inverse = 1 / (information + 1 / self.tau2)
        z = self.deviation
        r = rhs - normal(z)
        p = inverse * r
        rho = first = float((r * p).sum())
        start = float((rhs * inverse * rhs).sum())
        for _ in range(steps):
            if rho <= 1e-7 * start or first == 0:
                break
            ap = normal(p)
            a = rho / float((p * ap).sum())
            z = z + a * p
            r = r - a * ap
            y = inverse * r
            new = float((r * y).sum())
            p = y + (new / rho) * p
            rho = new
        self.deviation = z
        self.drawn = [g.draw(self.planes) for g in self.groups]

    def judge(self) -> None:
        """After a fit: reject outliers, see how stars scatter about it, and set the priors' widths."""
        residuals = [g.residual(a, self.excess) for g, a in zip(self.groups, self.drawn, strict=True)]
        self.excess = self._scatter(self.groups[0], residuals[0])
        chi2, n = 0.0, 0
        for g, e in zip(self.groups, residuals, strict=True):
            relative = e * e / g.variance(self.excess)
            g.good = np.isfinite(g.stars.variance) & (relative < OUTLIER**2)
            chi2 += float(relative[g.good].sum(dtype=np.float64))
            n += int(g.good.sum())
        self.chi2 = chi2 / n if n else float("nan")
        self._widths()

    def _widths(self) -> None:
        """Set the priors' widths, ring by ring, to what the fit has found."""
        shrink = self.information / (self.information + 1 / self.tau2)  # share that the data decide
        rings = self.grid.rings.ravel()
        least = (1e-6 * self.mean[0].max()) ** 2
        for j in range(len(self.tau2)):
            known = np.bincount(rings, shrink[j].ravel())
            power = np.bincount(rings, (self.deviation[j] ** 2).ravel())
            told = known > 0
            width = np.maximum(power / np.where(told, known, 1.0), least)
            self.tau2[j] = np.where(told[self.grid.rings], width[self.grid.rings], self.tau2[j])

    def _scatter(self, group: Group, e: F4) -> F8:
        """Relative variance of the brightest stars about the model beyond their noise, in each ring.

        Neighbours and cosmic rays do not move it; the confusion of stars too faint to be known adds the
        same to bright and faint stars alike, so the fainter ones tell it and it is taken off.
        """
        flux = group.stars.flux
        order = np.argsort(-flux, kind="stable")
        bright = order[: max(len(order) // 3, min(len(order), 10))][:SCATTER_STARS]
        faint = order[-len(bright) :]
        pixels = np.argsort(group.rings, axis=None, kind="stable")
        ends = np.cumsum(np.bincount(group.rings.ravel(), minlength=self.excess.size))

        def by_ring(some: NDArray[np.intp]) -> list[tuple[F4, F4, F8]]:
            e2, v = (a[some].reshape(some.size, -1)[:, pixels] for a in (e, group.stars.variance))
            e2 *= e2
            f2 = np.broadcast_to((flux[some] ** 2)[:, None], e2.shape)
            return list(zip(*(np.split(a, ends[:-1], axis=1) for a in (e2, v, f2)), strict=True))

        out = np.zeros_like(self.excess)
        for ring, (one, other) in enumerate(zip(by_ring(bright), by_ring(faint), strict=True)):
            square, noise, scale = one
            noise = noise * _confusion(one, other)
            usable = np.isfinite(noise)
            out[ring] = excess_variance(square[usable], noise[usable], scale[usable])
        return out
