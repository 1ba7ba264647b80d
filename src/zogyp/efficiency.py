"""How complete a subtraction is: fakes are put into the images as they were taken, and looked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp import io
from zogyp.efficiency_summary import summarise
from zogyp.errors import FileError, OptionError, ZogypError
from zogyp.fakeplan import LOWEST, Plan
from zogyp.fakeruns import Outcome, Run, bare, described, finished, write_table
from zogyp.headers import quiet
from zogyp.inputs import Given, opened
from zogyp.options import EfficiencyOptions
from zogyp.products import Subtraction, file_name
from zogyp.subtraction import worked_out

if TYPE_CHECKING:
    from astropy.table import Table

F8 = NDArray[np.float64]
Progress = Callable[[str, float], None]
FIRST = 0.1  # of the progress that the run without fakes is


@dataclass(frozen=True)
class Efficiency:
    """What became of the fakes.

    Attributes
    ----------
    fakes : Table
        A row for each, see `zogyp.fakeruns.COLUMNS`.
    false_positives : Table
        Candidates of the run without fakes down to 3 sigma that are not known objects.
    summary : dict
        All figures, ready for JSON.
    plain : Subtraction
        The run without fakes.
    name : str
        First part of files' names.
    """

    fakes: Table
    false_positives: Table
    summary: dict[str, Any]
    plain: Subtraction
    name: str

    def write(self, directory: str | os.PathLike[str] = "Zoutput") -> dict[str, Path]:
        """Write ``NAME_fakes.ecsv`` and ``NAME_efficiency.json``; returns their paths.

        Raises
        ------
        OutputError
        """
        folder = io.make_folder(directory)
        table = write_table(folder / f"{self.name}_fakes.ecsv", self.fakes)
        figures = io.write_json(folder / f"{self.name}_efficiency.json", self.summary)
        return {"fakes": table, "efficiency": figures}


def measure_efficiency(
    new: Given,
    ref: Given,
    options: EfficiencyOptions | None = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    name: str | None = None,
    known: Given | Table | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Efficiency:
    """Measure how complete, pure and exact the subtraction of two images is.

    Fakes of known flux are put into the pixels of both images before anything is done to them, the whole
    subtraction runs, PSFs and registration measured anew, and what it finds is compared with what was put
    in.

    Parameters
    ----------
    new, ref : path or Image
        As for `zogyp.subtract`.
    options : EfficiencyOptions
        How to subtract, and which fakes.
    directory : path or None
        Where ``NAME_fakes/run_0001.ecsv`` … are written as the runs end; runs found there of the same images
        and options are not done again. None: nothing is written.
    name : str or None
        First part of the files' names; default: the name of the new image.
    known : Table, path of one, or None
        Objects that are no false positives: columns ``x, y`` [px] or ``ra, dec`` [deg].
    executor : concurrent.futures.Executor or None
        Works on the runs instead of threads of our own; processes are faster.
    progress : callable or None
        Called with what is done and the fraction done, 0…1.

    Returns
    -------
    Efficiency

    Raises
    ------
    ZogypError
        What `zogyp.subtract` raises; or a run failed, with its number.
    OptionError
        No place for a fake; a table of known objects without coordinates.
    """
    options = options or EfficiencyOptions()
    told = progress or _silent
    image_n, image_r = opened(new, options.new), opened(ref, options.ref)
    name = file_name(name or io.stem(image_n.path or image_n.name))
    objects = _known(known)
    threshold = min(options.transients.threshold, LOWEST)
    low = replace(bare(options), transients=replace(options.transients, threshold=threshold))
    plain, evidence = worked_out(image_n, image_r, low, progress=lambda s, f: told(s, 0.9 * FIRST * f))
    if not np.isfinite(plain.alpha_err).any():
        raise ZogypError("no pixel of the difference can be judged: no fake could be found.")
    told("PSFs", 0.9 * FIRST)
    work = Plan((new, ref), (image_n, image_r), options, plain, evidence)
    false = _false_positives(plain, objects, work.radius)  # before the work, as it may not be possible
    folder = None if directory is None else io.make_folder(Path(directory) / f"{name}_fakes")
    runs = work.runs(folder)
    tables = _gathered(runs, executor, options.n_threads, told)
    fakes = _stacked(tables)
    summary = summarise(fakes, np.asarray(false["snr"], dtype=np.float64), plain, options, work.facts())
    told("done", 1.0)
    return Efficiency(fakes, false, summary, plain, name)


def _silent(stage: str, fraction: float) -> None:
    """The progress of one who does not ask."""


def _gathered(
    runs: Sequence[Run], executor: Executor | None, n_threads: int, progress: Progress
) -> list[Table]:
    """Tables in the order of the runs, those that are there already first.

    Raises
    ------
    ZogypError
        A run failed; those that ended before are kept.
    """
    done = {run.number: table for run in runs if (table := finished(run.path, run.digest)) is not None}
    todo = [run for run in runs if run.number not in done]
    progress("fakes", FIRST + (1 - FIRST) * len(done) / len(runs))
    if executor is None:
        with ThreadPoolExecutor(max(1, min(len(todo), n_threads))) as pool:
            outcomes = _worked(todo, pool, progress, len(done))
    else:
        outcomes = _worked(todo, executor, progress, len(done))
    for outcome in outcomes:
        if outcome.table is None:
            raise ZogypError(f"run {outcome.number} of {len(runs)} with fakes failed: {outcome.error}")
        done[outcome.number] = outcome.table
    return [done[run.number] for run in runs]


def _worked(runs: Sequence[Run], executor: Executor, progress: Progress, before: int) -> list[Outcome]:
    """Outcomes in the order of the runs, whichever ends first; the first failure stops what has not begun."""
    futures: dict[Future[Outcome], int] = {executor.submit(run): i for i, run in enumerate(runs)}
    done: dict[int, Outcome] = {}
    total = before + len(runs)
    try:
        for n, future in enumerate(as_completed(futures), start=before + 1):
            outcome = done[futures[future]] = future.result()
            progress("fakes", FIRST + (1 - FIRST) * 0.98 * n / total)
            if outcome.error is not None:
                break
    finally:
        for future in futures:
            future.cancel()
    return [done[i] for i in sorted(done)]


def _stacked(tables: Sequence[Table]) -> Table:
    """All fakes in one table."""
    columns = {name: np.concatenate([np.asarray(t[name]) for t in tables]) for name in tables[0].colnames}
    return described(columns)


def _known(known: Any) -> dict[str, F8]:
    """Coordinates of the known objects, by the names of their columns.

    Raises
    ------
    FileError
    OptionError
    """
    from astropy.table import Table

    if known is None:
        return {}
    if not isinstance(known, Table):
        path = Path(known)
        with quiet():
            try:
                known = Table.read(path)
            except Exception as error:  # whatever a reader of unknown formats raises
                why = " ".join(str(error).split())[:200] or type(error).__name__
                raise FileError(path, f"not a table that can be read ({why})") from error
    for pair in (("x", "y"), ("ra", "dec")):
        if set(pair) <= set(known.colnames):
            return {name: np.ma.filled(np.ma.asarray(known[name], dtype=np.float64), np.nan) for name in pair}
    raise OptionError("known", ", ".join(known.colnames), "a table with columns x, y [px] or ra, dec [deg]")


def _false_positives(plain: Subtraction, known: dict[str, F8], radius: float) -> Table:
    """Candidates of the run without fakes that are no known objects."""
    table = plain.transients
    wcs = plain.new.wcs
    if "ra" in known:
        if wcs is None or not wcs.has_celestial:
            hint = "Give the known objects' pixels: columns x and y."
            raise OptionError("known", "columns ra, dec", "in pixels, as the image has no WCS", hint)
        u, v = (np.asarray(a) for a in wcs.celestial.all_world2pix(known["ra"], known["dec"], 0, quiet=True))
    elif known:
        u, v = known["x"], known["y"]
    else:
        return table
    x, y = (np.asarray(table[k], dtype=np.float64) for k in ("x", "y"))
    new = np.ones(len(table), dtype=bool)
    for one, other in zip(u, v, strict=True):
        new &= ~(np.hypot(x - one, y - other) <= radius)
    return table[new]
