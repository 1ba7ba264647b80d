"""The demonstration: a sky of known truth, subtracted, compared with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import zogyp
from zogyp.errors import MissingExtraError
from zogyp.options import SubtractOptions
from zogyp.simulate import simulate, write_pair
from zogyp.sky import Sky

if TYPE_CHECKING:
    from astropy.table import Table

    from zogyp.products import Subtraction

MATCH_RADIUS = 2.0  # px within which a found transient is a true one


@dataclass(frozen=True)
class Demo:
    """What came out of the demonstration.

    Attributes
    ----------
    result : the subtraction.
    matches : a row per true transient: x, y, true_flux, true_snr, found, flux, flux_err, snr.
    false : rows of the table of transients that no true one explains.
    summary : n_true, n_found, n_false, threshold, n_detectable, n_found_detectable, scorr_mad.
    files : what was written where.
    command : the shell command that does the same subtraction.
    """

    result: Subtraction
    matches: Table
    false: Table
    summary: dict[str, Any]
    command: str
    files: dict[str, Path] = field(default_factory=dict)


def run_demo(
    directory: str | Path,
    *,
    seed: int = 1,
    options: SubtractOptions | None = None,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> Demo:
    """Simulate a pair, write it, subtract the files, and match what was found with the truth.

    Raises
    ------
    ZogypError
        What a subtraction may raise.
    """
    options = options or SubtractOptions()
    folder = Path(directory)
    progress("simulating", 0.02)
    pair = simulate(Sky(), seed)
    files = write_pair(pair, folder)
    result = zogyp.subtract(
        files["new"],
        files["ref"],
        options,
        progress=lambda stage, fraction: progress(stage, 0.1 + 0.8 * fraction),
    )
    progress("writing", 0.9)
    files |= result.write(folder, "demo")
    try:
        from zogyp.show.plots import save_overview

        picture = folder / "demo.png"
        save_overview(result, picture)
        files["picture"] = picture
    except MissingExtraError:
        pass  # the report will say what is missing
    matches, false = match(pair.transients, result.transients)
    summary = _summary(matches, false, options.transients.threshold)
    summary["scorr_mad"] = result.summary["scorr_mad"]
    command = f"zogyp subtract {files['new']} {files['ref']} -o {folder}"
    return Demo(result, matches, false, summary, command, files)


def match(truth: Table, found: Table, radius: float = MATCH_RADIUS) -> tuple[Table, Table]:
    """Pair true transients with the nearest found one of the same sign.

    Returns
    -------
    matches : Table
        A row per true transient, the most significant first.
    false : Table
        Rows of ``found`` that no true one explains.
    """
    from astropy.table import Table

    used = np.zeros(len(found), dtype=bool)
    x, y = np.asarray(found["x"], dtype=float), np.asarray(found["y"], dtype=float)
    rows = []
    for true in truth[np.argsort(-np.abs(np.asarray(truth["snr"])))]:
        distance = np.hypot(x - true["x"], y - true["y"])
        distance[used | (np.sign(found["snr"]) != np.sign(true["flux"]))] = np.inf
        best = int(np.argmin(distance)) if len(found) else 0
        hit = bool(len(found)) and bool(distance[best] < radius)
        row = {
            "x": true["x"],
            "y": true["y"],
            "true_flux": true["flux"],
            "true_snr": true["snr"],
            "found": hit,
        }
        for name in ("flux", "flux_err", "snr"):
            row[name] = float(found[name][best]) if hit else np.nan
        if hit:
            used[best] = True
        rows.append(row)
    return Table(rows=rows), found[~used]


def _summary(matches: Table, false: Table, threshold: float) -> dict[str, Any]:
    found = np.asarray(matches["found"], dtype=bool)
    detectable = np.abs(np.asarray(matches["true_snr"])) >= threshold
    return {
        "n_true": len(matches),
        "n_found": int(found.sum()),
        "n_false": len(false),
        "threshold": threshold,
        "n_detectable": int(detectable.sum()),
        "n_found_detectable": int((found & detectable).sum()),
        "false": [
            {name: row[name] for name in ("x", "y", "flux", "flux_err", "snr", "flags")} for row in false
        ],
        "transients": [dict(zip(row.colnames, row.as_void().item(), strict=True)) for row in matches],
    }
