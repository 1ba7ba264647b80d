"""Smooth surfaces told by a value for each mesh of an image, and the loop that finds a sky in a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled, inner, loose
from zogyp.core.threads import bands

Plane = NDArray[np.float32]
F8 = NDArray[np.float64]
I4 = NDArray[np.int32]
Bool = NDArray[np.bool_]
Box = tuple[int, int, int, int]  # rows from, to, columns from, to

LATTICE = 64  # points along each axis that tell what is typical
BINS = 1024  # of a mesh's histogram
MAD_TO_SIGMA = 1.482602218505602
ENOUGH = 1024  # pixels of a mesh that set the bins
FIRST_CLIP, CLIP = 2.0, 3.0  # standard deviations: about the mean, then about the median
CLIPS = 2  # times about the mean
WIDTH = 5.0  # standard deviations to either side that the histogram holds
ROUNDS = 100
SKEWED = 0.3  # standard deviations between mean and median beyond which the median is taken
GOOD_SHARE = 0.5  # of a mesh's pixels that are usable, or nothing is told of it


@dataclass(frozen=True)
class MeshSurface:
    """A smooth function over an image.

    Attributes
    ----------
    table : float64, (my, mx)
        Values at the middles of equal meshes.
    shape : (ny, nx)
        Of the image [px].
    mesh : (rows, columns)
        Size of a mesh [px]; not whole where the meshes share the image out evenly.
    cubic : bool
        Natural cubic splines between the values; else straight lines, level beyond the outermost.
    """

    table: F8
    shape: tuple[int, int]
    mesh: tuple[float, float]
    cubic: bool = False

    @classmethod
    def flat(cls, value: float, shape: tuple[int, ...]) -> MeshSurface:
        """The same value everywhere."""
        ny, nx = shape
        return cls(np.full((1, 1), float(value)), (ny, nx), (float(ny), float(nx)))

    def __mul__(self, factor: float) -> MeshSurface:
        """The surface times a number."""
        return replace(self, table=self.table * factor)

    def __add__(self, other: MeshSurface) -> MeshSurface:
        """The sum of two surfaces told by the same meshes."""
        return replace(self, table=self.table + other.table)

    @property
    def typical(self) -> float:
        """Median over the image, by a lattice of its pixels."""
        if self.table.size == 1:
            return float(self.table[0, 0])
        y, x = (np.linspace(0, n - 1, min(n, LATTICE)) for n in self.shape)
        return float(np.median(self.at(np.tile(x, y.size), np.repeat(y, x.size))))

    @cached_property
    def _along(self) -> tuple[F8, NDArray[np.int64], Plane]:
        """Polynomials of each table row along x (my, 4, intervals), highest power first.

        Also the intervals' first pixels, and each pixel's place in its own.
        """
        nodes = self.table.shape[1]
        interval, place = _places(self.shape[1], nodes, self.mesh[1], self.cubic)
        pieces = np.moveaxis(_pieces(nodes, self.cubic) @ self.table.T, 2, 0)
        first = np.searchsorted(interval, np.arange(pieces.shape[2] + 1)).astype(np.int64)
        return np.ascontiguousarray(pieces), first, place.astype(np.float32)

    @cached_property
    def _across(self) -> F8:
        """Weights of the table's rows at each row of the image, (ny, my)."""
        nodes = self.table.shape[0]
        interval, place = _places(self.shape[0], nodes, self.mesh[0], self.cubic)
        a, b, c, d = _pieces(nodes, self.cubic)[:, interval]
        t = place[:, None]
        weights: F8 = ((a * t + b) * t + c) * t + d
        return weights

    def rows(self, first: int, last: int) -> Plane:
        """The surface in rows first..last of the image."""
        pieces, starts, place = self._along
        out = np.empty((last - first, self.shape[1]), np.float32)
        _evaluate(self._across[first:last], pieces, starts, place, out)
        return out

    def plane(self) -> Plane:
        """The surface at every pixel."""
        return self.rows(0, self.shape[0])

    def at(self, x: F8, y: F8) -> F8:
        """The surface at the pixels nearest to places in or beside the image."""
        column = np.rint(x).astype(int).clip(0, self.shape[1] - 1)
        row = np.rint(y).astype(int).clip(0, self.shape[0] - 1)
        pieces, first, place = self._along
        interval = (np.searchsorted(first, column, side="right") - 1).clip(0, pieces.shape[2] - 1)
        return _evaluate_at(self._across, pieces, row, interval, place[column])


def _places(n: int, nodes: int, mesh: float, beyond: bool) -> tuple[NDArray[np.intp], F8]:
    """Interval of nodes that each pixel of an axis lies in or is nearest to, and where in it, 0..1."""
    position = (np.arange(n) + 0.5) / mesh - 0.5
    if not beyond or nodes == 1:
        position = position.clip(0, nodes - 1)
    interval = np.floor(position).astype(int).clip(0, max(nodes - 2, 0))
    return interval, position - interval


