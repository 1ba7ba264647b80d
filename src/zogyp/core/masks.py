"""Bits of masks: looked for and set by bands of rows, so that nothing image-sized is made besides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.planes import like
from zogyp.core.threads import bands


def has(mask: NDArray[np.uint16], bits: int) -> NDArray[np.bool_]:
    """Where a mask has one of the bits."""
    out = like(mask, np.bool_)
    for rows in bands(len(mask)):
        np.not_equal(mask[rows] & np.uint16(bits), 0, out=out[rows])
    return out


def marked(mask: NDArray[np.uint16], where: NDArray[np.bool_], bits: int) -> NDArray[np.uint16]:
    """The mask with more bits where asked; itself where that is nowhere."""
    if not where.any():
        return mask
    out = like(mask, np.uint16)
    for rows in bands(len(mask)):
        np.bitwise_or(mask[rows], where[rows] * np.uint16(bits), out=out[rows])
    return out
