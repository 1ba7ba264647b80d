"""Spreads and excesses told from the bulk of many values, which a few odd ones do not move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.482602218505602
ENOUGH = 1_000_000
CHI2_MEDIAN = 0.454936423119572  # of one degree of freedom


def sample(a: NDArray[Any]) -> NDArray[Any]:
    """A million values at most, evenly taken of all: they tell medians and spreads to 0.1 per cent."""
    step = max(1, a.size // ENOUGH)
    return a.ravel()[:: step | 1]  # odd, so as not to walk down the same columns


def of_sample(statistic: Callable[[NDArray[Any]], Any], plane: NDArray[Any], use: NDArray[np.bool_]) -> float:
    """A statistic of a `sample` of the pixels to be used; of all of them where it holds none."""
    some = sample(plane)[sample(use)]
    return float(statistic(some if some.size else plane[use]))


def robust_sigma(a: NDArray[np.floating]) -> float:
    """Standard deviation of a normal distribution with the median absolute deviation of ``a``.

    Of a `sample` of them.
    """
    a = sample(a)
    return float(MAD_TO_SIGMA * np.median(np.abs(a - np.median(a)))) if a.size else float("nan")


def excess_variance(
    square: NDArray[np.floating],
    known: NDArray[np.floating],
    scale: NDArray[np.floating] | float = 1.0,
    share: float = 1.0,
) -> float:
    """The variance x beyond a known one that normal deviates have, robustly.

    Parameters
    ----------
    square : ndarray, (n,)
        Squared deviations.
    known : ndarray, (n,)
        Their known variances.
    scale : ndarray, (n,) or float
        x comes in with this factor.
    share : float
        Share of the deviations that are independent.

    Returns
    -------
    float
        x for which the weighted median of ``square / (known + x scale)`` is that of chi² with one
        degree of freedom; 0 where the known variance explains the deviations.
    """
    factor = np.broadcast_to(np.asarray(scale, dtype=np.float64), square.shape)
    e2, v = square.astype(np.float64), known.astype(np.float64)
    if e2.size < 10 or not (factor > 0).any():
        return 0.0
    x = float(np.median(e2 / factor)) / CHI2_MEDIAN
    top = float((e2 / factor).max()) / CHI2_MEDIAN
    for _ in range(4):  # votes weigh by what is not known but asked for
        weight = factor / (v + factor * x)
        x = _median_excess(e2, v, factor, weight / weight.sum(), (top, share))
    return x


def _median_excess(
    e2: NDArray[np.float64],
    v: NDArray[np.float64],
    factor: NDArray[np.float64],
    weight: NDArray[np.float64],
    bounds: tuple[float, float],
) -> float:
    """`excess_variance` for weights of unit sum; ``bounds`` = (largest x, share of independent votes)."""
    top, share = bounds
    # the median of n chi² deviates is uncertain by 1.06 / sqrt(n): less than two of that is no excess
    limit = CHI2_MEDIAN + 2.1 * float(np.sqrt((weight**2).sum() / share))
    if float(weight[e2 > limit * v].sum()) < 0.5:
        return 0.0
    low, high = 0.0, top
    for _ in range(40):
        middle = 0.5 * (low + high)
        above = float(weight[e2 > CHI2_MEDIAN * (v + factor * middle)].sum()) > 0.5
        low, high = (middle, high) if above else (low, middle)
    return high


def lower_sigma(values: NDArray[np.float32]) -> float:
    """Standard deviation of the sky from the lower side of its distribution, where no source is."""
    values = np.sort(values.ravel()[:: max(1, values.size // 200_000)])
    n = values.size
    width = values[n // 4 :] - values[: n - n // 4]  # the narrowest quarter lies about the mode
    i = int(np.argmin(width))
    mode = float(np.median(values[i : i + n // 4]))
    below = values[values < mode]
    return float(np.sqrt(np.mean((below - mode) ** 2))) if below.size else 1.0
