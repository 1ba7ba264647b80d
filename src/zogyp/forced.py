"""Forced photometry: the flux at given places, whether anything is seen there or not.

Each new image is subtracted from one reference on the reference's pixels, and the planes of the difference
are read at the places, between the pixels. Beside that stands the PSF flux in each of the two images.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from astropy.table import Table, vstack

from zogyp import __version__, io
from zogyp.errors import InputError, OptionError, ZogypError
from zogyp.fluxrows import rows
from zogyp.headers import quiet
from zogyp.image import Image
from zogyp.inputs import opened
from zogyp.options import PhotOptions, SubtractOptions
from zogyp.positions import Positions, positions_of
from zogyp.provenance import spare
from zogyp.subtraction import Reference, worked_out

Given = str | os.PathLike[str] | Image
Progress = Callable[[str, float], None]
STEPS = 3  # batches of each worker, each with one measurement of the reference: so often progress is told


@dataclass(frozen=True)
class Photometry:
    """Fluxes at places in a series of images.

    Attributes
    ----------
    table : Table
        A row for each image and place, the columns of `zogyp.fluxrows.COLUMNS`: images as they were given one
        after the other, and the places of each in the order of their table.
    left_out : tuple of (str, str)
        Images that could not be measured, and why.
    reference : str
    unit : str
        Of the column ``flux``.
    inputs : tuple of str
        Files that must not be replaced.
    """

    table: Table
    left_out: tuple[tuple[str, str], ...] = ()
    reference: str = "reference"
    unit: str = "adu"
    inputs: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """All of it as plain Python values: ``reference``, ``unit``, ``rows``, ``left_out``."""
        names = self.table.colnames
        columns = [self.table[name].tolist() for name in names]
        return {
            "reference": self.reference,
            "unit": self.unit,
            "rows": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)],
            "left_out": [{"image": image, "reason": reason} for image, reason in self.left_out],
        }

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the table as ECSV, or as CSV where ``path`` ends so; all of it or nothing.

        Raises
        ------
        OptionError
            The path is one of the inputs.
        OutputError
            The file cannot be written.
        """
        target = Path(path)
        spare([target], self.inputs)
        io.make_folder(target.parent)
        text = StringIO()
        with quiet():
            kind = "ascii.csv" if target.suffix.lower() == ".csv" else "ascii.ecsv"
            self.table.write(text, format=kind)
        return io.write_text(target, text.getvalue())


