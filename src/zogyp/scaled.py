"""An exposure of a stack beside the others: its flux scale, where its stars lie, and so what it weighs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zogyp.core.colour import covariance, power
from zogyp.core.proper import Layer, View
from zogyp.core.tiles import Tile
from zogyp.errors import StarsError
from zogyp.fluxscale import Match, Surface, match
from zogyp.frames import MESH, Frame
from zogyp.image import UNUSABLE, FloatImage
from zogyp.measure.background import over_image

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
SAMPLES = 6  # pixels of a tile along each axis that are asked where between the old pixels they fall
LEAST_SHIFT = 0.003  # px below which moving an exposure is not worth it


@dataclass(frozen=True)
class Scaled:
    """A frame with its flux scale.

    Attributes
    ----------
    frame : Frame
    flux : Surface
        Counts of a star whose flux is 1, before ``unit``.
    dx, dy : Surface
        Where its stars lie, minus where the grid has them [px].
    unit : float
        What ``flux`` is multiplied by, so that the first exposure's is as wanted.
    kernel : str
        By which it was interpolated, if it was.
    sign : int
        -1 when it is to be taken out of a coadd.
    floor : float or None
        Its `psf_noise`, when that is known otherwise.
    """

    frame: Frame
    flux: Surface
    dx: Surface
    dy: Surface
    unit: float = 1.0
    kernel: str = "bspline5"
    sign: int = 1
    floor: float | None = None

    @property
    def scale(self) -> float:
        """Typical flux scale."""
        return self.flux.typical * self.unit

    @property
    def sigma(self) -> float:
        """Typical standard deviation of its sky [its ADU]."""
        return float(np.median(self._table))

    @property
    def depth(self) -> float:
        """F² / sigma² where it has pixels: inverse variance of its sky in units of flux."""
        return (self.scale / self.sigma) ** 2

    @property
    def psf_noise(self) -> float:
        """Standard deviation of its PSF's transform, from the model's own error."""
        if self.floor is not None:
            return self.floor
        psf = self.frame.psf
        return 0.0 if psf.variance is None else float(np.sqrt(psf.variance.sum())) * psf.sampling

    @property
    def moves(self) -> bool:
        """Its stars lie measurably beside where the grid has them."""
        return any(
            s.significant and (s.order > 0 or abs(s.typical) > LEAST_SHIFT) for s in (self.dx, self.dy)
        )

    @property
    def even(self) -> bool:
        """Neither its PSF nor its flux scale nor its shift vary over the field."""
        return self.frame.psf.order == 0 and all(s.order == 0 for s in (self.flux, self.dx, self.dy))

    @cached_property
    def _table(self) -> F8:
        """Standard deviation of the sky in meshes."""
        sigma = self.frame.plane("sigma")
        rows, columns = (np.array_split(np.arange(n), max(1, round(n / MESH))) for n in sigma.shape)
        boxes = [[sigma[r[0] : r[-1] + 1, c[0] : c[-1] + 1] for c in columns] for r in rows]
        return np.array([[np.median(box) for box in line] for line in boxes])

    def sigma_at(self, x: float, y: float) -> float:
        """Standard deviation of the sky at a place [its ADU]."""
        (my, mx), (ny, nx) = self._table.shape, self.frame.plane("sigma").shape
        row, column = int((y + 0.5) * my / ny), int((x + 0.5) * mx / nx)
        return float(self._table[min(max(row, 0), my - 1), min(max(column, 0), mx - 1)])

    def flux_at(self, x: float, y: float) -> float:
        """Flux scale at a place."""
        return self.flux.at(x, y) * self.unit

    def shift_at(self, x: float, y: float) -> tuple[float, float]:
        """By how much its stars lie beside where the grid has them at a place [px]."""
        return (self.dx.at(x, y), self.dy.at(x, y)) if self.moves else (0.0, 0.0)

    def flux_plane(self) -> FloatImage | np.float32:
        """Flux scale of each pixel; a number where it is the same everywhere."""
        if self.flux.order == 0:
            return np.float32(self.scale)
        ny, nx = self.frame.plane("mask").shape
        my, mx = max(2, ny // MESH), max(2, nx // MESH)
        x, y = np.meshgrid((np.arange(mx) + 0.5) * nx / mx - 0.5, (np.arange(my) + 0.5) * ny / my - 0.5)
        table = self.flux.grid(x.ravel(), y.ravel()).reshape(x.shape)
        return over_image(table * self.unit, (ny, nx)).plane()

    def unusable(self) -> Bool:
        """Pixels that the exposure itself knows to be bad."""
        bad: Bool = (self.frame.plane("mask") & np.uint16(UNUSABLE)) > 0
        return bad

    def view(self) -> View:
        """How it shows the sky."""
        return View(
            psf=self.frame.psf.at,
            sigma=self.sigma_at,
            flux=self.flux_at,
            shift=self.shift_at,
            psf_noise=self.psf_noise,
            power=self.power_at if self.frame.moved else None,
        )

    def layer(self, data: FloatImage, bad: Bool) -> Layer:
        """The exposure as a sum takes it, with ``data`` filled where it is ``bad``."""
        flux = self.flux_plane()
        weight = np.where(bad, np.float32(0), (flux / self.frame.plane("sigma")) ** 2)
        variance = (self.frame.plane("variance") / flux**2).astype(np.float32)
        return Layer(self.view(), data, weight.astype(np.float32), variance)

    def power_at(self, tile: Tile) -> NDArray[np.float32]:
        """Noise power of the interpolated pixels of a tile."""
        place = (tile.index, *tile.start)
        if place not in self._covariances:
            self._covariances[place] = self._covariance(tile)
        return power(self._covariances[place], tile.shape)

    @cached_property
    def _covariances(self) -> dict[tuple[int, ...], F8]:
        """Of the tiles that were asked for, by their place: small, and needed several times."""
        return {}

    def _covariance(self, tile: Tile) -> F8:
        registration = self.frame.registration
        assert registration is not None
        rows, columns = (np.unique(np.linspace(s.start, s.stop - 1, SAMPLES).round()) for s in tile.inner)
        x, y = (a.ravel() for a in np.meshgrid(columns, rows))
        u, v = registration.transform(x, y)
        # one step along x, one along y, at the tile's middle
        cx, cy = np.array([0.0, 1.0, 0.0]) + x.mean(), np.array([0.0, 0.0, 1.0]) + y.mean()
        a, b = registration.transform(cx, cy)
        jacobian = np.array([a[1:] - a[0], b[1:] - b[0]])
        return covariance(self.kernel, u, v, jacobian)


def scaled(frame: Frame, anchor: Frame) -> Scaled:
    """Compare a frame with the one whose fluxes and positions are the stack's.

    Raises
    ------
    StarsError
        They share neither stars nor other light.
    """
    if frame is anchor:
        ny, nx = frame.plane("mask").shape
        flat = Surface(np.ones(1), 0, (max((nx - 1) / 2, 0.5), max((ny - 1) / 2, 0.5)))
        zero = replace(flat, coefficients=np.zeros(1))
        return Scaled(frame, flat, zero, zero)
    found = _compared(frame, anchor)
    return Scaled(frame, found.flux_ratio, found.dx, found.dy)


def _compared(frame: Frame, anchor: Frame) -> Match:
    """What matched stars tell, with a word on which exposure is meant."""
    try:
        return match(anchor.measured(), frame.measured())
    except StarsError as error:
        raise StarsError(f"{frame.name}: {error.what}", error.n_found, error.n_required) from error
