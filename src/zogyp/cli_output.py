"""What the command line shows: tables, JSON, a progress bar, notes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from zogyp.errors import MissingExtraError
from zogyp.io import json_ready

if TYPE_CHECKING:
    from zogyp.coadds import Coadd
    from zogyp.demo import Demo
    from zogyp.forced import Photometry
    from zogyp.products import Subtraction
    from zogyp.survey.alignments import Outcome

Progress = Callable[[str, float], None]

PIPE_WIDTH = 160
BRIGHTEST = 8  # transients shown after a subtraction
MOST_ROWS = 30  # of fluxes shown after photometry


def show(content: Any) -> None:
    """Print a table on stdout: coloured on a terminal, plain text without a margin in a pipe."""
    terminal = sys.stdout.isatty()
    screen = Console(width=None if terminal else PIPE_WIDTH, highlight=False, markup=False, emoji=False)
    with screen.capture() as text:
        screen.print(content)
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """A function ``(stage, fraction)`` that moves a bar on stderr, if that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, fraction: None
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:>16}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)


def note(text: str) -> None:
    """One line on stderr."""
    print(f"zogyp: {text}", file=sys.stderr)


def write_all(
    result: Subtraction, folder: Path, name: str | None, *, compress: bool, quiet: bool
) -> dict[str, Path]:
    """Write all files of a subtraction; its report is made while the planes are written."""
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(_page, result)
        files = dict(result.write(folder, name, compress=compress))
        return files | _put_report(page.result, files, quiet=quiet)


def write_report(result: Subtraction, files: Mapping[str, Path], *, quiet: bool) -> dict[str, Path]:
    """Write the HTML report beside the other files and name it, or tell how to get it."""
    return _put_report(lambda: _page(result), files, quiet=quiet)


def _page(result: Subtraction) -> str:
    from zogyp.show.report import render

    return render(result)


def _put_report(page: Callable[[], str], files: Mapping[str, Path], *, quiet: bool) -> dict[str, Path]:
    summary = Path(files["summary"])
    path = summary.with_name(summary.name.removesuffix("_summary.json") + "_report.html")
    try:
        text = page()
    except MissingExtraError as error:
        if not quiet:
            note(f"no report: {error}")
        return {}
    from zogyp.show.report import put

    return {"report": put(text, path)}


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(json_ready(value), indent=2, allow_nan=False))


def print_files(files: Mapping[str, Path]) -> None:
    """Where the results are, one path a line; never broken, so that it can be copied."""
    for what, path in files.items():
        print(f"  {what:<12} {path}")


def print_subtraction(result: Subtraction, files: Mapping[str, Path]) -> None:
    """A short account of a subtraction."""
    show(_subtraction_facts(result.summary))
    if len(result.transients):
        show(_transients(result))
    for text in result.summary.get("notes", ()):
        note(text)
    print_files(files)


def _subtraction_facts(summary: Mapping[str, Any]) -> Table:
    new, ref = summary["inputs"]["new"], summary["inputs"]["ref"]
    facts = Table.grid(padding=(0, 2))
    ny, nx = new["shape"]
    facts.add_row("subtracted", f"{new['name']} - {ref['name']}, {ny} x {nx} px")
    facts.add_row("seeing", f"{_n(new['fwhm'])} px (new), {_n(ref['fwhm'])} px (reference)")
    facts.add_row("stars", f"{new['n_stars']} (new), {ref['n_stars']} (reference) made the PSFs")
    ratio = f"{_n(summary['F_r'], 5)} ± {_n(summary.get('F_r_err'), 2)} reference / new"
    facts.add_row("flux ratio", ratio)
    facts.add_row("S_corr", f"spread {_n(summary['scorr_mad'])} sigma (1 is right)")
    facts.add_row("limiting flux", _limit(summary))
    facts.add_row("masked", f"{100 * summary.get('masked_fraction', 0):.2g} % of the pixels")
    facts.add_row("transients", _likely(summary))
    facts.add_row("verdict", _verdict(summary["certificate"]))
    return facts


def _likely(summary: Mapping[str, Any]) -> str:
    n = summary["n_transients"]
    return f"{n}, {summary['n_likely']} of them more likely real than not" if n else "none"


def _verdict(certificate: Mapping[str, Any]) -> str:
    """Good, or why not."""
    told = [f"{r['reason']} ({_n(r['value'], 3)}, limit {_n(r['limit'], 3)})" for r in certificate["reasons"]]
    return "; ".join([certificate["verdict"], *told])


def _limit(summary: Mapping[str, Any]) -> str:
    magnitude = summary.get("limiting_mag")
    text = f"{_n(summary['limiting_flux'])} at 5 sigma"
    return text if magnitude is None else f"{text}, {magnitude:.2f} mag"


