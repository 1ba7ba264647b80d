"""The report of a subtraction: one HTML file that holds its pictures and asks nothing of the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from zogyp.errors import MissingExtraError
from zogyp.products import Subtraction
from zogyp.show import canvas, certified, cutouts, diagnostics, overview, panels, png
from zogyp.show.cutouts import plus_minus

UNKNOWN = "–"
MOST_ROWS = 500  # of the table of transients; the .ecsv has them all
GOOD, FAIR = 0.03, 0.15  # departures of the spread from 1 that need no remark, and that need care

INPUT_ROWS = (
    ("path", "file", ""),
    ("shape", "size (rows × columns)", "px"),
    ("exptime", "exposure time", "s"),
    ("gain", "gain", "e-/ADU"),
    ("read_noise", "read noise", "e-"),
    ("saturation", "saturation", "ADU"),
    ("background", "sky", "ADU"),
    ("sigma", "noise of the sky", "ADU"),
    ("zero_point", "zero point", "mag"),
    ("n_sources", "sources", ""),
    ("fwhm", "seeing (FWHM)", "px"),
    ("n_stars", "stars in the PSF", ""),
    ("psf_order", "order of the PSF's variation", ""),
    ("psf_chi2", "reduced chi² of the PSF", ""),
    ("usable_fraction", "usable fraction of the pixels", ""),
)
SCALE_ROWS = (
    ("F_n", "flux scale of new (F_n)", ""),
    ("F_r", "flux scale of reference (F_r)", ""),
    ("flux_order", "order of its variation over the image", ""),
    ("sigma_n", "noise of new (sigma_n)", "ADU"),
    ("sigma_r", "noise of reference (sigma_r)", "ADU"),
)
REGISTRATION_ROWS = (
    ("n_matched", "stars matched", ""),
    ("rms_x", "registration error in x", "px"),
    ("rms_y", "registration error in y", "px"),
    ("dx", "mean offset in x", "px"),
    ("dy", "mean offset in y", "px"),
)
ALIGNMENT_ROWS = (
    ("way", "aligned by", ""),
    ("resampled", "resampled", ""),
    ("rotation", "rotation", "°"),
    ("scale", "scale", "px per px"),
    ("mirrored", "mirrored", ""),
    ("order", "order of the map", ""),
    ("error", "error of the map", "px"),
    ("overlap", "overlap", "of the image"),
)
SHOWN_ELSEWHERE = {
    "inputs", "options", "notes", "timings", "registration", "alignment", "version", "peak_memory_mb",
    "costs", "F_r_err", "scorr_mad", "n_transients", "certificate", "noise",
} | {name for name, _, _ in SCALE_ROWS}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What to think of a subtraction, in a word and a sentence."""

    level: str  # good, fair or bad
    mark: str
    head: str
    text: str


def write_report(subtraction: Subtraction, path: str | Path, *, n_cutouts: int = 24) -> Path:
    """Write the report of a subtraction as one self-contained HTML file.

    Parameters
    ----------
    subtraction : Subtraction
    path : str or Path
        The file to write; its folder is made when absent. Replaced atomically.
    n_cutouts : int
        Transients shown as cutouts, the first of the table.

    Returns
    -------
    Path

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    OutputError
        The file cannot be written.
    """
    return put(render(subtraction, n_cutouts), path)


def put(page: str, path: str | Path) -> Path:
    """Write what `render` made, as `write_report` does."""
    return canvas.write_whole(path, page.encode("utf-8", "replace"))


