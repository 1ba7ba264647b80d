"""Islands of pixels above a threshold, and the sources they are made of.

Pixels that touch make an island. An island is flooded from its summits down: where two basins meet, the
lesser is a source of its own if what it holds above the meeting point counts, and a part of the other if
not. This is the limit of infinitely many thresholds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.filters import filter_row
from zogyp.core.jit import compiled

Plane = NDArray[np.float32]
F8 = NDArray[np.float64]
I4 = NDArray[np.int32]
Bool = NDArray[np.bool_]


@compiled
def above(data: Plane, taps: Plane, sigma: Plane, first: int, threshold: float) -> tuple[I4, I4, Plane]:
    """Columns, rows and filtered S/N of pixels beyond a threshold.

    Parameters
    ----------
    taps : of the filter, separable.
    sigma : (n, nx) of single pixels in rows ``first``...: these are looked at.
    threshold : [sigma of single pixels].
    """
    nx = data.shape[1]
    x, y = np.empty(sigma.size, np.int32), np.empty(sigma.size, np.int32)
    height = np.empty(sigma.size, np.float32)
    line, row = np.empty(nx + taps.size, np.float32), np.empty(nx, np.float32)
    n = 0
    for i in range(sigma.shape[0]):
        filter_row(data, taps, first + i, line, row)
        for u in range(nx):
            if row[u] > threshold * sigma[i, u]:
                x[n], y[n], height[n] = u, first + i, row[u] / sigma[i, u]
                n += 1
    return x[:n].copy(), y[:n].copy(), height[:n].copy()


@compiled
def neighbours(x: I4, y: I4) -> tuple[I4, I4]:
    """For each pixel the first one of the row above, and of the row below, whose column is x - 1 or more."""
    n = x.size
    up, down = np.empty(n, np.int32), np.empty(n, np.int32)
    j = 0
    for i in range(n):
        while y[j] < y[i] - 1 or (y[j] == y[i] - 1 and x[j] < x[i] - 1):
            j += 1
        up[i] = j
    j = 0
    for i in range(n):
        while j < n and (y[j] < y[i] + 1 or (y[j] == y[i] + 1 and x[j] < x[i] - 1)):
            j += 1
        down[i] = j
    return up, down


@compiled
def _beside(i: int, x: I4, y: I4, links: tuple[I4, I4], found: I4) -> int:
    """Indices of the pixels of the list that touch pixel i, diagonally too."""
    n, m = x.size, 0
    if i > 0 and y[i - 1] == y[i] and x[i - 1] == x[i] - 1:
        found[m] = i - 1
        m += 1
    if i + 1 < n and y[i + 1] == y[i] and x[i + 1] == x[i] + 1:
        found[m] = i + 1
        m += 1
    for k in range(2):
        row = y[i] - 1 if k == 0 else y[i] + 1
        j = links[k][i]
        while j < n and y[j] == row and x[j] <= x[i] + 1:
            if x[j] >= x[i] - 1:
                found[m] = j
                m += 1
            j += 1
    return m


@compiled
def _root(parent: I4, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled
def islands(x: I4, y: I4, height: Plane, links: tuple[I4, I4]) -> tuple[I4, F8]:
    """The island of each pixel, named by one of its pixels, and at that pixel the sum of its heights."""
    n = x.size
    parent = np.arange(n).astype(np.int32)
    found = np.empty(8, np.int32)
    for i in range(n):
        m = _beside(i, x, y, links, found)
        for k in range(m):
            if found[k] < i:
                a, b = _root(parent, i), _root(parent, found[k])
                parent[max(a, b)] = min(a, b)
    total = np.zeros(n, np.float64)
    for i in range(n):
        parent[i] = _root(parent, i)
        total[parent[i]] += height[i]
    return parent, total


@compiled
def downwards(island: I4, ranked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels ``ranked`` by falling height sorted by island: neighbours in memory stay neighbours in time."""
    n = island.size
    start = np.zeros(n + 1, np.int64)
    for i in range(n):
        start[island[i] + 1] += 1
    for i in range(n):
        start[i + 1] += start[i]
    order = np.empty(n, np.int64)
    for i in ranked:
        order[start[island[i]]] = i
        start[island[i]] += 1
    return order


