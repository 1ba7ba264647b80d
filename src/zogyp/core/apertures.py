"""Light within circles, whose rims cut pixels: sums, and the radius that holds half of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled, inner

Plane = NDArray[np.float32]
F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
SUB = 5  # parts of a pixel's side
NEAR = 4.0  # px up to which light is summed at first
STEP = 0.05  # px between radii at which light is summed


@inner
def _growth(data: Plane, bad: Bool, x: float, y: float, parts: F8, sums: F8) -> None:
    """Fill ``sums`` with the light in rings `STEP` px wide around (x, y); ``parts`` (2, n) of a pixel."""
    ny, nx = data.shape
    sums[:] = 0.0
    h = int(sums.size * STEP + 1.5)
    xi, yi = int(np.round(x)), int(np.round(y))
    right, up, ring = parts[0], parts[1], np.empty(parts.shape[1], np.int32)
    for v in range(max(0, yi - h), min(ny, yi + h + 1)):
        for u in range(max(0, xi - h), min(nx, xi + h + 1)):
            beyond = (v - y) ** 2 + (u - x) ** 2 > (sums.size * STEP + 0.71) ** 2
            if bad[v, u] or beyond:
                continue
            value = data[v, u] / ring.size
            for k in range(ring.size):  # many at a time, unlike the sums
                dx, dy = u - x + right[k], v - y + up[k]
                ring[k] = np.int32(np.sqrt(dx * dx + dy * dy) / STEP)
            for b in ring:
                if b < sums.size:
                    sums[b] += value


@compiled
def circles(data: Plane, bad: Bool, x: F8, y: F8, radius: F8) -> F8:
    """Light within ``radius`` px of each place; in the place of bad pixels, the mean of the others."""
    out = np.empty(x.size, np.float64)
    ny, nx = data.shape
    for k in range(x.size):
        r = radius[k]
        h = int(r + 1.5)
        xi, yi = int(np.round(x[k])), int(np.round(y[k]))
        total, area, lost = 0.0, 0.0, 0.0
        for v in range(max(0, yi - h), min(ny, yi + h + 1)):
            for u in range(max(0, xi - h), min(nx, xi + h + 1)):
                share = _share(u - x[k], v - y[k], r)
                if bad[v, u]:
                    lost += share
                else:
                    area += share
                    total += share * data[v, u]
        out[k] = total * (1 + lost / area) if area > 0 else np.nan
    return out


@inner
def _share(dx: float, dy: float, r: float) -> float:
    """Share of a pixel at (dx, dy) that lies within r."""
    d = np.sqrt(dx * dx + dy * dy)
    if d < r - 0.71:
        return 1.0
    if d > r + 0.71:
        return 0.0
    inside = 0
    for j in range(SUB):
        b = dy + (j + 0.5) / SUB - 0.5
        for i in range(SUB):
            a = dx + (i + 0.5) / SUB - 0.5
            inside += a * a + b * b < r * r
    return inside / (SUB * SUB)


@compiled
def half_radii(data: Plane, bad: Bool, x: F8, y: F8, reach: F8, total: F8) -> F8:
    """Radius [px] around each place that holds half of ``total``; NaN if none up to ``reach`` does."""
    out = np.full(x.size, np.nan)
    farthest = 0.0
    for k in range(x.size):
        farthest = max(farthest, reach[k])
    rings = np.empty(int(farthest / STEP) + 1)
    parts = np.empty((2, SUB * SUB))
    for k in range(SUB * SUB):
        parts[0, k], parts[1, k] = (k % SUB + 0.5) / SUB - 0.5, (k // SUB + 0.5) / SUB - 0.5
    for k in range(x.size):
        n = 0
        while n < max(int(reach[k] / STEP), 1) and np.isnan(out[k]):  # most have it within a few pixels
            n = min(max(2 * n, int(NEAR / STEP)), max(int(reach[k] / STEP), 1))
            _growth(data, bad, x[k], y[k], parts, rings[:n])
            out[k] = _crossing(rings[:n], 0.5 * total[k])
    return out


@inner
def _crossing(rings: F8, half: float) -> float:
    """Radius [px] at which the sum of rings reaches ``half``; NaN if it does not."""
    light = 0.0
    for b in range(rings.size):
        if half > 0 and light + rings[b] >= half:
            radius: float = STEP * (b + (half - light) / rings[b])
            return radius
        light += rings[b]
    return np.nan
