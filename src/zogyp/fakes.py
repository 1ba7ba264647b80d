"""Fake transients: where they are put, and how they get into the pixels of an image as it was taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zogyp.core.psfmodel import PSF
from zogyp.core.transform import Transform
from zogyp.image import Flag, FloatImage, Image
from zogyp.measure.exposure import Exposure
from zogyp.measure.resolved import resolved
from zogyp.options import FakeOptions

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
DEFAULT_N = 60  # fakes of a run
TOTAL = 400  # fakes of all runs
CELL = 10.0  # FWHM: a square of this side holds one fake at most, on average
PER_SOURCE = 0.25  # fakes for each source, half of them in one image: more would change the PSF
FEWEST = 8  # however few sources there are
APART = 6.0  # FWHM between two fakes: the wings of one do not reach the other
FREE = 2.0  # FWHM around a candidate of the images themselves where no fake is put
BRIGHTEST = 0.1  # share of the sources that count as bright stars
BRIGHT_SNR = 50.0  # at least
NEAR_STAR = (1.0, 4.0)  # FWHM from a bright star
TRIES = 60  # for a place of its own


@dataclass(frozen=True)
class Brush:
    """How a star is drawn into one image as it was taken.

    Attributes
    ----------
    psf : PSF
        In the pixels of that image.
    gain : float or None
        [e-/ADU]; None: the photons of a fake make no noise, as those of stars are taken to make none.
    saturation : float or None
        Level that no pixel exceeds because of a fake [ADU].
    transform : Transform or None
        From the grid of the results to the image's pixels; None where they are the same.
    """

    psf: PSF
    gain: float | None = None
    saturation: float | None = None
    transform: Transform | None = None

    def onto(self, x: F8, y: F8) -> tuple[F8, F8]:
        """Places on the grid in the image's own pixels."""
        return (x, y) if self.transform is None else self.transform(x, y)

    def paint(self, image: Image, x: F8, y: F8, flux: F8, rng: np.random.Generator) -> Image:
        """The image with stars more, photon noise and all.

        Parameters
        ----------
        image : Image
        x, y : (n,)
            Places in the image's pixels; what lies beyond its border is lost.
        flux : (n,)
            Counts, positive.
        rng : numpy.random.Generator

        Returns
        -------
        Image
            Its variance, where it has one, counts the photons too.
        """
        light = drawn(image.shape, self.psf, x, y, flux)
        added, photons = light, np.maximum(light, 0)
        variance = image.variance
        if self.gain is not None:
            expected = self.gain * photons.astype(np.float64)
            added = light + ((rng.poisson(expected) - expected) / self.gain).astype(np.float32)
            if variance is not None:
                variance = (variance + photons / self.gain).astype(np.float32)
        data = image.data + added
        if self.saturation is not None:
            level = np.float32(self.saturation)
            full = (data > level) & (added > 0)
            data[full] = np.maximum(image.data[full], level)  # what was beyond it before stays
        return replace(image, data=data, variance=variance)


def drawn(shape: tuple[int, int], psf: PSF, x: F8, y: F8, flux: F8) -> FloatImage:
    """Stars of a PSF on an empty plane.

    Parameters
    ----------
    shape : (ny, nx)
    psf : PSF
    x, y : (n,)
        Places [px, 0-based].
    flux : (n,)
        Their counts.

    Returns
    -------
    ndarray, float32, (ny, nx)
    """
    ny, nx = shape
    plane = np.zeros(shape, dtype=np.float32)
    r = psf.size // 2
    for xi, yi, f in zip(x, y, flux, strict=True):
        column, row = round(float(xi)), round(float(yi))
        if not (-r <= column < nx + r and -r <= row < ny + r):
            continue
        stamp = f * psf.at(float(xi), float(yi), dx=float(xi) - column, dy=float(yi) - row)
        rows = slice(max(0, row - r), min(ny, row + r + 1))
        columns = slice(max(0, column - r), min(nx, column + r + 1))
        part = stamp[
            rows.start - row + r : rows.stop - row + r, columns.start - column + r : columns.stop - column + r
        ]
        plane[rows, columns] += part.astype(np.float32)
    return plane


@dataclass(frozen=True)
class Ground:
    """Where fakes may lie, on the grid of the results.

    Attributes
    ----------
    open : bool (ny, nx)
        Pixels that both images have, away from candidates of their own.
    fwhm : float
        The broader seeing of the two [px].
    stars, galaxies : (n, 2) and (n, 3)
        x, y of bright stars; x, y and half-light radius of galaxies [px].
    n_sources : int
        Of the image that shows fewer.
    """

    open: Bool
    fwhm: float
    stars: F8
    galaxies: F8
    n_sources: int = 10_000

    def capacity(self, options: FakeOptions) -> int:
        """Fakes of one run."""
        room = int(self.open.sum() / (CELL * self.fwhm) ** 2)
        return options.n or max(1, min(DEFAULT_N, room, max(FEWEST, round(PER_SOURCE * self.n_sources))))