@compiled
def basins(
    x: I4, y: I4, height: Plane, links: tuple[I4, I4], order: NDArray[np.int64], limits: tuple[F8, float, int]
) -> I4:
    """The source of each pixel, named by its summit.

    Parameters
    ----------
    order : pixels of each island by falling height, `downwards`.
    limits : (what a basin must hold above the meeting point, for each pixel; by how much its summit must rise
        above that; by how many pixels), to be a source of its own.
    """
    needed, least_rise, least_pixels = limits
    n = x.size
    summit = np.full(n, -1, np.int32)  # of a pixel's basin when it was flooded
    parent = np.arange(n).astype(np.int32)
    holds = np.zeros(n, np.float64)
    count = np.zeros(n, np.int64)
    found = np.empty(8, np.int32)
    for i in order:
        m = _beside(i, x, y, links, found)
        top = -1  # the highest neighbour under water
        for k in range(m):
            if summit[found[k]] >= 0 and (top < 0 or height[found[k]] > height[top]):
                top = found[k]
        if top < 0:
            summit[i] = i
            holds[i], count[i] = height[i], 1
            continue
        mine = _root(parent, summit[top])
        for k in range(m):
            if summit[found[k]] < 0:
                continue
            other = _root(parent, summit[found[k]])
            if other == mine:
                continue
            low, high = (mine, other) if height[other] > height[mine] else (other, mine)
            rises = height[low] - height[i] >= least_rise and count[low] >= least_pixels
            if not (rises and holds[low] - count[low] * height[i] >= needed[i]):
                parent[low] = high
                holds[high] += holds[low]
                count[high] += count[low]
                mine = _root(parent, mine)
        summit[i] = mine
        holds[mine] += height[i]
        count[mine] += 1
    for i in range(n):
        summit[i] = _root(parent, summit[i])
    return summit


@compiled
def measured(
    x: I4, y: I4, height: Plane, source: I4, data: Plane, bad: Bool, n_sources: int
) -> tuple[F8, NDArray[np.int64], Bool]:
    """Sums over the pixels of each source.

    Parameters
    ----------
    source : number of the source of each pixel, 0..n_sources - 1.

    Returns
    -------
    (n, 6) : sum of data; barycentre x, y of the heights; major axis (standard deviation); highest pixel; its
        height.
    (n, 3) : number of pixels; x, y of the highest pixel.
    (n,) bool : one of its pixels is bad.
    """
    sums = np.zeros((n_sources, 6))
    whole = np.zeros((n_sources, 3), np.int64)
    touched = np.zeros(n_sources, np.bool_)
    moments = np.zeros((n_sources, 4))  # of heights, and second ones about the first pixel
    origin = np.zeros((n_sources, 2))
    for i in range(x.size):
        s = source[i]
        v = data[y[i], x[i]]
        if whole[s, 0] == 0:
            origin[s, 0], origin[s, 1] = x[i], y[i]
        if whole[s, 0] == 0 or v > sums[s, 4]:
            sums[s, 4] = v
            whole[s, 1], whole[s, 2] = x[i], y[i]
        whole[s, 0] += 1
        dx, dy, h = x[i] - origin[s, 0], y[i] - origin[s, 1], height[i]
        sums[s, 0] += v
        sums[s, 1] += h * dx
        sums[s, 2] += h * dy
        moments[s, 0] += h
        moments[s, 1] += h * dx * dx
        moments[s, 2] += h * dy * dy
        moments[s, 3] += h * dx * dy
        touched[s] |= bad[y[i], x[i]]
    for s in range(n_sources):
        total = moments[s, 0]
        mx, my = sums[s, 1] / total, sums[s, 2] / total
        xx, yy = moments[s, 1] / total - mx * mx, moments[s, 2] / total - my * my
        xy = moments[s, 3] / total - mx * my
        half = np.sqrt(max(0.25 * (xx - yy) ** 2 + xy * xy, 0.0))
        sums[s, 1], sums[s, 2] = origin[s, 0] + mx, origin[s, 1] + my
        sums[s, 3] = np.sqrt(max(0.5 * (xx + yy) + half, 1 / 12))
    return sums, whole, touched
