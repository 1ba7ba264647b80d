"""Proper co-addition: a running sum that takes one exposure at a time.

Zackay & Ofek 2017 (ApJ 836, 188); numbers in brackets are equations of that paper. Symbols are in this
folder's README, what is added to the paper is derived in docs/mathematics.md.

The sum holds, for every tile and frequency, the matched-filtered light Â and the information B,

    Â = sum of (F_j / sigma_j²) conj(P̂_j) M̂_j        B = sum of (F_j² / sigma_j²) |P̂_j|²

so that exposures may come in any order, sums may be merged, and an exposure is taken out by adding it with
a minus. The coadd itself is an exposure of flux scale F_R, sigma 1 and PSF P_R: adding it adds its Â and B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zogyp.core import tiles
from zogyp.core.fourier import Plane, Spectrum, embed, forward, inverse, phases, stamp_of
from zogyp.core.jit import compiled
from zogyp.core.tiles import Tile
from zogyp.errors import ShapeError

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
Number = Callable[[float, float], float]

FLOOR = 16.0  # |P̂|² is information above this many times its own noise
UNTOLD = 0.03  # of the information that was taken out: less of it that is left cannot be told
ROUNDING = 1e-12  # least noise of |P̂|²: that of float32 transforms, squared


@dataclass(frozen=True)
class View:
    """How an exposure shows the sky; functions of (x, y) [px] are asked at the tiles' nodes.

    Attributes
    ----------
    psf : PSF of unit sum, (k, k) float64 centred on k // 2, at a position.
    sigma : standard deviation of the sky per unit frequency [unit of the exposure].
    flux : flux scale F: counts of a star whose flux is 1.
    shift : (dx, dy) [px] by which its stars lie beside where the grid has them.
    psf_noise : standard deviation of the PSF's transform at any frequency, from the PSF's own error.
    power : noise power of a tile's block at each frequency, in units of sigma²; None: white.
    """

    psf: Callable[[float, float], F8]
    sigma: Number
    flux: Number
    shift: Callable[[float, float], tuple[float, float]] = lambda x, y: (0.0, 0.0)
    psf_noise: float = 0.0
    power: Callable[[Tile], F4] | None = None


@dataclass(frozen=True)
class Layer:
    """One exposure on the grid of the sum.

    Attributes
    ----------
    view : View
    data : (ny, nx) float32, finite, background-subtracted [unit of the exposure].
    weight : (ny, nx) float32: F² / sigma² where the pixel is usable, 0 elsewhere: inverse variance of its
        sky in units of flux.
    variance : (ny, nx) float32: all noise of each pixel, stars' own included [flux²].
    """

    view: View
    data: Plane
    weight: Plane
    variance: Plane


@dataclass
class Cell:
    """The sums of one tile: spectra (ny, nx // 2 + 1) of its block.

    Attributes
    ----------
    A : complex64, matched-filtered light.
    B : float64, information; it spans ten decades, and exposures may be taken out of it.
    T : float64, B without the floors of PSFs: what light of the sky arrives with.
    depth : sum of F² / sigma².
    floor : of B where no PSF has power.
    gone : float64, B of what was taken out, if anything was: what is left there is a small difference of
        large numbers.
    """

    A: Spectrum
    B: F8
    T: F8
    depth: float = 0.0
    floor: float = 0.0
    gone: F8 | None = None

    def information(self) -> F8:
        """B, at least what can be told from rounding and from what was taken out."""
        # 0.25: between information and floor a PSF's transform may fall below the floor
        least = max(0.25 * self.floor, ROUNDING * 1e-6 * self.depth, 1e-300)
        B = np.maximum(self.B, least)
        return B if self.gone is None else np.maximum(B, UNTOLD * self.gone)


@dataclass(frozen=True)
class ProperCoadd:
    """What a sum amounts to; planes float32 (ny, nx).

    Attributes
    ----------
    R : white, of unit variance where all exposures reach; NaN where none does.
    variance : of R's pixels, stars' own noise included.
    weight : inverse variance of the sky in units of flux.
    count : int32, exposures with a usable pixel.
    F_R : R / F_R is flux.
    nodes : ((x, y), PSF (k, k) float64 of unit sum) at the tiles' nodes.
    """

    R: Plane
    variance: Plane
    weight: Plane
    count: NDArray[np.int32]
    F_R: float
    nodes: list[tuple[tuple[float, float], F8]]


@dataclass
class ProperSum:
    """Exposures summed properly, so far.

    Attributes
    ----------
    shape : (ny, nx) of the grid.
    plan : tiles, as `zogyp.core.tiles.plan` makes them.
    n_threads : threads that work on tiles.
    """

    shape: tuple[int, int]
    plan: Sequence[Tile]
    n_threads: int = 1
    weight: F8 = field(init=False)
    noise: F8 = field(init=False)
    count: NDArray[np.int32] = field(init=False)
    cells: list[Cell | None] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.weight = np.zeros(self.shape)
        self.noise = np.zeros(self.shape)  # sum of weight² variance
        self.count = np.zeros(self.shape, np.int32)
        self.cells = [None] * len(self.plan)

    def add(self, layer: Layer, sign: int = 1) -> None:
        """Add an exposure, or take it out with ``sign=-1``.

        Raises
        ------
        ShapeError
            A plane is not of the sum's shape.
        """
        for name in ("data", "weight", "variance"):
            plane = getattr(layer, name)
            if plane.shape != self.shape:
                raise ShapeError(f"the exposure's {name}", plane.shape, self.shape)
        self._each(lambda tile: self._add_tile(layer, tile, sign))
        self._count(layer, sign, int(np.sign(sign)))

    def _count(self, layer: Layer, sign: int, n: int) -> None:
        self.weight += sign * layer.weight
        self.noise += sign * np.square(layer.weight, dtype=np.float64) * layer.variance
        self.count += np.where(layer.weight > 0, np.int32(n), np.int32(0))

    def _add_tile(self, layer: Layer, tile: Tile, sign: int) -> None:
        if not layer.weight[tile.inner].any():
            return
        cell = self._cell(tile)
        view = layer.view
        F, sigma = view.flux(tile.x, tile.y), view.sigma(tile.x, tile.y)
        M = forward(tiles.gather(layer.data, tile, 0.0))
        P, power = _psf(view, tile), _power(view, tile)
        shift = phases(tile.shape, view.shift(tile.x, tile.y))
        floor = FLOOR * max(view.psf_noise**2, ROUNDING)
        before = cell.B.copy() if sign < 0 else None
        _accumulate((cell.A, cell.B, cell.T), M, P, power, shift, (sign * F / sigma**2, F, floor))
        if before is not None:
            cell.gone = before - cell.B + (0.0 if cell.gone is None else cell.gone)
        cell.depth += sign * (F / sigma) ** 2
        cell.floor += sign * (F / sigma) ** 2 * floor

    def _cell(self, tile: Tile) -> Cell:
        cell = self.cells[tile.index]
        if cell is None:
            ny, nx = tile.shape
            half = (ny, nx // 2 + 1)
            cell = Cell(np.zeros(half, np.complex64), np.zeros(half), np.zeros(half))
            self.cells[tile.index] = cell
        return cell

    def merge(self, other: ProperSum) -> None:
        """Add all that another sum of the same plan holds.

        Raises
        ------
        ShapeError
            The other sum is of another grid or plan.
        """
        same = [
            t.shape == o.shape and t.start == o.start for t, o in zip(self.plan, other.plan, strict=False)
        ]
        if other.shape != self.shape or len(other.plan) != len(self.plan) or not all(same):
            raise ShapeError("the other sum", other.shape, self.shape, "Sums of one plan can be merged.")
        self.weight += other.weight
        self.noise += other.noise
        self.count += other.count
        for tile in self.plan:
            theirs = other.cells[tile.index]
            if theirs is not None:
                mine = self._cell(tile)
                mine.A += theirs.A
                mine.B += theirs.B
                mine.T += theirs.T
                mine.depth += theirs.depth
                mine.floor += theirs.floor
                if theirs.gone is not None:
                    mine.gone = theirs.gone + (0.0 if mine.gone is None else mine.gone)

    @property
    def F_R(self) -> float:
        """Flux scale of the coadd: root of the sum of F² / sigma², where most exposures reach [below 16]."""
        reached = self.weight[self.count > 0]
        return float(np.sqrt(np.median(reached))) if reached.size else 0.0

    def result(self, size: int) -> ProperCoadd:
        """The coadd, its variance, and its PSF in stamps of ``size`` px a side (odd)."""
        F_R, R = self.F_R, np.zeros(self.shape, np.float32)
        tiles.run(self.plan, lambda t: {"R": self._image(t, F_R)}, {"R": R}, n_threads=self.n_threads)
        empty = self.count <= 0
        safe = np.where(empty, 1.0, self.weight)
        R[empty] = np.nan
        variance = np.where(empty, np.nan, F_R**2 * self.noise / safe**2).astype(np.float32)
        weight = np.where(empty, 0, self.weight).astype(np.float32)
        nodes = [((t.x, t.y), P) for t in self.plan if (P := self._stamp(t, size)) is not None]
        return ProperCoadd(R, variance, weight, self.count.copy(), F_R, nodes)

    def _image(self, tile: Tile, F_R: float) -> Plane:
        """R of one tile, with the flux scale of the whole [7]."""
        cell = self.cells[tile.index]
        if cell is None or not cell.depth > 0:
            return np.zeros((tile.wy.size, tile.wx.size), np.float32)
        scale = F_R / np.sqrt(cell.depth)
        R_hat = cell.A * (scale / np.sqrt(cell.information())).astype(np.float32)
        return np.ascontiguousarray(tile.cut(inverse(R_hat, tile.shape[1], overwrite=True)))

    def _stamp(self, tile: Tile, size: int) -> F8 | None:
        """P_R of one tile [10], of unit sum."""
        cell = self.cells[tile.index]
        if cell is None or not cell.depth > 0:
            return None
        P_R = cell.T / np.sqrt(cell.information())
        stamp = stamp_of(inverse(P_R.astype(np.complex64), tile.shape[1]), size).astype(np.float64)
        unit: F8 = stamp / stamp.sum()
        return unit

    def predict(self, view: View) -> tuple[Plane, Plane]:
        """What the sum has an exposure show, and how free the exposure is to differ.

        Of an exposure that is in the sum, ``data - prediction`` is the residual of a least-squares fit. Its
        variance per pixel is ``share sigma²``, and a pixel that is too bright by a is so by ``share a``.

        Returns
        -------
        prediction : (ny, nx) float32 [unit of the exposure]; 0 where the sum has nothing.
        share : (ny, nx) float32, 0 ... 1; 1 where the sum has nothing.
        """
        planes = {name: np.zeros(self.shape, np.float32) for name in ("prediction", "share")}
        tiles.run(self.plan, lambda t: self._predict(view, t), planes, n_threads=self.n_threads)
        return planes["prediction"], planes["share"]

    def _predict(self, view: View, tile: Tile) -> dict[str, Plane | float]:
        cell = self.cells[tile.index]
        if cell is None or not cell.depth > 0:
            return {"prediction": np.zeros((tile.wy.size, tile.wx.size), np.float32), "share": 1.0}
        F, sigma = view.flux(tile.x, tile.y), view.sigma(tile.x, tile.y)
        P, power = _psf(view, tile), _power(view, tile)
        shift = phases(tile.shape, view.shift(tile.x, tile.y))
        floor = FLOOR * max(view.psf_noise**2, ROUNDING)
        nx = tile.shape[1]
        B = cell.information()
        share = _prediction(P, (cell.A, B), power, shift, (F, 1 / sigma**2, floor), nx)
        pixels = inverse(P, nx, overwrite=True)
        return {"prediction": np.ascontiguousarray(tile.cut(pixels)), "share": share}

    def _each(self, function: Callable[[Tile], None]) -> None:
        """Call a function for every tile; tiles share nothing, so their order does not matter."""
        if self.n_threads < 2:
            for tile in self.plan:
                function(tile)
            return
        with ThreadPoolExecutor(self.n_threads) as pool:
            for _ in pool.map(function, self.plan):
                pass


def _psf(view: View, tile: Tile) -> Spectrum:
    return forward(embed(view.psf(tile.x, tile.y), tile.shape))


def _power(view: View, tile: Tile) -> F4:
    return np.ones((1, 1), np.float32) if view.power is None else view.power(tile)


@compiled
def _floored(p: complex, power: float, floor: float) -> tuple[complex, float]:
    """The PSF's transform over the root of the noise power, its noise replaced by a real constant; and how
    much of it is information: a phase that is noise would scatter the noise of pixels over the image."""
    n = p.real**2 + p.imag**2
    weight = n * n / (n * n + floor * floor)
    return (weight * p + (1 - weight) * np.sqrt(floor * power)) / np.sqrt(power), weight


@compiled
def _accumulate(
    sums: tuple[Spectrum, F8, F8],
    M: Spectrum,
    P: Spectrum,
    power: F4,
    shift: tuple[Spectrum, Spectrum],
    numbers: tuple[float, float, float],
) -> None:
    """Add one exposure's (F / sigma²) conj(P̂) M̂ to A, and (F² / sigma²) |P̂|² to B [6]."""
    A, B, T = sums
    rows, columns = shift
    gain, F, floor = numbers
    white = power.size == 1
    for i in range(M.shape[0]):
        for j in range(M.shape[1]):
            v = 1.0 if white else np.float64(power[i, j])
            p = np.complex128(P[i, j])
            q, weight = _floored(p, v, floor)
            phase = np.complex128(rows[i]) * columns[j]
            A[i, j] += np.complex64(gain * q.conjugate() * phase * M[i, j] / np.sqrt(v))
            B[i, j] += gain * F * (q.real**2 + q.imag**2)
            T[i, j] += gain * F * weight * (q.real * p.real + q.imag * p.imag) / np.sqrt(v)


@compiled
def _prediction(
    P: Spectrum,
    sums: tuple[Spectrum, F8],
    power: F4,
    shift: tuple[Spectrum, Spectrum],
    numbers: tuple[float, float, float],
    nx: int,
) -> float:
    """Put F P̂ Â / B in place of P̂; the mean over frequencies of power (1 - F² |P̂|² / sigma² / B)."""
    A, B = sums
    rows, columns = shift
    F, w, floor = numbers
    white = power.size == 1
    total = 0.0
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            v = 1.0 if white else np.float64(power[i, j])
            q, _ = _floored(np.complex128(P[i, j]), v, floor)
            phase = np.complex128(rows[i]) * columns[j]
            b = B[i, j]
            often = 1.0 if j == 0 or (nx % 2 == 0 and j == P.shape[1] - 1) else 2.0
            total += often * v * (1.0 - F * F * w * (q.real**2 + q.imag**2) / b)
            P[i, j] = np.complex64(F * q * np.sqrt(v) * phase.conjugate() * A[i, j] / b)
    return float(total / (P.shape[0] * nx))
