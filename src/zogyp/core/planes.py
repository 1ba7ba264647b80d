"""Planes as large as an image: in memory, or in unnamed files that leave it when it runs short.

A plane that is made of another is kept where that one is (`like`), so that only who reads an image decides.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import DTypeLike, NDArray

from zogyp.core.heap import give_back
from zogyp.errors import OutputError

HELD = 20  # planes of single precision that the largest of our tasks holds at a time
SHARE = 0.75  # of the memory that is free, to be used where nobody set a limit
WATCH = 0.02  # s between looks at how much memory is taken
EARLY = 0.6  # of the limit at which planes are let go of: until that is done, more is taken
MORE = 1 << 28  # bytes of planes that may stay in memory whatever the limit
CONTROL_GROUP = "/sys/fs/cgroup/memory.max"


class _Map(mmap.mmap):
    """A file mapped into memory, and whose it is."""

    store: Store


class Store:
    """Where planes are kept: in memory if it holds all that a task needs, else in files without a name.

    Files are mapped into memory; what is mapped is let go of whenever the process has more than ``limit``
    bytes, and comes back from the file when it is looked at. A file is gone with the last view of its plane.

    Parameters
    ----------
    limit : int or None
        Most memory of the process [bytes]; default: `SHARE` of what the machine has free.
    folder : path or None
        Where the files are; default: that of temporary files.
    """

    def __init__(self, limit: int | None = None, folder: str | os.PathLike[str] | None = None) -> None:
        self.limit = int(SHARE * free_memory()) if limit is None else limit
        self.folder = Path(tempfile.gettempdir() if folder is None else folder)
        self._maps: WeakSet[_Map] = WeakSet()
        self._lock = threading.Lock()
        self._watched = False

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """A plane whose values are still to be set.

        Raises
        ------
        OutputError
            The folder cannot be written to, or has no room for the plane.
        """
        if self.holds(shape):
            return np.empty(shape, dtype)
        size = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            with tempfile.TemporaryFile(dir=self.folder, prefix="zogyp-") as file:
                _reserve(file.fileno(), size)
                mapped = _Map(file.fileno(), size)
        except OSError as error:
            needed = f"a plane of {size / 1e6:.0f} MB is to be kept there (see --memory, --scratch)"
            reason = f"{error.strerror or error}; {needed}"
            raise OutputError(self.folder, reason) from error
        mapped.store = self
        with self._lock:
            self._maps.add(mapped)
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, name="zogyp-memory", daemon=True).start()
        return np.ndarray(shape, dtype, buffer=mapped)

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Whether a task on planes of this shape stays in memory."""
        return 4 * HELD * math.prod(shape) <= self.limit

    def kept(self, plane: NDArray[Any]) -> NDArray[Any]:
        """A plane of somebody's: itself, or a copy in a file where memory runs short."""
        if self.holds(plane.shape):
            return plane
        out = self.empty(plane.shape, plane.dtype)
        np.copyto(out, plane)
        return out

    def release(self) -> None:
        """Let go of the memory of all planes; what they hold stays in the files."""
        with self._lock:
            maps = list(self._maps)
        for mapped in maps:
            with suppress(ValueError):  # closed meanwhile
                mapped.madvise(mmap.MADV_DONTNEED)

    def _watch(self) -> None:
        """Release planes, and memory that is free, whenever the process has grown beyond the limit."""
        while True:
            with self._lock:
                if not self._maps:
                    self._watched = False
                    return
            whole, mapped = resident_memory()
            if whole > EARLY * self.limit:
                # where it is not planes that take the memory, to release them all the time would not help
                if mapped > MORE:
                    self.release()
                give_back()
            time.sleep(WATCH)


def _reserve(file: int, size: int) -> None:
    """Give a file its size, and its room on the disk: a disk that fills up later would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def empty(shape: tuple[int, ...], dtype: DTypeLike, store: Store | None) -> NDArray[Any]:
    """A plane in a store, or in memory where there is none."""
    return np.empty(shape, dtype) if store is None else store.empty(shape, dtype)


def like(plane: NDArray[Any], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """A plane of the shape of another, kept where that is; its values are still to be set."""
    return room(plane, plane.shape, dtype)


def room(plane: NDArray[Any], shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """A plane of any shape, kept where another is."""
    return empty(shape, dtype, kept_in(plane))


def copied(plane: NDArray[Any]) -> NDArray[Any]:
    """A copy of a plane in C order, kept where that is."""
    out = like(plane, plane.dtype)
    np.copyto(out, plane)
    return out


def kept_in(plane: NDArray[Any]) -> Store | None:
    """The store whose plane this is, or a view of; None in plain memory."""
    base: Any = plane
    while isinstance(base, np.ndarray):
        base = base.base
    return base.store if isinstance(base, _Map) else None


def resident_memory() -> tuple[int, int]:
    """Memory that this process has now, and how much of it is of files [bytes]; 0 where nobody tells."""
    try:
        pages = [int(n) for n in Path("/proc/self/statm").read_text().split()]
    except (OSError, ValueError):
        return 0, 0
    return pages[1] * mmap.PAGESIZE, pages[2] * mmap.PAGESIZE


def free_memory() -> int:
    """Memory that this process may still take [bytes]: what the machine has free, or its group may have."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, StopIteration):
        lines: Iterable[str] = Path("/proc/meminfo").read_text().splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) << 10
    with suppress(OSError, ValueError):  # "max" where there is no limit
        free = min(free, int(Path(CONTROL_GROUP).read_text()))
    return free
