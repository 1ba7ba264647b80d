"""Many stars at once: drawn from one PSF model, and laid back onto it. The loops of a PSF's fit.

Drawing is linear in the model's B-spline coefficients, so its transpose is exact and the PSF that fits
many stars best is a linear least-squares problem.

Where the grid's step divides a pixel (an even grid), all pixels of a star share one set of six weights along
each axis. Drawing and its transpose are then nothing but sums of six shifted copies of one long line, which
holds row after row with room for the shifts between them: loops over thousands of points, which vectorise.
On any other grid each pixel has weights of its own, and they are put into matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled, inner, loose
from zogyp.core.stamps import limits, weights

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
Real = NDArray[np.floating]  # in either precision
Either = TypeVar("Either", F4, F8)
# step [px], points of the model along a side, number of the first one taken, points taken with their margins
Grid = tuple[float, int, int, int]
# points taken at which weights begin in x and in y, the stamp's rows, the length of a row, points per pixel
Layout = tuple[int, int, int, int, int]
# pixels j0 <= j < j1 that lie on the model, and the point taken at which the first one's weights begin
Run = tuple[int, int, int]

BEFORE, AFTER = 2, 3  # points by which weights reach out of the model, which goes on there as its mirror
AT_ONCE = 64  # stars, so that their coefficients stay in the cache


def stack_draw(planes: F8, x: F8, y: F8, terms: F8, r: int, s: float) -> F4:
    """Stamps (n, 2r+1, 2r+1) that the planes draw at the stars' fractions of a pixel.

    Parameters
    ----------
    planes : ndarray, (n_terms, k, k)
        B-spline coefficients on a grid of step ``s`` px.
    x, y : ndarray, (n,)
        Positions [px].
    terms : ndarray, (n, n_terms)
        How much of each plane each star has.
    r : int
        Radius of the stamps.
    s : float
    """
    grid = _grid(r, s, planes.shape[1])
    part = _padded(planes, grid)
    out = np.zeros((x.size, 2 * r + 1, 2 * r + 1), np.float32)
    for some in _parts(x.size):
        own = terms[some] @ part  # each star's PSF
        if _even(s):
            _draw_even(own, x[some], y[some], grid, out[some])
        else:
            across, along = _matrices(x[some], y[some], r, grid)
            out[some] = along @ own.reshape(-1, grid[3], grid[3]) @ across.transpose(0, 2, 1)
    return out


def stack_transpose(stamps: F4, x: F8, y: F8, terms: F8, k: int, s: float) -> F8:
    """Transpose of drawing: sum over stars of ``terms_j W_y' stamp W_x``, (n_terms, k, k).

    Parameters
    ----------
    stamps : ndarray, (n, 2r+1, 2r+1)
    x, y, terms, s
        As for `stack_draw`.
    k : int
        Points of the model along a side.
    """
    grid = _grid(stamps.shape[1] // 2, s, k)
    summed = np.zeros((terms.shape[1], grid[3] ** 2))
    for some in _parts(x.size):
        own = np.empty((x[some].size, summed.shape[1]))
        if _even(s):
            _lay_even(stamps[some], x[some], y[some], grid, own)
        else:
            across, along = _matrices(x[some], y[some], stamps.shape[1] // 2, grid)
            own[:] = (along.transpose(0, 2, 1) @ stamps[some] @ across).reshape(own.shape)
        summed += terms[some].T @ own
    return _folded(summed, grid)


def stack_normal(planes: F4, x: F8, y: F8, terms: F4, weight: F4, s: float) -> F4:
    """`stack_transpose` of ``weight`` times `stack_draw` of the planes, in single precision."""
    grid = _grid(weight.shape[1] // 2, s, planes.shape[1])
    part = _padded(planes, grid)
    summed = np.zeros_like(part)
    for some in _parts(x.size):
        own = terms[some] @ part
        if _even(s):
            _there_and_back(own, x[some], y[some], weight[some], grid)
        else:
            matrices = _matrices(x[some], y[some], weight.shape[1] // 2, grid)
            across, along = (a.astype(np.float32) for a in matrices)
            light = weight[some] * (along @ own.reshape(-1, grid[3], grid[3]) @ across.transpose(0, 2, 1))
            own = (along.transpose(0, 2, 1) @ light @ across).reshape(own.shape)
        summed += terms[some].T @ own
    return _folded(summed, grid)


def _parts(n: int) -> Iterator[slice]:
    """Slices of the stars that are worked on together."""
    return (slice(i, i + AT_ONCE) for i in range(0, n, AT_ONCE))


def _even(s: float) -> bool:
    """Whether a grid's step divides a pixel."""
    return abs(round(1.0 / s) * s - 1.0) < 1e-12


