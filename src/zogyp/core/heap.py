"""What becomes of memory that is freed: kept for the next plane, or given back to the system.

The system clears every page that it hands out, which takes longer than most of what is done on a plane.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # mallopt's names of what it sets
USUAL_TRIM, USUAL_MAPS = 128 << 10, 65536  # its values when a process begins
SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed() -> None:
    """Freed planes become the next ones; nothing where the C library is another, or the user has a say."""
    _set(-1, 0)


def return_freed() -> None:
    """The usual: large pieces go back to the system when they are freed."""
    _set(USUAL_TRIM, USUAL_MAPS)


def _set(trim_threshold: int, maps: int) -> None:
    if not sys.platform.startswith("linux") or any(name in os.environ for name in SET_BY_USER):
        return
    with suppress(OSError, AttributeError):  # a C library without
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_MAX, maps)
        library.mallopt(TRIM_THRESHOLD, trim_threshold)
        if maps:
            library.malloc_trim(0)