def photometry(
    images: Given | Sequence[Given],
    ref: Given,
    positions: str | os.PathLike[str] | Table,
    options: SubtractOptions | None = None,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Photometry:
    """Measure the flux at given places in images, against one reference.

    Parameters
    ----------
    images : path or Image, or a sequence of them
        The new images. One that cannot be measured is left out and named, unless it is the only one.
    ref : path or Image
        All results are on its pixels; an image that does not share them is resampled.
    positions : path or Table
        Columns ``ra`` and ``dec`` [deg], which the WCS of the reference turns into its pixels, or ``x`` and
        ``y``, pixels of the reference, 0-based. ``id`` and ``name`` are carried along.
    options : PhotOptions or SubtractOptions
        How to subtract; what ``grid`` says does not count.
    executor : concurrent.futures.Executor or None
        Works on the images, which then use a thread each; processes will do. Without it one image follows
        the other. The answer does not depend on it.
    progress : callable or None
        Called with what is done and the fraction done, 0…1.

    Returns
    -------
    Photometry

    Raises
    ------
    InputError
        The places or the reference cannot be used, or no place lies on the reference.
    OptionError
        No image is given.
    ZogypError
        No image could be measured; of a single one, its own error.
    """
    given: list[Given] = [images] if isinstance(images, str | os.PathLike | Image) else list(images)
    if not given:
        raise OptionError("images", "none", "one at least")
    options = PhotOptions() if options is None else options
    if options.grid != "reference":
        options = replace(options, grid="reference")
    reference = opened(ref, options.ref)
    places = positions_of(positions).on(reference.wcs, reference.name)
    if not places.inside(reference.shape).any():
        ny, nx = reference.shape
        text = (
            f"{places.source}: none of the {len(places)} places lies on {reference.name} ({nx} x {ny} px). "
        )
        raise InputError(text + "x and y are its pixels, 0-based; ra and dec are degrees, turned by its WCS.")
    alone = options if executor is None or len(given) == 1 else replace(options, threads=1)
    jobs = [Job(image, ref, places, alone) for image in given]
    outcomes = _run(jobs, executor, progress, options.n_threads)
    tables = [o.table for o in outcomes if o.table is not None]
    left_out = tuple((o.image, o.error) for o in outcomes if o.error is not None)
    if not tables:
        first = f"{left_out[0][0]}: {left_out[0][1]}"
        raise ZogypError(f"none of the {len(given)} images could be measured; the first: {first}")
    header = reference.header
    unit = str(header.get("BUNIT") or "adu") if header is not None else "adu"
    table = vstack(tables, metadata_conflicts="silent")
    table.meta |= {"version": __version__, "reference": reference.path or reference.name, "unit": unit}
    table.meta |= {"left_out": [f"{image}: {reason}" for image, reason in left_out]}
    files = tuple(str(p) for p in (*given, ref, positions) if isinstance(p, str | os.PathLike))
    return Photometry(table, left_out, reference.name, unit, files)


@dataclass(frozen=True)
class Outcome:
    """What became of one image: its rows, or in one line why there are none."""

    image: str
    table: Table | None = None
    error: str | None = None


@dataclass(frozen=True)
class Job:
    """One image to measure: the same for one core and many."""

    image: Given
    ref: Given | Reference
    places: Positions
    options: SubtractOptions

    @property
    def name(self) -> str:
        """The path as it was given, or the name of an image in memory."""
        return self.image.name if isinstance(self.image, Image) else os.fspath(self.image)

    def __call__(self) -> Outcome:
        """Measure the image; an error becomes part of the outcome."""
        return self.told(None)

    def told(self, progress: Progress | None) -> Outcome:
        """The same, telling how far it is."""
        try:
            return Outcome(self.name, self.measured(progress))
        except ZogypError as error:
            return Outcome(self.name, error=" ".join(str(error).split()))
        except Exception as error:  # a bug, or no memory: the other images go on
            return Outcome(
                self.name, error=f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
            )

    def measured(self, progress: Progress | None) -> Table:
        """Rows of the image."""
        image = os.fspath(self.image) if isinstance(self.image, os.PathLike) else self.image
        ref = os.fspath(self.ref) if isinstance(self.ref, os.PathLike) else self.ref
        result, evidence = worked_out(image, ref, self.options, progress=progress)
        return rows(result, evidence, self.places, self.name)


def _run(
    jobs: Sequence[Job], executor: Executor | None, progress: Progress | None, workers: int
) -> list[Outcome]:
    """Outcomes in the order of the jobs; the error of a single one is raised as it is."""
    tell: Progress = progress if progress is not None else lambda stage, done: None
    if len(jobs) == 1:
        return [Outcome(jobs[0].name, jobs[0].measured(tell))]
    if executor is None:
        return _together(jobs, tell)
    size = max(len(jobs) // (STEPS * workers), 1)
    batches = [jobs[i : i + size] for i in range(0, len(jobs), size)]
    futures: dict[Future[list[Outcome]], int] = {
        executor.submit(_together, batch): i for i, batch in enumerate(batches)
    }
    try:
        n = 0
        for future in as_completed(futures):
            last = batches[futures[future]][-1]
            n += len(batches[futures[future]])
            tell(io.stem(last.name), n / len(jobs))
    finally:
        for future in futures:
            future.cancel()
    return [outcome for future in futures for outcome in future.result()]


def _together(jobs: Sequence[Job], tell: Progress = lambda stage, done: None) -> list[Outcome]:
    """Outcomes of images whose reference is read and measured once."""
    known: Given | Reference = jobs[0].ref
    if len(jobs) > 1 and not isinstance(known, Reference):
        with suppress(ZogypError):  # each image will tell
            known = Reference(os.fspath(known) if isinstance(known, os.PathLike) else known, jobs[0].options)
    outcomes = []
    for i, job in enumerate(jobs):

        def step(stage: str, done: float, i: int = i, name: str = io.stem(job.name)) -> None:
            tell(f"{name}: {stage}", (i + done) / len(jobs))

        outcomes.append(replace(job, ref=known).told(step))
    return outcomes
