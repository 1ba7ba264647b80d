"""An exposure of a stack beside the others: its flux scale, where its stars lie, and so what it weighs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zogyp.core.colour import covariance, power
from zogyp.core.proper import Layer, View
from zogyp.core.psfmodel import PSF
from zogyp.core.tiles import Tile
from zogyp.errors import StarsError
from zogyp.fluxscale import Match, Surface, match
from zogyp.frames import MESH, Frame
from zogyp.image import UNUSABLE, FloatImage
from zogyp.measure.background import over_image, split_evenly

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

    @cached_property
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
    def _table(self) -> FloatImage:
        """Standard deviation of the sky in meshes."""
        return mesh_medians(self.frame.plane("sigma"), MESH)

    @cached_property
    def _shape(self) -> tuple[int, int]:
        """(ny, nx) of its planes."""
        ny, nx = self.frame.plane("mask").shape
        return ny, nx

    def sigma_at(self, x: float, y: float) -> float:
        """Standard deviation of the sky at a place [its ADU]."""
        (my, mx), (ny, nx) = self._table.shape, self._shape
        row, column = int((y + 0.5) * my / ny), int((x + 0.5) * mx / nx)
        return float(self._table[min(max(row, 0), my - 1), min(max(column, 0), mx - 1)])

    def flux_at(self, x: float, y: float) -> float:
        """Flux scale at a place."""
        return self._told(x, y)[0]

    def shift_at(self, x: float, y: float) -> tuple[float, float]:
        """By how much its stars lie beside where the grid has them at a place [px]."""
        return self._told(x, y)[1:]

    def _told(self, x: float, y: float) -> tuple[float, float, float]:
        """What its surfaces tell at a place, remembered: tiles ask for the same places in every pass."""
        known = self._places.get((x, y))
        if known is None:
            shift = (self.dx.at(x, y), self.dy.at(x, y)) if self.moves else (0.0, 0.0)
            known = self._places[x, y] = (self.flux.at(x, y) * self.unit, *shift)
        return known

    @cached_property
    def _places(self) -> dict[tuple[float, float], tuple[float, float, float]]:
        """Flux scale and shift, by place."""
        return {}

    def flux_plane(self) -> FloatImage | np.float32:
        """Flux scale of each pixel; a number where it is the same everywhere."""
        if self.flux.order == 0:
            return np.float32(self.scale)
        ny, nx = self._shape
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
            psf=stamps(self.frame.psf),
            sigma=self.sigma_at,
            flux=self.flux_at,
            shift=self.shift_at,
            psf_noise=self.psf_noise,
            power=self.power_at if self.frame.moved else None,
        )

    def layer(self, data: FloatImage, bad: Bool) -> Layer:
        """The exposure as a sum takes it, with ``data`` filled where it is ``bad``."""
        flux = self.flux_plane()
        weight = np.square(flux / self.frame.plane("sigma"), dtype=np.float32)
        weight[bad] = 0
        variance = np.divide(self.frame.plane("variance"), flux**2, dtype=np.float32)
        return Layer(self.view(), data, weight, variance)

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


def stamps(psf: PSF) -> Callable[[float, float], F8]:
    """`PSF.at`, with what is the same at all places done once."""
    w = psf.evaluation(psf.size, 0.0)
    planes = w @ psf.coefficients @ w.T

    def at(x: float, y: float) -> F8:
        stamp: F8 = np.tensordot(psf.terms(np.array([x]), np.array([y]))[:, 0], planes, axes=1)
        stamp /= stamp.sum()
        return stamp

    return at


def mesh_medians(plane: FloatImage, mesh: int) -> FloatImage:
    """Medians of meshes of about ``mesh`` px that share an image out evenly."""
    rows, columns = (split_evenly(n, max(1, round(n / mesh))) for n in plane.shape)
    width = np.diff(columns)
    table = np.empty((rows.size - 1, width.size), plane.dtype)
    for j in range(len(table)):
        line = plane[rows[j] : rows[j + 1]]
        for w in np.unique(width):  # meshes of one width lie side by side
            of_it = np.flatnonzero(width == w)
            part = line[:, columns[of_it[0]] : columns[of_it[-1] + 1]].reshape(len(line), of_it.size, w)
            half = len(line) * w // 2
            # at one place: several times as quick as at the middle two
            values = np.partition(part.swapaxes(0, 1).reshape(of_it.size, -1), half, axis=1)
            upper = values[:, half]
            even = 2 * half == values.shape[1]
            table[j, of_it] = (values[:, :half].max(axis=1) + upper) / 2 if even else upper
    return table


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
