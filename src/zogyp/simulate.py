"""Skies of known truth, for tests, the demo, the documentation and benchmarks.

Stars and transients are elliptical Moffat profiles integrated over the pixels; galaxies are
exponential discs, each laid out as knots of light that the local PSF spreads, so that they
are convolved exactly. The two images share one pixel grid and one tangential WCS, unless the reference
is shifted or turned.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp.image import Flag, FloatImage, Image
from zogyp.sky import Side, Sky

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Side", "SimulatedPair", "Sky", "psf_stamp", "simulate", "write_pair"]

BAND = 256  # rows rendered at a time, each band with its own random numbers
KNOTS = 40  # points of light of a galaxy
STAMP = 8.0  # side of a PSF stamp [FWHM]
CENTRE = (150.0, 2.0)  # right ascension and declination of the field [deg]


@dataclass(frozen=True)
class SimulatedPair:
    """Two images of one sky and the truth about it.

    Attributes
    ----------
    new, ref : the images, float32 (ny, nx), on one grid but for the sky's ``shift`` and ``rotation``.
    truth : table of id, kind (star, galaxy, transient), x, y [px, 0-based, in the new image],
        ra, dec [deg], flux_new, flux_ref [ADU of each image], flux (what a subtraction should
        find: flux_new - flux_ref / flux ratio [ADU of the new image]), snr (the S/N that the
        equations of proper subtraction give a transient when everything is known exactly),
        size (half-light radius of a galaxy [px]), ratio and angle (its b/a and direction [deg]).
    sky, seed : what it was made from.
    """

    new: Image
    ref: Image
    truth: Table
    sky: Sky
    seed: int

    @property
    def transients(self) -> Table:
        """The transients' rows of the truth."""
        return self.truth[self.truth["kind"] == "transient"]

    def psf_new(self, x: float, y: float, size: int | None = None) -> NDArray[np.float64]:
        """The new image's PSF at (x, y): odd (size, size), unit sum."""
        return psf_stamp(self.sky.new, self.sky.shape, (x, y), size)

    def psf_ref(self, x: float, y: float, size: int | None = None) -> NDArray[np.float64]:
        """The reference's PSF at (x, y): odd (size, size), unit sum."""
        return psf_stamp(self.sky.ref, self.sky.shape, (x, y), size)


def simulate(sky: Sky | None = None, seed: int = 1) -> SimulatedPair:
    """Make a new image and a reference of one sky, with noise, from a seed.

    The same sky and seed give the same pixels, whatever the number of threads.
    """
    sky = sky or Sky()
    catalogue, new_noise, ref_noise, shifts = np.random.SeedSequence(seed).spawn(4)
    truth = _catalogue(sky, np.random.default_rng(catalogue))
    wcs = _tangential_wcs(sky)
    truth["ra"], truth["dec"] = wcs.wcs_pix2world(truth["x"], truth["y"], 0)
    shift = np.random.default_rng(shifts).normal(0, sky.jitter, (2, len(truth)))
    x, y = np.array(truth["x"]), np.array(truth["y"])
    new = _render(sky.new, sky.shape, _spread(truth, x, y, "flux_new"))
    points = _spread(truth, x + shift[0], y + shift[1], "flux_ref")
    ref = _render(sky.ref, sky.shape, points)
    _set_snr(truth, sky, new, ref)
    if sky.moved:
        ref = _render(sky.ref, sky.shape, (*sky.on_ref(*points[:2]), points[2]))
    _add_sky_and_noise(new, sky.new, new_noise)
    _add_sky_and_noise(ref, sky.ref, ref_noise)
    images = _image(new, sky.new, wcs, "new"), _image(ref, sky.ref, _tangential_wcs(sky, ref=True), "ref")
    return SimulatedPair(*images, truth, sky, seed)


def write_pair(pair: SimulatedPair, directory: str | Path) -> dict[str, Path]:
    """Write new.fits, ref.fits and truth.ecsv into a folder; returns their paths.

    Raises
    ------
    OutputError
        When the folder cannot be written to.
    """
    from zogyp.io import make_folder, write_image, write_text

    folder = Path(directory)
    paths = {"new": folder / "new.fits", "ref": folder / "ref.fits", "truth": folder / "truth.ecsv"}
    make_folder(folder)
    for image, path in ((pair.new, paths["new"]), (pair.ref, paths["ref"])):
        write_image(path, image.data, image.header, image.wcs)
    text = StringIO()
    pair.truth.write(text, format="ascii.ecsv")
    write_text(paths["truth"], text.getvalue())
    return paths


