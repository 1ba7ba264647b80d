"""Co-add exposures of one field: the story on one page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from zogyp import __version__
from zogyp.coadds import HIDDEN, Coadd, described, detector, input_table, typical_noise
from zogyp.combination import bytes_of, combine
from zogyp.errors import OptionError, OutputError, StarsError, ZogypError
from zogyp.frames import Failure, Frame, FrameRows, reason_of
from zogyp.gathering import Gathered, gather, name_of
from zogyp.image import UNUSABLE
from zogyp.incremental import as_added, base_of, frame_of, joined, known_ones, opened_coadd
from zogyp.inputs import Given
from zogyp.options import CoaddOptions
from zogyp.outliers import star_share
from zogyp.plainsum import depth_of, median_variance
from zogyp.propersum import Base, add_all, psf_of, stamp_size
from zogyp.scaled import Scaled, scaled
from zogyp.stopwatch import Stopwatch, peak_memory_mb

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Stack:
    """Measured exposures, ready to be summed.

    ``adu`` is the unit of flux in ADU of the first exposure: such that numbers are near 1 whatever the
    unit of the images.
    """

    frames: list[Scaled]
    wcs: Any
    shape: tuple[int, int]
    adu: float
    options: CoaddOptions
    told: Callable[[float], None]
    old: Coadd | None = None
    base: Base | None = None


def coadd(
    images: Sequence[Given],
    *,
    onto: Given | None = None,
    add_to: str | os.PathLike[str] | Coadd | None = None,
    remove_from: str | os.PathLike[str] | Coadd | None = None,
    options: CoaddOptions = CoaddOptions(),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Coadd:
    """Co-add exposures of one field.

    Each exposure is read, cleaned, brought onto one grid and measured by itself, then summed; what the
    others contradict is left out. One that cannot be used is left out and named in the summary.

    Parameters
    ----------
    images : sequence of paths or Images
    onto : path, Image, "first", "best" or None
        Whose grid the coadd has: an image's, the first exposure's (default), that of the best seeing.
    add_to, remove_from : path, Coadd or None
        A proper coadd that the exposures are added to, or taken out of; its grid and flux scale stay.
    options : CoaddOptions
        Everything that can be tuned; the defaults serve.
    executor : concurrent.futures.Executor or None
        Measures the exposures instead of threads of our own.
    progress : callable or None
        Called with the name of the stage and the fraction done, 0…1.

    Returns
    -------
    Coadd

    Raises
    ------
    OptionError
        No exposure is given, or options that exclude each other.
    ZogypError
        No exposure can be used; or one cannot and ``options.strict``.
    InputError
        The image ``onto`` or the coadd cannot be used.
    OutputError
        The folder for registered exposures is full or cannot be written to.
    """
    if isinstance(images, str | os.PathLike):
        raise TypeError("images must be a list of paths or Images, not one")
    watch = Stopwatch(progress)
    old = _old(add_to, remove_from, onto, options)
    try:
        with TemporaryDirectory(prefix="zogyp-", dir=options.scratch, ignore_cleanup_errors=True) as folder:
            result = _coadd(
                images, onto, (old, remove_from is not None), options, executor, watch, Path(folder)
            )
    except OSError as error:
        where = options.scratch or "the folder for temporary files"
        raise OutputError(where, error.strerror or str(error)) from error
    watch.tell("done", 1.0)
    figures = {"timings": dict(watch.seconds), "costs": dict(watch.costs), "peak_memory_mb": peak_memory_mb()}
    return replace(result, summary=result.summary | figures)


def _old(add_to: Any, remove_from: Any, onto: Given | None, options: CoaddOptions) -> Coadd | None:
    """The coadd to begin with."""
    given = add_to if add_to is not None else remove_from
    if given is None:
        return None
    if add_to is not None and remove_from is not None:
        raise OptionError("remove_from", remove_from, "left out when add_to is given")
    if onto is not None:
        raise OptionError("onto", onto, "left out when there is a coadd: its grid stays")
    if options.method != "proper":
        raise OptionError("method", options.method, "proper where a coadd is added to")
    return opened_coadd(given)


def _coadd(
    images: Sequence[Given],
    onto: Given | None,
    begin: tuple[Coadd | None, bool],
    options: CoaddOptions,
    executor: Executor | None,
    watch: Stopwatch,
    folder: Path,
) -> Coadd:
    """Measure, compare and sum exposures whose planes wait in a folder."""
    old, remove = begin
    again: list[str] = []
    start: Frame | None = None
    with watch.stage("measure", 0.0):
        if old is not None:
            start = frame_of(old, folder / "base", options)
        gathered = gather(
            images,
            onto if old is None else old.image,
            options,
            folder,
            executor=executor,
            told=lambda name, done: watch.tell(Path(name).name, 0.6 * done),
        )
    measured = gathered.frames
    if old is not None:
        measured, again = known_ones(measured, old, remove=remove, allowed=options.allow_duplicates)
    with watch.stage("match", 0.6):
        frames, failures = _scaled(measured, start or gathered.anchor, options)
        failures = [*gathered.failures, *failures]
    begun = None if old is None or start is None else (old, start, remove)
    stack = _stack(frames, gathered, options, lambda done: watch.tell("add", 0.65 + 0.35 * done), begun)
    with watch.stage("add", 0.65):
        result = _proper(stack) if options.method == "proper" else _plain(stack)
    left_out = [{"path": f.path, "reason": f.reason} for f in failures] + result.summary.get("left_out", [])
    if options.strict and left_out:
        raise ZogypError(f"an exposure cannot be used: {left_out[0]['path']}: {left_out[0]['reason']}")
    figures = {
        "version": __version__,
        "given": [name_of(g) for g in (*images, onto) if g is not None],
        "left_out": left_out,
        "duplicates": [*again, *gathered.duplicates],
        "options": asdict(options),
    }
    return replace(result, summary=result.summary | figures)


def _scaled(
    frames: Sequence[Frame], anchor: Frame, options: CoaddOptions
) -> tuple[list[Scaled], list[Failure]]:
    """Frames with their flux scales beside the anchor's."""
    found, failures = [], []
    for frame in frames:
        try:
            found.append(replace(scaled(frame, anchor), kernel=options.align.kernel))
        except StarsError as error:
            if options.strict:
                raise
            failures.append(Failure(frame.path, reason_of(error, frame.path)))
    if not found:
        raise ZogypError(f"no exposure can be used; the first: {failures[0].path}: {failures[0].reason}")
    return found, failures


