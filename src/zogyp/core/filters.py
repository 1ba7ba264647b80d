"""A small separable filter in one pass over the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled

Plane = NDArray[np.float32]


@compiled
def separable(data: Plane, taps: Plane) -> Plane:
    """Correlate rows and columns with the same odd, symmetric ``taps``; 0 where they stick out.

    Parameters
    ----------
    data : (ny, nx) float32, C-contiguous
    taps : (2 h + 1,) float32
    """
    ny, nx = data.shape
    n = taps.size
    h = n // 2
    out = np.zeros((ny, nx), np.float32)
    line = np.empty(nx, np.float32)
    for y in range(h, ny - h):
        for x in range(nx):
            line[x] = taps[0] * data[y - h, x]
        for i in range(1, n):
            t = taps[i]
            for x in range(nx):
                line[x] += t * data[y - h + i, x]
        for x in range(h, nx - h):
            v = np.float32(0)
            for i in range(n):
                v += taps[i] * line[x - h + i]
            out[y, x] = v
    return out
