"""An image: pixels, what is bad among them, how noisy they are, and what the header said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntFlag
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.core.masks import has
from zogyp.core.psfmodel import PSF

FloatImage = NDArray[np.float32]
MaskImage = NDArray[np.uint16]


class Flag(IntFlag):
    """Why a pixel is not to be trusted: bits of a mask.

    The low byte tells of the image itself (or of the new image of a subtraction);
    the same bits shifted by eight tell of the reference.
    """

    BAD = 1  # told so by a mask, weight or data-quality file
    NO_DATA = 2  # NaN, blank, infinite, or outside of the image
    SATURATED = 4
    COSMIC_RAY = 8
    EDGE = 16  # too near to the border for a full kernel
    REACHED = 32  # another bad pixel of this image lies within the kernel's reach
    UNJUDGED = 64  # too much of the kernel's weight lies on bad pixels: NaN in the products

    def ref(self) -> int:
        """The bit for the reference image in a subtraction's mask."""
        return int(self) << 8


UNUSABLE = Flag.BAD | Flag.NO_DATA | Flag.SATURATED | Flag.COSMIC_RAY


@dataclass(frozen=True)
class Image:
    """One image and all that is known of it before anything is measured.

    Attributes
    ----------
    data : ndarray, float32, (ny, nx)
        Pixel values [ADU, or whatever the file's unit]. Unusable pixels may hold anything.
    mask : ndarray, uint16, (ny, nx)
        Bits of `Flag`; 0 is good.
    variance : ndarray, float32, (ny, nx) or None
        Variance of each pixel [ADU²], sources included, when it was given.
    wcs : astropy.wcs.WCS or None
        Celestial coordinates of the pixels.
    header : astropy.io.fits.Header or None
        The header the image came with, for provenance only: no step reads it.
    gain, read_noise, saturation, zero_point : float or None
        [e-/ADU], [e-], [ADU], [mag]; None when nobody told.
    name : str
        For messages; the file's name, as a rule.
    notes : tuple of str
        What was assumed, chosen or left out on reading.
    exptime : float or None
        Exposure time [s].
    path : str or None
        The file it was read from, with its extension.
    resampled : bool
        The pixels were interpolated by us: neighbours share noise, and ``variance`` holds the noise per unit
        frequency, which is what counts for stars, not that of single pixels.
    psf : PSF or None
        PSF of these pixels when it is known; measured otherwise.
    mjd : float or None
        Middle of the exposure, modified Julian date [d].
    """

    data: FloatImage
    mask: MaskImage
    variance: FloatImage | None = None
    wcs: Any = None
    header: Any = None
    gain: float | None = None
    read_noise: float | None = None
    saturation: float | None = None
    zero_point: float | None = None
    name: str = "image"
    notes: tuple[str, ...] = field(default=())
    exptime: float | None = None
    path: str | None = None
    resampled: bool = False
    psf: PSF | None = None
    mjd: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        ny, nx = self.data.shape
        return ny, nx

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """True where a pixel is usable."""
        good = has(self.mask, UNUSABLE)
        return np.logical_not(good, out=good)

    def cutout(self, box: tuple[slice, slice]) -> Image:
        """The part inside ``box = (rows, columns)``; cuts every plane and the wcs, and moves the PSF."""
        return replace(
            self,
            data=self.data[box],
            mask=self.mask[box],
            variance=None if self.variance is None else self.variance[box],
            wcs=None if self.wcs is None else self.wcs[box],
            psf=None if self.psf is None else self._psf_of(self.psf, box),
        )

    def _psf_of(self, psf: PSF, box: tuple[slice, slice]) -> PSF | None:
        """The PSF in the pixels of a part; none of every second pixel, or of pixels turned around."""
        (y, _, down), (x, _, along) = (side.indices(n) for side, n in zip(box, self.shape, strict=True))
        if down != 1 or along != 1:
            return None
        return replace(psf, origin=(psf.origin[0] - x, psf.origin[1] - y))