def _stack(
    frames: list[Scaled],
    gathered: Gathered,
    options: CoaddOptions,
    told: Callable[[float], None],
    begin: tuple[Coadd, Frame, bool] | None,
) -> Stack:
    """Frames in a unit of flux in which the first, or the coadd, has F = sigma."""
    grid = gathered.grid
    if begin is None:
        first = frames[0]
        frames = [replace(f, unit=first.sigma / first.scale) for f in frames]
        return Stack(frames, grid.wcs, grid.shape, first.sigma, options, told)
    old, frame, remove = begin
    frames = as_added(frames, old) if remove else frames
    return Stack(frames, grid.wcs, grid.shape, 1 / old.F_R, options, told, old, base_of(old, frame))


def _proper(stack: Stack) -> Coadd:
    """The proper sum."""
    base, adu = stack.base, stack.adu
    summed = add_all(stack.frames, stack.shape, stack.options, stack.told, base)
    frames = summed.frames
    made = summed.total.result(stamp_size(frames, summed.total.plan, base))
    everything = frames if base is None else [base.scaled, *frames]
    psf = psf_of(made, everything, stack.shape)
    R, variance, hidden = made.R, made.variance, (summed.mask & HIDDEN) > 0
    R[hidden] = np.nan
    variance[(made.count <= 0) & ~hidden] = 1.0  # saturated everywhere: the pixel is masked
    F_R = made.F_R / adu
    found = detector(everything, F_R, adu, float(psf.at(*psf.origin).max()))
    image = described(R, variance, summed.mask, found, everything, stack.wcs)
    table = input_table(frames, summed.rejected, adu)
    if stack.old is not None and base is not None:
        table = joined(stack.old, base.scaled, table, frames)
    return Coadd(
        R=R,
        psf=psf,
        variance=variance,
        weight=made.weight / np.float32(adu**2),
        coverage=made.count,
        mask=summed.mask,
        inputs=table,
        F_R=F_R,
        psf_noise=typical_noise(everything),
        image=replace(image, psf=psf),
        summary={
            "method": "proper",
            "n_exposures": len(table),
            "F_R": F_R,
            "fwhm": psf.fwhm,
            "n_tiles": len(summed.total.plan),
            "left_out": [{"path": f.frame.path, "reason": _other_sky(share)} for f, share in summed.dropped],
        },
    )


def _other_sky(share: float) -> str:
    return f"shows another sky: the other exposures contradict {share:.0%} of its light (trailed? misplaced?)"


def _plain(stack: Stack) -> Coadd:
    """Median, mean or clipped mean of the registered exposures, in ADU of the first."""
    frames, adu, options = stack.frames, stack.adu, stack.options
    assert options.method != "proper"
    seeing = [f.frame.fwhm for f in frames]
    made = combine(
        [FrameRows(f.frame, f.scale / adu, int(UNUSABLE)) for f in frames],
        method=options.method,
        weights=[f.depth / adu**2 for f in frames],
        sigmas=[f.sigma / f.scale * adu for f in frames],
        clip=options.reject.threshold,
        share=star_share(float(np.median(seeing)), min(seeing)),
        memory=bytes_of(options.memory),
        n_threads=options.n_threads,
        progress=lambda done: stack.told(0.7 * done),
    )
    weight, variance, mask = depth_of(frames, stack.shape, adu)
    if options.method == "median":
        loss = median_variance(made.count)
        weight, variance = weight / loss, variance * loss
    found = detector(frames, 1.0, adu, None)
    return Coadd(
        R=made.data,
        psf=None,
        variance=variance,
        weight=weight,
        coverage=made.count.astype(np.int32),
        mask=mask,
        inputs=input_table(frames, [0] * len(frames), adu),
        F_R=1.0,
        psf_noise=0.0,
        image=described(made.data, variance, mask, found, frames, stack.wcs),
        summary={"method": options.method, "n_exposures": len(frames), "F_R": 1.0},
    )