def _grid(r: int, s: float, k: int) -> Grid:
    """The part of a model of ``k`` points a side that stamps see."""
    _, lo, hi = limits(r, s, k)
    return s, k, lo, hi - lo + BEFORE + AFTER


def _padded(planes: Either, grid: Grid) -> Either:
    """The planes' part that stamps see, mirrored at its border, each as one line: (n_terms, points²)."""
    _, _, lo, points = grid
    m = points - BEFORE - AFTER
    out = np.empty((len(planes), points, points), planes.dtype)
    out[:, BEFORE : BEFORE + m, BEFORE : BEFORE + m] = planes[:, lo : lo + m, lo : lo + m]
    for to, like in _margins(m):
        out[:, to, BEFORE : BEFORE + m] = out[:, like, BEFORE : BEFORE + m]
    for to, like in _margins(m):
        out[:, :, to] = out[:, :, like]
    return out.reshape(len(planes), -1)


def _folded(lines: Either, grid: Grid) -> Either:
    """The transpose of `_padded`: what lies in the margins is added to the points that they mirror."""
    _, k, lo, points = grid
    m = points - BEFORE - AFTER
    a = lines.reshape(-1, points, points)
    for to, like in reversed(_margins(m)):
        a[:, :, like] += a[:, :, to]
    for to, like in reversed(_margins(m)):
        a[:, like, BEFORE : BEFORE + m] += a[:, to, BEFORE : BEFORE + m]
    out = np.zeros((len(a), k, k), lines.dtype)
    out[:, lo : lo + m, lo : lo + m] = a[:, BEFORE : BEFORE + m, BEFORE : BEFORE + m]
    return out


def _margins(m: int) -> list[tuple[int, int]]:
    """Numbers of each row of the margins and of the one that it mirrors, for a model of ``m`` rows."""
    last = BEFORE + m - 1
    below = [(BEFORE - i, BEFORE + i) for i in range(1, BEFORE + 1)]
    return below + [(last + i, last - i) for i in range(1, AFTER + 1)]


def _matrices(x: F8, y: F8, r: int, grid: Grid) -> tuple[F8, F8]:
    """Weights of every pixel along either axis, (stars, pixels, points), on an uneven grid."""
    both = np.zeros((2, x.size, 2 * r + 1, grid[3]))
    _fill(x, grid, both[0])
    _fill(y, grid, both[1])
    return both[0], both[1]


