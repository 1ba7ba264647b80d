"""The certificate of a subtraction: is S_corr in true sigma, and where is it not.

Every figure is measured on the result itself, beside what it should be; none of them changes the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp.core.masks import has, mark_squares
from zogyp.core.morphology import dilated
from zogyp.core.peaks import expected_peaks, independent
from zogyp.image import Flag, FloatImage
from zogyp.measure.exposure import Exposure
from zogyp.measure.noise import strips
from zogyp.measure.resolved import resolved
from zogyp.measure.robust import robust_sigma, sample
from zogyp.measure.scene import star_radii
from zogyp.options import CertificateOptions
from zogyp.transients import peak_heights

if TYPE_CHECKING:
    from zogyp.differencing import Planes
    from zogyp.fluxscale import Match
    from zogyp.products import Subtraction

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
HEIGHTS = (4.0, 5.0)  # sigma beyond which peaks are counted
STAR_BINS = 5  # bins of brightness
CORE = 2  # px around a star's pixel that tell of it
NEAR_SATURATED = 3.0  # FWHM around saturated pixels
FEWEST = 10  # stars, or galaxies, that tell a spread
LEAST_BLANK = 0.01  # of the pixels; with fewer, those of least noise count as blank
MAD_ERROR = 1.17  # / sqrt(n): relative standard error of a spread that the median deviation tells
LAGS = 3  # px to which D is looked at for correlation
QUIET = 4.0  # sigma beyond which a pixel of D does not tell of its noise


class Reason(StrEnum):
    """Why a subtraction is not as good as it should be."""

    NOTHING = "no pixel can be judged"
    IDENTICAL = "the images are the same"
    OVERLAP = "too little overlap"
    STARS = "too few stars"
    REGISTRATION = "poor registration"
    FLUX = "flux ratio unsure"
    PSF = "PSF mismatch"
    UNDERESTIMATED = "noise underestimated"
    OVERESTIMATED = "noise overestimated"
    COLOURED = "noise correlated"
    PEAKS = "too many peaks"


@dataclass(frozen=True)
class _Sample:
    """Values of S_corr of one sort of place."""

    values: FloatImage
    independent: float
    of: int | None = None  # so many, of which ``values`` are a part

    def told(self) -> dict[str, Any]:
        n = int(self.values.size) if self.of is None else self.of
        if n < FEWEST:
            return {"n": n, "spread": None, "error": None}
        spread = robust_sigma(self.values)
        error = MAD_ERROR * spread / np.sqrt(max(self.independent, 1.0))
        return {"n": n, "spread": round(spread, 4), "error": round(float(error), 4)}


def certify(
    result: Subtraction, exposures: tuple[Exposure, Exposure], matched: Match, planes: Planes
) -> dict[str, Any]:
    """All figures of the certificate but the verdict, ready for JSON.

    Returns
    -------
    dict
        ``sky``, ``galaxies``, ``saturated``: n, spread of S_corr and its error [sigma]; ``stars``: the same
        by bins of flux, brightest first; ``peaks``: by height, expected and found in blank sky and
        everywhere; ``whiteness`` of D; ``pull``: S_corr on stars of both images, which should not vary.
    """
    new, ref = exposures
    scorr = result.Scorr
    judged = np.isfinite(scorr)
    share = independent(planes.P_D)
    blank = judged & _blank(new, ref, planes.V)
    mask = result.mask
    saturated = has(mask, Flag.SATURATED | Flag.SATURATED.ref())
    beside = np.zeros(0, np.float32)
    if saturated.any():
        near = dilated(saturated, 2 * int(np.ceil(NEAR_SATURATED * planes.fwhm)) + 1)
        beside = scorr[near & judged]
    large = resolved(new)
    n_large, on_galaxies = _on(scorr, new.sources.x[large], new.sources.y[large])
    return {
        "sky": _sky(scorr, blank, share),
        "stars": _stars(scorr, new, matched, share),
        "galaxies": _Sample(on_galaxies, n_large).told() | {"n": n_large},
        "saturated": _Sample(beside, share * beside.size).told(),
        "peaks": _peaks(scorr, (judged, blank), planes),
        "whiteness": _whiteness(result.D, blank),
        "pull": _pull(scorr, new, matched),
    }


def verdict(figures: dict[str, Any], summary: dict[str, Any], options: CertificateOptions) -> dict[str, Any]:
    """Judge a subtraction by its certificate and summary: ``good``, or ``doubtful`` and why.

    Each reason carries its figure and the limit that `CertificateOptions` sets.
    """
    reasons = [
        {"reason": str(reason), "value": value, "limit": limit}
        for reason, value, limit in _reasons(figures, summary, options)
    ]
    return figures | {"verdict": "doubtful" if reasons else "good", "reasons": reasons}


def _reasons(
    figures: dict[str, Any], summary: dict[str, Any], limits: CertificateOptions
) -> list[tuple[Reason, float, float]]:
    """What is beyond its limit, by more than its error."""
    covered = 1 - summary["masked_fraction"]
    if covered == 0:
        return [(Reason.NOTHING, 0.0, limits.overlap)]
    if summary["scorr_std"] == 0:
        return [(Reason.IDENTICAL, 0.0, limits.spread)]
    found: list[tuple[Reason, float, float]] = []
    registration = summary["registration"]
    fwhm = min(summary["inputs"][side]["fwhm"] for side in ("new", "ref"))
    rms = max(registration["rms_x"], registration["rms_y"]) / fwhm
    flux_error = summary["F_r_err"] / summary["F_r"]
    colour = abs(figures["whiteness"]["neighbours"])
    for reason, value, limit in (
        (Reason.OVERLAP, limits.overlap - covered, 0.0),
        (Reason.STARS, limits.stars - registration["n_matched"], 0.0),
        (Reason.REGISTRATION, rms, limits.registration),
        (Reason.FLUX, flux_error, limits.flux_ratio),
        (Reason.COLOURED, colour, limits.whiteness),
    ):
        if value > limit:
            shown = {Reason.OVERLAP: covered, Reason.STARS: float(registration["n_matched"])}
            bound = {Reason.OVERLAP: limits.overlap, Reason.STARS: float(limits.stars)}
            found.append((reason, shown.get(reason, value), bound.get(reason, limit)))
    sky = figures["sky"]
    if sky["spread"] is not None and abs(sky["spread"] - 1) > limits.spread + _chance(sky):
        wrong = Reason.UNDERESTIMATED if sky["spread"] > 1 else Reason.OVERESTIMATED
        found.append((wrong, sky["spread"], limits.spread))
    for row in figures["stars"]:
        if row["spread"] is not None and row["spread"] - 1 > limits.star_spread + _chance(row):
            found.append((Reason.PSF, row["spread"], limits.star_spread))
            break
    peaks = figures["peaks"][f"{HEIGHTS[-1]:g}"]
    expected, n = 2 * peaks["sky"]["expected"], peaks["sky"]["positive"] + peaks["sky"]["negative"]
    if n > limits.peaks * expected + 5 * np.sqrt(expected) + 5:
        found.append((Reason.PEAKS, float(n), limits.peaks * expected))
    return [(reason, round(float(value), 4), round(float(limit), 4)) for reason, value, limit in found]


def _chance(row: dict[str, Any]) -> float:
    """How far from 1 chance may bring a spread that is 1: three standard errors."""
    return float(3 * row["error"] / row["spread"]) if row["spread"] else 0.0


def _sky(scorr: FloatImage, blank: Bool, share: float) -> dict[str, Any]:
    """S_corr in blank sky."""
    some = sample(scorr)[sample(blank)]
    values = some if some.size >= FEWEST else scorr[blank]
    n = int(np.count_nonzero(blank))
    return _Sample(values, share * n, n).told() | {"share": round(n / blank.size, 4)}


def _blank(new: Exposure, ref: Exposure, variance: FloatImage) -> Bool:
    """Pixels that no source of either image reaches; where there are none, those of least noise."""
    ny, nx = new.image.shape
    reached = np.zeros((ny, nx), dtype=bool)
    for exposure in (new, ref):
        s = exposure.sources
        reach = star_radii(exposure.psf, s.flux, exposure.sigma)
        extent = np.ceil(np.where(np.isfinite(s.radius), 3 * s.radius, 0)).astype(np.int64)
        r = np.maximum(reach, np.minimum(extent, 5 * int(np.ceil(exposure.psf.fwhm)))) + 1
        x, y = np.rint(s.x).astype(np.int64), np.rint(s.y).astype(np.int64)
        mark_squares(x, y, r.astype(np.int64), reached)
    free = np.logical_not(reached, out=reached)
    # in a crowd the only places without stars are those where nobody could look for them
    if np.count_nonzero(free) >= LEAST_BLANK * free.size and not (new.crowded or ref.crowded):
        return free
    return np.asarray(variance <= np.quantile(variance[::3, ::3], 0.1), dtype=bool)


def _on(scorr: FloatImage, x: F8, y: F8) -> tuple[int, FloatImage]:
    """How many places could be judged, and the pixels of S_corr around them."""
    ny, nx = scorr.shape
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (column >= CORE) & (row >= CORE) & (column < nx - CORE) & (row < ny - CORE)
    step = np.arange(-CORE, CORE + 1)
    values = scorr[
        row[inside][:, None, None] + step[None, :, None], column[inside][:, None, None] + step[None, None, :]
    ]
    values = values[np.isfinite(values).all(axis=(1, 2))]
    return len(values), values.ravel()


def _stars(scorr: FloatImage, new: Exposure, matched: Match, share: float) -> list[dict[str, Any]]:
    """Spread of S_corr under the stars of both images, by bins of flux with as many stars each."""
    zero_point = new.image.zero_point
    order = matched.new[np.argsort(-new.sources.flux[matched.new], kind="stable")]
    bins = np.array_split(order, max(1, min(STAR_BINS, order.size // FEWEST)))
    per_star = max(1.0, share * (2 * CORE + 1) ** 2)
    rows = []
    for stars in bins:
        if stars.size == 0:
            continue
        flux = new.sources.flux[stars]
        n, values = _on(scorr, new.sources.x[stars], new.sources.y[stars])
        ends = [float(flux.max()), float(flux.min())]
        row: dict[str, Any] = {"n": n, "flux": ends}
        if zero_point is not None:
            row["mag"] = [round(float(zero_point - 2.5 * np.log10(f)), 2) for f in ends]
        rows.append(_Sample(values, n * per_star).told() | row)
    return rows


def _peaks(scorr: FloatImage, where: tuple[Bool, Bool], planes: Planes) -> dict[str, Any]:
    """Peaks beyond each height, found and expected of noise alone, per sign."""
    x, y, snr = peak_heights(scorr, HEIGHTS[0], planes.fwhm)
    row, column = (np.rint(v).astype(int).clip(0, n - 1) for v, n in zip((y, x), scorr.shape, strict=True))
    told: dict[str, Any] = {}
    n_pixels = [int(np.count_nonzero(pixels)) for pixels in where]
    for height in HEIGHTS:
        rate = expected_peaks(planes.P_D, height)
        told[f"{height:g}"] = {
            name: {
                "expected": round(rate * n, 3),
                "positive": int((snr[pixels[row, column]] >= height).sum()),
                "negative": int((snr[pixels[row, column]] <= -height).sum()),
            }
            for name, pixels, n in zip(("all", "sky"), where, n_pixels, strict=True)
        }
    return told


def _whiteness(d: FloatImage, blank: Bool) -> dict[str, Any]:
    """Correlation of D with itself at small lags in blank sky; in large images, in strips of rows."""
    quiet = np.stack([blank[a:b] & (np.abs(d[a:b]) < QUIET) for a, b in strips(d.shape)])
    values = np.where(quiet, np.stack([d[a:b] for a, b in strips(d.shape)]), np.float32(0))
    n = max(int(np.count_nonzero(quiet)), 1)
    values = values.astype(np.float64)
    values[quiet] -= values.sum() / n
    power = float(np.einsum("sij,sij->", values, values)) / n
    found: dict[tuple[int, int], float] = {}
    for j in range(LAGS + 1):
        for i in range(-LAGS if j else 1, LAGS + 1):
            found[j, i] = _lagged(values, quiet, j, i) / power if power > 0 else 0.0
    neighbours = 0.5 * (found[0, 1] + found[1, 0])
    lag = max(found, key=lambda k: abs(found[k]))
    return {"neighbours": round(neighbours, 4), "largest": round(found[lag], 4), "lag": list(lag)}


def _lagged(values: F8, use: Bool, j: int, i: int) -> float:
    """Mean product of pixels (j, i) apart, within each strip."""
    _, ny, nx = values.shape
    a = np.s_[:, : ny - j, max(0, -i) : nx - max(0, i)]
    b = np.s_[:, j:, max(0, i) : nx - max(0, -i)]
    pairs = int(np.count_nonzero(use[a] & use[b]))
    return float(np.einsum("sij,sij->", values[a], values[b])) / max(pairs, 1)


def _pull(scorr: FloatImage, new: Exposure, matched: Match) -> dict[str, Any]:
    """alpha over its error, which is S_corr, at the stars of both images."""
    ny, nx = scorr.shape
    column = np.rint(new.sources.x[matched.new]).astype(int).clip(0, nx - 1)
    row = np.rint(new.sources.y[matched.new]).astype(int).clip(0, ny - 1)
    values = scorr[row, column]
    values = values[np.isfinite(values)]
    told = _Sample(values, values.size).told()
    median = round(float(np.median(values)), 4) if values.size >= FEWEST else None
    return told | {"median": median}
