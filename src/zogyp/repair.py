"""Bad pixels, and those beyond the border, before the Fourier transform.

What to put there, how unsure it is, and how far it reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zogyp.core.filters import gaussian
from zogyp.core.masks import has, marked
from zogyp.core.meshes import MeshSurface, in_bands
from zogyp.core.morphology import dilated
from zogyp.core.planes import like, room
from zogyp.core.rimmed import fill_rows, reaches
from zogyp.core.stamps import add_stars
from zogyp.core.threads import in_pairs
from zogyp.fluxscale import Match
from zogyp.image import Flag, FloatImage, MaskImage
from zogyp.measure.exposure import Exposure
from zogyp.measure.scene import star_radii

Bool = NDArray[np.bool_]
Stars = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # x, y [px], flux [ADU]
FILL_ERROR = 0.05  # of the light filled in: PSF wings of saturated stars are known to about this
UNJUDGED = 0.35  # share of the matched filter's weight on bad pixels beyond which a pixel is not judged
UNCOVERED = 0.02  # the same where the coverage ends


@dataclass(frozen=True)
class Repaired:
    """Pixels and variances ready for the transform, (ny + 2 pad, nx + 2 pad).

    Around the image lies a rim of ``pad`` pixels with the light of the stars that the border cuts:
    without it half a star would be compared with half of another PSF.
    """

    data: FloatImage
    variance: FloatImage
    pad: int


def repair(
    new: Exposure, ref: Exposure, matched: Match, fill_error: float = FILL_ERROR, n_threads: int = 1
) -> tuple[Repaired, Repaired]:
    """Fill the bad pixels of both images, and a rim around them, with what their stars' models say.

    A star saturated in both gets one flux, and both images are filled over both cores: an error
    of that flux then cancels in the difference. The fill's own error, ``fill_error`` of its light, is
    counted as variance.
    """
    fluxes = _common_fluxes(new, ref, matched)
    both = _saturated(new) & dilated(_saturated(ref), 5)
    either = (_saturated(new) | _saturated(ref)) & dilated(both, 15)
    del both  # masks of large images are large, too
    pad = max(new.psf.size, ref.psf.size) // 2
    stars_n, stars_r = ((e.sources.x, e.sources.y, f) for e, f in zip((new, ref), fluxes, strict=True))
    ratio = matched.flux_ratio.grid(new.sources.x, new.sources.y)
    seen_n = (new.sources.x, new.sources.y, fluxes[0] * ratio)
    ratio = matched.flux_ratio.grid(ref.sources.x, ref.sources.y)
    seen_r = (ref.sources.x, ref.sources.y, fluxes[1] / ratio)
    jobs = (
        (new, ~new.image.good | either, _with_hidden(new, stars_n, seen_r), pad, fill_error),
        (ref, ~ref.image.good | either, _with_hidden(ref, stars_r, seen_n), pad, fill_error),
    )
    del either
    one, other = in_pairs(lambda job: _filled(*job), jobs, n_threads)
    return one, other


def _with_hidden(exposure: Exposure, own: Stars, others: Stars) -> Stars:
    """An image's stars, and those that only the other image shows because this one has no pixels there.

    Where the coverage of one image ends, a star beyond shines across: the other image shows all of its light,
    and what is filled in here must match.
    """
    x, y, flux = others
    ny, nx = exposure.image.shape
    row, column = np.rint(y).astype(int).clip(0, ny - 1), np.rint(x).astype(int).clip(0, nx - 1)
    hidden = _gone(exposure)[row, column] & (flux > 0)
    if own[0].size and hidden.any():
        near, _ = cKDTree(np.column_stack(own[:2])).query(np.column_stack([x, y]))
        hidden &= near > max(3.0, exposure.psf.fwhm)
    a, b, c = (np.concatenate([mine, its[hidden]]) for mine, its in zip(own, others, strict=True))
    return a, b, c


def _gone(exposure: Exposure) -> Bool:
    """Where an image has no data over an area as large as a star: no bad pixel or column, but no coverage."""
    empty = has(exposure.image.mask, Flag.NO_DATA)
    if not empty.any():
        return empty
    side = 2 * int(np.ceil(exposure.psf.fwhm)) + 1
    return dilated(~dilated(~empty, side), side)  # opened


def _as_light(where: Bool, beside: MaskImage) -> FloatImage:
    """1 where asked, else 0, kept where the plane ``beside`` is."""
    light: FloatImage = like(beside)
    np.copyto(light, where)
    return light


def _saturated(exposure: Exposure) -> Bool:
    return has(exposure.image.mask, Flag.SATURATED)


def _common_fluxes(
    new: Exposure, ref: Exposure, matched: Match
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fluxes of all sources, those saturated or cut by the border from the two images together."""
    f_n, f_r = new.sources.flux.copy(), ref.sources.flux.copy()
    i = np.flatnonzero(_partly_seen(new))
    j = np.flatnonzero(_partly_seen(ref))
    for one, other, ratio, f_one, f_other, index in (
        (new, ref, 1.0, f_n, f_r, i),
        (ref, new, -1.0, f_r, f_n, j),
    ):
        if index.size == 0 or len(other.sources) == 0:
            continue
        partly = set(np.flatnonzero(_partly_seen(other)).tolist())
        tree = cKDTree(np.column_stack([other.sources.x, other.sources.y]))
        at = np.column_stack([one.sources.x[index], one.sources.y[index]])
        distance, partner = tree.query(at, distance_upper_bound=max(3.0, one.psf.fwhm))
        for m, d, p in zip(index, distance, partner, strict=True):
            if not np.isfinite(d):
                continue
            scale = matched.flux_ratio.at(one.sources.x[m], one.sources.y[m]) ** ratio
            w1 = _weight(one, int(m)) / scale**2
            w2 = _weight(other, int(p))
            mean = (w1 * f_one[m] * scale + w2 * f_other[p]) / (w1 + w2)
            f_one[m] = mean / scale
            if p in partly:
                f_other[p] = mean
    return f_n, f_r


