"""Interpolation kernels: their weights, and the filter that turns pixels into B-spline coefficients.

A kernel gives the value between pixels as a weighted sum of ``taps`` neighbours per axis. Each weight is a
polynomial of the fraction of a pixel (the quintic B-spline's exactly, the windowed sincs' to 2e-7), which
costs less than a table and needs no rounding of the fraction.

"Cardinal" weights are those by which the *pixels* enter the value. For the windowed sincs they are the
weights themselves; for the B-spline they are weights and prefilter together, which reach further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from zogyp.core.jit import compiled
from zogyp.core.planes import room
from zogyp.core.psfmodel import bspline5
from zogyp.core.threads import each
from zogyp.errors import OptionError

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
I4 = NDArray[np.int32]

NAMES = ("bspline5", "lanczos3", "lanczos4")
BLOCK = 256  # pixels of a row that are worked on at once
SHORTEST = 8  # mean length of runs of pixels that are worth being worked on together
PAD = 4  # mirrored pixels around an image, enough for eight taps at half a pixel outside
DEGREE = 9  # of the weights' polynomials

# The two roots within the unit circle of z⁴ + 26 z³ + 66 z² + 26 z + 1, the quintic B-spline on integers.
_POLES = (-0.43057534709997376, -0.04309628820326465)
_Z1, _Z2 = np.float32(_POLES[0]), np.float32(_POLES[1])
_GAIN = np.float32((1 - _POLES[0]) ** 2 * (1 - _POLES[1]) ** 2)  # of one axis: a constant stays itself
_RUN_IN = 24  # pixels after which a recursion has forgotten its start: 0.43^24 = 2e-9
_TILE = 256  # side of a tile of the filter along columns: it stays in the cache
_ROWS = 64  # rows of a band, a multiple of four
_PERIOD = 128  # pixels of the cardinal spline: 0.43^64 is nothing

_F = TypeVar("_F", bound=Callable[..., Any])


def fast(function: _F) -> _F:
    """As `compiled`, with fused multiply-add; nothing that would spoil NaN, infinity or the order of sums."""
    fused = {"contract", "nsz"}
    return cast(_F, njit(cache=True, nogil=True, error_model="numpy", fastmath=fused)(function))


@dataclass(frozen=True)
class Kernel:
    """An interpolation kernel.

    Attributes
    ----------
    name : str
        One of `NAMES`.
    taps : int
        Weights per axis: 6 or 8. Tap i belongs to pixel ``floor(position) - taps // 2 + 1 + i``.
    table : ndarray, float32, (taps // 2, 2, 5)
        Even and odd coefficients of the weights' polynomials in ``u = fraction - 0.5``: tap i is
        ``sum_k table[i, 0, k] u^2k + sum_k table[i, 1, k] u^(2k+1)``, tap ``taps - 1 - i`` their difference.
    central : ndarray, float32, (2, 2, 5)
        The same of the four cardinal weights nearest to the position.
    prefilter : bool
        The weights are for B-spline coefficients, not for pixels.
    """

    name: str
    taps: int
    table: F4
    central: F4
    prefilter: bool

    def weights(self, fraction: F8) -> F4:
        """Weights (..., taps) for fractions [px] in [0, 1]; their sum is 1."""
        return _evaluate(self.table, fraction)

    def squares(self, fraction: F8) -> F4:
        """Shares (..., 4) by which the variances of the four nearest pixels count; their sum is 1.

        They are the squared central cardinal weights over their sum, so no variance is lost.
        """
        w: F4 = _evaluate(self.central, fraction) ** 2
        w /= w.sum(axis=-1, keepdims=True)
        return w

    def noise(self, fraction: F8) -> F8:
        """Variance of a value between pixels of white noise of variance 1, one axis, same shape.

        The sum of all squared cardinal weights: 1 on a pixel, least half way between two. Two axes multiply.
        """
        t = np.asarray(fraction, dtype=np.float64)
        total: F8 = (cardinal(self.name, t.ravel()) ** 2).sum(axis=-1)
        return total.reshape(t.shape)


@cache
def kernel(name: str) -> Kernel:
    """The kernel of a name.

    ``bspline5`` is the quintic B-spline with its prefilter. ``lanczos3`` and ``lanczos4`` are windowed sincs
    of 6 and 8 taps, their weights divided by their sum so that a constant stays one.

    Raises
    ------
    OptionError
        The name is none of `NAMES`.
    """
    if name not in NAMES:
        raise OptionError("kernel", name, "one of " + ", ".join(NAMES))
    spline = name == "bspline5"
    taps = 6 if spline else 2 * int(name[-1])
    middle = _PERIOD // 2 if spline else taps // 2 - 1  # the column of cardinal that is floor(position)
    table = _polynomials(bspline5 if spline else lambda t: cardinal(name, t))
    central = _polynomials(lambda t: cardinal(name, t)[:, middle - 1 : middle + 3])
    return Kernel(name, taps, table, central, spline)


def cardinal(name: str, t: F8) -> F8:
    """All cardinal weights (n, m) for fractions ``t`` (n,)."""
    if name == "bspline5":
        turn = np.cos(2 * np.pi * np.arange(_PERIOD) / _PERIOD)
        on_pixels = (66 + 52 * turn + 2 * (2 * turn**2 - 1)) / 120
        inverse = np.fft.ifft(1 / on_pixels).real
        w = bspline5(t)
        parts = [w[:, i, None] * np.roll(inverse, _PERIOD // 2 - 2 + i) for i in range(6)]
        spline: F8 = np.sum(parts, axis=0)
        return spline
    n = int(name[-1])
    u = t[:, None] - np.arange(1 - n, n + 1)
    sinc: F8 = np.sinc(u) * np.sinc(u / n) * (np.abs(u) < n)
    sinc /= sinc.sum(axis=1, keepdims=True)
    return sinc


def _polynomials(weights: Callable[[F8], F8]) -> F4:
    """Coefficients (taps // 2, 2, 5) of symmetric weights, by interpolation at Chebyshev's points."""
    u = 0.5 * np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    w = weights(u + 0.5)
    c = np.linalg.solve(np.vander(u, increasing=True), w[:, : w.shape[1] // 2]).T
    table = np.stack([c[:, 0::2], c[:, 1::2]], axis=1).astype(np.float32)
    table.setflags(write=False)  # kernels are shared
    return table


def _evaluate(table: F4, fraction: F8) -> F4:
    """Weights (..., taps) of fractions, as `fill_weights` makes them."""
    u = np.asarray(fraction, dtype=np.float64)[..., None] - 0.5
    powers = (u * u) ** np.arange(table.shape[-1])
    even, odd = powers @ table[:, 0].T, u * (powers @ table[:, 1].T)
    return np.concatenate([even + odd, (even - odd)[..., ::-1]], axis=-1).astype(np.float32)


def prefilter(data: F4, *, pad: int = 0, n_threads: int = 1) -> F4:
    """Coefficients of the quintic B-spline that passes through the pixels; borders mirror.

    As ``scipy.ndimage.spline_filter(data, order=5, mode="mirror")`` in single precision.

    Parameters
    ----------
    data : ndarray, float32, (ny, nx)
        Finite pixel values, smaller than 1e34.
    pad : int
        So many mirrored coefficients are put around [px], at most 24.
    n_threads : int
        Threads to use; the result does not depend on it.

    Returns
    -------
    ndarray, float32, (ny + 2 pad, nx + 2 pad)
    """
    data = np.ascontiguousarray(data, dtype=np.float32)
    ny, nx = data.shape
    out = room(data, (ny + 2 * pad, nx + 2 * pad))
    rows, columns = ([(k, min(k + _TILE, n)) for k in range(0, n, _TILE)] for n in (ny, nx))
    each(_along_columns, [(data, out, pad, r, c) for r in rows for c in columns], n_threads)
    each(_along_rows, [(out, pad, r, min(r + _ROWS, ny)) for r in range(0, ny, _ROWS)], n_threads)
    _mirror_ends(out, pad)
    return out


def padded(data: F4, pad: int) -> F4:
    """The image with ``pad`` mirrored pixels around it, float32, (ny + 2 pad, nx + 2 pad)."""
    ny, nx = data.shape
    out = room(data, (ny + 2 * pad, nx + 2 * pad))
    out[pad : pad + ny, pad : pad + nx] = data
    _mirror_ends(out.T, pad)
    _mirror_ends(out, pad)
    return out


def _mirror_ends(out: F4, pad: int) -> None:
    """Fill the first and last ``pad`` rows."""
    ny = out.shape[0] - 2 * pad
    for i in range(pad):
        out[pad - 1 - i] = out[pad + mirror(-1 - i, ny)]
        out[pad + ny + i] = out[pad + mirror(ny + i, ny)]


@compiled
def mirror(i: int, n: int) -> int:
    """The pixel 0..n-1 that stands at ``i`` when both ends of the axis are mirrors."""
    if 0 <= i < n:
        return i
    if n == 1:
        return 0
    i %= 2 * (n - 1)
    return i if i < n else 2 * (n - 1) - i


@fast
def _along_columns(data: F4, out: F4, pad: int, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Filter a tile along its columns, from ``data`` to ``out``.

    Both poles go down together, then up together. Mirrored or neighbouring rows run the recursions in, which
    makes every tile independent of the others.
    """
    ny = data.shape[0]
    (r0, r1), (x0, x1) = rows, columns
    height, n = r1 - r0 + 2 * _RUN_IN, x1 - x0
    tile = np.empty((height, n), np.float32)
    for r in range(height):
        source = mirror(r0 - _RUN_IN + r, ny)
        for x in range(n):  # loops, as numba is slow to compile the copying of slices
            tile[r, x] = data[source, x0 + x]
    a, b = np.empty(n, np.float32), np.empty(n, np.float32)
    for way in range(2):
        for x in range(n):
            a[x] = b[x] = 0
        for r in range(height):
            row = tile[r if way == 0 else height - 1 - r]
            for x in range(n):
                a[x] = row[x] + _Z1 * a[x]
                b[x] = a[x] + _Z2 * b[x]
                row[x] = b[x]
    for r in range(r0, r1):
        row = tile[r - r0 + _RUN_IN]
        for x in range(n):
            out[pad + r, pad + x0 + x] = _GAIN * row[x]


@fast
def _sweep(p: F4, q: F4, r: F4, s: F4, back: int) -> None:
    """Both recursions along four rows at once, in place: one row alone would wait for each sum."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
    for k in range(p.size):
        i = p.size - 1 - k if back else k
        a0 = p[i] + _Z1 * a0
        a1 = q[i] + _Z1 * a1
        a2 = r[i] + _Z1 * a2
        a3 = s[i] + _Z1 * a3
        b0 = a0 + _Z2 * b0
        b1 = a1 + _Z2 * b1
        b2 = a2 + _Z2 * b2
        b3 = a3 + _Z2 * b3
        p[i], q[i], r[i], s[i] = b0, b1, b2, b3


@fast
def _along_rows(c: F4, pad: int, r0: int, r1: int) -> None:
    """Filter rows r0..r1 of ``c`` along themselves, in place, and mirror their ends into the padding."""
    n = c.shape[1] - 2 * pad
    four = np.zeros((4, n + 2 * _RUN_IN), np.float32)
    for first in range(r0, r1, 4):
        m = min(4, r1 - first)
        for j in range(m):
            row, wide = c[pad + first + j], four[j]
            for k in range(n):
                wide[_RUN_IN + k] = row[pad + k]
            for k in range(_RUN_IN):
                wide[k] = row[pad + mirror(k - _RUN_IN, n)]
                wide[_RUN_IN + n + k] = row[pad + mirror(n + k, n)]
        for way in range(2):
            _sweep(four[0], four[1], four[2], four[3], way)
        for j in range(m):
            row, wide = c[pad + first + j], four[j]
            for k in range(n + 2 * pad):  # the run-in is longer than the padding, and mirrored too
                row[k] = _GAIN * wide[_RUN_IN - pad + k]


@fast
def split(place: F8, n_pixels: int, whole: I4, fraction: F4) -> None:
    """Whole pixels, and fractions less a half, of places; those outside of the image count as on its edge."""
    high = n_pixels - 0.5
    for k in range(place.size):
        p = place[k] if place[k] > -0.5 else -0.5  # so that NaN is -0.5
        p = p if p < high else high
        f = np.floor(p)
        whole[k] = np.int32(f)
        fraction[k] = np.float32(p - f - 0.5)


@fast
def fill_weights(fraction: F4, n: int, table: F4, weight: F4) -> None:
    """Weights of ``n`` places: tap i along axis a of place k goes to ``weight[(a * taps + i) * BLOCK + k]``.

    ``fraction`` (2, BLOCK) is along x and y, less a half; ``table`` is a kernel's ``table`` or ``central``.
    """
    taps = 2 * table.shape[0]
    for axis in range(2):
        u, w = fraction[axis], weight[axis * taps * BLOCK :]
        for i in range(taps // 2):
            e0, o0 = table[i, 0, 0], table[i, 1, 0]
            e1, o1 = table[i, 0, 1], table[i, 1, 1]
            e2, o2 = table[i, 0, 2], table[i, 1, 2]
            e3, o3 = table[i, 0, 3], table[i, 1, 3]
            e4, o4 = table[i, 0, 4], table[i, 1, 4]
            low, high = w[i * BLOCK :], w[(taps - 1 - i) * BLOCK :]
            for k in range(n):
                s = u[k] * u[k]
                even = e0 + s * (e1 + s * (e2 + s * (e3 + s * e4)))
                odd = u[k] * (o0 + s * (o1 + s * (o2 + s * (o3 + s * o4))))
                low[k] = even + odd
                high[k] = even - odd


@fast
def square_weights(weight: F4, n: int) -> None:
    """Four weights along each axis become their squares over the sum of these."""
    for axis in range(2):
        w = weight[axis * 4 * BLOCK :]
        for k in range(n):
            a, b, c, d = w[k], w[k + BLOCK], w[k + 2 * BLOCK], w[k + 3 * BLOCK]
            a, b, c, d = a * a, b * b, c * c, d * d
            share = np.float32(1) / (a + b + c + d)
            w[k], w[k + BLOCK] = share * a, share * b
            w[k + 2 * BLOCK], w[k + 3 * BLOCK] = share * c, share * d


@fast
def _two_rows(one: F4, two: F4, along: F4, down: F4, taps: tuple[int, ...], total: F4) -> None:
    """Add two rows of the kernel for neighbouring new pixels that read neighbouring old ones."""
    for k in range(total.size):
        a = np.float32(0)
        b = np.float32(0)
        for i in range(len(taps)):
            w = along[k + i * BLOCK]
            a += one[k + i] * w
            b += two[k + i] * w
        total[k] += down[k] * a + down[k + BLOCK] * b


@fast
def _one_by_one(
    plane: F4, width: int, start: int, whole: I4, weight: F4, taps: tuple[int, ...], total: F4
) -> None:
    """Add the kernel's sums for any new pixels; ``start`` is where pixel (0, 0)'s first tap is."""
    for k in range(total.size):
        # unsigned: numba need not look for an index that counts from the end
        o = np.uint64(start + np.int64(whole[1, k]) * width + whole[0, k])
        t = np.float32(0)
        for j in range(len(taps)):
            a = np.float32(0)
            for i in range(len(taps)):
                a += plane[o + np.uint64(i)] * weight[k + i * BLOCK]
            t += weight[k + (len(taps) + j) * BLOCK] * a
            o += np.uint64(width)
        total[k] += t


@fast
def add(plane: F4, width: int, whole: I4, weight: F4, taps: tuple[int, ...], total: F4) -> None:
    """Add to ``total`` the weighted sums of taps x taps pixels of a flat padded plane."""
    n = total.size
    x, y = whole[0, :n], whole[1, :n]
    start = (PAD - len(taps) // 2 + 1) * (width + 1)
    breaks = 0
    for k in range(n - 1):
        breaks += (y[k + 1] != y[k]) | (x[k + 1] - x[k] != 1)
    if SHORTEST * breaks > n:
        _one_by_one(plane, width, start, whole, weight, taps, total)
        return
    k = 0
    while k < n:
        end = k + 1 if breaks else n
        while end < n and y[end] == y[k] and x[end] - x[k] == end - k:
            end += 1
        o = start + np.int64(y[k]) * width + x[k]
        down = weight[len(taps) * BLOCK + k :]
        for j in range(0, len(taps), 2):
            one, two = plane[o + j * width :], plane[o + (j + 1) * width :]
            _two_rows(one, two, weight[k:], down[j * BLOCK :], taps, total[k:end])
        k = end
