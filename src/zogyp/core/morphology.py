"""Growing masks: what lies near marked pixels, in one pass over the image however far "near" is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled, inner

Bool = NDArray[np.bool_]
I4 = NDArray[np.int32]
BLOCK = 256  # columns looked at together
FAR = -(2**31)


def dilated(mask: Bool, side: int, *, border: bool = False) -> Bool:
    """True where any pixel of the square of odd ``side`` around is True.

    Parameters
    ----------
    mask : (ny, nx) bool
    side : of the square [px]; 1 changes nothing.
    border : what lies beyond the image counts as True.

    Returns
    -------
    (ny, nx) bool
    """
    out = np.empty(mask.shape, dtype=np.bool_)
    _dilate(np.ascontiguousarray(mask), side // 2, border, out)
    return out


@compiled
def _dilate(mask: Bool, h: int, border: bool, out: Bool) -> None:
    """Row by row: the last row in which a column, or one within h of it, was True tells."""
    ny, nx = mask.shape
    last = np.full(nx, -1 if border else FAR, np.int32)
    for lead in range(ny + h):
        if lead < ny:
            _row(mask[lead], h, border, np.int32(lead), last)
        elif border:
            last[:] = lead
        if lead >= h:
            _reached(last, np.int32(lead - 2 * h), out[lead - h])


@inner
def _row(row: Bool, h: int, border: bool, y: np.int32, last: I4) -> None:
    """Set ``last`` to y in all columns within h of a True one."""
    nx = row.size
    if border:
        last[:h], last[max(nx - h, 0) :] = y, y
    for first in range(0, nx, BLOCK):
        block = row[first : first + BLOCK]
        some = np.uint8(0)
        for u in range(block.size):  # most blocks have none: looked for many pixels at a time
            some |= np.uint8(block[u])
        if some:
            _mark(row, first, first + block.size, h, y, last)


@inner
def _mark(row: Bool, first: int, end: int, h: int, y: np.int32, last: I4) -> None:
    """Set ``last`` to y in all columns within h of a True one among first..end."""
    seen = FAR
    for lead in range(first, end):
        if row[lead]:
            seen = lead
        if seen >= lead - 2 * h and lead >= h:
            last[lead - h] = y
    for lead in range(max(end, h), min(end + 2 * h, row.size + h)):
        if seen >= lead - 2 * h:
            last[lead - h] = y


@inner
def _reached(last: I4, y: np.int32, out: Bool) -> None:
    for x in range(out.size):
        out[x] = last[x] >= y
