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
    """Wall seconds by stage; passes progress on to whoever asked for it."""

    def __init__(self, progress: Callable[[str, float], None] | None = None) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, start: float) -> Iterator[None]:
        """Time a stage that starts when the fraction ``start`` of the job is done."""
        self.tell(name, start)
        before = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - before, 3)

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
