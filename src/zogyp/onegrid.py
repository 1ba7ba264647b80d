"""Two images that are to be subtracted, brought onto one grid; checked where they are said to share it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, rfft2

from zogyp.core.filters import gaussian
from zogyp.core.fourier import fast_length
from zogyp.core.threads import in_pairs
from zogyp.errors import RegistrationError, ShapeError
from zogyp.image import Image
from zogyp.inputs import with_common_mask
from zogyp.measure.firstlook import FirstLook, look
from zogyp.measure.robust import robust_sigma
from zogyp.options import SubtractOptions
from zogyp.registration import Registration, register, resampled, target_of, wcs_map

FEW = 10  # sources of either image below which stars cannot tell whether two grids are one
UNSURE = 30  # the same where the WCSs say so
FAINT = 5.0  # sigma at which light is clipped when images are correlated
CORRELATED = 10.0  # sigma of the correlation at other shifts


@dataclass(frozen=True)
class Pair:
    """Two images on one grid.

    Attributes
    ----------
    new, ref : FirstLook
    registration : Registration or None
        How the one that moved lay on the other's grid; None when nobody asked or the stars cannot tell.
    moved : bool
        One of them was resampled.
    notes : tuple of str
    """

    new: FirstLook
    ref: FirstLook
    registration: Registration | None = None
    moved: bool = False
    notes: tuple[str, ...] = ()


def bring_together(new: Image, ref: Image, options: SubtractOptions, known: FirstLook | None = None) -> Pair:
    """Look at two images, and resample one onto the grid of the other if they do not share it.

    Parameters
    ----------
    new, ref : Image
    options : SubtractOptions
        ``align`` says how, ``grid`` whose pixels the results are on.
    known : FirstLook or None
        A look at one of the two images, its ``image``, that was taken before.

    Raises
    ------
    RegistrationError
        The images differ in their pixels, and no map that can be believed was found.
    ShapeError
        No alignment is wanted and the shapes differ.
    PixelError
        An image has nothing to look at.
    """
    if options.align.mode == "none":
        _same_shape(new, ref)
        new, ref = (with_common_mask(image, options.mask) for image in (new, ref))
        return Pair(*_look_both(new, ref, options, known))
    onto_new = options.grid == "new"
    fixed, moving = (new, ref) if onto_new else (ref, new)
    fixed = with_common_mask(fixed, options.mask)
    still, seen = _look_both(fixed, moving, options, known)
    grid = target_of(still, options.align)
    notes: tuple[str, ...] = ()
    found: Registration | None = None
    try:
        found = register(seen, grid, options.align)
        moved = fixed.shape != moving.shape or not found.near_identity(fixed.shape)
    except RegistrationError as error:
        why = _why_trusted(error, still, seen, options)
        if why is None:
            raise
        moved, notes = False, (why,)
    if moved and found is not None:
        moving = resampled(seen, found, grid, options.align.kernel, options.n_threads)
    if moved or options.mask is not None:
        del seen  # its planes, before others are made
        seen = _look(with_common_mask(moving, options.mask), options)
    looks = (still, seen) if onto_new else (seen, still)
    return Pair(*looks, found, moved, notes)


def _same_shape(new: Image, ref: Image) -> None:
    if new.shape != ref.shape:
        hint = "Without alignment (--align none) they must share their pixels."
        raise ShapeError(f"the reference {ref.name}", ref.shape, new.shape, hint)


def _why_trusted(
    error: RegistrationError, still: FirstLook, seen: FirstLook, options: SubtractOptions
) -> str | None:
    """Why images of one shape may be taken as they are although their stars do not say so, or None."""
    shape = still.image.shape
    if options.align.mode != "auto" or seen.image.shape != shape:
        return None
    if _same_light(still, seen):
        return "the images share their pixels by the light of all that is in them; stars could not tell"
    by_wcs = wcs_map(still.image.wcs, seen.image.wcs, shape, shape)
    if by_wcs is None:
        unknown = min(error.n_stars) < FEW
    else:
        y, x = np.meshgrid([0, shape[0] - 1], [0, shape[1] - 1])
        u, v = by_wcs(x, y)
        unknown = bool(np.hypot(u - x, v - y).max() < 1) and min(error.n_stars) < UNSURE
    if not unknown:
        return None
    return "too few common stars to check that the images share their pixels: taken to do so"


def _same_light(a: FirstLook, b: FirstLook) -> bool:
    """Whether two images correlate best as they are, and beyond chance."""
    ny, nx = a.image.shape
    shape = (fast_length(2 * ny), fast_length(2 * nx))  # padded: nothing wraps around
    spectra = []
    for seen in (a, b):
        soft = np.clip(
            seen.data / seen.noise.sigma.plane(), -FAINT, FAINT
        )  # neither stars nor hot pixels decide alone
        soft -= gaussian(soft, 16, 4.0)
        soft[~seen.image.good] = 0
        spectra.append(rfft2(gaussian(soft, 1.0, 4.0), shape))
    correlation = irfft2(spectra[0] * spectra[1].conj(), shape)
    here = float(max(correlation[j, i] for j in (-1, 0, 1) for i in (-1, 0, 1)))
    chance = robust_sigma(correlation)
    return here >= correlation.max() and here > CORRELATED * chance


def _look(image: Image, options: SubtractOptions) -> FirstLook:
    return look(image, background_options=options.background, detect=options.detect)


def _look_both(
    a: Image, b: Image, options: SubtractOptions, known: FirstLook | None
) -> tuple[FirstLook, FirstLook]:
    """Look at two images; not at the one that is known already."""
    if known is not None and options.mask is None:
        if known.image is a:
            return known, _look(b, options)
        if known.image is b:
            return _look(a, options), known
    return in_pairs(lambda image: _look(image, options), (a, b), options.n_threads)
