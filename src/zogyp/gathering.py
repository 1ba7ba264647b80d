"""The exposures of a stack: which of the files listed, onto which grid, measured one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from zogyp.errors import OptionError, StarsError, ZogypError
from zogyp.fitsfile import split_path
from zogyp.frames import Failure, Frame, Preparation, exposure_seen, reason_of, seen_by
from zogyp.image import Image
from zogyp.inputs import Given
from zogyp.measure.exposure import measure
from zogyp.measure.firstlook import FirstLook
from zogyp.options import CoaddOptions
from zogyp.registration import Target, target_of

Told = Callable[[str, float], None]


@dataclass(frozen=True)
class Gathered:
    """Exposures on one grid.

    Attributes
    ----------
    frames : list of Frame
        In the order of the list.
    failures : list of Failure
    duplicates : list of str
        Exposures that came twice and were left out.
    grid : Target
    anchor : Frame
        Whose fluxes and positions are the stack's.
    """

    frames: list[Frame]
    failures: list[Failure]
    duplicates: list[str]
    grid: Target
    anchor: Frame


@dataclass(frozen=True)
class Chosen:
    """The grid of a stack, and which of the exposures made it, if one did."""

    grid: Target
    index: int | None
    failures: tuple[Failure, ...] = ()
    failed: tuple[int, ...] = ()


def gather(
    images: Sequence[Given],
    onto: Given | None,
    options: CoaddOptions,
    scratch: Path,
    *,
    executor: Executor | None = None,
    told: Told = lambda name, done: None,
) -> Gathered:
    """Measure exposures on one grid, and keep their planes in the folder ``scratch``.

    Raises
    ------
    OptionError
        Nothing to add.
    ZogypError
        No exposure can be used, or one cannot and ``options.strict``; the grid's image cannot be read.
    """
    given, duplicates = _once(images, options.allow_duplicates)
    if not given:
        raise OptionError("images", "none", "one at least")
    chosen = choose_grid(given, onto, options)
    left = [i for i in range(len(given)) if i not in chosen.failed]
    alone = options if len(left) == 1 else replace(options, threads=1)
    jobs = [
        Preparation(given[i], scratch / f"{i:05d}", alone, None if i == chosen.index else chosen.grid)
        for i in left
    ]
    outcomes = list(_prepared(jobs, options, executor, told))
    frames = [o for o in outcomes if isinstance(o, Frame)]
    failures = [*chosen.failures, *(o for o in outcomes if isinstance(o, Failure))]
    if not options.allow_duplicates:
        frames, twins = _without_twins(frames)
        duplicates += twins
    if failures and (options.strict or not frames):
        many = f"{len(failures)} of {len(given)} exposures cannot be used; the first: "
        raise ZogypError((many if len(given) > 1 else "") + f"{failures[0].path}: {failures[0].reason}")
    made = [f for f in frames if f.registration is None]
    return Gathered(frames, failures, duplicates, chosen.grid, (made or frames)[0])


def name_of(given: Given) -> str:
    """What names an exposure."""
    return given.name if isinstance(given, Image) else os.fspath(given)


def choose_grid(given: Sequence[Given], onto: Given | None, options: CoaddOptions) -> Chosen:
    """The grid: of the first exposure that can be used, of the one with the best seeing, or of an image."""
    if onto is None or (isinstance(onto, str) and onto in {"first", "best"}):
        return _own_grid(given, options, best=onto == "best")
    same = [i for i, g in enumerate(given) if _key(g) == _key(onto)]
    seen = seen_by(onto, options)
    return Chosen(target_of(seen, options.align), same[0] if same else None)


def _own_grid(given: Sequence[Given], options: CoaddOptions, *, best: bool) -> Chosen:
    """The first exposure that can be used, or that of the best seeing, as the grid."""
    failures: list[Failure] = []
    failed: list[int] = []
    found: tuple[float, int, Target] | None = None  # seeing [px], which, its grid
    for i, one in enumerate(given):
        try:
            seen = exposure_seen(one, options)
            grid = target_of(seen, options.align)
            if len(grid.stars) < options.psf.min_stars:
                raise StarsError("a grid for others", len(grid.stars), options.psf.min_stars)
            seeing = _seeing(seen, options) if best else 0.0
        except ZogypError as error:
            failures.append(Failure(name_of(one), reason_of(error, name_of(one))))
            failed.append(i)
            continue
        if found is None or seeing < found[0]:
            found = (seeing, i, grid)
        if not best:
            break
    if found is None:
        raise ZogypError(f"no exposure can be used; the first: {failures[0].path}: {failures[0].reason}")
    return Chosen(found[2], found[1], tuple(failures), tuple(failed))


def _seeing(seen: FirstLook, options: CoaddOptions) -> float:
    """FWHM of the PSF [px]: sources alone may mislead in crowded fields."""
    return measure(
        seen, background_options=options.background, detect=options.detect, psf_options=options.psf
    ).psf.fwhm


def _key(given: Given) -> tuple[object, ...]:
    """What two names of one image share."""
    if isinstance(given, Image):
        return (id(given),)
    path, ext = split_path(given)
    with suppress(OSError):
        status = os.stat(path)
        return (status.st_dev, status.st_ino, ext)
    return (os.path.abspath(path), ext)


def _once(images: Sequence[Given], allowed: bool) -> tuple[list[Given], list[str]]:
    """The images without those that are listed again."""
    if allowed:
        return list(images), []
    kept: dict[tuple[object, ...], Given] = {}
    again = []
    for image in images:
        if _key(image) in kept:
            again.append(name_of(image))
        else:
            kept[_key(image)] = image
    return list(kept.values()), again


def _without_twins(frames: Sequence[Frame]) -> tuple[list[Frame], list[str]]:
    """Frames without those of the very pixels of an earlier one: copies under another name."""
    first: dict[bytes, Frame] = {}
    for frame in frames:
        first.setdefault(frame.digest, frame)
    kept = [f for f in frames if first[f.digest] is f]
    twins = [f"{f.path} (the pixels of {first[f.digest].path})" for f in frames if first[f.digest] is not f]
    return kept, twins


def _prepared(
    jobs: Sequence[Preparation], options: CoaddOptions, executor: Executor | None, told: Told
) -> Iterator[Frame | Failure]:
    """Outcomes in the order of the jobs, whoever finishes first."""
    if executor is not None:
        yield from _gathered(jobs, executor, told)
        return
    with ThreadPoolExecutor(max(1, min(len(jobs), options.n_threads))) as pool:
        yield from _gathered(jobs, pool, told)


def _gathered(jobs: Sequence[Preparation], executor: Executor, told: Told) -> list[Frame | Failure]:
    futures: dict[Future[Frame | Failure], int] = {executor.submit(job): i for i, job in enumerate(jobs)}
    done: dict[int, Frame | Failure] = {}
    try:
        for n, future in enumerate(as_completed(futures), start=1):
            done[futures[future]] = future.result()
            told(jobs[futures[future]].path, n / len(jobs))
    finally:
        for future in futures:
            future.cancel()
    return [done[i] for i in range(len(jobs))]
