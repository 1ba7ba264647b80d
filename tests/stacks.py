"""Exposures of one field for co-addition: unlike seeing, sky, transparency and place, drawn by `skies`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

import mapped
import skies

GAIN, READ, SATURATION = 2.0, 5.0, 50000.0  # e-/ADU, e-, ADU


def moffat(fwhm, beta=4.0, n=8):
    """A Moffat profile as the mixture of Gaussians that it is: their inverse widths go as a gamma law."""
    a = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    t, w = np.polynomial.laguerre.laggauss(n)
    share = w * t ** (beta - 2)
    s, zero = a / np.sqrt(2 * t), np.zeros(n)
    return np.column_stack([share / share.sum(), zero, zero, s, s])


@dataclass(frozen=True)
class Take:
    """How one exposure was taken; ``flux`` is the counts of a star of flux 1."""

    fwhm: float
    sky: float
    flux: float
    seed: int
    shift: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    shape: tuple[int, int] | None = None
    rays: int = 0
    trail: tuple[float, float, float] | None = None  # peak [sigma], direction [deg], y where x is 0 [px]

    @property
    def sigma(self):
        """Standard deviation of a pixel of blank sky [ADU]."""
        return float(np.sqrt(self.sky / GAIN + (READ / GAIN) ** 2))

    @property
    def depth(self):
        """F² / sigma²."""
        return (self.flux / self.sigma) ** 2


@dataclass(frozen=True)
class Field:
    """Stars on the grid of a stack, and the light that exposures have of them."""

    shape: tuple[int, int]
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    faint: np.ndarray  # which of them are there to be detected only
    _light: dict[Take, np.ndarray] = field(default_factory=dict, repr=False)

    def known(self, take):
        """From the grid to the exposure."""
        return mapped.turned(self.shape, take.shape or self.shape, angle=take.angle, shift=take.shift)

    def light(self, take):
        """The stars without noise, in the exposure's own pixels."""
        if take not in self._light:
            image, mixture = np.zeros(take.shape or self.shape), moffat(take.fwhm)
            for x, y, f in zip(*self.known(take)(self.x, self.y), self.flux, strict=True):
                skies.add(image, x, y, f * take.flux, mixture, 2 * int(8 * take.fwhm) + 1)
            self._light[take] = image
        return self._light[take]

    def sharp(self, take):
        """Noise and all, but neither cosmic rays nor a trail: float64."""
        rng = np.random.default_rng(take.seed)
        light = self.light(take)
        return (rng.poisson((light + take.sky) * GAIN) + rng.normal(0, READ, light.shape)) / GAIN

    def exposed(self, take):
        """The exposure, float32, and where cosmic rays and the trail are in it."""
        data, extra = self.sharp(take), unwanted(take, take.shape or self.shape)
        return (data + extra).astype(np.float32), extra > 0.5 * take.sigma

    def write(self, take, path, **cards):
        """A FITS file of the exposure, by astropy."""
        header = mapped.wcs(self.known(take)).to_header()
        header["GAIN"], header["RDNOISE"], header["SATURATE"] = GAIN, READ, SATURATION
        header["EXPTIME"], header["MAGZERO"] = 60.0 * take.flux, 25.0 + 2.5 * np.log10(take.flux)
        header.update(cards)
        fits.writeto(path, self.exposed(take)[0], header)
        return str(path)


def unwanted(take, shape):
    """Cosmic rays of one to five pixels, and a trail as wide as the seeing [ADU]."""
    rng = np.random.default_rng(take.seed + 1000)
    extra = np.zeros(shape)
    for _ in range(take.rays):
        x, y = rng.integers(5, shape[1] - 8), rng.integers(5, shape[0] - 8)
        for s in range(rng.integers(1, 6)):
            extra[y + s // 2, x + s % 3] += rng.uniform(20, 200) * take.sigma
    if take.trail is not None:
        Y, X = np.mgrid[: shape[0], : shape[1]]
        s = take.fwhm / skies.FWHM
        extra += take.trail[0] * take.sigma * np.exp(-(from_trail(take, X, Y) ** 2) / 2 / s**2)
    return extra


def from_trail(take, x, y):
    """Distance of places in an exposure from the middle of its trail [px]."""
    _, angle, start = take.trail
    return (y - start) * np.cos(np.deg2rad(angle)) - x * np.sin(np.deg2rad(angle))


def random_field(seed, shape, n, *, flux=(1.5e3, 8e4), n_faint=0, faint=0.0, apart=9.0, beyond=10.0):
    """Stars no two nearer than ``apart``, some beyond the border; ``n_faint`` ones of one flux inside."""
    rng = np.random.default_rng(seed)
    places = np.zeros((0, 2))
    for i in range(n + n_faint):
        low, high = (-beyond, beyond) if i < n else (20, -20)
        need = apart if i < n else 1.6 * apart
        for _ in range(10_000):
            place = rng.uniform([low, low], [shape[1] + high, shape[0] + high])
            if len(places) == 0 or np.hypot(*(places - place).T).min() >= need:
                break
        else:
            raise ValueError(f"no room for star {i}")
        places = np.vstack([places, place])
    f = np.append(np.exp(rng.uniform(*np.log(flux), n)), np.full(n_faint, faint))
    return Field(shape, places[:, 0], places[:, 1], f, np.arange(n + n_faint) >= n)
