"""Many images brought onto one grid, one by one or side by side; a failure stops none of the others."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from zogyp import io
from zogyp.aligned import write_aligned, write_solution
from zogyp.errors import OptionError, ZogypError
from zogyp.inputs import opened
from zogyp.measure.firstlook import look
from zogyp.options import AlignOptions
from zogyp.registration import Target, register, resampled, target

MANY = 4  # images for which it is worth starting processes
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes
    ----------
    image : str
        The path as it was given.
    files : dict
        Paths written, by product.
    figures : dict
        Of the registration; empty after a failure.
    error : str or None
        Why it failed, in one line.
    seconds : float
        Wall time.
    """

    image: str
    files: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0


def attempted(image: str, work: Callable[[], tuple[dict[str, Path], dict[str, Any]]]) -> Outcome:
    """The outcome of work on one image that gives files and figures; whatever goes wrong is part of it."""
    start = time.perf_counter()
    try:
        files, figures = work()
        outcome = Outcome(image, {k: str(v) for k, v in files.items()}, figures)
    except ZogypError as error:
        outcome = Outcome(image, error=" ".join(str(error).split()))
    except Exception as error:  # a bug, or no memory: the other images go on
        text = " ".join(str(error).split())
        outcome = Outcome(image, error=f"unexpected {type(error).__name__}: {text}")
    return replace(outcome, seconds=time.perf_counter() - start)


@dataclass(frozen=True)
class Job:
    """One image to align: the same for one core, many, and other machines."""

    image: str
    grid: Target
    path: Path
    options: AlignOptions
    transform_only: bool = False
    inputs: tuple[str, ...] = ()

    def __call__(self) -> Outcome:
        """Align the image and write the result; an error becomes part of the outcome."""
        return attempted(self.image, self._run)

    def _run(self) -> tuple[dict[str, Path], dict[str, Any]]:
        options = self.options
        image = opened(self.image, options.image)
        seen = look(image, background_options=options.background, detect=options.detect)
        registration = register(seen, self.grid, options.align)
        if self.transform_only:
            return write_solution(self.path, registration, self.grid.wcs, image), registration.figures()
        moved = resampled(seen, registration, self.grid, options.align.kernel, options.n_threads)
        written = write_aligned(self.path, moved, registration, inputs=self.inputs)
        return {"image": written}, registration.figures()


def align_many(
    images: Sequence[str | os.PathLike[str]],
    *,
    to: str | os.PathLike[str],
    output: str | os.PathLike[str] = "Zoutput",
    options: AlignOptions = AlignOptions(),
    transform_only: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Bring images onto the grid of another and write them.

    Parameters
    ----------
    images : sequence of paths
    to : path
        The image whose grid and WCS the results have.
    output : path
        A folder, for ``NAME_aligned.fits`` of each image; or, for one image, the file ``….fits``.
    options : AlignOptions
    transform_only : bool
        Write ``NAME_aligned.json`` and ``NAME_aligned.head`` (the solution) instead of resampled images.
    executor : concurrent.futures.Executor or None
        Works on the images instead of threads of our own; processes and Dask will do.
    progress : callable or None
        Called with the name of the image that was finished and the fraction done, 0…1.

    Returns
    -------
    list of Outcome
        One for each image, in their order, failures among them.

    Raises
    ------
    OptionError
        Two images would be written to one file, or one over an input.
    InputError
        The reference cannot be used.
    """
    names = [os.fspath(image) for image in images]
    paths = _paths(names, Path(output), transform_only)
    alone = options if len(names) == 1 else replace(options, threads=1)
    grid = target(os.fspath(to), options)
    for folder in {path.parent for path in paths}:
        io.make_folder(folder)
    planes = [getattr(o, kind) for o in (options.image, options.ref) for kind in ("noise", "weight", "mask")]
    inputs = (*names, os.fspath(to), *filter(None, planes))
    jobs = [Job(n, grid, p, alone, transform_only, inputs) for n, p in zip(names, paths, strict=True)]
    if executor is not None:
        return _gathered(jobs, executor, progress)
    with ThreadPoolExecutor(max(1, min(len(jobs), options.n_threads))) as pool:
        return _gathered(jobs, pool, progress)


@contextmanager
def processes(n_images: int, n_threads: int) -> Iterator[Executor | None]:
    """Processes to align many images with, for programs that may start some; None where threads do as well.

    Finding sources holds Python's lock, so threads alone gain little; a process takes a second to start.
    """
    n = min(n_images, n_threads)
    if n < 2 or n_images < MANY:
        yield None
        return
    with ProcessPoolExecutor(n, mp_context=get_context("spawn")) as pool:
        yield pool


def _gathered(jobs: Sequence[Job], executor: Executor, progress: Progress | None) -> list[Outcome]:
    """Outcomes in the order of the jobs, whoever finishes first."""
    futures: dict[Future[Outcome], int] = {executor.submit(job): i for i, job in enumerate(jobs)}
    done: list[Outcome | None] = [None] * len(jobs)
    try:
        for n, future in enumerate(as_completed(futures), start=1):
            done[futures[future]] = future.result()
            if progress is not None:
                progress(io.stem(jobs[futures[future]].image), n / len(jobs))
    finally:
        for future in futures:
            future.cancel()
    return [outcome for outcome in done if outcome is not None]


def _paths(names: Sequence[str], output: Path, transform_only: bool) -> list[Path]:
    """Where each result goes."""
    kinds = (".json",) if transform_only else (".fits", ".fit", ".fits.gz", ".fit.gz")
    ending = next((kind for kind in kinds if output.name.lower().endswith(kind)), None)
    if ending is not None and not output.is_dir():
        if len(names) > 1:
            raise OptionError("output", str(output), f"a folder for {len(names)} images")
        return [output.with_name(output.name[: -len(ending)]) if transform_only else output]
    stems = [io.stem(name) for name in names]
    twice = [stem for stem, n in Counter(stems).items() if n > 1]
    if twice:
        raise OptionError(
            "images", ", ".join(twice[:3]), "of different names", "Align them in separate runs."
        )
    return [output / (f"{stem}_aligned" if transform_only else f"{stem}_aligned.fits") for stem in stems]
