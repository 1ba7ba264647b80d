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

from zogyp.core.psfmodel import SPLINE
from zogyp.core.stamps import add_stars, cut_stamps
from zogyp.fluxscale import Match
from zogyp.image import FloatImage
from zogyp.measure.exposure import Exposure
from zogyp.measure.robust import CHI2_MEDIAN, excess_variance

F8 = NDArray[np.float64]
BRIGHTEST = 256  # stars that tell
FEWEST = 10  # stars below which nothing is told
ROUNDS = 4  # of: fit rings while other stars' share is known
QUIET = 0.3  # of the pixels, those that stars reach least
LEAST = 0.02  # of the variance there is, below which a star's own need not be added


def add_star_variance(
    outputs: Mapping[str, FloatImage], new: Exposure, ref: Exposure, matched: Match
) -> None:
    """Add to V what the subtraction of bright stars shows beyond it, in place.

    Parameters
    ----------
    outputs : mapping
        Planes S, V and F_S, (ny, nx).
    new, ref : Exposure
    matched : Match
        Stars of both images, and the ratio of their fluxes.
    """
    s = new.sources
    bad = ~new.image.good | ~ref.image.good
    common = _common(outputs, (s.x, s.y, s.flux), bad)
    told = np.union1d(matched.new, np.flatnonzero(s.saturated))  # the wings of the brightest tell most
    told = told[common[told] > 0]
    order = told[np.argsort(-common[told], kind="stable")]
    reach = max(new.psf.size, ref.psf.size) // 2
    chosen = order[_inside(s.x[order], s.y[order], new.image.shape, reach // 2)][:BRIGHTEST]
    if chosen.size < FEWEST:
        return
    share = 1 / (2 * np.pi * (new.psf.fwhm**2 + ref.psf.fwhm**2) / 2.3548**2)  # S is smooth on this scale
    everything, bright = (s.x, s.y, common), (s.x[chosen], s.y[chosen], common[chosen])
    seen = {"S": np.where(bad, np.float32(np.nan), outputs["S"]), "V": outputs["V"], "F_S": outputs["F_S"]}
    profile = np.zeros(int(_rings(reach).max()) + 1)
    extra = np.zeros_like(outputs["V"])
    for _ in range(ROUNDS):
        profile = _profile(seen, bright, (profile, extra), reach, share)
        if not profile.any():
            return
        extra = _extra(outputs, everything, profile, reach)
    outputs["V"] += extra


def _inside(x: F8, y: F8, shape: tuple[int, int], rim: int) -> NDArray[np.bool_]:
    ny, nx = shape
    return (x > rim) & (y > rim) & (x < nx - 1 - rim) & (y < ny - 1 - rim)


def _common(outputs: Mapping[str, FloatImage], stars: tuple[F8, F8, F8], bad: NDArray[np.bool_]) -> F8:
    """Flux that both images show of each source: what is new does not subtract, well or badly."""
    x, y, flux = stars
    ny, nx = outputs["S"].shape
    place = np.rint(y).astype(int).clip(0, ny - 1), np.rint(x).astype(int).clip(0, nx - 1)
    gained = np.where(bad[place], 0, outputs["S"][place] / outputs["F_S"][place])
    common: F8 = np.minimum(np.maximum(flux - gained, 0), flux)
    return common


def _rings(reach: int) -> NDArray[np.int64]:
    """Ring of each pixel of a stamp; rings are a pixel wide near the star and widen outwards."""
    p = np.arange(-reach, reach + 1)
    radius = np.hypot(p[:, None], p[None, :])
    ring: NDArray[np.int64] = np.floor(4 * np.log1p(radius / 3)).astype(np.int64)
    return ring


def _profile(
    outputs: Mapping[str, FloatImage],
    stars: tuple[F8, F8, F8],
    before: tuple[F8, FloatImage],
    reach: int,
    share: float,
) -> F8:
    """Variance of S per (flux F_S)² that no other noise explains, in each ring.

    ``before`` is the profile of an earlier round and the variance that it gives to the image: what it
    says of other stars is known, as is what S shows in excess where no star reaches.
    """
    x, y, flux = stars
    earlier, extra = before
    rings = _rings(reach)
    score, variance, unit, all_stars = (
        cut_stamps(plane, x, y, reach, np.nan) for plane in (*(outputs[k] for k in ("S", "V", "F_S")), extra)
    )
    scale = (flux[:, None, None] * unit) ** 2
    known = variance * np.float32(_field(outputs, extra)) + np.maximum(all_stars - scale * earlier[rings], 0)
    out = np.zeros_like(earlier)
    for ring in range(int(rings[reach, -1]) + 1):
        here = rings == ring
        square, v = score[:, here] ** 2, known[:, here]
        usable = np.isfinite(square) & np.isfinite(v)
        out[ring] = excess_variance(square[usable], v[usable], scale[:, here][usable], share=share)
    return out


def _field(outputs: Mapping[str, FloatImage], extra: FloatImage) -> float:
    """Variance of S over V, no less than 1, where stars add least: no single star is to blame for it."""
    part = np.s_[::2, ::2]
    s, v, added = outputs["S"][part], outputs["V"][part], extra[part]
    ratio = added / v
    quiet = np.isfinite(s) & (ratio <= np.quantile(ratio, QUIET))
    return max(1.0, float(np.median(s[quiet] ** 2 / v[quiet])) / CHI2_MEDIAN)


def _extra(
    outputs: Mapping[str, FloatImage], stars: tuple[F8, F8, F8], profile: F8, reach: int
) -> FloatImage:
    """The variance that all stars add."""
    x, y, flux = stars
    typical = float(np.median(outputs["V"][::5, ::5]))
    unit2 = float(np.median(outputs["F_S"][::5, ::5])) ** 2
    counts = flux**2 * unit2
    seen = np.flatnonzero((counts * profile.max() > LEAST * typical) & (flux > 0))
    rings = _rings(reach)
    outwards = np.maximum.accumulate(profile[::-1])[::-1]  # the largest from a ring on
    rim = rings[reach, reach:]
    radius = np.searchsorted(-outwards[rim], -LEAST * typical / counts[seen]).clip(2, reach)
    plane = spline_filter(profile[rings], order=SPLINE, mode="mirror")[None]
    extra = np.zeros_like(outputs["V"])
    one = np.ones((seen.size, 1))
    add_stars(extra, x[seen], y[seen], counts[seen], radius.astype(np.int64), one, plane, 1.0)
    return np.maximum(extra, 0)
