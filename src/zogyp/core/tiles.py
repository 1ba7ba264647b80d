"""Overlapping tiles: cut an image into blocks, work on each, blend the results without a seam.

Every tile has a window; the windows add up to exactly 1 at every pixel. Where the windows of
two tiles overlap, the result slides linearly from one tile's answer to the other's. With ramps
as long as the nodes are apart this is linear interpolation between the tiles' kernels, which is
how a PSF that varies over the image is followed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.core.fourier import Plane, fast_length
from zogyp.core.jit import compiled
from zogyp.core.threads import bands
from zogyp.errors import OptionError, ShapeError

STEPS = 4096  # windows are multiples of this fraction: their products and sums are exact in float32

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Tile:
    """One block of an image.

    Attributes
    ----------
    index : position in the plan.
    x, y : the node [px]: where the PSF is to be evaluated.
    inner : (rows, columns) of the image in which the window is not zero.
    start : (row, column) of the image on which the block's [0, 0] falls; may be negative.
    shape : (ny, nx) of the block: inner part and margins, of lengths that transform quickly.
    wy, wx : float32 windows of the inner rows and columns.
    """

    index: int
    x: float
    y: float
    inner: tuple[slice, slice]
    start: tuple[int, int]
    shape: tuple[int, int]
    wy: Plane
    wx: Plane

    @property
    def window(self) -> Plane:
        """The window over the inner part."""
        return self.wy[:, None] * self.wx[None, :]

    @property
    def window_shape(self) -> tuple[int, int]:
        """Of the inner part."""
        return self.wy.size, self.wx.size

    def cut(self, block: NDArray[Any]) -> NDArray[Any]:
        """The inner part of a block, as a view."""
        rows, columns = (slice(s.start - o, s.stop - o) for s, o in zip(self.inner, self.start, strict=True))
        return block[rows, columns]


@dataclass(frozen=True)
class _Span:
    """A tile's extent along one axis."""

    node: float
    inner: slice
    start: int
    length: int
    weight: Plane


@dataclass(frozen=True)
class Blend:
    """Numbers of the tiles, blended over the image as the tiles' planes are.

    Attributes
    ----------
    shape : (ny, nx) of the image.
    tiles : the plan.
    values : one for each tile.
    """

    shape: tuple[int, int]
    tiles: Sequence[Tile]
    values: Sequence[float]

    def rows(self, first: int, last: int) -> Plane:
        """Rows first..last of the image, (last - first, nx)."""
        if min(self.values) == max(self.values):
            return np.full((last - first, self.shape[1]), self.values[0], np.float32)
        out = np.zeros((last - first, self.shape[1]), np.float32)
        for tile, value in zip(self.tiles, self.values, strict=True):
            rows, columns = tile.inner
            low, high = max(rows.start, first), min(rows.stop, last)
            if low < high:
                weight = tile.wy[low - rows.start : high - rows.start, None] * np.float32(value)
                out[low - first : high - first, columns] += weight * tile.wx[None, :]
        return out

    def bands(self) -> Iterator[tuple[slice, Plane]]:
        """All rows, a band of them at a time, each with its place in the image."""
        for rows in bands(self.shape[0]):
            yield rows, self.rows(rows.start, rows.stop)

    def plane(self) -> Plane:
        """The whole image."""
        return self.rows(0, self.shape[0])

    def at(self, row: NDArray[np.intp], column: NDArray[np.intp]) -> Plane:
        """Values at pixels."""
        out = np.zeros(row.size, np.float32)
        for tile, value in zip(self.tiles, self.values, strict=True):
            rows, columns = tile.inner
            inside = (
                (row >= rows.start) & (row < rows.stop) & (column >= columns.start) & (column < columns.stop)
            )
            out[inside] += tile.wy[row[inside] - rows.start] * tile.wx[column[inside] - columns.start] * value
        return out


