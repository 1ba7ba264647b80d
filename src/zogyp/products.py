"""What a subtraction gives, and how it is written to files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp.image import FloatImage, Image, MaskImage

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True)
class Subtraction:
    """The difference of two images, its significance, and the transients in it.

    All planes are on the grid of the new image, shape (ny, nx), float32; NaN where a pixel
    cannot be judged, with the reason in ``mask`` (bits of `zogyp.image.Flag`, the new image's
    in the low byte, the reference's shifted by eight).

    Attributes
    ----------
    D : difference of white noise with unit variance; ``D / F_D`` is in flux units.
    S : score image, not normalised.
    Scorr : significance [sigma].
    alpha, alpha_err : PSF flux of a transient at each pixel and its error [units of the new image].
    mask : uint16 bits.
    psf : (k, k) PSF of D at the image's centre, unit sum.
    transients : table of peaks beyond the threshold.
    new : the new image as it was read (pixels, mask, wcs, header).
    ref : the reference on the new image's grid.
    summary : JSON-ready figures: inputs, options, flux scale, noise, registration, timings, ...
    """

    D: FloatImage
    S: FloatImage
    Scorr: FloatImage
    alpha: FloatImage
    alpha_err: FloatImage
    mask: MaskImage
    psf: NDArray[np.float32]
    transients: Table
    new: Image
    ref: Image
    summary: dict[str, Any] = field(default_factory=dict)
