"""Pixels of an exposure that the other exposures contradict: cosmic rays, trails, whatever moves.

Twice. Before there is a coadd, against the median of all: only what no star of any seeing could be. Then
against what the coadd has the exposure show, through the exposure's own PSF: to the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zogyp.combination import combine
from zogyp.core.filters import filter_row, gaussian_taps, mirrored
from zogyp.core.jit import compiled
from zogyp.core.meshes import in_bands
from zogyp.core.proper import ProperSum
from zogyp.core.threads import BAND
from zogyp.frames import FrameRows
from zogyp.image import UNUSABLE, Flag, FloatImage
from zogyp.measure.background import mesh_level
from zogyp.options import BackgroundOptions, RejectOptions
from zogyp.scaled import Scaled

Bool = NDArray[np.bool_]
GROSS = 8.0  # sigma beyond which a pixel is out before there is a coadd
GROSS_SHARE = 1.5  # of the brightest neighbour in the median that a star of the same seeing may differ by
LEAST_SHARE = 1e-3  # of the noise that is left where one exposure holds all information
BRIGHT = 10.0  # sigma of the sky beyond which light must be the same in all exposures
ENOUGH = 100  # pixels of such light that can tell of a whole exposure
GROWTH = 6  # px along which the wings of what is out are followed
WIDE = 1.4  # times the threshold for what is as wide as a star: skies and PSFs are never known to their noise
WINGS = 2.5  # sigma beyond which a neighbour of what is out goes out too
WING, OUT = 1, 2  # what a pixel is: may be a wing of what is out; is out
HIDDEN = int(UNUSABLE & ~Flag.SATURATED)


def first_sky(frames: Sequence[Scaled], *, memory: int, n_threads: int) -> FloatImage:
    """The sky that most exposures show [flux], 0 where none shows any; a first guess, not PSF-matched.

    Of two exposures the fainter pixel is taken: they cannot outvote a cosmic ray, but it is bright.
    """
    sky: FloatImage | None = None
    for unusable in (int(UNUSABLE), HIDDEN):  # where all are saturated, that is what is known
        rows = [FrameRows(f.frame, f.scale, unusable) for f in frames]
        if len(rows) == 2:
            ny = rows[0].shape[0]
            found = np.fmin(rows[0].rows(0, ny), rows[1].rows(0, ny))
        else:
            found = combine(rows, method="median", memory=memory, n_threads=n_threads).data
        sky = found if sky is None else np.where(np.isfinite(sky), sky, found)
        if np.isfinite(sky).all():
            break
    assert sky is not None
    return np.nan_to_num(sky, copy=False, nan=0.0)


def star_share(typical: float, own: float) -> float:
    """Of the brightness of a star in the median of exposures, by how much it may differ in one of them.

    A star's peak goes with the inverse square of the seeing: ``typical`` of most, ``own`` of the one [px].
    """
    return GROSS_SHARE * max(1.0, (typical / own) ** 2)


@dataclass(frozen=True)
class Guess:
    """The sky as it seems before there is a coadd.

    Attributes
    ----------
    sky : (ny, nx) float32 [flux].
    fwhm : seeing of most exposures [px].
    bright : (ny, nx) float32: the largest value of the surroundings [flux].
    """

    sky: FloatImage
    fwhm: float
    bright: FloatImage


def guess(sky: FloatImage, fwhm: float) -> Guess:
    """A guess from its sky."""
    bright = np.empty_like(sky)
    _largest(np.abs(sky), 2, bright)
    return Guess(sky, fwhm, bright)


def gross(one: Scaled, first: Guess) -> tuple[FloatImage, Bool]:
    """An exposure's pixels, with what cannot be true replaced by the sky; and where that is.

    Parameters
    ----------
    one : Scaled
    first : Guess

    Returns
    -------
    data : (ny, nx) float32, its own ADU.
    bad : (ny, nx) bool.
    """
    flux = np.atleast_2d(one.flux_plane())
    planes = (one.frame.plane("data"), one.frame.plane("sigma"))
    share = np.float32(star_share(first.fwhm, one.frame.fwhm))
    data, bad = np.empty(planes[0].shape, np.float32), one.unusable()
    _replace_gross(planes, (first.sky, first.bright), flux, share, data, bad)
    return data, bad


@dataclass(frozen=True)
class Judgement:
    """An exposure's pixels beside what the coadd has it show.

    Attributes
    ----------
    data : (ny, nx) float32
        Its own pixels, on the sky level of the coadd; those that are bad replaced by the prediction.
    bad : (ny, nx) bool
    out : (n,) indices of pixels among the bad that the coadd contradicts.
    own, z : (n,) float32, what those pixels show, and how far from the prediction that is [sigma].
    contradicted : share of the light above 10 sigma of the sky that is contradicted, 0 ... 1.
    """

    data: FloatImage
    bad: Bool
    out: NDArray[np.intp]
    own: FloatImage
    z: FloatImage
    contradicted: float


def judged(
    one: Scaled, total: ProperSum, doubtful: Bool, options: RejectOptions, sky_options: BackgroundOptions
) -> Judgement:
    """Judge an exposure by the sum of all, this one among them.

    Parameters
    ----------
    doubtful : (ny, nx) bool
        Pixels that say nothing of its sky level.
    """
    unusable = one.unusable()
    prediction, variance = total.predict(one.view())  # the share of sigma² that is its variance, at first
    sigma, rest, loud = one.frame.plane("sigma"), np.empty_like(prediction), np.empty_like(unusable)
    planes = (one.frame.plane("data"), sigma, one.frame.plane("variance"), prediction)
    n_bright = _depart(planes, unusable, doubtful, np.float32(options.share), (rest, variance, loud))
    for rows, level in in_bands(mesh_level(rest, loud, sky_options.mesh)):
        rest[rows] -= level
    out, z = np.zeros(0, np.intp), np.zeros(0, np.float32)
    if options.outliers:
        out, z = outlying((rest, variance, prediction), unusable, one.frame.fwhm, options)
    rest += prediction
    own = rest.ravel()[out]
    bright = np.abs(prediction.ravel()[out]) > BRIGHT * np.sqrt(sigma.ravel()[out] ** 2)
    contradicted = int(np.count_nonzero(bright)) / n_bright if n_bright > ENOUGH else 0.0
    bad = unusable
    bad.ravel()[out] = True
    np.copyto(rest, prediction, where=bad)
    return Judgement(rest, bad, out, own, z, contradicted)


def outlying(
    planes: tuple[FloatImage, FloatImage, FloatImage], unusable: Bool, fwhm: float, options: RejectOptions
) -> tuple[NDArray[np.intp], FloatImage]:
    """Pixels too far off, with their wings, and faint outliers as wide as a star.

    What a star that varies, or an imperfect PSF, may leave counts as noise.

    Parameters
    ----------
    planes : deviations, their variance, what they are deviations from; (ny, nx) float32.
    unusable : (ny, nx) bool
        Pixels that say nothing.
    fwhm : of a star [px].
    options : RejectOptions

    Returns
    -------
    out : (n,) indices, rising.
    z : (n,) float32, how far off each is [sigma].
    """
    s = max(fwhm, 1.5) / 2.3548
    share = np.float32(options.share / options.threshold)
    limits = (np.float32(options.threshold), np.float32(WIDE * options.threshold))
    numbers, found = (share, np.float32(4 * np.pi * s**2), *limits), np.empty(unusable.shape, np.uint8)
    _mark(planes, unusable, gaussian_taps(s, 3.0), numbers, found)
    out = _grow(found)
    out = np.sort(out[~unusable.ravel()[out]])
    return out, _significances(planes, share, out)


@compiled
def _replace_gross(
    planes: tuple[FloatImage, FloatImage],
    sky: tuple[FloatImage, FloatImage],
    flux: FloatImage,
    share: np.float32,
    out: FloatImage,
    bad: Bool,
) -> None:
    """Pixels, with those that are bad or cannot be true replaced by the sky, and these marked as bad."""
    data, sigma = planes
    typical, bright = sky
    steady = np.full(data.shape[1], flux[0, 0], np.float32)
    for y in range(data.shape[0]):
        f = steady if flux.size == 1 else flux[y]
        for x in range(data.shape[1]):
            seen = f[x] * typical[y, x]
            # what is too bright adds to its own variance: that of the sky and of what should be there tells
            allowed = share * f[x] * bright[y, x] + np.float32(GROSS) * sigma[y, x]
            wrong = bad[y, x] or abs(data[y, x] - seen) > allowed
            bad[y, x] = wrong
            out[y, x] = seen if wrong else data[y, x]


@compiled
def _depart(
    planes: tuple[FloatImage, FloatImage, FloatImage, FloatImage],
    unusable: Bool,
    doubtful: Bool,
    share: np.float32,
    out: tuple[FloatImage, FloatImage, Bool],
) -> int:
    """Deviations from a prediction, their variance, what tells nothing of the sky; how many are bright."""
    data, sigma, noise, prediction = planes
    rest, variance, loud = out
    n_bright = 0
    for y in range(data.shape[0]):
        for x in range(data.shape[1]):
            sky, light = sigma[y, x] * sigma[y, x], abs(prediction[y, x])
            v = max(variance[y, x], np.float32(LEAST_SHARE)) * sky + max(noise[y, x] - sky, np.float32(0))
            d, model = data[y, x] - prediction[y, x], share * light
            rest[y, x], variance[y, x] = d, v
            loud[y, x] = unusable[y, x] | doubtful[y, x] | (d * d > np.float32(9) * (v + model * model))
            n_bright += (light > np.float32(BRIGHT) * np.sqrt(sky)) & ~unusable[y, x]
    return n_bright


@compiled
def _largest_row(plane: FloatImage, y: int, h: int, line: FloatImage, out: FloatImage) -> None:
    """The largest value within h px, along rows and columns, of each pixel of a row; ``line`` is scratch."""
    ny, nx = plane.shape
    line[:] = plane[y]
    for v in range(max(y - h, 0), min(y + h + 1, ny)):
        for x in range(nx):
            line[x] = max(line[x], plane[v, x])
    out[:] = line
    for k in range(1, h + 1):
        for x in range(nx - k):
            out[x] = max(out[x], line[x + k])
            out[x + k] = max(out[x + k], line[x])


@compiled
def _largest(plane: FloatImage, h: int, out: FloatImage) -> None:
    """`_largest_row` of all rows."""
    line = np.empty(plane.shape[1], np.float32)
    for y in range(plane.shape[0]):
        _largest_row(plane, y, h, line, out[y])


@compiled
def _band(
    planes: tuple[FloatImage, FloatImage, FloatImage],
    unusable: Bool,
    first: int,
    clipped: FloatImage,
    light: FloatImage,
) -> None:
    """Deviations of a few sigma at most, and light, of rows from ``first`` on, mirrored at the border.

    A sharp pixel is judged by itself and must not condemn its surroundings.
    """
    rest, variance, model = planes
    ny = rest.shape[0]
    for row in range(clipped.shape[0]):
        y = mirrored(first + row, ny)
        for x in range(clipped.shape[1]):
            limit, d = np.float32(4) * np.sqrt(variance[y, x]), rest[y, x]
            d = limit if d > limit else (-limit if d < -limit else d)
            clipped[row, x] = np.float32(0) if unusable[y, x] else d
            light[row, x] = abs(model[y, x])


@compiled
def _mark(
    planes: tuple[FloatImage, FloatImage, FloatImage],
    unusable: Bool,
    taps: FloatImage,
    numbers: tuple[np.float32, np.float32, np.float32, np.float32],
    found: NDArray[np.uint8],
) -> None:
    """`OUT` where a pixel, or what a star would see around it, is too far off; `WING` where it may be."""
    rest, variance, _ = planes
    share, pixels, threshold, wide_threshold = numbers
    (ny, nx), h = rest.shape, max(taps.size // 2, 1)
    clipped, light = np.empty((BAND + 2 * h, nx), np.float32), np.empty((BAND + 2 * h, nx), np.float32)
    line, peak = np.empty(nx + taps.size, np.float32), np.empty(nx, np.float32)
    smooth, halo = np.empty(nx, np.float32), np.empty(nx, np.float32)
    for y in range(ny):
        row = y % BAND + h
        if row == h:
            _band(planes, unusable, y - h, clipped, light)
        filter_row(clipped, taps, row, line, smooth)
        filter_row(light, taps, row, line, halo)
        _largest_row(light, row, 1, line[:nx], peak)
        for x in range(nx):
            v, sharp, wide = variance[y, x], share * peak[x], share * halo[x]
            z = np.float32(0) if unusable[y, x] else abs(rest[y, x]) / np.sqrt(v + sharp * sharp)
            out = (z > threshold) | (abs(smooth[x]) / np.sqrt(v / pixels + wide * wide) > wide_threshold)
            found[y, x] = OUT if out else (WING if z > np.float32(WINGS) else 0)


@compiled
def _grow(found: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Let what is out spread to wings that touch it, a pixel at a time; the indices of all that is out."""
    ny, nx = found.shape
    n, marked = 0, 0
    for y in range(ny):
        for x in range(nx):
            marked += found[y, x] > 0
    out = np.empty(marked, np.int64)
    for y in range(ny):
        for x in range(nx):
            if found[y, x] == OUT:
                out[n] = y * nx + x
                n += 1
    first = 0
    for _ in range(GROWTH):
        last = n
        for i in range(first, last):
            y, x = out[i] // nx, out[i] % nx
            for v in range(max(y - 1, 0), min(y + 2, ny)):
                for u in range(max(x - 1, 0), min(x + 2, nx)):
                    if found[v, u] == WING:
                        found[v, u] = OUT
                        out[n] = v * nx + u
                        n += 1
        first = last
    return out[:n].copy()


@compiled
def _significances(
    planes: tuple[FloatImage, FloatImage, FloatImage], share: np.float32, at: NDArray[np.int64]
) -> FloatImage:
    """Sizes of deviations at some pixels [sigma]."""
    rest, variance, model = planes
    ny, nx = rest.shape
    z = np.empty(at.size, np.float32)
    for i in range(at.size):
        y, x = at[i] // nx, at[i] % nx
        peak = np.float32(0)
        for v in range(max(y - 1, 0), min(y + 2, ny)):
            for u in range(max(x - 1, 0), min(x + 2, nx)):
                peak = max(peak, abs(model[v, u]))
        z[i] = abs(rest[y, x]) / np.sqrt(variance[y, x] + (share * peak) * (share * peak))
    return z
