"""Transients: the peaks of S_corr beyond a threshold, as a table.

A peak is a local maximum of S_corr or of -S_corr, and snr its height between the pixels. Its place
is that of a Gaussian drawn through the 3 x 3 pixels around the flux's own peak; flux and its error are
the planes' values there. Words
in the column ``flags`` tell what makes a peak doubtful; nothing is removed because of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zogyp.core.peaks import extrema
from zogyp.image import Flag, FloatImage, MaskImage
from zogyp.options import TransientOptions

Floats = NDArray[np.float64]

FAINTEST_PARTNER = 3.5  # sigma: noise rarely makes such a peak of its own within the reach of another
SHAPE_ERROR = 0.04  # of that mean over the height: what stars that vary in shape show
SHAPE_NOISE = 0.5  # sigma of S_corr's mean over a ring of half the peak's height

COLUMNS: tuple[tuple[str, str, str | None, str], ...] = (
    ("id", "i8", None, "number, brightest significance first"),
    ("x", "f8", "pix", "column of the peak, 0-based, pixel centres on integers"),
    ("y", "f8", "pix", "row of the peak, 0-based, pixel centres on integers"),
    ("ra", "f8", "deg", "right ascension, ICRS"),
    ("dec", "f8", "deg", "declination, ICRS"),
    ("snr", "f8", None, "peak of S_corr in sigma, negative where the source faded"),
    ("flux", "f8", None, "PSF flux, in the unit of the new image"),
    ("flux_err", "f8", None, "standard deviation of flux"),
    ("mag", "f8", "mag", "magnitude of |flux|"),
    ("mag_err", "f8", "mag", "standard deviation of mag"),
    ("sign", "i8", None, "+1: brighter in the new image; -1: brighter in the reference"),
    ("flags", "U160", None, "what makes it doubtful, words joined by commas"),
    ("partner", "f8", None, "height of the highest opposite peak within 2 FWHM, in units of this one's"),
    ("shape", "f8", None, "how much wider than a star it is, in sigma; negative: sharper"),
)


def find(
    scorr: FloatImage,
    alpha: FloatImage,
    alpha_err: FloatImage,
    mask: MaskImage,
    options: TransientOptions,
    *,
    fwhm: float,
    wcs: Any = None,
    zero_point: float | None = None,
) -> Table:
    """Find the peaks beyond ``options.threshold``.

    Parameters
    ----------
    scorr : (ny, nx) significance [sigma]; NaN where it cannot be judged.
    alpha, alpha_err : (ny, nx) PSF flux and its standard deviation [unit of the new image].
    mask : (ny, nx) bits of `Flag`, the new image's in the low byte, the reference's shifted by eight.
    fwhm : full width at half maximum of the difference's PSF [px].
    wcs : celestial coordinates of the pixels; without them ra and dec are NaN.
    zero_point : magnitude of flux 1; without it mag and mag_err are NaN.

    Returns
    -------
    Table : the columns of `COLUMNS`, by falling \\|snr\\|. Flags are edge, near_saturated, near_bad,
        dipole (a peak of opposite sign, half as high or more, within 2 fwhm), sharp (narrower
        than a star: a cosmic ray or a bad pixel), extended (wider than a star).
    """
    peaks = _peaks(scorr, min(options.threshold, FAINTEST_PARTNER), fwhm)
    n = int(np.count_nonzero(np.abs(peaks.snr) >= options.threshold))
    placed = _placed(peaks.take(slice(n)), alpha)
    alone = _alone(placed, fwhm)  # two peaks of S_corr may share one of the flux
    order = np.concatenate([np.flatnonzero(alone), np.arange(n, len(peaks.snr))])
    peaks, placed, n = peaks.take(order), placed.take(alone), int(alone.sum())
    ring = _ring(alpha, placed, fwhm)
    words = _flags(mask, peaks, n, fwhm, ring)
    partner = _partners(peaks, 2 * fwhm)[:n]
    ratio, expected, noise = ring
    shape = np.nan_to_num((ratio - expected) / np.hypot(noise, SHAPE_ERROR))
    peaks = placed
    flux, error = peaks.value(alpha), peaks.value(alpha_err)
    ra, dec = _sky(wcs, peaks.x, peaks.y)
    mag, mag_err = _magnitude(flux, error, zero_point)
    number, sign = np.arange(1, n + 1), np.sign(peaks.snr)
    values = (
        *(number, peaks.x, peaks.y, ra, dec, peaks.snr, flux, error, mag, mag_err, sign, words),
        *(partner, shape),
    )
    table = Table()
    for (name, dtype, unit, description), value in zip(COLUMNS, values, strict=True):
        table[name] = np.asarray(value, dtype=dtype)
        table[name].unit = unit
        table[name].description = description
    return table


@dataclass(frozen=True)
class _Peaks:
    """Extrema of S_corr: their pixels, their places between pixels, their signed heights; all (n,)."""

    row: NDArray[np.intp]
    column: NDArray[np.intp]
    dx: Floats
    dy: Floats
    snr: Floats

    @property
    def x(self) -> Floats:
        """Column of the peak [px]."""
        return self.column + self.dx

    @property
    def y(self) -> Floats:
        """Row of the peak [px]."""
        return self.row + self.dy

    def take(self, which: Any) -> _Peaks:
        """Some of the peaks, by index, mask or slice."""
        return _Peaks(*(v[which] for v in (self.row, self.column, self.dx, self.dy, self.snr)))

    def value(self, plane: FloatImage) -> Floats:
        """Value of a plane at the peaks."""
        return value_beside(plane, self.row, self.column, self.dx, self.dy)

    def pairs(self, radius: float) -> NDArray[np.intp]:
        """Indices (i, j), i < j, of peaks closer than ``radius``, (m, 2)."""
        if len(self.snr) == 0:
            return np.empty((0, 2), dtype=np.intp)
        tree = cKDTree(np.stack([self.x, self.y], axis=1))
        found: NDArray[np.intp] = tree.query_pairs(radius, output_type="ndarray")
        return found


def peak_heights(scorr: FloatImage, threshold: float, fwhm: float) -> tuple[Floats, Floats, Floats]:
    """Places (x, y) and heights of all peaks of either sign beyond a threshold, as `find` sees them."""
    peaks = _peaks(scorr, threshold, fwhm)
    high = peaks.take(np.abs(peaks.snr) >= threshold)
    return high.x, high.y, high.snr


def _peaks(scorr: FloatImage, threshold: float, fwhm: float) -> _Peaks:
    """Peaks of either sign by falling height; of those of one sign closer than ``fwhm`` the highest."""
    # between pixels a peak is higher than at them, by up to about a tenth when well sampled
    row, column = extrema(scorr, 0.85 * threshold)
    sign = np.where(scorr[row, column] < 0, -1, 1)
    dx, dy = _offsets(sign[:, None, None] * _around(scorr, row, column, 1))
    peaks = _Peaks(row, column, dx, dy, value_beside(scorr, row, column, dx, dy))
    peaks = peaks.take(np.argsort(-np.abs(peaks.snr), kind="stable"))
    return peaks.take(_alone(peaks, fwhm))


def _alone(peaks: _Peaks, radius: float) -> NDArray[np.bool_]:
    """Peaks, by falling height, that have no higher one of their sign within a radius."""
    pairs = peaks.pairs(radius)
    alone = np.ones(len(peaks.snr), dtype=bool)
    alike = pairs[np.prod(peaks.snr[pairs], axis=1) > 0]
    if alike.size:
        alone[alike.max(axis=1)] = False
    return alone


def _placed(peaks: _Peaks, alpha: FloatImage) -> _Peaks:
    """The peaks, moved to where the flux has its peak, one pixel away at most.

    The noise of S_corr knows of the source's own photons and of stars beside it, so its peak is flat
    and leans away from them; the filtered flux is not divided by any noise.
    """
    sign = np.where(peaks.snr < 0, -1, 1)[:, None, None]
    near = sign * _around(alpha, peaks.row, peaks.column, 1)
    best = np.where(np.isfinite(near), near, -np.inf).reshape(-1, 9).argmax(axis=1)
    row, column = peaks.row + best // 3 - 1, peaks.column + best % 3 - 1
    dx, dy = _offsets(sign * _around(alpha, row, column, 1))
    return _Peaks(row, column, dx, dy, peaks.snr)


def _around(plane: FloatImage, row: NDArray[np.intp], column: NDArray[np.intp], r: int) -> Floats:
    """Values around pixels, (n, 2 r + 1, 2 r + 1); NaN outside of the plane."""
    ny, nx = plane.shape
    step = np.arange(-r, r + 1)
    rows = row[:, None, None] + step[None, :, None]
    columns = column[:, None, None] + step[None, None, :]
    inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    values = plane[rows.clip(0, ny - 1), columns.clip(0, nx - 1)].astype(np.float64)
    return np.where(inside, values, np.nan)


def _offsets(near: Floats) -> tuple[Floats, Floats]:
    """Offset (dx, dy) of each maximum from the middle of its 3 x 3 pixels, (n, 3, 3).

    A quadratic is fitted to the logarithm, which is exact for a Gaussian. Where a neighbour is
    missing, or there is no maximum, the offset is 0.
    """
    middle = near[:, 1:2, 1:2]
    z = np.log(np.maximum(near / middle, 0.05))
    step = np.array([-1.0, 0.0, 1.0])
    rows, columns = z.sum(axis=2), z.sum(axis=1)
    fx, fy = columns @ step / 6, rows @ step / 6  # least squares over the nine points
    fxx, fyy = (v @ np.array([1.0, -2.0, 1.0]) / 3 for v in (columns, rows))
    fxy = np.einsum("nij,i,j->n", z, step, step) / 4
    det = fxx * fyy - fxy**2
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (det > 0) & (fxx < 0)
        dx = np.where(good, (fxy * fy - fyy * fx) / det, 0.0)
        dy = np.where(good, (fxy * fx - fxx * fy) / det, 0.0)
    return dx.clip(-0.7, 0.7), dy.clip(-0.7, 0.7)


def value_beside(
    plane: FloatImage, row: NDArray[np.intp], column: NDArray[np.intp], dx: Floats, dy: Floats
) -> Floats:
    """Value of a plane beside pixels, by a polynomial through 5 x 5 of them; at them where one is NaN."""
    near = _around(plane, row, column, 2)
    interpolated = np.einsum("nij,ni,nj->n", near, _lagrange(dy), _lagrange(dx))
    return np.where(np.isfinite(interpolated), interpolated, near[:, 2, 2])


def _lagrange(t: Floats) -> Floats:
    """Weights of points -2..2 for the value at ``t``, (n, 5)."""
    points = np.arange(-2, 3)
    weights = [np.prod([(t - q) / (p - q) for q in points if q != p], axis=0) for p in points]
    return np.stack(weights, axis=-1)


def _flags(
    mask: MaskImage, peaks: _Peaks, n: int, fwhm: float, shape: tuple[Floats, float, Floats]
) -> list[str]:
    """Words for the first n peaks, with the `_ring` of each; the others may be their partners in dipoles."""
    x, y = peaks.x[:n], peaks.y[:n]
    ny, nx = mask.shape
    inside = (x >= 0.5) & (y >= 0.5) & (x <= nx - 1.5) & (y <= ny - 1.5)
    wide, close = bits_within(mask, x, y, 2 * fwhm), bits_within(mask, x, y, fwhm)
    here = bits_within(mask, x, y, 0.5)
    bad = both_images(Flag.BAD | Flag.NO_DATA | Flag.COSMIC_RAY)
    ratio, expected, noise = shape
    with np.errstate(invalid="ignore"):
        conditions = {
            "edge": ((here & both_images(Flag.EDGE)) != 0) | ~inside,
            "near_saturated": (wide & both_images(Flag.SATURATED)) != 0,
            "near_bad": ((close & bad) != 0) | ((here & both_images(Flag.REACHED)) != 0),
            "dipole": _dipoles(peaks, 2 * fwhm)[:n],
            "sharp": ratio < expected - np.maximum(3 * noise, 0.12),
            "extended": ratio > expected + np.maximum(3 * noise, 0.15),
        }
    return [",".join(word for word, true in conditions.items() if true[i]) for i in range(n)]


def both_images(flag: Flag) -> np.uint16:
    """Bits of a flag for the new image and the reference."""
    return np.uint16(int(flag) | flag.ref())


def bits_within(mask: MaskImage, x: Floats, y: Floats, radius: float) -> MaskImage:
    """All bits that are set within ``radius`` of each place, (n,)."""
    ny, nx = mask.shape
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    r = int(radius)
    found = np.zeros(len(x), dtype=np.uint16)
    for i in range(-r, r + 1):
        for j in range(-r, r + 1):
            if i * i + j * j <= radius * radius:
                found |= mask[(row + i).clip(0, ny - 1), (column + j).clip(0, nx - 1)]
    return found


def _dipoles(peaks: _Peaks, radius: float) -> NDArray[np.bool_]:
    """True where a peak of opposite sign and at least half the height lies within ``radius``."""
    pairs = peaks.pairs(radius)
    snr = peaks.snr[pairs]
    height = np.abs(snr)
    low, high = height.min(axis=1, initial=np.inf), height.max(axis=1, initial=0)
    comparable = (snr.prod(axis=1) < 0) & (low >= FAINTEST_PARTNER) & (2 * low >= high)
    dipole = np.zeros(len(peaks.snr), dtype=bool)
    dipole[pairs[comparable].ravel()] = True
    return dipole


def _partners(peaks: _Peaks, radius: float) -> Floats:
    """Height of the highest peak of opposite sign within ``radius``, over the peak's own; 0 without one."""
    pairs = peaks.pairs(radius)
    height = np.abs(peaks.snr)
    opposite = pairs[peaks.snr[pairs].prod(axis=1) < 0]
    found = np.zeros(len(height))
    for i, j in (opposite.T, opposite.T[::-1]):
        np.maximum.at(found, i, height[j] / height[i])
    return found