def _transients(result: Subtraction) -> Table:
    found = result.transients
    brightest = np.argsort(-np.abs(np.array(found["snr"], dtype=float)))[:BRIGHTEST]
    title = "the brightest" if len(found) > BRIGHTEST else None
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in ("id", "x", "y", "S/N", "flux", "±", "p_real", "flags"):
        table.add_column(name, justify="right")
    for row in found[brightest]:
        numbers = (f"{row['x']:.2f}", f"{row['y']:.2f}", f"{row['snr']:+.1f}")
        table.add_row(
            str(row["id"]),
            *numbers,
            _n(row["flux"]),
            _n(row["flux_err"], 2),
            f"{row['p_real']:.2f}",
            str(row["flags"] or ""),
        )
    return table


def print_alignments(outcomes: Sequence[Outcome]) -> None:
    """A line for each image: how it lies, how well that is known, or why it failed."""
    table = Table(box=None, padding=(0, 1))
    for name in (
        "image",
        "stars",
        "rms x",
        "rms y",
        "error",
        "rotation",
        "scale",
        "order",
        "covers",
        "s",
        "",
    ):
        table.add_column(name, justify="left" if name in ("image", "") else "right")
    for outcome in outcomes:
        f = outcome.figures
        if outcome.error is not None:
            table.add_row(outcome.image, *[""] * 9, f"failed: {outcome.error}")
            continue
        turned = f"{f['rotation']:.3f}°" + (" mirrored" if f["mirrored"] else "")
        lengths = (f"{f[k]:.3f}" for k in ("rms_x", "rms_y", "error"))
        rest = (f"{f['scale']:.4f}", str(f["order"]), f"{100 * f['overlap']:.0f} %", f"{outcome.seconds:.1f}")
        table.add_row(outcome.image, str(f["n_matched"]), *lengths, turned, *rest, f["way"])
    show(table)
    for outcome in outcomes:
        for path in outcome.files.values():
            print(f"  {path}")


def print_series(outcomes: Sequence[Outcome]) -> None:
    """A line for each image that was subtracted: what it shows, how good it is, or why it failed."""
    table = Table(box=None, padding=(0, 1))
    for name in ("image", "seeing", "spread", "limit", "transients", "real", "s", "verdict"):
        table.add_column(name, justify="left" if name in ("image", "verdict") else "right")
    for outcome in outcomes:
        f = outcome.figures
        if outcome.error is not None:
            table.add_row(outcome.image, *[""] * 6, f"failed: {outcome.error}")
            continue
        numbers = (_n(f["inputs"]["new"]["fwhm"], 3), _n(f["scorr_mad"]), _n(f["limiting_flux"]))
        counts = (str(f["n_transients"]), str(f["n_likely"]), f"{outcome.seconds:.1f}")
        table.add_row(outcome.image, *numbers, *counts, _verdict(f["certificate"]))
    show(table)
    for outcome in outcomes:
        if "report" in outcome.files:
            print(f"  {outcome.files['report']}")


