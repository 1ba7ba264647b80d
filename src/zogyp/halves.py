"""The two images as the tiles take them: pixels without holes, and the variance of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter

from zogyp.core import zogy
from zogyp.core.psfmodel import SPLINE
from zogyp.core.stamps import add_stars
from zogyp.fluxscale import Match
from zogyp.image import FloatImage
from zogyp.measure.exposure import Exposure
from zogyp.options import NoiseOptions, SubtractOptions
from zogyp.repair import FILL_ERROR, Repaired, repair

if TYPE_CHECKING:
    from zogyp.noiseledger import Ledger

F8 = NDArray[np.float64]
ROWS = 512  # of an image, to which stars are added at a time


@dataclass(frozen=True)
class Half:
    """One of the two images, ready to be cut into tiles."""

    pixels: Repaired
    exposure: Exposure  # without pixels of its own
    cut: float
    psf_noise: float

    def without_pixels(self) -> Half:
        """The same for kernels only."""
        none = np.zeros((0, 0), np.float32)
        return replace(self, pixels=Repaired(none, none, self.pixels.pad))

    def psf_at(self, x: float, y: float, size: int) -> F8:
        """PSF at a position; with a cut, what lies below it is zero and the rest has unit sum again."""
        stamp = self.exposure.psf.at(x, y, size=size)
        if self.cut > 0:
            stamp = np.where(stamp < self.cut * stamp.max(), 0.0, stamp)
            stamp /= stamp.sum()
        return stamp

    def side(self, x: float, y: float, size: int, flux: float, sigma: float) -> zogy.Side:
        """What the kernels need; the pixels are not looked at."""
        empty = np.zeros((0, 0), np.float32)
        return zogy.Side(empty, empty, self.psf_at(x, y, size), sigma, flux, self.psf_noise)


def prepared(
    new: Exposure, ref: Exposure, matched: Match, options: SubtractOptions, ledger: Ledger
) -> tuple[Half, Half]:
    """Fill the holes of both images, and count in their variance what ``options.noise`` says.

    ``ledger`` is told what each kind of noise adds to the pixels.
    """
    counted = options.noise
    repaired = repair(new, ref, matched, FILL_ERROR if counted.filled else 0.0, options.n_threads)
    a, b = (
        _half(e, pixels, options.psf.cut if given.psf_cut is None else given.psf_cut, counted, ledger)
        for e, pixels, given in zip((new, ref), repaired, (options.new, options.ref), strict=True)
    )
    return a, b


def _half(exposure: Exposure, pixels: Repaired, cut: float, counted: NoiseOptions, ledger: Ledger) -> Half:
    _leave_out(exposure, pixels, counted)
    ledger.pixels(exposure, pixels, counted)
    psf = exposure.psf
    noise = 0.0
    if psf.variance is not None and counted.psf:
        noise = float(np.sqrt(psf.variance.sum())) * psf.sampling
        _add_psf_variance(exposure, pixels.variance, pixels.pad)
    ledger.models(pixels)
    return Half(pixels, exposure.without_pixels(), cut, noise)


def _leave_out(exposure: Exposure, pixels: Repaired, counted: NoiseOptions) -> None:
    """Take out of the variance of the pixels what is not to be counted."""
    pad, noise, variance = pixels.pad, exposure.noise, pixels.variance
    inner = variance[pad : variance.shape[0] - pad, pad : variance.shape[1] - pad]
    if not counted.photons:
        # what is filled in is no light of its own: its error stays
        inner[...] = np.where(inner == exposure.variance, noise.sigma.plane() ** 2, inner)
    if not counted.quantisation:
        variance -= np.minimum(np.float32(noise.quantum**2 / 12), 0.99 * variance)
    if not counted.correlation:
        variance /= np.float32(noise.correlation**2)


def _add_psf_variance(exposure: Exposure, variance: FloatImage, pad: int) -> None:
    """A star of flux f and PSF error dP leaves f dP: add f² Var(dP) under every star that shows it."""
    psf, s = exposure.psf, exposure.sources
    assert psf.variance is not None
    least = 0.02 * exposure.sigma**2
    seen = np.flatnonzero(s.flux**2 * float(psf.variance.max()) > least)
    plane = spline_filter(psf.variance.astype(np.float64), order=SPLINE, mode="mirror")[None]
    k = psf.size // 2
    p = np.arange(psf.variance.shape[0]) - psf.variance.shape[0] // 2
    ring = (np.hypot(p[:, None], p[None, :]) * psf.sampling).astype(int)
    profile = np.array([psf.variance[ring >= r].max() for r in range(k + 1)])
    radius = np.searchsorted(-profile, -least / np.maximum(s.flux[seen] ** 2, 1e-300)).clip(3, k)
    x, y, flux2 = s.x[seen] + pad, s.y[seen] + pad, s.flux[seen] ** 2
    for first in range(0, len(variance), ROWS):
        rows = variance[first : first + ROWS]
        extra = np.zeros_like(rows)
        here = (y + radius > first - 1) & (y - radius < first + len(rows))
        add_stars(
            extra,
            x[here],
            y[here] - first,
            flux2[here],
            radius[here].astype(np.int64),
            np.ones((np.count_nonzero(here), 1)),
            plane,
            psf.sampling,
        )
        np.maximum(extra, 0, out=extra)
        rows += extra
