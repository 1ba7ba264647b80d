"""Trails of saturated stars along rows and columns of D: charge that spilt or was read out late.

They are faint beside the stars of a crowd, and plain in a difference, which has no stars.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from zogyp.core.counting import block_means, less_sides
from zogyp.core.islands import islands, neighbours
from zogyp.core.masks import places
from zogyp.image import FloatImage
from zogyp.measure.robust import robust_sigma

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
LEAST_AREA = 8  # saturated pixels of a star below which it leaves no trail
ODDEST = 20.0  # of D, beyond which a pixel counts no more
BLOCK = 12  # px along a trail that are averaged, at least
WIDER = 3.0  # FWHM: the same; a source fills two blocks at most
SURE = 5.0  # spreads of all blocks of the image beyond which a block belongs to a trail
FADING = 2.5  # the same for a block that only continues one
GAP = 2  # blocks that a trail may miss in a row: a source lies on it
FEWEST = 3  # sure blocks of a trail
SHARE = 0.65  # of its blocks up to the last sure one: two sources in a row are no trail


def trails(d: FloatImage, saturated: Bool, bad: Bool, fwhm: float) -> Bool:
    """Pixels of trails: runs of blocks in the rows and columns of a saturated core that stand off the rest.

    Parameters
    ----------
    d : (ny, nx)
        Difference, noise of about unit variance; no NaN.
    saturated, bad : (ny, nx)
        Saturated pixels of either image; all that cannot be used, these included.
    fwhm : float
        Of the PSF of D [px]: by half of it a trail of one pixel is smeared to either side.

    Returns
    -------
    ndarray, bool, (ny, nx)
    """
    found = np.zeros(saturated.shape, dtype=bool)
    cores = _cores(saturated)
    if not cores:
        return found
    smear, step = int(np.ceil(fwhm / 2)), max(BLOCK, int(np.ceil(WIDER * fwhm)))
    across, down = block_means(d, bad, step, ODDEST)
    for means, out, along in ((across, found, 0), (down, found.T, 1)):
        blocks, noise = _apart(means, smear + 2)
        if not noise > 0:
            continue
        for core in cores:
            rows, columns = core if along == 0 else core[::-1]
            for row in range(max(rows.start - smear, 0), min(rows.stop + smear, len(means))):
                for low, high in _runs(blocks[row] / noise, columns, step):
                    out[max(row - smear, 0) : row + smear + 1, low:high] = True
    return found


def _cores(saturated: Bool) -> list[tuple[slice, slice]]:
    """Boxes of the saturated stars that are large enough."""
    y, x = (a.astype(np.int32) for a in places(saturated))
    star, _ = islands(x, y, np.ones(x.size, np.float32), neighbours(x, y))
    cores = []
    for one in np.flatnonzero(np.bincount(star) >= LEAST_AREA) if x.size else ():
        its = star == one
        cores.append((slice(y[its].min(), y[its].max() + 1), slice(x[its].min(), x[its].max() + 1)))
    return cores


def _apart(means: F8, beside: int) -> tuple[F8, float]:
    """Means of each row's blocks less those of rows ``beside`` it, and their spread."""
    ny, n = means.shape
    if n < 4 or ny < 4 * beside:
        return np.zeros((ny, max(n, 1))), 0.0
    apart = less_sides(means, beside, beside + 1)
    noise = robust_sigma(apart[np.isfinite(apart)])
    return apart, noise


def _runs(height: F8, core: slice, size: int) -> Iterator[tuple[int, int]]:
    """Columns (from, to) of the trails of one row that begin at a core, on either side."""
    first, last = core.start // size, (core.stop - 1) // size
    for blocks, step in ((range(last + 1, height.size), 1), (range(first - 1, -1, -1), -1)):
        run: list[int] = []
        sign, missed = 0.0, 0
        for i in blocks:
            value = height[i]
            if np.isnan(value):  # another star's core lies across
                continue
            sign = sign or float(np.sign(value))
            missed = missed + 1 if value * sign < FADING else 0
            if missed > GAP or (not run and missed):
                break
            if not missed:
                run.append(i)
        sure = [i for i in run if height[i] * sign > SURE]
        if len(sure) >= FEWEST and len(sure) > SHARE * (abs(sure[-1] - run[0]) + 1):
            ends = (core.stop, (run[-1] + 1) * size) if step > 0 else (run[-1] * size, core.start)
            yield ends
