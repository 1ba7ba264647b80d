"""The same work on both images of a pair, at the same time where threads are allowed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_pairs(work: Callable[[T], R], two: tuple[T, T], n_threads: int) -> tuple[R, R]:
    """What ``work`` makes of each of two; in two threads if ``n_threads`` allows."""
    if n_threads < 2:
        return work(two[0]), work(two[1])
    with ThreadPoolExecutor(2) as pool:
        one, other = (pool.submit(work, item) for item in two)
        return one.result(), other.result()