def psf_stamp(
    side: Side,
    shape: tuple[int, int],
    position: tuple[float, float],
    size: int | None = None,
    offset: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """The PSF of one side at a position (x, y) of its image: odd (size, size), unit sum.

    Its centre lies ``offset`` (x, y) beside the middle pixel.
    """
    from zogyp.core.moffat import add_stars

    n = size or 2 * int(np.ceil(STAMP / 2 * side.fwhm)) + 1
    stars = _stars(side, shape, (np.array([position[0]]), np.array([position[1]]), np.ones(1)))
    stars[0, :2] = n // 2 + offset[0], n // 2 + offset[1]
    stars[0, 7] = 2 * n  # to the corners
    stamp = np.zeros((n, n), dtype=np.float32)
    add_stars(stamp, 0, stars)
    psf = stamp.astype(np.float64)
    psf /= psf.sum()
    return psf


def _catalogue(sky: Sky, rng: np.random.Generator) -> Table:
    """All sources of the sky, without coordinates and S/N."""
    from astropy.table import Table

    counts = {"star": sky.n_stars, "galaxy": sky.n_galaxies, "transient": sky.n_transients}
    n = sum(counts.values())
    first = sky.n_stars + sky.n_galaxies
    ny, nx = sky.shape
    x, y = rng.uniform(-0.5, nx - 0.5, n), rng.uniform(-0.5, ny - 0.5, n)
    size = np.zeros(n)
    size[sky.n_stars : first] = rng.uniform(1.5, 5, sky.n_galaxies)
    x[first:], y[first:] = _transient_positions(sky, rng, (x, y, size))
    flux = rng.uniform(0, 1, n)
    flux[:first] = _power_law(flux[:first], sky.flux_min, sky.flux_max, sky.flux_slope)
    flux[sky.n_stars : first] = np.minimum(10 * flux[sky.n_stars : first], sky.flux_max / 10)
    flux[first:] = sky.transient_min * (sky.transient_max / sky.transient_min) ** flux[first:]
    new, ref = flux.copy(), sky.flux_ratio * flux
    new[first + 1 :: 2] = 0  # every other transient is a source that went away
    ref[first::2] = 0
    ref[first + 1 :: 2] = sky.flux_ratio * flux[first + 1 :: 2]
    columns: dict[str, Any] = {
        "id": np.arange(1, n + 1),
        "kind": np.repeat(list(counts), list(counts.values())),
        "x": x,
        "y": y,
        "ra": np.zeros(n),
        "dec": np.zeros(n),
        "flux": new - ref / sky.flux_ratio,
        "flux_new": new,
        "flux_ref": ref,
        "snr": np.full(n, np.nan),
        "size": size,
        "ratio": rng.uniform(0.3, 1, n),
        "angle": rng.uniform(0, 180, n),
    }
    columns["flux"][:first] = 0
    units = dict.fromkeys(("flux", "flux_new", "flux_ref"), "adu")
    units |= {"x": "pix", "y": "pix", "ra": "deg", "dec": "deg", "size": "pix", "angle": "deg"}
    return Table(columns, units=units)


def _power_law(u: NDArray[np.float64], low: float, high: float, slope: float) -> NDArray[np.float64]:
    """Fluxes in [low, high] whose number above f goes as f^-slope, from uniform numbers."""
    a, b = low**-slope, high**-slope
    flux: NDArray[np.float64] = (a - u * (a - b)) ** (-1 / slope)
    return flux


def _transient_positions(
    sky: Sky, rng: np.random.Generator, sources: tuple[NDArray[np.float64], ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (x, y) of the transients, some in galaxies, apart from each other and the border."""
    ny, nx = sky.shape
    x, y, size = sources
    hosts = np.flatnonzero(size)
    apart = 6 * max(sky.new.fwhm, sky.ref.fwhm)
    margin = min(apart, min(ny, nx) / 4)
    low, high = np.array([margin, margin]), np.array([nx - 1 - margin, ny - 1 - margin])
    placed = np.zeros((sky.n_transients, 2))
    for i in range(sky.n_transients):
        for _ in range(100):  # a crowded sky takes the last try
            place = rng.uniform(low, high)
            if i < round(sky.hosted * sky.n_transients) and hosts.size:
                host = rng.choice(hosts)
                place = np.array([x[host], y[host]]) + rng.normal(0, size[host] / 2, 2)
            inside = np.all((place >= low) & (place <= high))
            if inside and np.all(np.hypot(*(placed[:i] - place).T) > apart):
                break
        placed[i] = np.clip(place, low, high)
    rng.shuffle(placed)
    return placed[:, 0], placed[:, 1]


def _tangential_wcs(sky: Sky, *, ref: bool = False) -> Any:
    """Coordinates of the new image's pixels, or the reference's."""
    from astropy.wcs import WCS

    ny, nx = sky.shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [(nx + 1) / 2, (ny + 1) / 2]
    wcs.wcs.crval = CENTRE
    wcs.wcs.cdelt = [-sky.pixel_scale / 3600, sky.pixel_scale / 3600]
    wcs.wcs.cunit = ["deg", "deg"]
    if ref and sky.moved:
        wcs.wcs.crpix = [float(p) + 1 for p in sky.on_ref(np.array((nx - 1) / 2), np.array((ny - 1) / 2))]
        c, s = np.cos(np.deg2rad(sky.rotation)), np.sin(np.deg2rad(sky.rotation))
        wcs.wcs.pc = [[c, s], [-s, c]]
    wcs.array_shape = sky.shape
    wcs.wcs.set()
    return wcs


def _spread(
    truth: Table, x: NDArray[np.float64], y: NDArray[np.float64], column: str
) -> tuple[NDArray[np.float64], ...]:
    """Points of light (x, y, flux): stars as they are, galaxies as knots of an exponential disc."""
    from scipy.special import gammaincinv

    flux = np.array(truth[column])
    galaxy = np.array(truth["kind"]) == "galaxy"
    fraction = (np.arange(KNOTS) + 0.5) / KNOTS
    scale = np.array(truth["size"])[galaxy, None] / gammaincinv(2, 0.5)  # half of the light within size
    radius = scale * gammaincinv(2, fraction)
    turn = np.arange(KNOTS) * np.pi * (3 - np.sqrt(5))
    u, v = radius * np.cos(turn), radius * np.sin(turn) * np.array(truth["ratio"])[galaxy, None]
    angle = np.deg2rad(np.array(truth["angle"]))[galaxy, None]
    gx = x[galaxy, None] + u * np.cos(angle) - v * np.sin(angle)
    gy = y[galaxy, None] + u * np.sin(angle) + v * np.cos(angle)
    gf = np.repeat(flux[galaxy] / KNOTS, KNOTS)
    lit = ~galaxy & (flux > 0)
    return tuple(np.concatenate([a[lit], b.ravel()]) for a, b in ((x, gx), (y, gy), (flux, gf)))


def _stars(
    side: Side, shape: tuple[int, int], points: tuple[NDArray[np.float64], ...]
) -> NDArray[np.float64]:
    """Points of light (x, y, flux) with the PSF of their place, as `core.moffat` wants them."""
    from zogyp.core.moffat import star_rows

    x, y, flux = points
    u, v = 2 * x / (shape[1] - 1) - 1, 2 * y / (shape[0] - 1) - 1
    fwhm = side.fwhm * (1 + side.variation * (u + v**2) / 2)
    ellipticity = np.clip(side.ellipticity * (1 + side.variation * v), 0, 0.9)
    faint = max(0.02 * _sigma(side), 1e-6)  # beneath the noise of any sum over a star's wing
    return star_rows((x, y), flux, fwhm, side.beta, (ellipticity, side.angle), faint)


def _sigma(side: Side) -> float:
    """Noise of the empty sky [ADU]."""
    return float(np.hypot(np.sqrt(side.sky / side.gain), side.read_noise / side.gain))


def _render(side: Side, shape: tuple[int, int], points: tuple[NDArray[np.float64], ...]) -> FloatImage:
    """The sources as the detector would see them without sky and noise, (ny, nx) [ADU]."""
    from zogyp.core.moffat import add_stars

    image = np.zeros(shape, dtype=np.float32)
    stars = _stars(side, shape, points)
    low, high = stars[:, 1] - stars[:, 7], stars[:, 1] + stars[:, 7]

    def band(rows: slice) -> None:
        add_stars(image[rows], rows.start, stars[(high >= rows.start) & (low < rows.stop)])

    with ThreadPoolExecutor() as pool:
        list(pool.map(band, _bands(shape[0])))
    return image


def _bands(ny: int) -> Iterator[slice]:
    return (slice(first, min(first + BAND, ny)) for first in range(0, ny, BAND))


def _add_sky_and_noise(image: FloatImage, side: Side, seed: np.random.SeedSequence) -> None:
    """Turn a noiseless image into an exposure, in place; a band's noise depends on the seed alone."""

    def band(job: tuple[slice, np.random.SeedSequence]) -> None:
        rows, band_seed = job
        rng = np.random.default_rng(band_seed)
        electrons = rng.poisson((image[rows].astype(np.float64) + side.sky) * side.gain).astype(np.float64)
        electrons += rng.normal(0, side.read_noise, electrons.shape)
        image[rows] = np.minimum(electrons / side.gain, side.saturation)

    rows = list(_bands(image.shape[0]))
    with ThreadPoolExecutor() as pool:
        list(pool.map(band, zip(rows, seed.spawn(len(rows)), strict=True)))


def _set_snr(truth: Table, sky: Sky, new: FloatImage, ref: FloatImage) -> None:
    """The S/N that exact knowledge gives each transient: S / sqrt(V) of proper subtraction.

    With the true PSFs, S = f F_S at the transient and V = V_n * k_n² + V_r * k_r² there,
    F_S = mean of F_r² |P_n|² |P_r|² / Delta (F_n = 1) over the frequencies of a stamp.
    """
    half = int(np.ceil(STAMP / 2 * max(sky.new.fwhm, sky.ref.fwhm)))
    f_r, s_n, s_r = sky.flux_ratio, _sigma(sky.new), _sigma(sky.ref)
    if min(s_n, s_r) == 0:
        return  # without noise there is no S/N
    for i in np.flatnonzero(np.array(truth["kind"]) == "transient"):
        x, y = float(truth["x"][i]), float(truth["y"][i])
        p_n, p_r = (
            np.fft.fft2(np.fft.ifftshift(psf_stamp(side, sky.shape, (x, y), 2 * half + 1)))
            for side in (sky.new, sky.ref)
        )
        delta = (s_n * f_r * np.abs(p_r)) ** 2 + (s_r * np.abs(p_n)) ** 2
        score = np.mean((f_r * np.abs(p_n) * np.abs(p_r)) ** 2 / delta)
        variance = 0.0
        for image, side, kernel in (
            (new, sky.new, f_r**2 * np.conj(p_n) * np.abs(p_r) ** 2 / delta),
            (ref, sky.ref, f_r * np.conj(p_r) * np.abs(p_n) ** 2 / delta),
        ):
            k = np.fft.fftshift(np.fft.ifft2(kernel).real)[::-1, ::-1]
            pixels = _cutout(image, x, y, half) / side.gain + _sigma(side) ** 2
            variance += float(np.sum(k**2 * pixels))
        truth["snr"][i] = truth["flux"][i] * score / np.sqrt(variance)


def _cutout(image: FloatImage, x: float, y: float, half: int) -> NDArray[np.float64]:
    """Pixels around a position, (2 half + 1)², the border repeated outside of the image."""
    rows = np.clip(np.arange(-half, half + 1) + round(y), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(-half, half + 1) + round(x), 0, image.shape[1] - 1)
    return image[np.ix_(rows, columns)].astype(np.float64)


def _image(data: FloatImage, side: Side, wcs: Any, name: str) -> Image:
    """Pixels with what a header would say of them."""
    header = wcs.to_header()
    header["GAIN"] = (side.gain, "[e-/ADU]")
    header["RDNOISE"] = (side.read_noise, "[e-]")
    header["SATURATE"] = (side.saturation, "[ADU]")
    header["MAGZERO"] = (side.zero_point, "[mag] of 1 ADU")
    header["OBJECT"] = "simulated sky"
    return Image(
        data=data,
        mask=np.where(data >= side.saturation, np.uint16(Flag.SATURATED), np.uint16(0)),
        wcs=wcs,
        header=header,
        gain=side.gain,
        read_noise=side.read_noise,
        saturation=side.saturation,
        zero_point=side.zero_point,
        name=name,
    )
