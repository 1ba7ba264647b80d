"""The figures that the fakes of all runs amount to, ready for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp import completeness as c
from zogyp.image import FloatImage

if TYPE_CHECKING:
    from astropy.table import Table

    from zogyp.options import EfficiencyOptions
    from zogyp.products import Subtraction

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
ZERO_POINT = 25.0  # mag, of a flux of 1 where nobody told it
KINDS = ("all", "field", "galaxy", "star")
SNR_EDGES = (0, 2, 3, 4, 4.5, 5, 5.5, 6, 7, 8, 10, 15, 25, 50, 100, 1000)
MAG_BIN = 0.5  # mag, at least
STEP = 0.25  # sigma between the thresholds at which false positives are counted
HIGHEST = 10.0  # sigma
CELL = 100  # px, at least, of the map of limits
CELLS = 8  # of the map along a side, at most
GROUPS = 3  # of fakes by the limit at their place
ENOUGH = 25  # fakes of a group


def summarise(
    fakes: Table, false: F8, plain: Subtraction, options: EfficiencyOptions, facts: dict[str, Any]
) -> dict[str, Any]:
    """All figures.

    Parameters
    ----------
    fakes : Table
        Of all runs.
    false : (m,)
        Significances of the false positives down to ``facts["lowest_threshold"]``.
    plain : Subtraction
        The run without fakes.
    options : EfficiencyOptions
    facts : dict
        What the plan decided.

    Returns
    -------
    dict
        Plain numbers, text, lists and dictionaries; NaN where the fakes do not tell.
    """
    from zogyp import __version__

    known = plain.new.zero_point is not None
    zero_point = float(plain.new.zero_point or 0.0) if known else ZERO_POINT
    flux = 5 * float(np.nanmedian(plain.alpha_err))
    limit = zero_point - 2.5 * float(np.log10(flux))
    judged = ~np.asarray(fakes["masked"])
    threshold = options.transients.threshold
    reached, enough = c.threshold_of(false, c.ALLOWED_FALSE, facts["lowest_threshold"])
    by_place = _by_place(fakes, judged, options.fakes.seed)
    told: dict[str, Any] = {
        "version": __version__,
        "inputs": {"new": plain.new.path or plain.new.name, "ref": plain.ref.path or plain.ref.name},
        "options": asdict(options),
        "zero_point": zero_point,
        "zero_point_known": known,
        "threshold": threshold,
        "limiting_flux": flux,
        "m5sigma": limit,
        **facts,
        "n_fakes": len(fakes),
        "n_masked": int((~judged).sum()),
        "completeness": by_place,
        "false_positives": _false(false, threshold, facts["lowest_threshold"])
        | {"threshold_of_10": reached, "ten_reached": enough},
        "photometry": _photometry(fakes, judged, limit),
        "limit_map": limit_map(plain.alpha_err, zero_point),
        "limit_check": _limit_check(fakes, judged, zero_point, options.fakes.seed),
        "scorr_mad": plain.summary.get("scorr_mad"),
    }
    told["figure_of_merit"] = _merit(told, reached, fakes, judged)
    told["notes"] = _notes(told, plain)
    return told


def _seed(seed: int, *key: int) -> np.random.SeedSequence:
    """Random numbers of bootstraps, apart from those of the runs."""
    return np.random.SeedSequence(seed, spawn_key=(1_000_000, *key))


def _of(fakes: Table, kind: str) -> Bool:
    """Which fakes are of a place; "all" are all."""
    place: Bool = np.asarray(fakes["place"]) == kind
    return np.ones(len(fakes), dtype=bool) if kind == "all" else place


def _by_place(fakes: Table, judged: Bool, seed: int) -> dict[str, Any]:
    """Completeness of all fakes, and of those of each place that has any."""
    mag, snr = np.asarray(fakes["true_mag"]), np.abs(np.asarray(fakes["predicted_snr"]))
    found = np.asarray(fakes["found"])
    n_bins = max(1, int((mag.max() - mag.min()) / MAG_BIN))
    edges = np.linspace(mag.min(), np.nextafter(mag.max(), np.inf), n_bins + 1)
    told = {}
    for i, kind in enumerate(KINDS):
        here = _of(fakes, kind)
        use = here & judged
        if not here.any():
            continue
        low, high = c.wilson(int((use & found).sum()), int(use.sum()))
        told[kind] = {
            **c.limits(mag[use], found[use], _seed(seed, i)),
            "n_masked": int((here & ~judged).sum()),
            "completeness": float(found[use].mean()) if use.any() else float("nan"),
            "low": float(low),
            "high": float(high),
            "completeness_with_masked": float(found[here].mean()),
            "by_mag": c.binned(mag[use], found[use], edges),
            "by_snr": c.binned(snr[use], found[use], SNR_EDGES),
        }
    return told


def _false(snr: F8, threshold: float, lowest: float) -> dict[str, Any]:
    """False positives of one image at and above each threshold."""
    at = np.arange(lowest, HIGHEST + STEP / 2, STEP)
    return {
        "n": c.cumulative(snr, [threshold])[0],
        "n_positive": c.cumulative(snr[snr > 0], [threshold])[0],
        "thresholds": at.tolist(),
        "per_image": c.cumulative(snr, at),
    }


def _photometry(fakes: Table, judged: Bool, limit: float) -> dict[str, Any]:
    """Bias of what was found, pull of what was measured at the true places, by sign and by magnitude."""
    true, mag = np.asarray(fakes["true_flux"]), np.asarray(fakes["true_mag"])
    found, sign = np.asarray(fakes["found"]) & judged, np.asarray(fakes["sign"])
    bright = np.abs(np.asarray(fakes["predicted_snr"])) > c.BRIGHT
    flux, alpha, error = (np.asarray(fakes[k]) for k in ("flux", "alpha", "alpha_err"))
    told: dict[str, Any] = {"bias_above_snr": c.BRIGHT}
    for name, values, use in (("flux_bias", flux, found & bright), ("forced_bias", alpha, judged & bright)):
        middle, its_error, n = c.bias(values[use], true[use])
        its_error = max(its_error, _between_runs(fakes, values / true - 1, use))
        told |= {name: middle, f"{name}_err": its_error, f"{name}_n": n}
    for name, use in (("all", judged), ("positive", judged & (sign > 0)), ("negative", judged & (sign < 0))):
        told[name] = c.photometry(sign[use] * alpha[use], error[use], np.abs(true[use]))
    n_bins = max(1, int((mag.max() - mag.min()) / (2 * MAG_BIN)))
    edges = np.linspace(mag.min(), np.nextafter(mag.max(), np.inf), n_bins + 1)
    told["by_mag"] = []
    for low, high in pairwise(edges):
        use = judged & (mag >= low) & (mag < high)
        middle, its_error, _ = c.bias(alpha[use], true[use])
        row = c.photometry(sign[use] * alpha[use], error[use], np.abs(true[use]))
        told["by_mag"].append(
            {"from": float(low), "to": float(high), "bias": middle, "bias_err": its_error} | row
        )
    told["m_ph10"] = c.good_photometry(mag[judged], alpha[judged] / true[judged] - 1, limit)
    return told


def _between_runs(fakes: Table, relative: F8, use: Bool) -> float:
    """Error of a mean over the runs by their scatter: the fakes of one run share its PSFs and flux ratio."""
    run = np.asarray(fakes["run"])
    medians = [np.median(relative[use & (run == r)]) for r in np.unique(run[use])]
    return float(np.std(medians, ddof=1) / np.sqrt(len(medians))) if len(medians) > 1 else 0.0


def limit_map(alpha_err: FloatImage, zero_point: float) -> dict[str, Any]:
    """Magnitude of 5 sigma in coarse cells.

    Parameters
    ----------
    alpha_err : (ny, nx)
        Standard deviation of the flux; NaN where it cannot be judged.
    zero_point : float

    Returns
    -------
    dict
        ``mag`` (rows of cells, NaN where less than a tenth is judged); ``x``, ``y``: the cells' edges [px].
    """
    ny, nx = alpha_err.shape
    edges = [np.linspace(0, n, min(CELLS, max(1, n // CELL)) + 1).round().astype(int) for n in (ny, nx)]
    rows = []
    for y0, y1 in pairwise(edges[0]):
        row = []
        for x0, x1 in pairwise(edges[1]):
            cell = alpha_err[y0:y1, x0:x1]
            values = cell[np.isfinite(cell)]
            typical = float(np.median(values)) if values.size > 0.1 * cell.size else float("nan")
            row.append(float(zero_point - 2.5 * np.log10(5 * typical)))
        rows.append(row)
    return {"mag": rows, "x": (edges[1] - 0.5).tolist(), "y": (edges[0] - 0.5).tolist()}


def _limit_check(fakes: Table, judged: Bool, zero_point: float, seed: int) -> list[dict[str, Any]]:
    """m50 minus the predicted limit, for fakes where that is bright, middling and faint."""
    error = np.asarray(fakes["true_flux"]) / np.asarray(fakes["predicted_snr"])
    use = judged & np.isfinite(error)
    local = zero_point - 2.5 * np.log10(5 * error[use])
    mag, found = np.asarray(fakes["true_mag"])[use], np.asarray(fakes["found"])[use]
    rows = []
    for i, group in enumerate(_groups(local)):
        told = c.limits(mag[group] - local[group], found[group], _seed(seed, 10 + i))
        rows.append(
            {
                "limit_from": float(local[group].min()),
                "limit_to": float(local[group].max()),
                "n": int(group.size),
                "m50_minus_limit": told["m50"],
                "error": told["m50_err"],
            }
        )
    return rows


def _groups(local: F8) -> Iterator[NDArray[np.intp]]:
    """Fakes by rising limit, in equal groups."""
    n = min(GROUPS, local.size // ENOUGH) or min(1, local.size)
    yield from np.array_split(np.argsort(local, kind="stable"), n) if n else ()


def _merit(told: dict[str, Any], reached: float, fakes: Table, judged: Bool) -> dict[str, Any]:
    """The figure of merit and what it is made of."""
    limit = told["m5sigma"]
    m_th = limit - 2.5 * float(np.log10(reached / 5))
    mag, true = np.asarray(fakes["true_mag"]), np.asarray(fakes["true_flux"])
    relative = np.asarray(fakes["alpha"]) / true - 1
    terms: dict[str, dict[str, float]] = {}
    for place in c.PLACES:
        if place in told["completeness"]:
            of, use = told["completeness"][place], judged & _of(fakes, place)
            good = c.good_photometry(mag[use], relative[use], limit)
            terms[place] = {
                "m_th": m_th, "m80": of["m80"], "m20": of["m20"], "m5sigma": limit, "m_ph10": good
            }  # fmt: skip
    return {"value": c.figure_of_merit(terms), "weights": c.TERMS, "places": c.PLACES, "terms": terms}


def _notes(told: dict[str, Any], plain: Subtraction) -> list[str]:
    """What was assumed, and what the fakes could not tell."""
    notes = list(plain.summary.get("notes", []))
    if not told["zero_point_known"]:
        notes.append(f"no zero point: magnitudes are instrumental, a flux of 1 has {ZERO_POINT:g}")
    for kind, words in (("galaxy", "galaxies"), ("star", "bright stars")):
        share = told["options"]["fakes"]["share_galaxies" if kind == "galaxy" else "share_stars"]
        if share > 0 and kind not in told["completeness"]:
            notes.append(f"no {words} to put fakes on: their share lies in the field")
    if not told["false_positives"]["ten_reached"]:
        lowest = f"{told['lowest_threshold']:g} sigma"
        notes.append(f"fewer than 10 false positives above {lowest}: m_th is the magnitude of {lowest}")
    if not np.isfinite(told["figure_of_merit"]["value"]):
        notes.append("no figure of merit: the fakes do not tell all of its terms; more of them may")
    return notes