def ground(new: Exposure, ref: Exposure, candidates: tuple[F8, F8]) -> Ground:
    """Where fakes may lie in a pair of images that were subtracted without any.

    Parameters
    ----------
    new, ref : Exposure
        On the grid of the results.
    candidates : x, y of what their subtraction found
    """
    fwhm = max(new.psf.fwhm, ref.psf.fwhm)
    free: Bool = ((new.image.mask | ref.image.mask) & np.uint16(Flag.NO_DATA)) == 0
    ny, nx = free.shape
    r = int(np.ceil(FREE * fwhm))
    for x, y in zip(*candidates, strict=True):
        free[
            max(0, round(float(y)) - r) : max(0, round(float(y)) + r + 1),
            max(0, round(float(x)) - r) : max(0, round(float(x)) + r + 1),
        ] = False
    best = new if len(new.sources) >= len(ref.sources) else ref
    s = best.sources
    snr = s.flux / s.flux_err
    inside = (s.x > 0) & (s.x < nx - 1) & (s.y > 0) & (s.y < ny - 1)
    galaxies = np.flatnonzero(resolved(best) & inside)
    least = max(BRIGHT_SNR, float(np.quantile(snr, 1 - BRIGHTEST))) if snr.size else np.inf
    bright = inside & ((snr >= least) | s.saturated)
    bright[galaxies] = False
    return Ground(
        open=free,
        fwhm=fwhm,
        stars=np.column_stack([s.x, s.y])[bright],
        galaxies=np.column_stack([s.x, s.y, s.radius])[galaxies],
        n_sources=min(len(new.sources), len(ref.sources)),
    )


def places(here: Ground, options: FakeOptions, n: int, rng: np.random.Generator) -> tuple[F8, F8, list[str]]:
    """Places of the fakes of one run, no two near each other.

    Parameters
    ----------
    here : Ground
    options : FakeOptions
        The shares on galaxies and beside stars; what finds no place there goes to the field.
    n : int
        How many; fewer come back where there is no room.
    rng : numpy.random.Generator

    Returns
    -------
    x, y : ndarray (n,)
        On the grid of the results [px].
    place : list of str
        galaxy, star or field, in this order: a field has room for all.
    """
    wanted = [("galaxy", options.share_galaxies), ("star", options.share_stars), ("field", 1.0)]
    chosen: list[tuple[float, float]] = []
    names: list[str] = []
    for name, share in wanted:
        room = n - len(chosen) if name == "field" else round(share * n)
        for x, y in _tried(name, here, rng, room):
            if _allowed(x, y, here, chosen):
                chosen.append((x, y))
                names.append(name)
                room -= 1
            if room <= 0:
                break
    xy = np.array(chosen, dtype=np.float64).reshape(-1, 2)
    return xy[:, 0], xy[:, 1], names


def _tried(name: str, here: Ground, rng: np.random.Generator, room: int) -> Iterator[tuple[float, float]]:
    """Random places of one kind, as many as are worth trying."""
    ny, nx = here.open.shape
    hosts = {"galaxy": here.galaxies, "star": here.stars}.get(name)
    if room < 1 or (hosts is not None and len(hosts) == 0):
        return
    for _ in range(TRIES * room):
        if hosts is None:
            yield float(rng.uniform(-0.5, nx - 0.5)), float(rng.uniform(-0.5, ny - 0.5))
            continue
        host = hosts[rng.integers(len(hosts))]
        if name == "galaxy":  # a Gaussian of its half-light radius: most lie where most light is
            dx, dy = rng.normal(0, host[2] / np.sqrt(2 * np.log(2)), 2)
        else:
            distance, angle = here.fwhm * rng.uniform(*NEAR_STAR), rng.uniform(0, 2 * np.pi)
            dx, dy = distance * np.cos(angle), distance * np.sin(angle)
        yield float(host[0] + dx), float(host[1] + dy)


def _allowed(x: float, y: float, here: Ground, chosen: list[tuple[float, float]]) -> bool:
    """Whether a place is open and far enough from the fakes that there are."""
    ny, nx = here.open.shape
    column, row = round(x), round(y)
    if not (0 <= column < nx and 0 <= row < ny and here.open[row, column]):
        return False
    return all((x - u) ** 2 + (y - v) ** 2 > (APART * here.fwhm) ** 2 for u, v in chosen)
