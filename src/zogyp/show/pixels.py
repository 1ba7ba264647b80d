"""What a picture needs from an array before anything is drawn: smaller planes, limits, statistics.

Arrays in, arrays out; nothing here draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Values = NDArray[np.float64]
MAD_TO_SIGMA = 1.4826022185056018  # standard deviation of a Gaussian over its median absolute deviation


def pool_factor(shape: tuple[int, int], longest: int) -> int:
    """Side of the blocks that bring ``shape`` (ny, nx) down to at most ``longest`` pixels a side."""
    return max(1, -(-max(shape) // longest))


def _blocks(operation: np.ufunc, data: NDArray[Any], factor: int) -> NDArray[Any]:
    """Reduce blocks of ``factor``² pixels; those at the upper borders may be smaller."""
    rows = np.arange(0, data.shape[0], factor)
    columns = np.arange(0, data.shape[1], factor)
    reduced: NDArray[Any] = operation.reduceat(operation.reduceat(data, rows, axis=0), columns, axis=1)
    return reduced


def pool_mean(data: Plane, factor: int) -> Plane:
    """Mean of each block of ``factor``² pixels; NaN where half of a block or more is NaN.

    Parameters
    ----------
    data : ndarray, (ny, nx)
    factor : int
        Side of a block [px].

    Returns
    -------
    ndarray, float32, (ceil(ny / factor), ceil(nx / factor))
    """
    if factor == 1:
        return np.where(np.isfinite(data), data, np.float32(np.nan)).astype(np.float32)
    good = np.isfinite(data)
    count = _blocks(np.add, good.astype(np.float32), factor)
    sides = [np.minimum(factor, n - np.arange(0, n, factor)) for n in data.shape]
    total = _blocks(np.add, np.where(good, data, 0).astype(np.float32), factor)
    enough = 2 * count > np.multiply.outer(sides[0], sides[1])
    return np.where(enough, total / np.maximum(count, 1), np.float32(np.nan)).astype(np.float32)


def pool_peak(data: Plane, factor: int, threshold: float) -> Plane:
    """Each block's middle pixel, or its extreme where that lies beyond ``threshold``.

    A mean would hide point sources and a maximum would make noise look significant; this keeps
    both the noise as it is and every peak.

    Parameters
    ----------
    data : ndarray, (ny, nx)
        A plane in units of its own noise.
    factor : int
        Side of a block [px].
    threshold : float
        Smallest absolute value that must stay visible.

    Returns
    -------
    ndarray, float32, (ceil(ny / factor), ceil(nx / factor)), NaN where the middle pixel is.
    """
    if factor == 1:
        return np.where(np.isfinite(data), data, np.float32(np.nan)).astype(np.float32)
    filled = np.where(np.isfinite(data), data, 0).astype(np.float32)
    high = _blocks(np.maximum, filled, factor)
    low = _blocks(np.minimum, filled, factor)
    extreme = np.where(high >= -low, high, low)
    ny, nx = data.shape
    rows = np.minimum(np.arange(0, ny, factor) + factor // 2, ny - 1)
    columns = np.minimum(np.arange(0, nx, factor) + factor // 2, nx - 1)
    middle = data[np.ix_(rows, columns)]
    middle = np.where(np.isfinite(middle), middle, np.float32(np.nan))
    return np.where(np.abs(extreme) >= threshold, extreme, middle).astype(np.float32)


def thin(data: Plane, most: int = 1_000_000) -> Plane:
    """Every n-th pixel of a plane, along both axes, so that about ``most`` are left."""
    step = max(1, int(np.ceil(np.sqrt(data.size / most))))
    return data[::step, ::step]


def centre_and_spread(data: NDArray[Any]) -> tuple[float, float]:
    """Median and robust standard deviation of the finite values; (nan, nan) when there are none."""
    values = data[np.isfinite(data)]
    if values.size == 0:
        return float("nan"), float("nan")
    centre = float(np.median(values))
    return centre, MAD_TO_SIGMA * float(np.median(np.abs(values - centre)))


def sky_limits(data: Plane) -> tuple[float, float, float]:
    """Sky level, noise and brightest level to show of an image [its unit], never of zero range."""
    sample = thin(data)
    sky, noise = centre_and_spread(sample)
    if not np.isfinite(sky):
        return 0.0, 1.0, 10.0
    values = sample[np.isfinite(sample)]
    top = float(np.percentile(values, 99.8)) - sky
    if noise <= 0:  # more than half of the pixels have one value
        noise = float(np.std(values, dtype=np.float64)) or max(abs(sky), 1.0) * 1e-3
    return sky, noise, max(top, 30 * noise)


def histogram(data: Plane, limit: float, width: float) -> tuple[Values, Values, int]:
    """Counts of the finite values in bins of ``width`` between -limit and limit.

    The outermost bins hold all that lies beyond.

    Returns
    -------
    edges : ndarray, (n + 1,)
    counts : ndarray, (n,)
    n_judged : int
        Number of finite values.
    """
    n = round(2 * limit / width)
    edges = np.linspace(-limit, limit, n + 1)
    values = data[np.isfinite(data)]
    clipped = np.clip(values, -limit * (1 - 1e-6), limit * (1 - 1e-6))
    counts, _ = np.histogram(clipped, bins=edges)
    return edges, counts.astype(np.float64), int(values.size)


def spread_map(data: Plane, cell: int = 100, most: int = 16, fewest: int = 100) -> Values:
    """Robust standard deviation in a grid of nearly square cells.

    Parameters
    ----------
    data : ndarray, (ny, nx)
    cell : int
        Smallest side of a cell [px]: S_corr is smooth, so a cell needs many pixels to say a few per cent.
    most : int
        Most cells along an axis.
    fewest : int
        A cell with fewer finite pixels is NaN.

    Returns
    -------
    ndarray, (rows, columns)
        The cells divide the image evenly.
    """
    side = max(cell, -(-max(data.shape) // most))
    rows, columns = (max(1, round(n / side)) for n in data.shape)
    y = np.linspace(0, data.shape[0], rows + 1).astype(int)
    x = np.linspace(0, data.shape[1], columns + 1).astype(int)
    result = np.full((rows, columns), np.nan)
    for j in range(rows):
        for i in range(columns):
            part = thin(data[y[j] : y[j + 1], x[i] : x[i + 1]], 100_000)
            if np.count_nonzero(np.isfinite(part)) >= fewest:
                result[j, i] = centre_and_spread(part)[1]
    return result


def autocorrelation(data: Plane, lag: int = 8, most: int = 2048) -> Values:
    """Correlation coefficient of pixels with their neighbours, ignoring NaN.

    Parameters
    ----------
    data : ndarray, (ny, nx)
        NaN where a pixel is not to count. Of a larger image the central ``most``² are used.
    lag : int
        Largest distance along an axis [px].

    Returns
    -------
    ndarray, (2 lag + 1, 2 lag + 1)
        1 at the centre; point-symmetric; NaN where no pair of pixels exists.
    """
    ny, nx = data.shape
    y0, x0 = max(0, (ny - most) // 2), max(0, (nx - most) // 2)
    part = data[y0 : y0 + most, x0 : x0 + most].astype(np.float64)
    good = np.isfinite(part)
    result = np.full((2 * lag + 1, 2 * lag + 1), np.nan)
    if np.count_nonzero(good) < 2:
        return result
    part = np.where(good, part - part[good].mean(), 0.0)
    variance = float(np.mean(part[good] ** 2))
    if variance <= 0:
        return result
    weight = good.astype(np.float64)
    for dy in range(lag + 1):
        for dx in range(-lag, lag + 1):
            value = _lagged(part, weight, dy, dx) / variance
            result[lag + dy, lag + dx] = value
            result[lag - dy, lag - dx] = value
    return result


def _lagged(part: Values, weight: Values, dy: int, dx: int) -> float:
    """Mean product of pixels ``(dy, dx)`` apart, dy >= 0; NaN without any pair."""
    ny, nx = part.shape
    if dy >= ny or abs(dx) >= nx:
        return float("nan")
    first = (slice(0, ny - dy), slice(max(0, -dx), nx - max(0, dx)))
    second = (slice(dy, ny), slice(max(0, dx), nx - max(0, -dx)))
    pairs = float(np.vdot(weight[first], weight[second]))
    return float(np.vdot(part[first], part[second])) / pairs if pairs else float("nan")


def stamp(data: Plane, x: float, y: float, side: int) -> Plane:
    """The ``side``² pixels around (x, y) [0-based px]; NaN outside of the image."""
    ny, nx = data.shape
    out = np.full((side, side), np.nan, dtype=np.float32)
    if not (np.isfinite(x) and np.isfinite(y)):
        return out
    x0, y0 = round(x) - side // 2, round(y) - side // 2
    ys, xs = slice(max(0, y0), min(ny, y0 + side)), slice(max(0, x0), min(nx, x0 + side))
    if ys.start < ys.stop and xs.start < xs.stop:
        out[ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0] = data[ys, xs]
    return out
