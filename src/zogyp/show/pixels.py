"""What a picture needs from an array before anything is drawn: smaller planes, limits, statistics.

Arrays in, arrays out; nothing here draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Values = NDArray[np.float64]
FINEST = 4  # pixels along a block that its mean needs
PIECE = 1 << 18  # pixels that are counted at a time
MAD_TO_SIGMA = 1.4826022185056018  # standard deviation of a Gaussian over its median absolute deviation


class Sliced(Protocol):
    """A plane, or what gives one when it is sliced."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx)."""

    def __getitem__(self, box: tuple[slice, slice], /) -> Any:
        """The part inside ``box = (rows, columns)``."""


def pool_factor(shape: tuple[int, int], longest: int) -> int:
    """Side of the blocks that bring ``shape`` (ny, nx) down to at most ``longest`` pixels a side."""
    return max(1, -(-max(shape) // longest))


def _starts(n: int, factor: int, step: int = 1) -> NDArray[np.intp]:
    """Where blocks of ``factor`` begin along an axis of ``n`` of which every ``step``-th is taken."""
    return np.minimum(-(-np.arange(0, n, factor) // step), -(-n // step) - 1)


def _blocks(
    operation: np.ufunc, data: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]
) -> NDArray[Any]:
    """Reduce the blocks that begin at ``rows`` and ``columns``."""
    return _reduced(operation, _reduced(operation, data, rows).T, columns).T


def _reduced(operation: np.ufunc, data: NDArray[Any], starts: NDArray[Any]) -> NDArray[Any]:
    """Reduce groups of rows that begin at ``starts``; whole rows at a time, along the memory."""
    data, ends = np.ascontiguousarray(data), [*starts[1:], data.shape[0]]
    groups = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    return np.stack([operation.reduce(group, axis=0, dtype=data.dtype) for group in groups])


def pool_mean(data: Sliced, factor: int) -> Plane:
    """Mean of each block of ``factor``² pixels; NaN where half of a block or more is NaN.

    Of blocks of eight pixels a side and more every second pixel or less is taken: ``FINEST`` a side or more.

    Parameters
    ----------
    data : ndarray, (ny, nx), or what gives one of its parts when sliced
    factor : int
        Side of a block [px].

    Returns
    -------
    ndarray, float32, (ceil(ny / factor), ceil(nx / factor))
    """
    step = max(1, factor // FINEST)
    part = data[::step, ::step]
    good = np.isfinite(part)
    if factor == 1:
        return np.where(good, part, np.float32(np.nan)).astype(np.float32)
    rows, columns = (_starts(n, factor, step) for n in data.shape)
    sides = (np.diff(rows, append=part.shape[0]), np.diff(columns, append=part.shape[1]))
    count = _blocks(np.add, good.view(np.uint8), rows, columns)  # at most 49
    total = _blocks(np.add, np.where(good, part, 0).astype(np.float32), rows, columns)
    enough = 2 * count > np.multiply.outer(*sides)
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
    rows, columns = (_starts(n, factor) for n in data.shape)
    high = _blocks(np.fmax, data, rows, columns)  # of the numbers; NaN where there is none
    low = _blocks(np.fmin, data, rows, columns)
    extreme = np.where(high >= -low, high, low)
    ny, nx = data.shape
    half = factor // 2
    middle = data[np.ix_(np.minimum(rows + half, ny - 1), np.minimum(columns + half, nx - 1))]
    middle = np.where(np.isfinite(middle), middle, np.float32(np.nan))
    beyond = np.isfinite(extreme) & (np.abs(extreme) >= threshold)
    return np.where(beyond, extreme, middle).astype(np.float32)


def thin(data: Sliced, most: int = 150_000) -> Plane:
    """Every n-th pixel of a plane, along both axes, so that about ``most`` are left."""
    ny, nx = data.shape
    step = max(1, int(np.ceil(np.sqrt(ny * nx / most))))
    part: Plane = data[::step, ::step]
    return part


def centre_and_spread(data: NDArray[Any]) -> tuple[float, float]:
    """Median and robust standard deviation of the finite values; (nan, nan) when there are none."""
    values = data[np.isfinite(data)]
    if values.size == 0:
        return float("nan"), float("nan")
    centre = float(np.median(values))
    return centre, MAD_TO_SIGMA * float(np.median(np.abs(values - centre)))


def sky_limits(data: Sliced) -> tuple[float, float, float]:
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
    counts = np.zeros(n, dtype=np.int64)
    rows = max(1, PIECE // max(1, data.shape[1]))
    for y in range(0, data.shape[0], rows):
        piece = data[y : y + rows]
        place = (piece[np.isfinite(piece)] + np.float32(limit)) * np.float32(n / (2 * limit))
        counts += np.bincount(np.clip(place, 0, n - 0.5).astype(np.intp), minlength=n)
    return np.linspace(-limit, limit, n + 1), counts.astype(np.float64), int(counts.sum())


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
            # S_corr is smooth: every second or third pixel knows all that there is
            part = thin(data[y[j] : y[j + 1], x[i] : x[i + 1]], 10_000)
            if np.count_nonzero(np.isfinite(part)) >= fewest:
                result[j, i] = centre_and_spread(part)[1]
    return result


def spread_out(shape: tuple[int, int], side: int = 250, most: int = 3) -> list[tuple[slice, slice]]:
    """At most ``most``² boxes of at most ``side`` pixels a side, evenly over an image of ``shape``."""
    along = []
    for n in shape:
        count = min(most, -(-n // side))
        middles = (np.arange(count) + 0.5) * n / count
        starts = [max(0, round(float(middle) - side / 2)) for middle in middles]
        along.append([slice(start, min(n, start + side)) for start in starts])
    return [(rows, columns) for rows in along[0] for columns in along[1]]


def autocorrelation(parts: Sequence[Plane], lag: int = 8) -> Values:
    """Correlation coefficient of pixels with their neighbours, ignoring NaN.

    Parameters
    ----------
    parts : sequence of ndarrays, (ny, nx)
        Parts of an image, NaN where a pixel is not to count.
    lag : int
        Largest distance along an axis [px].

    Returns
    -------
    ndarray, (2 lag + 1, 2 lag + 1)
        1 at the centre; point-symmetric; NaN where no pair of pixels exists.
    """
    side = 2 * lag + 1
    good = [np.isfinite(part) for part in parts]
    n = sum(int(np.count_nonzero(use)) for use in good)
    if n < 2:
        return np.full((side, side), np.nan)
    mean = sum(float(part[use].sum(dtype=np.float64)) for part, use in zip(parts, good, strict=True)) / n
    products, pairs = np.zeros((side, side)), np.zeros((side, side))
    for part, use in zip(parts, good, strict=True):
        products += _lagged(np.where(use, part.astype(np.float64) - mean, 0.0), lag)
        pairs += np.rint(_lagged(use.astype(np.float64), lag))
    variance = products[lag, lag] / n
    if variance <= 0:
        return np.full((side, side), np.nan)
    return np.where(pairs > 0, products / np.maximum(pairs, 1) / variance, np.nan)


def _lagged(part: Values, lag: int) -> Values:
    """Sums of the products of all pixels up to ``lag`` apart, by Fourier transform of the padded part."""
    shape = [n + lag for n in part.shape]
    power = np.abs(np.fft.rfft2(part, shape)) ** 2
    around = np.arange(-lag, lag + 1)
    sums: Values = np.fft.irfft2(power, shape)[np.ix_(around, around)]
    return sums


def stamp(data: Sliced, x: float, y: float, side: int) -> Plane:
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