@compiled
def _fill(at: F8, grid: Grid, out: F8) -> None:
    """Put the weights of each pixel where they begin."""
    s, k, lo, _ = grid
    n = out.shape[1]
    w, d, first = np.empty((n, 6)), np.empty((n, 6)), np.empty(n, np.int64)
    for i in range(at.size):
        weights(n // 2, at[i] - np.round(at[i]), s, k, w, d, first)
        for u in range(n):
            if w[u, 2] != 0.0:  # it is 0 beyond the model only
                for a in range(6):
                    out[i, u, first[u] - lo + BEFORE + a] = w[u, a]


@compiled
def _draw_even(own: F8, x: F8, y: F8, grid: Grid, out: F4) -> None:
    """Draw each star from its own coefficients."""
    n = out.shape[1]
    length, m = grid[3], int(np.round(1.0 / grid[0]))
    w, t = np.empty((4, 6), own.dtype), np.zeros((2, (n + 2) * length), own.dtype)
    for i in range(x.size):
        across, along = _run(x[i], n, grid, w[0], w[1]), _run(y[i], n, grid, w[2], w[3])
        _there(own[i], w, (across[2], along[2], along[1] - along[0], length, m), t)
        for v in range(along[1] - along[0]):
            row, made = t[1, v * length :], out[i, along[0] + v, across[0] : across[1]]
            for u in range(made.size):
                made[u] = row[m * u]


@compiled
def _lay_even(stamps: F4, x: F8, y: F8, grid: Grid, own: F8) -> None:
    """Put the transpose of each stamp into the star's own coefficients."""
    n = stamps.shape[1]
    length, m = grid[3], int(np.round(1.0 / grid[0]))
    w = np.empty((4, 6), own.dtype)
    q, z = np.zeros((n + 2) * length, own.dtype), np.zeros((m * n + 12) * length, own.dtype)
    for i in range(x.size):
        across, along = _run(x[i], n, grid, w[0], w[1]), _run(y[i], n, grid, w[2], w[3])
        for v in range(along[1] - along[0]):
            row, line = q[v * length + 5 : (v + 1) * length], stamps[i, along[0] + v, across[0] : across[1]]
            for u in range(line.size):
                row[m * u] = line[u]
            row[m * line.size :] = 0
        _back(q, w, (across[2], along[2], along[1] - along[0], length, m), z, own[i])


@compiled
def _there_and_back(own: F4, x: F8, y: F8, weight: F4, grid: Grid) -> None:
    """Draw each star from its own coefficients, weigh its pixels, and put the transpose in their place."""
    n = weight.shape[1]
    length, m = grid[3], int(np.round(1.0 / grid[0]))
    w, t = np.empty((4, 6), own.dtype), np.zeros((2, (n + 2) * length), own.dtype)
    q, z = np.zeros((n + 2) * length, own.dtype), np.zeros((m * n + 12) * length, own.dtype)
    for i in range(x.size):
        across, along = _run(x[i], n, grid, w[0], w[1]), _run(y[i], n, grid, w[2], w[3])
        _there(own[i], w, (across[2], along[2], along[1] - along[0], length, m), t)
        for v in range(along[1] - along[0]):
            row, line = q[v * length + 5 : (v + 1) * length], weight[i, along[0] + v, across[0] : across[1]]
            light = t[1, v * length : (v + 1) * length]
            if m == 1:  # told apart, it vectorises
                for u in range(line.size):
                    row[u] = light[u] * line[u]
            else:
                for u in range(line.size):
                    row[m * u] = light[m * u] * line[u]
            row[m * line.size :] = 0
        _back(q, w, (across[2], along[2], along[1] - along[0], length, m), z, own[i])


@inner
def _run(at: float, n: int, grid: Grid, w: Real, turned: Real) -> Run:
    """Six weights along one axis, in order and turned round, and the pixels on the model that share them."""
    s, k, lo, _ = grid
    m = int(np.round(1.0 / s))
    exact, d, first = np.empty((1, 6)), np.empty((1, 6)), np.empty(1, np.int64)
    weights(0, at - np.round(at), s, k, exact, d, first)
    for a in range(6):
        w[a] = turned[5 - a] = exact[0, a]
    p = first[0] + 2  # the grid's point below the middle pixel; other pixels are steps of m from it
    top = k - 1 if exact[0, 5] == 0.0 else k - 2  # the sixth weight is 0 on a point of the grid only
    j0 = max(0, n // 2 - p // m)
    j1 = min(n, n // 2 + (top - p) // m + 1)
    return j0, j1, p + m * (j0 - n // 2) - 2 + BEFORE - lo


@loose
def _six(line: Real, w: Real, step: int, out: Real) -> None:
    """Sum of six copies of a line, each a step on: ``out[i] = sum_a w[a] line[i + a step]``."""
    n = out.size
    w0, w1, w2, w3, w4, w5 = w[0], w[1], w[2], w[3], w[4], w[5]
    a, b, c = line[:n], line[step : step + n], line[2 * step : 2 * step + n]
    d, e, f = line[3 * step : 3 * step + n], line[4 * step : 4 * step + n], line[5 * step : 5 * step + n]
    for i in range(n):
        low = w0 * a[i] + w1 * b[i] + w2 * c[i]
        out[i] = low + w3 * d[i] + w4 * e[i] + w5 * f[i]


@inner
def _there(c: Real, w: Real, layout: Layout, t: Real) -> None:
    """Draw a star: its pixel (v, u) stands at ``t[1, v length + m u]``, both counted from its run's first."""
    begin_x, begin_y, rows, length, m = layout
    calls, size = (1, rows * length) if m == 1 else (rows, length)
    for j in range(calls):
        _six(c[(begin_y + m * j) * length :], w[2], length, t[0, j * length : j * length + size])
    _six(t[0, begin_x:], w[0], min(length, 1), t[1, : rows * length])  # a plain 1 is a type of its own


@inner
def _back(q: Real, w: Real, layout: Layout, z: Real, g: Real) -> None:
    """Transpose of `_there`: pixel (v, u) stands at ``q[v length + 5 + m u]``, and 0 everywhere else.

    Five zeros ahead of the pixels, and five behind them, are what makes the sums of six a transpose.
    """
    begin_x, begin_y, rows, length, m = layout
    calls, size = (1, rows * length) if m == 1 else (rows, length)
    for j in range(calls):
        o = (5 + m * j) * length
        z[o : o + begin_x] = 0  # an earlier star may have begun here
        _six(q[j * length :], w[1], min(length, 1), z[o + begin_x : o + begin_x + size])
    end = m * (rows - 1) + 6
    z[end * length + begin_x : (end + 5) * length] = 0  # a larger one may have ended here
    g[: begin_y * length] = 0
    _six(z, w[3], length, g[begin_y * length : (begin_y + end) * length])
    g[(begin_y + end) * length :] = 0
