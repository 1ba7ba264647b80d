"""Figures of a whole image in one pass over it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled

Plane = NDArray[np.float32]
Bool = NDArray[np.bool_]
F8 = NDArray[np.float64]


@compiled
def moments(plane: Plane) -> tuple[int, float, float]:
    """Number of the finite pixels, their mean and their standard deviation; NaN if there are none."""
    n, total, square = 0, 0.0, 0.0
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            v = float(plane[y, x])
            if np.isfinite(v):
                n += 1
                total += v
                square += v * v
    if n == 0:
        return 0, np.nan, np.nan
    mean = total / n
    return n, mean, np.sqrt(max(square / n - mean * mean, 0.0))


@compiled
def extremes(plane: Plane, use: Bool) -> tuple[float, float]:
    """Least and largest of the pixels to be used."""
    low, high = np.inf, -np.inf
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            if use[y, x]:
                v = plane[y, x]
                low, high = min(low, v), max(high, v)
    return low, high


@compiled
def histogram(plane: Plane, use: Bool, low: float, high: float, bins: int) -> NDArray[np.int64]:
    """How many of the pixels to be used lie in each of equal bins from ``low`` to ``high``."""
    counts = np.zeros(bins, np.int64)
    scale = bins / (high - low)
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            v = plane[y, x]
            if use[y, x] and low <= v <= high:
                counts[min(int((v - low) * scale), bins - 1)] += 1
    return counts


@compiled
def block_means(plane: Plane, bad: Bool, step: int, limit: float) -> tuple[F8, F8]:
    """Means of blocks of ``step`` px along rows (ny, nx // step) and along columns (nx, ny // step).

    Values count as ``limit`` at most, of either sign; a block of which less than half is usable is NaN.
    """
    ny, nx = plane.shape
    across, along = np.empty((ny, nx // step)), np.empty((nx, ny // step))
    total, count = np.zeros(nx), np.zeros(nx, np.int64)
    bound, value, use = np.float32(limit), np.empty(nx, np.float32), np.empty(nx, np.int64)
    for y in range(ny):
        row, unusable = plane[y], bad[y]
        for x in range(nx):  # many at a time
            v = min(max(row[x], -bound), bound)
            value[x] = np.float32(0) if unusable[x] else v
            use[x] = not unusable[x]
        for x in range(nx):
            total[x] += value[x]
            count[x] += use[x]
        for i in range(nx // step):
            mine, n = 0.0, 0
            for x in range(i * step, (i + 1) * step):
                mine += value[x]
                n += use[x]
            across[y, i] = mine / n if n >= step // 2 and n > 0 else np.nan
        if (y + 1) % step == 0:
            for x in range(nx):
                n = count[x]
                along[x, y // step] = total[x] / n if n >= step // 2 and n > 0 else np.nan
                total[x], count[x] = 0.0, 0
    return across, along


@compiled
def less_sides(means: F8, near: int, far: int) -> F8:
    """Each value less the mean of those ``near`` and ``far`` rows before and after it that are known.

    Beyond the first and the last row the order is reversed; NaN where none is known.
    """
    ny, nx = means.shape
    out = np.empty((ny, nx))
    for y in range(ny):
        sides = (abs(y - far), abs(y - near), y + near, y + far)
        for x in range(nx):
            total, n = 0.0, 0
            for row in sides:
                v = means[row if row < ny else 2 * (ny - 1) - row, x]
                if not np.isnan(v):
                    total += v
                    n += 1
            out[y, x] = means[y, x] - total / n if n > 0 else np.nan
    return out