def plan(shape: tuple[int, int], step: float, ramp: float, margin: int) -> list[Tile]:
    """Divide an image into tiles.

    Each axis is divided into equal cells of at most ``step`` pixels. With short ramps a tile is a
    cell with its node in the middle: its window is 1 within and falls linearly over ``ramp`` pixels
    centred on the border to the next cell; the outermost stay 1 up to the image's border.
    With ``ramp >= step`` nodes are the cells' borders, those of the image among them, and a window
    is a triangle from node to node: linear interpolation everywhere, extrapolation nowhere.

    Parameters
    ----------
    shape : (ny, nx) of the image.
    step : largest distance of nodes [px].
    ramp : length of the transition [px].
    margin : least number of pixels around a window that its block holds besides.

    Returns
    -------
    list of Tile : by rows, x running fastest.

    Raises
    ------
    OptionError : a step below 1 px, a negative ramp or margin.
    """
    if not step >= 1:
        raise OptionError("step", step, "at least 1 px")
    if not (ramp >= 0 and margin >= 0):
        raise OptionError("ramp, margin", (ramp, margin), "at least 0 px")
    columns = _spans(shape[1], step, ramp, margin)
    rows = _spans(shape[0], step, ramp, margin)
    tiles: list[Tile] = []
    for r, c in product(rows, columns):
        start, shape_of_block = (r.start, c.start), (r.length, c.length)
        inner = (r.inner, c.inner)
        tiles.append(Tile(len(tiles), c.node, r.node, inner, start, shape_of_block, r.weight, c.weight))
    return tiles


def _nodes(n: int, step: float, ramp: float) -> tuple[NDArray[np.float64], float]:
    """Equally spaced nodes along an axis of n pixels, and the ramps' length, at most their distance."""
    if ramp >= step:
        nodes = np.linspace(0, n - 1, int(np.ceil((n - 1) / step)) + 1)
        return nodes, (n - 1) / max(len(nodes) - 1, 1)
    cells = int(np.ceil(n / step))
    return (np.arange(cells) + 0.5) * n / cells - 0.5, min(ramp, n / cells)


def _spans(n: int, step: float, ramp: float, margin: int) -> list[_Span]:
    """Tiles along one axis of n pixels."""
    nodes, ramp = _nodes(n, step, ramp)
    x = np.arange(n)
    # rises[j]: 0 before the transition from node j - 1 to node j, 1 after it
    rises = [np.ones(n)]
    for middle in (nodes[1:] + nodes[:-1]) / 2:
        t = (x - middle) / max(ramp, 1e-9) + 0.5
        rises.append(np.round(t.clip(0, 1) * STEPS) / STEPS)
    rises.append(np.zeros(n))
    windows = [rises[j] - rises[j + 1] for j in range(len(nodes))]
    inners = []
    for w in windows:
        inside = np.flatnonzero(w)
        inners.append(slice(int(inside[0]), int(inside[-1]) + 1))
    needed = [s.stop - s.start + 2 * margin for s in inners]
    spans = []
    for j, s in enumerate(inners):
        # tiles that differ by the rounding of their borders get one length, to share their kernels
        length = fast_length(max(k for k in needed if k <= needed[j] + 2))
        start = s.start - (length - (s.stop - s.start)) // 2
        spans.append(_Span(float(nodes[j]), s, start, length, windows[j][s].astype(np.float32)))
    return spans


