"""How long each stage of a job took, and telling how far it is."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Stopwatch:
    """Wall seconds by stage, and what else it cost; passes progress on to whoever asked for it."""

    def __init__(self, progress: Callable[[str, float], None] | None = None) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.costs: dict[str, dict[str, float]] = {}  # CPU seconds, peak of the memory so far [MB]

    @contextmanager
    def stage(self, name: str, start: float) -> Iterator[None]:
        """Time a stage that starts when the fraction ``start`` of the job is done."""
        self.tell(name, start)
        before, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = round(time.perf_counter() - before, 3)
        self.costs[name] = {"cpu": round(time.process_time() - cpu, 3), "peak_mb": peak_memory_mb()}

    def tell(self, name: str, done: float) -> None:
        """Pass on that the fraction ``done`` of the job is finished."""
        if self.progress is not None:
            self.progress(name, done)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far [MB].

    Linux hands on to a process the peak of the one that started it, in what `getrusage` tells; not in its
    own list of figures.
    """
    figures = Path("/proc/self/status")
    if figures.exists():
        own = re.search(
            r"^VmHWM:\s*(\d+) kB", figures.read_text(encoding="ascii", errors="replace"), re.MULTILINE
        )
        if own:
            return round(int(own[1]) * 1.024e-3, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
