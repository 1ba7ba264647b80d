"""The figures of a subtraction, ready for JSON, headers and the report."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from zogyp.certificate import certify, verdict
from zogyp.core.counting import moments
from zogyp.image import FloatImage
from zogyp.measure.noise import strips
from zogyp.measure.robust import robust_sigma, sample
from zogyp.stopwatch import Stopwatch, peak_memory_mb

if TYPE_CHECKING:
    from zogyp.differencing import Planes
    from zogyp.fluxscale import Match
    from zogyp.measure.exposure import Exposure
    from zogyp.options import SubtractOptions
    from zogyp.products import Subtraction

MOST_ARROWS = 400  # stars whose residuals the summary tells


def summarise(
    result: Subtraction,
    exposures: tuple[Exposure, Exposure],
    matched: Match,
    planes: Planes,
    options: SubtractOptions,
    watch: Stopwatch,
) -> dict[str, Any]:
    """All figures of a subtraction as plain numbers, strings, lists and dictionaries."""
    from zogyp import __version__

    new, ref = exposures
    n_judged, _, scorr_std = moments(result.Scorr)
    scorr, alpha_err = _some(result.Scorr), _some(result.alpha_err)
    limit = 5 * float(np.median(alpha_err)) if alpha_err.size else float("nan")
    zero_point = new.image.zero_point
    ratio = matched.flux_ratio.typical
    summary: dict[str, Any] = {
        "version": __version__,
        "inputs": {"new": _figures(new), "ref": _figures(ref)},
        "options": asdict(options),
        "F_n": 1.0,
        "F_r": ratio,
        "F_r_err": matched.flux_ratio.error * (ratio if matched.flux_ratio.log else 1.0),
        "flux_order": matched.flux_ratio.order,
        "sigma_n": new.sigma,
        "sigma_r": ref.sigma,
        "F_D": planes.F_D,
        "registration": _registration(new, ref, matched),
        "noise": planes.noise,
        "fwhm": planes.fwhm,
        "scorr_mad": robust_sigma(scorr) if scorr.size else float("nan"),
        "scorr_std": scorr_std,
        "neighbour_corr": neighbour_correlation(result.D),
        "limiting_flux": limit,
        "limiting_mag": None if zero_point is None else float(zero_point - 2.5 * np.log10(limit)),
        "n_transients": len(result.transients),
        "n_likely": int((np.asarray(result.transients["p_real"]) > 0.5).sum()),
        "masked_fraction": 1 - n_judged / result.Scorr.size,
        "n_tiles": planes.n_tiles,
        "notes": _notes((n_judged, scorr_std), exposures, matched),
        "timings": dict(watch.seconds),
        "costs": dict(watch.costs),
        "peak_memory_mb": peak_memory_mb(),
    }
    figures = certify(result, exposures, matched, planes)
    return summary | {"certificate": verdict(figures, summary, options.certificate)}


def _registration(new: Exposure, ref: Exposure, matched: Match) -> dict[str, Any]:
    """How the stars of the two images lie on each other."""
    return {
        "n_matched": int(matched.new.size),
        "rms_x": matched.dx.scatter,
        "rms_y": matched.dy.scatter,
        "dx": matched.dx.typical,
        "dy": matched.dy.typical,
        "residuals": _residuals(new, ref, matched),
    }


def _residuals(new: Exposure, ref: Exposure, matched: Match) -> dict[str, list[float]]:
    """Where matched stars are, and how far apart the two images have them, less the smooth part."""
    i, j = matched.new[:MOST_ARROWS], matched.ref[:MOST_ARROWS]
    x, y = new.sources.x[i], new.sources.y[i]
    dx = ref.sources.x[j] - x - matched.dx.grid(x, y)
    dy = ref.sources.y[j] - y - matched.dy.grid(x, y)
    return {k: np.round(v, 4).tolist() for k, v in {"x": x, "y": y, "dx": dx, "dy": dy}.items()}


def _some(plane: FloatImage) -> FloatImage:
    """A sample of the finite pixels; all of them should it hold none."""
    some: FloatImage = sample(plane)
    return some[np.isfinite(some)] if np.isfinite(some).any() else plane[np.isfinite(plane)]


def _notes(judged: tuple[int, float], exposures: tuple[Exposure, Exposure], matched: Match) -> list[str]:
    """What was assumed of the images, and what is odd about the result.

    ``judged`` is the number of pixels with an S_corr, and their standard deviation.
    """
    new, ref = exposures
    notes = [f"new: {n}" for n in new.notes] + [f"reference: {n}" for n in ref.notes]
    if judged[0] and judged[1] == 0:
        notes.append("the two images are identical: the difference is zero everywhere")
    if matched.new.size == 0:
        notes.append("no star of one image lies on a star of the other: are they registered?")
    if not judged[0]:
        notes.append("no pixel can be judged: every one is too near to bad pixels")
    return notes


def neighbour_correlation(d: FloatImage) -> float:
    """Correlation of neighbours along rows and columns of D (a part of a large one), peaks left out."""
    d = np.stack([d[a:b] for a, b in strips(d.shape)])
    clipped = np.where(np.abs(d) < 4, d, np.nan)
    power = float(np.nanmean(clipped**2)) if np.isfinite(clipped).any() else float("nan")
    if not power > 0:
        return 0.0 if power == 0 else float("nan")
    across = float(np.nanmean(clipped[..., 1:] * clipped[..., :-1]))
    along = float(np.nanmean(clipped[:, 1:] * clipped[:, :-1]))
    return 0.5 * (across + along) / power


def _figures(exposure: Exposure) -> dict[str, Any]:
    """What was read and measured of one image."""
    image, psf = exposure.image, exposure.psf
    return {
        "name": image.name,
        "path": image.path,
        "shape": list(image.shape),
        "gain": None if exposure.noise.gain is None else float(exposure.noise.gain),
        "read_noise": image.read_noise,
        "saturation": image.saturation,
        "zero_point": image.zero_point,
        "sigma": exposure.sigma,
        "background": exposure.level.typical,
        "fwhm": psf.fwhm,
        "n_sources": len(exposure.sources),
        "n_stars": psf.n_stars,
        "psf_order": psf.order,
        "psf_chi2": psf.chi2,
        "usable_fraction": np.count_nonzero(image.good) / image.good.size,
    }
