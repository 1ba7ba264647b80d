"""What a process of the command line is told before its work: threads, lost objects, freed memory."""

from __future__ import annotations

import gc
import os

from zogyp.core.heap import keep_freed

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
GARBAGE = 100_000  # new objects until lost ones are looked for: libraries alone make a million that stay


def settle(*, scarce: bool = False) -> None:
    """Set up this process; to be called before numpy comes. Where memory is ``scarce`` none is kept."""
    # threads of its own for small matrices only keep ours from the cores
    for name in BLAS_THREADS:
        os.environ.setdefault(name, "1")
    gc.set_threshold(GARBAGE)
    if not scarce:
        keep_freed()
