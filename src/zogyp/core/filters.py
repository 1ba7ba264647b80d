"""Small separable filters in one pass over the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled, inner
from zogyp.core.planes import like

Plane = NDArray[np.float32]


def separable(data: Plane, taps: Plane) -> Plane:
    """Correlate rows and columns with the same odd, symmetric ``taps``; 0 where they stick out.

    Parameters
    ----------
    data : (ny, nx) float32, C-contiguous
    taps : (2 h + 1,) float32
    """
    out = like(data)
    out[:] = 0
    h, (ny, nx) = taps.size // 2, data.shape
    if ny > 2 * h and nx > 2 * h:
        _filter(data, taps, h, ny - h, out)
        out[:, :h] = 0
        out[:, nx - h :] = 0
    return out


def reflected(data: Plane, taps: Plane) -> Plane:
    """`separable`, but beyond its border the image goes on as in a mirror."""
    out = like(data)
    _filter(np.ascontiguousarray(data), taps, 0, data.shape[0], out)
    return out


def gaussian(data: Plane, sigma: float, truncate: float) -> Plane:
    """`reflected` by a Gaussian of standard deviation ``sigma`` px, cut at ``truncate`` times that."""
    return reflected(data, gaussian_taps(sigma, truncate))


def gaussian_taps(sigma: float, truncate: float) -> Plane:
    """A Gaussian of unit sum."""
    h = int(truncate * sigma + 0.5)
    g = np.exp(-0.5 * (np.arange(-h, h + 1) / sigma) ** 2)
    taps: Plane = (g / g.sum()).astype(np.float32)
    return taps


def box(data: Plane, side: int) -> Plane:
    """Mean over the square of odd ``side`` around each pixel."""
    return reflected(data, np.full(side, 1 / side, np.float32))


@compiled
def mirrored(i: int, n: int) -> int:
    """Index i of an axis of n pixels that goes on as in a mirror, its border pixel twice."""
    while i < 0 or i >= n:
        i = -1 - i if i < 0 else 2 * n - 1 - i
    return i


@inner
def filter_row(data: Plane, taps: Plane, y: int, line: Plane, out: Plane) -> None:
    """Row y of the filtered image; ``line`` (nx + 2 h) is scratch."""
    ny, nx = data.shape
    n = taps.size
    h = n // 2
    middle = line[h : h + nx]
    for i in range(n):
        t, row = taps[i], data[mirrored(y - h + i, ny)]
        if i == 0:
            for x in range(nx):
                middle[x] = t * row[x]
        else:
            for x in range(nx):
                middle[x] += t * row[x]
    for i in range(h):
        line[h - 1 - i] = line[h + mirrored(-1 - i, nx)]
        line[h + nx + i] = line[h + mirrored(nx + i, nx)]
    for i in range(n):
        t, beside = taps[i], line[i : i + nx]
        if i == 0:
            for x in range(nx):
                out[x] = t * beside[x]
        else:
            for x in range(nx):
                out[x] += t * beside[x]


@compiled
def _filter(data: Plane, taps: Plane, first: int, last: int, out: Plane) -> None:
    """Rows first..last of the filtered image."""
    line = np.empty(data.shape[1] + taps.size, np.float32)
    for y in range(first, last):
        filter_row(data, taps, y, line, out[y])
