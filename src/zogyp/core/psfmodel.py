"""A point spread function that varies over the image as a polynomial: evaluate, do not fit.

The family of PSFEx: ``P(x, y) = sum_j X^a_j Y^b_j basis_j`` with
``X = (x - origin_x) / scale_x`` and all ``a + b <= order``, ordered
1, X, X², ..., Y, XY, ..., Y² (x runs fastest), on a grid whose step is
``sampling`` image pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter

FINE = 7  # points per pixel and axis to measure a width on
SPLINE = 5  # order of the B-spline that carries the basis between its grid points


def n_terms(order: int) -> int:
    """Number of terms of a polynomial in x and y."""
    return (order + 1) * (order + 2) // 2


def terms_within(low: int, high: int) -> NDArray[np.intp]:
    """Where the terms of a polynomial of order ``low`` are among those of order ``high``."""
    degrees = [a + b for b in range(high + 1) for a in range(high + 1 - b)]
    return np.flatnonzero(np.array(degrees) <= low)


def polynomial(x: NDArray[np.float64], y: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Terms 1, x, x², ..., y, xy, ..., of shape (n_terms, ...), in PSFEx's order."""
    terms = [x**a * y**b for b in range(order + 1) for a in range(order + 1 - b)]
    return np.stack([np.asarray(t, dtype=np.float64) for t in terms])


def bspline5(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """The six weights of the quintic B-spline for fractions ``t`` in [0, 1), shape (..., 6).

    Weight i belongs to the grid point ``floor(position) - 2 + i``.
    """
    s = np.stack([np.abs(t + 2 - i) for i in range(6)], axis=-1)
    inner = 66 - 60 * s**2 + 30 * s**4 - 10 * s**5
    middle = 51 + 75 * s - 210 * s**2 + 150 * s**3 - 45 * s**4 + 5 * s**5
    outer = np.maximum(3 - s, 0) ** 5
    result: NDArray[np.float64] = np.where(s < 1, inner, np.where(s < 2, middle, outer)) / 120
    return result


@dataclass(frozen=True)
class PSF:
    """A spatially varying PSF.

    Attributes
    ----------
    basis : ndarray, float32, (n_terms, k, k)
        Planes of the model; the centre is the middle of pixel ``k // 2``.
    order : int
        Order of the polynomial.
    origin, scale : (float, float)
        x and y [px, 0-based] that map to 0 and their unit.
    sampling : float
        Step of the basis' grid in image pixels.
    variance : ndarray, float32, (k, k) or None
        Variance of the model of unit sum, per point of its grid.
    fwhm : float
        Full width at half maximum [px] at the origin.
    n_stars : int
        Number of stars it was made of; 0 when it came from elsewhere.
    chi2 : float
        Reduced chi² of the stars.
    term_covariance : ndarray, float64, (n_terms, n_terms) or None
        Covariance of the planes, summed over image pixels: what the fit leaves open of how the PSF varies.
    """

    basis: NDArray[np.float32]
    order: int = 0
    origin: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    sampling: float = 1.0
    variance: NDArray[np.float32] | None = None
    fwhm: float = float("nan")
    n_stars: int = 0
    chi2: float = float("nan")
    term_covariance: NDArray[np.float64] | None = None

    @property
    def size(self) -> int:
        """Side of the smallest odd stamp of image pixels that holds the model."""
        half = int(np.ceil((self.basis.shape[-1] // 2) * self.sampling))
        return 2 * half + 1

    @cached_property
    def coefficients(self) -> NDArray[np.float64]:
        """B-spline coefficients of the basis, (n_terms, k, k)."""
        return np.stack(
            [spline_filter(np.asarray(b, dtype=np.float64), order=SPLINE, mode="mirror") for b in self.basis]
        )

    @cached_property
    def total(self) -> float:
        """Sum of the basis' constant term over image pixels."""
        w = self.evaluation(self.size, 0.0)
        return float((w @ self.coefficients[0] @ w.T).sum())

    def terms(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """The polynomial's terms at image positions, (n_terms, n)."""
        u = (np.asarray(x, dtype=np.float64) - self.origin[0]) / self.scale[0]
        v = (np.asarray(y, dtype=np.float64) - self.origin[1]) / self.scale[1]
        return polynomial(u, v, self.order)

    def change_noise(self, one: tuple[float, float], other: tuple[float, float]) -> float:
        """Norm of the PSF's difference between two places that the error of the fit alone would make."""
        if self.term_covariance is None:
            return 0.0
        x, y = np.array([one, other]).T
        a, b = self.terms(x, y).T
        return float(np.sqrt(max((a - b) @ self.term_covariance @ (a - b), 0.0)))

    def at(
        self, x: float, y: float, *, dx: float = 0.0, dy: float = 0.0, size: int | None = None
    ) -> NDArray[np.float64]:
        """The PSF at image position (x, y): odd (size, size), unit sum.

        Its centre lies at pixel ``(size // 2 + dx, size // 2 + dy)`` of the stamp;
        the sum is that of the whole undisplaced model, so a smaller ``size`` cuts flux.
        """
        c = np.tensordot(self.terms(np.array([x]), np.array([y]))[:, 0], self.coefficients, axes=1)
        wx = self.evaluation(self.size, dx)
        wy = self.evaluation(self.size, dy)
        w0 = wx if dx == 0 else self.evaluation(self.size, 0.0)
        total = (w0 @ c @ w0.T).sum()
        stamp = wy @ c @ wx.T / total
        return stamp if size is None else _fit_size(stamp, size)

    def evaluation(self, n: int, shift: float) -> NDArray[np.float64]:
        """Matrix (n, k) that evaluates a row of B-spline coefficients at n pixels."""
        k = self.basis.shape[-1]
        position = (np.arange(n) - n // 2 - shift) / self.sampling + k // 2
        first = np.floor(position)
        weight = bspline5(position - first)
        index = first.astype(int)[:, None] - 2 + np.arange(6)[None, :]
        # zero outside of the model; its border mirrors like the prefilter's, which is near zero there
        inside = (position >= -0.5) & (position <= k - 0.5)
        index = np.where(index < 0, -index, index)
        index = np.where(index >= k, 2 * (k - 1) - index, index)
        matrix = np.zeros((n, k))
        np.add.at(matrix, (np.repeat(np.arange(n), 6), index.clip(0, k - 1).ravel()), weight.ravel())
        matrix[~inside] = 0
        return matrix


def fwhm_of(psf: PSF) -> float:
    """Full width at half maximum [px] at the origin, from the area above half of the peak."""
    fine = (np.arange(FINE) - FINE // 2) / FINE
    weights = np.concatenate([psf.evaluation(psf.size, shift) for shift in fine])
    values = weights @ psf.coefficients[0] @ weights.T  # at the origin the constant term is all
    area = float((values > 0.5 * values.max()).sum()) / FINE**2
    return float(2 * np.sqrt(area / np.pi))


def _fit_size(stamp: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Cut or zero-pad an odd stamp to an odd size, keeping the centre."""
    n = stamp.shape[0]
    if size <= n:
        o = (n - size) // 2
        return stamp[o : o + size, o : o + size]
    out = np.zeros((size, size))
    o = (size - n) // 2
    out[o : o + n, o : o + n] = stamp
    return out
