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
        p = draw(c, x[i] - np.round(x[i]), y[i] - np.round(y[i]), s, r)
        for v in range(2 * r + 1):  # an assignment of the whole takes seconds to compile
            for u in range(2 * r + 1):
                out[i, v, u] = p[v, u]
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


def stack_normal(planes: F4, x: F8, y: F8, terms: F4, weight: F4, s: float) -> F4:
    """`stack_transpose` of ``weight`` times `stack_draw` of the planes, in single precision."""
    n_stars, n, _ = weight.shape
    n_terms, k, _ = planes.shape
    _, lo, hi = limits(n // 2, s, k)
    box = np.s_[:, lo:hi, lo:hi]
    part = np.ascontiguousarray(planes[box]).reshape(n_terms, -1)
    own = (terms @ part).reshape(n_stars, hi - lo, hi - lo)  # each star's PSF
    _there_and_back(own, x, y, weight, (s, k, lo))
    out = np.zeros(planes.shape, np.float32)
    out[box] = (terms.T @ own.reshape(n_stars, -1)).reshape(n_terms, hi - lo, hi - lo)
    return out


@njit(cache=True, nogil=True)
def _there_and_back(own: F4, x: F8, y: F8, weight: F4, grid: tuple[float, int, int]) -> None:
    """Draw each star from its own coefficients, weigh its pixels, and put the transpose in their place.

    ``grid`` = (step [px], points of the whole model along a side, the first of them that ``own`` holds).
    """
    s, k, lo = grid
    n_stars, n, _ = weight.shape
    m = own.shape[1]
    exact, d, first = np.empty((n, 6)), np.empty((n, 6)), np.empty((2, n), np.int64)
    wx, wy = np.empty((n, 6), np.float32), np.empty((n, 6), np.float32)
    t, p = np.zeros((n, m), np.float32), np.zeros((n, n), np.float32)
    for i in range(n_stars):
        weights(n // 2, y[i] - np.round(y[i]), s, k, exact, d, first[1])
        _taken(exact, first[1], lo, wy)
        weights(n // 2, x[i] - np.round(x[i]), s, k, exact, d, first[0])
        _taken(exact, first[0], lo, wx)
        run = even_run(first[0], exact, s, m)
        rows(own[i], wy, first[1], 0, m, t)
        columns(t, wx, first[0], run, p)
        for v in range(n):
            for u in range(n):
                p[v, u] *= weight[i, v, u]
        _spread_columns(p, wx, first[0], run, t)
        _spread_rows(t, wy, first[1], 0, m, own[i])


@njit(cache=True, nogil=True)
def _taken(exact: F8, first: I8, lo: int, w: F4) -> None:
    """Weights in single precision, on a grid that begins at point ``lo``."""
    for i in range(first.size):
        first[i] = max(first[i] - lo, 0) if exact[i, 2] == 0.0 else first[i] - lo
        for a in range(6):
            w[i, a] = exact[i, a]


@njit(cache=True, nogil=True, fastmath=True)
def _spread_columns(stamp: Real, w: Real, first: I8, run: tuple[int, int, int], t: Real) -> None:
    """Transpose of `columns`: ``t[v, first[u] + b] += stamp[v, u] w[u, b]``."""
    k = t.shape[1]
    n = w.shape[0]
    j0, j1, m = run
    length = j1 - j0
    padded = np.zeros(length + 10, t.dtype)
    q = w[j0] if length > 0 else w[0]
    w0, w1, w2, w3, w4, w5 = q[0], q[1], q[2], q[3], q[4], q[5]
    for v in range(n):
        row = t[v]
        for u in range(k):
            row[u] = 0.0
        if length > 0 and m == 1:
            for j in range(length):
                padded[5 + j] = stamp[v, j0 + j]
            part = row[first[j0] : first[j0] + length + 5]
            for u in range(length + 5):
                low = w5 * padded[u] + w4 * padded[u + 1] + w3 * padded[u + 2]
                part[u] = low + w2 * padded[u + 3] + w1 * padded[u + 4] + w0 * padded[u + 5]
        elif length > 0:
            line, part = stamp[v, j0:j1], row[first[j0] :]
            for j in range(length):
                for b in range(6):
                    part[m * j + b] += q[b] * line[j]
        for u in range(n):
            if not j0 <= u < j1:
                for b in range(6):
                    row[mirror(first[u] + b, k)] += stamp[v, u] * w[u, b]


@njit(cache=True, nogil=True, fastmath=True)
def _spread_rows(t: Real, w: Real, first: I8, lo: int, hi: int, g: Real) -> None:
    """Transpose of `rows`: ``g[first[v] + a] += w[v, a] t[v]``."""
    k = t.shape[1]
    for q in range(lo, hi):
        for u in range(lo, hi):
            g[q, u] = 0.0
    for v in range(w.shape[0]):
        line, f = t[v, lo:hi], first[v]
        if f >= 0 and f + 5 < k:
            g0, g1, g2 = g[f, lo:hi], g[f + 1, lo:hi], g[f + 2, lo:hi]
            g3, g4, g5 = g[f + 3, lo:hi], g[f + 4, lo:hi], g[f + 5, lo:hi]
            w0, w1, w2, w3, w4, w5 = w[v, 0], w[v, 1], w[v, 2], w[v, 3], w[v, 4], w[v, 5]
            for u in range(line.size):
                z = line[u]
                g0[u] += w0 * z
                g1[u] += w1 * z
                g2[u] += w2 * z
                g3[u] += w3 * z
                g4[u] += w4 * z
                g5[u] += w5 * z
        else:
            for a in range(6):
                z, part = w[v, a], g[mirror(f + a, k), lo:hi]
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
