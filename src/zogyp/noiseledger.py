"""What each kind of noise adds to V, told at some places: blank sky, stars, bright stars.

The noise of pixels is followed through the squared kernels in real space, at samples only: an image of
each kind would cost more than the subtraction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zogyp.core import zogy
from zogyp.core.fourier import Spectrum, inverse, stamp_of
from zogyp.core.stamps import cut_stamps
from zogyp.fluxscale import Match
from zogyp.image import FloatImage
from zogyp.measure.exposure import Exposure
from zogyp.options import NoiseOptions
from zogyp.repair import Repaired

if TYPE_CHECKING:
    from zogyp.halves import Half

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
Pixels = tuple[NDArray[np.intp], NDArray[np.intp]]  # x, y
SAMPLES = 150  # places of each sort at most
BRIGHT = 0.1  # of the stars, those that count as bright
FEWEST = 5  # bright stars at least, of twice as many
APART = 4.0  # FWHM between blank sky and the next source, where there is such sky
LARGEST_REACH = 40  # px from a place to which noise is followed
GRID = 3  # nodes along each axis where the kernels are looked at
TERMS = (
    "sky", "quantisation", "correlation", "photons", "filled", "psf", "registration", "flux_ratio",
    "background", "stars",
)  # fmt: skip


class Work(Protocol):
    """What knows the kernels and the errors of a subtraction at any place."""

    astrometric: tuple[float, float]

    def kernels_at(self, x: float, y: float, shape: tuple[int, int]) -> zogy.Kernels:
        """Kernels at a position."""

    def flux_error(self, x: float, y: float) -> float:
        """Relative error of the flux ratio at a position."""


class Ledger:
    """Parts of V at the samples."""

    def __init__(self, new: Exposure, ref: Exposure, matched: Match) -> None:
        self.places = _places(new, ref, matched)
        self.x, self.y = (
            np.concatenate([place[i] for place in self.places.values()]).astype(np.float64) for i in (0, 1)
        )
        self.reach = min(max(new.psf.size, ref.psf.size) // 2, LARGEST_REACH)
        self.parts: dict[str, F8] = {}
        self._pixels: list[dict[str, F4]] = []
        self._before: list[F4] = []

    def pixels(self, exposure: Exposure, pixels: Repaired, counted: NoiseOptions) -> None:
        """Take down the noise of one image's pixels, before that of the PSF models is added."""
        noise = exposure.noise
        sky = (noise.sigma.at(self.x, self.y)[:, None, None] ** 2).astype(np.float32)
        known = self._cut(exposure.variance, 0, np.nan)
        total = self._cut(pixels.variance, pixels.pad, 0.0)
        whole = np.where(counted.correlation, 1.0, 1 / noise.correlation**2)
        own = np.isclose(self._cut(pixels.data, pixels.pad, 0.0), self._cut(exposure.data, 0, np.nan), rtol=0)
        coarse = np.full_like(total, noise.quantum**2 / 12 if counted.quantisation else 0.0)
        coloured = np.broadcast_to(sky, total.shape) * np.float32(
            1 - 1 / noise.correlation**2 if counted.correlation else 0.0
        )
        photons = np.where(own & counted.photons, (known - sky) * whole, 0)
        rest = total - coloured - photons
        filled = np.where(own, 0, np.maximum(total - sky, 0))
        parts = {"quantisation": coarse, "correlation": coloured, "photons": photons, "filled": filled}
        self._pixels.append({k: v.astype(np.float32) for k, v in parts.items()})
        self._pixels[-1]["sky"] = (rest - filled - coarse).astype(np.float32)
        self._before.append(total)

    def models(self, pixels: Repaired) -> None:
        """Take down what the PSF's own errors have added since."""
        n = len(self._pixels) - 1
        self._pixels[n]["psf"] = self._cut(pixels.variance, pixels.pad, 0.0) - self._before[n]

    def fill(self, work: Work, halves: tuple[Half, Half]) -> None:
        """Work out what the noise of pixels, registration and flux ratio make of V."""
        self.parts = {name: np.zeros(self.x.size) for name in TERMS}
        if self.x.size == 0:
            return
        light = [self._cut(half.pixels.data, half.pixels.pad, 0.0, more=1) for half in halves]
        for x, y, near in self._nodes():
            k = work.kernels_at(x, y, (256, 256))
            kernels = [
                stamp_of(inverse(spectrum, 256), 2 * self.reach + 1).astype(np.float64)[::-1, ::-1]
                * (k.scale / s)
                for spectrum, s in ((k.k_n, k.sigma_n), (k.k_r, k.sigma_r))
            ]
            for kernel, planes in zip(kernels, self._pixels, strict=True):
                for name, stamps in planes.items():
                    self.parts[name][near] += np.tensordot(stamps[near], kernel**2, axes=2)
            scores = [_score(plane[near], kernel) for plane, kernel in zip(light, kernels, strict=True)]
            slopes = [(s[:, 1, 2] - s[:, 1, 0], s[:, 2, 1] - s[:, 0, 1]) for s in scores]
            for axis in (0, 1):
                square = sum(slope[axis] ** 2 for slope in slopes)
                self.parts["registration"][near] += (work.astrometric[axis] / 2) ** 2 * square
            common = np.maximum(scores[0][:, 1, 1] * scores[1][:, 1, 1], 0)
            self.parts["flux_ratio"][near] = work.flux_error(x, y) ** 2 * common
        self._pixels, self._before = [], []

    @contextmanager
    def entry(self, name: str, variance: FloatImage) -> Iterator[None]:
        """Take down what is added to V meanwhile."""
        before = self._at(variance)
        yield
        self.parts[name] = self._at(variance) - before

    def shares(self, variance: FloatImage) -> dict[str, dict[str, float]]:
        """Mean share of V that each kind of noise has at each sort of place, and the number of places."""
        shown: dict[str, dict[str, float]] = {}
        first = 0
        total = self._at(variance)
        for sort, (x, _) in self.places.items():
            part = np.s_[first : first + x.size]
            first += x.size
            if x.size:
                told = {k: float(np.mean(v[part] / total[part])) for k, v in self.parts.items()}
                shown[sort] = {"places": int(x.size), **told}
        return shown

    def _at(self, plane: FloatImage) -> F8:
        values: F8 = plane[self.y.astype(int), self.x.astype(int)].astype(np.float64)
        return values

    def _cut(self, plane: FloatImage, pad: int, fill: float, more: int = 0) -> F4:
        return cut_stamps(plane, self.x + pad, self.y + pad, self.reach + more, fill)

    def _nodes(self) -> Iterator[tuple[float, float, NDArray[np.intp]]]:
        """Places where kernels are looked at, each with the samples nearest to it."""
        sides = [np.linspace(v.min(), v.max(), 2 * GRID + 1)[1::2] for v in (self.x, self.y)]
        nodes = np.column_stack([a.ravel() for a in np.meshgrid(*sides)])
        _, nearest = cKDTree(nodes).query(np.column_stack([self.x, self.y]))
        for i in np.unique(nearest):
            yield float(nodes[i, 0]), float(nodes[i, 1]), np.flatnonzero(nearest == i)


