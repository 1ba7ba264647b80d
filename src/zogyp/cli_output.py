"""What the command line shows: tables, JSON, a progress bar, notes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from rich.console import Console
from rich.table import Table

from zogyp.errors import MissingExtraError

if TYPE_CHECKING:
    from zogyp.demo import Demo
    from zogyp.products import Subtraction

Progress = Callable[[str, float], None]

BRIGHTEST = 8  # transients shown after a subtraction


class _Console(Console):
    """A console that leaves a closed pipe to `zogyp.cli.main`."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console() -> Console:
    """Standard output; a pipe gets plain text of 100 columns."""
    return _Console(width=None if sys.stdout.isatty() else 100, highlight=False)


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


def write_report(result: Subtraction, files: Mapping[str, Path], *, quiet: bool) -> Path | None:
    """Write the HTML report beside the other files, or tell how to get it."""
    from zogyp.show.report import write_report as write

    summary = Path(files["summary"])
    path = summary.with_name(summary.name.removesuffix("_summary.json") + "_report.html")
    try:
        write(result, path)
    except MissingExtraError as error:
        if not quiet:
            note(f"no report: {error}")
        return None
    return path


def stem(path: str | Path) -> str:
    """Name of an image file without folder, extension in brackets, and suffixes."""
    name = Path(str(path).split("[")[0]).name
    for suffix in (".gz", ".fz", ".Z", ".bz2"):
        name = name.removesuffix(suffix)
    return Path(name).stem or "image"


def plain(value: Any) -> Any:
    """A value as JSON has it: numpy, paths and dataclasses unwrapped, NaN and infinity null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(plain(value), indent=2, allow_nan=False))


def print_files(files: Mapping[str, Path]) -> None:
    """Where the results are, one path a line; never broken, so that it can be copied."""
    for what, path in files.items():
        print(f"  {what:<12} {path}")


def print_subtraction(result: Subtraction, files: Mapping[str, Path]) -> None:
    """A short account of a subtraction."""
    screen = console()
    screen.print(_subtraction_facts(result.summary))
    if len(result.transients):
        screen.print(_transients(result))
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
    facts.add_row("transients", str(summary["n_transients"]))
    return facts


def _limit(summary: Mapping[str, Any]) -> str:
    magnitude = summary.get("limiting_mag")
    text = f"{_n(summary['limiting_flux'])} at 5 sigma"
    return text if magnitude is None else f"{text}, {magnitude:.2f} mag"


def _transients(result: Subtraction) -> Table:
    found = result.transients
    brightest = np.argsort(-np.abs(np.array(found["snr"], dtype=float)))[:BRIGHTEST]
    title = "the brightest" if len(found) > BRIGHTEST else None
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in ("id", "x", "y", "S/N", "flux", "±", "flags"):
        table.add_column(name, justify="right")
    for row in found[brightest]:
        numbers = (f"{row['x']:.2f}", f"{row['y']:.2f}", f"{row['snr']:+.1f}")
        table.add_row(
            str(row["id"]), *numbers, _n(row["flux"]), _n(row["flux_err"], 2), str(row["flags"] or "")
        )
    return table


def print_psf(told: Mapping[str, Any]) -> None:
    """A PSF in three lines."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("FWHM", f"{_n(told['fwhm'])} px")
    facts.add_row("stars", f"{told['n_stars']}, reduced chi² {_n(told['chi2'])}")
    facts.add_row("model", f"order {told['order']}, step {_n(told['sampling'])} px, {told['size']} px wide")
    console().print(facts)
    print_files({"PSF": told["file"]})


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
            "found" if found else "not found",
        )
    screen = console()
    screen.print(table)
    said = demo.summary
    screen.print(
        f"\n{said['n_found']} of {said['n_true']} transients found, {said['n_false']} false. "
        f"Where their true S/N is at least {said['threshold']:g}: "
        f"{said['n_found_detectable']} of {said['n_detectable']}.\n"
        f"S_corr spreads by {_n(demo.result.summary['scorr_mad'])} sigma (1 is right)."
    )
    print_files(demo.files)
    looks = [demo.files[name] for name in ("picture", "report") if name in demo.files]
    if looks:
        print(f"\nLook at {' and '.join(map(str, looks))}")
    print(f"Then subtract your own: zogyp subtract NEW.fits REF.fits    (as here: {demo.command})")


def _n(value: Any, digits: int = 4) -> str:
    """A number in a few digits; what is missing is a dash."""
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.{digits}g}"