def _pieces(nodes: int, cubic: bool) -> F8:
    """Matrices from values at nodes to the polynomials between them, highest power first, (4, n - 1, n)."""
    unit = np.eye(nodes)
    if nodes == 1:
        return np.concatenate([np.zeros((3, 1, 1)), unit[None]])
    low, high = unit[:-1], unit[1:]
    bend = np.zeros((nodes, nodes))  # second derivatives at the nodes: a natural spline's
    if cubic and nodes > 2:
        system = 4 * unit + np.eye(nodes, k=1) + np.eye(nodes, k=-1)
        right = 6 * (np.eye(nodes, k=1) + np.eye(nodes, k=-1) - 2 * unit)
        bend[1:-1] = np.linalg.solve(system[1:-1, 1:-1], right[1:-1])
    a, b = bend[:-1], bend[1:]
    return np.stack([(b - a) / 6, a / 2, high - low - (2 * a + b) / 6, low])


def in_bands(surface: MeshSurface) -> Iterator[tuple[slice, Plane]]:
    """A surface by bands of a few rows, each with its place in the image."""
    for rows in bands(surface.shape[0]):
        yield rows, surface.rows(rows.start, rows.stop)


@compiled
def _evaluate(across: F8, pieces: F8, first: NDArray[np.int64], place: Plane, out: Plane) -> None:
    """Cubic polynomials at each pixel of some rows, whose weights of the table's rows are ``across``."""
    my, _, n = pieces.shape
    now = np.empty((4, n))
    for y in range(out.shape[0]):
        now[:] = 0.0
        for j in range(my):
            w = across[y, j]
            if w != 0.0:
                for p in range(4):
                    for i in range(n):
                        now[p, i] += w * pieces[j, p, i]
        for i in range(n):
            a, b, c, d = (
                np.float32(now[0, i]),
                np.float32(now[1, i]),
                np.float32(now[2, i]),
                np.float32(now[3, i]),
            )
            t, part = place[first[i] : first[i + 1]], out[y, first[i] : first[i + 1]]
            for x in range(part.size):
                part[x] = ((a * t[x] + b) * t[x] + c) * t[x] + d


@compiled
def _evaluate_at(
    across: F8, pieces: F8, row: NDArray[np.int64], interval: NDArray[np.int64], place: Plane
) -> F8:
    """The polynomials at single pixels."""
    out = np.zeros(row.size)
    for k in range(row.size):
        t, i = float(place[k]), interval[k]
        for j in range(pieces.shape[0]):
            w = across[row[k], j]
            if w != 0.0:
                value = (pieces[j, 0, i] * t + pieces[j, 1, i]) * t + pieces[j, 2, i]
                out[k] += w * (value * t + pieces[j, 3, i])
    return out


@compiled
def modes(data: Plane, bad: Bool, mesh: tuple[int, int], table: F8) -> None:
    """Fill ``table`` with the sky of each mesh: the mode of its clipped values; NaN where few are usable."""
    height, width = mesh
    values, counts = np.empty(height * width, np.float32), np.empty(BINS + 3, np.int32)
    ny, nx = data.shape
    for j in range(table.shape[0]):
        for i in range(table.shape[1]):
            box = (j * height, min((j + 1) * height, ny), i * width, min((i + 1) * width, nx))
            table[j, i] = np.nan
            low, step = _range(data, bad, box, values)
            if step > 0:
                n, _ = _tally(data, bad, box, low, step, counts)
                if n >= GOOD_SHARE * (box[1] - box[0]) * (box[3] - box[2]):
                    table[j, i] = low + step * (_mode(counts[1:-2]) + 0.5)
            elif step == 0:
                table[j, i] = low


@inner
def _range(data: Plane, bad: Bool, box: Box, values: Plane) -> tuple[float, float]:
    """Least value and width of the bins of a mesh's histogram, by a part of its pixels.

    A width of 0 tells that all are alike, a negative one that none is usable.
    """
    top, bottom, left, right = box
    skip = max(int(np.sqrt((bottom - top) * (right - left) / ENOUGH)), 1)
    n = 0
    for y in range(top, bottom, skip):
        for x in range(left, right, skip):
            if not bad[y, x]:
                values[n] = data[y, x]
                n += 1
    if n == 0:
        return 0.0, -1.0
    mean, sigma = _moments(values[:n], -np.inf, np.inf)
    for _ in range(CLIPS):  # what is odd must not widen the histogram
        mean, sigma = _moments(values[:n], mean - FIRST_CLIP * sigma, mean + FIRST_CLIP * sigma)
    if not sigma > 0:
        return mean, 0.0
    return mean - WIDTH * sigma, 2 * WIDTH * sigma / BINS


