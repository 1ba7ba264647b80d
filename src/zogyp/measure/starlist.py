"""Where the stars of an image are, as well as it can be told before any PSF: for registration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zogyp.core.centroids import windowed
from zogyp.measure.firstlook import FirstLook
from zogyp.measure.sources import Sources, local_size

F8 = NDArray[np.float64]
CENTROID = 1.6  # error of a windowed centroid over sigma of the seeing / (S/N)
SYSTEMATIC = 0.006  # px, error of a centroid that no light removes
UNSURE = 0.5  # px, error of the place of what is saturated, blended or no star
WIDE, NARROW = 1.2, 0.8  # sizes beside that of a star, beyond which a source is none
JUMP = 1.5  # px between a source's barycentre and its windowed centroid beyond which neither is believed


@dataclass(frozen=True)
class StarList:
    """Places of an image's sources, brightest first.

    Attributes
    ----------
    xy : (n, 2) positions (x, y) [px, 0-based].
    error : (n,) standard error along one axis [px].
    flux : (n,) [ADU]
    shape : (ny, nx) of the image.
    fwhm : seeing [px].
    """

    xy: F8
    error: F8
    flux: F8
    shape: tuple[int, int]
    fwhm: float

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def z(self) -> NDArray[np.complex128]:
        """Positions x + i y."""
        return self.xy[:, 0] + 1j * self.xy[:, 1]


def star_list(seen: FirstLook, most: int) -> StarList:
    """The brightest sources of an image by windowed centroids.

    Parameters
    ----------
    most : sources wanted.
    """
    s = seen.sources.take(np.arange(min(most, len(seen.sources))))
    fwhm = seen.fwhm if np.isfinite(seen.fwhm) else 3.0
    sigma = fwhm / 2.3548
    xy = np.column_stack([s.x, s.y]).astype(np.float64)
    if len(s) == 0:
        return StarList(xy.reshape(0, 2), np.zeros(0), np.zeros(0), seen.image.shape, fwhm)
    x, y, clean = windowed(seen.data, ~seen.image.good, s.x, s.y, sigma)
    noise = np.sqrt(2 * np.pi) * 1.4 * sigma * seen.noise.sigma.typical  # of a star's flux
    snr = s.flux / np.hypot(noise, np.sqrt(np.maximum(s.flux, 0) / (seen.noise.gain or np.inf)))
    error = np.hypot(CENTROID * sigma / np.maximum(snr, 1), SYSTEMATIC)
    moved = np.hypot(x - s.x, y - s.y)
    sure = np.isfinite(moved) & (moved < JUMP) & clean & ~s.saturated
    sure &= _like_stars(s, seen.image.shape)
    xy[sure] = np.column_stack([x, y])[sure]
    error[~sure] = np.maximum(UNSURE, error[~sure])
    return StarList(xy, error, s.flux.astype(np.float64), seen.image.shape, fwhm)


def _like_stars(s: Sources, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Sources of a star's size; of few sources all."""
    known = s.take(~s.saturated & (s.radius > 0.5) & (s.flux > 15 * s.flux_err))
    if len(known) < 15:
        return np.ones(len(s), dtype=bool)
    size = s.radius / local_size(known, shape, s)
    result: NDArray[np.bool_] = (size > NARROW) & (size < WIDE)
    return result