def print_psf(told: Mapping[str, Any]) -> None:
    """A PSF in three lines."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("FWHM", f"{_n(told['fwhm'])} px")
    facts.add_row("stars", f"{told['n_stars']}, reduced chi² {_n(told['chi2'])}")
    facts.add_row("model", f"order {told['order']}, step {_n(told['sampling'])} px, {told['size']} px wide")
    show(facts)
    print_files({"PSF": told["file"]})


def print_info(told: Mapping[str, Any]) -> None:
    """What a file holds, and what was read of it."""
    print(f"{told['path']}, {told['bytes']} bytes")
    table = Table(box=None, padding=(0, 1))
    for name in ("", "no.", "name", "kind", "size", "bitpix", "compression"):
        table.add_column(name)
    for unit in told["extensions"]:
        size = " x ".join(map(str, reversed(unit["axes"])))
        texts = (str(unit["index"]), unit["name"], unit["kind"], size, str(unit["bitpix"]))
        table.add_row("->" if unit["used"] else "", *texts, unit["compression"] or "")
    show(table)
    image = told["image"]
    if image is None:
        print(f"not an image that zogyp can use: {told['error']}")
        return
    facts = Table.grid(padding=(0, 2))
    facts.add_row("image", "{} x {} px (rows x columns)".format(*image["shape"]))
    for key, unit in (("gain", "e-/ADU"), ("read_noise", "e-"), ("saturation", "ADU"), ("zero_point", "mag")):
        known = image[key] is not None
        facts.add_row(key.replace("_", " "), f"{image[key]:g} {unit}" if known else "unknown")
    if image["mjd"] is not None:
        facts.add_row("time", f"MJD {image['mjd']:.5f}, the middle of the exposure")
    facts.add_row("values", f"{_n(image['minimum'])} ... {_n(image['median'])} ... {_n(image['maximum'])}")
    facts.add_row("noise", "given per pixel" if image["has_variance"] else "to be measured")
    facts.add_row("bad pixels", str(image["n_unusable"]))
    facts.add_row("coordinates", _coordinates(image))
    show(facts)
    for text in image["notes"]:
        print(f"note: {text}")


def _coordinates(image: Mapping[str, Any]) -> str:
    if image["projection"] is None:
        return "none"
    ra, dec = (np.nan if v is None else v for v in image["center"] or (None, None))
    return f"{image['projection']}, centre {ra:.5f} {dec:+.5f} deg, {_n(image['scale'])} arcsec/px"


def print_demo(demo: Demo) -> None:
    """The transients that were put in against those that came out."""
    table = Table(box=None, padding=(0, 1))
    for name in ("x", "y", "true flux", "found", "±", "true S/N", "found", ""):
        table.add_column(name, justify="right")
    for row in demo.matches:
        found = row["found"]
        table.add_row(
            f"{row['x']:.1f}",
            f"{row['y']:.1f}",
            f"{row['true_flux']:+.0f}",
            f"{row['flux']:+.0f}" if found else "-",
            f"{row['flux_err']:.0f}" if found else "",
            f"{row['true_snr']:+.1f}",
            f"{row['snr']:+.1f}" if found else "-",
            "found" if found else "missed",
        )
    for row in demo.false:
        place, flux = (
            (f"{row['x']:.1f}", f"{row['y']:.1f}"),
            (f"{row['flux']:+.0f}", f"{row['flux_err']:.0f}"),
        )
        table.add_row(*place, "", *flux, "", f"{row['snr']:+.1f}", "false")
    show(table)
    said = demo.summary
    show(
        f"\n{said['n_found']} of {said['n_true']} transients found, {said['n_false']} false. "
        f"Where their true S/N is at least {said['threshold']:g}: "
        f"{said['n_found_detectable']} of {said['n_detectable']}.\n"
        f"S_corr spreads by {_n(demo.result.summary['scorr_mad'])} sigma (1 is right)."
    )
    print_files(demo.files)
    looks = [demo.files[name] for name in ("picture", "report") if name in demo.files]
    if looks:
        print(f"\nLook at {' and '.join(map(str, looks))}.")
    print(f"\nThen subtract your own: zogyp subtract NEW.fits REF.fits    (as here: {demo.command})")


def _n(value: Any, digits: int = 4) -> str:
    """A number in a few digits; what is missing is a dash."""
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.{digits}g}"


def print_coadd(result: Coadd, path: Path) -> None:
    """What went into a coadd, what did not, and what it amounts to."""
    said = result.summary
    table = Table(box=None, padding=(0, 1))
    names = ("exposure", "weight", "seeing", "flux scale", "sky", "noise", "dx", "dy", "rms", "rejected")
    for name in names:
        table.add_column(name, justify="left" if name == "exposure" else "right")
    for row in result.inputs:
        numbers = (f"{100 * row['weight']:.1f} %", f"{row['fwhm']:.2f}", f"{row['flux_scale']:.4f}")
        places = (f"{row[k]:+.2f}" for k in ("dx", "dy"))
        rest = (f"{row['rms']:.3f}", str(row["rejected"]))
        table.add_row(Path(str(row["file"])).name, *numbers, _n(row["sky"]), _n(row["sigma"]), *places, *rest)
    show(table)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("coadd", f"{said['method']}, {said['n_exposures']} exposures")
    if result.psf is not None:
        facts.add_row("seeing", f"{_n(result.psf.fwhm)} px")
        facts.add_row("F_R", f"{_n(result.F_R, 5)} sigma per ADU of the first exposure")
    show(facts)
    for out in said.get("left_out", ()):
        note(f"left out: {out['path']}: {out['reason']}")
    for name in said.get("duplicates", ()):
        note(f"listed twice, counted once: {name}")
    print_files({"coadd": path})


def print_photometry(result: Photometry, files: Mapping[str, Path]) -> None:
    """The fluxes, image by image; of a long series the first."""
    rows = result.table
    table = Table(box=None, padding=(0, 1))
    named = "name" in rows.colnames
    for name in ("image", "MJD", "name" if named else "id", "S/N", "flux", "±", "mag", "±", "flags"):
        table.add_column(name, justify="left" if name in ("image", "flags") else "right")
    for row in rows[:MOST_ROWS]:
        time, mag = (
            f"{row[k]:.{digits}f}" if np.isfinite(row[k]) else "-" for k, digits in (("time", 4), ("mag", 3))
        )
        fluxes = (f"{row['snr']:+.1f}", _n(row["flux"]), _n(row["flux_err"], 2))
        label = str(row["name" if named else "id"])
        table.add_row(
            Path(row["image"]).name, time, label, *fluxes, mag, _n(row["mag_err"], 2), str(row["flags"])
        )
    show(table)
    if len(rows) > MOST_ROWS:
        print(f"... {len(rows) - MOST_ROWS} more rows in the table")
    for image, reason in result.left_out:
        note(f"left out: {image}: {reason}")
    print_files(files)