def _kernel(spectrum: Spectrum, size: int) -> F8:
    """A kernel in real space, turned around: what is multiplied with the pixels around a place."""
    stamp: F8 = stamp_of(inverse(spectrum, 256), size).astype(np.float64)[::-1, ::-1]
    return stamp


def _score(light: F4, kernel: F8) -> F8:
    """S at 3 x 3 pixels around each sample, (n, 3, 3), of one image."""
    k = kernel.shape[0]
    out = np.empty((len(light), 3, 3))
    for j in range(3):
        for i in range(3):
            out[:, j, i] = np.tensordot(light[:, j : j + k, i : i + k], kernel, axes=2)
    return out


def _places(
    new: Exposure, ref: Exposure, matched: Match
) -> Mapping[str, tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pixels (x, y) of each sort, away from the border and from bad pixels."""
    ny, nx = new.image.shape
    good = new.image.good & ref.image.good
    s, chosen = new.sources, matched.new[np.argsort(-new.sources.flux[matched.new], kind="stable")]
    rim = min(max(new.psf.size, ref.psf.size) // 2, min(ny, nx) // 4)
    x, y = np.rint(s.x[chosen]).astype(int), np.rint(s.y[chosen]).astype(int)
    inside = (x >= rim) & (y >= rim) & (x < nx - rim) & (y < ny - rim)
    x, y = x[inside], y[inside]
    x, y = x[good[y, x]], y[good[y, x]]
    n_bright = max(int(BRIGHT * x.size), FEWEST) if x.size >= 2 * FEWEST else 0
    some = np.s_[:: max(1, -(-x.size // SAMPLES))]
    return {
        "sky": _blank(new, ref, good, rim),
        "stars": (x[some], y[some]),
        "bright stars": (x[:n_bright][:SAMPLES], y[:n_bright][:SAMPLES]),
    }


def _blank(new: Exposure, ref: Exposure, good: NDArray[np.bool_], rim: int) -> Pixels:
    """Pixels of a lattice far from all sources; in crowds the farthest there are."""
    ny, nx = good.shape
    step = max(1, int(np.sqrt(ny * nx / (8 * SAMPLES))))
    y, x = (a.ravel() for a in np.mgrid[rim : ny - rim : step, rim : nx - rim : step])
    x, y = x[good[y, x]], y[good[y, x]]
    sources = np.concatenate([np.column_stack([e.sources.x, e.sources.y]) for e in (new, ref)])
    if sources.size and x.size:
        distance, _ = cKDTree(sources).query(np.column_stack([x, y]))
        least = min(APART * max(new.psf.fwhm, ref.psf.fwhm), float(np.quantile(distance, 0.9)))
        x, y = x[distance >= least], y[distance >= least]
    some = np.s_[:: max(1, -(-x.size // SAMPLES))]
    return x[some], y[some]