def _ring(alpha: FloatImage, peaks: _Peaks, fwhm: float) -> tuple[Floats, float, Floats]:
    """Mean of the flux on a ring over its peak; what a star gives; and the noise of the ratio.

    Not of S_corr, whose noise counts the source's own photons: a bright star is flat in it.

    A star in S is its PSF correlated with itself: of sqrt(2) the width for a Gaussian, so that
    a ring of radius fwhm / sqrt(2) has half the height of the peak. A single bright pixel gives
    the PSF alone, and a quarter.
    """
    ny, nx = alpha.shape
    radius = max(fwhm / np.sqrt(2), 1.0)
    expected = float(np.exp2(-2 * (radius / fwhm) ** 2))
    total = np.zeros(len(peaks.snr))
    for angle in np.arange(8) * np.pi / 4:
        px, py = peaks.x + radius * np.cos(angle), peaks.y + radius * np.sin(angle)
        column, row = np.floor(px).astype(int), np.floor(py).astype(int)
        for i, wy in ((0, row + 1 - py), (1, py - row)):
            for j, wx in ((0, column + 1 - px), (1, px - column)):
                total += wy * wx * alpha[(row + i).clip(0, ny - 1), (column + j).clip(0, nx - 1)]
    return total / 8 / peaks.value(alpha), expected, SHAPE_NOISE / np.abs(peaks.snr)


def _sky(wcs: Any, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Right ascension and declination [deg, ICRS] of pixels; NaN without celestial coordinates."""
    if wcs is None or not wcs.has_celestial or len(x) == 0:
        return np.full(len(x), np.nan), np.full(len(x), np.nan)
    place = wcs.celestial.pixel_to_world(x, y).icrs
    return np.asarray(place.ra.deg), np.asarray(place.dec.deg)


def _magnitude(flux: Floats, error: Floats, zero_point: float | None) -> tuple[Floats, Floats]:
    """Magnitude of |flux| and its error; NaN without zero point or flux."""
    size = np.where(flux == 0, np.nan, np.abs(flux))
    if zero_point is None:
        size = np.full(len(flux), np.nan)
    return (zero_point or 0.0) - 2.5 * np.log10(size), 2.5 / np.log(10) * error / size
