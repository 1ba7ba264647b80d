"""Windowed centroids: barycentres under a Gaussian that follows them, nearly as good as a fit of the PSF."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
REACH = 4.0  # standard deviations of the window to which it is followed
ROUNDS = 16
SETTLED = 2e-4  # px: a smaller step is the last


@compiled
def windowed(data: NDArray[np.float32], bad: Bool, x: F8, y: F8, sigma: float) -> tuple[F8, F8, Bool]:
    """Centroids of sources near (x, y) in windows of standard deviation ``sigma`` [px].

    Returns
    -------
    x, y : (n,) where they settled, or got to.
    clean : (n,) whether the window lies within the image, holds light and no bad pixel.
    """
    ny, nx = data.shape
    h = int(np.ceil(REACH * sigma))
    wx, wy = np.empty(2 * h + 1), np.empty(2 * h + 1)
    out_x, out_y, clean = x.copy(), y.copy(), np.zeros(x.size, np.bool_)
    for k in range(x.size):
        u, v = x[k], y[k]
        for _ in range(ROUNDS):
            left, top = int(np.round(u)) - h, int(np.round(v)) - h
            if left < 0 or top < 0 or left + 2 * h >= nx or top + 2 * h >= ny:
                clean[k] = False
                break
            for i in range(2 * h + 1):
                wx[i] = np.exp(-0.5 * ((left + i - u) / sigma) ** 2)
                wy[i] = np.exp(-0.5 * ((top + i - v) / sigma) ** 2)
            total, across, along, touched = 0.0, 0.0, 0.0, False
            for j in range(2 * h + 1):
                for i in range(2 * h + 1):
                    d2 = (left + i - u) ** 2 + (top + j - v) ** 2
                    if d2 < (REACH * sigma) ** 2:
                        touched |= bad[top + j, left + i]
                        w = wx[i] * wy[j] * data[top + j, left + i]
                        total += w
                        across += w * (left + i - u)
                        along += w * (top + j - v)
            clean[k] = total > 0 and not touched
            if not total > 0:
                break
            # a Gaussian of the window's width moves its weighted barycentre by half of its own displacement
            step_x, step_y = 2 * across / total, 2 * along / total
            u, v = u + step_x, v + step_y
            if np.hypot(step_x, step_y) < SETTLED:
                break
        out_x[k], out_y[k] = u, v
    return out_x, out_y, clean
