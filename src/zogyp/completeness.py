"""What fakes tell: completeness with errors, limits, photometry, one figure of merit.

Plain functions of plain arrays; nothing here knows of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize
from scipy.special import ndtr, ndtri

from zogyp.errors import OptionError

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
LEVELS = (0.8, 0.5, 0.2)  # of completeness whose magnitudes are told
NARROWEST, WIDEST = 0.1, 2.0  # mag, width of the fall; noise alone makes 0.2 at a threshold of 5 sigma
LEAST_FAKES = 8  # of which a curve is fitted
RESAMPLED = 100  # bootstraps of a curve
GOOD = 0.1  # relative error of good photometry
FLOORS = (np.log(1e-4), np.log(10.0))  # of the logarithm of a relative error
BRIGHT = 12.0  # S/N above which the bias of fluxes is told
MAD_TO_SIGMA = 1.482602218505602
SPREAD_ERROR = 1.17  # sqrt(n) times the relative error of a spread from the MAD of n normal deviates
MEDIAN_ERROR = 1.2533  # error of a median over that of a mean, normal deviates
TERMS = {"m_th": 1.0, "m80": 0.8, "m20": 0.6, "m5sigma": 0.3, "m_ph10": 0.2}
PLACES = {"field": 1.0, "galaxy": 0.5}
ALLOWED_FALSE = 10  # false positives of an image at the threshold that gives m_th


def wilson(k: Any, n: Any, z: float = 1.0) -> tuple[F8, F8]:
    """Wilson's interval of a share.

    Parameters
    ----------
    k, n : array_like
        Successes and trials.
    z : float
        Half width in standard deviations; 1 is 68 %.

    Returns
    -------
    low, high : ndarray
        0 and 1 where there was no trial.

    Raises
    ------
    OptionError
        More successes than trials, or less than none.
    """
    k, n = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if ((k < 0) | (k > n)).any():
        raise OptionError("k", k.tolist(), f"between 0 and n = {n.tolist()}")
    trials = np.where(n > 0, n, 1.0)
    p = k / trials
    middle = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    low, high = np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)
    low, high = np.where(k == 0, 0.0, low), np.where(k == n, 1.0, high)  # exactly, whatever rounding does
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def binned(value: F8, found: Bool, edges: Sequence[float] | F8) -> list[dict[str, Any]]:
    """Completeness in bins.

    Parameters
    ----------
    value : (n,)
        Magnitude or S/N of each fake.
    found : (n,)
        Whether it was found.
    edges : (m + 1,)
        Of the bins, rising; a bin holds its lower edge.

    Returns
    -------
    list of dict
        For each bin ``from, to, n, n_found, completeness`` (None without fakes), and ``low, high``: its
        68 per cent interval after Wilson.
    """
    rows = []
    for low, high in pairwise(edges):
        inside = (value >= low) & (value < high)
        n, k = int(inside.sum()), int((inside & found).sum())
        bottom, top = wilson(k, n)
        rows.append(
            {
                "from": float(low),
                "to": float(high),
                "n": n,
                "n_found": k,
                "completeness": k / n if n else None,
                "low": float(bottom),
                "high": float(top),
            }
        )
    return rows


@dataclass(frozen=True)
class Curve:
    """Completeness against magnitude: ``top Phi((middle - m) / width)``, the error function's step.

    Attributes
    ----------
    middle, width : float
        [mag]
    top : float
        Completeness of the brightest.
    """

    middle: float
    width: float
    top: float

    def at(self, mag: Any) -> F8:
        """Completeness at magnitudes."""
        value: F8 = self.top * ndtr((self.middle - np.asarray(mag, dtype=np.float64)) / self.width)
        return value

    def magnitude(self, level: float) -> float:
        """Magnitude of a completeness; NaN where the curve never reaches it."""
        return float(self.middle - self.width * ndtri(level / self.top)) if level < self.top else float("nan")


def fitted(mag: F8, found: Bool) -> Curve | None:
    """The most likely curve; None where the fakes do not show its fall.

    Parameters
    ----------
    mag, found : (n,)
        Magnitudes of the fakes, and which of them were found.
    """
    if mag.size < LEAST_FAKES or found.all() or not found.any():
        return None
    low, high = float(mag.min()), float(mag.max())

    def loss(p: F8) -> float:
        share = np.clip(p[2] * ndtr((p[0] - mag) / np.exp(p[1])), 1e-9, 1 - 1e-9)
        return -float(np.log(np.where(found, share, 1 - share)).sum())

    limits = [(low - 1, high + 1), (np.log(NARROWEST), np.log(WIDEST)), (0.02, 1.0)]
    # if all that is brighter than m and nothing else were found
    start = float(np.clip(low + found.mean() * (high - low), low, high))
    best = None
    for width, top in ((0.2, 0.98), (0.5, 0.7)):
        tried = minimize(loss, [start, np.log(width), top], method="L-BFGS-B", bounds=limits)
        if best is None or tried.fun < best.fun:
            best = tried
    assert best is not None
    return Curve(float(best.x[0]), float(np.exp(best.x[1])), float(best.x[2]))


def limits(mag: F8, found: Bool, seed: np.random.SeedSequence) -> dict[str, Any]:
    """The curve and the magnitudes of `LEVELS` with their errors, by bootstrap.

    Returns
    -------
    dict
        ``n, n_found, top, middle, width, m80, m80_err, ...``; NaN where the fakes do not tell.
    """
    told: dict[str, Any] = {"n": int(mag.size), "n_found": int(found.sum())}
    curve = fitted(mag, found)
    values = [curve.magnitude(level) if curve else np.nan for level in LEVELS]
    others = [] if curve is None else _resampled(mag, found, curve, seed)
    again = [[other.magnitude(level) for level in LEVELS] for other in others]
    told |= {name: getattr(curve, name) if curve else np.nan for name in ("middle", "width", "top")}
    for i, (level, value) in enumerate(zip(LEVELS, values, strict=True)):
        name = f"m{round(100 * level)}"
        known = np.array([row[i] for row in again])
        known = known[np.isfinite(known)]
        # robust: a sample of the bootstrap may have lost what holds the curve
        low, high = np.quantile(known, [0.16, 0.84]) if known.size > RESAMPLED // 2 else (np.nan, np.nan)
        told |= {name: value, f"{name}_err": float(np.hypot((high - low) / 2, _gap(mag, value) / 2))}
    return told


def _gap(mag: F8, value: float) -> float:
    """Distance of the two fakes about a magnitude: no fit knows it better, whatever the bootstrap says."""
    fainter, brighter = mag[mag >= value], mag[mag < value]
    return float(fainter.min() - brighter.max()) if fainter.size and brighter.size else float("nan")


def _resampled(mag: F8, found: Bool, curve: Curve, seed: np.random.SeedSequence) -> list[Curve]:
    """The likeliest curves of bootstrap samples, on a grid around the curve of all; fits would be slow."""
    rng = np.random.default_rng(seed)
    times = np.stack(
        [np.bincount(p, minlength=mag.size) for p in rng.integers(0, mag.size, (RESAMPLED, mag.size))]
    )
    hits, misses = (times[:, use].astype(np.float64) for use in (found, ~found))
    reach = 0.3 + 1.5 * curve.width
    middles = curve.middle + np.linspace(-reach, reach, 45)
    widths = np.clip(curve.width * np.geomspace(1 / 3, 3, 9), NARROWEST, WIDEST)
    tops = np.unique(np.clip(curve.top + np.linspace(-0.24, 0.24, 13), 0.02, 1.0))
    pairs = np.array([(top, middle) for top in tops for middle in middles])
    best, kept = np.full(RESAMPLED, -np.inf), np.zeros((RESAMPLED, 3))
    for width in np.unique(widths):
        step = ndtr((middles[:, None] - mag) / width)
        share = np.clip(np.concatenate([top * step for top in tops]), 1e-9, 1 - 1e-9)
        told = hits @ np.log(share[:, found]).T + misses @ np.log1p(-share[:, ~found]).T
        at = told.argmax(axis=1)
        value = told[np.arange(RESAMPLED), at]
        better = value > best
        best[better] = value[better]
        tried = np.column_stack([pairs[at, 1], np.full_like(value, width), pairs[at, 0]])
        kept[better] = tried[better]
    return [Curve(*(float(v) for v in row)) for row in kept]


def cumulative(snr: F8, thresholds: Sequence[float] | F8) -> list[int]:
    """How many of ``snr`` (n,) have at least each threshold, in size."""
    size = np.abs(np.asarray(snr, dtype=np.float64))
    return [int((size >= t).sum()) for t in thresholds]


def threshold_of(snr: F8, allowed: int, lowest: float) -> tuple[float, bool]:
    """The threshold at which that many false positives are reached, and whether they are at all.

    Parameters
    ----------
    snr : (n,)
        Significances of the false positives down to ``lowest``.
    allowed : int
        At least 1.
    lowest : float
        Taken where there are fewer.
    """
    size = np.sort(np.abs(np.asarray(snr, dtype=np.float64)))[::-1]
    return (float(size[allowed - 1]), True) if size.size >= allowed else (lowest, False)


def photometry(flux: F8, error: F8, true: F8) -> dict[str, Any]:
    """Pull of fluxes against the truth.

    Parameters
    ----------
    flux, error, true : (n,)
        Measured fluxes, their errors, and true ones; signed.

    Returns
    -------
    dict
        ``n``; ``pull_mean`` (with more than 5 spreads left out) and ``pull_spread`` (robust), with errors.
    """
    pull = (flux - true) / error
    pull = pull[np.isfinite(pull)]
    n = pull.size
    names = ("pull_mean", "pull_mean_err", "pull_spread", "pull_spread_err")
    if n < 2:
        return {"n": n, **dict.fromkeys(names, float("nan"))}
    middle = float(np.median(pull))
    spread = float(MAD_TO_SIGMA * np.median(np.abs(pull - middle)))
    kept = pull[np.abs(pull - middle) <= 5 * spread]
    values = (float(kept.mean()), spread / np.sqrt(kept.size), spread, SPREAD_ERROR * spread / np.sqrt(n))
    return {"n": n, **{k: float(v) for k, v in zip(names, values, strict=True)}}


def bias(flux: F8, true: F8) -> tuple[float, float, int]:
    """Median of flux / true - 1, its standard error, and the number of fluxes it is of."""
    ratio = flux / true - 1
    ratio = ratio[np.isfinite(ratio)]
    if ratio.size < 2:
        return float("nan"), float("nan"), int(ratio.size)
    middle = float(np.median(ratio))
    spread = MAD_TO_SIGMA * float(np.median(np.abs(ratio - middle)))
    return middle, MEDIAN_ERROR * spread / float(np.sqrt(ratio.size)), int(ratio.size)


def good_photometry(mag: F8, relative: F8, limit: float) -> float:
    """Faintest magnitude at which fluxes are good to `GOOD`.

    Parameters
    ----------
    mag : (n,)
        True magnitudes.
    relative : (n,)
        Relative errors of the fluxes, flux / true - 1.
    limit : float
        Some magnitude of the order of the limiting one; a unit, no more.

    Returns
    -------
    float
        From errors ``s² = a² + (b 10^(0.4 (m - limit)))²``, a floor and a noise that is the same for all,
        fitted to medians of groups, so that wild fluxes count little; NaN if the floor is above `GOOD`.
    """
    use = np.isfinite(relative) & np.isfinite(mag)
    n = int(use.sum())
    if n < LEAST_FAKES:
        return float("nan")
    order = np.argsort(mag[use], kind="stable")
    size, faint = np.maximum(np.abs(relative[use]), 1e-6)[order], 10 ** (0.4 * (mag[use][order] - limit))
    groups = np.array_split(np.arange(n), np.clip(n // 10, 2, 12))
    middle = np.array([np.median(faint[g]) for g in groups])

    def log_error(p: F8, x: F8) -> F8:
        value: F8 = 0.5 * np.log(np.exp(2 * p[0]) + np.exp(2 * p[1]) * x**2)
        return value

    p = np.log([0.01, 0.2])
    for _ in range(4):  # errors grow within a group: medians are of what is left over the present curve
        over = size * np.exp(-log_error(p, faint))
        seen = np.log([MAD_TO_SIGMA * np.median(over[g]) for g in groups]) + log_error(p, middle)
        p = least_squares(lambda q, seen=seen: log_error(q, middle) - seen, p, bounds=FLOORS).x
    floor, slope = np.exp(p)
    if floor >= GOOD:
        return float("nan")
    return float(limit + 2.5 * np.log10(np.sqrt(GOOD**2 - floor**2) / slope))


def figure_of_merit(by_place: Mapping[str, Mapping[str, float]]) -> float:
    """One number [mag] for how deep, how pure and how exact a subtraction is; the larger the better.

    Parameters
    ----------
    by_place : mapping
        For each place of `PLACES` that there is, the magnitudes named in `TERMS`.

    Returns
    -------
    float
        Their mean, weighted by `TERMS` times `PLACES`; NaN if one of them is not known, as the mean of
        the others would not be comparable.
    """
    total, weight = 0.0, 0.0
    for place, share in PLACES.items():
        for term, part in TERMS.items() if place in by_place else ():
            total += share * part * by_place[place][term]
            weight += share * part
    return total / weight if weight else float("nan")
