"""The variance that imperfect PSF models leave beside stars, learnt from how the stars themselves subtract.

A star of flux f whose PSF model is wrong by dP leaves f k ⊗ dP in S: a variance f² Var(k ⊗ dP) that depends
on the distance from the star. The covariance of the PSF's fit gives one part of it; what a fit cannot know
of itself (variation faster than its polynomial, undersampling, charge effects) shows in the stacked
residuals of the stars. It is measured on the brightest stars, as the part of their S² that no other
noise explains, in rings, and then counted for every star by its flux.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter

from zogyp.core.planes import like
from zogyp.core.psfmodel import SPLINE
from zogyp.core.stamps import add_stars, cut_stamps
from zogyp.core.tiles import Blend
from zogyp.fluxscale import Match
from zogyp.image import FloatImage
from zogyp.measure.exposure import Exposure
from zogyp.measure.robust import CHI2_MEDIAN, excess_variance

F8 = NDArray[np.float64]
BRIGHTEST = 256  # stars that tell
FEWEST = 10  # stars below which nothing is told
ROUNDS = 4  # of: fit rings while other stars' share is known
SAMPLE = 1_000_000  # pixels that tell of the field
QUIET = 0.3  # of the pixels, those that stars reach least
LEAST = 0.02  # of the variance there is, below which a star's own need not be added


def add_star_variance(
    outputs: Mapping[str, FloatImage], F_S: Blend, new: Exposure, ref: Exposure, matched: Match
) -> None:
    """Add to V what the subtraction of bright stars shows beyond it, in place.

    Parameters
    ----------
    outputs : mapping
        Planes S and V, (ny, nx).
    F_S : Blend
    new, ref : Exposure
    matched : Match
        Stars of both images, and the ratio of their fluxes.
    """
    s = new.sources
    bad = ~new.image.good | ~ref.image.good
    common = _common(outputs["S"], F_S, (s.x, s.y, s.flux), bad)
    told = np.union1d(matched.new, np.flatnonzero(s.saturated))  # the wings of the brightest tell most
    told = told[common[told] > 0]
    order = told[np.argsort(-common[told], kind="stable")]
    reach = max(new.psf.size, ref.psf.size) // 2
    chosen = order[_inside(s.x[order], s.y[order], new.image.shape, reach // 2)][:BRIGHTEST]
    if chosen.size < FEWEST:
        return
    share = 1 / (2 * np.pi * (new.psf.fwhm**2 + ref.psf.fwhm**2) / 2.3548**2)  # S is smooth on this scale
    F = np.maximum(F_S.at(*_pixels(s.x, s.y, bad.shape)), np.float32(0)).astype(np.float64)
    scale = (common * F) ** 2
    seen = _Seen(outputs["S"], outputs["V"], bad, (s.x[chosen], s.y[chosen]), scale[chosen], reach)
    profile = np.zeros(int(_rings(reach).max()) + 1)
    extra = like(outputs["V"])
    extra[:] = 0
    for _ in range(ROUNDS):
        profile = seen.profile(profile, extra, share)
        if not profile.any():
            return
        _fill(extra, (s.x, s.y, scale), profile, reach, seen.typical)
    outputs["V"] += extra


def _pixels(x: F8, y: F8, shape: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels nearest to places."""
    return np.rint(y).astype(int).clip(0, shape[0] - 1), np.rint(x).astype(int).clip(0, shape[1] - 1)


def _inside(x: F8, y: F8, shape: tuple[int, int], rim: int) -> NDArray[np.bool_]:
    ny, nx = shape
    return (x > rim) & (y > rim) & (x < nx - 1 - rim) & (y < ny - 1 - rim)


def _common(S: FloatImage, F_S: Blend, stars: tuple[F8, F8, F8], bad: NDArray[np.bool_]) -> F8:
    """Flux that both images show of each source: what is new does not subtract, well or badly."""
    x, y, flux = stars
    place = _pixels(x, y, bad.shape)
    gained = np.where(bad[place], 0, S[place] / F_S.at(*place))
    common: F8 = np.minimum(np.maximum(flux - gained, 0), flux)
    return common


def _rings(reach: int) -> NDArray[np.int64]:
    """Ring of each pixel of a stamp; rings are a pixel wide near the star and widen outwards."""
    p = np.arange(-reach, reach + 1)
    radius = np.hypot(p[:, None], p[None, :])
    ring: NDArray[np.int64] = np.floor(4 * np.log1p(radius / 3)).astype(np.int64)
    return ring


class _Seen:
    """What the brightest stars show."""

    def __init__(
        self,
        S: FloatImage,
        V: FloatImage,
        bad: NDArray[np.bool_],
        at: tuple[F8, F8],
        scale: F8,
        reach: int,
    ) -> None:
        self.at, self.reach, self.scale = at, reach, scale[:, None, None]
        self.square, self.variance = (cut_stamps(p, *at, reach, np.nan) for p in (S, V))
        self.square[cut_stamps(bad.view(np.uint8), *at, reach, 1.0) > 0] = np.nan
        self.square **= 2
        step = max(2, int(np.ceil(np.sqrt(S.size / SAMPLE))))
        self.part = np.s_[::step, ::step]
        s, self.v = S[self.part], V[self.part]
        self.chi2 = np.where(bad[self.part], np.nan, s**2 / self.v)
        self.typical = float(np.median(self.v))

    def profile(self, earlier: F8, extra: FloatImage, share: float) -> F8:
        """Variance of S per (flux F_S)² that no other noise explains, in each ring.

        ``earlier`` is the profile of an earlier round and ``extra`` the variance that it gives to the image:
        what it says of other stars is known, as is what S shows in excess where no star reaches.
        """
        rings = _rings(self.reach)
        others = cut_stamps(extra, *self.at, self.reach, np.nan) - self.scale * earlier[rings]
        known = self.variance * np.float32(self._field(extra)) + np.maximum(others, 0)
        out = np.zeros_like(earlier)
        for ring in range(int(rings[self.reach, -1]) + 1):
            here = rings == ring
            square, v = self.square[:, here], known[:, here]
            usable = np.isfinite(square) & np.isfinite(v)
            scale = np.broadcast_to(self.scale[:, 0], square.shape)
            out[ring] = excess_variance(square[usable], v[usable], scale[usable], share=share)
        return out

    def _field(self, extra: FloatImage) -> float:
        """Variance of S over V, no less than 1, where stars add least: no single star is to blame for it."""
        ratio = extra[self.part] / self.v
        quiet = np.isfinite(self.chi2) & (ratio <= np.quantile(ratio, QUIET))
        return max(1.0, float(np.median(self.chi2[quiet])) / CHI2_MEDIAN)


def _fill(extra: FloatImage, stars: tuple[F8, F8, F8], profile: F8, reach: int, typical: float) -> None:
    """Put the variance that all stars (x, y, (flux F_S)²) add into ``extra``."""
    x, y, counts = stars
    seen = np.flatnonzero(counts * profile.max() > LEAST * typical)
    rings = _rings(reach)
    outwards = np.maximum.accumulate(profile[::-1])[::-1]  # the largest from a ring on
    rim = rings[reach, reach:]
    radius = np.searchsorted(-outwards[rim], -LEAST * typical / counts[seen]).clip(2, reach)
    plane = spline_filter(profile[rings], order=SPLINE, mode="mirror")[None]
    extra[:] = 0
    one = np.ones((seen.size, 1))
    add_stars(extra, x[seen], y[seen], counts[seen], radius.astype(np.int64), one, plane, 1.0)
    np.maximum(extra, 0, out=extra)
