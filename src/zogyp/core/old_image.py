"""An image made ready to be put onto another grid: holes filled, values filtered, flags spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zogyp.core import kernels
from zogyp.core.counting import extremes
from zogyp.core.inpaint import LARGEST, fill, spread_bits
from zogyp.core.jit import compiled
from zogyp.core.kernels import PAD
from zogyp.core.planes import copied, like

F4 = NDArray[np.float32]
U2 = NDArray[np.uint16]

REACH = 4  # px within which a hole still tells: the cardinal weights beyond are below 0.013
SATURATED_REACH = 6  # the same for saturated pixels: a core is missed by more; below 0.003


@dataclass(frozen=True)
class Bits:
    """Bits of a mask: ``unusable`` is all bits of pixels whose value must not be used, the others one bit."""

    unusable: int
    saturated: int
    no_data: int
    reached: int


@dataclass(frozen=True)
class Planes:
    """An image: ``data`` float32, ``mask`` uint16, ``variance`` float32 or None, all (ny, nx)."""

    data: F4
    mask: U2
    variance: F4 | None = None


class Old(NamedTuple):
    """The old image made ready."""

    coefficients: F4  # flat, padded
    variance: F4  # flat, padded; empty when there is none
    mask: U2  # flat, spread; empty when nothing is flagged
    data: F4
    shape: tuple[int, int]


def ready(planes: Planes, bits: Bits, chosen: kernels.Kernel, wider: int, n_threads: int) -> Old:
    """Fill what is bad, filter, and spread the mask; nothing is done for a mask without flags."""
    data = np.ascontiguousarray(planes.data, dtype=np.float32)
    mask = np.ascontiguousarray(planes.mask, dtype=np.uint16)
    values, spread, bad = data, np.empty(0, np.uint16), None
    if _any_flag(data, mask):
        bad = like(data, np.bool_)
        mask = _told(data, mask, bits, bad)
        values = fill(data, bad)
        spread = copied(mask)
        kinds = (bits.unusable | bits.no_data, bits.saturated, bits.reached)
        spread_bits(mask, kinds, (1 + wider, REACH + wider, SATURATED_REACH + wider), spread)
    if chosen.prefilter:
        coefficients = kernels.prefilter(values, pad=PAD, n_threads=n_threads)
    else:
        coefficients = kernels.padded(values, PAD)
    del values  # large images
    variance = np.empty(0, np.float32)
    if planes.variance is not None:
        given = np.ascontiguousarray(planes.variance, dtype=np.float32)
        variance = kernels.padded(_good_variance(given, bad), PAD).ravel()
    return Old(coefficients.ravel(), variance, spread.ravel(), data, (data.shape[0], data.shape[1]))


def _good_variance(variance: F4, bad: NDArray[np.bool_] | None) -> F4:
    """The variance with all that is bad filled."""
    wrong = ~((variance > 0) & (variance < LARGEST))
    if bad is not None:
        wrong |= bad
    if not wrong.any():
        return variance
    filled, (least, _) = fill(variance, wrong), extremes(variance, ~wrong)
    # a bent plate may dip below
    filled[wrong] = np.maximum(filled[wrong], np.float32(least) if np.isfinite(least) else 0)
    return filled


def _told(data: F4, mask: U2, bits: Bits, bad: NDArray[np.bool_]) -> U2:
    """Set where pixels are ``bad``; the mask, or one that says ``no_data`` where they are not finite."""
    if _lost(data, mask, bits.unusable, bad):
        mask = mask.copy()
        mask[~(np.abs(data) < LARGEST)] |= bits.no_data
    return mask


@compiled
def _lost(data: F4, mask: U2, unusable: int, bad: NDArray[np.bool_]) -> int:
    """Set where pixels are unusable or not finite; how many of these there are."""
    n = 0
    for y in range(data.shape[0]):
        for x in range(data.shape[1]):
            infinite = not abs(data[y, x]) < LARGEST
            n += infinite
            bad[y, x] = infinite | ((mask[y, x] & unusable) != 0)
    return n


@compiled
def _any_flag(data: F4, mask: U2) -> bool:
    """Whether any pixel is flagged or not finite."""
    for y in range(data.shape[0]):
        found = False
        for x in range(data.shape[1]):
            found |= (mask[y, x] != 0) | (not abs(data[y, x]) < LARGEST)
        if found:
            return True
    return False
