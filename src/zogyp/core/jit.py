"""Loops compiled by numba at their first call, with the types kept for the type checker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile at the first call, keep the result on disk, and release the GIL while it runs."""
    return cast(F, njit(nogil=True, cache=True, error_model="numpy")(function))