def split(plan: Sequence[Tile], largest: int, margin: int) -> list[Tile]:
    """Cut tiles whose blocks are larger than ``largest`` px a side into smaller ones of the same node.

    The windows are cut along, so the sum of all answers is the same: only memory and time differ.

    Parameters
    ----------
    plan : tiles as `plan` makes them.
    largest : side that no block should exceed [px].
    margin : as in `plan`.
    """
    out: list[Tile] = []
    for tile in plan:
        rows, columns = (_pieces(s, max(largest - 2 * margin, 16)) for s in tile.inner)
        for r, c in product(rows, columns):
            shape = (fast_length(r.stop - r.start + 2 * margin), fast_length(c.stop - c.start + 2 * margin))
            start = tuple(s.start - (n - (s.stop - s.start)) // 2 for s, n in zip((r, c), shape, strict=True))
            oy, ox = tile.inner[0].start, tile.inner[1].start
            wy, wx = tile.wy[r.start - oy : r.stop - oy], tile.wx[c.start - ox : c.stop - ox]
            out.append(Tile(len(out), tile.x, tile.y, (r, c), (start[0], start[1]), shape, wy, wx))
    return out


def _pieces(span: slice, most: int) -> list[slice]:
    """A span in equal pieces of at most ``most`` px."""
    n = -(-(span.stop - span.start) // most)
    edges = np.linspace(span.start, span.stop, n + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def gather(plane: NDArray[Any], tile: Tile, fill: float | NDArray[Any]) -> NDArray[Any]:
    """Copy a tile's block out of a plane, ``fill`` outside of the plane.

    Parameters
    ----------
    plane : (ny, nx), any type.
    fill : value for the pixels of the block that lie outside of the plane.

    Returns
    -------
    tile.shape, contiguous, of the plane's type.
    """
    source, target = [], []
    for start, length, n in zip(tile.start, tile.shape, plane.shape, strict=True):
        low, high = max(start, 0), min(start + length, n)
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    inside = plane[tuple(source)]
    if inside.shape == tile.shape:
        return inside.copy()
    block = np.full(tile.shape, fill, dtype=plane.dtype)
    block[tuple(target)] = inside
    return block


def run(
    tiles: Sequence[Tile],
    function: Callable[[Tile], Answer],
    outputs: Mapping[str, Plane],
    *,
    n_threads: int = 1,
    progress: Callable[[float], None] | None = None,
    executor: Executor | None = None,
) -> dict[str, list[float]]:
    """Call a function for every tile and add its answers, times their windows, to full planes.

    Sums are made in the order of the tiles, whoever finishes first: the result does not depend
    on the number of threads. Not more than twice as many blocks as threads are kept waiting.

    Parameters
    ----------
    tiles : the plan.
    function : gives for a tile a mapping from the outputs' names to arrays of the shape of its
        inner part (`Tile.cut`), or to single numbers.
    outputs : planes (ny, nx) to which the answers are added; zeros, as a rule.
    n_threads : threads to work with.
    progress : told the finished fraction, 0..1, after every tile.
    executor : works instead of threads of our own; ``n_threads`` of its workers are kept busy.

    Returns
    -------
    dict : of each number that was answered and has no plane, its values for all tiles, for a `Blend`.

    Raises
    ------
    ShapeError : an answer has not the shape of its tile's inner part.
    """
    ahead = 2 * max(n_threads, 1)
    if executor is None and n_threads > 1:
        with ThreadPoolExecutor(n_threads) as pool:
            return _collect(tiles, _in_order(tiles, function, pool, ahead), outputs, progress)
    answers = (
        (_checked(function, t) for t in tiles)
        if executor is None
        else _in_order(tiles, function, executor, ahead)
    )
    return _collect(tiles, answers, outputs, progress)


def _collect(
    tiles: Sequence[Tile],
    answers: Iterator[dict[str, Any]],
    outputs: Mapping[str, Plane],
    progress: Callable[[float], None] | None,
) -> dict[str, list[float]]:
    """Add the answers, times their windows, to the planes; numbers that have none are kept."""
    numbers: dict[str, list[float]] = {}
    for done, (tile, answer) in enumerate(zip(tiles, answers, strict=True), start=1):
        for name, value in answer.items():
            if name in outputs and np.ndim(value) == 0:
                outputs[name][tile.inner] += tile.window * value
            elif name in outputs:
                _add(outputs[name][tile.inner], value, tile.wy, tile.wx)
            elif np.ndim(value) == 0:
                numbers.setdefault(name, []).append(float(value))
        if progress is not None:
            progress(done / len(tiles))
    return numbers


@compiled
def _add(plane: Plane, block: Plane, wy: Plane, wx: Plane) -> None:
    """Add a block times its window to a plane of its shape."""
    for y in range(block.shape[0]):
        for x in range(block.shape[1]):
            plane[y, x] += wy[y] * wx[x] * block[y, x]


def _in_order(
    tiles: Sequence[Tile], function: Callable[[Tile], Answer], executor: Executor, ahead: int
) -> Iterator[dict[str, Any]]:
    """Answers in the order of the tiles, computed at most ``ahead`` tiles in advance."""
    waiting: deque[Future[dict[str, Any]]] = deque()
    try:
        for tile in tiles:
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
            waiting.append(executor.submit(_checked, function, tile))
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _checked(function: Callable[[Tile], Answer], tile: Tile) -> dict[str, Any]:
    """A tile's answers, in single precision."""
    answers = {}
    for name, value in function(tile).items():
        if np.ndim(value) and np.shape(value) != tile.window_shape:
            raise ShapeError(f"{name} of tile {tile.index}", np.shape(value), tile.window_shape)
        answers[name] = np.asarray(value, dtype=np.float32) if np.ndim(value) else value
    return answers
