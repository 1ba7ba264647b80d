"""Sources of one image: islands above a threshold, taken apart where several summits share one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from zogyp.core import islands
from zogyp.core.apertures import half_radii
from zogyp.core.filters import gaussian_taps
from zogyp.core.meshes import MeshSurface, in_bands
from zogyp.image import FloatImage
from zogyp.measure.sources import SIZED, Sources
from zogyp.options import DetectOptions

Bool = NDArray[np.bool_]
I4 = NDArray[np.int32]
SHARPEST = 0.15  # of the peak that the mean of two opposite neighbours has at least, with a PSF of 1.4 px
LEAST_PIXELS = 5  # of a source
LEAST_SUMMIT = 3  # pixels of a source above the place where it meets another
CONTRAST = 0.003  # of an island's light that a source holds above that place
RISES = 2.0  # sigma of the filtered noise by which its summit does
BROAD = 4.0  # gain in S/N of a broad source by the filter that is made use of at most
GROUP = 4_000_000  # pixels above the threshold that are worked on at a time
BLENDED = 1.5  # px from the barycentre of a source to its highest pixel, if it shares an island


def find_sources(
    data: FloatImage,
    sigma: MeshSurface,
    bad: Bool,
    options: DetectOptions = DetectOptions(),
    fwhm: float = 2.5,
) -> Sources:
    """Detect sources, brightest first.

    Parameters
    ----------
    data : ndarray, float32, (ny, nx)
        Pixels with the background taken off [ADU]; saturated ones may stay in.
    sigma : MeshSurface
        Standard deviation of the sky [ADU].
    bad : ndarray, bool, (ny, nx)
        Pixels not to be trusted: saturated, masked.
    fwhm : float
        Of the Gaussian filter [px].

    Returns
    -------
    Sources
        Without those sharper than any PSF: cosmic rays and hot pixels. Half-light radii of the brightest
        `SIZED` only; those of the others are 0.
    """
    data = np.ascontiguousarray(data, dtype=np.float32)
    taps = gaussian_taps(fwhm / 2.3548, 2.3548 * int(np.ceil(fwhm)) / fwhm)
    gain = 1 / float((taps.astype(np.float64) ** 2).sum())  # in S/N of a broad source, over single pixels
    threshold = options.threshold / min(gain, BROAD)
    found = []
    for x, y, height in _in_groups(*_above(data, taps, sigma, threshold)):
        source, shared = _sources(x, y, height, RISES / gain)
        found.append((*islands.measured(x, y, height, source, data, bad, shared.size), shared))
    sums, whole, touched, blended = (np.concatenate(parts) for parts in zip(*found, strict=True))
    enough = whole[:, 0] >= LEAST_PIXELS
    sums, whole = sums[enough], whole[enough]
    touched, blended = touched[enough], blended[enough]
    px, py = whole[:, 1], whole[:, 2]
    # the peak is a better first position than the barycentre of a blend
    far = blended & (np.hypot(sums[:, 1] - px, sums[:, 2] - py) > BLENDED)
    x_at, y_at = (np.where(far, p, c) for p, c in ((px, sums[:, 1]), (py, sums[:, 2])))
    unit = sigma.at(px.astype(np.float64), py.astype(np.float64))
    flux, peak, n = sums[:, 0], sums[:, 4], whole[:, 0]
    use = (peak * np.sqrt(n) > options.threshold * unit) & ~sharp(data, unit, px, py)
    order = np.argsort(-flux, kind="stable")
    order = order[use[order]]
    some = order[:SIZED]
    reach = np.clip(6 * sums[some, 3], 6, 40)
    radius = np.zeros(order.size)
    radius[: some.size] = half_radii(data, bad, x_at[some], y_at[some], reach, flux[some])
    return Sources(
        x=x_at[order],
        y=y_at[order],
        flux=flux[order],
        flux_err=(np.sqrt(n) * unit)[order],
        peak=peak[order],
        radius=np.nan_to_num(radius),
        saturated=touched[order],
    )


def _above(
    data: FloatImage, taps: FloatImage, sigma: MeshSurface, threshold: float
) -> tuple[I4, I4, FloatImage]:
    """Columns, rows and filtered S/N of all pixels beyond the threshold, in reading order."""
    parts = [islands.above(data, taps, s, rows.start, threshold) for rows, s in in_bands(sigma)]
    x, y, height = (np.concatenate([p[i] for p in parts]) for i in range(3))
    return x, y, height


def _in_groups(x: I4, y: I4, height: FloatImage) -> Iterator[tuple[I4, I4, FloatImage]]:
    """The pixels, those of an island together, in parts that need little memory for what follows."""
    if x.size <= GROUP:
        yield x, y, height
        return
    island, _ = islands.islands(x, y, height, islands.neighbours(x, y))
    # islands are named by their first pixels, so that those of a group lie together
    for first in range(0, x.size, GROUP):
        part = (island >= first) & (island < first + GROUP)
        yield x[part], y[part], height[part]


def _sources(x: I4, y: I4, height: FloatImage, rises: float) -> tuple[I4, Bool]:
    """Number of the source of each pixel, and of each source whether it shares its island."""
    links = islands.neighbours(x, y)
    island, total = islands.islands(x, y, height, links)
    order = islands.downwards(island, _falling(height))
    limits = (CONTRAST * total[island], rises, LEAST_SUMMIT)
    summit = islands.basins(x, y, height, links, order, limits)
    is_summit = np.zeros(x.size, np.bool_)
    is_summit[summit] = True
    number = np.cumsum(is_summit, dtype=np.int32) - 1
    home = island[is_summit]
    shared = np.bincount(home, minlength=x.size)[home] > 1
    return number[summit], shared


def _falling(height: FloatImage) -> NDArray[np.int64]:
    """Indices of positive heights from the highest down, equal ones in their order.

    Whole numbers that hold both, bits of a positive number rising with it, are sorted several times faster.
    """
    key = np.arange(height.size, dtype=np.uint64)
    key |= (~height.view(np.uint32)).astype(np.uint64) << np.uint64(32)
    key.sort()
    return (key & np.uint64(0xFFFFFFFF)).astype(np.int64)


def sharp(data: FloatImage, unit: NDArray[np.float64], x: NDArray[np.int64], y: NDArray[np.int64]) -> Bool:
    """Which peaks in noise ``unit`` are narrower than a pixel in x or in y: no PSF, however sharp, is."""
    ny, nx = data.shape
    peak = data[y, x]
    across = 0.5 * (data[y, np.maximum(x - 1, 0)] + data[y, np.minimum(x + 1, nx - 1)])
    along = 0.5 * (data[np.maximum(y - 1, 0), x] + data[np.minimum(y + 1, ny - 1), x])
    result: Bool = (np.minimum(across, along) < SHARPEST * peak) & (peak > 15 * unit)
    return result
