"""What a median of many files costs beside reading them once.

    python benchmarks/combining.py [--images 48] [--side 2048] [--threads N] [--memory 1G] [--cold]

Writes float32 FITS files and prints wall and CPU seconds of

- reading each once by `numpy.fromfile`, as the bytes are, one after the other;
- reading each once by `zogyp.io.read_plane`: as numbers that a program can work with;
- the median of them all by `zogyp.combination.combine`, and its ratios to reading;
- numpy's nanmedian of as many images of fewer rows, scaled up to all rows.

The files are in the page cache, having just been written, unless ``--cold`` asks the kernel to forget them
before each run (which not every file system heeds). Compiled code is on disk or made before the clock starts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zogyp import io
from zogyp.combination import bytes_of, combine, opened_rows
from zogyp.options import InputOptions, available

ROWS = 32  # of the images that numpy's nanmedian gets


def seconds(function: Callable[[], object], repeat: int, before: Callable[[], None]) -> tuple[float, float]:
    """Least wall seconds of some runs, and the CPU seconds of that run."""
    runs = []
    for _ in range(repeat):
        before()
        start = time.perf_counter(), time.process_time()
        function()
        runs.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return min(runs)


def forget(paths: list[Path]) -> None:
    """Ask the kernel to drop the files from its cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Write the files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    options = parser.parse_args()
    n, side = options.images, options.side
    threads, memory = available(options.threads), bytes_of(options.memory)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.fits" for i in range(n)]
        for path in paths:
            io.write_image(path, rng.normal(1000, 10, (side, side)).astype(np.float32))
        sources = [opened_rows(path, InputOptions(), Path(folder)) for path in paths]

        def read() -> None:
            for path in paths:
                np.fromfile(path, dtype=np.uint8)

        def median() -> None:
            combine(sources, method="median", memory=memory, n_threads=threads)

        median()
        before = (lambda: forget(paths)) if options.cold else (lambda: None)
        wall, cpu = seconds(read, options.repeat, before)
        planes, planes_cpu = seconds(lambda: [io.read_plane(p).shape for p in paths], options.repeat, before)
        ours, ours_cpu = seconds(median, options.repeat, before)
    block = rng.normal(1000, 10, (n, min(ROWS, side), side)).astype(np.float32)
    numpy_wall, _ = seconds(lambda: np.nanmedian(block, axis=0), 1, lambda: None)
    print(f"{n} images of {side} x {side} float32, {threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"read once, bytes     {wall:7.2f} s wall {cpu:7.2f} s CPU")
    print(f"read once, pixels    {planes:7.2f} s wall {planes_cpu:7.2f} s CPU")
    ratios = f"{ours / wall:.2f} and {ours / planes:.2f} x reading"
    print(f"median               {ours:7.2f} s wall {ours_cpu:7.2f} s CPU, {ratios}")
    print(f"numpy's nanmedian    {numpy_wall * side / len(block[0]):7.2f} s wall, arrays in memory")


if __name__ == "__main__":
    main()