def _partly_seen(exposure: Exposure) -> Bool:
    """Sources whose core is saturated, masked or cut by the border."""
    s, (ny, nx) = exposure.sources, exposure.image.shape
    rim = 1.5 * exposure.psf.fwhm
    cut: Bool = (s.x < rim) | (s.y < rim) | (s.x > nx - 1 - rim) | (s.y > ny - 1 - rim)
    return s.saturated | cut


def _weight(exposure: Exposure, m: int) -> float:
    """Inverse variance of a source's flux; saturated ones are known by their wings only."""
    s = exposure.sources
    relative = FILL_ERROR if s.saturated[m] else 0.005
    return float(1 / (s.flux_err[m] ** 2 + (relative * s.flux[m]) ** 2 + 1e-300))


def _filled(exposure: Exposure, bad: Bool, stars: Stars, pad: int, fill_error: float) -> Repaired:
    """An exposure's pixels with the bad ones and the rim replaced by the model of stars (x, y, flux)."""
    psf = exposure.psf
    x, y, flux = stars
    ny, nx = bad.shape
    shape = (ny + 2 * pad, nx + 2 * pad)
    data, variance = room(exposure.data, shape), room(exposure.data, shape)
    column, row = (np.round(at).astype(np.int64) for at in (x, y))
    index = np.flatnonzero((flux > 0) & reaches(bad, column, row, int(psf.size // 2)))
    model = variance  # lent, until the variance comes
    model[:] = 0
    terms = np.ascontiguousarray(psf.terms(x[index], y[index]).T)
    radius = star_radii(psf, flux, exposure.sigma)[index]
    planes = psf.coefficients / psf.total
    add_stars(model, x[index] + pad, y[index] + pad, flux[index], radius, terms, planes, psf.sampling)
    pixels = (exposure.data, exposure.variance)
    for first, sky in _with_rim(exposure.noise.sigma, pad):
        fill_rows(pixels, bad, sky, first, fill_error, (data, variance))
    return Repaired(data, variance, pad)


def _with_rim(surface: MeshSurface, pad: int) -> Iterator[tuple[int, FloatImage]]:
    """A surface by bands of rows, each with its first row counted from the rim's."""
    ny = surface.shape[0]
    yield 0, np.repeat(surface.rows(0, 1), pad, axis=0)
    for rows, values in in_bands(surface):
        yield pad + rows.start, values
    yield pad + ny, np.repeat(surface.rows(ny - 1, ny), pad, axis=0)


def final_mask(new: Exposure, ref: Exposure, fwhm: float, reach: int) -> MaskImage:
    """Mask of the subtraction: the new image's bits low, the reference's high.

    Parameters
    ----------
    fwhm : float
        Of the matched filter [px].
    reach : int
        To which a kernel carries a bad pixel's influence [px].
    """
    mask: MaskImage = like(new.image.mask, np.uint16)
    np.left_shift(ref.image.mask, np.uint16(8), out=mask)
    mask |= new.image.mask
    for exposure, shift in ((new, 0), (ref, 8)):
        bad = ~exposure.image.good
        if not bad.any():
            continue
        width = fwhm / 2.355 / np.sqrt(2)
        unjudged = bad | (gaussian(_as_light(bad, mask), width, 3.0) > UNJUDGED)
        # what was cut by the end of the coverage, galaxies above all, is filled in less well than a hole
        gone = _gone(exposure)
        if gone.any():
            unjudged |= gaussian(_as_light(gone, mask), width, 3.0) > UNCOVERED
        # a single sharp pixel is filled so well that it tells nearby only
        single = has(exposure.image.mask, Flag.COSMIC_RAY)
        touched = dilated(bad & ~single, 2 * reach + 1)
        touched |= dilated(single, 2 * int(np.ceil(fwhm / 2)) + 1)
        for where, flag in ((unjudged, Flag.UNJUDGED), (touched, Flag.REACHED)):
            mask = marked(mask, where, flag << shift)
    for side in (np.s_[:reach], np.s_[-reach:], np.s_[:, :reach], np.s_[:, -reach:]):
        mask[side] |= np.uint16(Flag.EDGE)
    return mask
