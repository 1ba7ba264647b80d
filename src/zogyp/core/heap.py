"""What becomes of memory that is freed: kept for the next plane, or given back to the system.

The system clears every page that it hands out, which takes longer than most of what is done on a plane. Only
glibc can be told; with other C libraries nothing happens.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # mallopt's names of what it sets
SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed() -> None:
    """From now on freed planes become the next ones, unless the user has a say by the environment."""
    if not any(name in os.environ for name in SET_BY_USER):
        _call("mallopt", MMAP_MAX, 0)
        _call("mallopt", TRIM_THRESHOLD, -1)


def give_back() -> None:
    """Give what is free now back to the system."""
    _call("malloc_trim", 0)


def _call(name: str, *numbers: int) -> None:
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), name)(*numbers)
