"""The command ``zogyp efficiency``, and how its result looks on a terminal. No science here."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from zogyp.cli_commands import PLAIN, Common, Flags, Output
from zogyp.errors import MissingExtraError

if TYPE_CHECKING:
    from rich.table import Table

    from zogyp.efficiency import Efficiency

USUAL_RUNS = 8  # for the number of processes, while nobody knows how many runs there will be


def efficiency(
    new: Path,
    ref: Path,
    /,
    *,
    output: Output = Path("Zoutput"),
    name: str | None = None,
    known: Path | None = None,
    picture: Annotated[bool, Parameter(negative="--no-picture", show_default=False)] = True,
    options: Flags = None,
    common: Common = PLAIN,
) -> None:
    """Measure how complete a subtraction is: fakes are put into the raw images, and looked for.

    Parameters
    ----------
    new
        New image: FILE.fits, or FILE.fits[extension].
    ref
        Reference image.
    output
        Folder for the results; runs that were finished there are not done again.
    name
        First part of the results' names; default: the name of the new image.
    known
        Table of objects that are no false positives: columns x, y [px] or ra, dec [deg].
    picture
        Draw NAME_efficiency.png too (--no-picture: do not).
    """
    import zogyp
    from zogyp import cli_output as out
    from zogyp.survey.alignments import processes

    n_runs = options.fakes.images or USUAL_RUNS
    with out.progress(common.quiet) as progress, processes(n_runs, options.n_threads) as pool:
        result = zogyp.measure_efficiency(
            new, ref, options, directory=output, name=name, known=known, executor=pool, progress=progress
        )
        files = result.write(output)
        if picture:
            files |= _drawn(result, Path(output), quiet=common.quiet)
    if common.json:
        out.print_json({**result.summary, "files": files})
    elif not common.quiet:
        print_efficiency(result, files)


def _drawn(result: Efficiency, folder: Path, *, quiet: bool) -> dict[str, Path]:
    """Draw the picture, or tell how to get it."""
    from zogyp import cli_output as out
    from zogyp.show.efficiency_plots import save_efficiency

    try:
        return {"picture": save_efficiency(result, folder / f"{result.name}_efficiency.png")}
    except MissingExtraError as error:
        if not quiet:
            out.note(f"no picture: {error}")
        return {}


def print_efficiency(result: Efficiency, files: Mapping[str, Path]) -> None:
    """What was found of the fakes, by where they lay, and what that amounts to."""
    from rich.table import Table

    from zogyp import cli_output as out

    told = result.summary
    table = Table(box=None, padding=(0, 1))
    for column in ("fakes", "number", "masked", "found", "m80", "±", "m50", "±", "m20", "±"):
        table.add_column(column, justify="left" if column == "fakes" else "right")
    for place, row in told["completeness"].items():
        limits = [_mag(row[f"m{level}{error}"]) for level in (80, 50, 20) for error in ("", "_err")]
        share = row["completeness"]
        found = f"{100 * share:.1f} %" if isfinite(share) else "-"
        table.add_row(place, str(row["n"] + row["n_masked"]), str(row["n_masked"]), found, *limits)
    out.show(table)
    out.show(_facts(told))
    for text in told["notes"]:
        out.note(text)
    out.print_files(files)


def _facts(told: Mapping[str, Any]) -> Table:
    """Limits, false positives, photometry and the figure of merit, a line each."""
    from rich.table import Table

    false, photo, merit = told["false_positives"], told["photometry"], told["figure_of_merit"]["value"]
    facts = Table.grid(padding=(0, 2))
    unit = "mag" if told["zero_point_known"] else f"mag, instrumental, zero point {told['zero_point']:g}"
    facts.add_row("5 sigma", f"{told['m5sigma']:.2f} {unit}")
    least = "" if false["ten_reached"] else "less than "
    ten = f"{least}10 above {false['threshold_of_10']:.2f} sigma"
    text = f"{false['n']} above {told['threshold']:g} sigma, {ten}"
    facts.add_row("false positives", text)
    bias, error = 100 * photo["flux_bias"], 100 * photo["flux_bias_err"]
    text = f"{bias:+.2f} ± {error:.2f} % above {photo['bias_above_snr']:g} sigma" if isfinite(bias) else "-"
    facts.add_row("flux bias", text)
    pull = photo["all"]
    mean, spread = (f"{pull[k]:.2f} ± {pull[f'{k}_err']:.2f}" for k in ("pull_mean", "pull_spread"))
    facts.add_row("pull", f"mean {mean}, spread {spread} (0 and 1 are right)")
    facts.add_row("good to 10 %", f"{_mag(photo['m_ph10'])} mag")
    facts.add_row("figure of merit", f"{_mag(merit)} mag" if isfinite(merit) else "-")
    return facts


def _mag(value: float) -> str:
    return f"{value:.2f}" if isfinite(value) else "-"
