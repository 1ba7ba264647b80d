"""Growing masks: what lies near marked pixels, in one pass over the image however far "near" is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled, inner

Bool = NDArray[np.bool_]
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
    last = np.full(nx, -1 if border else FAR, np.int64)
    for lead in range(ny + h):
        if lead < ny:
            _row(mask[lead], h, border, lead, last)
        elif border:
            last[:] = lead
        y = lead - h
        if y >= 0:
            for x in range(nx):
                out[y, x] = last[x] >= y - h


@inner
def _row(row: Bool, h: int, border: bool, y: int, last: NDArray[np.int64]) -> None:
    """Set ``last`` to y in all columns within h of a True one."""
    nx = row.size
    seen = -1 if border else FAR
    for lead in range(nx + h):
        if lead < nx:
            if row[lead]:
                seen = lead
        elif border:
            seen = lead
        if seen >= lead - 2 * h and lead >= h:
            last[lead - h] = y
