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


def median(a: NDArray[np.floating]) -> float:
    """Median of all values, NaN where one of them is.

    `numpy.median` looks for three of the sorted values at once, which takes several times as long as one.
    """
    if not a.size:
        return float("nan")
    half = a.size // 2
    parted = np.partition(a, half, axis=None)
    if np.isnan(parted[half:].max()):  # what is no number is put last
        return float("nan")
    return float(parted[half] if a.size % 2 else (parted[:half].max() + parted[half]) / 2)


def robust_sigma(a: NDArray[np.floating]) -> float:
    """Standard deviation of a normal distribution with the median absolute deviation of ``a``.

    Of a `sample` of them.
    """
    a = sample(a)
    return MAD_TO_SIGMA * median(np.abs(a - median(a)))


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
    x = median(e2 / factor) / CHI2_MEDIAN
    asked = (e2 / CHI2_MEDIAN - v) / factor  # the x up to which a deviation lies above its median
    falling: NDArray[np.intp] | None = None
    for _ in range(4):  # votes weigh by what is not known but asked for
        weight, last = factor / (v + factor * x), x
        weight /= weight.sum()
        # the median of n chi² deviates is uncertain by 1.06 / sqrt(n): less than two of that is no excess
        limit = CHI2_MEDIAN + 2.1 * float(np.sqrt(weight @ weight / share))
        if weight[e2 > limit * v].sum() < 0.5:
            x = 0.0
        else:
            falling = np.argsort(-asked) if falling is None else falling
            x = _median_excess(asked, weight, falling)
        if x == last:  # so it would stay
            break
    return x


def _median_excess(
    asked: NDArray[np.float64], weight: NDArray[np.float64], falling: NDArray[np.intp]
) -> float:
    """The least x >= 0 that no more than half of the votes ask to exceed; ``falling`` is their order."""
    above = np.cumsum(weight[falling])
    half = min(int(np.searchsorted(above, 0.5, side="right")), above.size - 1)
    return max(float(asked[falling[half]]), 0.0)


def lower_sigma(values: NDArray[np.float32]) -> float:
    """Standard deviation of the sky from the lower side of its distribution, where no source is."""
    values = np.sort(values.ravel()[:: max(1, values.size // 200_000)])
    n = values.size
    width = values[n // 4 :] - values[: n - n // 4]  # the narrowest quarter lies about the mode
    i = int(np.argmin(width))
    mode = median(values[i : i + n // 4])
    below = values[values < mode]
    return float(np.sqrt(np.mean((below - mode) ** 2))) if below.size else 1.0
