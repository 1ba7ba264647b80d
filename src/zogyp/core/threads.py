"""The same work on both images of a pair, or on many parts of one, in threads where these are allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

BAND = 64  # rows that are worked on at a time
T = TypeVar("T")
R = TypeVar("R")


def bands(ny: int) -> list[slice]:
    """The rows of an image, a few at a time."""
    return [slice(row, min(row + BAND, ny)) for row in range(0, ny, BAND)]


def in_parts(work: Callable[[T], object], parts: Iterable[T], n_threads: int) -> None:
    """Do ``work``, which leaves its results where they belong, for each part."""
    if n_threads < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        for done in [pool.submit(work, part) for part in parts]:
            done.result()


def each(function: Callable[..., None], jobs: Iterable[tuple[Any, ...]], n_threads: int) -> None:
    """Call ``function`` with the arguments of each job, in threads where there may be more than one."""
    in_parts(lambda job: function(*job), jobs, n_threads)


def in_pairs(work: Callable[[T], R], two: tuple[T, T], n_threads: int) -> tuple[R, R]:
    """What ``work`` makes of each of two; in two threads if ``n_threads`` allows."""
    if n_threads < 2:
        return work(two[0]), work(two[1])
    with ThreadPoolExecutor(2) as pool:
        one, other = (pool.submit(work, item) for item in two)
        return one.result(), other.result()
