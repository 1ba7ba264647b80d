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
from scipy import fft

from zogyp.core import tiles
from zogyp.core.fourier import Plane, Spectrum, embed, forward, inverse, phases, stamp_of
from zogyp.core.frequencies import accumulate, add_weights, prediction
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

    @property
    def least(self) -> float:
        """What of B can be told from rounding."""
        # 0.25: between information and floor a PSF's transform may fall below the floor
        return max(0.25 * self.floor, ROUNDING * 1e-6 * self.depth, 1e-300)

    def information(self) -> F8:
        """B, at least what can be told from rounding and from what was taken out."""
        B = np.maximum(self.B, self.least)
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
        self.add_light(layer.view, layer.data, layer.weight > 0, sign)
        weight, variance = (np.ascontiguousarray(p, np.float32) for p in (layer.weight, layer.variance))
        add_weights(self.weight, self.noise, self.count, weight, variance, sign)

    def add_light(self, view: View, data: Plane, usable: NDArray[np.bool_], sign: int = 1) -> None:
        """Add what `predict` asks for only: not what pixels weigh, nor their noise, nor how many there are.

        Parameters
        ----------
        view : View
        data : (ny, nx) float32, as that of a `Layer`.
        usable : (ny, nx) bool
        sign : -1 to take it out.
        """
        self._each(lambda tile: self._add_tile(view, data, usable, tile, sign))

    def _add_tile(self, view: View, data: Plane, usable: NDArray[np.bool_], tile: Tile, sign: int) -> None:
        if not usable[tile.inner].any():
            return
        cell = self._cell(tile)
        F, sigma = view.flux(tile.x, tile.y), view.sigma(tile.x, tile.y)
        M = forward(tiles.gather(data, tile, 0.0))
        P, power = _psf(view, tile), _power(view, tile)
        shift = phases(tile.shape, view.shift(tile.x, tile.y))
        floor = FLOOR * max(view.psf_noise**2, ROUNDING)
        before = cell.B.copy() if sign < 0 else None
        accumulate((cell.A, cell.B, cell.T), M, P, power, shift, (sign * F / sigma**2, F, floor))
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
        B = cell.B if cell.gone is None else cell.information()
        share = prediction(P, (cell.A, B), power, shift, (F, 1 / sigma**2, floor, cell.least), nx)
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
    """P̂: of the rows of the block only those that the stamp reaches are transformed along x."""
    stamp = view.psf(tile.x, tile.y)
    (ny, nx), (ky, kx) = tile.shape, stamp.shape
    if ky > ny or kx > nx:
        return forward(embed(stamp, tile.shape))
    reached = np.zeros((ky, nx), np.float32)
    reached[:, (np.arange(kx) - kx // 2) % nx] = stamp
    spectrum = np.zeros((ny, nx // 2 + 1), np.complex64)
    spectrum[(np.arange(ky) - ky // 2) % ny] = fft.rfft(reached, axis=1, workers=1)
    result: Spectrum = fft.fft(spectrum, axis=0, workers=1, overwrite_x=True)
    return result


def _power(view: View, tile: Tile) -> F4:
    return np.ones((1, 1), np.float32) if view.power is None else view.power(tile)
