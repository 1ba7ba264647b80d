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
from zogyp.measure.noise import excess_variance

F8 = NDArray[np.float64]
BRIGHTEST = 64  # stars that tell
FEWEST = 10  # stars below which nothing is told
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
    order = matched.new[np.argsort(-s.flux[matched.new], kind="stable")]
    reach = max(new.psf.size, ref.psf.size) // 2
    chosen = order[_inside(s.x[order], s.y[order], new.image.shape, reach // 2)][:BRIGHTEST]
    if chosen.size < FEWEST:
        return
    share = 1 / (2 * np.pi * (new.psf.fwhm**2 + ref.psf.fwhm**2) / 2.3548**2)  # S is smooth on this scale
    profile = _profile(outputs, (s.x[chosen], s.y[chosen], s.flux[chosen]), reach, share)
    if profile.any():
        _add(outputs, (s.x, s.y, _common(outputs, (s.x, s.y, s.flux))), profile, reach)


def _inside(x: F8, y: F8, shape: tuple[int, int], rim: int) -> NDArray[np.bool_]:
    ny, nx = shape
    return (x > rim) & (y > rim) & (x < nx - 1 - rim) & (y < ny - 1 - rim)


def _common(outputs: Mapping[str, FloatImage], stars: tuple[F8, F8, F8]) -> F8:
    """Flux that both images show of each source: what is new does not subtract, well or badly."""
    x, y, flux = stars
    ny, nx = outputs["S"].shape
    place = np.rint(y).astype(int).clip(0, ny - 1), np.rint(x).astype(int).clip(0, nx - 1)
    gained = outputs["S"][place] / outputs["F_S"][place]
    common: F8 = np.minimum(np.maximum(flux - gained, 0), flux)
    return common


def _rings(reach: int) -> NDArray[np.int64]:
    """Ring of each pixel of a stamp; rings are a pixel wide near the star and widen outwards."""
    p = np.arange(-reach, reach + 1)
    radius = np.hypot(p[:, None], p[None, :])
    ring: NDArray[np.int64] = np.floor(4 * np.log1p(radius / 3)).astype(np.int64)
    return ring


def _profile(outputs: Mapping[str, FloatImage], stars: tuple[F8, F8, F8], reach: int, share: float) -> F8:
    """Variance of S per (flux F_S)² that no other noise explains, in each ring."""
    x, y, flux = stars
    score, variance, unit = (cut_stamps(outputs[k], x, y, reach, np.nan) for k in ("S", "V", "F_S"))
    rings = _rings(reach)
    out = np.zeros(int(rings.max()) + 1)
    for ring in range(int(rings[reach, -1]) + 1):
        here = rings == ring
        square, known = score[:, here] ** 2, variance[:, here]
        scale = (flux[:, None] * unit[:, here]) ** 2
        usable = np.isfinite(square) & np.isfinite(known)
        out[ring] = excess_variance(square[usable], known[usable], scale[usable], share=share)
    return out


def _add(outputs: Mapping[str, FloatImage], stars: tuple[F8, F8, F8], profile: F8, reach: int) -> None:
    """Add every star's share to V."""
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
    outputs["V"] += np.maximum(extra, 0)
