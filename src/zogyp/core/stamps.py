"""Stars drawn, fitted and stacked on small stamps: the compiled loops under PSF and scene.

A star is a PSF model displaced by a fraction of a pixel: B-spline coefficients
``c`` (k, k) on a grid of step ``s`` pixels, read at pixel offsets ``p - d`` by the six
quintic weights of each axis. Drawing is linear in ``c``; its transpose is in `zogyp.core.stacks`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled, inner, loose

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
Real = NDArray[np.floating]  # in either precision


SAME = 1e-12  # px by which two fractions of a pixel may differ and are one


@inner
def _bspline5(t: float, w: F8, d: F8) -> None:
    """Quintic B-spline weights ``w`` and their derivatives ``d`` for a fraction t in [0, 1)."""
    for i in range(6):
        u = t + 2.0 - i
        s = abs(u)
        sign = 1.0 if u >= 0 else -1.0
        if s < 1:
            w[i] = (66 + s * s * (-60 + s * s * (30 - 10 * s))) / 120
            d[i] = sign * s * (-120 + s * s * (120 - 50 * s)) / 120
        elif s < 2:
            w[i] = (51 + s * (75 + s * (-210 + s * (150 + s * (-45 + 5 * s))))) / 120
            d[i] = sign * (75 + s * (-420 + s * (450 + s * (-180 + 25 * s)))) / 120
        elif s < 3:
            w[i] = (3 - s) ** 5 / 120
            d[i] = -sign * 5 * (3 - s) ** 4 / 120
        else:
            w[i] = 0.0
            d[i] = 0.0


@compiled
def weights(r: int, shift: float, s: float, k: int, w: F8, d: F8, first: NDArray[np.int64]) -> None:
    """Weights of pixels -r..r of one axis: ``w``, ``d`` (2r+1, 6) from grid index ``first`` on."""
    told, last = -1.0, 0
    for i in range(2 * r + 1):
        p = (i - r - shift) / s + k // 2
        if p < 0 or p > k - 1:  # beyond the model there is no light
            first[i] = 0
            for a in range(6):
                w[i, a] = d[i, a] = 0.0
            continue
        f = int(np.floor(p))
        first[i] = f - 2
        if abs(p - f - told) < SAME:  # where the grid's step divides a pixel, most pixels have one fraction
            for a in range(6):
                w[i, a], d[i, a] = w[last, a], d[last, a]
            continue
        told, last = p - f, i
        _bspline5(told, w[i], d[i])
        for a in range(6):
            d[i, a] /= -s  # derivative by the star's position


@inner
def mirror(i: int, k: int) -> int:
    if i < 0:
        i = -i
    if i >= k:
        i = 2 * (k - 1) - i
    return i


@loose
def combine(terms: Real, planes: Real, out: Real, reach: int) -> None:
    """``out = sum_j terms_j planes_j`` in the rows within ``reach`` grid points of the centre."""
    nj, k, _ = planes.shape
    lo = max(0, k // 2 - reach)
    hi = min(k, k // 2 + reach + 1)
    row = out.reshape(-1)[lo * k : hi * k]  # whole rows lie one after another: one long loop
    row[:] = 0
    j = 0
    while j + 3 <= nj:  # three planes at a time: the sum is written once for them
        a, b, c = terms[j], terms[j + 1], terms[j + 2]
        p = planes[j].reshape(-1)[lo * k : hi * k]
        q = planes[j + 1].reshape(-1)[lo * k : hi * k]
        r = planes[j + 2].reshape(-1)[lo * k : hi * k]
        for x in range(row.size):
            row[x] += a * p[x] + b * q[x] + c * r[x]
        j += 3
    while j < nj:
        a, p = terms[j], planes[j].reshape(-1)[lo * k : hi * k]
        for x in range(row.size):
            row[x] += a * p[x]
        j += 1


@loose
def rows(c: Real, w: Real, first: NDArray[np.int64], lo: int, hi: int, out: Real) -> None:
    """``out[i, x] = sum_a w[i, a] c[first[i] + a, x]`` for x in lo..hi."""
    k = c.shape[0]
    for i in range(w.shape[0]):
        row, f = out[i, lo:hi], first[i]
        if f >= 0 and f + 5 < k:  # six rows at a time: each is read once, the sum is written once
            c0, c1, c2 = c[f, lo:hi], c[f + 1, lo:hi], c[f + 2, lo:hi]
            c3, c4, c5 = c[f + 3, lo:hi], c[f + 4, lo:hi], c[f + 5, lo:hi]
            w0, w1, w2, w3, w4, w5 = w[i, 0], w[i, 1], w[i, 2], w[i, 3], w[i, 4], w[i, 5]
            for x in range(row.size):
                low = w0 * c0[x] + w1 * c1[x] + w2 * c2[x]
                row[x] = low + w3 * c3[x] + w4 * c4[x] + w5 * c5[x]
        else:
            row[:] = 0
            for a in range(6):
                v, line = w[i, a], c[mirror(f + a, k), lo:hi]
                for x in range(row.size):
                    row[x] += v * line[x]


@inner
def even_run(first: NDArray[np.int64], w: F8, s: float, k: int) -> tuple[int, int, int]:
    """Pixels ``j0 <= j < j1`` that share one set of weights, their indices ``m`` apart: the fast path.

    They exist where the grid's step divides a pixel; those near the model's border are left out, and those
    beyond it, whose weights are 0 (the third one is never 0 within).
    """
    m = int(np.round(1.0 / s))
    n = first.size
    if abs(m * s - 1.0) > 1e-12:
        return 0, 0, 1
    j0 = 0
    while j0 < n and (first[j0] < 0 or w[j0, 2] == 0.0 or first[j0] + 5 >= k):
        j0 += 1
    j1 = j0
    while j1 < n and first[j1] == first[j0] + m * (j1 - j0) and first[j1] + 5 < k and w[j1, 2] != 0.0:
        j1 += 1
    return j0, j1, m


@inner
def _part(row: Real, even: Real, odd: Real) -> None:
    """Put every second value beside each other, which is what vectorises."""
    for j in range(min(even.size, (row.size + 1) // 2)):
        even[j] = row[2 * j]
    for j in range(min(odd.size, row.size // 2)):
        odd[j] = row[2 * j + 1]


@loose
def columns(t: Real, w: Real, first: NDArray[np.int64], run: tuple[int, int, int], out: Real) -> None:
    """``out[i, j] = sum_b t[i, first[j] + b] w[j, b]``."""
    k = t.shape[1]
    n = w.shape[0]
    j0, j1, m = run
    if j1 > j0:
        f, q = first[j0], w[j0]
        w0, w1, w2, w3, w4, w5 = q[0], q[1], q[2], q[3], q[4], q[5]
        pairs = np.empty((2, j1 - j0 + 2), t.dtype)
        for i in range(n):
            row, made = t[i, f:], out[i, j0:j1]
            if m == 1:
                for j in range(made.size):
                    low = row[j] * w0 + row[j + 1] * w1 + row[j + 2] * w2
                    made[j] = low + row[j + 3] * w3 + row[j + 4] * w4 + row[j + 5] * w5
            elif m == 2:
                even, odd = pairs[0], pairs[1]
                _part(row, even, odd)
                for j in range(made.size):
                    low = even[j] * w0 + odd[j] * w1 + even[j + 1] * w2
                    made[j] = low + odd[j + 1] * w3 + even[j + 2] * w4 + odd[j + 2] * w5
            else:
                for j in range(made.size):
                    g = m * j
                    low = row[g] * w0 + row[g + 1] * w1 + row[g + 2] * w2
                    made[j] = low + row[g + 3] * w3 + row[g + 4] * w4 + row[g + 5] * w5
    for j in range(n):
        if j0 <= j < j1:
            continue
        for i in range(n):
            v = 0.0
            for b in range(6):
                v += t[i, mirror(first[j] + b, k)] * w[j, b]
            out[i, j] = v


@compiled
def limits(r: int, s: float, k: int) -> tuple[int, int, int]:
    reach = int(np.ceil((r + 1) / s)) + 4
    return reach, max(0, k // 2 - reach), min(k, k // 2 + reach + 1)


@compiled
def draw(c: Real, dx: float, dy: float, s: float, r: int) -> Real:
    """Stamp (2r+1, 2r+1) of B-spline coefficients ``c`` displaced by (dx, dy) px."""
    k = c.shape[0]
    n = 2 * r + 1
    w, d, first = np.empty((n, 6)), np.empty((n, 6)), np.empty(n, np.int64)
    t = np.zeros((n, k), c.dtype)
    out = np.empty((n, n), c.dtype)
    _, lo, hi = limits(r, s, k)
    weights(r, dy, s, k, w, d, first)
    rows(c, w.astype(c.dtype), first, lo, hi, t)
    weights(r, dx, s, k, w, d, first)
    columns(t, w.astype(c.dtype), first, even_run(first, w, s, k), out)
    return out


@compiled
def draw_gradient(c: Real, dx: float, dy: float, s: float, r: int) -> tuple[Real, Real, Real]:
    """The stamp of `draw` and its derivatives by dx and dy."""
    k = c.shape[0]
    n = 2 * r + 1
    wy, gy = np.empty((n, 6)), np.empty((n, 6))
    wx, gx = np.empty((n, 6)), np.empty((n, 6))
    fy, fx = np.empty(n, np.int64), np.empty(n, np.int64)
    t = np.zeros((n, k), c.dtype)
    p, px, py = np.empty((n, n), c.dtype), np.empty((n, n), c.dtype), np.empty((n, n), c.dtype)
    _, lo, hi = limits(r, s, k)
    weights(r, dy, s, k, wy, gy, fy)
    weights(r, dx, s, k, wx, gx, fx)
    run = even_run(fx, wx, s, k)
    along = wx.astype(c.dtype)
    rows(c, wy.astype(c.dtype), fy, lo, hi, t)
    columns(t, along, fx, run, p)
    columns(t, gx.astype(c.dtype), fx, run, px)
    rows(c, gy.astype(c.dtype), fy, lo, hi, t)
    columns(t, along, fx, run, py)
    return p, px, py


@compiled
def add_stars(
    image: F4, x: F8, y: F8, flux: F8, radius: NDArray[np.int64], terms: F8, planes: F8, s: float
) -> None:
    """Add stars to ``image`` in place: ``terms`` (n, n_terms), ``planes`` (n_terms, k, k) coefficients."""
    ny, nx = image.shape
    k = planes.shape[1]
    c = np.zeros((k, k), np.float32)
    light, share = planes.astype(np.float32), terms.astype(np.float32)
    for i in range(x.size):
        r = radius[i]
        xi, yi = int(np.round(x[i])), int(np.round(y[i]))
        if xi + r < 0 or yi + r < 0 or xi - r >= nx or yi - r >= ny:
            continue
        reach, _, _ = limits(r, s, k)
        combine(share[i], light, c, reach)
        p = draw(c, x[i] - xi, y[i] - yi, s, r)
        left, right, f = max(0, xi - r), min(nx, xi + r + 1), np.float32(flux[i])
        for v in range(max(0, yi - r), min(ny, yi + r + 1)):
            row, line = image[v, left:right], p[v - yi + r, left - xi + r : right - xi + r]
            for u in range(row.size):
                row[u] += f * line[u]


@inner
def _solve3(a: F8, b: F8, n: int) -> bool:
    """Solve the leading n x n part of a symmetric positive system in place; False if singular."""
    for i in range(n):
        if not a[i, i] > 0:
            return False
        for j in range(i + 1, n):
            q = a[j, i] / a[i, i]
            for m in range(i, n):
                a[j, m] -= q * a[i, m]
            b[j] -= q * b[i]
    for i in range(n - 1, -1, -1):
        for m in range(i + 1, n):
            b[i] -= a[i, m] * b[m]
        b[i] /= a[i, i]
    return True


@inner
def _normal_equations(
    residual: F4,
    variance: F4,
    good: NDArray[np.bool_],
    star: F8,
    stamps: tuple[Real, Real, Real],
    error: float,
) -> tuple[F8, F8, float, int]:
    """Matrix and right side for steps in flux and position; chi² and number of pixels."""
    ny, nx = residual.shape
    r, rf, f = int(star[3]), star[4], star[2]
    xi, yi = int(np.round(star[0])), int(np.round(star[1]))
    p, px, py = stamps
    a, b, g = np.zeros((3, 3)), np.zeros(3), np.zeros(3)
    chi2, n = 0.0, 0
    for v in range(max(0, yi - r), min(ny, yi + r + 1)):
        for u in range(max(0, xi - r), min(nx, xi + r + 1)):
            if not good[v, u] or (v - star[1]) ** 2 + (u - star[0]) ** 2 > rf * rf:
                continue
            i, j = v - yi + r, u - xi + r
            g[0], g[1], g[2] = p[i, j], f * px[i, j], f * py[i, j]
            w = 1.0 / (variance[v, u] + (error * f * g[0]) ** 2)
            e = residual[v, u]
            for q in range(3):
                b[q] += w * g[q] * e
                for m in range(3):
                    a[q, m] += w * g[q] * g[m]
            chi2 += w * e * e
            n += 1
    return a, b, chi2, n


@inner
def fit_star(
    residual: F4, variance: F4, good: NDArray[np.bool_], star: F8, c: Real, s: float, how: F8, out: F8
) -> None:
    """One Gauss-Newton step of a star's flux and position on the residual of the whole scene.

    ``star`` = (x, y, flux, draw radius, fit radius); ``how`` = (relative PSF error, move positions, largest
    step [px]). ``residual`` is kept up to date; ``out`` gets (flux_err, x_err, chi2, n_pixels).
    """
    ny, nx = residual.shape
    r, f = int(star[3]), star[2]
    xi, yi = int(np.round(star[0])), int(np.round(star[1]))
    stamps = draw_gradient(c, star[0] - xi, star[1] - yi, s, r)
    a, b, out[2], out[3] = _normal_equations(residual, variance, good, star, stamps, how[0])
    out[0] = 1.0 / np.sqrt(a[0, 0]) if a[0, 0] > 0 else np.inf
    out[1] = 1.0 / np.sqrt(a[1, 1]) if a[1, 1] > 0 else np.inf
    if out[3] < 5 or not a[0, 0] > 0:
        return
    move = how[1] > 0 and out[1] < 0.3 and f > 0
    if not _solve3(a, b, 3 if move else 1):
        return
    step = np.hypot(b[1], b[2]) if move else 0.0
    shrink = min(1.0, how[2] / step) if step > 0 else 1.0
    star[2] = f + b[0]
    if move:
        star[0] += shrink * b[1]
        star[1] += shrink * b[2]
    p = stamps[0]
    q = draw(c, star[0] - xi, star[1] - yi, s, r) if move else p
    left, right = max(0, xi - r), min(nx, xi + r + 1)
    now, before = np.float32(star[2]), np.float32(f)
    for v in range(max(0, yi - r), min(ny, yi + r + 1)):
        i, j = v - yi + r, left - xi + r
        row, new, old = residual[v, left:right], q[i, j : j + right - left], p[i, j : j + right - left]
        for u in range(row.size):
            row[u] -= now * new[u] - before * old[u]


@compiled
def sweep(
    residual: F4, variance: F4, good: NDArray[np.bool_], stars: F8, terms: F8, planes: F8, s: float, how: F8
) -> F8:
    """Fit all stars once, one after another (Gauss-Seidel); returns `fit_star`'s out for each."""
    k = planes.shape[1]
    c = np.zeros((k, k), np.float32)
    light, share = planes.astype(np.float32), terms.astype(np.float32)
    out = np.zeros((stars.shape[0], 4))
    for i in range(stars.shape[0]):
        reach, _, _ = limits(int(stars[i, 3]), s, k)
        combine(share[i], light, c, reach)
        fit_star(residual, variance, good, stars[i], c, s, how, out[i])
    return out


@compiled
def cut_stamps(image: F4, x: F8, y: F8, r: int, fill: float) -> F4:
    """Stamps (n, 2r+1, 2r+1) around the nearest pixels; ``fill`` outside of the image."""
    ny, nx = image.shape
    out = np.full((x.size, 2 * r + 1, 2 * r + 1), np.float32(fill), dtype=np.float32)
    for i in range(x.size):
        xi, yi = int(np.round(x[i])), int(np.round(y[i]))
        for v in range(max(0, yi - r), min(ny, yi + r + 1)):
            for u in range(max(0, xi - r), min(nx, xi + r + 1)):
                out[i, v - yi + r, u - xi + r] = image[v, u]
    return out
