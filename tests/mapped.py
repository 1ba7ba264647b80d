"""One sky seen on two grids, under maps known in closed form: drawn by `skies`, without any code of zogyp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

import skies
from zogyp.image import Image

GAIN, SKY, READ = 2.0, 200.0, 5.0  # e-/ADU, ADU, e-
SIGMA = float(np.sqrt(SKY / GAIN + (READ / GAIN) ** 2))  # ADU, of a pixel of blank sky


@dataclass(frozen=True)
class Known:
    """The affine map from a grid to an image: ``x_in, y_in = m (x_out, y_out, 1)``."""

    m: np.ndarray

    def __call__(self, x, y):
        (a, b, c), (d, e, f) = self.m
        x, y = np.asarray(x, float), np.asarray(y, float)
        return a * x + b * y + c, d * x + e * y + f

    @property
    def scale(self):
        return float(np.sqrt(abs(np.linalg.det(self.m[:, :2]))))


def turned(out, into, *, angle=0.0, scale=1.0, shift=(0.0, 0.0), mirrored=False):
    """A similarity that brings the middle of a grid (ny, nx) to the middle of an image, plus a shift."""
    c, s = scale * np.cos(np.deg2rad(angle)), scale * np.sin(np.deg2rad(angle))
    m = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    here, there = (np.array([n[1] - 1, n[0] - 1]) / 2 for n in (out, into))
    return Known(np.column_stack([m, there + np.array(shift) - m @ here]))


@dataclass(frozen=True)
class Stars:
    """Stars by their places on a grid, some of them beyond its border."""

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray

    def light(self, known, shape, fwhm):
        """Their light, without noise, on an image that a map leads to."""
        image = np.zeros(shape)
        mixture = skies.gaussian(fwhm)
        for x, y, flux in zip(*known(self.x, self.y), self.flux, strict=True):
            skies.add(image, x, y, flux, mixture, 2 * int(3 * fwhm) + 1)
        return image

    def plus(self, x, y, flux):
        """The same with one more."""
        return Stars(np.append(self.x, x), np.append(self.y, y), np.append(self.flux, flux))


IDENTITY = Known(np.eye(2, 3))


def stars(seed, n, shape, *, beyond=130.0, flux=(3e3, 2e5)):
    """Stars at random places of a grid and around it."""
    rng = np.random.default_rng(seed)
    x, y = (rng.uniform(-beyond, side + beyond, n) for side in shape[::-1])
    return Stars(x, y, np.exp(rng.uniform(*np.log(flux), n)))


def noisy(light, seed, sky=SKY):
    """One exposure, float32: Poisson noise of sky and light, and read noise."""
    rng = np.random.default_rng(seed)
    electrons = rng.poisson((light + sky) * GAIN) + rng.normal(0, READ, light.shape)
    return (electrons / GAIN).astype(np.float32)


def wcs(known=IDENTITY, centre=(200.0, 200.0), error=(0.0, 0.0)):
    """TAN of an image that shows the grid's sky under a map; wrong by ``error`` px where asked."""
    cd = np.array([[-1.0, 0.03], [0.03, 1.0]]) / 3600
    made = WCS(naxis=2)
    made.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    made.wcs.crval = [150.0, 2.0]
    made.wcs.crpix = np.ravel(known(*centre)) + 1 + np.array(error)
    made.wcs.cd = cd @ np.linalg.inv(known.m[:, :2])
    made.wcs.set()
    return made


def image(data, name="image", **more):
    """An `Image` of zogyp of pixels alone."""
    return Image(data, np.zeros(data.shape, np.uint16), gain=GAIN, read_noise=READ, name=name, **more)


def save(path, data, coordinates=None):
    """A FITS file by astropy."""
    header = fits.Header() if coordinates is None else coordinates.to_header()
    header["GAIN"], header["RDNOISE"] = GAIN, READ
    fits.writeto(path, data, header)
    return path