@inner
def _moments(values: Plane, low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation of the values from ``low`` to ``high``."""
    origin = np.float64(values[0])
    total, square, n = 0.0, 0.0, 0
    for v in values:
        if low <= v <= high:
            d = v - origin
            total += d
            square += d * d
            n += 1
    if n == 0:
        return origin, 0.0
    mean = total / n
    return origin + mean, np.sqrt(max(square / n - mean * mean, 0.0))


@inner
def _tally(data: Plane, bad: Bool, box: Box, low: float, step: float, counts: I4) -> tuple[int, int]:
    """Fill the histogram of a mesh's usable pixels; their number, and how many lie below it.

    In ``counts``, of BINS + 3, come what lies below, the bins, what lies above, and the unusable.
    """
    top, bottom, left, right = box
    counts[:] = 0
    bins = np.empty(right - left, np.int32)
    scale, above, unusable = 1 / step, BINS + 1.0, np.int32(BINS + 2)
    for y in range(top, bottom):
        values, lost = data[y, left:right], bad[y, left:right]
        for x in range(bins.size):  # many at a time, unlike what follows
            b = (values[x] - low) * scale + 1
            b = b if b > 0 else 0.0
            b = b if b < above else above
            bins[x] = unusable if lost[x] else np.int32(b)
        for x in range(bins.size):
            counts[bins[x]] += 1
    return (bottom - top) * (right - left) - counts[unusable], counts[0]


@inner
def _mode(counts: I4) -> float:
    """Mode [bins] of a sky, 2.5 median - 1.5 mean after clipping; the median where sources skew it."""
    # a plain 0 is a type of its own, which all would be compiled for once more
    first, last = min(counts.size, 0), counts.size
    sigma = counts.size / (2 * WIDTH)
    mean = median = 0.5 * counts.size
    for _ in range(ROUNDS):
        n, mean, now = _binned(counts, first, last)
        if n == 0:
            return median
        median, before, sigma = _median(counts, first, last, 0.5 * n), sigma, now
        lower = max(int(median - CLIP * sigma + 0.5), 0)
        upper = min(int(median + CLIP * sigma + 0.5) + 1, counts.size)
        if (lower == first and upper == last) or abs(sigma / before - 1) < 1e-4 or sigma < 1e-3:
            break
        first, last = lower, upper
    return 2.5 * median - 1.5 * mean if abs(mean - median) < SKEWED * sigma else median


@loose
def _binned(counts: I4, first: int, last: int) -> tuple[int, float, float]:
    """Number, mean and standard deviation [bins] of what a part of a histogram holds."""
    n, total, square = 0, 0.0, 0.0
    for b in range(first, last):
        light = counts[b] * float(b)
        n += counts[b]
        total += light
        square += light * b
    if n == 0:
        return 0, 0.0, 0.0
    return n, total / n, np.sqrt(max(square / n - (total / n) ** 2, 0.0))


@compiled
def _median(counts: I4, first: int, last: int, half: float) -> float:
    """Place [bins] below which ``half`` of a histogram's entries lie; the middle of bin b is b."""
    below = 0
    for b in range(first, last):
        if below + counts[b] >= half:
            place: float = b - 0.5 + max(half - below, 0.0) / max(counts[b], 1)
            return place
        below += counts[b]
    return float(last)


@compiled
def clipped_means(
    plane: Plane, bad: Bool, rows: NDArray[np.int64], columns: NDArray[np.int64], table: F8, count: F8
) -> None:
    """Fill ``table`` with the mean of what lies within three robust sigma of each mesh's median.

    Parameters
    ----------
    rows, columns : borders of the meshes.
    table, count : (my, mx) means, 0 for a mesh without good pixels; numbers of good pixels.
    """
    tallest, widest = 0, 0
    for j in range(table.shape[0]):
        tallest = max(tallest, rows[j + 1] - rows[j])
    for i in range(table.shape[1]):
        widest = max(widest, columns[i + 1] - columns[i])
    values, counts = np.empty(tallest * widest, np.float32), np.empty(BINS + 3, np.int32)
    for j in range(table.shape[0]):
        for i in range(table.shape[1]):
            box = (rows[j], rows[j + 1], columns[i], columns[i + 1])
            low, step = _range(plane, bad, box, values)
            table[j, i] = low if step == 0 else 0.0
            n, below = _tally(plane, bad, box, low, abs(step) + (step == 0), counts)
            count[j, i] = n
            if step > 0:
                table[j, i] = low + step * (_clipped_mean(counts[1:-2], n, below) + 0.5)


@inner
def _clipped_mean(counts: I4, n: int, below: int) -> float:
    """Mean [bins] of what lies within three robust sigma of the median of n values, some of them below."""
    centre = _median(counts, min(n, 0), counts.size, 0.5 * n - below)
    middle = min(max(int(centre + 0.5), 0), counts.size - 1)
    inside, width = counts[middle], 0
    while 2 * inside < n and width < counts.size:  # out to the median deviation
        width += 1
        inside += counts[middle - width] if middle >= width else 0
        inside += counts[middle + width] if middle + width < counts.size else 0
    reach = int(CLIP * MAD_TO_SIGMA * width + 0.5)
    return _binned(counts, max(middle - reach, 0), min(middle + reach + 1, counts.size))[1]
