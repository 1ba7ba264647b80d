"""Pixels of an exposure that the other exposures contradict: cosmic rays, trails, whatever moves.

Twice. Before there is a coadd, against the median of all: only what no star of any seeing could be. Then
against what the coadd has the exposure show, through the exposure's own PSF: to the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, maximum_filter

from zogyp.combination import combine
from zogyp.core.proper import ProperSum
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
    return Guess(sky, fwhm, maximum_filter(np.abs(sky), 5))


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
    flux = one.flux_plane()
    seen = (flux * first.sky).astype(np.float32)
    data, bad = one.frame.plane("data"), one.unusable()
    star = np.float32(star_share(first.fwhm, one.frame.fwhm)) * flux * first.bright
    # what is too bright adds to its own variance: that of the sky and of what should be there tells
    allowed = star + GROSS * one.frame.plane("sigma")
    bad = bad | (np.abs(data - seen) > allowed)
    return np.where(bad, seen, data), bad


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
    own_bad = one.unusable()
    prediction, share = total.predict(one.view())
    rest = one.frame.plane("data") - prediction
    light = np.abs(prediction)
    sigma2 = one.frame.plane("sigma") ** 2
    variance = np.maximum(share, LEAST_SHARE) * sigma2
    variance += np.maximum(one.frame.plane("variance") - sigma2, 0)
    loud = own_bad | doubtful | (rest**2 > 9 * (variance + (options.share * light) ** 2))
    rest -= mesh_level(rest, loud, sky_options.mesh).plane()
    own = prediction + rest
    if not options.outliers:
        none = np.zeros(0, np.float32)
        return Judgement(np.where(own_bad, prediction, own), own_bad, np.zeros(0, np.intp), none, none, 0.0)
    z, outlying = _outliers(np.where(own_bad, 0, rest), variance, light, one.frame.fwhm, options)
    outlying &= ~own_bad
    bright = (light > BRIGHT * np.sqrt(sigma2)) & ~own_bad
    contradicted = float(outlying[bright].mean()) if np.count_nonzero(bright) > ENOUGH else 0.0
    bad = own_bad | outlying
    out = np.flatnonzero(outlying)
    data = np.where(bad, prediction, own)
    return Judgement(data, bad, out, own.ravel()[out], np.abs(z.ravel()[out]), contradicted)


def _outliers(
    rest: FloatImage, variance: FloatImage, light: FloatImage, fwhm: float, options: RejectOptions
) -> tuple[FloatImage, Bool]:
    """Deviations [sigma]; pixels too far off, with their wings, and faint outliers as wide as a star."""
    z = _significance(rest, variance, maximum_filter(light, 3), options)
    out: Bool = np.abs(z) > options.threshold
    s = max(fwhm, 1.5) / 2.3548
    # a sharp pixel has been judged by itself and must not condemn its surroundings
    limit = 4 * np.sqrt(variance)
    smooth = gaussian_filter(np.clip(rest, -limit, limit), s, truncate=3.0)
    noise = variance / np.float32(4 * np.pi * s**2)
    wide = _significance(smooth, noise, gaussian_filter(light, s, truncate=3.0), options)
    out |= np.abs(wide) > WIDE * options.threshold
    if out.any():
        around = np.ones((3, 3), bool)
        out |= binary_dilation(out, around, iterations=GROWTH, mask=np.abs(z) > WINGS)
    return z, out


def _significance(
    rest: FloatImage, variance: FloatImage, light: FloatImage, options: RejectOptions
) -> FloatImage:
    """Deviation [sigma]; what a star that varies, or an imperfect PSF, may leave counts as noise."""
    model = np.float32(options.share / options.threshold) * light
    z: FloatImage = (rest / np.sqrt(variance + model**2)).astype(np.float32, copy=False)
    return z
