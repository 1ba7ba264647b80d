"""Figures of a whole image in one pass over it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled

Plane = NDArray[np.float32]
Bool = NDArray[np.bool_]


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
