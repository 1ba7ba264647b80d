"""The noise that interpolation leaves: how two pixels of a resampled image share it, and its power spectrum.

A pixel of the new image is a weighted sum of pixels of the old one, so neighbours have some of those in
common, and the highest frequencies have less noise than the lowest. How much less depends on where between
the old pixels the new ones fall: nothing for whole pixels, most of it half way between them.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled
from zogyp.core.kernels import cardinal

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]

REACH = 12  # px beyond which no weight counts
LAGS = 8  # px beyond which pixels share nothing that counts
FINE = 512  # steps per pixel at which a kernel is tabulated; between them it is linear
FEW = 8  # lengths of blocks that are remembered: an image's tiles have two or three
LEAST_POWER = 0.05  # of the noise at low frequencies, below which it is not divided by


def covariance(kernel_name: str, x: F8, y: F8, jacobian: F8) -> F8:
    """Covariance of a resampled image's pixels with those up to `LAGS` px away.

    Parameters
    ----------
    kernel_name : str
        One of `zogyp.core.kernels.NAMES`.
    x, y : ndarray (n,)
        Places in the old image on which pixels of the new one fall, evenly taken; the answer is their mean.
    jacobian : ndarray (2, 2)
        Steps in the old image, (x, y) by rows, for a step along x and along y of the new one.

    Returns
    -------
    ndarray (2 LAGS + 1, 2 LAGS + 1)
        By lags (y, x), of unit sum: in units of the noise per unit frequency of the lowest frequencies.
    """
    mean = np.zeros((2 * LAGS + 1, 2 * LAGS + 1))
    _add_products(mean, _table(kernel_name), x, y, np.ascontiguousarray(jacobian, dtype=np.float64))
    unit: F8 = mean / mean.sum()
    return unit


@cache
def _table(name: str) -> F8:
    """The weight of a pixel that lies u px below a place, at u = -REACH, -REACH + 1 / FINE, ... REACH."""
    fraction = np.arange(FINE) / FINE
    w = cardinal(name, fraction)
    # the floor's own column: the middle of the spline's period, the middle tap of a windowed sinc
    floor = (w.shape[1] - 1 if w.shape[1] < 4 * REACH else w.shape[1]) // 2
    w = np.pad(w, ((0, 0), (REACH, REACH)))
    # pixel floor + i lies u = fraction - i below the place
    columns = [w[:, REACH + floor - i] for i in range(-REACH, REACH)]
    table = np.append(np.concatenate(columns), 0.0)
    table.setflags(write=False)
    return table


@compiled
def _product(table: F8, place: float, step: float) -> float:
    """Sum over pixels of their weights for ``place`` and for ``place + step``, along one axis."""
    total = 0.0
    low = int(np.floor(max(place, place + step))) - REACH + 1
    high = int(np.floor(min(place, place + step))) + REACH
    for i in range(low, high + 1):
        value = 1.0
        for at in (place - i, place + step - i):
            u = (at + REACH) * FINE
            k = int(u)
            value *= table[k] + (u - k) * (table[k + 1] - table[k])
        total += value
    return total


@compiled
def _add_products(out: F8, table: F8, x: F8, y: F8, J: F8) -> None:
    """Add the covariances of all places; those of opposite lags are alike but for the place, and averaged."""
    n = out.shape[0] // 2
    for ky in range(n + 1):
        for kx in range(-n, n + 1):
            sx, sy = J[0, 0] * kx + J[0, 1] * ky, J[1, 0] * kx + J[1, 1] * ky
            total = 0.0
            for m in range(x.size):
                total += _product(table, x[m], sx) * _product(table, y[m], sy)
            out[n + ky, n + kx] = total
            out[n - ky, n - kx] = total


def power(covariance: F8, shape: tuple[int, int]) -> F4:
    """Noise power at each frequency, (ny, nx // 2 + 1), 1 at the lowest; at least `LEAST_POWER`."""
    ny, nx = shape
    n = covariance.shape[0] // 2
    along = covariance @ _along(nx, n)
    # rows of opposite lags are each other's conjugates: twice the real part of one of them
    rows = np.vstack([along[n : n + 1].real, along[n + 1 :].real, along[n + 1 :].imag]).astype(np.float32)
    spectrum = np.empty((ny, nx // 2 + 1), np.float32)
    _fill(_down(ny, n), rows, spectrum)
    return spectrum


@lru_cache(maxsize=FEW)
def _along(nx: int, n: int) -> NDArray[np.complex128]:
    """Waves of a half spectrum along x at the lags -n ... n, (2 n + 1, nx // 2 + 1)."""
    waves: NDArray[np.complex128] = np.exp(-2j * np.pi * np.arange(-n, n + 1)[:, None] * np.fft.rfftfreq(nx))
    return waves


@lru_cache(maxsize=FEW)
def _down(ny: int, n: int) -> F4:
    """1, and twice the cosines and sines of the frequencies along y at the lags 1 ... n, (ny, 2 n + 1)."""
    phase = 2 * np.pi * np.fft.fftfreq(ny)[:, None] * np.arange(1, n + 1)
    return np.hstack([np.ones((ny, 1)), 2 * np.cos(phase), 2 * np.sin(phase)]).astype(np.float32)


@compiled
def _fill(down: F4, rows: F4, out: F4) -> None:
    """The product of two small matrices, at least `LEAST_POWER`: here quicker than what starts threads."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = down[i, 0] * rows[0, j]
        for k in range(1, rows.shape[0]):
            f = down[i, k]
            for j in range(out.shape[1]):
                out[i, j] += f * rows[k, j]
        for j in range(out.shape[1]):
            out[i, j] = max(out[i, j], np.float32(LEAST_POWER))
