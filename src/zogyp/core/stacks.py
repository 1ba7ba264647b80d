"""Many stars at once: drawn from one PSF model, and laid back onto it. The loops of a PSF's fit.

Drawing is linear in the model's B-spline coefficients, so its transpose is exact and the PSF that fits
many stars best is a linear least-squares problem.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from zogyp.core.stamps import columns, combine, draw, even_run, limits, mirror, rows, weights

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
I8 = NDArray[np.int64]
Real = NDArray[np.floating]  # in either precision


@njit(cache=True, nogil=True)
def stack_draw(planes: F8, x: F8, y: F8, terms: F8, r: int, s: float) -> F4:
    """Stamps (n, 2r+1, 2r+1) that the planes draw at the stars' fractions of a pixel."""
    k = planes.shape[1]
    c = np.zeros((k, k))
    out = np.empty((x.size, 2 * r + 1, 2 * r + 1), np.float32)
    reach, _, _ = limits(r, s, k)
    for i in range(x.size):
        combine(terms[i], planes, c, reach)
        out[i] = draw(c, x[i] - np.round(x[i]), y[i] - np.round(y[i]), s, r)
    return out


@njit(cache=True, nogil=True)
def stack_transpose(stamps: F4, x: F8, y: F8, terms: F8, k: int, s: float) -> F8:
    """Transpose of drawing: sum over stars of ``terms_j W_y' stamp W_x``, (n_terms, k, k)."""
    n_stars, n, _ = stamps.shape
    w, d = np.empty((n, 6)), np.empty((n, 6))
    first = np.empty(n, np.int64)
    t, g = np.zeros((n, k)), np.zeros((k, k))
    out = np.zeros((terms.shape[1], k, k))
    _, lo, hi = limits(n // 2, s, k)
    for i in range(n_stars):
        weights(n // 2, x[i] - np.round(x[i]), s, k, w, d, first)
        _spread_columns(stamps[i], w, first, even_run(first, w, s, k), t)
        weights(n // 2, y[i] - np.round(y[i]), s, k, w, d, first)
        _spread_rows(t, w, first, lo, hi, g)
        _share_out(g, terms[i], lo, hi, out)
    return out


@njit(cache=True, nogil=True)
def stack_normal(planes: F4, x: F8, y: F8, terms: F8, weight: F4, s: float) -> F4:
    """`stack_transpose` of ``weight`` times `stack_draw` of the planes, star by star, in single precision."""
    n_stars, n, _ = weight.shape
    k = planes.shape[1]
    exact, d, first = np.empty((n, 6)), np.empty((n, 6)), np.empty((2, n), np.int64)
    wx, wy = np.empty((n, 6), np.float32), np.empty((n, 6), np.float32)
    c, t = np.zeros((k, k), np.float32), np.zeros((n, k), np.float32)
    p, g = np.zeros((n, n), np.float32), np.zeros((k, k), np.float32)
    out = np.zeros(planes.shape, np.float32)
    share = terms.astype(np.float32)
    reach, lo, hi = limits(n // 2, s, k)
    for i in range(n_stars):
        combine(share[i], planes, c, reach)
        weights(n // 2, y[i] - np.round(y[i]), s, k, exact, d, first[1])
        wy[:] = exact
        weights(n // 2, x[i] - np.round(x[i]), s, k, exact, d, first[0])
        wx[:] = exact
        run = even_run(first[0], exact, s, k)
        rows(c, wy, first[1], lo, hi, t)
        columns(t, wx, first[0], run, p)
        for v in range(n):
            for u in range(n):
                p[v, u] *= weight[i, v, u]
        _spread_columns(p, wx, first[0], run, t)
        _spread_rows(t, wy, first[1], lo, hi, g)
        _share_out(g, share[i], lo, hi, out)
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _spread_columns(stamp: Real, w: Real, first: I8, run: tuple[int, int, int], t: Real) -> None:
    """Transpose of `columns`: ``t[v, first[u] + b] += stamp[v, u] w[u, b]``."""
    k = t.shape[1]
    n = w.shape[0]
    j0, j1, m = run
    for v in range(n):
        row = t[v]
        row[:] = 0.0
        line = stamp[v, j0:j1]
        for b in range(6):
            if j1 > j0:
                z, part = w[j0, b], row[first[j0] + b :]
                if m == 1:
                    for j in range(line.size):
                        part[j] += z * line[j]
                else:
                    for j in range(line.size):
                        part[m * j] += z * line[j]
        for u in range(n):
            if not j0 <= u < j1:
                for b in range(6):
                    row[mirror(first[u] + b, k)] += stamp[v, u] * w[u, b]


@njit(cache=True, nogil=True, fastmath=True)
def _spread_rows(t: Real, w: Real, first: I8, lo: int, hi: int, g: Real) -> None:
    """Transpose of `rows`: ``g[first[v] + a] += w[v, a] t[v]``."""
    k = t.shape[1]
    g[lo:hi, lo:hi] = 0.0
    for v in range(w.shape[0]):
        for a in range(6):
            z = w[v, a]
            if z != 0.0:
                part, line = g[mirror(first[v] + a, k), lo:hi], t[v, lo:hi]
                for u in range(part.size):
                    part[u] += z * line[u]


@njit(cache=True, nogil=True, fastmath=True)
def _share_out(g: Real, terms: Real, lo: int, hi: int, out: Real) -> None:
    """Add ``g`` times each term to that term's plane, within lo..hi."""
    for j in range(terms.size):
        q = terms[j]
        for v in range(lo, hi):
            part, line = out[j, v, lo:hi], g[v, lo:hi]
            for u in range(part.size):
                part[u] += q * line[u]
