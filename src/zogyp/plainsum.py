"""How deep a plain combination of exposures is: its weight, its variance, and why a pixel has none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zogyp.image import Flag, FloatImage, MaskImage
from zogyp.scaled import Scaled


def depth_of(
    frames: Sequence[Scaled], shape: tuple[int, int], adu: float
) -> tuple[FloatImage, FloatImage, MaskImage]:
    """Weight [1/ADU²] and variance [ADU²] of a mean weighted by depth, and its mask.

    Parameters
    ----------
    frames : sequence of Scaled
    shape : (ny, nx)
    adu : float
        Unit of flux in ADU of the first exposure.
    """
    weight, noise = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    why: MaskImage = np.zeros(shape, np.uint16)
    for one in frames:
        flux = one.flux_plane()
        own = np.where(one.unusable(), np.float32(0), (flux / one.frame.plane("sigma")) ** 2)
        weight += own
        noise += own**2 * one.frame.plane("variance") / flux**2
        why |= one.frame.plane("mask")
    empty = weight <= 0
    variance = noise / np.where(empty, 1, weight) ** 2 * np.float32(adu**2)
    variance[empty] = np.nan
    mask = np.where(empty, np.where(why > 0, why, np.uint16(Flag.NO_DATA)), np.uint16(0)).astype(np.uint16)
    return weight / np.float32(adu**2), variance, mask


def median_variance(count: NDArray[np.integer]) -> FloatImage:
    """Variance of a median over that of a mean of as many values of normal noise.

    Within 3 per cent of the exact values: 1.35 of three, 1.19 of four, pi / 2 of many.
    """
    n = np.maximum(count, 1).astype(np.float32)
    slope = np.where(count % 2 == 1, np.float32(np.pi / 2 - 1), np.float32(1.25))
    ratio = np.float32(np.pi / 2) / (1 + slope / n)
    return np.where(count <= 2, np.float32(1), ratio).astype(np.float32)
