"""An image put onto another grid of pixels: value, mask and noise of every new pixel.

Each new pixel takes the value of the old image at its place, interpolated, times the area it covers there, so
flux is conserved. Rows are worked on in blocks of `BLOCK` pixels. Where neighbouring pixels of a block read
neighbouring pixels of one old row (wherever the map turns by less than some degrees) they are worked on
together, else one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zogyp.core import kernels
from zogyp.core.inpaint import LARGEST
from zogyp.core.jit import compiled
from zogyp.core.kernels import BLOCK, PAD, add, fast, fill_weights, split, square_weights
from zogyp.core.old_image import Bits, Old, Planes, ready
from zogyp.core.planes import room
from zogyp.core.threads import each
from zogyp.errors import OptionError, ShapeError

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
I4 = NDArray[np.int32]
U2 = NDArray[np.uint16]

MOST = 8  # sub-positions per axis of a new pixel, at most
_ROWS = 64  # rows of a band


@dataclass(frozen=True)
class Lattice:
    """Where new pixels lie in the old image, at every ``step``-th of them; bilinear in between.

    Attributes
    ----------
    step : int
        Distance of the nodes [new px].
    x, y : ndarray, float64, (my, mx)
        Position [old px, 0-based] of the new pixel (j * step, i * step) at [i, j]; NaN where it has none. The
        last nodes lie at or beyond the last new pixel.
    shape : (int, int)
        Rows and columns of the new image.
    """

    step: int
    x: F8
    y: F8
    shape: tuple[int, int]


class _Map(NamedTuple):
    """The lattice and what follows from it."""

    step: int
    nodes: F8  # (3, my, mx): x, y and old pixels per new one
    parts: int  # sub-positions per axis of a new pixel


class _Rules(NamedTuple):
    """Kernel and bits."""

    table: F4
    central: F4
    taps: tuple[int, ...]  # of known length when the loops are compiled, so that they are unrolled
    saturated: int
    no_data: int


class _New(NamedTuple):
    """The new image."""

    planes: F4  # (1 or 2, ny, nx): data, variance
    mask: U2


class _Work(NamedTuple):
    """Room for one block."""

    place: F8  # (5, BLOCK): x, y, area, x and y of a sub-position
    ramp: F8  # 0, 1, 2, ...
    whole: I4  # (2, BLOCK): floor of x and y
    fraction: F4  # (2, BLOCK): less a half
    weight: F4  # flat: those along x, then those along y
    total: F4  # (2, BLOCK): data, variance


def resample(
    planes: Planes, lattice: Lattice, bits: Bits, *, kernel: str = "bspline5", n_threads: int = 1
) -> Planes:
    """Put an image onto another grid.

    Each new pixel takes the interpolated value at its place times the area ``|J|`` it covers, in old pixels
    (from central differences of the lattice, bilinear between nodes). Where new pixels are more than 1.25
    times coarser than old ones anywhere, it takes the mean over n x n places in the new pixel, n the coarsest
    scale less a quarter rounded up, so that nothing finer than the new pixels is aliased.

    Bad pixels (``unusable`` or not finite) are filled from their surroundings first. A new pixel gets all
    bits of the old pixels within one pixel of its place (of its whole area, where it is coarser), and
    ``reached`` where an unusable one lies within four, a saturated one within six. Its value is then

    - NaN where it has ``no_data``, which it also gets outside of the old image (more than half a pixel from
      the nearest pixel centre) and near old values that are not finite;
    - the nearest old value times ``|J|`` where it is ``saturated``: a saturated core stays one;
    - else interpolated, whatever was filled in.

    Variance means *noise per unit frequency*: ``|J| sum(q V)`` with the old variances V of the 4 x 4 nearest
    pixels and shares q of sum 1 (`kernels.Kernel.squares`). White noise V, interpolated, keeps its power at
    low frequencies, so a sum over many new pixels has the noise of the old pixels under them: V per old
    pixel, V ``|J|`` per new one. Single pixels scatter less, as they share noise with their neighbours: by
    ``|J|`` times `kernels.Kernel.noise` of both fractions (0.84 on average for the B-spline) where no n x n
    places were averaged. What counts for a star, or a filter matched to it, is the noise at low frequencies.
    Variances that are bad (not finite, not positive, of bad pixels) are filled like values.

    Parameters
    ----------
    planes : Planes
        The old image, (ny, nx), at least one pixel. Variance in the square of the data's unit.
    lattice : Lattice
        Places of the new pixels in it; at least two nodes per axis.
    bits : Bits
        What the bits of the mask mean.
    kernel : str
        One of `kernels.NAMES`.
    n_threads : int
        Threads to use; the result does not depend on it.

    Returns
    -------
    Planes
        The new image, of ``lattice.shape``; variance where there was one, NaN where data are.

    Raises
    ------
    ShapeError
        Planes of different shapes, no pixel, or a lattice that does not cover its shape.
    OptionError
        No such kernel, or a step below 1.
    """
    chosen = kernels.kernel(kernel)
    _check(planes, lattice)
    where, wider = _map(lattice, planes.data.shape)
    old = ready(planes, bits, chosen, wider, n_threads)
    rules = _Rules(chosen.table, chosen.central, (0,) * chosen.taps, bits.saturated, bits.no_data)
    ny, nx = lattice.shape
    n_planes = 1 if planes.variance is None else 2
    new = _New(room(planes.data, (n_planes, ny, nx)), room(planes.data, (ny, nx), np.uint16))
    each(_band, [(old, where, rules, new, j, min(j + _ROWS, ny)) for j in range(0, ny, _ROWS)], n_threads)
    return Planes(new.planes[0], new.mask, new.planes[1] if n_planes == 2 else None)


def _check(planes: Planes, lattice: Lattice) -> None:
    shape = planes.data.shape
    if lattice.step < 1:
        raise OptionError("step", lattice.step, "at least 1")
    if planes.data.ndim != 2 or planes.data.size == 0:
        raise ShapeError("the image", shape, (1, 1), "At least one pixel in two dimensions.")
    for name, plane in (("the mask", planes.mask), ("the variance", planes.variance)):
        if plane is not None and plane.shape != shape:
            raise ShapeError(name, plane.shape, shape)
    needed = tuple(max(2, -(-(n - 1) // lattice.step) + 1) for n in lattice.shape)
    for name, nodes in (("the lattice's x", lattice.x), ("the lattice's y", lattice.y)):
        if nodes.ndim != 2 or nodes.shape != lattice.x.shape or any(np.less(nodes.shape, needed)):
            raise ShapeError(
                name, nodes.shape, needed, f"To cover {lattice.shape} in steps of {lattice.step}."
            )


def _map(lattice: Lattice, shape: tuple[int, ...]) -> tuple[_Map, int]:
    """The lattice with its areas, and how many old pixels further than usual a new one reaches."""
    x, y = (np.ascontiguousarray(p, dtype=np.float64) for p in (lattice.x, lattice.y))
    with np.errstate(invalid="ignore", over="ignore"):  # nodes without a place stay so
        (x_down, x_along), (y_down, y_along) = _slopes(x, lattice.step), _slopes(y, lattice.step)
        area = x_along * y_down - x_down * y_along
        used = _used(x, shape[1]) & _used(y, shape[0])
        seen = np.zeros(x.shape, dtype=bool)
        for rows in (slice(0, -1), slice(1, None)):
            for columns in (slice(0, -1), slice(1, None)):
                seen[rows, columns] |= used
        seen &= np.isfinite(area)
        scale = float(np.sqrt(np.abs(area[seen]).max(initial=0.0)))
        parts = int(np.clip(np.ceil(scale - 0.25), 1, MOST))
        half = np.maximum(np.abs(x_down) + np.abs(x_along), np.abs(y_down) + np.abs(y_along))[seen] / 2
    # all pixels within one of a coarser pixel's area are within 1.5 + wider of its middle
    wider = np.ceil(min(half.max(initial=0.0) - 0.5, max(shape))) if parts > 1 else 0
    return _Map(lattice.step, np.stack([x, y, area]), parts), int(wider)


def sub_positions(lattice: Lattice, shape: tuple[int, int]) -> int:
    """Places per axis that `resample` takes the mean over in a new pixel, from an old image (ny, nx)."""
    return _map(lattice, shape)[0].parts


def _slopes(nodes: F8, step: int) -> tuple[F8, F8]:
    """Derivatives by row and column of the new image [old px / new px]."""
    down, along = (np.gradient(nodes, step, axis=i, edge_order=1 + (nodes.shape[i] > 2)) for i in (0, 1))
    return down, along


def _used(nodes: F8, n: int) -> NDArray[np.bool_]:
    """Cells of the lattice, (my - 1, mx - 1), that may touch the old image along one axis of n pixels."""
    corners = np.stack([nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, :-1], nodes[1:, 1:]])
    used: NDArray[np.bool_] = (corners.min(axis=0) <= n - 0.5) & (corners.max(axis=0) >= -0.5)
    return used


@fast
def _line(nodes: F8, step: int, u: float, v: float, ramp: F8, out: F8) -> None:
    """Bilinear values of the lattice at new pixels (u, v), (u + 1, v), ..., as many as ``out`` has."""
    my, mx = nodes.shape
    row = min(max(int(np.floor(v / step)), 0), my - 2)
    t = v / step - row
    top, bottom = nodes[row], nodes[row + 1]
    n = out.size
    k = 0
    while k < n:
        cell = min(max(int(np.floor((u + k) / step)), 0), mx - 2)
        end = n
        if cell < mx - 2:
            end = min(n, max(k + 1, int(np.ceil((cell + 1) * step - u))))
        left = top[cell] + t * (bottom[cell] - top[cell])
        slope = (top[cell + 1] + t * (bottom[cell + 1] - top[cell + 1]) - left) / step
        left += (u + k - cell * step) * slope
        part = out[k:end]
        for i in range(part.size):
            part[i] = left + ramp[i] * slope
        k = end


@fast
def _totals(old: Old, where: _Map, rules: _Rules, corner: tuple[int, int], n: int, work: _Work) -> None:
    """Sums over sub-positions of interpolated values and variances of a block, to ``work.total``."""
    ny, nx = old.shape
    size, width, w = (nx, ny), nx + 2 * PAD, work.weight
    for k in range(n):
        work.total[0, k] = work.total[1, k] = 0
    for part in range(where.parts**2):
        first = 0
        if where.parts > 1:
            first = 3
            u = corner[0] + (part % where.parts + 0.5) / where.parts - 0.5
            v = corner[1] + (part // where.parts + 0.5) / where.parts - 0.5
            for axis in range(2):
                _line(where.nodes[axis], where.step, u, v, work.ramp, work.place[3 + axis, :n])
        for axis in range(2):
            split(work.place[first + axis, :n], size[axis], work.whole[axis, :n], work.fraction[axis, :n])
        fill_weights(work.fraction, n, rules.table, w)
        add(old.coefficients, width, work.whole, w, rules.taps, work.total[0, :n])
        if old.variance.size > 0:
            fill_weights(work.fraction, n, rules.central, w)
            square_weights(w, n)
            add(old.variance, width, work.whole, w, (0, 0, 0, 0), work.total[1, :n])


@fast
def _write(total: F4, place: F8, shape: tuple[int, int], per_part: float, out: F4) -> None:
    """Totals times area; NaN outside of the old image."""
    x, y, area = place[0], place[1], place[2]
    for k in range(out.size):
        scale = abs(area[k]) * per_part
        inside = (x[k] >= -0.5) & (x[k] <= shape[1] - 0.5) & (y[k] >= -0.5) & (y[k] <= shape[0] - 0.5)
        out[k] = total[k] * np.float32(scale) if inside & (scale < LARGEST) else np.float32(np.nan)


@fast
def _flag(old: Old, rules: _Rules, new: _New, corner: tuple[int, int], n: int, work: _Work) -> None:
    """Mask of a block, and the values that it decides."""
    size, place, whole = (old.shape[1], old.shape[0]), work.place, work.whole
    data, mask = new.planes[0, corner[1], corner[0] :], new.mask[corner[1], corner[0] :]
    for k in range(n):
        mask[k] = rules.no_data if np.isnan(data[k]) else 0
    if old.mask.size == 0:
        return
    for axis in range(2):
        for k in range(n):
            p = np.floor(place[axis, k] + 0.5)
            p = p if p > 0 else 0.0  # so that NaN is 0
            whole[axis, k] = np.int32(min(p, size[axis] - 1.0))
    seen = 0
    for k in range(n):
        bits = old.mask[np.uint64(np.int64(whole[1, k]) * size[0] + whole[0, k])]
        mask[k] = bits if mask[k] == 0 else mask[k]
        seen |= bits
    if seen & (rules.no_data | rules.saturated):
        for k in range(n):
            value = old.data[whole[1, k], whole[0, k]]
            if mask[k] & rules.no_data:
                for q in range(len(new.planes)):
                    new.planes[q, corner[1], corner[0] + k] = np.nan
            elif mask[k] & rules.saturated and abs(value) < LARGEST:
                data[k] = value * abs(place[2, k])


@compiled
def _band(old: Old, where: _Map, rules: _Rules, new: _New, j0: int, j1: int) -> None:
    """Rows j0..j1 of the new image."""
    # numba knows of a row of a whole array that it is contiguous, not of a row of a part of one
    work = _Work(
        np.empty((5, BLOCK)),
        np.empty(BLOCK),
        np.empty((2, BLOCK), np.int32),
        np.empty((2, BLOCK), np.float32),
        np.empty(2 * len(rules.taps) * BLOCK, np.float32),
        np.empty((2, BLOCK), np.float32),
    )
    for k in range(BLOCK):
        work.ramp[k] = k
    (n_planes, _, nx), per_part = new.planes.shape, 1.0 / where.parts**2
    for i in range(0, nx, BLOCK):
        n = min(BLOCK, nx - i)
        for j in range(j0, j1):
            for f in range(3):
                _line(where.nodes[f], where.step, float(i), float(j), work.ramp, work.place[f, :n])
            _totals(old, where, rules, (i, j), n, work)
            for p in range(n_planes):
                _write(work.total[p], work.place, old.shape, per_part, new.planes[p, j, i : i + n])
            _flag(old, rules, new, (i, j), n, work)