def render(subtraction: Subtraction, n_cutouts: int = 24) -> str:
    """The report as text; everything that came from names or headers is escaped."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("jinja2", "plot", "reports") from error
    source = files("zogyp.show").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    summary = subtraction.summary
    rows = panels.transient_rows(subtraction)
    new, ref = canvas.clean(subtraction.new.name, 200), canvas.clean(subtraction.ref.name, 200)
    return page.render(
        title=f"{new} minus {ref}",
        new_name=new,
        ref_name=ref,
        version=text(summary.get("version")),
        verdict=verdict(panels.measured_spread(subtraction), summary.get("certificate")),
        certificate=certified.tables(summary),
        keys=_keys(subtraction, rows),
        notes=[canvas.clean(note, 1000) for note in summary.get("notes") or []],
        overview=overview.drawings(subtraction, rows),
        side=cutouts.SIDE,
        gallery_title=_gallery_title(len(rows), n_cutouts),
        gallery=_gallery(subtraction, n_cutouts),
        table=_table(subtraction, rows),
        figures=_figures(subtraction),
        inputs=_inputs(summary, panels.image_unit(subtraction)),
        scale=_scale(summary, panels.image_unit(subtraction)),
        timings=_timings(summary),
        options=[{"name": name, "value": value} for name, value in flatten(summary.get("options"))],
        others=[
            {"name": name, "value": value}
            for name, value in flatten({k: v for k, v in summary.items() if k not in SHOWN_ELSEWHERE})
        ],
    )


def verdict(spread: float, certificate: dict[str, Any] | None = None) -> Verdict:
    """Judge by the measured spread of S_corr, 1 when all noise is understood, and by the certificate."""
    if not math.isfinite(spread):
        return Verdict("bad", "✕", "Nothing could be judged:", "every pixel is masked or without value.")
    if spread == 0:
        return Verdict("fair", "!", "S_corr is zero everywhere:", "the two images are the same.")
    off = round(spread - 1, 3)  # as it is shown
    measured = f"its measured spread is {spread:.3f}, where 1 is right."
    reasons = "; ".join(certified.reasons(certificate))
    if reasons:
        measured += f" Doubtful: {reasons}."
    if abs(off) <= GOOD:
        level, mark = ("fair", "!") if reasons else ("good", "✓")
        return Verdict(level, mark, "S_corr is in true sigma:", measured)
    if off > 0:
        why = "Noise is underestimated, or residuals of stars or sky remain."
    else:
        why = "Noise is overestimated, or the two images share some of their noise."
    if abs(off) <= FAIR:
        head = f"S_corr is {abs(off):.0%} too {'wide' if off > 0 else 'narrow'}:"
        return Verdict("fair", "!", head, f"{measured} {why}")
    return Verdict("bad", "✕", "S_corr is not in sigma here:", f"{measured} {why}")


def text(value: Any, unit: str = "") -> str:
    """A value for a reader: five digits, a dash for what is unknown."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        shown = f"{value:.5g}"
    elif isinstance(value, (list, tuple)):
        shown = " × ".join(text(part) for part in value)
    else:
        shown = canvas.clean(value, 300)
    return f"{shown} {unit}" if unit else shown


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested dicts as (dotted name, text)."""
    if isinstance(value, dict):
        pairs = [flatten(part, f"{prefix}.{name}" if prefix else str(name)) for name, part in value.items()]
        return [pair for part in pairs for pair in part]
    return [(prefix, text(value))] if prefix else []


def _keys(subtraction: Subtraction, rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The figures that everybody looks at first."""
    summary = subtraction.summary
    risen = sum(1 for row in rows if row["sign"] > 0)
    masked = summary.get("masked_fraction")
    spread = panels.measured_spread(subtraction)
    found = {
        "spread of S_corr (1 is right)": f"{spread:.3f}" if math.isfinite(spread) else UNKNOWN,
        f"transients ({risen} up, {len(rows) - risen} down)": str(len(rows)),
        "limiting flux at 5 sigma": text(summary.get("limiting_flux")),
        "limiting magnitude at 5 sigma": text(summary.get("limiting_mag")),
        "correlation of neighbours in D": text(summary.get("neighbour_corr")),
        "pixels not judged": f"{masked:.2%}" if isinstance(masked, (int, float)) else UNKNOWN,
    }
    return [{"name": name, "value": value} for name, value in found.items() if value != UNKNOWN]


def _gallery_title(n: int, shown: int) -> str:
    if n == 0:
        return "none beyond the threshold"
    return f"the first {shown} of {n}" if n > shown else f"{n}"


def _gallery(subtraction: Subtraction, n: int) -> list[dict[str, Any]]:
    items = []
    for cutout in cutouts.gallery(subtraction, n):
        row = cutout.row
        facts = [f"flux {plus_minus(row['flux'], row['flux_err'])}"]
        if math.isfinite(row["mag"]):
            facts.append(f"mag {plus_minus(row['mag'], row['mag_err'])}")
        if "p_real" in row:
            facts.append(f"p_real {row['p_real']:.2f}")
        facts.append(f"at ({row['x']:.1f}, {row['y']:.1f})")
        if row["flags"]:
            facts.append(f"⚑ {canvas.clean(row['flags'], 100)}")
        direction = "up" if row["sign"] > 0 else "down"
        item = {"id": row["id"], "snr": f"{row['snr']:+.1f} sigma", "direction": direction}
        items.append({**item, "facts": facts, "image": png.address(cutout.png)})
    return items


