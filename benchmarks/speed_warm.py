"""What a piece of work costs in a process that has done it before: no imports, no compiled code to load.

    python benchmarks/speed_warm.py subtract|align|coadd|measure THREADS REPEATS FILE...

A child of `speed.py`. Prints JSON: wall and CPU seconds, the least of some repeats. ``subtract`` and
``align`` take two files, the first of which is the new one and the one that stays; ``coadd`` takes all, and
``register`` does what it does before it adds: looks, registers and resamples. Nothing is written but what
``coadd`` keeps on the disk while it works.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from zogyp.process import settle

Work = Callable[[list[str], int], object]


def subtract(files: list[str], threads: int) -> object:
    """The whole of a subtraction."""
    import zogyp

    new, ref = files
    return zogyp.subtract(new, ref, zogyp.SubtractOptions(threads=threads))


def align(files: list[str], threads: int) -> object:
    """The second image onto the pixels of the first."""
    import zogyp

    still, moving = files
    return zogyp.align(moving, to=still, options=zogyp.AlignOptions(threads=threads))


def register(files: list[str], threads: int) -> object:
    """All images but the first onto the pixels of the first."""
    return [align([files[0], other], threads) for other in files[1:]]


def coadd(files: list[str], threads: int) -> object:
    """The proper coadd of all images."""
    import zogyp

    return zogyp.coadd(files, options=zogyp.CoaddOptions(threads=threads))


def main() -> None:
    """Measure and print."""
    settle()
    name, threads, repeats, *files = sys.argv[1:]
    work: Work = {"subtract": subtract, "align": align, "register": register, "coadd": coadd}[name]
    work(files, int(threads))
    runs = []
    for _ in range(int(repeats)):
        start = time.perf_counter(), time.process_time()
        work(files, int(threads))
        runs.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = (min(kind) for kind in zip(*runs, strict=True))
    print(json.dumps({"wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    main()
