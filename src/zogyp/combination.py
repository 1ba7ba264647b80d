"""Images that share their pixels made into one, pixel by pixel, in strips that fit into little memory."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, Literal, Required, TypedDict, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from zogyp.core import combine as core
from zogyp.errors import OptionError, OutputError, PixelError, ShapeError
from zogyp.fitsfile import open_fits, split_path
from zogyp.headers import celestial
from zogyp.image import Flag, FloatImage, Image, MaskImage
from zogyp.inputs import Given
from zogyp.options import CombineOptions, InputOptions, bytes_of
from zogyp.rows import SPARE, ArrayRows, FileRows, Rows, fill, opened_rows

__all__ = [
    "ArrayRows",
    "Combined",
    "FileRows",
    "Method",
    "Rows",
    "Rule",
    "bytes_of",
    "combine",
    "median",
    "opened_rows",
    "strips",
]

Method = Literal["median", "mean", "clipped"]
Progress = Callable[[str, float], None]
Planes = tuple[Any, Any, Any]  # rows of data, count and weight; a median has no weight

STRIP = 1 << 19  # bytes of an image's strip: larger ones are read no faster and leave the processor's cache


@dataclass(frozen=True)
class Combined:
    """Images made into one.

    Attributes
    ----------
    data : ndarray, float32, (ny, nx)
        NaN where no image has a usable value.
    count : ndarray, uint16, (ny, nx)
        Values that were used.
    weight : ndarray, float32, (ny, nx) or None
        Sum of their weights; None of a median.
    """

    data: FloatImage
    count: MaskImage
    weight: FloatImage | None


class Rule(TypedDict, total=False):
    """What `combine` does with the values of a pixel."""

    method: Required[Method]
    weights: Sequence[float] | None
    sigmas: Sequence[float] | None
    clip: float
    share: float


def combine(
    sources: Sequence[Rows],
    *,
    memory: int,
    n_threads: int,
    progress: Callable[[float], None] | None = None,
    **rule: Unpack[Rule],
) -> Combined:
    """One image of many that share their pixels. It depends neither on ``memory`` nor on ``n_threads``.

    Parameters
    ----------
    sources : sequence of Rows
        All of one shape (ny, nx); 65535 at most.
    method : "median", "mean" or "clipped"
        The last is the mean of values near the median; see `zogyp.core.combine.clipped`.
    weights : sequence of float or None
        Of each image, positive; default: 1. A median has none.
    sigmas : sequence of float or None
        Standard deviation of each image's sky [unit of the values], for "clipped"; default: the scatter of
        each pixel's own values.
    clip, share : float
        For "clipped": a value is near the median when it differs by at most ``clip`` sigma and ``share`` of
        the median together; default: 4 and 0.3.
    memory : int
        Bytes for all that is held beside the result and the images that are in memory anyway.
    n_threads : int
        Fewer are used where the memory is not enough.
    progress : callable or None
        Called with the fraction done, 0…1.

    Raises
    ------
    ShapeError
        An image has another shape than the first.
    OptionError
        No image, or too many; a method, weights, sigmas, clip or share that cannot be; not enough memory for
        a row of all images.
    InputError
        A file cannot be read any more.
    """
    apply = _kernel(len(sources), **rule)
    shape = sources[0].shape
    for source in sources:
        if source.shape != shape or 0 in shape:
            hint = f"Images to combine must share their pixels; {sources[0].name} is the first."
            raise ShapeError(source.name, source.shape, shape, hint)
    height, threads = strips(len(sources), shape, memory, n_threads)
    data, count = np.empty(shape, np.float32), np.empty(shape, np.uint16)
    weight = None if rule["method"] == "median" else np.empty(shape, np.float32)
    buffers: SimpleQueue[FloatImage] = SimpleQueue()
    for _ in range(threads):
        buffers.put(np.empty(len(sources) * height * shape[1], np.float32))

    def work(low: int) -> None:
        high = min(low + height, shape[0])
        buffer = buffers.get()
        try:
            block = buffer[: len(sources) * (high - low) * shape[1]].reshape(len(sources), high - low, -1)
            for j, source in enumerate(sources):
                fill(source, low, block[j])
            apply(block, (data[low:high], count[low:high], None if weight is None else weight[low:high]))
        finally:
            buffers.put(buffer)

    _each(work, range(0, shape[0], height), threads, progress)
    return Combined(data, count, weight)


def _each(
    work: Callable[[int], None],
    starts: Sequence[int],
    n_threads: int,
    progress: Callable[[float], None] | None,
) -> None:
    """Work on every strip; at the first error those that have not begun never do."""
    with ThreadPoolExecutor(n_threads) as pool:
        futures = [pool.submit(work, low) for low in starts]
        try:
            for n, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress is not None:
                    progress(n / len(starts))
        finally:
            for future in futures:
                future.cancel()


def _kernel(
    n: int,
    *,
    method: Method,
    weights: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    clip: float = 4.0,
    share: float = 0.3,
) -> Callable[[FloatImage, Planes], None]:
    """What turns a block (n, rows, nx) of n images into rows of data, count and weight.

    Raises
    ------
    OptionError
    """
    if not 1 <= n <= core.MOST:
        raise OptionError("images", n or "none", f"1 to {core.MOST}")
    if method not in get_args(Method):
        raise OptionError("method", method, "one of " + ", ".join(get_args(Method)))
    for name, value in (("clip", clip), ("share", share)):
        if not 0 <= value < math.inf:
            raise OptionError(name, value, "a number of at least 0")
    w = np.ones(n) if weights is None else _of_each("weights", weights, n)
    if not w.all():
        raise OptionError("weights", 0, "positive", "Leave out images that must not count.")
    s = None if sigmas is None else _of_each("sigmas", sigmas, n)
    if method == "median":
        return lambda block, planes: core.median(block, *planes[:2])
    if method == "mean":
        return lambda block, planes: core.mean(block, w, *planes)
    return lambda block, planes: core.clipped(block, w, s, clip, share, *planes)


def _of_each(name: str, numbers: Sequence[float], n: int) -> NDArray[np.float64]:
    """One number of each of n images, finite and not negative.

    Raises
    ------
    OptionError
    """
    values = np.array(numbers, dtype=np.float64)
    if values.shape != (n,):
        raise OptionError(name, f"{values.size} numbers", f"one number for each of {n} images")
    wrong = values[~(np.isfinite(values) & (values >= 0))]
    if wrong.size:
        raise OptionError(name, float(wrong[0]), "finite and not negative")
    return values


def strips(n: int, shape: tuple[int, int], memory: int, n_threads: int) -> tuple[int, int]:
    """Rows that each thread works on at once, and the number of threads, for n images.

    Raises
    ------
    OptionError
        The memory [bytes] does not hold one row of all images.
    """
    ny, nx = shape
    row, fixed = nx * (4 * n + SPARE), core.scratch(n)
    threads = min(max(n_threads, 1), ny, memory // (row + fixed))
    if threads < 1:
        allowed = f"at least {row + fixed} bytes, which hold a row of {n} images"
        raise OptionError("memory", memory, allowed)
    height = min((memory // threads - fixed) // row, max(STRIP // (4 * nx), 1), -(-ny // threads))
    return height, threads


def median(
    images: Sequence[Given],
    options: CombineOptions = CombineOptions(),
    *,
    progress: Progress | None = None,
) -> Image:
    """Combine images that share their pixels, pixel by pixel: no alignment, no scaling, no sky taken off.

    Saturated pixels are used as they are; bad ones, those without a value, and those marked as cosmic rays
    in an `Image` are not.

    Parameters
    ----------
    images : sequence of paths or Images
        All of one shape. Paths as `zogyp.read` takes them.
    options : CombineOptions
        ``method`` "median" (default), "mean", or "clipped": the mean without what is far from the median.
    progress : callable or None
        Called with the name of the stage and the fraction done, 0…1.

    Returns
    -------
    Image
        With the coordinates and the header of the first image; NaN and `Flag.NO_DATA` where no image has a
        usable value. Gain, noise and exposure time are not known. ``notes`` tells what was done.

    Raises
    ------
    OptionError
        No image; the memory is no size, or too little for a row of all images.
    ShapeError
        The images differ in shape.
    InputError
        A file cannot be used, or no pixel of any image can.
    OutputError
        The folder for temporary files is full or cannot be written to.
    """
    if isinstance(images, str | os.PathLike | Image):
        raise TypeError("images must be a list of paths or Images, not one")
    tell = progress or (lambda stage, fraction: None)
    memory, sources = bytes_of(options.memory), []
    with _folder() as scratch:
        for n, given in enumerate(images):
            sources.append(opened_rows(given, InputOptions(), scratch))
            tell("open", 0.3 * (n + 1) / len(images))
        made = combine(
            sources,
            memory=memory,
            n_threads=options.n_threads,
            progress=lambda done: tell("combine", 0.3 + 0.7 * done),
            method=options.method,
            clip=options.clip,
            share=options.share,
        )
    return _image(made, images[0], sources, options.method)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for temporary files that is gone in the end, whatever happens."""
    try:
        folder = TemporaryDirectory(prefix="zogyp-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError("the folder for temporary files", error.strerror or str(error)) from error
    with folder as name:
        yield Path(name)


def _image(made: Combined, first: Given, sources: Sequence[Rows], method: Method) -> Image:
    """What `median` gives back."""
    empty = made.count == 0
    name, n_empty = f"{method} of {len(sources)} images", int(np.count_nonzero(empty))
    if n_empty == empty.size:
        raise PixelError(name, "no pixel has a usable value in any image", 0, empty.size)
    notes = [name]
    if n_empty:
        notes.append(f"{n_empty} pixels have no usable value in any image")
    told = Counter(note for source in sources if isinstance(source, FileRows) for note in source.notes)
    notes += [f"{note} ({n} images)" if n > 1 else note for note, n in told.items()]
    wcs, header, note = _sky(first)
    return Image(
        data=made.data,
        mask=np.where(empty, np.uint16(Flag.NO_DATA), np.uint16(0)),
        wcs=wcs,
        header=header,
        name=name,
        notes=(*notes, note) if note else tuple(notes),
    )


def _sky(given: Given) -> tuple[Any, Any, str | None]:
    """Coordinates and header of an image, and what there is to say of them."""
    if isinstance(given, Image):
        return given.wcs, given.header, None
    path, ext = split_path(given)
    with open_fits(path) as file:
        entry = file.choose(ext)
        wcs, note = celestial(file.own_header(entry)[0], file.hdus)
        return wcs, file.header(entry), note