def _table(subtraction: Subtraction, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The table of transients, as its columns stand."""
    columns = list(subtraction.transients.colnames)
    digits = {
        "x": ".2f",
        "y": ".2f",
        "ra": ".6f",
        "dec": ".6f",
        "snr": "+.2f",
        "mag": ".3f",
        "mag_err": ".3f",
        "p_real": ".3f",
    }
    head = []
    for name in columns:
        unit = subtraction.transients[name].unit
        head.append(f"{name} [{unit}]" if unit else name)
    cells = [
        [
            format(row[name], digits[name])
            if name in digits and isinstance(row[name], float) and math.isfinite(row[name])
            else text(row[name])
            for name in columns
        ]
        for row in rows[:MOST_ROWS]
    ]
    n = len(rows)
    title = f"all {n}" if n <= MOST_ROWS else f"the first {MOST_ROWS} of {n}"
    return {"head": head, "rows": cells, "title": title}


def _figures(subtraction: Subtraction) -> list[dict[str, str]]:
    """The diagnostic figures, each with what it should look like."""
    drawn: list[tuple[str | None, str]] = [
        (
            diagnostics.histogram(subtraction),
            "Distribution of S_corr. It should follow the line; what stands beyond it on either side is "
            "transients, or residuals of stars. The outermost bars gather all that lies further out.",
        ),
        (
            diagnostics.spread(subtraction),
            "Spread of S_corr over the image. It should be near 1 everywhere; a trend tells of a noise, "
            "flux or PSF model that fails there.",
        ),
        (
            diagnostics.autocorrelation(subtraction),
            "Correlation of D between pixels, sources left out. It should be pale: white noise has none.",
        ),
        (
            diagnostics.psfs(diagnostics.psf_stamps(subtraction)),
            "Point spread functions at the image's centre, as the logarithm of their height; axes in pixels.",
        ),
        (
            diagnostics.registration(subtraction),
            "Where the reference's stars lie beside the new image's, the smooth part that is corrected taken "
            "off. The arrows should be short beside the seeing and point anywhere; a pattern is distortion "
            "that the map did not follow.",
        ),
    ]
    return [{"drawing": drawing, "text": words} for drawing, words in drawn if drawing is not None]


def _in_unit(rows: tuple[tuple[str, str, str], ...], adu: str) -> list[tuple[str, str, str]]:
    """Rows with the image's own unit in the place of ADU."""
    return [(key, name, unit.replace("ADU", adu)) for key, name, unit in rows]


def _inputs(summary: dict[str, Any], adu: str) -> list[dict[str, str]]:
    inputs = summary.get("inputs") or {}
    new, ref = inputs.get("new") or {}, inputs.get("ref") or {}
    rows = [
        {"name": name, "new": text(new.get(key), unit), "ref": text(ref.get(key), unit)}
        for key, name, unit in _in_unit(INPUT_ROWS, adu)
    ]
    return [row for row in rows if (row["new"], row["ref"]) != (UNKNOWN, UNKNOWN)]


def _scale(summary: dict[str, Any], adu: str) -> list[dict[str, str]]:
    rows = [
        {"name": name, "value": text(summary.get(key), unit)} for key, name, unit in _in_unit(SCALE_ROWS, adu)
    ]
    error = summary.get("F_r_err")
    if isinstance(error, (int, float)) and isinstance(summary.get("F_r"), (int, float)):
        rows[1]["value"] = plus_minus(float(summary["F_r"]), float(error))
    registration = summary.get("registration") or {}
    rows += [
        {"name": name, "value": text(registration.get(key), unit)} for key, name, unit in REGISTRATION_ROWS
    ]
    alignment = summary.get("alignment") or {}
    rows += [{"name": name, "value": text(alignment.get(key), unit)} for key, name, unit in ALIGNMENT_ROWS]
    return [row for row in rows if row["value"] != UNKNOWN]


def _timings(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds per stage with their share of the whole, and the peak of memory."""
    timings = {k: v for k, v in (summary.get("timings") or {}).items() if isinstance(v, (int, float))}
    longest = max(timings.values(), default=0.0) or 1.0
    rows: list[dict[str, Any]] = [
        {"name": text(name), "value": f"{seconds:.2f} s", "share": round(100 * seconds / longest)}
        for name, seconds in timings.items()
    ]
    memory = summary.get("peak_memory_mb")
    if isinstance(memory, (int, float)):
        rows.append({"name": "peak memory", "value": f"{memory:.0f} MB", "share": None})
    return rows
