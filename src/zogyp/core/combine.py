"""The values of one pixel in many images made into one: median, weighted mean, clipped mean.

Medians come from a sorting network (Batcher's odd-even merge sort without what the middle does not need):
a fixed list of pairs of rows of which the smaller value goes up, the larger down. `LANES` neighbouring
pixels go through it side by side, so the processor compares eight or more of them at once, and the time
does not depend on the values. The rows are compared as integers in the order of the floats, because for
integers, which know no NaN, compilers do find the instructions for minimum and maximum.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
I4 = NDArray[np.int32]
U2 = NDArray[np.uint16]
P = TypeVar("P", bound=NDArray[Any])

LANES = 128  # pixels side by side: rows long enough to hide the loop, few enough for the nearest cache
MOST = 65535  # images: what a count can hold
ROUNDS = 10  # of clipping with the pixel's own scatter, at most
FEWEST = 4  # values that have a scatter of their own
# Median absolute deviation of n = 4 ... 9 normal deviates: by how much it is smaller than of many
# (Croux & Rousseeuw 1992); n / (n - 0.8) beyond.
FEW = (1.363, 1.206, 1.200, 1.140, 1.129, 1.107)
NORMAL = 1.4826  # standard deviation over median absolute deviation

_LARGEST = float(np.finfo(np.float32).max)
_EXPONENT = 0x7F800000  # all bits of the exponent set: NaN or infinite
_OTHERS = 0x7FFFFFFF  # all bits but the sign
_WHOLE = 8388608.0  # 2^23: floats beyond have no fraction to speak of


def median(values: F4, out: F4, count: U2) -> None:
    """Median of the finite values of each pixel; the mean of the middle two of an even number.

    Parameters
    ----------
    values : (n, rows, nx)
        NaN and infinity count as missing. 1 to `MOST` images.
    out : (rows, nx)
        Gets the medians, NaN where there are no values.
    count : (rows, nx)
        Gets the number of finite values.
    """
    _median(_flat(values).view(np.int32), network(len(values)), _line(out), _line(count))


def mean(values: F4, weights: F8, out: F4, count: U2, weight: F4) -> None:
    """Weighted mean of the finite values of each pixel.

    Parameters
    ----------
    values : (n, rows, nx)
        NaN and infinity count as missing.
    weights : (n,)
        Of the images, positive [1 / unit², as a rule].
    out : (rows, nx)
        Gets the means, NaN where there are no values.
    count : (rows, nx)
        Gets the number of finite values.
    weight : (rows, nx)
        Gets the sum of their weights.
    """
    planes = _line(out), _line(count), _line(weight)
    _mean(_flat(values), np.stack([weights, np.zeros(len(weights))]), planes)


def clipped(
    values: F4, weights: F8, sigmas: F8 | None, clip: float, share: float, out: F4, count: U2, weight: F4
) -> None:
    """Weighted mean of the values near the median of their pixel.

    Value j is used when it differs from the median by at most ``clip * sigma_j + share * |median|``. One
    value, or two, are all used, however they differ: a cosmic ray cannot be told from two. Where no value
    is near the median of an even number, as when half of them are hit, the lower of the middle two takes
    its place: light only adds.

    Without ``sigmas`` the scatter is the pixel's own: 1.4826 times the median absolute deviation, made
    larger by what that lacks for few values, and values too far away are left out until none is, ten times
    at most. Less than four values are all used, and each time at least half of the rest. A deviation of 0
    tells nothing, and nothing is left out, but of whole numbers: it is then taken as half a step, the most
    that rounding can hide. The scatter of few values is uncertain: of 4 to 9 normal deviates 2 to 4 % are
    left out at 4 sigma, of 24 and more less than 0.3 %.

    Parameters
    ----------
    values : (n, rows, nx)
        NaN and infinity count as missing.
    weights : (n,)
        Of the images, positive [1 / unit², as a rule].
    sigmas : (n,) or None
        Standard deviation of the sky of each image [unit of the values].
    clip, share : float
        Sigma, and fraction of the median, by which a value may differ.
    out : (rows, nx)
        Gets the means, NaN where there are no values.
    count : (rows, nx)
        Gets the number of values that were used.
    weight : (rows, nx)
        Gets the sum of their weights.
    """
    flat, pairs = _flat(values), network(len(values))
    planes = _line(out), _line(count), _line(weight)
    images = np.stack([weights, np.zeros(len(weights)) if sigmas is None else clip * sigmas])
    if sigmas is None:
        _clipped_by_scatter(flat, pairs, images, (float(clip), float(share)), np.array(FEW), planes)
    else:
        _clipped_by_sigma(flat, pairs, images, float(share), planes)


def scratch(n: int) -> int:
    """Bytes that one call needs beside its arguments, for n images, at most."""
    return LANES * (12 * n + 64) + 16 * _pairs((n - 1).bit_length())


def _flat(values: F4) -> F4:
    """(n, rows, nx) as (n, pixels), not copied when it is contiguous."""
    flat: F4 = np.ascontiguousarray(values, dtype=np.float32).reshape(len(values), -1)
    return flat


def _line(plane: P) -> P:
    """(rows, nx) as (pixels,), the same memory."""
    if not plane.flags.c_contiguous:
        raise ValueError("results go into contiguous arrays only")  # a copy would swallow them
    return cast(P, plane.reshape(-1))


@compiled
def network(n: int) -> I4:
    """Pairs of rows (k, 2) whose sorting puts the middle two of n rows, n // 2 - 1 and n // 2, in place."""
    b = 0
    while 1 << b < n:
        b += 1
    pairs = np.empty((_pairs(b), 2), np.int32)
    count, p = 0, 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(j, min(j + k, n - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        pairs[count, 0], pairs[count, 1] = i, i + k
                        count += 1
            k //= 2
        p *= 2
    wanted = np.zeros(n, np.bool_)
    wanted[n // 2] = True
    wanted[max(n // 2 - 1, 0)] = True
    first = count  # what is needed moves to the end
    for q in range(count - 1, -1, -1):
        i, j = pairs[q, 0], pairs[q, 1]
        if wanted[i] or wanted[j]:
            wanted[i] = wanted[j] = True
            first -= 1
            pairs[first, 0], pairs[first, 1] = i, j
    return pairs[first:count].copy()


@compiled
def _pairs(b: int) -> int:
    """Pairs of Batcher's network for 2^b rows, and one."""
    return ((b * b - b + 4) << b) // 4


@compiled
def _sort(keys: I4, pairs: I4) -> None:
    """Put every pair of rows in order, one after the other."""
    for q in range(len(pairs)):
        a, b = keys[pairs[q, 0]], keys[pairs[q, 1]]
        for k in range(LANES):
            x, y = a[k], b[k]
            a[k] = x if x < y else y
            b[k] = y if x < y else x


@compiled
def _middle(bits: I4, at: int, used: int, keys: I4, pairs: I4, ends: F4, count: I4) -> None:
    """The middle two (2, LANES) of the finite values of ``used`` pixels from ``at`` on; twice one if odd.

    Missing values become by turns the largest and the smallest of all, so that the middle stays the middle
    and one network will do for any number of them.
    """
    n = len(bits)
    count[:] = 0  # of missing values, at first
    for j in range(n):
        row, source = keys[j], bits[j, at : at + used]
        for k in range(used):
            b = source[k]
            missing = (b & np.int32(_EXPONENT)) == np.int32(_EXPONENT)
            fill = np.int32(-2147483648) if count[k] & 1 else np.int32(_OTHERS)
            row[k] = fill if missing else b ^ ((b >> 31) & np.int32(_OTHERS))
            count[k] += np.int32(missing)
    _sort(keys, pairs)
    found = ends.view(np.int32)
    for k in range(used):
        lower = upper = n // 2
        if n % 2 == 0 or count[k] & 1:
            lower -= 1
        if n % 2 == 0 and count[k] & 1:
            upper -= 1
        a, b = keys[lower, k], keys[upper, k]
        found[0, k] = a ^ ((a >> 31) & np.int32(_OTHERS))
        found[1, k] = b ^ ((b >> 31) & np.int32(_OTHERS))
        count[k] = n - count[k]
        if count[k] == 0:
            ends[0, k] = ends[1, k] = np.nan


@compiled
def _sum_near(values: F4, at: int, used: int, images: F8, near: F8, sums: F8, count: I4) -> None:
    """Sums (2, LANES) of weight * value and of weight, and counts, of the finite values near something.

    ``images`` (2, n): weights, and how far a value may be from ``near[0]`` (LANES), ``near[1]`` besides.
    """
    sums[:, :used] = 0
    count[:used] = 0
    for j in range(len(values)):
        source, weight, reach = values[j, at : at + used], images[0, j], images[1, j]
        for k in range(used):
            value = np.float64(source[k])
            good = abs(value) <= _LARGEST and abs(value - near[0, k]) <= reach + near[1, k]
            sums[0, k] += weight * value if good else 0.0
            sums[1, k] += weight if good else 0.0
            count[k] += np.int32(good)


@compiled
def _median(bits: I4, pairs: I4, out: F4, count: U2) -> None:
    """`median` of (n, pixels), the bits of the values."""
    keys = np.zeros((len(bits), LANES), np.int32)
    ends, found = np.empty((2, LANES), np.float32), np.empty(LANES, np.int32)
    for at in range(0, len(out), LANES):
        used = min(LANES, len(out) - at)
        _middle(bits, at, used, keys, pairs, ends, found)
        for k in range(used):
            out[at + k] = _half(ends, k)
            count[at + k] = found[k]


@compiled
def _half(ends: F4, k: int) -> float:
    """Between two floats whose sum may not be one."""
    return 0.5 * (np.float64(ends[0, k]) + np.float64(ends[1, k]))


@compiled
def _mean(values: F4, images: F8, planes: tuple[F4, U2, F4]) -> None:
    """`mean` of (n, pixels)."""
    near, sums, found = np.zeros((2, LANES)), np.empty((2, LANES)), np.empty(LANES, np.int32)
    near[1] = np.inf
    for at in range(0, len(planes[0]), LANES):
        used = min(LANES, len(planes[0]) - at)
        _sum_near(values, at, used, images, near, sums, found)
        _put(planes, at, used, sums, found)


@compiled
def _put(planes: tuple[F4, U2, F4], at: int, used: int, sums: F8, found: I4) -> None:
    """Write means, counts and weights of a block; 0 / 0 is NaN."""
    out, count, weight = planes
    for k in range(used):
        out[at + k] = sums[0, k] / sums[1, k]
        count[at + k] = found[k]
        weight[at + k] = sums[1, k]


@compiled
def _clipped_by_sigma(values: F4, pairs: I4, images: F8, share: float, planes: tuple[F4, U2, F4]) -> None:
    """`clipped` of (n, pixels), ``images`` being weights and clip * sigma."""
    n = len(values)
    bits, keys, ends = values.view(np.int32), np.zeros((n, LANES), np.int32), np.empty((2, LANES), np.float32)
    near, sums = np.zeros((2, LANES)), np.empty((2, LANES))
    found, used_of = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    for at in range(0, len(planes[0]), LANES):
        used = min(LANES, len(planes[0]) - at)
        _middle(bits, at, used, keys, pairs, ends, found)
        for k in range(used):
            near[0, k] = _half(ends, k)
            near[1, k] = np.inf if found[k] < 3 else share * abs(near[0, k])
        _sum_near(values, at, used, images, near, sums, used_of)
        split = False
        for k in range(used):
            if used_of[k] == 0 and found[k] > 0:
                near[0, k] = np.float64(ends[0, k])
                near[1, k] = share * abs(near[0, k])
                split = True
        if split:
            _sum_near(values, at, used, images, near, sums, used_of)
        _put(planes, at, used, sums, used_of)


@compiled
def _clipped_by_scatter(
    values: F4, pairs: I4, images: F8, rule: tuple[float, float], few: F8, planes: tuple[F4, U2, F4]
) -> None:
    """`clipped` of (n, pixels) without sigmas; ``images`` are weights and zeros, ``rule`` clip and share."""
    n = len(values)
    block, away = np.full((n, LANES), np.float32(np.nan)), np.full((n, LANES), np.float32(np.nan))
    keys, whole = np.zeros((n, LANES), np.int32), np.empty(LANES, np.bool_)
    near, sums, found = np.zeros((2, LANES)), np.empty((2, LANES)), np.empty(LANES, np.int32)
    near[1] = np.inf
    for at in range(0, len(planes[0]), LANES):
        used = min(LANES, len(planes[0]) - at)
        whole[:] = True
        for j in range(n):
            for k in range(used):
                value = values[j, at + k]
                good = abs(value) <= _LARGEST
                block[j, k] = value if good else np.float32(np.nan)
                whole[k] &= not good or (value == np.floor(value) and abs(value) < _WHOLE)
        for _ in range(ROUNDS):
            if not _reject(block, away, keys, pairs, whole, rule, few):
                break
        _sum_near(block, 0, used, images, near, sums, found)
        _put(planes, at, used, sums, found)


@compiled
def _reject(
    block: F4,
    away: F4,
    keys: I4,
    pairs: I4,
    whole: NDArray[np.bool_],
    rule: tuple[float, float],
    few: F8,
) -> bool:
    """Make values of a block that are too far from the median of their pixel NaN; whether there were any."""
    n, (clip, share) = len(block), rule
    ends, count = np.empty((2, LANES), np.float32), np.empty(LANES, np.int32)
    centre, reach = np.empty(LANES), np.empty(LANES, np.float32)
    _middle(block.view(np.int32), 0, LANES, keys, pairs, ends, count)
    for k in range(LANES):
        centre[k] = _half(ends, k)
    for j in range(n):
        for k in range(LANES):
            off = abs(np.float64(block[j, k]) - centre[k])
            away[j, k] = _LARGEST if off > _LARGEST else off
    _middle(away.view(np.int32), 0, LANES, keys, pairs, ends, count)
    for k in range(LANES):
        scatter, m = _half(ends, k), count[k]
        if whole[k]:
            scatter = max(scatter, 0.5)
        if m < FEWEST or scatter == 0:
            reach[k] = np.inf
            continue
        sigma = NORMAL * scatter * (few[m - FEWEST] if m - FEWEST < len(few) else m / (m - 0.8))
        reach[k] = max(clip * sigma + share * abs(centre[k]), np.float64(ends[0, k]))
    changed = False
    for j in range(n):
        for k in range(LANES):
            if away[j, k] > reach[k]:
                block[j, k] = np.nan
                changed = True
    return changed
