"""Loops compiled by numba at their first call, with the types kept for the type checker.

Most of the seconds that a first run takes go into compiling: what a function does not need is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile at the first call, keep the result on disk, and release the GIL while it runs."""
    return _made(function)


def inner(function: F) -> F:
    """`compiled`, but only compiled functions can call it."""
    return _made(function, no_cpython_wrapper=True)


def loose(function: F) -> F:
    """`compiled`, and sums may be taken in any order: not for loops that look for NaN or infinity."""
    return _made(function, fastmath=True)


def _made(function: F, **how: bool) -> F:
    make: Any = njit  # numba's own stub does not know all that it takes
    return cast(F, make(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True, **how)(function))
