"""The least a subtraction could cost: reading both images, eight Fourier passes, writing the results.

    python benchmarks/speed_floor.py NEW REF FOLDER THREADS BYTES [BYTES ...]

A child of `speed.py`, so that its memory is its own. Prints JSON: wall and CPU seconds of

- ``read``: the pixels of both images as float32, one after the other;
- ``fft``: eight real transforms of float32 blocks that overlap as the program's do, each on one core,
  as many blocks at a time as there are threads;
- ``write``: files of as many bytes as those that the program wrote, each on the disk before the next.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from zogyp import io

F4 = NDArray[np.float32]
LARGEST, MARGIN, PASSES = 1024, 48, 8


@contextmanager
def clock(name: str, figures: dict[str, dict[str, float]]) -> Iterator[None]:
    """Add the seconds of what is done inside to the figures."""
    start = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    figures[name] = {"wall": round(wall, 4), "cpu": round(cpu, 4)}


def starts(n: int) -> tuple[list[int], int]:
    """Where blocks begin along an axis of n pixels, and the length that transforms quickly."""
    parts = -(-n // (LARGEST - 2 * MARGIN))
    step = -(-n // parts)
    length = scipy.fft.next_fast_len(step + 2 * MARGIN, real=True)
    return [max(0, min(i * step - MARGIN, n - length)) for i in range(parts)], length


def blocks(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Of an image; less than a block at its border is none."""
    (rows, ny), (columns, nx) = starts(shape[0]), starts(shape[1])
    return [(slice(y, y + ny), slice(x, x + nx)) for y in rows for x in columns]


def transform(image: F4, threads: int) -> None:
    """All passes over all blocks."""

    def work(where: tuple[slice, slice]) -> None:
        block = np.ascontiguousarray(image[where])
        for _ in range(PASSES):
            scipy.fft.rfft2(block, workers=1)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, blocks((image.shape[0], image.shape[1]))))


def write(image: F4, folder: Path, sizes: list[int]) -> None:
    """Files of some bytes each; the pixels are written as they are, over and over."""
    pixels = image.reshape(-1).view(np.uint8).data
    for i, size in enumerate(sizes):
        with (folder / f"floor{i}").open("wb", buffering=0) as file:
            written = 0
            while written < size:
                written += file.write(pixels[: size - written])
            os.fsync(file.fileno())


def main() -> None:
    """Measure and print."""
    new, ref, folder, threads, *sizes = sys.argv[1:]
    figures: dict[str, dict[str, float]] = {}
    with clock("read", figures):
        image, other = io.read_plane(Path(new)), io.read_plane(Path(ref))
    assert image.dtype == other.dtype == np.float32
    with clock("fft", figures):
        transform(image, int(threads))
    with clock("write", figures):
        write(image, Path(folder), [int(s) for s in sizes])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
